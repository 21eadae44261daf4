"""Synthesis of the gateware for a Lattice ECP5, with Yosys."""

from collections.abc import Mapping
from pathlib import Path

from amaranth.vendor import LatticePlatform

MULTIPLEXERS = Path(__file__).parent / "ecp5_multiplexers.v"


class Ecp5(LatticePlatform):
    """An ECP5-85F without a board: what gateware needs to know to use the family's cells."""

    device = "LFE5U-85F"
    package = "BG756"
    speed = "6"
    default_clk = None
    resources = ()
    connectors = ()

    def __init__(self):
        super().__init__(toolchain="Trellis")


PIXEL_PLACES = """
wreduce t:$mul
booth t:$mul r:A_WIDTH<14 %i
"""
"""Commands that make the products of pixel addresses from logic: multipliers are in few rows of the
device, and LOAD, STORE and drain lie elsewhere."""


def yosys_preparation(top: str) -> str:
    """Commands for Yosys before ``synth_ecp5 -run map_luts:json``.

    Wide multiplexers are found before lookup tables are: those that choose a channel are most of an
    array's logic, and take half as many lookup tables this way.
    """
    return f"""
hierarchy -top {top}
proc
flatten
{PIXEL_PLACES}
synth_ecp5 -top {top} -run begin:map_luts
muxcover -mux16 -mux8 -mux4 -nodecode
techmap -map {MULTIPLEXERS}
clean
"""


def yosys_places(places: Mapping[str, str]) -> str:
    """Commands for Yosys after synthesis that fix cells, by the end of their name, to BELs."""
    return "".join(
        f'select -assert-count 1 c:*.{name}\nsetattr -set BEL "{bel}" c:*.{name}\n'
        for name, bel in places.items()
    )


def yosys_script(verilog: str | Path, *, top: str, netlist: str | Path) -> str:
    """Commands for Yosys that synthesize Verilog to a JSON netlist for nextpnr."""
    return f"""
read_verilog {verilog}
{yosys_preparation(top)}
synth_ecp5 -top {top} -run map_luts:json
write_json {netlist}
"""
