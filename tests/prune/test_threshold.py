import pytest
import torch
from torch import nn

from coprune.prune import prune_weights


def network() -> nn.Sequential:
    """Two layers of four input channels, [2, 4, 1, 2] and [2, 2, 2, 1], and a classifier."""
    model = nn.Sequential(
        nn.Conv2d(4, 2, (1, 2)), nn.Conv2d(4, 2, (2, 1)), nn.Flatten(), nn.Linear(4, 3)
    )
    model[0].weight.data = torch.tensor(
        [[[1.0, -2.0], [0.5, 0.5], [-3.0, 0.0], [2.0, 4.0]],
         [[8.0, 8.0], [-8.0, 4.0], [2.0, 6.0], [1.0, 3.0]]]
    ).unsqueeze(2)  # fmt: skip
    model[1].weight.data = torch.tensor(
        [[[0.1, 0.2], [0.3, 0.4], [0.5, 0.6], [0.7, 0.8]],
         [[2.0, 2.0], [2.0, 2.0], [2.0, 2.0], [2.0, 2.0]]]
    ).unsqueeze(3)  # fmt: skip
    return model


def kept(*, layer: str = "0", **options) -> list[list[list[int]]]:
    """The mask of one layer as [out][in][tap]; what it does not keep is zero afterwards."""
    model = network()
    masks = prune_weights(model, lanes=4, **options)
    dense = network()
    for name, mask in masks.items():
        assert mask.dtype == torch.bool
        assert torch.equal(
            model.get_submodule(name).weight, dense.get_submodule(name).weight * mask
        ), name
    assert torch.equal(model[3].weight == 0, torch.zeros(3, 4, dtype=torch.bool))
    return masks[layer].flatten(2).int().tolist()


def test_a_weight_is_kept_when_its_importance_exceeds_the_threshold():
    # 2 does not exceed 2.
    assert kept(threshold=2.0) == [
        [[0, 0], [0, 0], [1, 0], [0, 1]],
        [[1, 1], [1, 1], [0, 1], [0, 1]],
    ]
    assert kept(threshold=2.0, layer="1") == [[[0, 0]] * 4] * 2


def test_threshold_0_keeps_all_that_is_not_zero():
    assert kept(threshold=0.0)[0] == [[1, 1], [1, 1], [1, 0], [1, 1]]


def test_a_local_threshold_is_a_multiple_of_the_layers_mean():
    # The mean of layer 0 is (13 + 40) / 16 = 3.3125, that of layer 1 19.6 / 16 = 1.225.
    options = {"threshold": 1.0, "scope": "local"}
    assert kept(**options)[0] == [[0, 0], [0, 0], [0, 0], [0, 1]]
    assert kept(**options, layer="1") == [[[0, 0]] * 4, [[1, 1]] * 4]


def test_a_local_threshold_is_a_multiple_of_the_filters_mean():
    # Filter means 13 / 8 = 1.625 and 5; 0.45 and 2.
    options = {"threshold": 1.0, "scope": "local", "unit": "filter"}
    assert kept(**options) == [[[0, 1], [0, 0], [1, 0], [1, 1]], [[1, 1], [1, 0], [0, 1], [0, 0]]]
    # Weights that are all equal do not exceed their mean.
    assert kept(**options, layer="1") == [[[0, 0], [0, 0], [1, 1], [1, 1]], [[0, 0]] * 4]


def test_a_local_threshold_is_a_multiple_of_the_kernels_mean():
    options = {"threshold": 1.0, "scope": "local", "unit": "kernel"}
    assert kept(**options) == [[[0, 1], [0, 0], [1, 0], [0, 1]], [[0, 0], [1, 0], [0, 1], [0, 1]]]


def test_a_threshold_per_kernel_scales_with_it():
    options = {"scope": "local", "unit": "kernel"}
    assert kept(threshold=0.5, **options)[1] == [[1, 1], [1, 1], [0, 1], [0, 1]]


