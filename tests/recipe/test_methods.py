import pytest
import torch

from coprune import AcceleratorConfig, zoo
from coprune.prune import HardwarePruner, apply_structure, prunable_layers, prune_pattern
from coprune.recipe.methods import METHODS, Planned
from tests.prune.small_network import ACCELERATOR, labelled_images
from tests.prune.small_network import network as small_network

CONFIG = AcceleratorConfig.preset("16x16")


def plan(model, **options):
    return METHODS["pattern"].plan(model, CONFIG, None, options).choose


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
    assert METHODS["none"].plan(network, CONFIG, None, {}) == Planned()


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


class Data:
    """A data set, as far as planning needs it."""

    @staticmethod
    def labelled_calibration_batches():
        return [labelled_images()]


def test_budget_decides_what_blocks_keep_of_the_dense_weights():
    model = small_network()
    planned = METHODS["budget"].plan(model, ACCELERATOR, Data, {"speedup": 1.5})
    for name, weight in small_network().state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name
    pruner = HardwarePruner(small_network(), ACCELERATOR, calibration=[labelled_images()])
    result = pruner.prune_to_budget(speedup=1.5)
    final, halfway = planned.choose(model, 1.0), planned.choose(model, 0.5)
    for name, mask in final.items():
        assert torch.equal(mask, result.masks[name]), name
        assert not bool((mask & ~halfway[name]).any()), name
        assert int(mask.sum()) < int(halfway[name].sum()), name


def test_sparsity_grows_with_the_share_of_pruning():
    model = small_network()
    planned = METHODS["weights"].plan(model, ACCELERATOR, Data, {"sparsity": 0.6})
    assert bool((model.conv1.weight != 0).all())
    for share, sparsity in ((0.5, 0.3), (1.0, 0.6)):
        masks = planned.choose(model, share)
        pruned = sum(int((~mask).sum()) for mask in masks.values())
        assert pruned == int(sparsity * sum(mask.numel() for mask in masks.values()))


def test_structure_makes_the_network_smaller_before_training():
    model = small_network()
    planned = METHODS["structure"].plan(model, ACCELERATOR, Data, {"ratio": 0.5})
    assert planned.choose is None
    assert model.conv1.out_channels == 8
    again = small_network()
    apply_structure(again, planned.structure)
    assert again.conv1.out_channels == 8
    again.load_state_dict(model.state_dict())


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("budget", {}, "prune: a budget must be one of cycles, speedup and latency_ms"),
        ("budget", {"speedup": "4"}, "prune: "),
        ("weights", {}, "prune: exactly one of threshold and sparsity must be given"),
        ("structure", {"ratio": 2.0}, "prune: ratio must be"),
    ],
)
def test_wrong_options_of_other_methods_are_refused_before_training(method, options, message):
    with pytest.raises(ValueError, match=message):
        METHODS[method].plan(small_network(), ACCELERATOR, Data, options)
