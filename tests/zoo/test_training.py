import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from coprune import zoo
from coprune.data import LabelledImages, fashion_mnist
from coprune.zoo.train import TRAININGS
from coprune.zoo.training import CHECKPOINT, LOG, TrainingRecipe, evaluate, train

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


def train_lenet5(dataset, *, recipe, folder, report=quiet):
    return train(
        zoo.LeNet5,
        dataset=dataset,
        normalize=fashion_mnist.normalize,
        recipe=recipe,
        folder=folder,
        report=report,
    )


def test_learns(dataset, tmp_path):
    model = train_lenet5(dataset, recipe=replace(RECIPE, epochs=30), folder=tmp_path)
    assert not model.training
    assert evaluate(model, dataset=dataset, normalize=fashion_mnist.normalize) > 0.8
    losses = [json.loads(line)["loss"] for line in (tmp_path / LOG).read_text().splitlines()]
    assert len(losses) == 30
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("channels_last", [False, True])
def test_interrupted_run_goes_on_with_the_same_result(dataset, tmp_path, channels_last):
    recipe = replace(RECIPE, channels_last=channels_last, warmup_epochs=1.5, label_smoothing=0.1)
    whole = train_lenet5(dataset, recipe=recipe, folder=tmp_path / "whole")

    def interrupt(line: str) -> None:
        if line.startswith("epoch 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_lenet5(dataset, recipe=recipe, folder=tmp_path / "parts", report=interrupt)
    lines = []
    parts = train_lenet5(dataset, recipe=recipe, folder=tmp_path / "parts", report=lines.append)
    assert len(lines) == 1
    for name, value in whole.state_dict().items():
        assert torch.equal(parts.state_dict()[name], value), name


def test_checkpoint_of_another_recipe_is_refused(dataset, tmp_path):
    train_lenet5(dataset, recipe=replace(RECIPE, epochs=1), folder=tmp_path)
    with pytest.raises(ValueError, match=f"{CHECKPOINT} was made by another recipe"):
        train_lenet5(dataset, recipe=RECIPE, folder=tmp_path)


def test_learning_rate_rises_in_the_warm_up_and_falls_to_zero():
    recipe = TrainingRecipe(epochs=10, learning_rate=0.1, warmup_epochs=2)
    rates = [recipe.learning_rate_at(epoch) for epoch in (0, 1, 2, 6, 10)]
    # Sums and cosines of float64: 1e-12 is thousands of their roundings.
    assert rates == pytest.approx([0.0, 0.05, 0.1, 0.05, 0.0], abs=1e-12)
    assert replace(recipe, warmup_epochs=0).learning_rate_at(0) == 0.1


def test_learning_rate_leaves_a_longer_cosine_in_the_cool_down():
    whole = TrainingRecipe(epochs=30, learning_rate=0.1, warmup_epochs=1)
    ended = replace(whole, epochs=12, cosine_epochs=30, cooldown_epochs=4)
    for epoch in (0, 0.5, 1, 3.25, 8):
        assert ended.learning_rate_at(epoch) == whole.learning_rate_at(epoch)
    # Products and quotients of float64: 1e-12 is thousands of their roundings.
    for epoch, share in ((9, 0.75), (11.5, 0.125), (12, 0.0)):
        expected = share * whole.learning_rate_at(epoch)
        assert ended.learning_rate_at(epoch) == pytest.approx(expected, abs=1e-12)


def test_label_smoothing_changes_the_loss(dataset, tmp_path):
    losses = set()
    for smoothing in (0.0, 0.1):
        recipe = replace(RECIPE, epochs=1, label_smoothing=smoothing)
        train_lenet5(dataset, recipe=recipe, folder=tmp_path / str(smoothing))
        losses.add((tmp_path / str(smoothing) / LOG).read_text())
    assert len(losses) == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"warmup_epochs": 3}, r"warmup_epochs must be at least 0 and below 3 \(epochs\), not 3"),
        ({"warmup_epochs": -1}, "warmup_epochs must be at least 0 .*, not -1"),
        ({"cosine_epochs": 2}, r"cosine_epochs must be at least 3 \(epochs\), not 2"),
        ({"cooldown_epochs": 4}, r"cooldown_epochs must be from 0 to 3 \(.*\), not 4"),
        ({"warmup_epochs": 2, "cooldown_epochs": 2}, "cooldown_epochs must be from 0 to 1 "),
        ({"cooldown_epochs": -1}, "cooldown_epochs must be from 0 .*, not -1"),
    ],
)
def test_wrong_recipe_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        replace(RECIPE, **values)


def test_lenet5_is_trained_as_when_its_weights_were_made(tmp_path):
    training = TRAININGS["lenet5"]
    train(
        training.build,
        dataset=fashion_mnist.load_sample().calibration,
        normalize=training.normalize,
        recipe=replace(training.recipe, epochs=2),
        folder=tmp_path,
        report=quiet,
    )
    losses = [json.loads(line)["loss"] for line in (tmp_path / LOG).read_text().splitlines()]
    # By the program that made the shipped weights. On another processor sums of float32 may have
    # another order: 1e-5 is a hundred of their roundings, and a hundredth of what a seed changes.
    assert losses == pytest.approx([2.3062775135040283, 2.3015769720077515], abs=1e-5)
