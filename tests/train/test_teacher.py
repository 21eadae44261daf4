import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from coprune.data import LabelledImages, cifar10
from coprune.train import TrainingSettings, train
from coprune.train.teacher import cache_key
from coprune.train.workers import Workers

from .networks import assert_same_state, bright_and_dark, brightness_network

SETTINGS = TrainingSettings(
    epochs=2, batch=16, learning_rate=0.1, crop_padding=2, precision="float32"
)


class CountingTeacher(nn.Module):
    """Says by an exception when it is asked too often."""

    def __init__(self, teacher, *, most):
        super().__init__()
        self.teacher = teacher
        self.most = most

    def forward(self, x):
        if self.most == 0:
            raise RuntimeError("asked too often")
        self.most -= 1
        return self.teacher(x)


@pytest.fixture
def network():
    return brightness_network()


def run(model, folder, *, teacher, settings=SETTINGS, **options):
    return train(
        model,
        dataset=bright_and_dark(),
        normalize=cifar10.normalize,
        settings=settings,
        folder=folder,
        teacher=teacher,
        show_progress=False,
        **options,
    )


def test_cached_answers_give_bitwise_the_same_network(network, tmp_path):
    without, first, second = (copy.deepcopy(network) for _ in range(3))
    run(without, tmp_path / "without", teacher=network)
    teacher = CountingTeacher(network, most=10)
    cache = tmp_path / "cache"
    run(first, tmp_path / "first", teacher=teacher, teacher_cache=cache)
    assert len(list(cache.iterdir())) == 2
    assert all(np.load(file).shape == (72, 2) for file in cache.iterdir())
    teacher = CountingTeacher(network, most=0)
    run(second, tmp_path / "second", teacher=teacher, teacher_cache=cache)
    assert_same_state(first, without)
    assert_same_state(second, without)


def test_part_of_an_epoch_is_not_kept(network, tmp_path):
    """A run that went on within an epoch has not all of its answers."""
    cache = tmp_path / "cache"
    teacher = CountingTeacher(network, most=7)
    options = {"teacher_cache": cache, "checkpoint_minutes": 0}
    with pytest.raises(RuntimeError, match="asked too often"):
        run(copy.deepcopy(network), tmp_path / "run", teacher=teacher, **options)
    assert len(list(cache.iterdir())) == 1
    teacher.most = 3
    whole, parts = copy.deepcopy(network), copy.deepcopy(network)
    run(parts, tmp_path / "run", teacher=teacher, **options)
    assert len(list(cache.iterdir())) == 1
    run(whole, tmp_path / "whole", teacher=network)
    assert_same_state(parts, whole)


def test_key_is_of_all_that_answers_depend_on(network):
    dataset = bright_and_dark()
    same = {
        "network": network,
        "dataset": dataset,
        "normalize": cifar10.normalize,
        "settings": SETTINGS,
        "precision": "float32",
        "device": torch.device("cpu"),
        "workers": Workers(),
    }

    def key(**change):
        arguments = {**same, **change}
        return cache_key(arguments.pop("network"), **arguments)

    trained = copy.deepcopy(network)
    with torch.no_grad():
        trained.linear.bias[0] += 1
    other_images = dataset.images.copy()
    other_images[-1, -1, -1, -1] ^= 1
    other_workers = Workers()
    other_workers.rank, other_workers.count = 1, 2
    keys = [
        key(),
        key(network=trained),
        key(network=nn.Sequential(network)),
        key(dataset=LabelledImages(other_images, dataset.labels)),
        key(normalize=lambda images: images.float()),
        key(precision="bfloat16"),
        key(workers=other_workers),
        *(
            key(settings=replace(SETTINGS, **change))
            for change in (
                {"seed": 1},
                {"batch": 17},
                {"crop_padding": 1},
                {"flip": False},
                {"channels_last": False},
            )
        ),
    ]
    assert len(set(keys)) == len(keys)
    # Of what only the student sees, it is not.
    assert key(settings=replace(SETTINGS, learning_rate=0.5, epochs=9)) == key()
