"""What the report says, as plain values: the page is drawn from them alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from coprune.program import Program
from coprune.results import CycleTable
from coprune_hw.contract.instructions import Opcode
from coprune_hw.contract.work import issued_slots, payload_bytes
from coprune_sim.cycle_model import WAIT_CAUSES, InstructionTiming, MemoryModel
from coprune_sim.energy import SOURCE, LayerEnergy, estimate_energy

from .disassembly import describe_instruction, find_senders, kind_of
from .measured import compare_timeline
from .memory_map import describe_memory
from .patterns import describe_patterns

MOST_PROGRAMS = 2
CLOCK_HZ = 100_000_000
"""At which the page states images per second at first."""

ENERGY_PARTS = {
    "array": ("multiplications", "accumulations"),
    "requantization": ("requantizations",),
    "slot memory": ("slot_bytes_read", "slot_bytes_written"),
    "parameter memory": ("parameter_bytes_read", "parameter_bytes_written"),
    "activation memory": ("activation_bytes_read", "activation_bytes_written"),
    "DRAM": ("dram_bytes_read", "dram_bytes_written", "instruction_bytes"),
}
"""What the page divides a layer's energy into, and the events of `estimate_energy` that it adds."""


@dataclass(frozen=True)
class Subject:
    """A program that the report is about.

    Parameters
    ----------
    program : Program
    origin : str
        Where it comes from, for example the name of its file.
    timeline : Path
        A timeline that was measured, as ``coprune cosim --timeline`` writes it.
    """

    program: Program
    origin: str
    timeline: Path | None = None


def describe(subjects: Sequence[Subject], *, memory: MemoryModel | None = None) -> dict:
    """Everything that the page shows.

    Parameters
    ----------
    subjects : sequence of Subject
        One, or two to compare.
    memory : MemoryModel
        That the cycles are counted for.

    Returns
    -------
    dict
        What JSON can hold, and the same for the same programs.

    Raises
    ------
    ValueError
        None or more than two, or a timeline is of another program.
    """
    if not 1 <= len(subjects) <= MOST_PROGRAMS:
        raise ValueError(f"a report is about one program or two, not {len(subjects)}")
    memory = MemoryModel() if memory is None else memory
    names = [[layer.name for layer in subject.program.graph.layers] for subject in subjects]
    return {
        "clock_hz": CLOCK_HZ,
        "wait_causes": WAIT_CAUSES,
        "energy_source": SOURCE,
        "programs": [_describe_subject(subject, memory=memory) for subject in subjects],
        "pairs": pair_layers(*names) if len(subjects) == MOST_PROGRAMS else None,
    }


def pair_layers(before: Sequence[str], after: Sequence[str]) -> list[dict]:
    """Match the layers of two programs by name.

    Returns
    -------
    list of dict
        ``name``, and ``before`` and ``after``: indices, None where a program has no such layer. In
        the order of `after`; a layer that is only in `before` comes behind the one before it there.
    """
    after_index = {name: index for index, name in enumerate(after)}
    before_index = {name: index for index, name in enumerate(before)}
    leftovers: dict[str | None, list[str]] = {}
    anchor = None
    for name in before:
        if name in after_index:
            anchor = name
        else:
            leftovers.setdefault(anchor, []).append(name)
    ordered = list(leftovers.get(None, ()))
    for name in after:
        ordered += [name, *leftovers.get(name, ())]
    return [
        {"name": name, "before": before_index.get(name), "after": after_index.get(name)}
        for name in ordered
    ]


