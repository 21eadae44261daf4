"""The program file: a manifest, the memory image and the integer graph, in one zip archive.

The manifest is JSON and carries the checksums of the other members and, as ``sha256``, one of all
its other fields. Loading checks everything before it uses anything.
"""

from __future__ import annotations

import io
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from coprune import atomic_file, sealed_archive
from coprune.sealed_archive import MANIFEST, ProgramFileError
from coprune_hw.contract import CONTRACT_VERSION, AcceleratorConfig
from coprune_hw.contract.planes import Placement
from coprune_hw.contract.program import LayerRecord, MachineProgram, Region
from coprune_sim.graph import IntegerGraph, Layer, RawScale, Source, Tensor

if TYPE_CHECKING:
    from coprune.hybrid import HybridProgram
    from coprune.program import Program

__all__ = ["GRAPH", "IMAGE", "MANIFEST", "ProgramFileError", "load", "pack", "save", "unpack"]

FORMAT = "coprune-program"
FORMAT_VERSION = 2
HYBRID_FORMAT = "coprune-hybrid"
"""Of files that have stages on the host: see `coprune.hybrid_file`."""
IMAGE, GRAPH = "image.bin", "graph.npz"

_ARRAYS = ("bias", "multiplier", "pre_shift", "post_shift")


def save(program: Program, path: str | Path) -> None:
    """Write a program file, whole or not at all.

    Raises
    ------
    OSError
        The folder does not exist or cannot be written to.
    """
    atomic_file.write(path, pack(program))


def pack(program: Program) -> bytes:
    """The content of a program file."""
    members = {IMAGE: program.machine.image, GRAPH: _pack_graph(program.graph)}
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "contract_version": CONTRACT_VERSION,
        "geometry": program.config.to_dict(),
        "geometry_hash": program.config.geometry_hash,
        "network": program.network,
        "output_shape": list(program.output_shape),
        "graph": _describe_graph(program.graph),
        "input_region": asdict(program.machine.input),
        "output_region": asdict(program.machine.output),
        "layers": [asdict(record) for record in program.machine.layers],
    }
    return sealed_archive.pack(manifest, members)


def load(path: str | Path, *, config: AcceleratorConfig | None = None) -> Program | HybridProgram:
    """Read a program file, also one that has stages on the host.

    Parameters
    ----------
    path : str or Path
    config : AcceleratorConfig
        If given, the accelerator that the program must have been compiled for.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ProgramFileError
        It is no program file, is damaged, of another version, or made for another geometry.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such program file: {path}")
    data = path.read_bytes()
    program: Program | HybridProgram
    if sealed_archive.read_manifest(data, origin=path).get("format") == HYBRID_FORMAT:
        from coprune import hybrid_file

        program = hybrid_file.unpack(data, origin=path)
    else:
        program = unpack(data, origin=path)
    if config is not None and config.geometry_hash != program.config.geometry_hash:
        raise ProgramFileError(
            f"{path} was compiled for geometry {program.config.name} "
            f"({program.config.geometry_hash:#010x}), not for {config.name} "
            f"({config.geometry_hash:#010x}); compile it for that one"
        )
    return program


def unpack(data: bytes, *, origin: str | Path) -> Program:
    """Read the content of a program file, which messages call `origin`; see `load`."""
    manifest, members = sealed_archive.unpack(
        data,
        expected={
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "contract_version": CONTRACT_VERSION,
        },
        names=(IMAGE, GRAPH),
        origin=origin,
    )
    try:
        return _read_program(manifest, members)
    except (KeyError, TypeError, ValueError) as error:
        raise ProgramFileError(
            f"{origin}: the manifest lacks or mistakes {error}; compile it again"
        ) from error


def _read_program(manifest: dict, members: dict[str, bytes]) -> Program:
    from coprune.program import Program

    config = AcceleratorConfig.from_dict(manifest["geometry"])
    if config.geometry_hash != manifest["geometry_hash"]:
        raise ValueError(f"geometry_hash, which is {config.geometry_hash:#010x}")
    machine = MachineProgram(
        config=config,
        image=members[IMAGE],
        input=Region(**manifest["input_region"]),
        output=Region(**manifest["output_region"]),
        layers=tuple(_read_record(record) for record in manifest["layers"]),
    )
    return Program(
        graph=_unpack_graph(manifest["graph"], members[GRAPH]),
        machine=machine,
        network=manifest["network"],
        output_shape=tuple(manifest["output_shape"]),
    )


def _read_record(record: dict) -> LayerRecord:
    placement = Placement(**record["placement"])
    executes = tuple(record["executes"])
    return LayerRecord(**{**record, "placement": placement, "executes": executes})


def _describe_graph(graph: IntegerGraph) -> dict:
    """All of a graph but its arrays."""
    layers = []
    for layer in graph.layers:
        plain = {
            field.name: getattr(layer, field.name)
            for field in fields(Layer)
            if field.name not in (*_ARRAYS, "table", "sources", "output")
        }
        sources = [
            {
                field.name: getattr(source, field.name)
                for field in fields(Source)
                if field.name != "weight"
            }
            for source in layer.sources
        ]
        layers.append({**plain, "output": asdict(layer.output), "sources": sources})
    return {"input": asdict(graph.input), "layers": layers}


def _pack_graph(graph: IntegerGraph) -> bytes:
    """The arrays of a graph, named by layer and source number."""
    arrays = {}
    if graph.raw_scale is not None:
        arrays |= {f"raw.{name}": values for name, values in vars(graph.raw_scale).items()}
    for number, layer in enumerate(graph.layers):
        if layer.table is not None:
            arrays[f"{number}.table"] = layer.table
        for name in _ARRAYS:
            arrays[f"{number}.{name}"] = np.asarray(getattr(layer, name), np.int64)
        for source_number, source in enumerate(layer.sources):
            arrays[f"{number}.{source_number}.weight"] = source.weight
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _unpack_graph(description: dict, packed: bytes) -> IntegerGraph:
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        layers = []
        for number, plain in enumerate(description["layers"]):
            sources = tuple(
                Source(
                    **{
                        **source,
                        "padding": tuple(source["padding"]),
                        "dilation": tuple(source["dilation"]),
                    },
                    weight=arrays[f"{number}.{source_number}.weight"],
                )
                for source_number, source in enumerate(plain["sources"])
            )
            values = {name: arrays[f"{number}.{name}"] for name in _ARRAYS}
            if f"{number}.table" in arrays:
                values["table"] = arrays[f"{number}.table"]
            output = Tensor(**plain["output"])
            layers.append(Layer(**{**plain, **values, "output": output, "sources": sources}))
        raw_scale = None
        if "raw.step" in arrays:
            raw_scale = RawScale(step=arrays["raw.step"], bias=arrays["raw.bias"])
    return IntegerGraph(Tensor(**description["input"]), tuple(layers), raw_scale)
