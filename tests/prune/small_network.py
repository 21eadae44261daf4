"""A small network that has everything that pruning meets, and what it is calibrated with."""

import numpy as np
import torch
from torch import nn

import coprune

ACCELERATOR = coprune.AcceleratorConfig(
    lanes=8, columns=4, activation_depth=512, lane_group=4, slot_depth=1024
)


class Residual(nn.Module):
    """A stem, a block with a projection shortcut and a classifier."""

    input_shape = (3, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv1 = nn.Conv2d(8, 16, 3, padding=1, stride=2)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.shortcut = nn.Conv2d(8, 16, 1, stride=2)
        self.linear = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))) + self.shortcut(x))
        return self.linear(x.mean(dim=(2, 3)))


def network(seed: int = 0) -> Residual:
    torch.manual_seed(seed)
    return Residual().eval()


def labelled_images(count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(0)
    images = random.normal(size=(count, *Residual.input_shape)).astype(np.float32)
    return torch.from_numpy(images), torch.from_numpy(random.integers(0, 10, count))


def calibration() -> list[torch.Tensor]:
    return [labelled_images()[0]]
