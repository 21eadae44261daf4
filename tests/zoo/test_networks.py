"""The zoo's networks are those of the papers, and build by name."""

import pytest
import torch
from torch import nn

from coprune import zoo
from coprune.compiler.frontend import export, lower

PUBLISHED = {
    # K. He et al., "Deep Residual Learning for Image Recognition", 2015: 40.6 M to 125 M.
    "resnet20": (40_551_040, 269_722),
    "resnet32": (68_862_592, 464_154),
    "resnet44": (97_174_144, 658_586),
    "resnet56": (125_485_696, 853_018),
    # C. Banbury et al., "MLPerf Tiny Benchmark", 2021. ResNet-8 has its biases in batch norms.
    "resnet8": (12_501_632, 77_946),
    "mobilenetv1": (7_489_664, 213_586),
    "ds-cnn": (2_656_768, 23_180),
    "autoencoder": (264_192, 267_928),
    # The CIFAR form of torchvision's network: 0.56 G, 11.2 M.
    "resnet18": (555_422_720, 11_173_962),
    # 60,000 parameters in LeCun et al., 1998, whose second convolution reads some maps only.
    "lenet5": (416_520, 61_706),
}
"""Multiply-accumulates and parameters."""
SCALED = [
    # A. Howard et al., "MobileNets", 2017, tables 6 and 7.
    (zoo.MobileNetV1, 1.0, 224, 569, 4.2),
    (zoo.MobileNetV1, 0.5, 224, 149, 1.3),
    (zoo.MobileNetV1, 0.25, 224, 41, 0.5),
    (zoo.MobileNetV1, 1.0, 192, 418, 4.2),
    # The authors' list of checkpoints of MobileNetV2.
    (zoo.MobileNetV2, 1.0, 224, 300, 3.47),
    (zoo.MobileNetV2, 1.4, 224, 582, 6.06),
]
"""Width, resolution, millions of multiply-accumulates and of parameters, with 1000 classes."""


def count_macs(model: nn.Module) -> int:
    """Multiply-accumulates of convolutions and linear layers, from the float graph."""
    graph = lower(export(model, image=model.input_shape))
    return sum(
        layer.output.height * layer.output.width * source.weight.numel()
        for layer in graph.layers
        for source in layer.sources
        if source.operation in ("conv2d", "linear")
    )


def count_parameters(model: nn.Module) -> int:
    return sum(value.numel() for value in model.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_has_the_published_size(name):
    model = zoo.build(name)
    assert (count_macs(model), count_parameters(model)) == PUBLISHED[name]


@pytest.mark.parametrize(("network", "width", "resolution", "macs", "parameters"), SCALED)
def test_mobilenet_has_the_published_size(network, width, resolution, macs, parameters):
    model = network(width=width, resolution=resolution, classes=1000).eval()
    # They are rounded, and may leave out batch norms.
    assert count_macs(model) == pytest.approx(macs * 1e6, rel=0.01)
    assert count_parameters(model) == pytest.approx(parameters * 1e6, abs=0.11e6)


STRIDES = [
    ({}, (2, 2, 2, 2, 2)),
    ({"stem_stride": 1}, (1, 2, 2, 2, 2)),
    ({"stem_stride": 1, "output_stride": 8}, (1, 2, 2, 2, 1)),
    ({"output_stride": 4}, (2, 2, 1, 1, 1)),
    # No total of strides is 6: the last one that fits leaves 4.
    ({"output_stride": 6}, (2, 2, 1, 1, 1)),
    ({"stem_stride": 1, "output_stride": 1}, (1, 1, 1, 1, 1)),
]
"""Parameters, and strides of the stem and of the four convolutions that have one by default."""


@pytest.mark.parametrize(("parameters", "strides"), STRIDES)
@pytest.mark.parametrize("network", [zoo.MobileNetV1, zoo.MobileNetV2])
def test_mobilenet_has_the_strides_that_the_image_asks_for(network, parameters, strides):
    default, model = (
        [module.stride for module in network(**values).modules() if isinstance(module, nn.Conv2d)]
        for values in ({}, parameters)
    )
    strided = [stride for stride, usual in zip(model, default, strict=True) if usual == (2, 2)]
    assert strided == [(stride, stride) for stride in strides]
    assert all(
        stride == (1, 1) for stride, usual in zip(model, default, strict=True) if usual == (1, 1)
    )


@pytest.mark.parametrize("name", zoo.names())
def test_builds_in_evaluation_mode_for_the_shape_that_it_states(name):
    model = zoo.build(name)
    assert not any(module.training for module in model.modules())
    outputs = model(torch.zeros(2, *model.input_shape))
    assert outputs.dim() == 2
    assert len(outputs) == 2


# Its trained depthwise weights may be small: the batch norm after them makes up for it.
@pytest.mark.parametrize("name", sorted({*zoo.names()} - {"mobilenetv2-cifar10"}))
def test_activations_are_neither_tiny_nor_huge(name):
    model = zoo.build(name)
    deviations = {}

    def watch(path, outputs):
        deviations[path] = float(outputs.std())

    for path, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d):
            module.register_forward_hook(lambda *call, path=path: watch(path, call[-1]))
    with torch.no_grad():
        model(torch.randn(8, *model.input_shape, generator=torch.Generator().manual_seed(3)))
    assert deviations
    for path, deviation in deviations.items():
        assert 1e-2 < deviation < 1e2, path


