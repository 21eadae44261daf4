"""From gateware for a board to its bitstream, with Yosys, nextpnr and Project Trellis."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from amaranth.hdl import Elaboratable
from amaranth.vendor import LatticePlatform

from .ecp5 import yosys_places, yosys_preparation
from .nextpnr_design import check_swapped_inputs, hold_placement
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

PLACEMENT = ("--placer", "static", "--timing-allow-fail")
"""The static placer's wires are a quarter shorter than those of nextpnr's default."""

ROUTER_OF_FULL_DEVICE = "router1"
ROUTER_OF_LARGE_ARRAY = "router2"
"""The one gets along where few wires are left, the other where many are contested."""


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
        script_after_read=yosys_preparation(TOP),
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
        *("--lpf", f"{TOP}.lpf"),
        *("--freq", str(clock_mhz)),
        *("--seed", str(seed)),
    ]
    place_and_route(
        f"{TOP}.json",
        folder,
        options=options,
        outputs=("--textcfg", f"{TOP}.config", "--report", f"{TOP}.report.json"),
        is_large=platform.device not in FEW_MULTIPLIERS,
    )
    begin_step("pack")
    pack = ["--compress", f"{TOP}.config", f"{TOP}.bit"]
    run_tool("ecppack", pack, folder=folder, log=folder / "ecppack.log")
    return read_report(folder / f"{TOP}.report.json")


def place_and_route(
    netlist: str,
    folder: Path,
    *,
    options: Sequence[str],
    outputs: Sequence[str],
    is_large: bool,
    timeout_seconds: float | None = None,
) -> None:
    """Run nextpnr on a netlist in a folder; ``place.log`` and ``route.log`` take its output.

    A large array is placed with its timing in view and routed without: its wires are contested, and
    router2 does not move those that it takes for critical.

    Parameters
    ----------
    netlist : str
        Name of the JSON file.
    folder : Path
    options : sequence of str
        Device, constraints and the like.
    outputs : sequence of str
        Options that name what comes out.
    is_large : bool
        Many columns; else one run, with the router for a device that is nearly full.
    timeout_seconds : float, optional
        Of each run.

    Raises
    ------
    ToolError
        nextpnr is missing, failed, did not end in time, or made what does not work.
    """

    def run(log: str, *arguments: str) -> None:
        run_tool(
            "nextpnr-ecp5",
            [*options, *PLACEMENT, *arguments],
            folder=folder,
            log=folder / log,
            timeout_seconds=timeout_seconds,
        )

    if not is_large:
        run("route.log", "--json", netlist, "--router", ROUTER_OF_FULL_DEVICE, *outputs)
        return
    placed, held, routed = (
        f"{Path(netlist).stem}.{state}.json" for state in ("placed", "held", "routed")
    )
    run(
        *("place.log", "--json", netlist, "--router", ROUTER_OF_LARGE_ARRAY),
        *("--no-route", "--write", placed),
    )
    hold_placement(folder / placed, folder / held, placer="sa", timing_driven=f"{0:032b}")
    run("route.log", "--json", held, "--write", routed, *outputs)
    check_swapped_inputs(folder / routed)


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
