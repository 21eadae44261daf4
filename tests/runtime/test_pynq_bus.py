"""The driver through PYNQ, whose stand-in has simulated RTL behind it."""

import sys

import numpy as np
import pytest

from coprune.runtime import Device, PynqBus

from .programs import draw_images, small_program
from .simulated_pynq import Buffer, Mmio, make_pynq


@pytest.fixture
def pynq_bus(bus, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynq", make_pynq(bus))
    return PynqBus(Mmio(bus), memory_bytes=1 << 20)


def test_outputs_are_those_of_the_program(pynq_bus):
    device = Device(pynq_bus)
    for name in ("odd", "strided"):
        program = small_program(name)
        images = draw_images(program)
        device.load(program)
        expected = program.simulate(images, integer=True)
        assert np.array_equal(device.run(images, integer=True), expected)
        assert device.counters()["cycles"] == program.cycles().total.cycles


@pytest.mark.parametrize("forgotten", ["flush", "invalidate"])
def test_the_stand_in_has_a_cache(pynq_bus, monkeypatch, forgotten):
    program = small_program()
    images = draw_images(program, count=1)
    device = Device(pynq_bus)
    device.load(program)
    monkeypatch.setattr(Buffer, forgotten, lambda buffer: None)
    expected = program.simulate(images, integer=True)
    assert not np.array_equal(device.run(images, integer=True), expected)


def test_writes_and_reads_a_part_of_the_memory(pynq_bus):
    address = pynq_bus.memory_address
    pynq_bus.write_memory(address + 64, bytes(range(16)))
    assert pynq_bus.read_memory(address + 68, 4) == bytes([4, 5, 6, 7])


@pytest.mark.parametrize(("offset", "size"), [(-1, 1), (1 << 20, 1), (100, 1 << 20)])
def test_refuses_what_is_outside_of_the_memory(pynq_bus, offset, size):
    with pytest.raises(ValueError, match="are not in the memory of the bus, 1,048,576 bytes at"):
        pynq_bus.read_memory(pynq_bus.memory_address + offset, size)


def test_needs_pynq(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynq", None)
    with pytest.raises(ImportError, match="pynq"):
        PynqBus(registers=None)
