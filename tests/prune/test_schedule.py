import copy

import numpy as np
import pytest
import torch
from torch import nn

from coprune.prune import (
    BlockPattern,
    Gradual,
    OneShot,
    Steps,
    StraightThrough,
    fixed_choice,
    pattern_choice,
    prune_pattern,
)


def shares(schedule, *, steps, steps_per_epoch):
    return [schedule.share_at(step, steps_per_epoch=steps_per_epoch) for step in range(steps)]


def test_one_shot_prunes_all_from_the_first_step():
    assert shares(OneShot(), steps=3, steps_per_epoch=2) == [1, 1, 1]


def test_gradual_is_the_cubic_of_zhu_and_gupta():
    """Over 8 steps, masks anew every 2: t = 0, 1/4, 1/2, 3/4, 1.

    1 - (1 - t)^3 = 0, 1 - 27/64, 1 - 1/8, 1 - 1/64, 1.
    """
    found = shares(Gradual(epochs=2, every=2), steps=10, steps_per_epoch=4)
    by_hand = [0, 37 / 64, 7 / 8, 63 / 64]
    assert found == [share for share in by_hand for _ in range(2)] + [1, 1]


def test_gradual_starts_at_an_initial_share():
    """1 - (1 - 1/2) (1 - t)^3 at t = 0, 1/2, 1: 1/2, 15/16, 1."""
    schedule = Gradual(epochs=1, every=1, initial=0.5)
    assert shares(schedule, steps=3, steps_per_epoch=2) == [0.5, 15 / 16, 1]


def test_steps_hold_for_their_epochs_and_the_last_until_the_end():
    schedule = Steps((0.25, 0.5, 1.0), epochs=2)
    assert shares(schedule, steps=14, steps_per_epoch=2) == [0.25] * 4 + [0.5] * 4 + [1.0] * 6


def test_steps_of_kept_weights_give_these_to_every_block():
    layer = nn.Sequential(nn.Conv2d(32, 16, 3))
    choose = pattern_choice({"0": BlockPattern.uniform((16, 32, 3, 3), n=4, lanes=16)})
    for share, n in zip(Steps.of_kept((8, 6, 5, 4), m=16).shares, (8, 6, 5, 4), strict=True):
        expected = prune_pattern(copy.deepcopy(layer), f"{n}:16").masks["0"]
        assert torch.equal(choose(layer, share)["0"], expected), n


def test_blocks_of_a_pattern_go_their_own_way():
    """Blocks that keep 0, 2, 7 and 8 of 8: half of what they lose is 4, 3, 0.5 (to 0) and 0."""
    kept = np.array([0, 2, 7, 8]).reshape(1, 4, 1, 1)
    layer = nn.Sequential(nn.Linear(32, 8))
    choose = pattern_choice({"0": BlockPattern(kept, 8)})
    for share, expected in ((0.0, [8, 8, 8, 8]), (0.5, [4, 5, 8, 8]), (1.0, [0, 2, 7, 8])):
        counts = choose(layer, share)["0"].unflatten(1, (4, 8)).sum(dim=2)
        assert counts.tolist() == 8 * [expected]


def test_fixed_choice_is_what_it_was_given():
    masks = {"0": torch.ones(1, 1, dtype=torch.bool)}
    assert fixed_choice(masks)(nn.Module(), 0.25) == masks


def test_straight_through_training_ends():
    schedule = StraightThrough(epochs=1.5)
    straight = [schedule.is_straight_at(step, steps_per_epoch=2) for step in range(5)]
    assert straight == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Steps(()), r"shares must end with 1, all pruning, not \(\)"),
        (lambda: Steps((0.5,)), r"shares must end with 1, .* not \(0.5,\)"),
        (lambda: Steps((1.5, 1.0)), r"shares must be in 0\.\.1, not"),
        (lambda: Steps((1.0,), epochs=0), "epochs must be at least 1, not 0"),
        (lambda: Steps.of_kept((16, 4), m=16), r"kept must be in 0\.\.15 \(M - 1\), not \(16, 4\)"),
        (lambda: Gradual(epochs=0), "epochs must be positive, not 0"),
        (lambda: Gradual(epochs=1, every=0), "every must be at least 1 step, not 0"),
        (lambda: Gradual(epochs=1, initial=2), r"initial must be in 0\.\.1, not 2"),
        (lambda: StraightThrough(epochs=0), "epochs must be positive, not 0"),
        (lambda: StraightThrough(epochs=1, decay=-1), "decay must not be negative, not -1"),
    ],
)
def test_wrong_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
