"""The whole accelerator with an SDRAM chip and its controller for its memory."""

from dataclasses import replace

import pytest

from coprune_hw.system.sdram_timing import M12L64322A_6, W9825G6KH_6
from coprune_sim.cosim import runner
from coprune_sim.cosim.sdram import sdram_verilog

from ..end_to_end.comparison import assert_rtl_equal, make_case
from ..end_to_end.configurations import SMALL
from ..graphs import GRAPHS

CLOCK_HZ = 100e6
READY = {"power_up_us": 1.0}
"""Initialized before the host starts the machine, so that its counter of cycles is of work."""

NETWORKS = ("residual", "odd")
CHIPS = [
    pytest.param(W9825G6KH_6, id="16_bits"),
    pytest.param(M12L64322A_6, id="32_bits", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("chip", CHIPS)
def test_computes_what_the_reference_does(chip):
    memory = sdram_verilog(SMALL, replace(chip, **READY), CLOCK_HZ)
    for network in NETWORKS:
        case = make_case(GRAPHS[network](), SMALL, seed=3)
        (image,) = runner.run(case.machine, [case.pixels], memory_verilog=memory).images
        assert_rtl_equal(case, image)
        (ideal,) = runner.run(case.machine, [case.pixels], latency=20).images
        cycles, ideal_cycles = (result.counters["cycles"] for result in (image, ideal))
        print(f"{network}, {chip.data_bits} bits: {cycles} cycles, ideal memory {ideal_cycles}")
