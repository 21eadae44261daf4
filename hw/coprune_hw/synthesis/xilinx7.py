"""Synthesis of the gateware for AMD's 7 series, with Yosys."""

from pathlib import Path


def yosys_script(verilog: str | Path, *, top: str, netlist: str | Path) -> str:
    """Commands for Yosys that synthesize Verilog to a JSON netlist.

    The gateware as it is fits the family: Yosys puts a whole PE, from the weight's registers to the
    accumulator and its choice to start anew, into a DSP48E1.
    """
    return f"""
read_verilog {verilog}
hierarchy -top {top}
proc
flatten
rename -hide w:*
synth_xilinx -family xc7 -noiopad -top {top}
write_json {netlist}
"""