def test_global_sparsity_takes_the_smallest_of_all_layers():
    # The 12 smallest of 32 are 0, 0.1 to 0.8 with 0.5 three times, and the later of the two ones.
    assert kept(sparsity=12 / 32) == [
        [[1, 1], [0, 0], [1, 0], [1, 1]],
        [[1, 1], [1, 1], [1, 1], [0, 1]],
    ]
    assert kept(sparsity=12 / 32, layer="1") == [[[0, 0]] * 4, [[1, 1]] * 4]


def test_local_sparsity_takes_as_many_of_every_layer():
    options = {"sparsity": 0.5, "scope": "local"}
    # Eight of layer 0: 0, 0.5, 0.5, 1, 1 and three twos.
    assert kept(**options) == [[[0, 0], [0, 0], [1, 0], [0, 1]], [[1, 1], [1, 1], [0, 1], [0, 1]]]
    assert kept(**options, layer="1") == [[[0, 0]] * 4, [[1, 1]] * 4]


def test_local_sparsity_takes_as_many_of_every_filter_or_kernel():
    options = {"sparsity": 0.5, "scope": "local"}
    assert kept(**options, unit="filter") == [
        [[0, 1], [0, 0], [1, 0], [1, 1]],
        [[1, 1], [1, 0], [0, 1], [0, 0]],
    ]
    # Of equal importances the one with the lower index stays.
    assert kept(**options, unit="kernel")[0] == [[0, 1], [1, 0], [1, 0], [0, 1]]
    assert kept(**options, unit="kernel", layer="1")[1] == [[1, 0]] * 4


@pytest.mark.parametrize(("sparsity", "zeros"), [(0, 0), (0.009, 0), (0.29, 29), (0.999, 99)])
def test_sparsity_is_rounded_down_to_a_weight(sparsity, zeros):
    model = nn.Sequential(nn.Linear(100, 1, bias=False), nn.Linear(1, 1))
    masks = prune_weights(model, sparsity=sparsity, lanes=16)
    assert int((~masks["0"]).sum()) == zeros


def test_importance_decides():
    def opposite(model, layers, calibration):
        return {name: 10 - layer.weight.abs() for name, layer in layers.items()}

    assert kept(threshold=6.0, importance=opposite)[1] == [[0, 0], [0, 0], [1, 0], [1, 1]]
    images = torch.ones(2, 4, 1, 2)
    images[:, 1:] = 0
    batch = (images, torch.zeros(2, 2, 1, 1))
    model = network()[:1]
    wanda = prune_weights(model, threshold=0.0, importance="wanda", calibration=[batch], lanes=4)
    assert wanda["0"].squeeze().int().tolist() == [[[1, 1], [0, 0], [0, 0], [0, 0]]] * 2


def test_skipped_layers_and_layers_with_few_channels_stay_dense():
    assert list(prune_weights(network(), sparsity=0.5, lanes=4, skip=["1"])) == ["0"]
    assert prune_weights(network(), sparsity=0.5) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"exactly one of threshold and sparsity must be given, not None and None"),
        ({"threshold": 1.0, "sparsity": 0.5}, r"not 1\.0 and 0\.5"),
        ({"sparsity": 1.0}, r"sparsity must be from 0 to below 1, not 1\.0"),
        ({"threshold": -1.0}, r"threshold must be finite and not negative, not -1\.0"),
        ({"threshold": float("nan")}, r"threshold must be finite and not negative, not nan"),
        ({"sparsity": 0.5, "scope": "layer"}, r"scope must be one of .*not 'layer'"),
        ({"sparsity": 0.5, "unit": "row"}, r"unit must be one of .*not 'row'"),
        ({"sparsity": 0.5, "unit": "filter"}, r"'filter' must go with scope 'local'"),
        ({"sparsity": 0.5, "skip": ["2"]}, r"skip must name prunable layers, not \['2'\]"),
    ],
)
def test_malformed_requests_are_refused(options, message):
    model = network()
    with pytest.raises(ValueError, match=message):
        prune_weights(model, lanes=4, **options)
    assert torch.equal(model[0].weight, network()[0].weight)


def test_kernels_of_one_weight_are_refused():
    model = nn.Sequential(nn.Conv2d(16, 4, 1))
    with pytest.raises(ValueError, match=r"those of layer '0' have one: skip the layer or choose"):
        prune_weights(model, sparsity=0.5, scope="local", unit="kernel")
