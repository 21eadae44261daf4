"""SqueezeNet 1.0, and the public weights that Deep Compression pruned."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from coprune.zoo.random_weights import randomize

FIRES = {
    "fire2": (16, 64),
    "fire3": (16, 64),
    "fire4": (32, 128),
    "fire5": (32, 128),
    "fire6": (48, 192),
    "fire7": (48, 192),
    "fire8": (64, 256),
    "fire9": (64, 256),
}
"""Channels that each fire module squeezes to, and that each of its two branches expands to."""
POOLED_AFTER = ("fire4", "fire8")
STEM_CHANNELS = 96
SMALLEST = 21
"""Fewer rows or columns leave nothing to pool."""
CAFFE_NAMES = {"squeeze": "conv1x1_1", "expand1": "conv1x1_2", "expand3": "conv3x3_2"}
"""The convolutions of a fire module in the public weights."""


class Fire(nn.Module):
    """A 1x1 convolution to few channels, then 1x1 and 3x3 convolutions side by side."""

    def __init__(self, in_channels: int, *, squeezed: int, expanded: int):
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeezed, 1)
        self.expand1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.expand1(x)), F.relu(self.expand3(x))], dim=1)


class SqueezeNet(nn.Module):
    """SqueezeNet 1.0 of Iandola et al., 2016, table 1: fire modules between two convolutions.

    Input [N, 3, resolution, resolution]; output [N, classes] logits. As in the published Caffe
    model, the last convolution has a border of padding, and pooling windows may reach beyond the
    edge.

    Parameters
    ----------
    resolution
        Rows and columns of an image: 227 where it was published.
    classes
    fires
        How many of the eight fire modules there are.
    """

    def __init__(self, *, resolution: int = 64, classes: int = 1000, fires: int = len(FIRES)):
        super().__init__()
        if resolution < SMALLEST or not 1 <= fires <= len(FIRES):
            raise ValueError(
                f"resolution must be at least {SMALLEST} and fires from 1 to {len(FIRES)}, "
                f"not {resolution!r}, {fires!r}"
            )
        self.input_shape = (3, resolution, resolution)
        self.conv1 = nn.Conv2d(3, STEM_CHANNELS, 7, stride=2)
        channels = STEM_CHANNELS
        self.fires = nn.ModuleDict()
        for name, (squeezed, expanded) in list(FIRES.items())[:fires]:
            self.fires[name] = Fire(channels, squeezed=squeezed, expanded=expanded)
            channels = 2 * expanded
        self.conv10 = nn.Conv2d(channels, classes, 1, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = _pool(F.relu(self.conv1(x)))
        for name, fire in self.fires.items():
            x = fire(x)
            if name in POOLED_AFTER:
                x = _pool(x)
        x = F.relu(self.conv10(F.dropout(x, training=self.training)))
        return x.mean(dim=(2, 3))


def _pool(x: torch.Tensor) -> torch.Tensor:
    return F.max_pool2d(x, 3, stride=2, ceil_mode=True)


def squeezenet(**parameters) -> SqueezeNet:
    """Return a `SqueezeNet` of these parameters in evaluation mode, with random weights."""
    model = SqueezeNet(**parameters)
    return randomize(model, input_shape=model.input_shape)


def load_deep_compression(model: SqueezeNet, *, weights: Path) -> SqueezeNet:
    """Load decoded weights of github.com/songhan/SqueezeNet-Deep-Compression into ``model``.

    They expect images in the order BGR, minus the mean, as Caffe has them.

    Parameters
    ----------
    model
        With all fire modules and 1000 classes.
    weights
        A ``.npz`` with ``<layer>/w`` [out, in, height, width] and ``<layer>/b``, float32, by the
        layers' names in Caffe.

    Raises
    ------
    KeyError
        If a layer is not in the file.
    RuntimeError
        If a layer has another shape than in ``model``.
    """
    layers = {"conv1": "conv1", "conv10": "conv_final"}
    for fire in model.fires:
        layers |= {f"fires.{fire}.{name}": f"{fire}/{caffe}" for name, caffe in CAFFE_NAMES.items()}
    state = {}
    with np.load(weights) as arrays:
        for name, caffe in layers.items():
            state[f"{name}.weight"] = torch.from_numpy(arrays[f"{caffe}/w"])
            state[f"{name}.bias"] = torch.from_numpy(arrays[f"{caffe}/b"].reshape(-1))
    model.load_state_dict(state)
    return model
