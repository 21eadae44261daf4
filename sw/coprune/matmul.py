"""The bare product: a sparse int8 matrix times int8 matrices, with exact or requantized results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from coprune.program import Program, compile_graph, count_cycles
from coprune.results import CosimResult, CycleTable
from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.arithmetic import fixed_point
from coprune_hw.contract.parameters import IDENTITY
from coprune_sim.cycle_model import MemoryModel
from coprune_sim.graph import IntegerGraph, Layer, Source, Tensor

MOST_COLUMNS = 2047
"""Pixels in a row of an image."""
OUTPUT_REACH = 128
"""Largest magnitude of an int8 result."""


@dataclass(frozen=True)
class MatmulProgram:
    """A matrix compiled for an accelerator: it computes ``weights @ x``.

    Parameters
    ----------
    program : Program
        Its network is one layer over an image of one row: a pixel is a column of `x`.
    columns : int
        Columns of `x`.
    row_order, inner_order : int arrays [rows], [inner]
        The row of the matrix that every output channel of the program is, and the row of `x` that
        every input channel is.
    """

    program: Program
    columns: int
    row_order: np.ndarray
    inner_order: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix."""
        return self.program.graph.output.channels, self.program.graph.input.channels

    def simulate(self, x: np.ndarray) -> np.ndarray:
        """Compute ``weights @ x`` in software, bit for bit as the RTL does.

        Parameters
        ----------
        x : int8 array [inner, columns] or [batch, inner, columns]

        Returns
        -------
        int32 array, or int8 where the results are requantized, [rows, columns] or
        [batch, rows, columns]

        Raises
        ------
        TypeError
            `x` is not int8.
        ValueError
            `x` has another shape.
        """
        results = self.program.simulate(self._images(x), integer=True)
        return self._shaped(results, like=x)

    def cosim(
        self,
        x: np.ndarray,
        *,
        memory: str = "internal",
        latency_cycles: int = 20,
        stall_seed: int | None = None,
    ) -> CosimResult:
        """Compute ``weights @ x`` on the RTL; as `Program.cosim`, with integers as outputs."""
        result = self.program.cosim(
            self._images(x),
            integer=True,
            memory=memory,
            latency_cycles=latency_cycles,
            stall_seed=stall_seed,
        )
        return replace(result, outputs=self._shaped(result.outputs, like=x))

    def cycles(self, memory: MemoryModel | None = None) -> CycleTable:
        """Count the cycles of one product; the floor are non-zeros times columns."""
        return self.program.cycles(memory)

    def _images(self, x: np.ndarray) -> np.ndarray:
        """`x` as images, a column a pixel, in the float32 that networks take."""
        if x.dtype != np.int8:
            raise TypeError(f"x must be int8, not {x.dtype}")
        wanted = (self.shape[1], self.columns)
        if x.ndim not in (2, 3) or x.shape[-2:] != wanted:
            raise ValueError(
                f"x must have shape {wanted} or [batch, {wanted[0]}, {wanted[1]}], not {x.shape}"
            )
        images = x.reshape(-1, wanted[0], 1, wanted[1])[:, self.inner_order]
        return images.astype(np.float32)

    def _shaped(self, results: np.ndarray, *, like: np.ndarray) -> np.ndarray:
        product = np.empty_like(results)
        product[:, self.row_order] = results
        return product[0] if like.ndim == 2 else product


def matmul_program(
    weights: Any,
    *,
    columns: int,
    accelerator: AcceleratorConfig,
    scale: float | Sequence[float] | None = None,
    order: bool = True,
) -> MatmulProgram:
    """Compile a matrix for products ``weights @ x``.

    Parameters
    ----------
    weights : int8 array [rows, inner]
        A numpy array, any matrix of `scipy.sparse`, or a torch tensor, dense or sparse. Zeros are
        skipped, wherever they are.
    columns : int
        Columns of `x`, from 1 to 2047.
    accelerator : AcceleratorConfig
    scale : float or sequence of float
        Results are ``round(scale * (weights @ x))`` within int8, with one factor or one for every
        row, as `coprune_hw.contract.arithmetic.requantize` rounds them; None gives the exact int32
        sums.
    order : bool
        Put rows and columns of the matrix in an order that takes fewer cycles, if one is found.
        Arguments and results keep theirs. Takes seconds for large matrices.

    Raises
    ------
    TypeError
        `weights` are not int8.
    ValueError
        `weights` are no matrix, `columns` or `scale` are out of range, or the product does not fit
        the accelerator: the message says what is too small.
    """
    # The compiler takes seconds to import, as PyTorch does.
    from coprune.compiler.channel_order import find_orders, reorder

    matrix = _dense(weights)
    if not 1 <= columns <= MOST_COLUMNS:
        raise ValueError(
            f"columns must be from 1 to {MOST_COLUMNS}, not {columns}: split wider products"
        )
    rows, inner = matrix.shape
    output = Tensor("product", rows, 1, columns, scale=1.0, zero=0, raw=scale is None)
    layer = Layer(
        name="product",
        operation="matmul",
        output=output,
        sources=(Source("x", matrix.astype(np.int16).reshape(rows, inner, 1, 1)),),
        low=-128,
        high=127,
        **_requantization(matrix, scale),
    )
    graph = IntegerGraph(Tensor("x", inner, 1, columns, scale=1.0, zero=0), (layer,))
    orders = {}
    if order:
        found = find_orders(graph, config=accelerator, free_ends=True)
        ordered = reorder(graph, found)
        given, other = (count_cycles(each, accelerator).total.cycles for each in (graph, ordered))
        if other < given:
            graph, orders = ordered, found
    program = compile_graph(
        graph, accelerator, output_shape=(rows, columns), network=f"{rows} x {inner} product"
    )
    return MatmulProgram(
        program,
        columns,
        row_order=orders.get("product", np.arange(rows)),
        inner_order=orders.get("x", np.arange(inner)),
    )


def _dense(weights: Any) -> np.ndarray:
    """Any kind of matrix as a numpy array."""
    if hasattr(weights, "toarray"):  # scipy.sparse
        weights = weights.toarray()
    elif hasattr(weights, "to_dense"):  # torch
        weights = weights.detach().cpu().to_dense().numpy()
    matrix = np.asarray(weights)
    if matrix.dtype != np.int8:
        raise TypeError(f"weights must be int8, not {matrix.dtype}")
    if matrix.ndim != 2 or not matrix.size:
        raise ValueError(f"weights must be a matrix, not of shape {matrix.shape}")
    return matrix


def _requantization(
    matrix: np.ndarray, scale: float | Sequence[float] | None
) -> dict[str, np.ndarray]:
    """Bias, multiplier and shifts of every row."""
    rows = len(matrix)
    if scale is None:
        return {name: np.full(rows, value) for name, value in IDENTITY.items()}
    from coprune_sim.reference import worst_sum

    scales = np.asarray(scale, np.float64)
    if scales.shape not in ((), (rows,)):
        raise ValueError(f"scale must be one number or {rows}, not of shape {scales.shape}")
    factors = [
        fixed_point(float(factor), output_reach=OUTPUT_REACH, accumulator_bound=int(bound))
        for factor, bound in zip(np.broadcast_to(scales, rows), worst_sum(matrix), strict=True)
    ]
    return {
        "bias": np.zeros(rows, np.int64),
        **{
            name: np.array([getattr(factor, name) for factor in factors], np.int64)
            for name in ("multiplier", "pre_shift", "post_shift")
        },
    }
