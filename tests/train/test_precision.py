import copy

import pytest
import torch

from coprune.train import precision
from coprune.train.precision import choose_precision

from .networks import assert_same_state, brightness_network


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [((4.0, 1.0), "bfloat16"), ((1.0, 1.0), "float32"), ((1.0, 9.0), "float32")],
)
def test_bfloat16_is_chosen_where_it_is_faster(monkeypatch, seconds, expected):
    taken = dict(zip(("float32", "bfloat16"), seconds, strict=True))
    monkeypatch.setattr(precision, "_measure_step", lambda *_, precision, **__: taken[precision])
    network = brightness_network()
    before = copy.deepcopy(network)
    chosen, speeds = choose_precision(
        network, pixels=torch.zeros(8, 3, 8, 8), labels=torch.zeros(8, dtype=torch.long)
    )
    assert chosen == expected
    assert speeds == {name: 8 / each for name, each in taken.items()}
    assert_same_state(network, before)


def test_measuring_leaves_the_network_as_it_is():
    network = brightness_network()
    before = copy.deepcopy(network)
    chosen, speeds = choose_precision(
        network, pixels=torch.rand(8, 3, 8, 8), labels=torch.zeros(8, dtype=torch.long)
    )
    assert chosen in speeds
    assert_same_state(network, before)
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())
