"""Synthesize the accelerator for a Zynq-7020; print resources and their share of the device."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from synthesis import describe, minutes_since, synthesize

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.synthesis.xilinx7 import yosys_script

DEVICE = {"LUT": 53_200, "FF": 106_400, "DSP48E1": 220, "RAMB36": 140}
"""Of an XC7Z020."""

LUTS = {
    **{f"LUT{inputs}": 1 for inputs in range(1, 7)},
    "SRL16E": 1,
    "SRLC32E": 1,
    "RAM32X1D": 2,
    "RAM64X1D": 2,
    "RAM128X1D": 4,
    "RAM32M": 4,
    "RAM64M": 4,
}
"""Lookup tables that a cell takes. An INV takes none: what it feeds does it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "configs", nargs="*", default=["8x8", "8x16", "16x8", "16x16"], help="preset or TOML file"
    )
    parser.add_argument("--folder", type=Path, default=Path("build/xilinx"))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.configs:
        label = Path(name).stem
        begin = time.monotonic()
        _, cells = synthesize(
            AcceleratorConfig.find(name), arguments.folder / label, script=yosys_script
        )
        used = count_resources(cells)
        shares = ", ".join(
            f"{kind} {used[kind]:,.10g} ({used[kind] / available:.0%})"
            for kind, available in DEVICE.items()
        )
        primitives = describe(cells, names=sorted(cells.keys() - {"$scopeinfo"}))
        print(f"{label}: {shares}; synthesis {minutes_since(begin)}", flush=True)
        print(f"{label}: {primitives}", flush=True)


def count_resources(cells: dict[str, int]) -> dict[str, float]:
    """What `DEVICE` counts, from cells by type. Two RAMB18E1 go into a RAMB36."""
    return {
        "LUT": sum(tables * cells.get(name, 0) for name, tables in LUTS.items()),
        "FF": sum(cells.get(name, 0) for name in ("FDRE", "FDSE", "FDCE", "FDPE")),
        "DSP48E1": cells.get("DSP48E1", 0),
        "RAMB36": cells.get("RAMB36E1", 0) + cells.get("RAMB18E1", 0) / 2,
    }


if __name__ == "__main__":
    main()
