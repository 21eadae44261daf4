"""Designs that nextpnr wrote, for a run that goes on: placement held, swapped inputs found."""

import json

import pytest

from coprune_hw.synthesis.nextpnr_design import check_swapped_inputs, hold_placement
from coprune_hw.synthesis.tools import ToolError


def write_design(path, *, cells, nets=(), settings=()):
    module = {
        "settings": dict(settings),
        "cells": {
            bel: {
                "type": kind,
                "parameters": {"MODE": mode} if mode else {},
                "attributes": {"NEXTPNR_BEL": bel},
            }
            for bel, kind, mode in cells
        },
        "netnames": {
            f"net{number}": {"attributes": {"ROUTING": ";".join(f"wire;{pip};1" for pip in pips)}}
            for number, pips in enumerate(nets)
        },
    }
    path.write_text(json.dumps({"modules": {"top": module}}))
    return path


def test_holds_lookup_tables_where_they_are_and_changes_settings(tmp_path):
    cells = [("X1/Y2/SLICEA.K0", "TRELLIS_COMB", "CCU2"), ("X1/Y2/SLICEA.FF0", "TRELLIS_FF", "")]
    settings = {"placer": "static", "router/tmg_ripup": "0 ", "seed": "1"}
    source = write_design(tmp_path / "placed.json", cells=cells, settings=settings)
    hold_placement(source, tmp_path / "held.json", placer="sa", router__tmg_ripup="1 ")
    module = json.loads((tmp_path / "held.json").read_text())["modules"]["top"]
    assert module["settings"] == {"placer": "sa", "router/tmg_ripup": "1 ", "seed": "1"}
    attributes = {bel: cell["attributes"] for bel, cell in module["cells"].items()}
    assert attributes == {
        "X1/Y2/SLICEA.K0": {"BEL": "X1/Y2/SLICEA.K0"},
        "X1/Y2/SLICEA.FF0": {"NEXTPNR_BEL": "X1/Y2/SLICEA.FF0"},
    }


def test_refuses_a_design_without_placement_or_setting(tmp_path):
    cells = [("X1/Y2/SLICEA.K0", "TRELLIS_COMB", "")]
    source = write_design(tmp_path / "placed.json", cells=cells)
    with pytest.raises(ToolError, match="no setting router/tmg_ripup"):
        hold_placement(source, tmp_path / "held.json", router__tmg_ripup="1 ")
    source = write_design(tmp_path / "placed.json", cells=[])
    with pytest.raises(ToolError, match="no lookup tables that are placed"):
        hold_placement(source, tmp_path / "held.json")
    assert not (tmp_path / "held.json").exists()


@pytest.mark.parametrize(
    ("mode", "inputs", "is_fine"),
    [
        ("", "AD", True),
        ("LOGIC", "CB", True),
        ("CCU2", "BA", True),
        ("CCU2", "CD", True),
        ("CCU2", "BC", False),
        ("DPRAM", "AB", False),
        ("DPRAM", "AA", True),
        ("RAMW", "CD", False),
    ],
)
def test_finds_inputs_that_must_not_be_swapped(tmp_path, mode, inputs, is_fine):
    pip = f"X1/Y2/0_0_{inputs[0]}5->0_0_{inputs[1]}5_SLICE"
    cells = [("X1/Y2/SLICEC.K1", "TRELLIS_COMB", mode), ("X1/Y2/SLICEC.K0", "TRELLIS_COMB", "")]
    nets = [["X1/Y2/0_0_C4->0_0_A4_SLICE"], ["X3/Y2/H06_0->H06_3", pip]]
    source = write_design(tmp_path / "routed.json", cells=cells, nets=nets)
    if is_fine:
        check_swapped_inputs(source)
    else:
        expected = f"swapped inputs {inputs[0]} and {inputs[1]} of X1/Y2/SLICEC.K1, .* {mode}"
        with pytest.raises(ToolError, match=expected):
            check_swapped_inputs(source)
