"""The driver on simulated RTL."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from coprune.runtime import Device, DeviceError
from coprune_hw.contract import CONTRACT_VERSION
from coprune_hw.contract.registers import address_of

from ..end_to_end.configurations import SMALL
from .programs import draw_images, small_program


def test_outputs_and_counters_are_those_of_the_program(bus):
    device = Device(bus)
    for name in ("odd", "strided"):
        program = small_program(name)
        images = draw_images(program)
        device.load(program)
        expected = program.simulate(images, integer=True)
        assert np.array_equal(device.run(images, integer=True), expected)
        assert np.array_equal(device.run(images), program.simulate(images))
        table = program.cycles()
        assert device.counters()["cycles"] == table.total.cycles
        marks = [layer["cycles"] for layer in device.layer_counters().values()]
        assert np.diff(marks, prepend=0).tolist() == [layer.cycles for layer in table.layers]


def test_an_error_is_told_and_a_reset_brings_the_device_back(bus):
    device, program = Device(bus), small_program()
    images = draw_images(program, count=1)
    device.load(program)
    bus.write_register(address_of("program_bytes"), len(program.machine.image) // 2)
    with pytest.raises(DeviceError, match="stopped with error ADDRESS: an instruction reaches"):
        device.run(images)
    device.load(program)
    assert np.array_equal(device.run(images), program.simulate(images))


def test_refuses_a_program_of_another_accelerator(bus):
    program = small_program(config=replace(SMALL, slot_depth=2 * SMALL.slot_depth))
    with pytest.raises(DeviceError, match=r"the program is for 8x4 .* differs from it"):
        Device(bus).load(program)


def test_refuses_a_program_that_the_memory_does_not_hold(bus, monkeypatch):
    monkeypatch.setattr(bus, "memory_bytes", 100)
    with pytest.raises(DeviceError, match="bytes, but the memory has 100"):
        Device(bus).load(small_program())


def test_run_needs_a_program(bus):
    with pytest.raises(DeviceError, match="no program is loaded: call load first"):
        Device(bus).run(torch.zeros(1, 1, 1, 1))


class Silent:
    """A bus behind which there is something else, or a machine that never ends."""

    memory_address, memory_bytes = 0, 1 << 20

    def __init__(self, **registers):
        self._registers = {address_of(name): value for name, value in registers.items()}

    def read_register(self, address):
        return self._registers.get(address, 0)

    def write_register(self, address, value):
        pass

    def wait(self):
        pass


def test_says_when_nothing_answers():
    with pytest.raises(DeviceError, match="no accelerator answers: the identity register is 0x0"):
        Device(Silent())


def test_says_when_the_accelerator_is_of_another_contract():
    identity = int.from_bytes(b"COPR", "little")
    with pytest.raises(DeviceError, match=f"contract version 1, this driver of {CONTRACT_VERSION}"):
        Device(Silent(identity=identity, version=1))


def test_does_not_wait_for_ever():
    identity = int.from_bytes(b"COPR", "little")
    running = Silent(identity=identity, version=CONTRACT_VERSION, status=1)
    message = r"did not come to rest within 0\.1 s: its state is RUNNING"
    with pytest.raises(DeviceError, match=message):
        Device(running, timeout_seconds=0.1).reset()
