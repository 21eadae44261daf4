"""Print the speed of the software simulators beside that of the float32 network in eager PyTorch.

All run on CIFAR-10 images in one process, alternately; each figure is the best of its runs and, in
brackets, their median. The fast simulator is `Program.simulate`: it quantizes float32 images too.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

import coprune
from coprune import zoo
from coprune.data import cifar10
from coprune_sim import machine, reference


def main() -> None:
    """Parse the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="resnet20", help="resnet20 or resnet20-dense")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    sample = cifar10.load_sample()
    model = zoo.build(arguments.network)
    program = coprune.compile(
        model,
        coprune.AcceleratorConfig.preset("16x16"),
        calibration=list(cifar10.normalize(sample.calibration.images).split(64)),
    )
    images = cifar10.normalize(sample.test.images[: arguments.batch])
    integers = program.quantize_input(images)
    channels_last = zoo.build(arguments.network).to(memory_format=torch.channels_last)
    images_channels_last = images.contiguous(memory_format=torch.channels_last)

    equal = np.array_equal(
        program.simulate(images, integer=True).ravel(),
        reference.run(program.graph, integers).ravel(),
    )
    print(
        f"{arguments.network}, {len(images)} images a batch, {torch.get_num_threads()} thread(s), "
        f"outputs {'equal' if equal else 'NOT EQUAL'} to the reference's"
    )
    speeds = measure(
        {
            "float32 eager": lambda: model(images),
            "fast simulator": lambda: program.simulate(images, integer=True),
            "float32 channels_last": lambda: channels_last(images_channels_last),
            "integer reference": lambda: reference.run(program.graph, integers),
        },
        images=len(images),
        repetitions=arguments.repetitions,
    )
    one = measure(
        {"instruction simulator": lambda: machine.run(program.machine, integers[0])},
        images=1,
        repetitions=arguments.repetitions,
    )
    for name, (best, median) in (speeds | one).items():
        print(f"{name:22} {best:>10,.1f} images/s ({median:,.1f})")
    slots = sum(layer.slots for layer in program.machine.layers)
    print(
        f"{'instruction simulator':22} {slots * one['instruction simulator'][0]:>10,.0f} slots/s, "
        f"of {slots:,} slots an image"
    )
    for name in ("float32 eager", "float32 channels_last"):
        best, median = (
            fast / other for fast, other in zip(speeds["fast simulator"], speeds[name], strict=True)
        )
        print(f"fast simulator to {name}: {best:.2f} ({median:.2f})")


def measure(
    runs: dict[str, Callable[[], object]], *, images: int, repetitions: int
) -> dict[str, tuple[float, float]]:
    """Best and median images per second of every run, in alternation after one to warm up."""
    seconds = {name: [] for name in runs}
    with torch.inference_mode():
        for repetition in range(repetitions + 1):
            for name, run in runs.items():
                begin = time.perf_counter()
                run()
                if repetition:
                    seconds[name].append(time.perf_counter() - begin)
    return {
        name: (images / min(times), images / statistics.median(times))
        for name, times in seconds.items()
    }


if __name__ == "__main__":
    main()
