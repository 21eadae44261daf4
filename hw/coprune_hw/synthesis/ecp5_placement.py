"""A placed design for an ECP5: its cells, what connects them, and where there are free places."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

LUT_RADIUS, REGISTER_RADIUS = 4, 8
"""Tiles around a place in which a free one is looked for."""

MEMORY_PORTS = {"WCK", "WRE", "CLK", "WD", "WAD0", "WAD1", "WAD2", "WAD3"}
MULTIPLEXER_PORTS = {"FXA", "FXB", "F1"}
"""Of a lookup table: those that write its memory, and those that its multiplexer chooses from."""

_BEL = re.compile(r"X(\d+)/Y(\d+)/(SLICE[ABCD])\.(K|FF|RAMW)([01]?)$")
_TILE = re.compile(r"X(\d+)/Y(\d+)/")
_CLOCKS = {"DCCA", "EHXPLLL"}

Place = tuple[int, int]
"""x and y of a tile."""


class Placement:
    """The cells of a placed design, where they are, and what connects them.

    Parameters
    ----------
    module : dict
        Of a design as nextpnr writes it.
    """

    def __init__(self, module: dict):
        self.cells = module["cells"]
        self.bels = {
            name: cell["attributes"]["NEXTPNR_BEL"].strip()
            for name, cell in self.cells.items()
            if "NEXTPNR_BEL" in cell["attributes"]
        }
        self.names = {bel: name for name, bel in self.bels.items()}
        self.tiles = {name: _tile(bel) for name, bel in self.bels.items()}
        self.nets = {
            name: {
                port: bits[0]
                for port, bits in cell["connections"].items()
                if len(bits) == 1 and isinstance(bits[0], int)
            }
            for name, cell in self.cells.items()
        }
        self.outputs = {
            name: [port for port in nets if self._is_output(name, port)]
            for name, nets in self.nets.items()
        }
        self.drivers: dict[int, tuple[str, str]] = {}
        self.users = defaultdict(list)
        for name, nets in self.nets.items():
            for port, net in nets.items():
                if self._is_output(name, port):
                    self.drivers[net] = (name, port)
                else:
                    self.users[net].append((name, port))
        # What has no timing: constants and clocks.
        untimed = {
            name for name in self.cells if self.kind(name) in _CLOCKS or name.startswith("$PACKER")
        }
        self.sources = {
            name: [
                (port, *self.drivers[net])
                for port, net in nets.items()
                if net in self.drivers
                and not self._is_output(name, port)
                and not (self.is_logic(name) and port in MEMORY_PORTS)
                and self.drivers[net][0] not in untimed
            ]
            for name, nets in self.nets.items()
        }
        self.control_sets = defaultdict(set)
        for name in self.cells:
            if self.kind(name) == "TRELLIS_FF":
                self.control_sets[self.tiles[name]].add(self.control_set(name))
        self.write_slices = {
            bel.partition(".")[0]
            for name, bel in self.bels.items()
            if self.kind(name) == "TRELLIS_RAMW"
        }
        self.slices = {
            match[0].rpartition(".")[0] for bel in self.names if (match := _BEL.match(bel))
        }

    def kind(self, name: str) -> str:
        """nextpnr's type of a cell."""
        return self.cells[name]["type"]

    def is_logic(self, name: str) -> bool:
        """It is a lookup table, or half a carry."""
        return self.kind(name) == "TRELLIS_COMB"

    def mode(self, name: str) -> str:
        """Empty for a lookup table that is nothing else."""
        return self.cells[name]["parameters"].get("MODE", "").strip()

    def depends(self, name: str, port: str, output: str) -> bool:
        """Whether an output of a lookup table depends on an input."""
        if output != "OFX":
            return port in "ABCD" or port == "FCI"
        # The multiplexer of its own half and the other, or the one of multiplexers.
        is_own = port in "ABCD" and "F1" in self.nets[name]
        return is_own or port in MULTIPLEXER_PORTS or port == "M"

    def control_set(self, name: str) -> tuple:
        """What registers of a slice share."""
        nets, parameters = self.nets[name], self.cells[name]["parameters"]
        shared = ("CEMUX", "CLKMUX", "LSRMUX", "SRMODE", "GSR")
        return (
            *(nets.get(port) for port in ("CLK", "CE", "LSR")),
            *(parameters.get(parameter) for parameter in shared),
        )

    def is_movable(self, name: str) -> bool:
        """Nothing but wires holds it where it is."""
        nets = self.nets[name]
        if self.kind(name) == "TRELLIS_FF":
            return "M" in nets and "DI" not in nets
        if not self.is_logic(name) or self.mode(name) or set(nets) - set("ABCDF"):
            return False
        ports = {port for _, port in self.users[nets.get("F", -1)]}
        return "F" in nets and not ports & (MULTIPLEXER_PORTS | {"DI"})

    def free_bels(self, name: str, center: Place) -> Iterator[tuple[Place, str]]:
        """Where a cell that is movable could go, around a tile."""
        is_logic = self.is_logic(name)
        radius = LUT_RADIUS if is_logic else REGISTER_RADIUS
        for x in range(center[0] - radius, center[0] + radius + 1):
            for y in range(center[1] - radius, center[1] + radius + 1):
                for letter in "ABCD":
                    slice_ = f"X{x}/Y{y}/SLICE{letter}"
                    if slice_ not in self.slices or slice_ in self.write_slices:
                        continue
                    find = self._free_lut if is_logic else self._free_register
                    for bel in find(name, (x, y), slice_):
                        yield (x, y), bel

    def _free_lut(self, name: str, tile: Place, slice_: str) -> Iterator[str]:
        luts = [self.names.get(f"{slice_}.K{half}") for half in "01"]
        if any(lut is not None and self.mode(lut) for lut in luts):
            return
        for half, lut in enumerate(luts):
            register = self.names.get(f"{slice_}.FF{half}")
            if lut is None and (register is None or "DI" not in self.nets[register]):
                yield f"{slice_}.K{half}"

    def _free_register(self, name: str, tile: Place, slice_: str) -> Iterator[str]:
        wanted = self.control_set(name)
        # The tile has wires for this set already.
        if wanted not in self.control_sets[tile]:
            return
        luts = [self.names.get(f"{slice_}.K{half}") for half in "01"]
        registers = [self.names.get(f"{slice_}.FF{half}") for half in "01"]
        if any(lut is not None and self.mode(lut) == "DPRAM" for lut in luts):
            return
        if any(other is not None and self.control_set(other) != wanted for other in registers):
            return
        for half in range(2):
            lut = luts[half]
            # A multiplexer behind the lookup table uses the register's other input.
            if registers[half] is None and (lut is None or "M" not in self.nets[lut]):
                yield f"{slice_}.FF{half}"

    def move(self, name: str, tile: Place, bel: str) -> None:
        """To a free place."""
        del self.names[self.bels[name]]
        self.bels[name], self.names[bel], self.tiles[name] = bel, name, tile
        self.cells[name]["attributes"]["NEXTPNR_BEL"] = bel

    def _is_output(self, name: str, port: str) -> bool:
        return self.cells[name]["port_directions"].get(port) == "output"


def _tile(bel: str) -> Place:
    match = _TILE.match(bel)
    return (int(match[1]), int(match[2])) if match else (0, 0)
