"""What 12 bits in a diagonal slot are worth: MobileNetV2 with 12-bit and with 8-bit weights there.

Depthwise weights and shortcuts are in diagonal slots, whose index bits widen the weight. Printed
are the accuracy on all 10,000 test images of CIFAR-10, and the cycles of one image.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from coprune import zoo
from coprune.data import cifar10
from coprune.program import compile_graph
from coprune.quantize import quantize
from coprune_hw.contract import AcceleratorConfig

NETWORK = "mobilenetv2-cifar10"
WIDTHS = (12, 8)
BATCH = 250


def main() -> None:
    """Parse the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cifar10", type=Path, help="folder cifar-10-batches-py")
    parser.add_argument("--preset", default="16x8", choices=AcceleratorConfig.preset_names())
    parser.add_argument("--bits", type=int, nargs="+", default=WIDTHS, help="of diagonal weights")
    arguments = parser.parse_args()
    config = AcceleratorConfig.preset(arguments.preset)
    calibration = cifar10.normalize(cifar10.load_sample().calibration.images).split(64)
    test = cifar10.load_test(arguments.cifar10)
    batches = cifar10.normalize(test.images).split(BATCH)

    model = zoo.build(NETWORK)
    with torch.inference_mode():
        exact = np.concatenate([model(batch).numpy() for batch in batches])
    print(f"{NETWORK}, {len(test):,} images, float: {percent(exact, test.labels):.2f} %")
    print(f"{config.name}: bits  accuracy  logits' error  same answer  layers   cycles")
    for bits in arguments.bits:
        graph = quantize(
            model,
            calibration,
            accumulator_bits=config.accumulator_bits,
            diagonal_weight_bits=bits,
        )
        program = compile_graph(graph, config)
        logits = np.concatenate([program.simulate(batch).squeeze((2, 3)) for batch in batches])
        error = np.sqrt(np.mean((logits - exact) ** 2)) / exact.std()
        print(
            f"{bits:{len(config.name) + 6}} {percent(logits, test.labels):7.2f} % "
            f"{100 * error:12.2f} % {percent(logits, exact.argmax(axis=1)):10.2f} % "
            f"{len(graph.layers):7} {program.cycles().total.cycles:8,}",
            flush=True,
        )


def percent(logits: np.ndarray, labels: np.ndarray) -> float:
    """Per cent of the rows of logits whose largest is at the label."""
    return 100 * float(np.mean(logits.argmax(axis=1) == labels))


if __name__ == "__main__":
    main()
