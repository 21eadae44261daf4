"""One node of an ONNX file, and the error that names it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import onnx
from onnx import helper

DOMAINS = ("", "ai.onnx")


class UnsupportedNodeError(ValueError):
    """The network has a node that the accelerator has no counterpart for.

    Parameters
    ----------
    node : OnnxNode
    reason : str
    """

    def __init__(self, node: OnnxNode, *, reason: str):
        super().__init__(
            f"operator {node.operator} (node {node.name!r}, output {node.outputs[0]!r}) is not "
            f"supported: {reason}"
        )
        self.node = node.name
        self.operator = node.operator


@dataclass(frozen=True)
class OnnxNode:
    """One node.

    Parameters
    ----------
    name : str
        Unique; the name of its first output where the file has none.
    proto : onnx.NodeProto
    """

    name: str
    proto: onnx.NodeProto

    @property
    def operator(self) -> str:
        """The operator's type, with its domain where that is not ONNX's own."""
        domain = self.proto.domain
        return self.proto.op_type if domain in DOMAINS else f"{domain}.{self.proto.op_type}"

    @property
    def inputs(self) -> Sequence[str]:
        """Names of the values that it reads; empty ones are left out."""
        return self.proto.input

    @property
    def outputs(self) -> Sequence[str]:
        """Names of its results."""
        return self.proto.output

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """Values by name, without defaults."""
        values = {each.name: helper.get_attribute_value(each) for each in self.proto.attribute}
        return {
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in values.items()
        }
