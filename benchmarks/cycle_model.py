"""Print what the cycle model costs, and with --rtl how far it is from the RTL: 0 cycles."""

import argparse
import itertools
import time
from dataclasses import replace

import numpy as np

from coprune import prune, zoo
from coprune.compiler.lowering import plan
from coprune.data import cifar10
from coprune.program import compile_graph
from coprune.quantize import quantize
from coprune_hw.contract import AcceleratorConfig
from coprune_sim.cosim import runner
from coprune_sim.cycle_model import MemoryModel, count_cycles
from coprune_sim.graph import IntegerGraph, Layer, Source, Tensor

PATTERNS = ("dense", "2:16", "4:16", "8:16", "unstructured 75 %")
PRESETS = ("8x8", "16x8", "16x16")
BUSES = (64, 128)
LATENCIES = (0, 20, 100)


def main() -> None:
    """Parse the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rtl", action="store_true", help="compare all 90 ResNet-20 with the RTL")
    parser.add_argument("--repetitions", type=int, default=7)
    arguments = parser.parse_args()
    accelerator = AcceleratorConfig.preset("16x16")
    for pattern in ("4:16", "dense"):
        graph = resnet20(pattern)
        print_time(f"ResNet-20 {pattern}", graph, accelerator, repetitions=arguments.repetitions)
    large = replace(accelerator, activation_depth=4096, slot_depth=16384)
    for density in (0.25, 1.0):
        graph = wide_resnet(density=density)
        print_time(
            f"WideResNet-28-9, density {density}",
            graph,
            large,
            repetitions=arguments.repetitions,
        )
    if arguments.rtl:
        compare()


def print_time(
    name: str, graph: IntegerGraph, accelerator: AcceleratorConfig, *, repetitions: int
) -> None:
    """Time planning (placement and schedule) and the model itself; the best of several."""
    planning, counting = [], []
    for _ in range(repetitions):
        begin = time.perf_counter()
        workload = plan(graph, accelerator).workload
        planned = time.perf_counter()
        timing = count_cycles(workload)
        counting.append(time.perf_counter() - planned)
        planning.append(planned - begin)
    print(
        f"{name}: {sum(layer.macs for layer in graph.layers) / 1e9:.2f} G MAC, "
        f"{len(workload.instructions):,} instructions, {timing.cycles:,} cycles; "
        f"model {1000 * min(counting):.0f} ms, planning before it {1000 * min(planning):.0f} ms"
    )


def compare() -> None:
    """Print model minus RTL, the largest of all counters at all layer marks."""
    print("network, pattern, geometry, bus, latency: cycles; model minus RTL at the worst mark")
    worst = 0
    for pattern in PATTERNS:
        graph = resnet20(pattern)
        for preset, bus_bits in itertools.product(PRESETS, BUSES):
            config = replace(AcceleratorConfig.preset(preset), bus_bits=bus_bits)
            machine = compile_graph(graph, config).machine
            for latency in LATENCIES:
                difference, cycles = largest_difference(machine, latency=latency)
                worst = max(worst, abs(difference))
                print(
                    f"ResNet-20 {pattern:17} {preset:5} {bus_bits:3} bits {latency:3}: "
                    f"{cycles:9,} cycles; {difference:+d}",
                    flush=True,
                )
    print(f"largest difference of any counter at any mark: {worst}")


def largest_difference(machine, *, latency: int) -> tuple[int, int]:
    """Model minus RTL where that is furthest from 0, and the cycles of the RTL."""
    image = np.zeros((machine.input.channels, machine.input.height, machine.input.width), np.int8)
    measured = runner.run_cpp(machine, [image], latency=latency).images[0]
    timing = count_cycles(machine, MemoryModel(latency, latency))
    differences = [
        marks[name] - mark[name]
        for marks, mark in zip(
            [*(layer.marks for layer in timing.layers), timing.counters],
            [*measured.marks, measured.counters],
            strict=True,
        )
        for name in timing.counters
    ]
    return max(differences, key=abs), measured.counters["cycles"]


def resnet20(pattern: str) -> IntegerGraph:
    """ResNet-20 with weights pruned by magnitude, without tuning: only its cycles matter."""
    model = zoo.build("resnet20-dense")
    if pattern.endswith(":16"):
        prune.prune_pattern(model, pattern)
    elif pattern != "dense":
        prune.prune_weights(model, sparsity=0.75, scope="local")
    images = cifar10.normalize(cifar10.load_sample().calibration.images[:32])
    return quantize(model, [images], accumulator_bits=32)


def wide_resnet(*, density: float, width: int = 9) -> IntegerGraph:
    """WideResNet-28 for 32 x 32 pixels with random weights: Zagoruyko and Komodakis, 2016."""
    rng = np.random.default_rng(0)
    tensors = {"input": Tensor("input", 3, 32, 32, scale=1.0, zero=0)}
    layers: list[Layer] = []

    def conv(tensor: str, channels: int, kernel: int = 3, *, stride: int = 1) -> Source:
        shape = (channels, tensors[tensor].channels, kernel, kernel)
        weight = np.where(rng.random(shape) < density, rng.integers(1, 8, shape), 0)
        padding = (kernel // 2, kernel // 2)
        return Source(tensor, weight.astype(np.int16), stride=stride, padding=padding)

    def identity(tensor: str) -> Source:
        channels = tensors[tensor].channels
        return Source(tensor, np.ones((channels, 1, 1, 1), np.int16), groups=channels)

    def add(*sources: Source) -> str:
        channels, size = len(sources[0].weight), tensors[sources[0].tensor].height
        size //= sources[0].stride
        name = f"layer{len(layers)}"
        tensors[name] = Tensor(name, channels, size, size, scale=1.0, zero=0)
        constants = {
            field: np.full(channels, value)
            for field, value in (("bias", 0), ("multiplier", 1 << 16), ("pre_shift", 8))
        }
        layers.append(
            Layer(
                name=name,
                operation="conv2d",
                output=tensors[name],
                sources=sources,
                post_shift=np.full(channels, 16),
                low=0,
                high=127,
                **constants,
            )
        )
        return name

    x = add(conv("input", 16))
    for stage, channels in enumerate((16 * width, 32 * width, 64 * width)):
        for block in range(4):
            stride = 2 if stage and not block else 1
            y = add(conv(x, channels, stride=stride))
            x = add(
                conv(y, channels), identity(x) if block else conv(x, channels, 1, stride=stride)
            )
    return IntegerGraph(tensors["input"], tuple(layers))


if __name__ == "__main__":
    main()
