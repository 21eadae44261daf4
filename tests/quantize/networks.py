"""Small networks for tests of what quantization does to them."""

import torch
import torch.nn.functional as F
from torch import nn

from coprune.compiler.float_graph import FloatGraph
from coprune.compiler.frontend import export, lower

IMAGE = (3, 12, 12)


class Network(nn.Module):
    """Layers that `function` takes as it likes: convolutions, a depthwise one and a linear one."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Conv2d(3, 16, 3, padding=1)
        self.b = nn.Conv2d(16, 16, 3, padding=1)
        self.c = nn.Conv2d(16, 16, 3, padding=1)
        self.d = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.pairs = nn.Conv2d(16, 16, 1, groups=4)
        self.linear = nn.Linear(16, 10)
        self.gains = nn.Parameter(torch.linspace(0.1, 2.0, 16).view(-1, 1, 1))
        self.function = function

    def forward(self, x):
        return self.function(self, x)


def network(function) -> Network:
    return Network(function).eval()


def lowered(model: nn.Module) -> FloatGraph:
    return lower(export(model, image=IMAGE))


def images(count: int = 16, *, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, *IMAGE, generator=torch.Generator().manual_seed(seed))


def chain(m, x):
    """Two convolutions and a linear layer."""
    return m.linear(F.relu(m.b(F.relu(m.a(x)))).mean((2, 3)))


def shortcuts(m, x):
    """Tensors with several readers, which join in sums."""
    x = F.relu(m.a(x))
    x = F.relu(m.b(x) + x)
    return m.linear(F.relu(m.c(F.relu(m.b(x))) + x).mean((2, 3)))


def mobile(m, x):
    """Depthwise and grouped convolutions with ReLU6."""
    return m.linear(F.relu6(m.pairs(F.relu6(m.d(F.relu6(20 * m.a(x)))))).mean((2, 3)))


def projection(m, x):
    """Option A of a ResNet: every second pixel, and channels that are zero."""
    x = F.relu(m.a(x))
    return m.c(F.pad(x[:, 4:12, ::2, ::2], (0, 0, 0, 0, 4, 4)) + F.max_pool2d(m.b(x), 2))


def branches(m, x):
    """Maxima, halves and a concatenation of them, and a slope."""
    x = F.leaky_relu(m.a(x), 0.1)
    left, right = x.chunk(2, 1)
    y = torch.cat([F.max_pool2d(right, 3, 1, 1), F.relu(left)], 1)
    return m.c(F.max_pool2d(F.relu(m.b(y)), 2))


def bounded(m, x):
    """A clamp on either side, which some channels reach."""
    return m.b(F.hardtanh(m.gains * m.a(x), -1.0, 1.5))


def curved(m, x):
    """Functions that are not homogeneous, of sums and of a maximum, beside a ReLU."""
    x = F.silu(m.b(F.relu(m.a(x))))
    return m.c(torch.sigmoid(F.max_pool2d(F.relu(m.b(x)), 2)))


FUNCTIONS = (chain, shortcuts, mobile, projection, branches, bounded, curved)
