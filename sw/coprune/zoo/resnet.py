"""CIFAR ResNets: plain modules that export to plain graphs."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from coprune.zoo.random_weights import randomize

WEIGHTS = Path(__file__).parent / "weights"
PRETRAINED = {"dense": "resnet20_dense.pt", "4:16": "resnet20_4of16.pt"}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a parameter-free shortcut.

    Where the block changes shape the shortcut is option A of He et al., "Deep Residual Learning
    for Image Recognition", 2015: every second pixel, and zeros for the channels that are new.

    Parameters
    ----------
    in_channels, out_channels
        ``out_channels`` equals ``in_channels`` at stride 1 and twice as many at stride 2.
    stride
        1 or 2.
    """

    def __init__(self, *, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        if out_channels != in_channels * stride or stride not in (1, 2):
            raise ValueError(
                "a block keeps its channels at stride 1 or doubles them at stride 2, "
                f"not {in_channels} -> {out_channels} at stride {stride}"
            )
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.stride == 2:
            side = y.shape[1] // 4
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, side, side))
        return F.relu(y + x)


class CifarResNet(nn.Module):
    """The CIFAR ResNet of He et al., 2015, section 4.2: 6n + 2 layers in three stages.

    Input [N, 3, 32, 32], normalized as in `coprune.data.normalize`; output [N, classes] logits.
    Parameter names are those of the public akamaster checkpoints.

    Parameters
    ----------
    depth
        20, 32, 44, 56 or any other 6n + 2.
    """

    input_shape = (3, 32, 32)

    def __init__(self, *, depth: int, classes: int = 10):
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"depth must be 6n + 2 with n >= 1, not {depth!r}")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(blocks, in_channels=16, out_channels=16)
        self.layer2 = _stage(blocks, in_channels=16, out_channels=32)
        self.layer3 = _stage(blocks, in_channels=32, out_channels=64)
        self.linear = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean(dim=(2, 3)))


def _stage(blocks: int, *, in_channels: int, out_channels: int) -> nn.Sequential:
    first = BasicBlock(
        in_channels=in_channels, out_channels=out_channels, stride=out_channels // in_channels
    )
    rest = [
        BasicBlock(in_channels=out_channels, out_channels=out_channels, stride=1)
        for _ in range(blocks - 1)
    ]
    return nn.Sequential(first, *rest)


def resnet20(pretrained: str | None = None) -> CifarResNet:
    """Return ResNet-20 in evaluation mode, with the weights that come with coprune if asked.

    Parameters
    ----------
    pretrained
        ``None`` for random weights, ``"dense"`` for the public checkpoint or ``"4:16"`` for the
        network that `coprune.prune` made of it (see ``weights/README.md``).
    """
    if pretrained is None:
        return _random(depth=20)
    if pretrained not in PRETRAINED:
        raise ValueError(f"pretrained must be one of {list(PRETRAINED)}, not {pretrained!r}")
    model = CifarResNet(depth=20)
    model.load_state_dict(torch.load(WEIGHTS / PRETRAINED[pretrained], weights_only=True))
    return model.eval()


def resnet32() -> CifarResNet:
    """Return ResNet-32 in evaluation mode, with random weights; see `load_akamaster`."""
    return _random(depth=32)


def resnet44() -> CifarResNet:
    """Return ResNet-44 in evaluation mode, with random weights; see `load_akamaster`."""
    return _random(depth=44)


def resnet56() -> CifarResNet:
    """Return ResNet-56 in evaluation mode, with random weights; see `load_akamaster`."""
    return _random(depth=56)


def load_akamaster(model: CifarResNet, *, checkpoint: Path) -> CifarResNet:
    """Load a checkpoint file of github.com/akamaster/pytorch_resnet_cifar10 into ``model``.

    Raises
    ------
    RuntimeError
        If the checkpoint is of another depth than ``model``.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    model.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    return model


def _random(*, depth: int) -> CifarResNet:
    return randomize(CifarResNet(depth=depth), input_shape=CifarResNet.input_shape)
