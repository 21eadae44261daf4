"""The script for Vivado, run on a stand-in that checks the block design."""

import subprocess
import sys
from dataclasses import replace

import pytest

from coprune.zynq import write_project
from coprune_hw.gateware.accelerator import list_ports
from coprune_hw.zynq import BOARDS, fit_to_port
from coprune_hw.zynq.block_design import BUILD_SCRIPT

from ..end_to_end.configurations import SMALL, WIDE_BUS

pytest.importorskip("tkinter", reason="runs Tcl in Python's tkinter")
from .vivado import Vivado

BOARD_FILES = ["tul.com.tw:pynq-z2:part0:1.0", "digilentinc.com:arty-z7-20:part0:1.1"]


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project with spaces")
    return write_project(BOARDS["pynq-z2"], SMALL, folder, mhz=50)


@pytest.fixture(scope="module")
def vivado(script):
    vivado = Vivado(boards=BOARD_FILES)
    vivado.source(script)
    return vivado


def test_every_pin_of_the_accelerator_is_connected(vivado):
    connected = {
        path.partition("/")[2]
        for path in [*vivado.drivers, *vivado.drivers.values()]
        if path.startswith("accelerator/")
    }
    alone = {
        port["name"]
        for port in list_ports(SMALL)
        if not port["name"].startswith(("m_axi_", "s_axi_", "observe_"))
    }
    assert connected == alone == {"clk", "rst", "interrupt"}


def test_buses_lead_to_memory_and_from_the_processors(vivado):
    assert vivado.buses == {
        "memory_bus/S00_AXI": "accelerator/m_axi",
        "system/S_AXI_HP0": "memory_bus/M00_AXI",
        "register_bus/S00_AXI": "system/M_AXI_GP0",
        "accelerator/s_axi": "register_bus/M00_AXI",
    }
    assert vivado.exported == ["FIXED_IO", "DDR"]


def test_there_is_one_clock_and_resets_have_their_polarity(vivado):
    resets = {target: source for target, source in vivado.drivers.items() if "reset" in source}
    assert resets == {
        "accelerator/rst": "reset/peripheral_reset",
        "memory_bus/aresetn": "reset/peripheral_aresetn",
        "register_bus/aresetn": "reset/peripheral_aresetn",
    }
    clocks = ("aclk", "ACLK", "clk")
    for target, source in vivado.drivers.items():
        if target.endswith(clocks):
            assert source == "system/FCLK_CLK0"
    assert vivado.cells["system"].settings["PCW_FPGA0_PERIPHERAL_FREQMHZ"] == "50"


def test_the_interrupt_reaches_the_processors(vivado):
    assert vivado.drivers["system/IRQ_F2P"] == "accelerator/interrupt"


def test_addresses_are_assigned(vivado):
    assert vivado.segments == {
        ("system/Data", "accelerator/s_axi/registers"): (0x43C0_0000, 4096),
        ("accelerator/m_axi", "system/S_AXI_HP0/HP0_DDR_LOWOCM"): (0, 512 << 20),
    }


def test_the_bitstream_lies_beside_the_script(vivado, script):
    assert [run for run, *_ in vivado.runs] == ["synth_1", "impl_1"]
    for suffix in (".bit", ".hwh"):
        assert script.with_name(f"coprune{suffix}").read_text() == suffix


def test_finds_the_handoff_of_an_older_vivado(tmp_path):
    script = write_project(BOARDS["arty-z7-20"], SMALL, tmp_path, mhz=100)
    Vivado(boards=BOARD_FILES, handoff="coprune.srcs").source(script)
    assert (tmp_path / "coprune.hwh").exists()


def test_takes_the_newest_board_files(script):
    older, newer = "tul.com.tw:pynq-z2:part0:1.9", "tul.com.tw:pynq-z2:part0:1.10"
    vivado = Vivado(boards=[newer, older])
    vivado.source(script)
    assert vivado.properties["project", "board_part"] == newer


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"boards": []}, "Vivado has no board files of tul.com.tw:pynq-z2:part0: install them"),
        ({"boards": BOARD_FILES, "slack": "-0.31"}, "timing is not met at 50 MHz: worst slack"),
        ({"boards": BOARD_FILES, "status": "40%"}, "synth_1 failed: ended"),
    ],
)
def test_stops_with_a_reason(script, options, message):
    vivado = Vivado(**options)
    with pytest.raises(Exception, match=message):
        vivado.source(script)


@pytest.mark.parametrize(
    ("right", "wrong", "error"),
    [
        ("connect accelerator/interrupt system/IRQ_F2P", "", AssertionError),
        ("register_bus/aclk", "register_bus/clock", KeyError),
        ("connect_bus accelerator/m_axi", "connect_bus accelerator/s_axi", AssertionError),
        (
            "reset/peripheral_reset accelerator/rst",
            "system/M_AXI_GP0_ACLK accelerator/rst",
            AssertionError,
        ),
        ("validate_bd_design", "validate_design", Exception),
    ],
)
def test_the_stand_in_notices_errors(tmp_path, right, wrong, error):
    script = write_project(BOARDS["pynq-z2"], SMALL, tmp_path, mhz=50)
    text = script.read_text()
    assert right in text
    script.write_text(text.replace(right, wrong))
    with pytest.raises(error):
        Vivado(boards=BOARD_FILES).source(script)


def test_the_script_is_clean():
    pytest.importorskip("tclint")
    command = [sys.executable, "-m", "tclint.cli.tclint", str(BUILD_SCRIPT)]
    linted = subprocess.run(command, capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout


def test_bursts_fit_the_port():
    assert fit_to_port(SMALL) == SMALL
    long = replace(SMALL, burst_beats=64)
    assert fit_to_port(long).burst_beats == 16
    assert fit_to_port(long).geometry_hash == long.geometry_hash


@pytest.mark.parametrize(
    ("config", "mhz", "message"),
    [
        (WIDE_BUS, 50, "bus_bits must be at most 64 for a memory port of a Zynq-7000, not 128"),
        (SMALL, 5, "mhz must be from 10 to 250, not 5"),
    ],
)
def test_refuses_what_the_board_lacks(tmp_path, config, mhz, message):
    with pytest.raises(ValueError, match=message):
        write_project(BOARDS["pynq-z2"], config, tmp_path / "made", mhz=mhz)
    assert not (tmp_path / "made").exists()
