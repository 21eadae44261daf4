"""The driver: loads a program, runs images, reads counters."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from amaranth.lib import data

from coprune.program import Program
from coprune.runtime.bus import Bus
from coprune_hw.contract import CONTRACT_VERSION
from coprune_hw.contract.layout import decode, encode
from coprune_hw.contract.registers import (
    COUNTERS,
    ERROR_MEANING,
    IDENTITY,
    Control,
    ErrorCode,
    Geometry,
    State,
    Status,
    address_of,
)

if TYPE_CHECKING:
    import torch

PAGE_BYTES = 4096


class DeviceError(RuntimeError):
    """The accelerator is another one than the program's, stopped with an error, or hangs."""


class Device:
    """An accelerator behind a bus.

    Parameters
    ----------
    bus
    timeout_seconds
        Longest time for an image.

    Raises
    ------
    DeviceError
        No accelerator of this contract answers.
    """

    def __init__(self, bus: Bus, *, timeout_seconds: float = 10.0) -> None:
        self._bus = bus
        self._timeout_seconds = timeout_seconds
        self._program: Program | None = None
        identity, version = self._read("identity"), self._read("version")
        if identity != IDENTITY:
            raise DeviceError(
                f"no accelerator answers: the identity register is {identity:#010x}, "
                f"not {IDENTITY:#010x}"
            )
        if version != CONTRACT_VERSION:
            raise DeviceError(
                f"the accelerator is of contract version {version}, this driver of "
                f"{CONTRACT_VERSION}: build it anew"
            )

    def load(self, program: Program) -> None:
        """Bring the machine to rest, and write a program to the memory.

        Raises
        ------
        DeviceError
            It was compiled for another accelerator, or is too large for the memory.
        """
        config = program.config
        if self._read("geometry_hash") != config.geometry_hash:
            geometry = decode(data.Layout.cast(Geometry), self._read("geometry"))
            raise DeviceError(
                f"the program is for {config.name} with a bus of {config.bus_bits} bits, and the "
                f"accelerator, {geometry['lanes']}x{geometry['columns']} with "
                f"{8 * geometry['bus_bytes']} bits, differs from it, be it in the depth of a "
                f"memory: compile the network for the configuration that the bitstream has"
            )
        image, memory_bytes = program.machine.image, self._bus.memory_bytes
        if len(image) > memory_bytes:
            raise DeviceError(
                f"the program takes {len(image):,} bytes, but the memory has {memory_bytes:,}"
            )
        if self._bus.memory_address % PAGE_BYTES:
            raise DeviceError(
                f"the memory must begin at a multiple of {PAGE_BYTES}, "
                f"not at {self._bus.memory_address:#x}"
            )
        self.reset()
        self._bus.write_memory(self._bus.memory_address, image)
        self._write("program_address", self._bus.memory_address)
        self._write("program_bytes", len(image))
        self._write("interrupt_enable", 1)
        self._program = program

    def run(self, x: torch.Tensor | np.ndarray, *, integer: bool = False) -> np.ndarray:
        """Run the network on float32 images [N, C, H, W], one after the other.

        Returns
        -------
        float32 array [N, *output_shape], dequantized; with `integer` as `Program.simulate` has it.

        Raises
        ------
        DeviceError
            Nothing is loaded, or the accelerator stopped with an error or takes too long.
        """
        if self._program is None:
            raise DeviceError("no program is loaded: call load first")
        machine = self._program.machine
        outputs = []
        for pixels in self._program.quantize_input(x):
            self._bus.write_memory(
                self._bus.memory_address + machine.input.offset, machine.input.pack(pixels)
            )
            self._run_image()
            output = self._bus.read_memory(
                self._bus.memory_address + machine.output.offset, machine.output.size_bytes
            )
            outputs.append(machine.output.unpack(output))
        if not outputs:
            raise ValueError("x must have at least one image")
        return self._program.finish_output(np.stack(outputs), integer=integer)

    def counters(self) -> dict[str, int]:
        """Return the counters of the last image by name."""
        return {name: self._read(name) for name in COUNTERS}

    def layer_counters(self) -> dict[str, dict[str, int]]:
        """Return the counters as they were when each layer of the last image was complete."""
        if self._program is None:
            raise DeviceError("no program is loaded: call load first")
        layers = {}
        for record in self._program.machine.layers:
            self._write("mark_select", record.mark)
            layers[record.name] = {name: self._read(f"mark_{name}") for name in COUNTERS}
        return layers

    def reset(self) -> None:
        """Bring the machine to rest, also after an error."""
        self._command("reset")
        self._await(lambda status: status["state"] == State.IDLE, what="come to rest")

    def _run_image(self) -> None:
        self._command("start")
        status = self._await(
            lambda status: status["state"] in (State.DONE, State.ERROR), what="end an image"
        )
        self._command("acknowledge")
        if status["state"] == State.ERROR:
            error = ErrorCode(status["error"])
            raise DeviceError(
                f"the accelerator stopped with error {error.name}: {ERROR_MEANING[error]}; "
                "reset brings it back"
            )

    def _await(self, is_reached, *, what: str) -> dict[str, int]:
        deadline = time.monotonic() + self._timeout_seconds
        while True:
            status = decode(data.Layout.cast(Status), self._read("status"))
            if is_reached(status):
                return status
            if time.monotonic() > deadline:
                raise DeviceError(
                    f"the accelerator did not {what} within {self._timeout_seconds:g} s: its state "
                    f"is {State(status['state']).name}, its bus is "
                    f"{'busy' if status['bus_busy'] else 'quiet'}"
                )
            self._bus.wait()

    def _command(self, name: str) -> None:
        layout = data.Layout.cast(Control)
        word = encode(layout, {field: int(field == name) for field, _ in layout})
        self._write("control", word)

    def _read(self, name: str) -> int:
        return self._bus.read_register(address_of(name))

    def _write(self, name: str, value: int) -> None:
        self._bus.write_register(address_of(name), value)
