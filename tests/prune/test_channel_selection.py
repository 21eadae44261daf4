import pytest
import torch
from torch import nn

from coprune.prune.channel_selection import select_channels


def network() -> nn.Sequential:
    torch.manual_seed(4)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 8, 3, groups=4), nn.Linear(8, 5)
    )
    nn.init.uniform_(model[1].running_mean)
    return model


def test_keeps_the_selected_channels_in_their_order():
    model, dense = network(), network()
    select_channels(
        model,
        {
            "0": {"outputs": [2, 0]},
            "1": {"outputs": [2, 0]},
            "2": {"outputs": [4, 5, 0, 1]},
            "3": {"inputs": [4, 5, 0, 1], "outputs": [1, 3, 4]},
        },
    )
    assert torch.equal(model[0].weight, dense[0].weight[[2, 0]])
    assert torch.equal(model[0].bias, dense[0].bias[[2, 0]])
    assert torch.equal(model[1].running_mean, dense[1].running_mean[[2, 0]])
    assert torch.equal(model[2].weight, dense[2].weight[[4, 5, 0, 1]])
    assert torch.equal(model[3].weight, dense[3].weight[[1, 3, 4]][:, [4, 5, 0, 1]])
    assert torch.equal(model[3].bias, dense[3].bias[[1, 3, 4]])
    assert (model[0].in_channels, model[0].out_channels) == (3, 2)
    assert model[1].num_features == 2
    assert (model[2].in_channels, model[2].out_channels, model[2].groups) == (2, 4, 2)
    assert (model[3].in_features, model[3].out_features) == (4, 3)
    assert model[:3](torch.ones(2, 3, 3, 3)).shape == (2, 4, 1, 1)


def test_a_new_order_keeps_the_parameters_of_an_optimizer():
    model = network()
    weight, expected = model[0].weight, model[0].weight.detach()[[3, 1, 0, 2]]
    weight.grad = torch.ones_like(weight)
    select_channels(model, {"0": {"outputs": [3, 1, 0, 2]}})
    assert model[0].weight is weight
    assert torch.equal(weight, expected)
    assert weight.grad is None


def test_frozen_parameters_stay_frozen():
    model = network()
    model[0].weight.requires_grad_(False)
    select_channels(model, {"0": {"outputs": [0]}})
    assert not model[0].weight.requires_grad
    assert model[0].bias.requires_grad


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"0": {"outputs": [4]}}, r"outputs of '0' must be some of its 4 channels, not \[4\]"),
        ({"0": {"inputs": [-1]}}, r"inputs of '0' must be some of its 3 channels, not \[-1\]"),
        ({"3": {"outputs": []}}, r"some of its 5 channels, not \[\]"),
        ({"": {"outputs": [0]}}, r"but '' is a Sequential"),
    ],
)
def test_channels_of_another_network_are_refused(selection, message):
    with pytest.raises(ValueError, match=message):
        select_channels(network(), selection)
