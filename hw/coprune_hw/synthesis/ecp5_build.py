"""From gateware for a board to its bitstream, with Yosys, nextpnr and Project Trellis."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from amaranth.hdl import Elaboratable
from amaranth.vendor import LatticePlatform

from .ecp5 import yosys_places, yosys_preparation
from .tools import run_tool

TOP = "top"
STEPS = ("write", "synthesize", "place and route", "pack")

NEXTPNR_DEVICES = {
    "LFE5U-12F": "--12k",
    "LFE5U-25F": "--25k",
    "LFE5U-45F": "--45k",
    "LFE5U-85F": "--85k",
}
NEXTPNR_PACKAGES = {"BG381": "CABGA381", "BG756": "CABGA756", "MG285": "CSFBGA285"}

UTILIZATION = {
    "LUT4": "TRELLIS_COMB",
    "flip-flops": "TRELLIS_FF",
    "multipliers": "MULT18X18D",
    "block RAM": "DP16KD",
}
"""nextpnr's names of what a report lists."""


@dataclass(frozen=True)
class BuildReport:
    """What place and route reached.

    Parameters
    ----------
    used, available : dict of str to int
        Cells by name of `UTILIZATION`.
    achieved_mhz, wanted_mhz : float
        Of the system's clock.
    """

    used: dict[str, int]
    available: dict[str, int]
    achieved_mhz: float
    wanted_mhz: float


FEW_MULTIPLIERS = ("LFE5U-12F", "LFE5U-25F")

PLACE_AND_ROUTE = ("--placer", "static", "--timing-allow-fail")
"""The static placer's wires are a quarter shorter than those of nextpnr's default."""

FULL_DEVICE = ("--router", "router1")
LARGE_ARRAY = ("--router", "router2", "--tmg-ripup")
"""The routers: the first gets along with few free wires, the second with many contested ones."""


def build(
    top: Elaboratable,
    platform: LatticePlatform,
    folder: Path,
    *,
    clock_mhz: float,
    seed: int = 1,
    places: Mapping[str, str] = MappingProxyType({}),
    route: bool = True,
    begin_step: Callable[[str], None] = lambda step: None,
) -> BuildReport | None:
    """Write the files of every step into a folder: `TOP` with the suffixes .il, .lpf, .json, .bit.

    Parameters
    ----------
    top : Elaboratable
    platform : LatticePlatform
        With the Trellis toolchain.
    folder : Path
        Exists.
    clock_mhz : float
        That place and route aims at where no constraint says another.
    seed : int
        Of the placement.
    places : mapping of str to str
        BELs of cells, by the end of the cell's name.
    route : bool
        Go on after synthesis.
    begin_step : callable
        Is told the `STEPS` as they begin.

    Returns
    -------
    BuildReport, or None without `route`

    Raises
    ------
    ToolError
        A tool is missing or failed.
    """
    begin_step("write")
    plan = platform.prepare(
        top,
        TOP,
        script_after_read=yosys_preparation(
            TOP, saves_multipliers=platform.device in FEW_MULTIPLIERS
        ),
        synth_opts="-run map_luts:json",
        script_after_synth=yosys_places(places),
    )
    plan.extract(folder)
    begin_step("synthesize")
    run_tool("yosys", ["-q", f"{TOP}.ys"], folder=folder, log=folder / "yosys.log")
    if not route:
        return None
    begin_step("place and route")
    options = [
        NEXTPNR_DEVICES[platform.device],
        *("--package", NEXTPNR_PACKAGES[platform.package]),
        *("--speed", platform.speed),
        *("--json", f"{TOP}.json"),
        *("--lpf", f"{TOP}.lpf"),
        *("--textcfg", f"{TOP}.config"),
        *("--report", f"{TOP}.report.json"),
        *("--freq", str(clock_mhz)),
        *("--seed", str(seed)),
        *PLACE_AND_ROUTE,
        *(FULL_DEVICE if platform.device in FEW_MULTIPLIERS else LARGE_ARRAY),
    ]
    run_tool("nextpnr-ecp5", options, folder=folder, log=folder / "nextpnr.log")
    begin_step("pack")
    pack = ["--compress", f"{TOP}.config", f"{TOP}.bit"]
    run_tool("ecppack", pack, folder=folder, log=folder / "ecppack.log")
    return read_report(folder / f"{TOP}.report.json")


def read_report(path: Path) -> BuildReport:
    """Read nextpnr's report; the system's clock is the one that reaches least."""
    report = json.loads(path.read_text())
    utilization = report["utilization"]
    clocks = [clock for clock in report["fmax"].values() if clock["constraint"] > 0]
    slowest = min(clocks, key=lambda clock: clock["achieved"] / clock["constraint"])
    return BuildReport(
        used={name: utilization[cell]["used"] for name, cell in UTILIZATION.items()},
        available={name: utilization[cell]["available"] for name, cell in UTILIZATION.items()},
        achieved_mhz=slowest["achieved"],
        wanted_mhz=slowest["constraint"],
    )
