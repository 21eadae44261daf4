import numpy as np
import pytest
import torch

from coprune import zoo
from coprune.data import load_sample, normalize
from coprune.prune import prunable_layers
from coprune.train import evaluate


def test_unknown_weights_are_refused():
    with pytest.raises(ValueError, match=r"one of \['dense', '4:16'\], not '2:4'"):
        zoo.resnet20("2:4")


@pytest.mark.parametrize("depth", [7, 18, 2])
def test_depth_that_is_not_6n_plus_2_is_refused(depth):
    with pytest.raises(ValueError, match=rf"6n \+ 2 with n >= 1, not {depth}"):
        zoo.CifarResNet(depth=depth)


def test_shortcut_takes_every_second_pixel_and_pads_channels_on_both_sides():
    block = zoo.resnet20().layer2[0]
    torch.nn.init.zeros_(block.bn2.weight)
    torch.nn.init.zeros_(block.bn2.bias)
    x = torch.rand(1, 16, 32, 32)
    with torch.no_grad():
        y = block(x)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any()
    assert not y[:, 24:].any()


def test_shipped_pruned_network_is_4_of_16_in_every_eligible_layer():
    layers = prunable_layers(zoo.build("resnet20"))
    assert len(layers) == 18
    for name, layer in layers.items():
        kept = layer.weight.detach().unflatten(1, (-1, 16)).count_nonzero(dim=2)
        assert kept.max() <= 4, name


@pytest.mark.parametrize(("name", "correct"), [("resnet20-dense", 453), ("resnet20", 455)])
def test_shipped_network_recognizes_the_shipped_images(name, correct):
    test = load_sample().test
    accuracy = evaluate(zoo.build(name), dataset=test, normalize=normalize)
    assert accuracy >= correct / 500


def test_weights_are_plain_float32():
    for name in zoo.names():
        for key, value in zoo.build(name).state_dict().items():
            expected = torch.int64 if key.endswith("num_batches_tracked") else torch.float32
            assert value.dtype == expected, key
            assert value.is_contiguous(), key
            assert np.isfinite(value.numpy()).all(), key
