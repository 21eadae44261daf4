"""A program as C sources: its memory image, and what packs its input and unpacks its output."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from coprune import atomic_file
from coprune.program import Program
from coprune.runtime.c_driver.driver import write_driver
from coprune.runtime.c_driver.literals import (
    float_literal,
    integer_literal,
    string_literal,
    values_in_lines,
)
from coprune.runtime.c_driver.source import fill
from coprune_hw.contract.program import Region
from coprune_sim.graph import Tensor

EXAMPLE = "example_main"
STORED_ALIGNMENT_BYTES = 64
"""Of the stored part of an image: what is left of it is zeros, which the driver writes."""


def name_for(text: str) -> str:
    """A name that `export_program` takes, as near to a text as can be."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")
    return name if name[:1].isalpha() else f"network_{name}".rstrip("_")


def export_program(program: Program, folder: str | Path, *, name: str) -> list[Path]:
    """Write the driver, a program and an example for Linux into a folder.

    Parameters
    ----------
    program : Program
    folder : str or Path
        Made where it is missing.
    name : str
        Of the program's two files, and what its functions and macros begin with.

    Returns
    -------
    list of Path
        coprune.h, coprune.c, <name>.h, <name>.c, example_main.c.

    Raises
    ------
    TypeError
        It is no `Program`, such as one with stages on the host.
    ValueError
        `name` is no beginning for identifiers of C, or is one of the driver's files.
    OSError
        The folder cannot be made or written to.
    """
    if not isinstance(program, Program):
        raise TypeError(
            f"program must be a coprune.program.Program, which runs wholly on the accelerator, "
            f"not a {type(program).__name__}"
        )
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or name in ("coprune", EXAMPLE):
        raise ValueError(
            f"name must be of letters, digits and _, begin with a letter, and be neither coprune "
            f"nor {EXAMPLE}, not {name!r}"
        )
    paths = write_driver(folder)
    values = _values(program, name=name)
    templates = {
        f"{name}.h": "model.h",
        f"{name}.c": "model.c",
        f"{EXAMPLE}.c": f"{EXAMPLE}.c",
    }
    for file, template in templates.items():
        paths.append(Path(folder) / file)
        atomic_file.write(paths[-1], fill(template, values))
    return paths


def _values(program: Program, *, name: str) -> dict[str, object]:
    machine, graph, config = program.machine, program.graph, program.config
    raw = machine.output.raw
    return {
        "NAME": name,
        "UPPER": name.upper(),
        "GEOMETRY": (
            f"{config.lanes} lanes, {config.columns} columns and a bus of {config.bus_bits} bits"
        ),
        "GEOMETRY_HASH": f"{config.geometry_hash:#010x}",
        "MEMORY_BYTES": len(machine.image),
        **_describe("INPUT", machine.input, shape=program.input_shape),
        "INPUT_GRID": _grid(f"{name.upper()}_INPUT", graph.input),
        "INPUT_CHANNELS": machine.input.channels,
        "INPUT_HEIGHT": machine.input.height,
        "INPUT_WIDTH": machine.input.width,
        **_describe("OUTPUT", machine.output, shape=program.output_shape),
        "OUTPUT_GRID": _grid(f"{name.upper()}_OUTPUT", graph.output),
        "OUTPUT_MEANING": (
            "sums of 32 bits, which stand for floats by a step for every channel"
            if raw
            else "int8 values, which stand for floats as the input's"
        ),
        "INTEGER": "int32" if raw else "int8",
        "UNPACK_FLOAT": "coprune_unpack_sums" if raw else "coprune_unpack",
        "IMAGE": values_in_lines(map(str, _stored(machine.image))),
        "LAYERS": len(machine.layers),
        "LAYER_RECORDS": "\n".join(
            f"  {{{string_literal(record.name)}, {record.mark}u}}," for record in machine.layers
        ),
        "SUMS": _sums(program) if raw else "",
        "INPUT": _tensor(machine.input, graph.input),
        "OUTPUT": _tensor(machine.output, graph.output),
    }


def _describe(prefix: str, region: Region, *, shape: Sequence[int]) -> dict[str, object]:
    return {
        f"{prefix}_SHAPE": "float " + "".join(f"[{extent}]" for extent in shape),
        f"{prefix}_VALUES": math.prod(shape),
        f"{prefix}_OFFSET": region.offset,
        f"{prefix}_BYTES": region.size_bytes,
    }


def _grid(prefix: str, tensor: Tensor) -> str:
    """Macros of what integers stand for, where that is the same in all channels."""
    if tensor.raw:
        return ""
    scale = float_literal(tensor.scale)
    return f"#define {prefix}_SCALE {scale}\n#define {prefix}_ZERO ({tensor.zero})\n"


def _stored(image: bytes) -> bytes:
    """An image without the zeros at its end."""
    size = len(image.rstrip(b"\0"))
    return image[: -(-size // STORED_ALIGNMENT_BYTES) * STORED_ALIGNMENT_BYTES]


def _sums(program: Program) -> str:
    """Arrays that say what the sums of every channel stand for."""
    tensor, scale = program.graph.output, program.graph.raw_scale
    steps = np.full(tensor.channels, tensor.scale) if scale is None else scale.step
    biases = np.zeros(tensor.channels, np.int64) if scale is None else scale.bias
    # Bias and sum fit 32 bits together; alone, a bias may need another turn of them.
    biases = biases.astype(np.int64).astype(np.int32)
    steps = values_in_lines((repr(float(step)) for step in steps), per_line=4)
    biases = values_in_lines((integer_literal(int(bias)) for bias in biases), per_line=8)
    return (
        f"\nstatic const double steps[] = {{\n{steps}\n}};\n"
        f"\nstatic const int32_t biases[] = {{\n{biases}\n}};\n"
    )


def _tensor(region: Region, tensor: Tensor) -> str:
    """An initializer of `struct coprune_tensor`."""
    members = {
        "channels": f"{region.channels}u",
        "height": f"{region.height}u",
        "width": f"{region.width}u",
        "scale": float_literal(tensor.scale),
        "zero": tensor.zero,
        "steps": "steps" if region.raw else "NULL",
        "biases": "biases" if region.raw else "NULL",
        "offset": f"{region.offset}u",
        "bytes": f"{region.size_bytes}u",
        "groups": f"{region.groups}u",
        "pixel_bytes": f"{region.pixel_bytes}u",
        "padding_bytes": f"{region.padding_bytes}u",
        "phases": f"{region.phases}u",
        "fill": region.fill,
    }
    lines = (f"    {value}, /* {member} */\n" for member, value in members.items())
    return "{\n" + "".join(lines) + "  }"
