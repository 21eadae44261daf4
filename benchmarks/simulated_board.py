"""Print the cycles of networks on a simulated board, and what an image costs on the serial line.

ResNet-8 and ResNet-20, pruned to a quarter of their weights, on a whole system with memory on the
chip. Programs are put into the memory without the link; images and results go over it, bit by bit.
"""

import argparse
import time
from collections import Counter
from pathlib import Path

import numpy as np

import coprune
from coprune import zoo
from coprune.data import cifar10
from coprune.prune import prune_pattern
from coprune.runtime import Device, LinkBus, PreloadedBus, SimulatedBoard
from coprune_hw.contract.link import Command
from coprune_hw.link.uart import FRAME_BITS
from coprune_sim.cosim.board import BOARD_MEMORY

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


if __name__ == "__main__":
    main()