def test_random_weights_are_the_same_every_time():
    first, again = (zoo.build("ds-cnn").state_dict() for _ in range(2))
    for name, value in first.items():
        assert torch.equal(value, again[name]), name


def test_random_batch_norms_normalize():
    model = zoo.build("ds-cnn")
    norm = model.stem[1]
    seen = []
    norm.register_forward_hook(lambda _, __, outputs: seen.append(outputs))
    with torch.no_grad():
        model(torch.randn(64, *model.input_shape, generator=torch.Generator().manual_seed(3)))
    (outputs,) = seen
    # Other images than those that the statistics are of: a few per cent.
    torch.testing.assert_close(outputs.mean(dim=(0, 2, 3)), norm.bias.detach(), atol=0.1, rtol=0)
    torch.testing.assert_close(
        outputs.std(dim=(0, 2, 3)), norm.weight.detach(), atol=0.0, rtol=0.15
    )


def test_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"one of resnet20, resnet20-dense, .*, not 'resnet9'"):
        zoo.build("resnet9")


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("mobilenetv1", {"depth": 3}, "must be among width, resolution, .*, output_stride, not"),
        ("lenet5", {"width": 3}, "parameters of lenet5 must be among none, not 'width'"),
        ("mobilenetv1", {"width": 0.0}, "width must be above 0, not 0.0"),
        ("mobilenetv2", {"blocks": 18}, "blocks must be from 1 to 17, not 18"),
        ("mobilenetv2", {"stem_stride": 3}, "stem_stride must be 1 or 2, not 3"),
        (
            "mobilenetv2",
            {"output_stride": 1},
            r"output_stride must be at least 2 \(stem_stride\), not 1",
        ),
        ("mobilenetv1", {"stem_stride": 0}, "stem_stride must be 1 or 2, not 0"),
        ("mobilenetv2", {"resolution": 0}, "resolution must be at least 1, not 0"),
        ("ds-cnn", {"channels": 0}, "channels must be at least 1"),
        ("autoencoder", {"width": 0}, "width must be at least 1, not 0"),
    ],
)
def test_unknown_parameter_or_value_is_refused(name, parameters, message):
    with pytest.raises(ValueError, match=message):
        zoo.build(name, **parameters)


def test_projection_resnet_without_stages_is_refused():
    with pytest.raises(ValueError, match="must be a stage and a block"):
        zoo.ProjectionResNet(channels=(), blocks=1)
