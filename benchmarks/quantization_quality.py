"""Print the accuracy of ResNet-20 in float32, float16, int8 and with int4 weights.

On all 10,000 test images of CIFAR-10, dense and pruned to 4:16, with every observer, and with and
without equalization and bias correction; and of the dense network with the channels inside its
blocks scaled by factors of about e, which leaves what it computes in floats as it is. --traffic
prints how many cycles wait for weights instead, and what slots with 4-bit weights would change.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import nn

from coprune import prune, zoo
from coprune.compiler.float_graph import FloatGraph, evaluate
from coprune.compiler.frontend import export, lower
from coprune.data import cifar10
from coprune.program import count_cycles
from coprune.quantize import OBSERVERS, quantize
from coprune.quantize.half_precision import evaluate_half
from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.arithmetic import quantize as quantize_values
from coprune_hw.contract.slots import CONTROL_BITS
from coprune_sim.graph import IntegerGraph
from coprune_sim.inference import Simulator

BATCH = 250
SPREAD = 1.5
"""Standard deviation of the logarithms of the factors of badly scaled channels."""
NARROW_WEIGHT_BITS = 4
INDEX_BITS = 4
CORRECTIONS = (
    {},
    {"equalize": True},
    {"correct_bias": True},
    {"equalize": True, "correct_bias": True},
)
TRAFFIC_NETWORKS = (
    ("resnet20-dense", "dense"),
    ("resnet20", "4:16"),
    ("mobilenetv1", "dense"),
    ("mobilenetv1", "4:16"),
    ("mobilenetv2", "dense"),
    ("mobilenetv2", "4:16"),
)


def main() -> None:
    """Parse the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", help=f"of {', '.join(NETWORKS)}; else all")
    parser.add_argument("--cifar10", type=Path, help="folder cifar-10-batches-py")
    parser.add_argument("--images", type=int, default=10_000, help="of the test images")
    parser.add_argument("--traffic", action="store_true", help="cycles instead of accuracy")
    arguments = parser.parse_args()
    if arguments.traffic:
        print_traffic()
    else:
        names = arguments.networks or list(NETWORKS)
        print_accuracies(names, folder=arguments.cifar10, count=arguments.images)


def print_accuracies(names: list[str], *, folder: Path | None, count: int) -> None:
    """A line for each network and setting."""
    calibration = cifar10.normalize(cifar10.load_sample().calibration.images)
    test = cifar10.load_test(folder)
    images, labels = cifar10.normalize(test.images[:count]), test.labels[:count]
    print(f"{len(images):,} images; signal to noise of the output in dB")
    for name in names:
        model = NETWORKS[name]()
        graph = lower(export(model, image=tuple(images.shape[1:])))
        exact = float_outputs(graph, images)
        print_line(name, "float32", exact, exact=exact, labels=labels)
        half = float_outputs(graph, images, run=evaluate_half)
        print_line(name, "float16", half, exact=exact, labels=labels)
        for setting, options in settings():
            integers = quantize(model, list(calibration.split(64)), **options)
            outputs = integer_outputs(integers, images)
            print_line(name, setting, outputs, exact=exact, labels=labels)


def settings() -> Iterator[tuple[str, dict]]:
    """Names and options of `quantize`."""
    for bits in (None, NARROW_WEIGHT_BITS):
        for observer in OBSERVERS:
            for correction in CORRECTIONS:
                if observer != "mse" and (bits or correction):
                    continue
                name = " + ".join([f"int{bits or 8} {observer}", *correction])
                yield name, {"observer": observer, "weight_bits": bits, **correction}


def badly_scaled(model: nn.Module) -> nn.Module:
    """Multiply channels inside the blocks, and divide the weights that read them."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for block in (*model.layer1, *model.layer2, *model.layer3):
            factors = torch.randn(block.bn1.num_features, generator=generator).mul(SPREAD).exp()
            block.bn1.weight *= factors
            block.bn1.bias *= factors
            block.conv2.weight /= factors.view(1, -1, 1, 1)
    return model


@torch.inference_mode()
def float_outputs(graph: FloatGraph, images: torch.Tensor, *, run=evaluate) -> np.ndarray:
    """Outputs [N, classes] of a float graph."""
    batches = []
    for batch in images.split(BATCH):
        *_, (_, outputs) = run(graph, batch)
        batches.append(outputs.flatten(1).numpy())
    return np.concatenate(batches)


def integer_outputs(graph: IntegerGraph, images: torch.Tensor) -> np.ndarray:
    """Outputs [N, classes] of an integer graph, as real numbers but for the zero point."""
    simulator = Simulator(graph)
    batches = []
    for batch in images.split(BATCH):
        pixels = quantize_values(batch, scale=graph.input.scale, zero=graph.input.zero)
        batches.append(simulator.run(pixels.to(torch.int8).numpy()).reshape(len(batch), -1))
    return graph.output.scale * (np.concatenate(batches).astype(np.float64) - graph.output.zero)


def print_line(
    name: str, setting: str, outputs: np.ndarray, *, exact: np.ndarray, labels: np.ndarray
) -> None:
    """Accuracy, and noise of the outputs."""
    accuracy = 100 * float(np.mean(outputs.argmax(axis=1) == labels))
    noise = float(np.mean((outputs - exact) ** 2))
    decibels = f"{10 * np.log10(np.mean(exact**2) / noise):6.2f}" if noise else "     -"
    print(f"{name:20} {setting:36} {accuracy:6.2f} %  {decibels}", flush=True)


def print_traffic() -> None:
    """Cycles that wait for weights, and without the weight bits that 4-bit weights do not need."""
    preset = AcceleratorConfig.preset("16x16")
    config = replace(preset, activation_depth=2048)
    slot_bytes = (preset.lanes * (NARROW_WEIGHT_BITS + INDEX_BITS) + CONTROL_BITS) // 8
    print(
        f"{preset.name}, bus of {preset.bus_bits} bits; slots of {slot_bytes} bytes instead of 27\n"
        f"{'network':15} {'weights':7} {'cycles':>8} {'wait for weights':>16} "
        f"{'narrow slots':>12} {'bus of 128 bits':>15}"
    )
    for name, pattern in TRAFFIC_NETWORKS:
        graph = random_graph(name, pruned=pattern != "dense" and name != "resnet20")
        table = count_cycles(graph, config)
        waits = sum(layer.waits["weights"] for layer in table.layers)
        cycles = table.total.cycles
        # LOAD would unpack slots on their way to a slot memory that stays as it is.
        with mock.patch("coprune_hw.contract.work.slot_bytes", return_value=slot_bytes):
            narrow = count_cycles(graph, config).total.cycles
        wide = count_cycles(graph, replace(config, bus_bits=128)).total.cycles
        print(
            f"{name:15} {pattern:7} {cycles:8,} {waits:8,} {waits / cycles:7.1%} "
            f"{narrow:12,} {wide:15,}",
            flush=True,
        )


def random_graph(name: str, *, pruned: bool) -> IntegerGraph:
    """The integer graph of a network, calibrated on a few random images."""
    model = zoo.build(name)
    if pruned:
        prune.prune_pattern(model, "4:16")
    images = torch.randn(16, *model.input_shape, generator=torch.Generator().manual_seed(0))
    return quantize(model, [images])


NETWORKS = {
    "dense": lambda: zoo.build("resnet20-dense"),
    "4:16": lambda: zoo.build("resnet20"),
    "badly-scaled": lambda: badly_scaled(zoo.build("resnet20-dense")),
}


if __name__ == "__main__":
    main()
