"""Print the cycles of networks on a simulated board, and what an image costs on the serial line.

ResNet-8 and ResNet-20, pruned to a quarter of their weights, on a whole system with memory on the
chip. Programs are put into the memory without the link; images and results go over it, bit by bit.
And on the accelerator with a board's SDRAM, behind the controller and the arbiter of its system.
"""

import argparse
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

import coprune
from coprune import zoo
from coprune.board_build import find_board
from coprune.data import cifar10
from coprune.prune import prune_pattern
from coprune.runtime import Device, LinkBus, PreloadedBus, SimulatedBoard
from coprune_hw.boards.ecp5_board import IO_REGISTERS
from coprune_hw.contract.link import Command
from coprune_hw.link.uart import FRAME_BITS
from coprune_sim.cosim import runner
from coprune_sim.cosim.board import BOARD_MEMORY
from coprune_sim.cosim.sdram import sdram_verilog

NETWORKS = {
    16: {"resnet8": "4:16", "resnet20": "4:16"},
    8: {"resnet8": "2:8", "resnet20-dense": "2:8"},
}
"""By lanes: the networks, and what they are pruned to. ResNet-20 has its 4:16 already."""

TIMEOUT_SECONDS = 3600


class CountingBoard(SimulatedBoard):
    """Counts requests, and the bytes of them and of their replies, by command."""

    def __init__(self, config: coprune.AcceleratorConfig) -> None:
        super().__init__(config)
        self.forget()

    def forget(self) -> None:
        self._command = None
        self.requests, self.sent, self.received = Counter(), Counter(), Counter()

    def write(self, content: bytes) -> None:
        # After sync and sequence number.
        self._command = Command(content[2])
        self.requests[self._command] += 1
        self.sent[self._command] += len(content)
        super().write(content)

    def read(self, size: int) -> bytes:
        content = super().read(size)
        self.received[self._command] += len(content)
        return content


class ImageBus(PreloadedBus):
    """Programs are loaded without the link; with `over_link` all else goes over it."""

    over_link = False

    def read_memory(self, address: int, size: int) -> bytes:
        return (LinkBus if self.over_link else PreloadedBus).read_memory(self, address, size)

    def write_memory(self, address: int, content: bytes) -> None:
        (LinkBus if self.over_link else PreloadedBus).write_memory(self, address, content)


def main() -> None:
    """Parse the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configs", nargs="*", default=["16x8", "8x16"], help="preset or TOML file")
    parser.add_argument("--baud", type=float, default=3e6)
    parser.add_argument("--sdram-of", default="ulx3s-85f", help="a board with SDRAM")
    arguments = parser.parse_args()
    sample = cifar10.load_sample()
    calibration = list(cifar10.normalize(sample.calibration.images).split(64))
    image = cifar10.normalize(sample.test.images)[:1]
    for name in arguments.configs:
        config = coprune.AcceleratorConfig.find(name)
        with CountingBoard(config) as board:
            for network, pattern in NETWORKS[config.lanes].items():
                model = zoo.build(network)
                prune_pattern(model, pattern)
                program = coprune.compile(model, config, calibration=calibration)
                print(f"{network} {pattern} on {Path(name).stem}:", flush=True)
                measure(program, image, board, baud=arguments.baud)
                measure_sdram(program, image, find_board(arguments.sdram_of))


def measure(program, image, board: CountingBoard, *, baud: float) -> None:
    """Run one image, and print what it took."""
    begin, begin_cycles = time.monotonic(), board.cycles
    bus = ImageBus(board)
    device = Device(bus, timeout_seconds=TIMEOUT_SECONDS)
    device.load(program)
    board.forget()
    bus.over_link = True
    is_equal = np.array_equal(device.run(image), program.simulate(image))
    listed = board.requests.copy(), board.sent.copy(), board.received.copy()
    machine = program.machine
    print(
        f"  outputs {'equal' if is_equal else 'NOT EQUAL'}, "
        f"{device.counters()['cycles']:,} cycles, "
        f"{program.cycles(BOARD_MEMORY).total.cycles:,} by the cycle model; program "
        f"{len(machine.image):,}, input {machine.input.size_bytes:,}, output "
        f"{machine.output.size_bytes:,} bytes"
    )
    requests, sent, received = listed
    for command in requests:
        milliseconds = 1000 * FRAME_BITS * (sent[command] + received[command]) / baud
        print(
            f"  {command.name}: {requests[command]} requests, {sent[command]:,} bytes and "
            f"{received[command]:,} back, {milliseconds:.2f} ms"
        )
    cycles = board.cycles - begin_cycles
    print(f"  {cycles:,} cycles simulated, {time.monotonic() - begin:.0f} s", flush=True)


def measure_sdram(program, image, board) -> None:
    """Run one image with a board's SDRAM, and print what it took."""
    machine = program.machine
    # Initialized before the host starts the machine, so that its counter of cycles is of work.
    chip = replace(board.chip, power_up_us=1.0)
    memory = sdram_verilog(
        machine.config, chip, 1e6 * board.clock_mhz, capture_delay=IO_REGISTERS, shared=True
    )
    run = runner.run(machine, list(program.quantize_input(image)), memory_verilog=memory)
    outputs = program.finish_output(
        np.stack([result.output for result in run.images]), integer=False
    )
    is_equal = np.array_equal(outputs, program.simulate(image))
    print(
        f"  with SDRAM at {board.clock_mhz:g} MHz: outputs {'equal' if is_equal else 'NOT EQUAL'}, "
        f"{run.images[0].counters['cycles']:,} cycles",
        flush=True,
    )


if __name__ == "__main__":
    main()
