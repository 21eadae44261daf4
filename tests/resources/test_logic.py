"""The linear model: it finds what it is made of, and predicts the runs that it has not seen."""

import dataclasses
import itertools

import numpy as np
import pytest

from coprune_hw.contract import AcceleratorConfig
from coprune_sim.resources import (
    DEVICES,
    LogicModel,
    Resources,
    SynthesisRun,
    estimate_resources,
    leave_one_out,
    read_runs,
)
from coprune_sim.resources.logic import FEATURES

LARGEST_ERROR = 0.05
"""Of a run that the model has not seen."""


def invented_runs() -> list[SynthesisRun]:
    """Cells that depend on a configuration in a known way."""
    runs = []
    for lanes, columns, bus in itertools.product((8, 16), (2, 4, 8), (32, 64)):
        config = AcceleratorConfig(lanes=lanes, columns=columns, bus_bits=bus)
        pes, stages = lanes * columns, columns.bit_length() - 1
        cells = {
            "LUT4": 70 * pes + 4 * pes * lanes + 8 * pes * stages + 90 * lanes + 5 * bus + 3000,
            "CCU2C": 16 * pes + 60 * lanes + 2 * bus + 700,
            # Bank, crossbar (one stage for two bits of log2), groups of 4 lanes.
            "TRELLIS_FF": 75 * pes
            + 8 * pes * (1 + {1: 1, 2: 1, 3: 2}[stages] + lanes // 4)
            + 300 * lanes
            + 10 * bus
            + 4000,
        }
        runs.append(SynthesisRun(config, cells))
    return runs


def test_finds_the_coefficients_of_a_linear_law():
    coefficients = LogicModel.fit(invented_runs()).coefficients
    np.testing.assert_allclose(coefficients["LUT4"], [70, 1, 90, 5, 3000], rtol=1e-6)
    np.testing.assert_allclose(coefficients["CCU2C"], [16, 60, 2, 700], rtol=1e-6)
    np.testing.assert_allclose(coefficients["TRELLIS_FF"], [75, 1, 300, 10, 4000], rtol=1e-6)


def test_predicts_a_run_without_having_seen_it():
    runs = invented_runs()
    # This one obeys another law: the others do not know, and it says nothing about itself.
    odd = SynthesisRun(runs[-1].config, {name: 2 * n for name, n in runs[-1].cells.items()})
    predicted = leave_one_out([*runs[:-1], odd])[-1]
    assert predicted == runs[-1].cells


def test_too_few_runs_are_an_error():
    alike = [run for run in invented_runs() if run.config.bus_bits == 64]
    with pytest.raises(ValueError, match=r"6 runs say too little about LUT4: .*bus bits"):
        LogicModel.fit(alike)


def test_recorded_runs_are_enough_and_of_this_gateware():
    runs = read_runs()
    assert len(runs) >= 8
    assert {run.config.lanes for run in runs} == {8, 16}
    assert len({run.config for run in runs}) == len(runs)


@pytest.mark.parametrize("cell", FEATURES)
def test_predicts_recorded_runs_that_it_has_not_seen(cell):
    for run, predicted in zip(read_runs(), leave_one_out(read_runs()), strict=True):
        error = predicted[cell] / run.cells[cell] - 1
        assert abs(error) < LARGEST_ERROR, f"{run.config}: {error:+.1%}"


def test_cells_grow_with_the_array():
    small = estimate_resources(AcceleratorConfig(lanes=8, columns=8))
    for more in ({"lanes": 16}, {"columns": 16}, {"bus_bits": 128}):
        large = estimate_resources(AcceleratorConfig(**{"lanes": 8, "columns": 8, **more}))
        assert large.lut4 > small.lut4, more
        assert large.flip_flops > small.flip_flops, more


def test_places_of_luts_are_those_of_nextpnr():
    cells = Resources(100, carry_cells=10, flip_flops=0, multipliers=0, block_rams=0, lut_rams=1)
    assert cells.luts == 100 + 2 * 10 + 6


def test_the_share_of_a_device_is_that_of_its_scarcest_cells():
    cells = Resources(836, 0, 1673, multipliers=39, block_rams=104, lut_rams=0)
    assert cells.share(DEVICES["ecp5-85"]) == 0.5
    assert dataclasses.replace(cells, multipliers=117).share(DEVICES["ecp5-85"]) == 0.75


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, None),
        ({"multipliers": 157}, "ecp5-85 has 156 multipliers, but 157 are needed"),
        ({"block_rams": 209}, "ecp5-85 has 208 block RAMs, but 209 are needed"),
        ({"carry_cells": 1}, "ecp5-85 has 83,640 LUTs, but 83,641 are needed"),
        ({"flip_flops": 83_641}, "ecp5-85 has 83,640 flip-flops, but 83,641 are needed"),
    ],
)
def test_says_what_a_device_has_too_little_of(change, message):
    full = Resources(83_639, 0, 83_640, multipliers=156, block_rams=208, lut_rams=0)
    assert dataclasses.replace(full, **change).excess(DEVICES["ecp5-85"]) == message
