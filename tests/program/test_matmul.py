"""The bare product, against numpy and scipy, in software and on the RTL."""

import numpy as np
import pytest
import scipy.sparse
import torch

import coprune
from coprune_hw.contract import AcceleratorConfig

from ..end_to_end.configurations import NARROW, SMALL, WIDE_BUS


def draw_matrix(rng, rows, inner, *, density, skew=0.0) -> np.ndarray:
    """Random weights; with a skew, rows differ in how many of them are not zero."""
    shares = density * np.exp(skew * rng.standard_normal((rows, 1)))
    values = rng.integers(-127, 128, (rows, inner))
    return np.where(rng.random((rows, inner)) < shares, values, 0).astype(np.int8)


def draw_vectors(rng, *shape) -> np.ndarray:
    return rng.integers(-128, 128, shape).astype(np.int8)


def exact(matrix, x) -> np.ndarray:
    product = matrix.astype(np.int64) @ x.astype(np.int64)
    assert np.abs(product).max(initial=0) < 1 << 31
    return product.astype(np.int32)


@pytest.mark.parametrize("density", [0.01, 0.05, 0.25, 0.5, 1.0])
@pytest.mark.parametrize(("rows", "inner", "columns"), [(1, 1, 1), (43, 70, 5), (64, 64, 33)])
def test_is_exact_in_int32(rows, inner, columns, density):
    rng = np.random.default_rng([rows, int(100 * density)])
    matrix = draw_matrix(rng, rows, inner, density=density, skew=0.7)
    product = coprune.matmul_program(matrix, columns=columns, accelerator=SMALL)
    x = draw_vectors(rng, 3, inner, columns)
    result = product.simulate(x)
    assert result.dtype == np.int32
    assert np.array_equal(result, exact(matrix, x))
    assert np.array_equal(product.simulate(x[1]), exact(matrix, x[1]))


@pytest.mark.parametrize("config", [SMALL, NARROW, WIDE_BUS], ids=["8x4", "16x2", "wide bus"])
@pytest.mark.parametrize("density", [0.05, 0.4])
def test_rtl_is_exact_and_takes_the_cycles_of_the_model(config, density):
    rng = np.random.default_rng(3)
    matrix = draw_matrix(rng, 43, 70, density=density)
    product = coprune.matmul_program(matrix, columns=13, accelerator=config)
    x = draw_vectors(rng, 2, 70, 13)
    result = product.cosim(x)
    assert result.equal
    assert np.array_equal(result.outputs, exact(matrix, x))
    table = product.cycles()
    assert result.total.cycles == table.total.cycles
    assert [layer.cycles for layer in result.layers] == [layer.cycles for layer in table.layers]
    assert table.total.nonzero_macs == np.count_nonzero(matrix) * 13


def test_extreme_sums_keep_every_byte():
    matrix = np.full((3, 1000), 127, np.int8)
    matrix[1], matrix[2, ::2] = -127, 0
    config = AcceleratorConfig(lanes=8, columns=2, slot_depth=1024)
    product = coprune.matmul_program(matrix, columns=2, accelerator=config)
    x = np.stack([np.full(1000, -128, np.int8), np.full(1000, 127, np.int8)], axis=1)
    assert np.array_equal(product.simulate(x), exact(matrix, x))
    assert product.cosim(x).equal


@pytest.mark.parametrize("scale", [0.01, "per row"])
def test_requantizes_to_int8(scale):
    rng = np.random.default_rng(5)
    matrix = draw_matrix(rng, 20, 50, density=0.3)
    if scale == "per row":
        scale = rng.uniform(0.001, 0.02, 20)
    product = coprune.matmul_program(matrix, columns=9, accelerator=SMALL, scale=scale)
    x = draw_vectors(rng, 50, 9)
    result = product.simulate(x)
    assert result.dtype == np.int8
    wanted = np.clip(exact(matrix, x) * np.reshape(scale, (-1, 1)), -128, 127)
    assert np.abs(result - wanted).max() < 0.5 + 0.01
    assert product.cosim(x).equal


@pytest.mark.parametrize(
    "convert",
    [
        scipy.sparse.csr_matrix,
        scipy.sparse.coo_array,
        torch.from_numpy,
        lambda matrix: torch.from_numpy(matrix).to_sparse(),
    ],
    ids=["csr", "coo", "dense tensor", "sparse tensor"],
)
def test_takes_any_kind_of_matrix(convert):
    rng = np.random.default_rng(6)
    matrix = draw_matrix(rng, 12, 20, density=0.2)
    product = coprune.matmul_program(convert(matrix), columns=4, accelerator=SMALL)
    x = draw_vectors(rng, 20, 4)
    assert np.array_equal(product.simulate(x), exact(matrix, x))


def test_an_empty_matrix_gives_zeros():
    product = coprune.matmul_program(np.zeros((9, 9), np.int8), columns=3, accelerator=SMALL)
    assert not product.simulate(np.ones((9, 3), np.int8)).any()


@pytest.mark.parametrize(
    ("weights", "options", "error", "message"),
    [
        (np.ones((2, 2)), {}, TypeError, "weights must be int8, not float64"),
        (np.ones(3, np.int8), {}, ValueError, r"weights must be a matrix, not of shape \(3,\)"),
        (np.ones((0, 3), np.int8), {}, ValueError, r"must be a matrix, not of shape \(0, 3\)"),
        (np.ones((2, 2), np.int8), {"columns": 0}, ValueError, "columns must be from 1 to 2047"),
        (np.ones((2, 2), np.int8), {"columns": 2048}, ValueError, "not 2048: split wider"),
        (np.ones((2, 2), np.int8), {"scale": [1, 2, 3]}, ValueError, "one number or 2, not of"),
        (np.ones((2, 2), np.int8), {"scale": 0.0}, ValueError, "must be positive and finite"),
        (np.ones((9, 4000), np.int8), {}, ValueError, "slot_depth is 1024"),
    ],
)
def test_refuses_what_it_cannot_do(weights, options, error, message):
    with pytest.raises(error, match=message):
        coprune.matmul_program(weights, **{"columns": 2, "accelerator": SMALL} | options)


def test_refuses_other_right_hand_sides():
    product = coprune.matmul_program(np.ones((2, 3), np.int8), columns=4, accelerator=SMALL)
    with pytest.raises(TypeError, match="x must be int8, not float32"):
        product.simulate(np.ones((3, 4), np.float32))
    with pytest.raises(ValueError, match=r"x must have shape \(3, 4\) or \[batch, 3, 4\]"):
        product.simulate(np.ones((4, 3), np.int8))


def test_ordering_saves_cycles_or_changes_nothing():
    rng = np.random.default_rng(7)
    saved = []
    for density, skew in ((0.02, 0.0), (0.3, 1.0), (1.0, 0.0)):
        matrix = draw_matrix(rng, 96, 96, density=density, skew=skew)
        given, ordered = (
            coprune.matmul_program(matrix, columns=64, accelerator=SMALL, order=order)
            for order in (False, True)
        )
        saved.append(given.cycles().total.cycles - ordered.cycles().total.cycles)
        x = draw_vectors(rng, 96, 64)
        assert np.array_equal(ordered.simulate(x), exact(matrix, x))
    assert min(saved) >= 0
    assert saved[1] > 0
