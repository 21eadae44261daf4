"""Print the cycles of sparse products over their floors, and check them against scipy.sparse.

Over what the multipliers need for non-zeros times columns, and over what multipliers or bus need:
for small matrices the bus, which brings the right-hand side and takes the int32 results.
"""

import argparse
from dataclasses import replace

import numpy as np
import scipy.sparse

import coprune

SIZES = (64, 256, 1024)
DENSITIES = (0.01, 0.05, 0.25, 0.5, 1.0)
SKEWS = {"uniform": 0.0, "skewed": 1.0}
"""Standard deviation of the logarithm of the rows' densities."""

ACTIVATION_DEPTH = 4096
"""Words of each bank: 1,024 rows of int32 results are 256 groups of channels."""


def main() -> None:
    """Parse the arguments, count and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="16x16", help="preset or TOML file")
    parser.add_argument("--columns", type=int, default=64, help="columns of the right-hand side")
    arguments = parser.parse_args()
    accelerator = replace(
        coprune.AcceleratorConfig.find(arguments.config), activation_depth=ACTIVATION_DEPTH
    )
    print(f"{accelerator.name}, {arguments.columns} columns: cycles (over multipliers, over floor)")
    for size in SIZES:
        for density in DENSITIES:
            for name, skew in SKEWS.items():
                matrix = draw_matrix(size, density=density, skew=skew)
                show(matrix, name, columns=arguments.columns, accelerator=accelerator)


def draw_matrix(size: int, *, density: float, skew: float) -> np.ndarray:
    """Random weights int8 [size, size], whose rows have more or less the same number."""
    rng = np.random.default_rng([size, int(100 * density), int(skew)])
    shares = np.exp(skew * rng.standard_normal((size, 1)))
    shares = np.minimum(density * shares / shares.mean(), 1)
    return np.where(
        rng.random((size, size)) < shares, rng.integers(-127, 128, (size, size)), 0
    ).astype(np.int8)


def show(
    matrix: np.ndarray, name: str, *, columns: int, accelerator: coprune.AcceleratorConfig
) -> None:
    """Print the figures of one matrix, in the given order and with its channels ordered."""
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (matrix.shape[1], columns)).astype(np.int8)
    expected = scipy.sparse.csr_array(matrix.astype(np.int32)) @ x.astype(np.int32)
    figures = []
    for order in (False, True):
        product = coprune.matmul_program(
            matrix, columns=columns, accelerator=accelerator, order=order
        )
        if not np.array_equal(product.simulate(x), expected):
            raise RuntimeError(f"{name} {matrix.shape}: the product differs from scipy's")
        total = product.cycles().total
        multipliers = total.cycles / total.compute_floor_cycles
        floor = total.cycles / total.floor_cycles
        figures.append(f"{total.cycles:7,} ({multipliers:6.2f}, {floor:5.2f})")
    density = np.count_nonzero(matrix) / matrix.size
    size = f"{matrix.shape[0]} x {matrix.shape[1]}"
    print(
        f"{size:11} {name:7} {density:6.1%}: given {figures[0]}, ordered {figures[1]}", flush=True
    )


if __name__ == "__main__":
    main()
