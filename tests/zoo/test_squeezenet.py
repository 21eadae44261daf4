"""SqueezeNet: the published network, its public weights, and its sizes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from coprune import zoo

WEIGHTS = (
    Path(__file__).parents[3]
    / "shared/data/squeezenet-deep-compression/squeezenet_decoded_fp32.npz"
)
PUBLISHED_PARAMETERS = 1_248_424


def count_parameters(model: torch.nn.Module) -> int:
    return sum(value.numel() for value in model.parameters())


def test_has_the_published_number_of_parameters():
    assert count_parameters(zoo.build("squeezenet")) == PUBLISHED_PARAMETERS


@pytest.mark.parametrize("resolution", [21, 32, 64, 65])
def test_size_of_the_image_is_a_parameter(resolution):
    model = zoo.build("squeezenet", resolution=resolution, classes=7)
    assert not model.training
    assert model.input_shape == (3, resolution, resolution)
    assert model(torch.zeros(2, *model.input_shape)).shape == (2, 7)


def test_layers_have_the_published_sizes_at_227_pixels():
    model = zoo.SqueezeNet(resolution=227)
    sizes = {}
    for name, module in model.named_modules():
        module.register_forward_hook(
            lambda _, __, output, name=name: sizes.update({name: tuple(output.shape[1:])})
        )
    model(torch.zeros(1, *model.input_shape))
    assert sizes["conv1"] == (96, 111, 111)
    assert sizes["fires.fire2"] == (128, 55, 55)
    assert sizes["fires.fire5"] == (256, 27, 27)
    assert sizes["fires.fire9"] == (512, 13, 13)


@pytest.mark.parametrize("fires", [0, 9])
def test_number_of_fire_modules_out_of_range_is_refused(fires):
    with pytest.raises(ValueError, match=rf"fires from 1 to 8, not 64, {fires}"):
        zoo.squeezenet(fires=fires)


def test_images_that_leave_nothing_to_pool_are_refused():
    with pytest.raises(ValueError, match="resolution must be at least 21"):
        zoo.squeezenet(resolution=20)


def test_weights_without_a_layer_are_refused(tmp_path):
    np.savez(tmp_path / "weights.npz", **{"conv1/w": np.zeros(1), "conv1/b": np.zeros(1)})
    with pytest.raises(KeyError, match="conv_final/w"):
        zoo.load_deep_compression(zoo.SqueezeNet(), weights=tmp_path / "weights.npz")


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="the public weights are not part of the project")
class TestPublicWeights:
    def test_a_third_is_not_zero(self):
        model = zoo.load_deep_compression(zoo.SqueezeNet(), weights=WEIGHTS)
        weights = [value for name, value in model.named_parameters() if name.endswith("weight")]
        assert sum(int(weight.count_nonzero()) for weight in weights) == 415_921
        assert sum(weight.numel() for weight in weights) == 1_244_448

    def test_other_shapes_are_refused(self):
        with pytest.raises(RuntimeError, match=r"conv10\.weight"):
            zoo.load_deep_compression(zoo.SqueezeNet(classes=10), weights=WEIGHTS)
