"""Boards: their systems elaborate, their pins are named, a build runs the tools in order."""

import copy
import json
import os

import pytest

from coprune.board_build import build_bitstream, find_board, load_bitstream
from coprune_hw.boards import BOARDS, Ecp5Top
from coprune_hw.boards.ecp5_board import MOST_BAUD_ERROR
from coprune_hw.contract import AcceleratorConfig
from coprune_hw.synthesis import ecp5_build
from coprune_hw.synthesis.tools import ToolError, ToolTimeoutError, find_tool

pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl._ir.UnusedElaboratable")

TOOLS = {
    "YOSYS": 'cp top.ys "$RECORD/top.ys"; echo "{}" > top.json',
    "NEXTPNR_ECP5": """
        case "$*" in
        *--no-route*) echo "$@" > "$RECORD/placer"; cp "$PLACED" top.placed.json;;
        *)
            echo "$@" > "$RECORD/nextpnr"
            cp "$REPORT" new.top.report.json
            if [ -e "$REPORT.next" ]; then mv "$REPORT.next" "$REPORT"; fi
            touch new.top.config
            if [ -e top.held.json ]; then
                mv top.held.json "$RECORD/held$(ls "$RECORD" | grep -c held).json"
                cp "$PLACED" new.top.routed.json
            fi;;
        esac""",
    "ECPPACK": "echo bitstream > top.bit",
    "OPENFPGALOADER": 'echo "$@" > "$RECORD/loader"',
}
REPORT = {
    "fmax": {
        "oscillator": {"achieved": 900.0, "constraint": 25.0},
        "system": {"achieved": 84.5, "constraint": 80.0},
    },
    "utilization": {
        "TRELLIS_COMB": {"used": 15000, "available": 24288},
        "TRELLIS_FF": {"used": 13000, "available": 24288},
        "MULT18X18D": {"used": 24, "available": 28},
        "DP16KD": {"used": 53, "available": 56},
    },
}


