"""MobileNets: depthwise and pointwise convolutions, in any width and for images of any size."""

import math
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn

from coprune.zoo.random_weights import randomize

CIFAR10_WEIGHTS = Path(__file__).parent / "weights" / "mobilenetv2_cifar10.pt"
CIFAR10_PARAMETERS = MappingProxyType(
    {"width": 0.5, "resolution": 32, "classes": 10, "stem_stride": 1, "output_stride": 8}
)
"""Of the network that these weights are for: its last features are 4 x 4 pixels."""

V1_STEM_CHANNELS = 32
V1_BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1),) * 5,
    *((1024, 2), (1024, 1)),
)
"""Output channels and stride of every pair of a depthwise and a pointwise convolution."""

V2_STEM_CHANNELS = 32
V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, output channels, blocks and the first block's stride of every stage."""
V2_LAST_CHANNELS = 1280

CHANNEL_STEP = 8
"""Scaled numbers of channels are rounded to multiples of it, as in the authors' programs."""


class MobileNetV1(nn.Module):
    """Howard et al., "MobileNets", 2017, table 1.

    Input [N, 3, resolution, resolution]; output [N, classes] logits.

    Parameters
    ----------
    width
        Factor on all numbers of channels, the paper's alpha.
    resolution
        Rows and columns of an image.
    blocks
        How many of the 13 pairs of convolutions the network has: fewer make a smaller one.
    stem_stride
        Of the first convolution: 2, or 1 for images as small as those of CIFAR.
    output_stride
        Most rows of an image per row of features: strides that would pass it are 1, as in Chen
        et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017, but without
        dilation.
    """

    def __init__(
        self,
        *,
        width: float = 0.25,
        resolution: int = 96,
        classes: int = 2,
        blocks: int = len(V1_BLOCKS),
        stem_stride: int = 2,
        output_stride: int = 32,
    ):
        super().__init__()
        _check(width=width, resolution=resolution, blocks=blocks, most=len(V1_BLOCKS))
        strides = [stride for _, stride in V1_BLOCKS[:blocks]]
        strides = _limited([stem_stride, *strides], output_stride=output_stride)
        self.input_shape = (3, resolution, resolution)
        channels = _scaled(V1_STEM_CHANNELS, width)
        layers = _normalized(3, channels, kernel=3, stride=strides[0])
        for (outputs, _), stride in zip(V1_BLOCKS[:blocks], strides[1:], strict=True):
            outputs = _scaled(outputs, width)
            layers += _normalized(channels, channels, kernel=3, stride=stride, groups=channels)
            layers += _normalized(channels, outputs)
            channels = outputs
        self.features = nn.Sequential(*layers)
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.features(x).mean(dim=(2, 3)))


class InvertedResidual(nn.Module):
    """Expand, filter by depth, project; with a shortcut where input and output have one shape."""

    def __init__(self, in_channels: int, out_channels: int, *, expansion: int, stride: int):
        super().__init__()
        hidden = in_channels * expansion
        layers = _normalized(in_channels, hidden) if expansion > 1 else []
        layers += _normalized(hidden, hidden, kernel=3, stride=stride, groups=hidden)
        layers += _normalized(hidden, out_channels)[:-1]
        self.layers = nn.Sequential(*layers)
        self.shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x) if self.shortcut else self.layers(x)


class MobileNetV2(nn.Module):
    """Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018, table 2.

    Parameters are those of `MobileNetV1`; `blocks` counts the 17 inverted residuals. A width below
    1 leaves the last convolution as it is.
    """

    def __init__(
        self,
        *,
        width: float = 0.35,
        resolution: int = 96,
        classes: int = 1000,
        blocks: int = sum(stage[2] for stage in V2_STAGES),
        stem_stride: int = 2,
        output_stride: int = 32,
    ):
        super().__init__()
        described = [
            (expansion, channels, 1 if number else stride)
            for expansion, channels, count, stride in V2_STAGES
            for number in range(count)
        ]
        _check(width=width, resolution=resolution, blocks=blocks, most=len(described))
        strides = [stride for *_, stride in described[:blocks]]
        strides = _limited([stem_stride, *strides], output_stride=output_stride)
        self.input_shape = (3, resolution, resolution)
        channels = _scaled(V2_STEM_CHANNELS, width)
        layers = _normalized(3, channels, kernel=3, stride=strides[0])
        for (expansion, outputs, _), stride in zip(described[:blocks], strides[1:], strict=True):
            outputs = _scaled(outputs, width)
            layers.append(InvertedResidual(channels, outputs, expansion=expansion, stride=stride))
            channels = outputs
        last = _scaled(V2_LAST_CHANNELS, max(1.0, width))
        self.features = nn.Sequential(*layers, *_normalized(channels, last))
        self.linear = nn.Linear(last, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.features(x).mean(dim=(2, 3)))


def mobilenetv1(**parameters) -> MobileNetV1:
    """Return a `MobileNetV1` of these parameters in evaluation mode, with random weights."""
    model = MobileNetV1(**parameters)
    return randomize(model, input_shape=model.input_shape)


def mobilenetv2(**parameters) -> MobileNetV2:
    """Return a `MobileNetV2` of these parameters in evaluation mode, with random weights."""
    model = MobileNetV2(**parameters)
    return randomize(model, input_shape=model.input_shape)


def mobilenetv2_cifar10() -> MobileNetV2:
    """Return MobileNetV2 for CIFAR-10 in evaluation mode, with the weights that come with coprune.

    Input [N, 3, 32, 32], normalized as in `coprune.data.cifar10`; output [N, 10] logits.
    """
    model = MobileNetV2(**CIFAR10_PARAMETERS)
    model.load_state_dict(torch.load(CIFAR10_WEIGHTS, weights_only=True))
    return model.eval()


def _normalized(
    inputs: int, outputs: int, *, kernel: int = 1, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """A convolution, its batch norm and ReLU6."""
    padding = kernel // 2
    convolution = nn.Conv2d(
        inputs, outputs, kernel, stride, padding=padding, groups=groups, bias=False
    )
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU6()]


def _limited(strides: list[int], *, output_stride: int) -> list[int]:
    """Strides from the stem's on, with 1 for those that would pass `output_stride`."""
    if strides[0] not in (1, 2):
        raise ValueError(f"stem_stride must be 1 or 2, not {strides[0]!r}")
    if output_stride < strides[0]:
        raise ValueError(
            f"output_stride must be at least {strides[0]} (stem_stride), not {output_stride!r}"
        )
    limited, total = [], 1
    for stride in strides:
        limited.append(stride if total * stride <= output_stride else 1)
        total *= limited[-1]
    return limited


def _scaled(channels: int, width: float) -> int:
    """The nearest multiple of `CHANNEL_STEP` that is not more than a tenth too small."""
    scaled = channels * width
    rounded = max(CHANNEL_STEP, math.floor(scaled / CHANNEL_STEP + 0.5) * CHANNEL_STEP)
    return rounded + CHANNEL_STEP if rounded < 0.9 * scaled else rounded


def _check(*, width: float, resolution: int, blocks: int, most: int) -> None:
    if not width > 0:
        raise ValueError(f"width must be above 0, not {width!r}")
    if resolution < 1:
        raise ValueError(f"resolution must be at least 1, not {resolution!r}")
    if not 1 <= blocks <= most:
        raise ValueError(f"blocks must be from 1 to {most}, not {blocks!r}")
