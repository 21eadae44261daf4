"""A whole system, driven through the bits of its UART."""

import numpy as np
import pytest
import torch

from coprune.program import compile_graph
from coprune.runtime import Device, DeviceError, LinkBus, LinkError, PreloadedBus, SimulatedBoard
from coprune_hw.contract.registers import State, address_of
from coprune_hw.contract.system import MEMORY_ADDRESS
from coprune_sim.cosim.board import BOARD_MEMORY
from coprune_sim.cosim.host import control_word, decode_status

from ..end_to_end.configurations import SMALL
from ..graphs import GRAPHS

MEMORY_BYTES = 1 << 15
SEED = 5


@pytest.fixture(scope="module")
def simulated():
    with SimulatedBoard(SMALL, memory_bytes=MEMORY_BYTES, seed=SEED) as board:
        yield board


@pytest.fixture
def board(simulated):
    """A board on a good line, whatever a test before did to it."""
    simulated.errors = 0.0
    return simulated


def compile_small(name="odd"):
    return compile_graph(GRAPHS[name](), SMALL, network=name)


def draw_images(program, *, count=1):
    generator = np.random.default_rng(0)
    tensor = program.graph.input
    images = generator.uniform(-128, 127, (count, *tensor.shape)).astype(np.float32)
    return torch.from_numpy(images * tensor.scale)


def assert_counts_as_the_model(device, program):
    table = program.cycles(BOARD_MEMORY)
    assert device.counters()["cycles"] == table.total.cycles
    marks = [layer["cycles"] for layer in device.layer_counters().values()]
    assert np.diff(marks, prepend=0).tolist() == [layer.cycles for layer in table.layers]


def test_outputs_and_cycles_are_those_of_the_program(board):
    bus = LinkBus(board, poll_seconds=0)
    assert (bus.memory_address, bus.memory_bytes) == (MEMORY_ADDRESS, MEMORY_BYTES)
    device, program = Device(bus), compile_small()
    images = draw_images(program, count=2)
    device.load(program)
    assert np.array_equal(device.run(images), program.simulate(images))
    assert_counts_as_the_model(device, program)
    assert bus.repeated_frames == 0


@pytest.mark.parametrize("name", ["pooling", "raw", "upsampling", "tabulated"])
def test_preloaded_programs_do_the_same(board, name):
    program = compile_small(name)
    device = Device(PreloadedBus(board), timeout_seconds=60)
    images = draw_images(program, count=2)
    device.load(program)
    assert np.array_equal(device.run(images, integer=True), program.simulate(images, integer=True))
    assert_counts_as_the_model(device, program)


def test_bytes_that_are_lost_or_wrong_change_no_result(board):
    program = compile_small("pooling")
    images = draw_images(program)
    board.errors = 0.01
    bus = LinkBus(board, poll_seconds=0)
    device = Device(bus, timeout_seconds=60)
    device.load(program)
    image = program.machine.image
    assert board.read_memory(0, len(image)) == image
    assert np.array_equal(device.run(images), program.simulate(images))
    assert bus.repeated_frames > 0


def test_host_and_machine_use_the_memory_at_once(board):
    program = compile_small()
    images = draw_images(program)
    bus = LinkBus(board, poll_seconds=0)
    device = Device(PreloadedBus(board))
    device.load(program)
    expected = device.run(images)
    image, scratch = program.machine.image, MEMORY_BYTES - 16
    bus.write_register(address_of("control"), control_word("start"))
    rounds = 0
    while decode_status(bus.read_register(address_of("status")))["state"] == State.RUNNING:
        assert bus.read_memory(16 * rounds, 16) == image[16 * rounds : 16 * rounds + 16]
        bus.write_memory(scratch, bytes([rounds] * 16))
        assert bus.read_memory(scratch, 16) == bytes([rounds] * 16)
        rounds += 1
    assert rounds > 1
    output = program.machine.output
    found = output.unpack(bus.read_memory(output.offset, output.size_bytes))
    assert np.array_equal(program.finish_output(found[None], integer=False), expected)


def test_a_program_that_the_memory_does_not_hold_is_refused(board):
    program = compile_small("strided")
    size = len(program.machine.image)
    with pytest.raises(DeviceError, match=f"takes {size:,} bytes, but the memory has 32,768"):
        Device(LinkBus(board, poll_seconds=0)).load(program)


def test_memory_that_is_not_there_is_an_error_of_the_bus(board):
    bus = LinkBus(board, poll_seconds=0)
    message = "READ_MEMORY of 2 words at 0x00008000 with an error: nothing is there"
    with pytest.raises(LinkError, match=message):
        bus.read_memory(MEMORY_BYTES, 8)
    with pytest.raises(LinkError, match="WRITE_MEMORY of 1 words at 0x00008000"):
        bus.write_memory(MEMORY_BYTES, bytes(4))
    with pytest.raises(LinkError, match="WRITE_REGISTERS of 1 words at 0x00000100"):
        bus.write_register(0x100, 0)
    assert bus.read_memory(MEMORY_BYTES - 8, 8) == board.read_memory(MEMORY_BYTES - 8, 8)


def test_a_machine_that_reads_where_nothing_is_stops_and_comes_back(board):
    bus = PreloadedBus(board)
    device, program = Device(bus), compile_small()
    images = draw_images(program)
    device.load(program)
    bus.write_register(address_of("program_address"), MEMORY_BYTES)
    with pytest.raises(DeviceError, match="stopped with error AXI_READ: the bus answered a read"):
        device.run(images)
    device.load(program)
    assert np.array_equal(device.run(images), program.simulate(images))


def test_the_simulation_says_why_it_ends():
    with SimulatedBoard(SMALL, memory_bytes=MEMORY_BYTES) as board:
        message = r"ended at 'echo': the memory has 32768 bytes: none at 32771"
        with pytest.raises(RuntimeError, match=message):
            board.read_memory(MEMORY_BYTES, 4)
