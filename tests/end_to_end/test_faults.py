"""Programs that are wrong: each fault stops the machine with its code, or changes a layer."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest

from coprune_hw.contract.instructions import (
    BARRIER_BITS,
    INSTRUCTION_BYTES,
    TABLE_BYTES,
    LoadKind,
    Opcode,
    encode_instruction,
)
from coprune_hw.contract.program import MachineProgram, collect_layers
from coprune_hw.contract.registers import ErrorCode, State
from coprune_hw.contract.slots import pack_slots, slot_bytes, unpack_slots
from coprune_sim import machine
from coprune_sim.cosim import runner
from coprune_sim.cosim.result import CosimImage

from ..graphs import GraphBuilder, residual_graph
from .comparison import Case, assert_layers_equal, assert_rtl_equal, make_case
from .configurations import NARROW, SMALL


@cache
def prepare() -> Case:
    """A network that has all kinds of tokens: its slots do not fit the slot memory at once."""
    return make_case(residual_graph(size=8), SMALL, seed=1)


def find(program: MachineProgram, opcode: Opcode, *, number: int = 0, **fields) -> int:
    """Position in the program of an instruction with an opcode and values of fields."""
    found = [
        index
        for index, instruction in enumerate(program.instructions())
        if instruction["prefix"]["opcode"] == opcode
        and all(instruction[name] == value for name, value in fields.items())
    ]
    return found[number]


def change(program: MachineProgram, index: int, **values: int) -> MachineProgram:
    """Give fields of an instruction other values; ``place__base`` is a field of a field."""
    instruction = program.instructions()[index]
    for path, value in values.items():
        *parents, name = path.split("__")
        fields = instruction
        for parent in parents:
            fields = fields[parent]
        fields[name] = value
    return put(program, index * INSTRUCTION_BYTES, encode_instruction(instruction))


def put(program: MachineProgram, offset: int, content: bytes) -> MachineProgram:
    """Put bytes in the program's image."""
    image = program.image[:offset] + content + program.image[offset + len(content) :]
    return replace(program, image=image)


def run_rtl(program: MachineProgram, **memory) -> CosimImage:
    case = prepare()
    result = runner.run(case.machine, [case.pixels], image_override=program.image, **memory)
    return result.images[0]


def assert_stops(image: CosimImage, code: ErrorCode) -> None:
    """The machine is in state ERROR, and its counters can be read."""
    assert (image.state, image.error) == (State.ERROR, code)
    assert image.counters["cycles"] > 0
    assert len(image.marks) == len(prepare().machine.layers)


def simulated_error(program: MachineProgram) -> ErrorCode:
    with pytest.raises(machine.MachineError) as error:
        machine.run(program, prepare().pixels)
    return error.value.code


def test_program_without_a_fault_runs():
    case = prepare()
    assert_rtl_equal(case, run_rtl(case.machine))


@dataclass(frozen=True)
class Fault:
    """An instruction, values that it must not have, and the code that says so."""

    opcode: Opcode
    values: dict
    code: ErrorCode
    kind: LoadKind | None = None

    def apply(self, program: MachineProgram) -> MachineProgram:
        fields = {} if self.kind is None else {"kind": self.kind}
        return change(program, find(program, self.opcode, **fields), **self.values)


BUS_BYTES = SMALL.bus_bytes
BEYOND = 1 << 20
"""An offset behind the program's end."""

