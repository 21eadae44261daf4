"""A network and images that it learns in some steps."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from coprune.data import LabelledImages


class BrightnessNetwork(nn.Module):
    """Tells bright images from dark ones."""

    input_shape = (3, 8, 8)

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.conv = nn.Conv2d(16, 16, 3, padding=1)
        self.dropout = nn.Dropout(0.1)
        self.linear = nn.Linear(16, 2)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(self.conv(x)).mean(dim=(2, 3))
        return self.linear(self.dropout(x))


def brightness_network():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return BrightnessNetwork().eval()


def bright_and_dark(count=72):
    random = np.random.default_rng(5)
    labels = random.integers(0, 2, count, dtype=np.uint8)
    images = random.integers(0, 128, (count, 3, 8, 8), dtype=np.uint8)
    return LabelledImages(images + 127 * labels.reshape(-1, 1, 1, 1), labels)


def assert_same_state(model, expected):
    """Bit for bit, without a word on which value it is that differs."""
    state = model.state_dict()
    for name, value in expected.state_dict().items():
        assert torch.equal(state[name], value), name
