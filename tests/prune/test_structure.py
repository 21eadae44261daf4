import copy
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import coprune
from coprune import zoo
from coprune.prune import apply_structure, prune_pattern, prune_structure
from coprune.prune.channel_graph import ChannelGraph
from coprune.zoo.random_weights import randomize
from coprune.zoo.resnet import CifarResNet


def resnet14() -> nn.Module:
    return randomize(CifarResNet(depth=14), input_shape=CifarResNet.input_shape)


def mobilenet() -> nn.Module:
    return zoo.mobilenetv2(width=0.25, resolution=32, classes=5, blocks=5)


def resnet18() -> nn.Module:
    return zoo.resnet18(width=0.125)


def example(model: nn.Module, count: int = 4) -> torch.Tensor:
    return torch.randn(count, *model.input_shape, generator=torch.Generator().manual_seed(6))


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    "build",
    [
        resnet14,
        resnet18,
        mobilenet,
        lambda: zoo.squeezenet(resolution=32, classes=5, fires=2),
        zoo.lenet5,
    ],
    ids=["resnet14", "resnet18", "mobilenetv2", "squeezenet", "lenet5"],
)
def test_what_is_left_computes_what_the_network_did_with_those_channels_at_zero(build):
    model, zeroed = build(), build()
    x = example(model)
    graph = ChannelGraph.of(zeroed, image=model.input_shape)
    structure = prune_structure(model, ratio=0.5, example=x)
    assert parameters(model) < 0.45 * parameters(zeroed)
    # Zero what makes the channels: filters, and batch norms with their biases.
    with torch.no_grad():
        gone = set()
        for name, axes in structure["channels"].items():
            channels = sorted(
                {*range(len(graph.outputs[name]))} - {*axes.get("outputs", graph.outputs[name])}
            )
            gone |= {*graph.outputs[name][channels]} if "outputs" in axes else set()
        for name, channels in graph.outputs.items():
            module = zeroed.get_submodule(name)
            dead = np.isin(channels, [*gone])
            module.weight[dead] = 0
            if module.bias is not None:
                module.bias[dead] = 0
        expected = zeroed.double()(x.double())
    assert torch.allclose(model.double()(x.double()), expected, rtol=0, atol=1e-9)


def test_all_that_a_padding_shortcut_connects_shrinks_alike():
    model = resnet14()
    structure = prune_structure(model, ratio=0.25, example=example(model))
    kept = {name: axes.get("outputs") for name, axes in structure["channels"].items()}
    assert [model.get_submodule(f"layer{stage}.1.conv2").out_channels for stage in (1, 2, 3)] == [
        *(12, 24, 48),
    ]
    small, middle = kept["layer1.0.conv2"], kept["layer2.0.conv2"]
    assert middle[6:18] == [8 + channel for channel in small]
    assert max(middle[:6]) < 8
    assert min(middle[18:]) >= 24
    assert kept["bn1"] == kept["conv1"] == small


def test_a_shortcut_that_pads_by_a_fixed_number_loses_nothing():
    class Fixed(nn.Module):
        input_shape = (3, 4, 4)

        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 8, 1)
            self.inner = nn.Conv2d(8, 12, 1)
            self.second = nn.Conv2d(12, 16, 1)
            self.linear = nn.Linear(16, 2)

        def forward(self, x):
            x = F.relu(self.first(x))
            x = F.pad(x, (0, 0, 0, 0, 4, 4)) + self.second(F.relu(self.inner(x)))
            return self.linear(x.mean(dim=(2, 3)))

    model = Fixed().eval()
    structure = prune_structure(model, ratio=0.5, example=example(model))
    assert list(structure["channels"]) == ["second", "inner"]
    assert model.inner.out_channels == model.second.in_channels == 6
    with pytest.raises(ValueError, match=r"code depends on its numbers of channels"):
        prune_structure(model, channels={"first": 4}, example=example(model))
    assert model.first.out_channels == 8


def test_channels_that_are_added_to_the_padded_image_stay():
    class Padded(nn.Module):
        input_shape = (3, 4, 4)

        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 6, 1)
            self.second = nn.Conv2d(6, 8, 1)
            self.linear = nn.Linear(8, 2)

        def forward(self, x):
            x = F.relu(self.first(x) + F.pad(x, (0, 0, 0, 0, 0, 3)))
            return self.linear(self.second(x).mean(dim=(2, 3)))

    model = Padded().eval()
    prune_structure(model, ratio=0.5, example=example(model))
    assert (model.first.out_channels, model.second.out_channels) == (6, 4)


def test_the_least_important_channels_go():
    model = zoo.lenet5()
    means = model.conv1.weight.detach().abs().flatten(1).mean(dim=1)
    structure = prune_structure(model, channels={"conv1": 4}, example=example(model))
    assert structure["channels"]["conv1"]["outputs"] == sorted(means.topk(4).indices.tolist())
    assert structure["channels"]["conv2"] == structure["channels"]["conv2"] | {
        "inputs": structure["channels"]["conv1"]["outputs"]
    }
    assert [*structure["channels"]] == ["conv2", "conv1"]


def test_importance_with_calibration():
    model = resnet18()
    x = example(model)
    gamma = model.blocks[0].bn1.weight.detach().abs()
    structure = prune_structure(
        model,
        channels={"blocks.0.conv1": 3},
        importance="batch_norm",
        calibration=[(x, torch.arange(len(x)))],
    )
    kept = structure["channels"]["blocks.0.conv1"]["outputs"]
    assert kept == sorted(gamma.topk(3).indices.tolist())