LOOKUP_TABLE = {
    "type": "TRELLIS_COMB",
    "parameters": {"MODE": "DPRAM"},
    "connections": {},
    "port_directions": {},
    "attributes": {"NEXTPNR_BEL": "X7/Y8/SLICEB.K1"},
}
PLACED = {
    "modules": {
        "top": {
            "settings": {
                "placer": "static",
                "router/tmg_ripup": "0 ",
                "target_freq": "80000000.000000",
                "timing_driven": f"{1:032b}",
            },
            "cells": {"memory": LOOKUP_TABLE},
            "netnames": {},
        }
    }
}


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Stands in for the tools; returns the folder in which they record their calls."""
    record = tmp_path / "record"
    record.mkdir()
    (tmp_path / "report.json").write_text(json.dumps(REPORT))
    monkeypatch.setenv("RECORD", str(record))
    monkeypatch.setenv("REPORT", str(tmp_path / "report.json"))
    monkeypatch.setenv("PLACED", str(tmp_path / "placed.json"))
    (tmp_path / "placed.json").write_text(json.dumps(PLACED))
    for variable, action in TOOLS.items():
        tool = tmp_path / variable
        tool.write_text(f"#!/bin/sh\nset -e\n{action}\n")
        tool.chmod(0o755)
        monkeypatch.setenv(variable, str(tool))
    return record


def make_top(board, **options):
    options = {"clock_mhz": board.clock_mhz, "memory": "on-chip", "on_chip_bytes": 4096} | options
    return Ecp5Top(board, AcceleratorConfig.preset(board.preset), **options)


@pytest.mark.parametrize("name", BOARDS)
def test_every_board_has_a_clock_and_a_baud_rate_that_it_reaches(name):
    board = BOARDS[name]
    top = make_top(board)
    # Exactly: every board's clock is a fraction of its oscillator that the PLL has.
    assert top.clock_hz == 1e6 * board.clock_mhz
    # At both ends a frame of ten bits is sampled in the middle of each: by the last, a receiver may
    # be off by half a bit, 5 %, which sender and receiver share.
    assert abs(top.baud / board.baud - 1) <= MOST_BAUD_ERROR < 0.025
    if board.chip is not None:
        assert make_top(board, memory="sdram").memory_bytes == board.chip.size_bytes


def test_pins_of_system_and_memory_are_located():
    board = find_board("ulx3s-12f")
    plan = board.platform().prepare(make_top(board, memory="sdram"), "top")
    locations = plan.files["top.lpf"]
    for pin, site in {"uart_0__rx__io": "M1", "led_0__io": "B2", "sdram_0__clk__io": "F19"}.items():
        assert f'LOCATE COMP "{pin}" SITE "{site}"' in locations
    assert locations.count("sdram_0__dq__io[") >= 16
    netlist = plan.files["top.il"]
    for cell in ("EHXPLLL", "DCCA", "OFS1P3DX", "IFS1P3DX", "ODDRX1F", "MULT18X18D", "CCU2C"):
        assert f"\\{cell}" in netlist


def test_builds_with_the_tools_in_order(tools, tmp_path):
    steps = []
    folder = tmp_path / "made"
    board = find_board("orangecrab-25f")
    result = build_bitstream(board, folder, seed=7, begin_step=steps.append)
    assert steps == ["write", "synthesize", "place and route", "pack"]
    assert (folder / "top.bit").read_text() == "bitstream\n"
    assert result["bitstream"] == str(folder / "top.bit")
    assert result["achieved_mhz"] == 84.5
    assert result["used"] == {
        "LUT4": 15000,
        "flip-flops": 13000,
        "multipliers": 24,
        "block RAM": 53,
    }
    assert "booth" in (tools / "top.ys").read_text()
    options = (tools / "nextpnr").read_text()
    for option in ("--25k", "--package CSFBGA285", "--speed 8", "--seed 7", "--freq 80.0"):
        assert option in options
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]

    load_bitstream(board, folder / "top.bit")
    assert (tools / "loader").read_text() == f"--dfu {folder / 'top.bit'}\n"


def test_a_large_array_is_placed_with_its_timing_in_view_and_routed_without(tools, tmp_path):
    slow = copy.deepcopy(REPORT)
    slow["fmax"]["system"]["achieved"] = 77.0
    (tmp_path / "report.json").rename(tmp_path / "report.json.next")
    (tmp_path / "report.json").write_text(json.dumps(slow))
    steps = []
    board = find_board("ulx3s-85f")
    result = build_bitstream(board, tmp_path / "made", begin_step=steps.append)
    assert steps[:5] == ["write", "synthesize", "place", "refine", "route"]
    assert steps[5:] == ["route for 80.0 MHz", "pack"]
    assert result["achieved_mhz"] == 84.5
    script = (tools / "top.ys").read_text()
    assert 'setattr -set BEL "X13/Y34/MULT18_0" c:*.multiplier_0_0' in script
    assert "--json top.json --router router2" in (tools / "placer").read_text()
    assert "--json top.held.json" in (tools / "nextpnr").read_text()
    held = [
        json.loads((tools / f"held{run}.json").read_text())["modules"]["top"] for run in range(2)
    ]
    for run in held:
        assert run["settings"]["placer"] == "sa"
        assert run["cells"]["memory"]["attributes"] == {"BEL": "X7/Y8/SLICEB.K1"}
    names = ("timing_driven", "router/tmg_ripup", "target_freq")
    assert [[run["settings"][name] for name in names] for run in held] == [
        [f"{0:032b}", "0 ", "80000000.000000"],
        [f"{1:032b}", "1 ", "80000000.000000"],
    ]


def route_again(tmp_path, *reached):
    """Place and route a large array where nextpnr reaches clocks one after the other."""
    names = ("report.json", "report.json.next")
    for clock, name in zip(reached, names[: len(reached)], strict=True):
        report = copy.deepcopy(REPORT)
        report["fmax"]["system"]["achieved"] = clock
        (tmp_path / name).write_text(json.dumps(report))
    folder, steps = tmp_path / "made", []
    folder.mkdir()
    report = ecp5_build.place_and_route(
        *("top", folder), options=(), clock_mhz=80.0, is_large=True, begin_step=steps.append
    )
    assert not list(folder.glob("new.*"))
    assert steps[:3] == ["place", "refine", "route"]
    return report, steps[3:]


def test_a_step_that_does_not_end_leaves_what_the_one_before_reached(tools, tmp_path, monkeypatch):
    run_tool = ecp5_build.run_tool

    def run_some(name, arguments, *, log, **options):
        if log.name.startswith("route_"):
            assert options["is_stuck"] is ecp5_build.is_stuck
            (log.parent / "new.top.config").write_text("half")
            raise ToolTimeoutError("too long")
        run_tool(name, arguments, log=log, **options)

    monkeypatch.setattr(ecp5_build, "run_tool", run_some)
    report, steps = route_again(tmp_path, 50.0)
    assert steps == ["route for 53.0 MHz", "route for 51.5 MHz"]
    assert (report.achieved_mhz, report.wanted_mhz) == (50.0, 80.0)
    assert (tmp_path / "made" / "top.config").read_text() == ""


def test_a_step_that_is_no_faster_ends_the_steps(tools, tmp_path):
    report, steps = route_again(tmp_path, 77.0, 76.5)
    assert steps == ["route for 80.0 MHz"]
    assert report.achieved_mhz == 77.0


def test_a_large_array_with_a_memory_whose_inputs_were_swapped_is_refused(tools, tmp_path):
    placed = copy.deepcopy(PLACED)
    route = "X7/Y8/A3_SLICE;X7/Y8/0_0_B3->0_0_A3_SLICE;1"
    placed["modules"]["top"]["netnames"] = {"address": {"attributes": {"ROUTING": route}}}
    (tmp_path / "placed.json").write_text(json.dumps(placed))
    with pytest.raises(
        ToolError, match=r"swapped inputs B and A of X7/Y8/SLICEB\.K1, .* mode DPRAM"
    ):
        build_bitstream(
            find_board("ulx3s-85f"),
            tmp_path / "made",
            config=AcceleratorConfig.preset("ecp5-25f"),
        )
    assert list((tmp_path / "made").iterdir()) == []


def test_a_failed_tool_leaves_nothing_and_says_why(tools, tmp_path, monkeypatch):
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho no place for this cell\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("NEXTPNR_ECP5", str(broken))
    folder = tmp_path / "made"
    with pytest.raises(ToolError, match=r"(?s)nextpnr-ecp5 ended with 3.*no place for this cell"):
        build_bitstream(find_board("orangecrab-25f"), folder)
    assert list(folder.iterdir()) == []


def test_refuses_what_a_board_has_not():
    with pytest.raises(ValueError, match="unknown board 'ulx4': must be one of ulx3s-12f"):
        find_board("ulx4")
    with pytest.raises(ValueError, match="Colorlight i5 has no SDRAM"):
        make_top(find_board("colorlight-i5"), memory="sdram")
    with pytest.raises(ValueError, match="memory must be on-chip or sdram, not 'ddr'"):
        make_top(find_board("colorlight-i5"), memory="ddr")
    with pytest.raises(ValueError, match="7 MHz is no multiple of 2,000,000 baud"):
        make_top(find_board("ulx3s-85f"), clock_mhz=7)


def test_names_a_tool_that_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("YOSYS", str(tmp_path / "nowhere"))
    with pytest.raises(ToolError, match=r"YOSYS is .*nowhere', which is no executable"):
        find_tool("yosys")
    monkeypatch.delenv("YOSYS")
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(ToolError, match="no openFPGALoader"):
        find_tool("openFPGALoader")
    with pytest.raises(FileNotFoundError, match="no such bitstream"):
        load_bitstream(find_board("ulx3s-85f"), tmp_path / "nothing.bit")
