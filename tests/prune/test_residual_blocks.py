import copy

import torch
import torch.nn.functional as F
from torch import nn

from coprune import zoo
from coprune.prune.residual_blocks import residual_blocks


def test_blocks_that_keep_the_shape_are_found():
    model = zoo.resnet20()
    before = copy.deepcopy(model.state_dict())
    found = residual_blocks(model, example=torch.randn(2, 3, 32, 32))
    assert found == [f"layer{stage}.{block}" for stage, block in
                     [(1, 0), (1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)]]  # fmt: skip
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_blocks_that_are_no_sums_are_not():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())

        def forward(self, x):
            return x * torch.sigmoid(self.inner(x))

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())

        def forward(self, x):
            return F.relu(x + self.inner(x))

    # The input of the first sum has negative values, which its ReLU changes.
    model = nn.Sequential(Gate(), Sum(), Sum(), nn.Sequential(nn.Dropout()))
    assert residual_blocks(model, example=torch.randn(2, 3, 4, 4)) == ["2"]


def test_a_block_that_is_called_twice_is_not_found():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = zoo.resnet20().layer1[0]

        def forward(self, x):
            return self.block(self.block(x))

    assert residual_blocks(Twice(), example=torch.rand(1, 16, 8, 8)) == []
