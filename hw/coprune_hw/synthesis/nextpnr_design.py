"""Designs for an ECP5 as nextpnr writes them in the middle of its work.

Reading such a design, nextpnr binds its cells before it knows which lookup tables are memories or
carries. It takes them for logic then, whose inputs the router may swap: the address lines of a
memory come out in another order, and nothing says so. A cell's attribute ``BEL`` is obeyed later,
when that is known.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from .tools import ToolError

_LOOKUP_TABLE = "TRELLIS_COMB"
_SWAP = re.compile(r"(X\d+/Y\d+)/0_0_([ABCD])([0-7])->0_0_([ABCD])\3_SLICE")
_MAY_SWAP = {"": ("ABCD",), "LOGIC": ("ABCD",), "CCU2": ("AB", "CD")}
"""By a lookup table's mode: inputs among which the router may swap."""


def hold_placement(source: Path, target: Path, **settings: str) -> None:
    """Write a placed design anew so that a run with ``--placer sa`` places its cells as they are.

    Parameters
    ----------
    source, target : Path
        JSON files.
    **settings
        Of nextpnr, which takes those in the file, not its options. Slashes are ``__`` here.

    Raises
    ------
    ToolError
        `source` has no placement, or no such setting.
    """
    design = json.loads(source.read_text())
    (module,) = design["modules"].values()
    placed = [
        cell["attributes"]
        for cell in module["cells"].values()
        if cell["type"] == _LOOKUP_TABLE and "NEXTPNR_BEL" in cell["attributes"]
    ]
    if not placed:
        raise ToolError(f"{source} has no lookup tables that are placed")
    for attributes in placed:
        attributes["BEL"] = attributes.pop("NEXTPNR_BEL")
    for name, value in settings.items():
        setting = name.replace("__", "/")
        if setting not in module["settings"]:
            raise ToolError(f"{source} has no setting {setting}")
        module["settings"][setting] = value
    target.write_text(json.dumps(design))


def check_swapped_inputs(source: Path) -> None:
    """Refuse a routed design with swapped inputs of a memory, or of a carry beyond its pairs.

    Raises
    ------
    ToolError
        It did.
    """
    (module,) = json.loads(source.read_text())["modules"].values()
    modes = {
        cell["attributes"].get("NEXTPNR_BEL", "").strip(): cell["parameters"]
        .get("MODE", "")
        .strip()
        for cell in module["cells"].values()
        if cell["type"] == _LOOKUP_TABLE
    }
    for net in module["netnames"].values():
        # Wire, pip and strength, one after the other.
        for pip in net["attributes"].get("ROUTING", "").split(";")[1::3]:
            swap = _SWAP.fullmatch(pip)
            if swap is None or swap[2] == swap[4]:
                continue
            number = int(swap[3])
            cell = f"{swap[1]}/SLICE{'ABCD'[number // 2]}.K{number % 2}"
            mode = modes.get(cell, "")
            inputs = {swap[2], swap[4]}
            if not any(inputs <= set(group) for group in _MAY_SWAP.get(mode, ())):
                raise ToolError(
                    f"{source}: nextpnr swapped inputs {swap[2]} and {swap[4]} of {cell}, a lookup "
                    f"table in mode {mode}, which changes what it does"
                )
