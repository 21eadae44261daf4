"""Masks through training with simulated rounding, down to the compiled program."""


import numpy as np
import pytest
import torch

import coprune
from coprune.data import cifar10
from coprune.prune import BlockPattern, fixed_choice, pattern_choice
from coprune.train import TrainingSettings, train
from coprune.train.rounding import prepare_for_rounding, simulate_rounding

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
        settings=options.pop("settings", SETTINGS),
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


def test_pruned_weights_are_zero_in_the_program(trained, masks):
    program = coprune.compile(simulate_rounding(trained), coprune.AcceleratorConfig.preset("16x16"))
    (layer,) = (layer for layer in program.graph.layers if layer.name == "conv")
    weight = layer.sources[0].weight.reshape(16, 16, 3, 3)
    assert not weight[~masks["conv"].numpy()].any()
    assert weight.any()
    dense = coprune.compile(
        brightness_network(), coprune.AcceleratorConfig.preset("16x16"), calibration=[IMAGES]
    )
    assert program.cycles().total.cycles < dense.cycles().total.cycles


def test_simulation_answers_as_the_program_does(trained):
    simulation = simulate_rounding(trained)
    program = coprune.compile(simulation, coprune.AcceleratorConfig.preset("16x16"))
    images = cifar10.normalize(DATASET.images)
    with torch.no_grad():
        expected = simulation(images).argmax(dim=1).numpy()
    assert np.mean(program.simulate(images).argmax(axis=1) == expected) > 0.95


def test_interrupted_run_ends_in_bitwise_the_same_network(trained, masks, tmp_path):
    """The ranges of activations, which are no weights, are in the checkpoint too."""

    class Stop(Exception):
        pass

    def stop(_history):
        raise Stop

    with pytest.raises(Stop):
        run(prepare(), tmp_path, masks=masks, report=stop)
    parts = prepare()
    run(parts, tmp_path, masks=masks)
    for name, value in trained.named_parameters():
        assert torch.equal(parts.get_parameter(name), value), name
    programs = [
        coprune.compile(simulate_rounding(module), coprune.AcceleratorConfig.preset("16x16"))
        for module in (trained, parts)
    ]
    assert programs[0].machine.image == programs[1].machine.image
