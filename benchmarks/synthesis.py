"""What synthesis for any device has in common: a wrapper with few pins, counts.

The accelerator has more pins than a package, so the wrapper feeds its inputs from a shift register
and shifts its outputs out: three pins in all, every path between registers kept.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from amaranth.build import Platform

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.gateware.accelerator import TOP_NAME, list_ports, to_verilog
from coprune_hw.synthesis.tools import run_tool


def synthesize(
    config: AcceleratorConfig,
    base: Path,
    *,
    script: Callable[..., str],
    platform: Platform | None = None,
) -> tuple[Path, dict[str, int]]:
    """Synthesize one configuration; returns the netlist and the cells by type.

    Parameters
    ----------
    config : AcceleratorConfig
    base : Path
        Of the files that are written, to which suffixes are added.
    script : callable
        A ``yosys_script`` of `coprune_hw.synthesis`.
    platform : Platform, optional
        Of a family whose cells the gateware may use.
    """
    verilog = base.with_suffix(".v")
    verilog.write_text(to_verilog(config, platform=platform) + pin_wrapper(list_ports(config)))
    netlist, statistics = base.with_suffix(".json"), base.with_suffix(".stat.json")
    commands = base.with_suffix(".ys")
    text = script(verilog, top="pins", netlist=netlist)
    commands.write_text(f"{text}tee -o {statistics} stat -json\n")
    run_tool("yosys", ["-q", commands], folder=Path.cwd(), log=base.with_suffix(".yosys.log"))
    return netlist, json.loads(statistics.read_text())["design"]["num_cells_by_type"]


def describe(cells: dict[str, int], *, names: Iterable[str]) -> str:
    """Counts of the cells of some types, in one line."""
    return ", ".join(f"{name} {cells.get(name, 0):,}" for name in names)


def minutes_since(begin: float) -> str:
    """Since a `time.monotonic`."""
    return f"{(time.monotonic() - begin) / 60:.1f} min"


def pin_wrapper(ports: list[dict]) -> str:
    """Verilog of a module `pins` with three pins around the accelerator."""
    inputs = [
        port
        for port in ports
        if port["direction"] == "input" and port["name"] not in ("clk", "rst")
    ]
    outputs = [port for port in ports if port["direction"] == "output"]
    input_bits, output_bits = (sum(port["bits"] for port in side) for side in (inputs, outputs))
    connections, position = [".clk(clk)", ".rst(1'b0)"], 0
    for port in inputs:
        connections.append(f".{port['name']}(drive[{position} +: {port['bits']}])")
        position += port["bits"]
    position = 0
    for port in outputs:
        connections.append(f".{port['name']}(result[{position} +: {port['bits']}])")
        position += port["bits"]
    return f"""
module pins(input clk, input serial_in, output serial_out);
  reg [{input_bits - 1}:0] drive;
  reg [{output_bits - 1}:0] captured, shifted;
  reg [15:0] count;
  wire [{output_bits - 1}:0] result;
  assign serial_out = shifted[0];
  always @(posedge clk) begin
    count <= count + 1'b1;
    drive <= {{drive[{input_bits - 2}:0], serial_in}};
    captured <= result;
    shifted <= count == 0 ? captured : {{1'b0, shifted[{output_bits - 1}:1]}};
  end
  {TOP_NAME} accelerator({", ".join(connections)});
endmodule
"""
