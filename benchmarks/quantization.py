"""Print the accuracy of ResNet-20 on all 10,000 CIFAR-10 test images, quantized in several ways.

`coprune.quantize.quantize`, and torchao's PT2E flow with the accelerator's quantizer, each with all
ways to choose ranges; and the XNNPACK quantizer that torchao has for its own tests. "same as
simulation" holds the integer network against PyTorch's float simulation of it.
"""

import argparse
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import Quantizer
from torchao.testing.pt2e._xnnpack_quantizer import (
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)

from coprune import zoo
from coprune.data import cifar10
from coprune.quantize import OBSERVERS, quantize
from coprune.quantize.pt2e import AcceleratorQuantizer
from coprune_hw.contract import arithmetic
from coprune_sim.graph import IntegerGraph
from coprune_sim.inference import Simulator

BATCH = 250
PATTERNS = {"dense": "resnet20-dense", "4:16": "resnet20"}


def main() -> None:
    """Parse the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cifar10", type=Path, help="folder cifar-10-batches-py")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    calibration = list(cifar10.normalize(cifar10.load_sample().calibration.images).split(64))
    test = cifar10.load_test(arguments.cifar10)
    images = list(cifar10.normalize(test.images).split(BATCH))
    print(f"{len(test):,} images{'':26} accuracy  same as float  same as simulation")
    for pattern, name in PATTERNS.items():
        print_network(
            pattern,
            zoo.build(name).eval(),
            calibration=calibration,
            images=images,
            labels=test.labels,
        )


@torch.inference_mode()
def print_network(
    pattern: str,
    model: nn.Module,
    *,
    calibration: Sequence[torch.Tensor],
    images: Sequence[torch.Tensor],
    labels: np.ndarray,
) -> None:
    """A line for each way to quantize a network."""
    exact = classes(model, images)

    def show(way: str, found: np.ndarray, simulated: np.ndarray | None = None) -> None:
        same = "" if simulated is None else f"{percentage(found == simulated):17.2f} %"
        print(
            f"{pattern:5} {way:34} {percentage(found == labels):6.2f} % "
            f"{percentage(found == exact):12.2f} % {same}",
            flush=True,
        )

    show("float", exact)
    for observer in OBSERVERS:
        graph = quantize(model, calibration, observer=observer)
        show(f"quantize(), {observer}", classes(integer(graph), images))
    quantizers: dict[str, Quantizer] = {
        f"AcceleratorQuantizer, {observer}": AcceleratorQuantizer(observer=observer)
        for observer in OBSERVERS
    }
    quantizers["XNNPACKQuantizer"] = XNNPACKQuantizer().set_global(
        get_symmetric_quantization_config(is_per_channel=True)
    )
    for way, quantizer in quantizers.items():
        simulation = simulate(model, quantizer, calibration=calibration)
        show(
            f"PT2E, {way}",
            classes(integer(quantize(simulation)), images),
            classes(simulation, images),
        )


def simulate(
    model: nn.Module, quantizer: Quantizer, *, calibration: Sequence[torch.Tensor]
) -> GraphModule:
    """The float simulation of a network that PT2E quantized."""
    batch = torch.export.Dim("batch", min=1)
    with torch.inference_mode(False):
        program = torch.export.export(model, (calibration[0],), dynamic_shapes=({0: batch},))
        prepared = prepare_pt2e(program.module(), quantizer)
    for each in calibration:
        prepared(each)
    with torch.inference_mode(False):
        return convert_pt2e(prepared)


def integer(graph: IntegerGraph) -> Callable[[torch.Tensor], torch.Tensor]:
    """The integer network, for real images."""
    simulator = Simulator(graph)
    grid = {"scale": graph.input.scale, "zero": graph.input.zero}

    def run(images: torch.Tensor) -> torch.Tensor:
        integers = arithmetic.quantize(images, **grid).to(torch.int8)
        return torch.from_numpy(simulator.run(integers).reshape(len(images), -1))

    return run


def classes(
    run: Callable[[torch.Tensor], torch.Tensor], images: Sequence[torch.Tensor]
) -> np.ndarray:
    """The class of every image."""
    return torch.cat([run(batch).argmax(dim=1) for batch in images]).numpy()


def percentage(hits: np.ndarray) -> float:
    """How many are true."""
    return 100 * float(np.mean(hits))


if __name__ == "__main__":
    main()
