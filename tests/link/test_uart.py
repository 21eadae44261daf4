"""UART: bytes through a line and back, also where clocks differ."""

import pytest
from amaranth.hdl import *
from amaranth.sim import Simulator

from coprune_hw.link.uart import UartReceiver, UartTransmitter

BYTES = [0x00, 0xFF, 0x55, 0xA5, 0x01, 0x80]


def receive(line_bits, *, divisor):
    """Bytes that a receiver finds in a line, sampled once a clock cycle."""
    dut = UartReceiver(divisor)
    found = []

    async def drive(context):
        for bit in line_bits:
            context.set(dut.line, bit)
            _, _, valid, byte = await context.tick().sample(dut.o.valid, dut.o.payload)
            if valid:
                found.append(byte)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    simulator.run()
    return found


def line_of(content, *, bit_cycles, stop=1):
    """The line that says some bytes; `bit_cycles` may be a fraction."""
    bits = [1]
    for byte in content:
        bits += [0, *((byte >> bit) & 1 for bit in range(8)), stop, 1]
    cycles = round(len(bits) * bit_cycles)
    return [bits[int(cycle / bit_cycles)] for cycle in range(cycles)] + 4 * round(bit_cycles) * [1]


@pytest.mark.parametrize("divisor", [4, 5, 16])
@pytest.mark.parametrize("error", [0.97, 1.0, 1.03])
def test_receives_bytes_of_a_clock_that_differs(divisor, error):
    line = line_of(BYTES, bit_cycles=divisor * error)
    assert receive(line, divisor=divisor) == BYTES


def test_leaves_out_a_byte_without_a_stop_bit():
    line = line_of([0x12], bit_cycles=8, stop=0) + line_of(BYTES, bit_cycles=8)
    assert receive(line_of([0x12], bit_cycles=8), divisor=8) == [0x12]
    assert receive(line, divisor=8) == BYTES


@pytest.mark.parametrize("divisor", [1, 4, 9])
def test_transmits_what_it_is_given(divisor):
    dut = UartTransmitter(divisor)
    line = []

    async def drive(context):
        for byte in BYTES:
            context.set(dut.i.payload, byte)
            context.set(dut.i.valid, 1)
            await context.tick().until(dut.i.ready)
        context.set(dut.i.valid, 0)
        await context.tick().repeat(12 * divisor)

    async def record(context):
        while True:
            _, _, bit = await context.tick().sample(dut.line)
            line.append(bit)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    simulator.add_testbench(record, background=True)
    simulator.run()
    for byte in BYTES:
        begin = line.index(0)
        middle = line[begin + divisor // 2 :: divisor][:10]
        assert middle == [0, *((byte >> bit) & 1 for bit in range(8)), 1]
        line = line[begin + 9 * divisor :]


def test_refuses_a_clock_that_is_too_slow():
    with pytest.raises(ValueError, match="divisor must be at least 4 clock cycles of a bit, not 3"):
        UartReceiver(3)
