"""A part of a network that runs on the host, in float32 PyTorch."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Interpreter, Node
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from coprune.compiler.exported import name_of, operation_of, source_of


@dataclass(frozen=True)
class HostOperator:
    """What an operator on the host computes for one image.

    Parameters
    ----------
    name, op : str
        As those of layers: the operator's name in the user's network, and what it is.
    source : str
        File, line and text of the user's source; empty where the exported graph does not say.
    macs : int
        Multiply-accumulates of convolutions and matrix products.
    elements : int
        Numbers in its result.
    """

    name: str
    op: str
    source: str
    macs: int
    elements: int


@dataclass(frozen=True, eq=False)
class HostStage:
    """A part of a network with one tensor in and one out, for the host.

    Parameters
    ----------
    exported : ExportedProgram
        On the CPU, with one float32 input and one output, both with the batch as first axis.
    """

    exported: ExportedProgram

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image's input."""
        return tuple(map(int, self._input.shape[1:]))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`input_shape` as channels, height, width; missing axes have size 1."""
        channels, *size = self.input_shape
        return (channels, *[1] * (2 - len(size)), *size)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one image's output."""
        return tuple(map(int, self._output.shape[1:]))

    @property
    def output_dtype(self) -> torch.dtype:
        """Of the numbers that it gives, int64 after an argmax."""
        return self._output.dtype

    @property
    def input_bytes(self) -> int:
        """Bytes of one image's input as float32."""
        return math.prod(self.input_shape) * self._input.itemsize

    @property
    def output_bytes(self) -> int:
        """Bytes of one image's output in its own dtype."""
        return math.prod(self.output_shape) * self._output.itemsize

    @cached_property
    def operators(self) -> tuple[HostOperator, ...]:
        """What it computes for one image, in execution order."""
        batch = self._batch or 1
        image = torch.zeros(batch, *self.input_shape)
        meter = _Meter(self.exported.graph_module, batch=batch)
        # Attention counts as the two products that it consists of.
        with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
            meter.run(*self._parameters, image)
        return tuple(meter.operators)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return sum(each.macs for each in self.operators)

    def run(self, x: torch.Tensor | np.ndarray) -> torch.Tensor:
        """Compute the outputs of a batch.

        A network that was exported for batches of one size is run in batches of that size.

        Parameters
        ----------
        x : float32 [N, ...]
            As many numbers for an image as `input_shape` has.

        Returns
        -------
        tensor [N, *output_shape]
        """
        images = torch.as_tensor(x).reshape(len(x), *self.input_shape)
        with torch.inference_mode():
            if self._batch is None:
                return self._call(images)
            outputs = []
            for part in images.split(self._batch):
                rest = part.new_zeros(self._batch - len(part), *self.input_shape)
                outputs.append(self._call(torch.cat([part, rest]))[: len(part)])
            return torch.cat(outputs)

    def _call(self, images: torch.Tensor) -> torch.Tensor:
        (output,) = self.exported.graph_module(*self._parameters, images)
        return output

    @property
    def _input(self) -> torch.Tensor:
        (name,) = self.exported.graph_signature.user_inputs
        placeholders = self.exported.graph.find_nodes(op="placeholder")
        return next(node.meta["val"] for node in placeholders if node.name == name)

    @property
    def _output(self) -> torch.Tensor:
        return self.exported.graph.output_node().args[0][0].meta["val"]

    @property
    def _batch(self) -> int | None:
        """Images in a batch, or None for any number."""
        size = self._input.shape[0]
        return size if isinstance(size, int) else None

    @cached_property
    def _parameters(self) -> list[torch.Tensor]:
        """What the graph takes before its input."""
        values = {**self.exported.state_dict, **self.exported.constants}
        return [
            values[spec.target]
            for spec in self.exported.graph_signature.input_specs
            if spec.kind is not InputKind.USER_INPUT
        ]


class _Meter(Interpreter):
    """Runs a graph, and notes what every operator computes for one image."""

    def __init__(self, module: torch.fx.GraphModule, *, batch: int) -> None:
        super().__init__(module)
        self.batch = batch
        self.operators: list[HostOperator] = []

    def run_node(self, node: Node) -> object:
        counter = FlopCounterMode(display=False)
        with counter:
            result = super().run_node(node)
        computes = node.op == "call_function" and node.target is not operator.getitem
        if computes and isinstance(result, torch.Tensor | tuple | list):
            results = (result,) if isinstance(result, torch.Tensor) else result
            self.operators.append(
                HostOperator(
                    name=name_of(node),
                    op=operation_of(node),
                    source=source_of(node),
                    # A multiply-accumulate is two floating-point operations.
                    macs=counter.get_total_flops() // 2 // self.batch,
                    elements=sum(each.numel() for each in results) // self.batch,
                )
            )
        return result
