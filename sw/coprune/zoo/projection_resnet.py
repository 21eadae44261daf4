"""ResNets for 32 x 32 pixels whose shortcuts are 1x1 convolutions where a block changes shape.

That is option B of He et al., "Deep Residual Learning for Image Recognition", 2015.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from coprune.zoo.random_weights import randomize

RESNET18_CHANNELS = (64, 128, 256, 512)
RESNET18_BLOCKS = 2
RESNET8_CHANNELS = (16, 32, 64)
RESNET8_EPS = 1e-3
"""Of the batch norms, as in the public weights."""


class ProjectionBlock(nn.Module):
    """Two 3x3 convolutions, and the shortcut around them.

    Parameters
    ----------
    same_padding
        What TensorFlow calls SAME: at stride 2 zeros only below and on the right. Such a block's
        projection has a bias instead of a batch norm.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int, same_padding: bool = False
    ):
        super().__init__()
        self.around = (0, 1, 0, 1) if same_padding and stride == 2 else (1, 1, 1, 1)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        if stride == 1 and in_channels == out_channels:
            self.shortcut = nn.Identity()
        elif same_padding:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride)
        else:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(F.pad(x, self.around))))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ProjectionResNet(nn.Module):
    """A 3x3 stem, stages of `ProjectionBlock` and a classifier.

    Input [N, 3, 32, 32]; output [N, classes] logits.

    Parameters
    ----------
    channels
        Of every stage; the stem has those of the first. Every later stage halves the image.
    blocks
        In every stage.
    same_padding
        As in `ProjectionBlock`.
    """

    input_shape = (3, 32, 32)

    def __init__(
        self,
        *,
        channels: tuple[int, ...],
        blocks: int,
        classes: int = 10,
        same_padding: bool = False,
    ):
        super().__init__()
        if not channels or blocks < 1:
            raise ValueError(
                f"there must be a stage and a block in each, not {channels!r} and {blocks!r}"
            )
        self.conv1 = nn.Conv2d(3, channels[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.blocks = nn.Sequential()
        inputs = channels[0]
        for stage, outputs in enumerate(channels):
            for number in range(blocks):
                stride = 2 if stage and not number else 1
                self.blocks.append(
                    ProjectionBlock(inputs, outputs, stride=stride, same_padding=same_padding)
                )
                inputs = outputs
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return self.linear(self.blocks(x).mean(dim=(2, 3)))


def resnet18(*, width: float = 1.0) -> ProjectionResNet:
    """Return ResNet-18 for CIFAR images in evaluation mode, with random weights.

    Parameters
    ----------
    width
        Factor on all numbers of channels.
    """
    channels = tuple(max(1, round(width * outputs)) for outputs in RESNET18_CHANNELS)
    model = ProjectionResNet(channels=channels, blocks=RESNET18_BLOCKS)
    return randomize(model, input_shape=model.input_shape)


def resnet8() -> ProjectionResNet:
    """Return the ResNet-8 of MLPerf Tiny in evaluation mode, with random weights.

    Banbury et al., "MLPerf Tiny Benchmark", 2021: image classification. The public weights are for
    images that are not normalized, 0 to 255.
    """
    model = ProjectionResNet(channels=RESNET8_CHANNELS, blocks=1, same_padding=True)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = RESNET8_EPS
    return randomize(model, input_shape=model.input_shape)


def load_mlperf_tiny(model: ProjectionResNet, *, weights: Path) -> ProjectionResNet:
    """Load MLPerf Tiny's image classification model, kept as PyTorch arrays, into `resnet8`'s.

    Parameters
    ----------
    weights
        A ``.npz`` of ``stem``, ``block1`` to ``block3`` (``conv1``, ``conv2`` and ``short``) and
        ``fc``. The biases of normalized convolutions go into the batch norms' means.

    Raises
    ------
    KeyError
        If a layer is not in the file.
    RuntimeError
        If a layer has another shape than in ``model``.
    """
    normalized = {"stem": ("conv1", "bn1")}
    plain = {"fc": "linear"}
    for number, block in enumerate(model.blocks):
        for part in "12":
            names = (f"blocks.{number}.conv{part}", f"blocks.{number}.bn{part}")
            normalized[f"block{number + 1}.conv{part}"] = names
        if isinstance(block.shortcut, nn.Conv2d):
            plain[f"block{number + 1}.short.conv"] = f"blocks.{number}.shortcut"
    state = {}
    with np.load(weights) as arrays:
        for theirs, (convolution, norm) in normalized.items():
            state[f"{convolution}.weight"] = arrays[f"{theirs}.conv.weight"]
            for field in ("weight", "bias", "running_mean", "running_var"):
                state[f"{norm}.{field}"] = arrays[f"{theirs}.bn.{field}"]
            state[f"{norm}.running_mean"] = (
                state[f"{norm}.running_mean"] - arrays[f"{theirs}.conv.bias"]
            )
            state[f"{norm}.num_batches_tracked"] = np.array(0)
        for theirs, ours in plain.items():
            for field in ("weight", "bias"):
                state[f"{ours}.{field}"] = arrays[f"{theirs}.{field}"]
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return model
