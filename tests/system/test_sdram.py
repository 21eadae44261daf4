"""The SDRAM controller against a model of the chip that checks every rule of its use."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.system.sdram_timing import (
    IS42S16160G_7,
    M12L64322A_6,
    W9825G6KH_6,
    SdramChip,
)
from coprune_sim.cosim.sdram import build_sdram
from coprune_sim.cosim.toolchain import Model

from .sdram_rules import broken_rules

CLOCK_HZ = 100e6
CONFIG = AcceleratorConfig()
WIDE_BUS = replace(CONFIG, bus_bits=128)
SIMULATED_SECONDS = 600.0

HURRIED = {"refresh_window_ms": 16.0, "power_up_us": 4.0}
"""Refreshes four times as often as the sheets ask for, and a short power-up: hours in seconds."""

SYSTEMS = {
    "16_bits": (replace(W9825G6KH_6, **HURRIED), CONFIG),
    "16_bits_128_bit_bus": (replace(IS42S16160G_7, **HURRIED), WIDE_BUS),
    "32_bits": (replace(M12L64322A_6, **HURRIED), CONFIG),
}
CASES = (
    "random_bursts_without_pauses",
    "random_bursts_with_pauses",
    "a_confirmed_write_is_read",
    "bursts_outside_the_chip_are_refused",
    "reads_pass_writes_whose_data_wait_for_them",
    "reads_and_writes_take_turns",
)
build = cache(build_sdram)


@pytest.fixture
def simulate(tmp_path, monkeypatch):
    """Run a case of sdram_bench.py; returns the figures that it left."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2])

    def run(
        model: Model, case: str, *, chip: SdramChip, config: AcceleratorConfig = CONFIG, options=()
    ) -> dict:
        geometry = {
            "bus_bytes": config.bus_bytes,
            "size_bytes": chip.size_bytes,
            "row_bytes": chip.data_bits // 8 << chip.column_bits,
            "word_bytes": chip.data_bits // 8,
        }
        (tmp_path / "geometry.json").write_text(json.dumps(geometry))
        model.run_cocotb(
            "tests.system.sdram_bench",
            testcase=case,
            folder=tmp_path,
            timeout_seconds=SIMULATED_SECONDS,
            plusargs=options,
        )
        figures = tmp_path / "figures.json"
        return json.loads(figures.read_text()) if figures.exists() else {}

    return run


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("system", SYSTEMS)
def test_serves_bursts_and_keeps_every_rule(simulate, system, case):
    chip, config = SYSTEMS[system]
    simulate(build(config, chip, CLOCK_HZ), case, chip=chip, config=config)


# Not tRRD: other commands lie between two activations at any rate.
TIGHTENED = {
    "rcd": "row_to_column",
    "rp": "precharge",
    "ras": "row_open",
    "rfc": "refresh",
    "wr": "write_recovery",
}


@pytest.mark.parametrize("time", TIGHTENED)
def test_waits_no_longer_than_a_chip_asks_for(simulate, time):
    """A chip that needs a cycle more than the controller was told is not served as it needs."""
    chip, config = SYSTEMS["16_bits"]
    cycles = getattr(chip.timing(CLOCK_HZ), TIGHTENED[time]) + 1
    picoseconds = round(cycles * 1e12 / CLOCK_HZ)
    options = ["+sdram_tolerant", f"+sdram_{time}_ps={picoseconds}"]
    model = build(config, chip, CLOCK_HZ)
    figures = simulate(model, "traffic", chip=chip, config=config, options=options)
    assert broken_rules(figures["broken"]) == {time.upper()}


def test_sequential_bursts_use_the_chip(simulate):
    chip, config = SYSTEMS["16_bits"]
    figures = simulate(build(config, chip, CLOCK_HZ), "measure", chip=chip, config=config)
    print(figures)
    assert figures["read"] > 0.85
    assert figures["write"] > 0.85
