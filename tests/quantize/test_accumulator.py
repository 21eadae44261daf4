"""Accumulator scales that several sources share."""

import numpy as np
import torch

from coprune.compiler.float_graph import FloatSource, FloatTensor
from coprune.quantize.accumulator import common_scale, uniform

CHANNELS = 4
FLOOR = np.full(CHANNELS, 1e-9)


def source(weight, *, diagonal=False):
    tensor = FloatTensor("x", CHANNELS, 5, 5)
    return FloatSource(
        name="source",
        operation="conv2d",
        tensor=tensor,
        weight=torch.as_tensor(weight, dtype=torch.float64),
        groups=CHANNELS if diagonal else 1,
        diagonal=diagonal,
    )


def identity(factor=1.0):
    return source(np.full((CHANNELS, 1, 1, 1), factor), diagonal=True)


def dense(*, seed, factor=1.0):
    return source(factor * np.random.default_rng(seed).normal(size=(CHANNELS, CHANNELS, 3, 3)))


def test_lone_convolution_uses_all_its_weight_steps():
    accumulator = common_scale([dense(seed=0)], input_scales=[0.1], floor=FLOOR)
    (weight,) = accumulator.weights
    np.testing.assert_array_equal(np.abs(weight).max(axis=(1, 2, 3)), 127)


def test_identity_is_a_whole_number_of_steps_and_weights_do_not_clip():
    accumulator = common_scale(
        [dense(seed=1, factor=0.01), identity()], input_scales=[0.02, 0.05], floor=FLOOR
    )
    weight, multiple = accumulator.weights
    # float64 throughout: one division and one product.
    np.testing.assert_allclose(accumulator.step * multiple[:, 0, 0, 0], 0.05, rtol=1e-12)
    assert np.abs(weight).max() <= 127


def test_tiny_weights_do_not_make_the_identity_exceed_twelve_bits():
    accumulator = common_scale(
        [dense(seed=2, factor=1e-30), identity()], input_scales=[0.02, 0.05], floor=FLOOR
    )
    weight, multiple = accumulator.weights
    np.testing.assert_array_equal(multiple, np.full((CHANNELS, 1, 1, 1), 2047))
    assert not weight.any()


def test_two_identities_keep_the_ratio_of_their_scales():
    accumulator = common_scale(
        [identity(), identity()], input_scales=[0.05, 0.0314159], floor=FLOOR
    )
    first, second = (weight[:, 0, 0, 0] for weight in accumulator.weights)
    # The multiples are integers of at most 2047, chosen to come this close to the ratio.
    np.testing.assert_allclose(second / first, 0.0314159 / 0.05, rtol=1e-5)


def test_equal_identities_have_equal_weights():
    accumulator = common_scale([identity(), identity()], input_scales=[0.05, 0.05], floor=FLOOR)
    np.testing.assert_array_equal(*accumulator.weights)


def test_average_alone_counts_pixels():
    average = source(np.full((CHANNELS, 1, 5, 5), 1 / 25), diagonal=True)
    accumulator = common_scale([average], input_scales=[0.1], floor=FLOOR, coarse=True)
    np.testing.assert_array_equal(accumulator.weights[0], np.ones((CHANNELS, 1, 5, 5)))
    # float64 throughout: one division.
    np.testing.assert_allclose(accumulator.step, 0.1 / 25, rtol=1e-12)


def test_steps_are_at_least_the_floor():
    floor = np.array([1e-9, 1e-3, 1.0, 1e3])
    accumulator = common_scale([dense(seed=3), identity()], input_scales=[0.02, 0.05], floor=floor)
    assert (accumulator.step >= floor).all()


def test_only_weights_of_one_magnitude_are_uniform():
    assert uniform(identity(0.3))
    signs = np.array([1.0, -1.0, 0.0, 1.0]).reshape(CHANNELS, 1, 1, 1)
    assert uniform(source(signs, diagonal=True))
    assert not uniform(source(np.random.default_rng(4).normal(size=(4, 1, 3, 3)), diagonal=True))
    assert not uniform(source(np.eye(CHANNELS)[:, :, None, None]))
