"""Cycles that pruning to a budget predicts: the compiled program's, and those of the RTL."""

import pytest
import torch

import coprune
from coprune import zoo
from coprune.data import cifar10
from coprune.prune import HardwarePruner

ACCELERATOR = coprune.AcceleratorConfig.preset("16x16")
BUDGETS = (
    {"speedup": 2},
    {"speedup": 3, "granularity": "layer"},
    {"speedup": 4},
    {"latency_ms": 0.3, "mhz": 100},
)
NETWORKS = {"resnet20-dense": {"speedup": 6}, "resnet8": {"cycles": 20_000}}
"""With one budget more for each."""


@pytest.mark.parametrize("name", NETWORKS)
def test_predicted_cycles_are_those_of_the_rtl(name):
    sample = cifar10.load_sample().calibration
    images = cifar10.normalize(sample.images[:64])
    labels = torch.as_tensor(sample.labels[:64]).long()
    for budget in (*BUDGETS, NETWORKS[name]):
        pruner = HardwarePruner(zoo.build(name), ACCELERATOR, calibration=[(images, labels)])
        result = pruner.prune_to_budget(**budget)
        program = coprune.compile(pruner.model, ACCELERATOR, calibration=[images])
        counted, (layers, measured) = program.cycles(), program.measure_cycles()
        assert result.predicted_cycles <= result.budget, budget
        assert counted.total.cycles == result.predicted_cycles, budget
        assert measured == result.predicted_cycles, budget
        assert layers == [layer.cycles for layer in result.table.layers], budget
