"""The program's memory image: instructions, then what they load, then input and output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from itertools import accumulate

from coprune_hw.contract import CONTRACT_VERSION, AcceleratorConfig
from coprune_hw.contract.instructions import (
    INSTRUCTION_BYTES,
    LoadKind,
    Opcode,
    encode_instruction,
    prefix,
)
from coprune_hw.contract.program import LayerRecord, MachineProgram, Region
from coprune_hw.contract.slots import SlotStream, pack_slots
from coprune_sim.cycle_model import Workload

from .program_order import interleave, token_pairs
from .schedule import (
    ExecuteStep,
    LayerWork,
    LoadStep,
    Schedule,
    Step,
    StoreStep,
)

ALIGNMENT_BYTES = 64
"""Of everything in the image, so that whole bursts fetch it."""


@dataclass(frozen=True)
class ImagePlan:
    """A program before its payloads are packed.

    Parameters
    ----------
    config : AcceleratorConfig
    instructions : list of dict
        HEADER to END.
    payloads : dict
        What to load, by its offset in the image.
    input, output : Region
    layers : tuple of LayerRecord
    image_bytes : int
    """

    config: AcceleratorConfig
    instructions: list[dict]
    payloads: dict[int, SlotStream | bytes]
    input: Region
    output: Region
    layers: tuple[LayerRecord, ...]
    image_bytes: int

    @property
    def workload(self) -> Workload:
        """What the cycle model takes."""
        return Workload(
            config=self.config,
            instructions=self.instructions,
            layers=self.layers,
            image_bytes=self.image_bytes,
            find_blocks=lambda load: self.payloads[load["source"]].new_block,
        )


def plan_image(
    schedule: Schedule,
    *,
    works: Sequence[LayerWork],
    input_region: Region,
    output_region: Region,
    config: AcceleratorConfig,
) -> ImagePlan:
    """Give every instruction its addresses, tokens and mark.

    Parameters
    ----------
    schedule : Schedule
    works : sequence of LayerWork
    input_region, output_region : Region
        Their offsets are set here.
    config : AcceleratorConfig
    """
    steps = list(interleave(schedule, lookahead=max(config.queue_depth - 2, 1)))
    sizes = [(len(steps) + 2) * INSTRUCTION_BYTES]
    sizes += [step.payload_bytes for step in schedule.loads]
    sizes += [input_region.size_bytes, output_region.size_bytes]
    _, *payload_offsets, input_offset, output_offset, end = _offsets(sizes)

    addresses = {
        id(step): input_offset + step.input_offset if step.kind == LoadKind.PIXELS else offset
        for step, offset in zip(schedule.loads, payload_offsets, strict=True)
    }
    addresses |= {id(step): output_offset + step.output_offset for step in schedule.stores}
    tokens = _tokens(schedule)
    marks = _marks(schedule, layers=1 + works[-1].number, config=config)
    instructions = [
        {
            "prefix": prefix(Opcode.HEADER),
            "version": CONTRACT_VERSION,
            "geometry_hash": config.geometry_hash,
        }
    ]
    for step in steps:
        values = _fields(step, addresses.get(id(step), 0))
        opcode = values.pop("opcode")
        step_tokens = dict.fromkeys(tokens[id(step)], True)
        step_prefix = prefix(opcode, mark=marks.get(id(step)), **step_tokens)
        instructions.append({"prefix": step_prefix, **values})
    instructions.append({"prefix": prefix(Opcode.END)})
    return ImagePlan(
        config=config,
        instructions=instructions,
        payloads={
            offset: step.payload
            for step, offset in zip(schedule.loads, payload_offsets, strict=True)
            if step.payload_bytes
        },
        input=replace(input_region, offset=input_offset),
        output=replace(output_region, offset=output_offset),
        layers=_records(schedule, works),
        image_bytes=end,
    )


def assemble(plan: ImagePlan) -> MachineProgram:
    """Encode the instructions and pack what they load.

    Raises
    ------
    OverflowError
        A value does not fit its field.
    """
    image = bytearray(plan.image_bytes)
    encoded = b"".join(map(encode_instruction, plan.instructions))
    image[: len(encoded)] = encoded
    for offset, payload in plan.payloads.items():
        packed = payload
        if isinstance(payload, SlotStream):
            packed = pack_slots(payload, lanes=plan.config.lanes)
        image[offset : offset + len(packed)] = packed
    return MachineProgram(
        config=plan.config,
        image=bytes(image),
        input=plan.input,
        output=plan.output,
        layers=plan.layers,
    )


def _offsets(sizes: Sequence[int]) -> list[int]:
    """Where pieces begin that follow each other aligned, and where the last one ends."""
    return list(
        accumulate((-(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES for size in sizes), initial=0)
    )


def _tokens(schedule: Schedule) -> dict[int, set[str]]:
    """Token fields that are 1, by the identity of the step."""
    loads, executes, stores = schedule.loads, schedule.executes, schedule.stores
    tokens: dict[int, set[str]] = {id(step): set() for step in (*loads, *executes, *stores)}
    for senders, receivers, needs in (
        (loads, executes, [step.needs_load for step in executes]),
        (executes, stores, [step.needs_execute for step in stores]),
    ):
        for sender, receiver in token_pairs(needs):
            tokens[id(senders[sender])].add("signal_next")
            tokens[id(receivers[receiver])].add("wait_previous")
    for sender, receiver in token_pairs([step.needs_execute for step in loads]):
        tokens[id(executes[sender])].add("signal_previous")
        tokens[id(loads[receiver])].add("wait_next")
    return tokens


def _marks(schedule: Schedule, *, layers: int, config: AcceleratorConfig) -> dict[int, int]:
    """Marks by the identity of the step: every layer's last EXECUTE, and the last STORE."""
    marks = {step.layer: id(step) for step in schedule.executes}
    if layers < config.mark_depth:
        marks[layers] = id(schedule.stores[-1])
    return {step: mark for mark, step in marks.items()}


def _records(schedule: Schedule, works: Sequence[LayerWork]) -> tuple[LayerRecord, ...]:
    records = []
    for index, work in {work.number: work for work in works}.items():
        executes = {
            number: step for number, step in enumerate(schedule.executes) if step.layer == index
        }
        records.append(
            LayerRecord(
                name=work.layer.name,
                mark=index,
                executes=tuple(executes),
                channels=work.layer.output.channels,
                placement=work.output,
                slots=sum(step.slots for step in executes.values()),
                raw=work.layer.output.raw,
            )
        )
    return tuple(records)


@singledispatch
def _fields(step: Step, address: int) -> dict:
    """Opcode, and all fields of an instruction but its prefix."""
    raise TypeError(f"step must be a LOAD, EXECUTE or STORE, not {type(step).__name__}")


@_fields.register
def _(step: LoadStep, address: int) -> dict:
    return {
        "opcode": Opcode.LOAD,
        "kind": step.kind,
        "source": address,
        "count": step.count,
        "place": step.place,
        "window": step.window,
        "pixel_bytes": step.pixel_bytes,
    }


@_fields.register
def _(step: ExecuteStep, address: int) -> dict:
    return {"opcode": Opcode.EXECUTE, **step.fields}


@_fields.register
def _(step: StoreStep, address: int) -> dict:
    return {
        "opcode": Opcode.STORE,
        "destination": address,
        "place": step.place,
        "window": step.window,
    }