FAULTS = {
    "another version": Fault(Opcode.HEADER, {"version": 99}, ErrorCode.GEOMETRY),
    "another geometry": Fault(
        Opcode.HEADER, {"geometry_hash": NARROW.geometry_hash}, ErrorCode.GEOMETRY
    ),
    "tables behind their memory": Fault(
        Opcode.LOAD,
        {"kind": LoadKind.TABLES, "place__base": SMALL.tables * TABLE_BYTES},
        ErrorCode.ADDRESS,
        LoadKind.PARAMETERS,
    ),
    "table that the machine does not have": Fault(
        Opcode.EXECUTE, {"tabulated": 1, "table": SMALL.tables}, ErrorCode.ADDRESS
    ),
    "load from a misaligned address": Fault(
        Opcode.LOAD, {"source": 4096 + BUS_BYTES // 2}, ErrorCode.ADDRESS, LoadKind.SLOTS
    ),
    "load from behind the program": Fault(
        Opcode.LOAD, {"source": BEYOND}, ErrorCode.ADDRESS, LoadKind.PARAMETERS
    ),
    "slots beyond their memory": Fault(
        Opcode.LOAD, {"place__base": SMALL.slot_depth - 1}, ErrorCode.ADDRESS, LoadKind.SLOTS
    ),
    "parameters beyond their memory": Fault(
        Opcode.LOAD,
        {"place__base": SMALL.parameter_depth - 1},
        ErrorCode.ADDRESS,
        LoadKind.PARAMETERS,
    ),
    "pixels beyond the activation memory": Fault(
        Opcode.LOAD,
        {"place__base": SMALL.activation_depth - 1},
        ErrorCode.ADDRESS,
        LoadKind.PIXELS,
    ),
    "no pixels to load": Fault(
        Opcode.LOAD, {"window__rows": 0}, ErrorCode.ADDRESS, LoadKind.PIXELS
    ),
    "pixels wider than a word": Fault(
        Opcode.LOAD, {"pixel_bytes": SMALL.lanes + 1}, ErrorCode.ADDRESS, LoadKind.PIXELS
    ),
    "execute without slots": Fault(Opcode.EXECUTE, {"slot_count": 0}, ErrorCode.ADDRESS),
    "execute beyond the slot memory": Fault(
        Opcode.EXECUTE, {"slot_base": SMALL.slot_depth - 1}, ErrorCode.ADDRESS
    ),
    "execute beyond the parameter memory": Fault(
        Opcode.EXECUTE, {"parameter_base": SMALL.parameter_depth - 1}, ErrorCode.ADDRESS
    ),
    "execute reads beyond the activation memory": Fault(
        Opcode.EXECUTE, {"tile_base": SMALL.activation_depth}, ErrorCode.ADDRESS
    ),
    "execute writes beyond the activation memory": Fault(
        Opcode.EXECUTE, {"output__base": SMALL.activation_depth - 1}, ErrorCode.ADDRESS
    ),
    "raw sums to a place with a stride": Fault(
        Opcode.EXECUTE, {"raw": 1, "output__log2_stride": 1}, ErrorCode.ADDRESS
    ),
    "raw sums beyond the activation memory": Fault(
        Opcode.EXECUTE,
        {"raw": 1, "output__plane_words": SMALL.activation_depth // 2},
        ErrorCode.ADDRESS,
    ),
    "store to a misaligned address": Fault(
        Opcode.STORE, {"destination": 4096 + BUS_BYTES // 2}, ErrorCode.ADDRESS
    ),
    "store behind the program": Fault(Opcode.STORE, {"destination": BEYOND}, ErrorCode.ADDRESS),
    "store from beyond the activation memory": Fault(
        Opcode.STORE, {"place__base": SMALL.activation_depth}, ErrorCode.ADDRESS
    ),
    "nothing to store": Fault(Opcode.STORE, {"window__width": 0}, ErrorCode.ADDRESS),
}


@pytest.mark.parametrize("name", FAULTS)
def test_rtl_and_simulator_stop_with_the_same_code(name):
    fault = FAULTS[name]
    program = fault.apply(prepare().machine)
    assert simulated_error(program) == fault.code
    assert_stops(run_rtl(program), fault.code)


@pytest.mark.parametrize("position", ["first", "later"])
def test_unknown_opcode_stops_the_machine(position):
    code = {"first": ErrorCode.GEOMETRY, "later": ErrorCode.BAD_OPCODE}[position]
    program = prepare().machine
    index = 0 if position == "first" else find(program, Opcode.EXECUTE)
    program = put(program, index * INSTRUCTION_BYTES, b"\x0f")
    assert simulated_error(program) == code
    assert_stops(run_rtl(program), code)


def test_program_that_ends_before_end_stops_the_machine():
    program = prepare().machine
    header = replace(program, image=program.image[:INSTRUCTION_BYTES])
    image = runner.run(program, [prepare().pixels], image_override=header.image).images[0]
    assert_stops(image, ErrorCode.ADDRESS)


@pytest.mark.parametrize("memory", ["internal", "cocotbext"])
def test_read_error_on_the_bus_stops_the_machine(memory):
    program = prepare().machine
    offset = program.instructions()[find(program, Opcode.LOAD, number=2)]["source"]
    image = run_rtl(program, memory=memory, error_address=offset)
    assert_stops(image, ErrorCode.AXI_READ)


def test_read_error_of_an_instruction_stops_the_machine():
    assert_stops(run_rtl(prepare().machine, error_address=0), ErrorCode.AXI_READ)


@pytest.mark.parametrize("memory", ["internal", "cocotbext"])
def test_write_error_on_the_bus_stops_the_machine(memory):
    program = prepare().machine
    image = run_rtl(program, memory=memory, error_address=program.output.offset)
    assert_stops(image, ErrorCode.AXI_WRITE)


class TestTokens:
    LINKS = {
        "loaded": (Opcode.LOAD, "signal_next", Opcode.EXECUTE, "wait_previous"),
        "read": (Opcode.EXECUTE, "signal_previous", Opcode.LOAD, "wait_next"),
        "written": (Opcode.EXECUTE, "signal_next", Opcode.STORE, "wait_previous"),
    }
    """Sender and receiver of a token, and their fields."""

    @staticmethod
    def holders(program: MachineProgram, opcode: Opcode, field: str) -> list[int]:
        """Positions of the instructions that have a token field set."""
        return [
            index
            for index, instruction in enumerate(program.instructions())
            if instruction["prefix"]["opcode"] == opcode and instruction["prefix"][field]
        ]

    @pytest.mark.parametrize("link", LINKS)
    def test_token_that_nobody_sends_is_a_deadlock(self, link):
        sender, field, _, _ = self.LINKS[link]
        program = prepare().machine
        index = self.holders(program, sender, field)[0]
        program = change(program, index, **{f"prefix__{field}": 0})
        assert simulated_error(program) == ErrorCode.DEADLOCK
        assert_stops(run_rtl(program), ErrorCode.DEADLOCK)

    @pytest.mark.parametrize("link", LINKS)
    def test_every_token_is_needed_in_some_order(self, link):
        sender, signal, receiver, wait = self.LINKS[link]
        program = prepare().machine
        senders = self.holders(program, sender, signal)
        receivers = self.holders(program, receiver, wait)
        assert len(senders) == len(receivers) > 0
        for sent, taken in zip(senders, receivers, strict=True):
            changed = change(program, sent, **{f"prefix__{signal}": 0})
            changed = change(changed, taken, **{f"prefix__{wait}": 0})
            assert goes_wrong(changed), f"token from instruction {sent} to {taken}"

    def test_token_sent_too_early_goes_wrong_in_some_order(self):
        program = prepare().machine
        loads = self.holders(program, Opcode.LOAD, "signal_next")
        for index in loads:
            earlier = index - 1
            instruction = program.instructions()[earlier]["prefix"]
            if instruction["opcode"] != Opcode.LOAD or instruction["signal_next"]:
                continue
            changed = change(program, index, prefix__signal_next=0)
            changed = change(changed, earlier, prefix__signal_next=1)
            assert goes_wrong(changed), f"token of instruction {index}, sent by {earlier}"


def goes_wrong(program: MachineProgram) -> bool:
    """Whether an order of the simulator gives another result, or stops the machine."""
    return any(is_wrong(program, eager=eager) for eager in ("execute", "load", "store"))


def is_wrong(program: MachineProgram, *, eager: str) -> bool:
    case = prepare()
    try:
        run = machine.run(program, case.pixels, eager=eager, seed=2)
    except machine.MachineError:
        return True
    output = case.expected[case.machine.layers[-1].name]
    return differing_layers(run.layers) != [] or not np.array_equal(run.output, output)


def differing_layers(layers: dict[str, np.ndarray]) -> list[str]:
    expected = prepare().expected
    return [name for name in expected if not np.array_equal(layers[name], expected[name])]


class TestBarriers:
    @staticmethod
    def remove(program: MachineProgram, number: int) -> MachineProgram:
        barriers = [
            index
            for index, instruction in enumerate(program.instructions())
            if instruction.get("barrier")
        ]
        return change(program, barriers[number], barrier=0)

    def test_missing_barrier_goes_wrong_in_the_simulator(self):
        program = prepare().machine
        barriers = sum(bool(step.get("barrier")) for step in program.instructions())
        assert barriers == len(program.layers) - 1
        assert all(goes_wrong(self.remove(program, number)) for number in range(barriers))

    def test_a_barrier_for_fewer_tiles_goes_wrong_in_the_simulator(self):
        program = prepare().machine
        steps = program.instructions()
        wrong = []
        for index, step in enumerate(steps):
            if 0 < step.get("barrier", 0) < (1 << BARRIER_BITS) - 1:
                wrong.append(goes_wrong(change(program, index, barrier=step["barrier"] + 1)))
        # All but global pooling, which begins with the first channels: they were written long ago.
        assert wrong.count(False) <= 1
        assert wrong.count(True) >= 2

    def test_missing_barrier_goes_wrong_on_the_rtl(self):
        builder = GraphBuilder(8, (2, 2), seed=5)
        builder.add(builder.conv(builder.add(builder.conv("input", 8)), 8, 1))
        case = make_case(builder.graph(), SMALL, seed=6)
        program = self.remove(case.machine, 0)
        image = runner.run(program, [case.pixels]).images[0]
        with pytest.raises(AssertionError, match=r"layer1 at \(\d+, \d+, \d+\) is .*, must be"):
            assert_rtl_equal(case, image)


class TestSlots:
    @staticmethod
    def flip_index(program: MachineProgram) -> MachineProgram:
        """Flip a bit of the index of the first weight that reads one of several channels."""
        load = program.instructions()[find(program, Opcode.LOAD, kind=LoadKind.SLOTS)]
        size = load["count"] * slot_bytes(SMALL.lanes)
        stream = unpack_slots(program.image[load["source"] :][:size], lanes=SMALL.lanes)
        slot, lane = np.argwhere((stream.weight != 0) & ~stream.diagonal[:, None])[0]
        stream.index[slot, lane] ^= 1
        return put(program, load["source"], pack_slots(stream, lanes=SMALL.lanes))

    def test_flipped_index_bit_is_caught_in_the_first_layer(self):
        case = prepare()
        program = self.flip_index(case.machine)
        image = run_rtl(program)
        assert image.state == State.DONE
        layers = collect_layers(case.machine, image.drained)
        assert differing_layers(layers)[0] == "layer0"
        with pytest.raises(AssertionError, match=r"layer0 at \(\d+, \d+, \d+\) is .*, must be"):
            assert_rtl_equal(case, image)
        simulated = machine.run(program, case.pixels)
        assert_layers_equal(layers, image.output, expected=simulated.layers)