def summarize(program: Program, table: CycleTable, *, memory: MemoryModel) -> str:
    """Network and hardware in one paragraph."""
    config, total = program.config, table.total
    inputs = " x ".join(map(str, program.graph.input.shape))
    outputs = " x ".join(map(str, program.output_shape))
    moved = sum(layer.load_bytes + layer.store_bytes for layer in table.layers)
    layers = len(table.layers)
    return (
        f"{program.network} makes {outputs} outputs of an image of {inputs} in {layers} "
        f"layer{'' if layers == 1 else 's'}, with {total.macs:,} multiply-accumulates, of which "
        f"{total.nonzero_macs:,} ({_share(total.nonzero_macs, total.macs)}) have a weight that is "
        f"not zero. On {config.lanes} x {config.columns} multipliers ({config.lanes} output "
        f"channels, {config.columns} pixels) with a bus of {config.bus_bits} bits and "
        f"{memory.latency_cycles} cycles of memory latency it takes {total.cycles:,} cycles from "
        f"start to interrupt: {CLOCK_HZ / total.cycles:,.0f} images/s at "
        f"{CLOCK_HZ // 1_000_000} MHz. That is {total.cycles / max(total.floor_cycles, 1):.2f} "
        f"times the floor of {total.floor_cycles:,} cycles, which the {total.limit} "
        f"set{'s' if total.limit == 'bus' else ''}; {total.multiplier_use:.1%} of the multipliers "
        f"are used. It moves {moved:,} bytes over the bus. Its weights and biases take "
        f"{program.weight_bytes:,} bytes, {program.compression:.2f} times less than as float32."
    )


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "none"


def _describe_subject(subject: Subject, *, memory: MemoryModel) -> dict:
    program = subject.program
    table = program.cycles(memory=memory)
    timings = table.timing.instructions
    instructions = program.machine.instructions()
    layer_of: list[int | None] = [None] * len(instructions)
    for timing in timings:
        layer_of[timing.index] = timing.layer
    measured = None
    if subject.timeline is not None:
        measured = compare_timeline(subject.timeline, timings, network=program.network)
    config = program.config
    return {
        "network": program.network,
        "origin": subject.origin,
        "summary": summarize(program, table, memory=memory),
        "hardware": {
            "name": config.name,
            **config.to_dict(),
            "multipliers": config.multipliers,
            "bus_bytes": config.bus_bytes,
            "latency_cycles": memory.latency_cycles,
        },
        "total": {
            **asdict(table.total),
            "floor_cycles": table.total.floor_cycles,
            "limit": table.total.limit,
            "weight_bytes": program.weight_bytes,
            "float32_bytes": program.float32_bytes,
        },
        "layers": _describe_layers(program, table),
        "timeline": {
            "cycles": table.timing.cycles,
            "marks": [layer.end for layer in table.timing.layers],
            "instructions": _describe_timings(timings, instructions, program=program),
            "measured": measured,
        },
        "patterns": describe_patterns(program.graph, program.machine, layer_of=layer_of),
        "memory": describe_memory(program, instructions=instructions, timings=timings),
        "energy": [_describe_energy(layer) for layer in estimate_energy(program.machine).layers],
    }


def _describe_energy(layer: LayerEnergy) -> dict:
    return {
        "counts": layer.counts,
        "picojoules": {
            part: round(sum(layer.picojoules[event] for event in events), 1)
            for part, events in ENERGY_PARTS.items()
        },
    }


def _describe_layers(program: Program, table: CycleTable) -> list[dict]:
    return [
        {
            **asdict(counted),
            "floor_cycles": counted.floor_cycles,
            "limit": counted.limit,
            "output": list(layer.output.shape),
        }
        for counted, layer in zip(table.layers, program.graph.layers, strict=True)
    ]


def _describe_timings(
    timings: Sequence[InstructionTiming], instructions: list[dict], *, program: Program
) -> list[dict]:
    senders = find_senders(instructions)
    described = []
    for timing in timings:
        instruction = instructions[timing.index]
        is_execute = timing.opcode == Opcode.EXECUTE
        described.append(
            {
                "index": timing.index,
                "unit": timing.opcode.name,
                "kind": kind_of(instruction),
                "layer": timing.layer,
                "ready": timing.ready,
                "begin": timing.begin,
                "end": timing.end,
                "text": describe_instruction(instruction, config=program.config),
                "slots": issued_slots(instruction) if is_execute else 0,
                "bytes": 0 if is_execute else payload_bytes(instruction, program.config),
                "barrier": bool(instruction.get("barrier", 0)),
                "senders": list(senders[timing.index]),
            }
        )
    return described
