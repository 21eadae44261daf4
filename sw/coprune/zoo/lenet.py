"""LeNet-5: the layers of LeCun et al., "Gradient-based learning applied to document recognition".

The sizes are those of the paper (1998, section II.B). As usual today the units are ReLUs, pooling
takes the maximum, the second convolution reads all maps and the output is linear; an image of 28 x
28 gets its border of two pixels from the first convolution's padding.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

WEIGHTS = Path(__file__).parent / "weights" / "lenet5.pt"


class LeNet5(nn.Module):
    """Input [N, 1, 28, 28], normalized as in `coprune.data.fashion_mnist`; output [N, classes]."""

    input_shape = (1, 28, 28)

    def __init__(self, *, classes: int = 10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.linear1 = nn.Linear(16 * 5 * 5, 120)
        self.linear2 = nn.Linear(120, 84)
        self.linear3 = nn.Linear(84, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.linear1(x.flatten(1)))
        return self.linear3(F.relu(self.linear2(x)))


def lenet5() -> LeNet5:
    """Return LeNet-5 in evaluation mode, with the weights that come with coprune."""
    model = LeNet5()
    model.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    return model.eval()
