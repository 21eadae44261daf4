import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from coprune.data import LabelledImages
from coprune.zoo.train_lenet5 import CHECKPOINT, LOG, TrainingRecipe, evaluate, train

RECIPE = TrainingRecipe(epochs=3, batch=8, learning_rate=0.02, crop_padding=1)


@pytest.fixture
def dataset():
    """Images whose label is the row that is bright."""
    random = np.random.default_rng(2)
    labels = random.integers(0, 10, 64).astype(np.uint8)
    images = random.integers(0, 40, (64, 1, 28, 28)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[0, 2 * label + 4 : 2 * label + 6] = 255
    return LabelledImages(images, labels)


def quiet(_: str) -> None:
    pass


def test_learns(dataset, tmp_path):
    recipe = replace(RECIPE, epochs=30)
    model = train(dataset=dataset, recipe=recipe, folder=tmp_path, report=quiet)
    assert not model.training
    assert evaluate(model, dataset) > 0.8
    losses = [json.loads(line)["loss"] for line in (tmp_path / LOG).read_text().splitlines()]
    assert len(losses) == 30
    assert losses[-1] < losses[0]


def test_interrupted_run_goes_on_with_the_same_result(dataset, tmp_path):
    whole = train(dataset=dataset, recipe=RECIPE, folder=tmp_path / "whole", report=quiet)

    def interrupt(line: str) -> None:
        if line.startswith("epoch 3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(dataset=dataset, recipe=RECIPE, folder=tmp_path / "parts", report=interrupt)
    lines = []
    parts = train(dataset=dataset, recipe=RECIPE, folder=tmp_path / "parts", report=lines.append)
    assert len(lines) == 1
    for name, value in whole.state_dict().items():
        assert torch.equal(parts.state_dict()[name], value), name


def test_checkpoint_of_another_recipe_is_refused(dataset, tmp_path):
    train(dataset=dataset, recipe=replace(RECIPE, epochs=1), folder=tmp_path, report=quiet)
    with pytest.raises(ValueError, match=f"{CHECKPOINT} was made by another recipe"):
        train(dataset=dataset, recipe=RECIPE, folder=tmp_path, report=quiet)
