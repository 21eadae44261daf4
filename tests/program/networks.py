"""Small networks with seeded random weights, and images for them."""

import torch
import torch.nn.functional as F
from torch import nn


class Residual(nn.Module):
    """Two convolutions with a shortcut, a global average and a linear layer: [N, 3, 8, 8] to 5."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.body(x) + x)
        return self.head(x.mean(dim=(2, 3)))


def residual(*, seed: int = 0) -> nn.Module:
    """A `Residual` in evaluation mode."""
    torch.manual_seed(seed)
    return Residual().eval()


def images(count: int, *, size: int = 8, channels: int = 3, seed: int = 1) -> torch.Tensor:
    """Normally distributed float32 images."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, size, size, generator=generator)
