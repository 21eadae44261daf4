"""Print the speed of the RTL simulation under cocotb beside that of the same model with a C++ main.

Both run the same program with the same inputs, alternately; each figure is the best of its runs.
"""

import argparse
from pathlib import Path

import numpy as np

from coprune import program_file
from coprune_sim.cosim import runner


def main() -> None:
    """Parse the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", type=Path, help="a program file, as `coprune compile` writes it")
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    program = program_file.load(arguments.program).machine
    region = program.input
    generator = np.random.default_rng(0)
    shape = (arguments.images, region.channels, region.height, region.width)
    inputs = list(generator.integers(-128, 128, shape, dtype=np.int8))

    speeds = {"cocotb": 0.0, "C++ alone": 0.0}
    for _ in range(arguments.repetitions):
        for name, simulate in (("cocotb", runner.run), ("C++ alone", runner.run_cpp)):
            run = simulate(program, inputs)
            speeds[name] = max(speeds[name], run.cycles_per_second)
            print(f"{name:10} {run.simulated_cycles:>12,} cycles {run.cycles_per_second:>12,.0f}/s")
    ratio = speeds["cocotb"] / speeds["C++ alone"]
    print(f"cocotb runs at {ratio:.2f} of the speed of C++ alone")


if __name__ == "__main__":
    main()
