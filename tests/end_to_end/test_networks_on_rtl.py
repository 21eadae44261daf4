"""Small networks: integer reference, instruction simulator and RTL compute the same."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest

from coprune_hw.contract import AcceleratorConfig
from coprune_sim import machine
from coprune_sim.cosim import runner

from ..graphs import GRAPHS, random_graph
from .comparison import (
    Case,
    assert_cycles_equal,
    assert_layers_equal,
    assert_rtl_equal,
    make_case,
)
from .configurations import NARROW, SMALL

CONFIGS = {"8x4": SMALL, "16x2": NARROW}
SLOW_CONFIGS = {
    **{name: AcceleratorConfig.preset(name) for name in ("16x8", "8x16", "8x8")},
    "8x4 with a bus of 32 bits": replace(SMALL, bus_bits=32),
    "8x4 with a bus of 128 bits": replace(SMALL, bus_bits=128),
}
ALL_CONFIGS = CONFIGS | SLOW_CONFIGS

NETWORKS = dict(GRAPHS)
for seed in range(6):
    NETWORKS[f"random {seed}"] = lambda seed=seed: random_graph(seed=seed)

MEMORIES = {
    "latency 20": {"latency": 20},
    "latency 0": {"latency": 0},
    "random stalls": {"latency": 20, "seed": 1},
    "random backpressure": {"memory": "cocotbext", "seed": 2},
}
SLOW_MEMORY = "random backpressure"
SHORT_NETWORKS = ("odd", "random 0", "random 2")
"""Networks of few cycles, for the RAM of cocotbext."""


@cache
def prepare(network: str, config: AcceleratorConfig) -> Case:
    return make_case(NETWORKS[network](), config, seed=3)


def list_compilations() -> Iterator:
    """All configurations and networks; those with slow configurations are marked."""
    for config in ALL_CONFIGS:
        marks = [pytest.mark.slow] if config in SLOW_CONFIGS else []
        yield from (pytest.param(config, network, marks=marks) for network in NETWORKS)


def list_runs() -> Iterator:
    """All configurations, networks and memories; without --all, the second one has one memory."""
    for config in ALL_CONFIGS:
        for memory in MEMORIES:
            is_quick = config == "8x4" or (config == "16x2" and memory == "random stalls")
            marks = [] if is_quick else [pytest.mark.slow]
            networks = SHORT_NETWORKS if memory == SLOW_MEMORY else NETWORKS
            yield from (pytest.param(config, network, memory, marks=marks) for network in networks)


@pytest.mark.parametrize("eager", machine.PREFERENCES)
@pytest.mark.parametrize(("config", "network"), list(list_compilations()))
def test_instruction_simulator_computes_every_layer_as_the_reference(config, network, eager):
    case = prepare(network, ALL_CONFIGS[config])
    run = machine.run(case.machine, case.pixels, eager=eager, seed=4)
    assert_layers_equal(run.layers, run.output, expected=case.expected)


@pytest.mark.parametrize(("config", "network", "memory"), list(list_runs()))
def test_rtl_computes_every_layer_as_the_reference(config, network, memory):
    case = prepare(network, ALL_CONFIGS[config])
    result = runner.run(case.machine, [case.pixels], **MEMORIES[memory])
    assert_rtl_equal(case, result.images[0])
    if "seed" not in MEMORIES[memory]:
        assert_cycles_equal(case.machine, result.images[0], **MEMORIES[memory])


def test_rtl_computes_an_image_the_same_after_another_one():
    case = prepare("random 0", SMALL)
    first, _, again = runner.run(case.machine, [case.pixels, ~case.pixels, case.pixels]).images
    assert_rtl_equal(case, first)
    assert_rtl_equal(case, again)
    assert again.counters == first.counters
    assert again.marks == first.marks
