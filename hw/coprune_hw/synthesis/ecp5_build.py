"""From gateware for a board to its bitstream, with Yosys, nextpnr and Project Trellis."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from amaranth.hdl import Elaboratable
from amaranth.vendor import LatticePlatform

from .ecp5 import yosys_places, yosys_preparation
from .ecp5_refinement import refine_placement
from .nextpnr_design import check_swapped_inputs, hold_placement
from .tools import ToolTimeoutError, run_tool

TOP = "top"

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

CLOCK_STEP, LEAST_CLOCK_STEP = 0.06, 0.02
"""By how much the clock that a large array's routing is told to reach next is above what it has
reached: the first, and where that fails half as much, down to the least."""

MOST_ITERATIONS = 100
"""Of router2 without progress: it goes on for ever where it cannot reach a clock."""

_ITERATION = re.compile(r"iter=\d+ .*overused=(\d+) .*tmgfail=(\d+)")


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
        Is told the steps as they begin.

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
    options = [
        NEXTPNR_DEVICES[platform.device],
        *("--package", NEXTPNR_PACKAGES[platform.package]),
        *("--speed", platform.speed),
        *("--lpf", f"{TOP}.lpf"),
        *("--seed", str(seed)),
    ]
    report = place_and_route(
        TOP,
        folder,
        options=options,
        clock_mhz=clock_mhz,
        is_large=platform.device not in FEW_MULTIPLIERS,
        begin_step=begin_step,
    )
    begin_step("pack")
    pack = ["--compress", f"{TOP}.config", f"{TOP}.bit"]
    run_tool("ecppack", pack, folder=folder, log=folder / "ecppack.log")
    return report


def place_and_route(
    name: str,
    folder: Path,
    *,
    options: Sequence[str],
    clock_mhz: float,
    is_large: bool,
    timeout_seconds: float | None = None,
    begin_step: Callable[[str], None] = lambda step: None,
) -> BuildReport:
    """Run nextpnr on the netlist ``NAME.json`` in a folder: ``NAME.config``, ``NAME.report.json``.

    A large array is placed with its timing in view and routed without: its wires are contested, and
    router2 does not move those that it takes for critical. In between `refine_placement` moves what
    lies on slow paths. After it, what is too slow is routed again, for a clock that is a little
    faster each time, until it is the wanted one or no step leads on.

    Parameters
    ----------
    name : str
    folder : Path
        Takes the logs, too: ``place.log``, ``route.log``, ``route_MHZ.log``.
    options : sequence of str
        Device, constraints and the like.
    clock_mhz : float
        That is wanted.
    is_large : bool
        Many columns; else one run, with the router for a device that is nearly full.
    timeout_seconds : float, optional
        Of placement and of the first routing.
    begin_step : callable
        Is told the steps as they begin.

    Raises
    ------
    ToolError
        nextpnr is missing, failed, did not end in time, or made what does not work.
    """
    placed, held, routed = (f"{name}.{state}.json" for state in ("placed", "held", "routed"))

    def run(log: str, *arguments: str, **limits) -> None:
        run_tool(
            "nextpnr-ecp5",
            [*options, "--freq", str(clock_mhz), *PLACEMENT, *arguments],
            folder=folder,
            log=folder / log,
            **(limits or {"timeout_seconds": timeout_seconds}),
        )

    def route(
        log: str, design: str, *arguments: str, faster_than: float = 0.0, **limits
    ) -> BuildReport:
        """Route a design; what came of the one before stays if that fails or is no faster."""
        made = [f"{name}.{suffix}" for suffix in ("config", "report.json")]
        outputs = [f"new.{file}" for file in made]
        try:
            run(
                *(log, "--json", design, *arguments),
                *("--textcfg", outputs[0], "--report", outputs[1]),
                **limits,
            )
            if is_large:
                check_swapped_inputs(folder / f"new.{routed}")
                made.append(routed)
            report = read_report(folder / outputs[1], clock_mhz=clock_mhz)
            if report.achieved_mhz > faster_than:
                for file in made:
                    (folder / f"new.{file}").replace(folder / file)
        finally:
            for path in folder.glob("new.*"):
                path.unlink()
        return report

    if not is_large:
        begin_step("place and route")
        return route("route.log", f"{name}.json", "--router", ROUTER_OF_FULL_DEVICE)
    begin_step("place")
    run(
        *("place.log", "--json", f"{name}.json", "--router", ROUTER_OF_LARGE_ARRAY),
        *("--no-route", "--write", placed),
    )
    begin_step("refine")
    _refine(folder / placed, clock_mhz=clock_mhz)
    begin_step("route")
    hold_placement(folder / placed, folder / held, placer="sa", timing_driven=f"{0:032b}")
    report = route("route.log", held, "--write", f"new.{routed}")
    step = CLOCK_STEP
    while report.achieved_mhz < clock_mhz and step >= LEAST_CLOCK_STEP:
        reached_mhz = report.achieved_mhz
        next_mhz = min(clock_mhz, reached_mhz * (1 + step))
        begin_step(f"route for {next_mhz:.1f} MHz")
        hold_placement(
            folder / routed,
            folder / held,
            placer="sa",
            timing_driven=f"{1:032b}",
            router__tmg_ripup="1 ",
            target_freq=f"{1e6 * next_mhz:f}",
        )
        with suppress(ToolTimeoutError):
            again = route(
                *(f"route_{next_mhz:.1f}.log", held, "--write", f"new.{routed}"),
                faster_than=reached_mhz,
                is_stuck=is_stuck,
            )
            if again.achieved_mhz > reached_mhz:
                report = again
                continue
        step = (next_mhz / reached_mhz - 1) / 2
    return report


def is_stuck(log: str) -> bool:
    """Whether router2, by its log, has had no fewer wires to route for `MOST_ITERATIONS`."""
    left = [int(overused) + int(slow) for overused, slow in _ITERATION.findall(log)]
    before, lately = left[:-MOST_ITERATIONS], left[-MOST_ITERATIONS:]
    return bool(before) and min(lately) >= min(before)


def _refine(placed: Path, *, clock_mhz: float) -> None:
    design = json.loads(placed.read_text())
    (module,) = design["modules"].values()
    refine_placement(module, period_ns=1e3 / clock_mhz)
    placed.write_text(json.dumps(design))


def read_report(path: Path, *, clock_mhz: float) -> BuildReport:
    """Read nextpnr's report; the system's clock is the one that reaches least."""
    report = json.loads(path.read_text())
    utilization = report["utilization"]
    return BuildReport(
        used={name: utilization[cell]["used"] for name, cell in UTILIZATION.items()},
        available={name: utilization[cell]["available"] for name, cell in UTILIZATION.items()},
        achieved_mhz=min(
            clock["achieved"] for clock in report["fmax"].values() if clock["constraint"] > 0
        ),
        wanted_mhz=clock_mhz,
    )
