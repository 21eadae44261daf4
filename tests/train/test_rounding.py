"""Masks through training with simulated rounding, down to the compiled program."""

import pytest
import torch

from coprune.data import cifar10
from coprune.prune import BlockPattern, fixed_choice, pattern_choice
from coprune.train import TrainingSettings, train
from coprune.train.rounding import prepare_for_rounding

from .networks import bright_and_dark, brightness_network

SETTINGS = TrainingSettings(
    epochs=2, batch=16, learning_rate=0.01, crop_padding=2, precision="float32"
)
PATTERN = BlockPattern.uniform((16, 16, 3, 3), n=4, lanes=16)
DATASET = bright_and_dark(64)
IMAGES = cifar10.normalize(DATASET.images[:8])


def prepare():
    return prepare_for_rounding(brightness_network(), images=IMAGES, observer="minmax")


def run(prepared, folder, *, masks, **options):
    return train(
        prepared,
        dataset=DATASET,
        normalize=cifar10.normalize,
        settings=SETTINGS,
        folder=folder,
        choose=fixed_choice(masks),
        show_progress=False,
        **options,
    )


@pytest.fixture(scope="module")
def masks():
    return pattern_choice({"conv": PATTERN})(brightness_network(), 1.0)


@pytest.fixture(scope="module")
def trained(masks, tmp_path_factory):
    prepared = prepare()
    run(prepared, tmp_path_factory.mktemp("whole"), masks=masks)
    return prepared


def test_pruned_weights_are_zero_after_training(trained, masks):
    weight = dict(trained.named_parameters())["conv.weight"]
    assert not weight[~masks["conv"]].any()
    assert weight[masks["conv"]].all()
    assert not torch.equal(weight[masks["conv"]], brightness_network().conv.weight[masks["conv"]])


def test_interrupted_run_ends_in_bitwise_the_same_network(trained, masks, tmp_path):
    """The ranges of activations, which are no weights, are in the checkpoint too."""

    def stop(_history):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(prepare(), tmp_path, masks=masks, report=stop)
    parts = prepare()
    run(parts, tmp_path, masks=masks)
    states = [module.state_dict() for module in (parts, trained)]
    assert sum(name.endswith("_extra_state") for name in states[0]) >= 4
    for name, value in states[1].items():
        assert torch.equal(states[0][name], value), name
