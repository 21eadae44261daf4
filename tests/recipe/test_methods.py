import pytest
import torch

from coprune import AcceleratorConfig, zoo
from coprune.prune import prunable_layers, prune_pattern
from coprune.recipe.methods import METHODS

CONFIG = AcceleratorConfig.preset("16x16")


def plan(model, **options):
    return METHODS["pattern"].plan(model, CONFIG, None, options)


@pytest.fixture
def network():
    return zoo.resnet20()


def test_pattern_for_all_is_that_of_magnitude_pruning(network):
    masks = plan(network, pattern="4:16")(network, 1.0)
    expected = prune_pattern(network, "4:16").masks
    assert masks.keys() == expected.keys()
    for name, mask in masks.items():
        assert torch.equal(mask, expected[name]), name


def test_layers_have_patterns_of_their_own(network):
    masks = plan(network, pattern={"layer1.0.conv1": "2:16", "layer3.2.conv2": "8:16"})(
        network, 1.0
    )
    assert set(masks) == {"layer1.0.conv1", "layer3.2.conv2"}
    for name, n in (("layer1.0.conv1", 2), ("layer3.2.conv2", 8)):
        assert (masks[name].unflatten(1, (-1, 16)).sum(dim=2) == n).all(), name


def test_skipped_layers_stay_dense(network):
    masks = plan(network, pattern="4:16", skip=["layer2.0.conv1"])(network, 1.0)
    assert set(masks) == set(prunable_layers(network)) - {"layer2.0.conv1"}


def test_no_method_masks_nothing(network):
    assert METHODS["none"].plan(network, CONFIG, None, {}) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "prune.pattern must be N:M, .*, not None"),
        ({"pattern": 4}, "prune.pattern must be N:M, .*, not 4"),
        ({"pattern": "4/16"}, "a pattern must be N:M, such as '4:16', not '4/16'"),
        ({"pattern": "4:8"}, "M of prune.pattern must be 16, the lanes of the accelerator, not 8"),
        ({"pattern": {"conv1": "4:16"}}, "must name prunable layers, not 'conv1'; there are layer"),
        ({"pattern": "4:16", "skip": ["linear"]}, "must name prunable layers, not 'linear'"),
        ({"pattern": "4:16", "skip": "linear"}, "prune.skip must be a list of layers, not"),
    ],
)
def test_wrong_options_are_refused(network, options, message):
    with pytest.raises(ValueError, match=message):
        plan(network, **options)
