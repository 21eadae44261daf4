"""The SDRAM controller against a model of the chip that checks every rule of its use."""

import json
import re
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
from coprune_sim.cosim.sdram import SDRAM_MODEL, build_sdram
from coprune_sim.cosim.toolchain import Model

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
RULES = {
    name: int(bit)
    for name, bit in re.findall(
        r"localparam (\w+) = (\d+);",
        SDRAM_MODEL.read_text().partition("// Rules")[2].partition("reg [")[0],
    )
}
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
