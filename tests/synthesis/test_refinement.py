"""Cells of slow paths move to free places that the device has, and no other cell does."""

import pytest

from coprune_hw.synthesis.ecp5_refinement import refine_placement
from coprune_hw.synthesis.ecp5_timing import wire_ns

CONTROL = {"CEMUX": "CE", "CLKMUX": "CLK"}


class Design:
    """A placed design, cell after cell."""

    def __init__(self):
        self.module = {"cells": {}, "settings": {}}
        self._nets = {}

    def add(self, name, kind, bel, inputs=(), outputs=(), **parameters):
        ports = {**dict(inputs), **dict(outputs)}
        self.module["cells"][name] = {
            "type": kind,
            "attributes": {"NEXTPNR_BEL": bel},
            "parameters": parameters,
            "port_directions": {
                port: "output" if port in dict(outputs) else "input" for port in ports
            },
            "connections": {
                port: [self._nets.setdefault(net, len(self._nets))] for port, net in ports.items()
            },
        }

    def register(self, name, bel, *, data, output, enable="enable", port="M"):
        inputs = {port: data, "CE": enable, "CLK": "clock"}
        self.add(name, "TRELLIS_FF", bel, inputs, {"Q": output}, **CONTROL)

    def lut(self, name, bel, *, inputs, output, **parameters):
        ports = dict(zip("ABCD", inputs, strict=False))
        self.add(name, "TRELLIS_COMB", bel, ports, {"F": output}, **parameters)

    def bel(self, name):
        return self.module["cells"][name]["attributes"]["NEXTPNR_BEL"]

    def bels(self):
        return {name: self.bel(name) for name in self.module["cells"]}


@pytest.fixture
def design():
    """A lookup table far from the registers before and behind it, and slices with free places."""
    design = Design()
    design.register("first", "X10/Y20/SLICEA.FF0", data="input", output="a")
    design.lut("middle", "X90/Y70/SLICEB.K0", inputs=["a"], output="b")
    design.register("last", "X14/Y20/SLICEA.FF0", data="b", output="c")
    return design


def test_a_lookup_table_goes_where_its_path_is_shortest(design):
    before = design.bels()
    assert refine_placement(design.module, period_ns=8.0) == 1
    # Slices that the design has: those of the registers.
    assert design.bel("middle") in {
        f"X{x}/Y20/SLICEA.K{half}" for x in (10, 14) for half in range(2)
    }
    assert design.bels() | {"middle": ""} == before | {"middle": ""}


def test_nothing_moves_where_all_paths_are_fast_enough(design):
    before = design.bels()
    slowest = 0.52 + wire_ns((10, 20), (90, 70)) + 0.24 + wire_ns((90, 70), (14, 20))
    assert refine_placement(design.module, period_ns=slowest + 1.0) == 0
    assert design.bels() == before
    assert refine_placement(design.module, period_ns=slowest - 1.0) == 1


@pytest.mark.parametrize("mode", ["CCU2", "DPRAM"])
def test_slices_of_memories_and_carries_take_no_lookup_table(design, mode):
    design.lut("other", "X10/Y20/SLICEA.K1", inputs=["c"], output="d", MODE=mode)
    refine_placement(design.module, period_ns=8.0)
    assert design.bel("middle").startswith("X14/Y20/SLICEA.K")


@pytest.mark.parametrize("reason", ["mode", "multiplexer", "register"])
def test_cells_that_belong_to_others_stay(reason):
    design = Design()
    design.register("first", "X10/Y20/SLICEA.FF0", data="input", output="a")
    parameters = {"MODE": "CCU2"} if reason == "mode" else {}
    design.lut("middle", "X90/Y70/SLICEB.K0", inputs=["a"], output="b", **parameters)
    if reason == "multiplexer":
        bel = "X90/Y70/SLICEB.K1"
        design.add("mux", "TRELLIS_COMB", bel, {"F1": "b", "M": "a"}, {"OFX": "o"})
        design.register("last", "X14/Y20/SLICEA.FF0", data="o", output="c")
    elif reason == "register":
        design.register("last", "X90/Y70/SLICEB.FF0", data="b", output="c", port="DI")
    else:
        design.register("last", "X14/Y20/SLICEA.FF0", data="b", output="c")
    before = design.bels()
    assert refine_placement(design.module, period_ns=5.0) == 0
    assert design.bels() == before


def test_a_register_goes_only_where_its_control_set_is():
    design = Design()
    design.register("first", "X10/Y20/SLICEA.FF0", data="input", output="a")
    design.register("middle", "X90/Y70/SLICEB.FF0", data="a", output="b")
    design.register("last", "X14/Y20/SLICEA.FF0", data="b", output="c", enable="another")
    refine_placement(design.module, period_ns=5.0)
    assert design.bel("middle") == "X10/Y20/SLICEA.FF1"


def test_constants_and_clocks_have_no_timing(design):
    design.lut("$PACKER_GND", "X120/Y90/SLICEA.K0", inputs=[], output="zero")
    design.add("$gbuf$clock", "DCCA", "X60/Y0/TDCC0", {"CLKI": "pin"}, {"CLKO": "clock"})
    design.register("steady", "X2/Y2/SLICEA.FF0", data="zero", output="d")
    before = design.bels()
    refine_placement(design.module, period_ns=8.0)
    assert design.bels() | {"middle": ""} == before | {"middle": ""}
