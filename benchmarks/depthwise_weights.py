"""Print the accuracy of MobileNetV2 with 12-bit and with 8-bit depthwise weights, side by side.

On all 10,000 test images of CIFAR-10, with the logits' signal to noise against float32 in dB, and
the cycles of one image. All other convolutions have 8-bit weights in both; shortcuts, whose weights
are scales, keep their 12 bits.
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
WIDTHS = {"12 bits": None, "8 bits": 8}
"""For `quantize`, which gives depthwise weights their 12 bits unless all are to have fewer."""
CORRECTIONS = ({}, {"correct_bias": True}, {"equalize": True, "correct_bias": True})
BATCH = 250


def main() -> None:
    """Parse the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cifar10", type=Path, help="folder cifar-10-batches-py")
    parser.add_argument("--preset", default="16x8", choices=AcceleratorConfig.preset_names())
    arguments = parser.parse_args()
    config = AcceleratorConfig.preset(arguments.preset)
    calibration = cifar10.normalize(cifar10.load_sample().calibration.images).split(64)
    test = cifar10.load_test(arguments.cifar10)
    batches = cifar10.normalize(test.images).split(BATCH)

    model = zoo.build(NETWORK)
    with torch.inference_mode():
        exact = np.concatenate([model(batch).numpy() for batch in batches])
    print(f"{NETWORK}, {len(test):,} images, float32: {percent(exact, test.labels):.2f} %")
    print(f"depthwise accuracy   noise same answer cycles on {config.name}")
    for options in CORRECTIONS:
        for name, bits in WIDTHS.items():
            graph = quantize(
                model,
                calibration,
                accumulator_bits=config.accumulator_bits,
                weight_bits=bits,
                **options,
            )
            program = compile_graph(graph, config, output_shape=exact.shape[1:])
            logits = np.concatenate([program.simulate(batch) for batch in batches])
            noise = 10 * np.log10(np.mean(exact**2) / np.mean((logits - exact) ** 2))
            print(
                f"{name:9} {percent(logits, test.labels):6.2f} % {noise:7.2f} "
                f"{percent(logits, exact.argmax(axis=1)):9.2f} % "
                f"{program.cycles().total.cycles:7,} {' '.join(options)}",
                flush=True,
            )


def percent(logits: np.ndarray, labels: np.ndarray) -> float:
    """Per cent of the rows of logits whose largest is at the label."""
    return 100 * float(np.mean(logits.argmax(axis=1) == labels))


if __name__ == "__main__":
    main()
