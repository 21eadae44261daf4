import numpy as np
import pytest
import torch

from coprune.prune import BlockPattern
from coprune.prune.block_pattern import block_grid, parse_pattern


def test_each_block_keeps_its_own_number_of_each_output_channel():
    random = np.random.default_rng(0)
    scores = torch.from_numpy(random.permutation(6 * 7 * 2 * 3).reshape(6, 7, 2, 3)) + 1.0
    kept = random.integers(0, 5, (2, 2, 2, 3))
    mask = BlockPattern(kept, 4).mask(scores)
    assert mask.dtype == torch.bool
    for out, row, column in np.ndindex(6, 2, 3):
        for group, channels in enumerate((range(4), range(4, 7))):
            ranked = sorted(channels, key=lambda c: -float(scores[out, c, row, column]))
            largest = set(ranked[: kept[out // 4, group, row, column]])
            found = {c for c in channels if mask[out, c, row, column]}
            assert found == largest, (out, group, row, column)


def test_linear_layers_have_one_tap():
    scores = torch.arange(1.0, 25.0).view(3, 8)
    mask = BlockPattern(np.array([[[[1]], [[2]]]]), 4).mask(scores)
    assert mask.tolist() == 3 * [[False, False, False, True, False, False, True, True]]


def test_names_are_n_of_m_or_their_mean():
    assert str(BlockPattern.uniform((16, 32, 3, 3), n=4, lanes=16)) == "4:16"
    mixed = BlockPattern(np.array([[[[1]], [[4]]]]), 8)
    assert mixed.n is None
    assert str(mixed) == "2.50:8"


def test_blocks_of_a_weight():
    assert block_grid((17, 33, 3, 1), lanes=16) == (2, 3, 3, 1)
    assert block_grid((16, 16), lanes=8) == (2, 2, 1, 1)
    with pytest.raises(ValueError, match=r"\[out, in\] or \[out, in, rows, columns\], not \[4\]"):
        block_grid((4,), lanes=8)


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (np.full((1, 1, 1, 1), 5), r"kept must be in 0\.\.4 \(lanes\), not 5"),
        (np.full((1, 1, 1, 1), -1), r"kept must be in 0\.\.4 \(lanes\), not -1"),
        (np.zeros((2, 2), int), r"kept must have 4 axes and blocks, not shape \(2, 2\)"),
    ],
)
def test_impossible_patterns_are_refused(kept, message):
    with pytest.raises(ValueError, match=message):
        BlockPattern(kept, 4)


def test_a_pattern_for_another_shape_is_refused():
    pattern = BlockPattern.uniform((8, 8), n=2, lanes=4)
    with pytest.raises(ValueError, match=r"scores of shape \[8, 16\] have \(2, 4, 1, 1\) blocks"):
        pattern.mask(torch.ones(8, 16))


def test_patterns_are_read():
    assert parse_pattern("4:16") == (4, 16)
    for text in ("4/16", "4", "", "a:16"):
        with pytest.raises(ValueError, match=f"a pattern must be N:M.*not {text!r}"):
            parse_pattern(text)
    with pytest.raises(ValueError, match=r"N must be in 0\.\.M in a pattern N:M, not '17:16'"):
        parse_pattern("17:16")
