"""Print what the networks of the zoo cost on 16 x 8 multipliers; with --accuracy, their accuracy.

--rtl measures the cycles on the RTL, too. The accuracy is that of all 10,000 test images; it needs
CIFAR-10, Fashion-MNIST and the public checkpoints (see --help).
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

import coprune
from coprune import prune, zoo
from coprune.data import LabelledImages, cifar10, fashion_mnist
from coprune.program import compile_graph, count_cycles
from coprune.quantize import quantize
from coprune.results import CycleTable
from coprune_hw.contract import AcceleratorConfig
from coprune_sim.graph import IntegerGraph

PRESET = AcceleratorConfig.preset("16x8")
LARGER = replace(PRESET, activation_depth=2048)
LARGEST = replace(LARGER, slot_depth=16384)
CONFIGS = (PRESET, LARGER, LARGEST)
"""A network runs on the first one that it fits with dense weights."""
PATTERNS = ("dense", "4:16")
CALIBRATION_IMAGES = 16
"""For cycles, which depend on the weights only; accuracy is measured with 256."""
BATCH = 250
SHARED = Path(__file__).parents[2] / "shared" / "data"
CHECKPOINTS = {
    "resnet20": "resnet20-12fca82f.th",
    "resnet32": "resnet32-d509ac18.th",
    "resnet44": "resnet44-014dd654.th",
    "resnet56": "resnet56-4bfd9763.th",
}
"""Of github.com/akamaster/pytorch_resnet_cifar10."""


def main() -> None:
    """Parse the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", help="whose cycles; else all")
    parser.add_argument("--rtl", action="store_true", help="measure the cycles on the RTL, too")
    parser.add_argument("--accuracy", action="store_true", help="measure accuracy, not cycles")
    parser.add_argument("--cifar10", type=Path, help="folder cifar-10-batches-py")
    parser.add_argument("--fashion-mnist", type=Path, help="folder of the four IDX files")
    parser.add_argument(
        "--checkpoints",
        type=Path,
        default=SHARED / "akamaster-resnet-cifar10",
        help=f"folder of {', '.join(CHECKPOINTS.values())}",
    )
    parser.add_argument(
        "--resnet8",
        type=Path,
        default=SHARED / "mlperf-tiny-resnet8" / "float_weights.npz",
        help="weights for coprune.zoo.load_mlperf_tiny",
    )
    arguments = parser.parse_args()
    if arguments.accuracy:
        print_accuracies(arguments)
    else:
        print_cycles(arguments.networks or zoo.names(), rtl=arguments.rtl)


def print_cycles(names: list[str], *, rtl: bool) -> None:
    """A line for each network and pattern of its weights."""
    print(
        f"{'network':19} pattern {'MACs':>11} {'cycles':>10} {'floor':>10} limit        use dw use"
    )
    for name in names:
        config = find_config(random_graph(name, pattern="dense"))
        for pattern in PATTERNS:
            graph = random_graph(name, pattern=pattern)
            table = count_cycles(graph, config)
            total = table.total
            depthwise = depthwise_use(graph, table, config=config)
            print(
                f"{name:19} {pattern:7} {total.macs:11,} {total.cycles:10,} "
                f"{total.floor_cycles:10,} {total.limit:11} {total.multiplier_use:.3f} "
                f"{'     -' if depthwise is None else f'{depthwise:6.3f}'}"
                f"{measured(graph, config, table) if rtl else ''}{difference(config)}",
                flush=True,
            )


def find_config(graph: IntegerGraph) -> AcceleratorConfig:
    """The first of `CONFIGS` that a network fits."""
    for config in CONFIGS:
        try:
            count_cycles(graph, config)
        except ValueError as error:
            refused = error
        else:
            return config
    raise refused


def difference(config: AcceleratorConfig) -> str:
    """What differs from the preset."""
    preset = PRESET.to_dict()
    changed = [(name, value) for name, value in config.to_dict().items() if preset[name] != value]
    return "".join(f"  {name} {value}" for name, value in changed)


