import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coprune import zoo
from coprune.prune import prunable_layers, score_weights
from coprune.prune.block_pattern import BlockPattern
from coprune.prune.permutation import permute_channels
from coprune.zoo.random_weights import randomize
from coprune.zoo.resnet import CifarResNet


def resnet14() -> nn.Module:
    return randomize(CifarResNet(depth=14), input_shape=CifarResNet.input_shape)


def images(model: nn.Module, count: int = 6) -> torch.Tensor:
    return torch.randn(count, *model.input_shape, generator=torch.Generator().manual_seed(8))


def permuted(model: nn.Module, *, n: int, m: int) -> tuple[dict, dict, dict]:
    layers = prunable_layers(model, m=m)
    patterns = {
        name: BlockPattern.uniform(tuple(layer.weight.shape), n=n, lanes=m)
        for name, layer in layers.items()
    }
    before = score_weights(model, layers)
    after = permute_channels(
        model, scores=before, patterns=patterns, example=images(model), escapes=0
    )
    return patterns, before, after


@pytest.mark.parametrize(
    ("build", "m"),
    [
        (resnet14, 8),
        (lambda: zoo.resnet18(width=0.125), 8),
        (lambda: zoo.mobilenetv2(width=0.25, resolution=32, classes=5, blocks=5), 8),
        (lambda: zoo.squeezenet(resolution=32, classes=5, fires=2), 8),
        (zoo.lenet5, 8),
    ],
    ids=["resnet14", "resnet18", "mobilenetv2", "squeezenet", "lenet5"],
)
def test_the_network_computes_the_same_and_keeps_more(build, m):
    model = build()
    x = images(model).double()
    expected = build().double()(x)
    patterns, before, after = permuted(model, n=1, m=m)
    for name, scores in after.items():
        weight = model.get_submodule(name).weight.detach()
        assert torch.equal(weight.abs(), scores), name
    outputs = model.double()(x)
    assert torch.allclose(outputs, expected, rtol=0, atol=1e-9)
    assert torch.equal(outputs.argmax(dim=1), expected.argmax(dim=1))

    def kept(scores) -> float:
        return sum(float(scores[name][patterns[name].mask(scores[name])].sum()) for name in scores)

    assert kept(after) > kept(before)


def test_groups_of_sixteen_channels_cannot_gain_by_their_order():
    model = resnet14()
    patterns, before, after = permuted(model, n=4, m=16)
    for name in ("layer1.0.conv2", "layer1.1.conv1"):
        old, new = (scores[name][patterns[name].mask(scores[name])].sum() for scores in
                    (before, after))  # fmt: skip
        assert torch.allclose(old, new)


def test_channels_that_are_flattened_images_stay_for_their_reader():
    model, untouched = zoo.lenet5(), zoo.lenet5()
    scores = {"linear1": model.linear1.weight.detach().abs()}
    pattern = BlockPattern.uniform((120, 400), n=1, lanes=8)
    permute_channels(model, scores=scores, patterns={"linear1": pattern}, example=images(model))
    for name, value in model.state_dict().items():
        assert torch.equal(value, untouched.state_dict()[name]), name


class Ordered(nn.Module):
    """Does what an export does not see."""

    input_shape = (3, 4, 4)

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 1)
        self.second = nn.Conv2d(16, 16, 1)
        self.last = nn.Linear(16, 2)

    def forward(self, x):
        x = F.relu(self.first(x))
        if not torch.compiler.is_exporting():
            x = x * torch.arange(16).view(1, 16, 1, 1)
        return self.last(self.second(x).mean(dim=(2, 3)))


def test_code_that_depends_on_the_order_is_found_out():
    model = randomize(Ordered(), input_shape=Ordered.input_shape)
    weight = model.first.weight.detach().clone()
    with pytest.raises(ValueError, match=r"output changes with the order .*prune it without"):
        permuted(model, n=1, m=8)
    assert torch.equal(model.first.weight, weight)


def test_training_mode_stays():
    model = zoo.lenet5().train()
    permuted(model, n=1, m=8)
    assert model.training
