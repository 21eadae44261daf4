"""DS-CNN: a depthwise separable network that spots keywords in speech."""

import torch
import torch.nn.functional as F
from torch import nn

from coprune.zoo.random_weights import randomize

FRAMES, COEFFICIENTS = 49, 10
"""Of one second of speech: the image's rows and columns."""
KERNEL = (10, 4)
STRIDE = 2


class DSCNN(nn.Module):
    """The small DS-CNN of Zhang et al., "Hello Edge: Keyword Spotting on Microcontrollers", 2017.

    Input [N, 1, 49, 10], mel-frequency cepstral coefficients; output [N, classes] logits. As in
    MLPerf Tiny, the first convolution has stride 2 in both directions, and its padding is what
    TensorFlow calls SAME: 4 rows above and 5 below.

    Parameters
    ----------
    channels
        Of all layers.
    blocks
        Pairs of a depthwise and a pointwise convolution.
    """

    input_shape = (1, FRAMES, COEFFICIENTS)

    def __init__(self, *, channels: int = 64, blocks: int = 4, classes: int = 12):
        super().__init__()
        if channels < 1 or blocks < 0:
            raise ValueError(
                f"channels must be at least 1 and blocks at least 0, not {channels!r}, {blocks!r}"
            )
        self.stem = nn.Sequential(
            nn.Conv2d(1, channels, KERNEL, STRIDE, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        layers = []
        for _ in range(blocks):
            layers += [
                nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
                nn.Conv2d(channels, channels, 1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
        self.blocks = nn.Sequential(*layers)
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(F.pad(x, (1, 1, 4, 5)))
        return self.linear(self.blocks(x).mean(dim=(2, 3)))


def ds_cnn(**parameters) -> DSCNN:
    """Return a `DSCNN` of these parameters in evaluation mode, with random weights."""
    return randomize(DSCNN(**parameters), input_shape=DSCNN.input_shape)