@pytest.mark.parametrize(("ratio", "left"), [(0.3, 8), (0.7, 8), (0.2, 16)])
def test_kept_channels_are_a_multiple(ratio, left):
    model = zoo.projection_resnet.resnet8()
    prune_structure(model, ratio=ratio, multiple=8, example=example(model))
    assert model.conv1.out_channels == left
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            assert module.out_channels % 8 == 0, name


def test_skipped_layers_keep_their_channels():
    model = mobilenet()
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    before = {name: model.get_submodule(name).out_channels for name in names}
    prune_structure(model, ratio=0.5, skip=[names[0]], example=example(model))
    # The depthwise convolution has the stem's channels, and the block around it adds to them.
    after = {name: model.get_submodule(name).out_channels for name in names}
    assert all(after[name] == before[name] for name in names[:3])
    assert all(after[name] < before[name] for name in names[3:])


def test_a_fresh_network_takes_the_weights_of_the_smaller_one():
    model = resnet14()
    structures = [
        prune_structure(model, ratio=0.3, unit="layers", example=example(model)),
        prune_structure(model, ratio=0.5, example=example(model)),
    ]
    file = io.BytesIO()
    torch.save({"structures": structures, "state": model.state_dict()}, file)
    file.seek(0)
    stored = torch.load(file, weights_only=True)
    fresh = resnet14()
    for structure in stored["structures"]:
        apply_structure(fresh, structure)
    fresh.load_state_dict(stored["state"])
    x = example(model)
    assert torch.equal(fresh(x), model(x))


@pytest.mark.parametrize("build", [resnet14, mobilenet])
def test_the_smaller_network_runs_on_the_accelerator_in_fewer_cycles(build):
    model = build()
    x = example(model, 8)
    accelerator = coprune.AcceleratorConfig(lanes=8, columns=8, activation_depth=1024)
    before = coprune.compile(model, accelerator, calibration=[x]).cycles().total.cycles
    prune_structure(model, ratio=0.5, example=x)
    prune_pattern(model, "4:8")
    program = coprune.compile(model, accelerator, calibration=[x])
    assert program.cycles().total.cycles < 0.6 * before


def test_residual_blocks_become_shortcuts():
    model, zeroed = zoo.resnet20(), zoo.resnet20()
    structure = prune_structure(model, ratio=0.45, unit="layers", example=example(model))
    assert structure["channels"] == {}
    assert len(structure["removed"]) == 3
    with torch.no_grad():
        for name in structure["removed"]:
            assert isinstance(model.get_submodule(name), nn.Identity)
            zeroed.get_submodule(name).bn2.weight.zero_()
            zeroed.get_submodule(name).bn2.bias.zero_()
    x = example(model)
    assert torch.equal(model(x), zeroed(x))


def test_the_least_important_blocks_go():
    model = zoo.resnet20()
    with torch.no_grad():
        for name in ("layer1.2", "layer3.1"):
            for layer in (model.get_submodule(name).conv1, model.get_submodule(name).conv2):
                layer.weight *= 0.01
    dense = copy.deepcopy(model)
    options = {"unit": "layers", "example": example(model)}
    structure = prune_structure(model, ratio=2 / 7, **options)
    assert structure["removed"] == ["layer1.2", "layer3.1"]
    structure = prune_structure(dense, ratio=1 / 6, skip=["layer1.2"], **options)
    assert structure["removed"] == ["layer3.1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"exactly one of ratio and channels"),
        ({"ratio": 0.5, "channels": {"conv1": 3}}, r"exactly one of ratio and channels"),
        ({"ratio": 1.0}, r"ratio must be from 0 to below 1, not 1\.0"),
        ({"ratio": 0.5, "unit": "filters"}, r"unit must be one of .*not 'filters'"),
        ({"channels": {"conv1": 3}, "unit": "layers"}, r"'layers' must go with a ratio"),
        ({"ratio": 0.5, "multiple": 0}, r"multiple must be at least 1, not 0"),
        ({"ratio": 0.5, "skip": ["head"]}, r"skip must name layers of the network, not \['head'\]"),
        ({"ratio": 0.5, "skip": ["conv1"], "unit": "layers"}, r"skip must name residual blocks"),
        ({"channels": {"head": 3}}, r"channels must name layers of the network, not \['head'\]"),
        ({"channels": {"linear": 3}}, r"output channels of \['linear'\] must stay"),
        ({"channels": {"conv1": 8}, "skip": ["layer1.0.conv2"]}, r"\['conv1'\] must stay"),
        ({"channels": {"conv1": 0}}, r"must be one of \[2, 4, 6, 8, 10, 12, 14, 16\], not 0"),
        ({"channels": {"conv1": 7}}, r"must be one of \[2, 4, 6, 8, 10, 12, 14, 16\], not 7"),
        ({"channels": {"conv1": 8, "layer1.0.conv2": 4}}, r"must agree for layers that share them"),
    ],
)
def test_malformed_requests_are_refused(options, message):
    model = resnet14()
    with pytest.raises(ValueError, match=message):
        prune_structure(model, example=example(model), **options)
    assert parameters(model) == parameters(resnet14())


def test_needs_an_example():
    with pytest.raises(ValueError, match=r"pass example or calibration"):
        prune_structure(zoo.lenet5(), ratio=0.5)


def test_a_structure_of_another_network_is_refused():
    model = resnet14()
    structure = prune_structure(model, ratio=0.5, example=example(model))
    with pytest.raises(ValueError, match=r"structure is another network's: there is no \['bn1'"):
        apply_structure(zoo.lenet5(), structure)