def random_graph(name: str, *, pattern: str) -> IntegerGraph:
    """The integer graph of a network, calibrated on normally distributed images."""
    model = zoo.build(name)
    if pattern != "dense":
        prune.prune_pattern(model, "4:16")
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(CALIBRATION_IMAGES, *model.input_shape, generator=generator)
    return quantize(model, [images], accumulator_bits=PRESET.accumulator_bits)


def depthwise_use(
    graph: IntegerGraph, table: CycleTable, *, config: AcceleratorConfig
) -> float | None:
    """Use of the multipliers in all depthwise convolutions together; None without any."""
    names = {
        layer.name
        for layer in graph.layers
        if layer.operation == "conv2d" and layer.sources[0].groups > 1
    }
    layers = [layer for layer in table.layers if layer.name in names]
    if not layers:
        return None
    cycles = sum(layer.cycles for layer in layers)
    return sum(layer.nonzero_macs for layer in layers) / (config.multipliers * cycles)


def measured(graph: IntegerGraph, config: AcceleratorConfig, table: CycleTable) -> str:
    """What the RTL's counter says."""
    _, cycles = compile_graph(graph, config).measure_cycles()
    return f"  RTL {cycles:,} ({cycles - table.total.cycles:+d})"


def print_accuracies(arguments: argparse.Namespace) -> None:
    """A line for each trained network; missing data are named."""
    for prepare in (cifar10_networks, resnet8_network, fashion_mnist_network):
        try:
            for name, model, calibration, test, images in prepare(arguments):
                print_accuracy(name, model, calibration=calibration, test=test, images=images)
        except FileNotFoundError as error:
            print(f"skipped: {error}")


Trained = tuple[str, nn.Module, torch.Tensor, LabelledImages, torch.Tensor]
"""Name, network, calibration images, test images as they are, and as the network takes them."""


def cifar10_networks(arguments: argparse.Namespace) -> Iterator[Trained]:
    """The public ResNets, the 4:16 one, and MobileNetV2."""
    calibration = cifar10.normalize(cifar10.load_sample().calibration.images)
    test = cifar10.load_test(arguments.cifar10)
    images = cifar10.normalize(test.images)
    for name, checkpoint in CHECKPOINTS.items():
        model = zoo.build(name, weights=arguments.checkpoints / checkpoint)
        yield name, model, calibration, test, images
    yield "resnet20 4:16", zoo.build("resnet20"), calibration, test, images
    yield "mobilenetv2-cifar10", zoo.build("mobilenetv2-cifar10"), calibration, test, images


def resnet8_network(arguments: argparse.Namespace) -> Iterator[Trained]:
    """ResNet-8 with the weights of MLPerf Tiny, for pixels from 0 to 255."""
    model = zoo.build("resnet8", weights=arguments.resnet8)
    calibration = torch.from_numpy(cifar10.load_sample().calibration.images).float()
    test = cifar10.load_test(arguments.cifar10)
    yield "resnet8", model, calibration, test, torch.from_numpy(test.images).float()


def fashion_mnist_network(arguments: argparse.Namespace) -> Iterator[Trained]:
    """LeNet-5."""
    calibration = fashion_mnist.normalize(fashion_mnist.load_sample().calibration.images)
    test = fashion_mnist.load_test(arguments.fashion_mnist)
    yield "lenet5", zoo.build("lenet5"), calibration, test, fashion_mnist.normalize(test.images)


@torch.inference_mode()
def print_accuracy(
    name: str,
    model: nn.Module,
    *,
    calibration: torch.Tensor,
    test: LabelledImages,
    images: torch.Tensor,
) -> None:
    """Print accuracy in float and in int8 on all test images."""
    program = coprune.compile(model, PRESET, calibration=list(calibration.split(64)))
    accuracies = []
    for run in (lambda batch: model(batch).numpy(), program.simulate):
        answers = np.concatenate([run(batch).argmax(axis=1) for batch in images.split(BATCH)])
        accuracies.append(100 * float(np.mean(answers == test.labels)))
    exact, quantized = accuracies
    print(
        f"{name:19} {len(test):,} images: float {exact:.2f} %, int8 {quantized:.2f} %, "
        f"difference {quantized - exact:+.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
