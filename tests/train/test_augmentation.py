from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F

from coprune.train.augmentation import Augmented, crop_and_flip, epoch_steps

EPOCH = {"images": 70, "batch": 16, "seed": 2, "epoch": 3, "padding": 2}


def test_crops_and_flips_are_windows_of_the_padded_image():
    images = torch.arange(1, 61, dtype=torch.uint8).reshape(1, 2, 5, 6).repeat(64, 1, 1, 1)
    padded = F.pad(images[0], (2, 2, 2, 2))
    windows = {}
    for y in range(5):
        for x in range(5):
            window = padded[:, y : y + 5, x : x + 6]
            windows[window.numpy().tobytes()] = (y, x, False)
            windows[window.flip(-1).contiguous().numpy().tobytes()] = (y, x, True)
    step = next(epoch_steps(images=64, batch=64, seed=2, epoch=0, padding=2))
    cropped = crop_and_flip(images, step=step, padding=2)
    seen = [windows[image.numpy().tobytes()] for image in cropped]
    expected = zip(*step.offsets[..., 0].tolist(), step.flipped[:, 0].tolist(), strict=True)
    assert {y for y, _, _ in seen} == {x for _, x, _ in seen} == {0, 1, 2, 3, 4}
    assert [(y, flipped) for y, _, flipped in seen] == [(y, flip) for y, _, flip in expected]
    assert {flipped for _, _, flipped in seen} == {False, True}


def test_every_image_is_in_one_step():
    steps = list(epoch_steps(**EPOCH))
    assert [len(step.chosen) for step in steps] == [16, 16, 16, 16, 6]
    assert np.array_equal(np.sort(np.concatenate([step.chosen for step in steps])), np.arange(70))


def test_order_differs_between_epochs_and_seeds_but_not_between_runs():
    first = next(epoch_steps(**EPOCH)).chosen
    assert torch.equal(next(epoch_steps(**EPOCH)).chosen, first)
    for change in ({"epoch": 4}, {"seed": 3}):
        assert not torch.equal(next(epoch_steps(**{**EPOCH, **change})).chosen, first)


def test_random_numbers_of_the_network_change_nothing():
    expected = list(epoch_steps(**EPOCH))[2]
    steps = epoch_steps(**EPOCH)
    for _ in range(2):
        next(steps)
        torch.rand(5)
    step = next(steps)
    for name in ("chosen", "offsets", "flipped"):
        assert torch.equal(getattr(step, name), getattr(expected, name)), name


def test_nothing_is_mirrored_without_flip():
    assert not any(step.flipped.any() for step in epoch_steps(**EPOCH, flip=False))
    assert any(step.flipped.any() for step in epoch_steps(**EPOCH))


def test_parts_of_a_step_are_augmented_as_the_whole():
    images = torch.randint(0, 256, (70, 3, 6, 6), dtype=torch.uint8)
    step = next(islice(epoch_steps(**EPOCH), 1, None))
    whole = crop_and_flip(images[step.chosen], step=step, padding=2)
    parts = [step.part(slice(0, 7)), step.part(slice(7, 16))]
    cut = [crop_and_flip(images[part.chosen], step=part, padding=2) for part in parts]
    assert torch.equal(torch.cat(cut), whole)


def test_order_is_that_of_a_generator_with_the_epochs_seed():
    """Weights that come along were made with these numbers."""
    torch.manual_seed(2 * 100_003 + 3)
    order = torch.randperm(70)
    offsets = torch.randint(0, 5, (2, 16, 1))
    flipped = torch.rand(16, 1) < 0.5
    step = next(epoch_steps(**EPOCH))
    assert isinstance(step, Augmented)
    assert torch.equal(step.chosen, order[:16])
    assert torch.equal(step.offsets, offsets)
    assert torch.equal(step.flipped, flipped)
