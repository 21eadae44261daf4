"""The file of a network that runs partly on the host: a manifest, and a member for each stage.

A stage on the accelerator is a whole program file, one on the host a `torch.export` archive.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from coprune import atomic_file, program_file, sealed_archive
from coprune.host_stage import HostStage
from coprune.sealed_archive import ProgramFileError

if TYPE_CHECKING:
    from coprune.hybrid import HybridProgram
    from coprune.program import Program

FORMAT_VERSION = 1
PROGRAM_SUFFIX, HOST_SUFFIX = ".coprune", ".pt2"
"""Of the members' names, by what runs them."""


def save(hybrid: HybridProgram, path: str | Path) -> None:
    """Write a file with all stages, whole or not at all.

    Raises
    ------
    OSError
        The folder does not exist or cannot be written to.
    """
    members = {}
    for number, stage in enumerate(hybrid.stages, start=1):
        if isinstance(stage, HostStage):
            members[f"{number}{HOST_SUFFIX}"] = _pack_host(stage)
        else:
            members[f"{number}{PROGRAM_SUFFIX}"] = program_file.pack(stage)
    manifest = {
        "format": program_file.HYBRID_FORMAT,
        "format_version": FORMAT_VERSION,
        "network": hybrid.network,
        "stages": list(members),
        "torch": torch.__version__,
    }
    atomic_file.write(path, sealed_archive.pack(manifest, members))


def unpack(data: bytes, *, origin: str | Path) -> HybridProgram:
    """Read the content of such a file.

    Raises
    ------
    ProgramFileError
        It is damaged, of another version, or this PyTorch cannot read a stage.
    """
    from coprune.hybrid import HybridProgram

    manifest, members = sealed_archive.unpack(
        data,
        expected={"format": program_file.HYBRID_FORMAT, "format_version": FORMAT_VERSION},
        origin=origin,
    )
    try:
        names, network, version = (manifest[key] for key in ("stages", "network", "torch"))
        stages = tuple(
            _unpack_stage(name, members[name], origin=origin, version=version) for name in names
        )
        if not any(name.endswith(PROGRAM_SUFFIX) for name in names):
            raise KeyError("stages")
    except (KeyError, TypeError) as error:
        raise ProgramFileError(
            f"{origin}: the manifest lacks or mistakes {error}; compile it again"
        ) from error
    return HybridProgram(stages, network)


def _unpack_stage(
    name: str, data: bytes, *, origin: str | Path, version: str
) -> Program | HostStage:
    if name.endswith(PROGRAM_SUFFIX):
        return program_file.unpack(data, origin=f"{origin}, stage {name}")
    try:
        with warnings.catch_warnings():
            # PyTorch's warnings about its own archives concern its developers.
            warnings.simplefilter("ignore")
            return HostStage(torch.export.load(io.BytesIO(data)))
    except Exception as error:
        # torch.export.load raises many types where it does not understand an archive.
        raise ProgramFileError(
            f"{origin}: PyTorch {torch.__version__} cannot read stage {name}, which {version} "
            f"wrote ({error}); compile it again"
        ) from error


def _pack_host(stage: HostStage) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(stage.exported, buffer)
    return buffer.getvalue()
