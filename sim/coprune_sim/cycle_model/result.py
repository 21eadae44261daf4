"""What the cycle model says of a program."""

from __future__ import annotations

from dataclasses import dataclass

from coprune_hw.contract.instructions import Opcode

WAIT_CAUSES = {
    "weights": "EXECUTE waits for a LOAD of slots or parameters",
    "input": "EXECUTE waits for a LOAD of pixels",
    "store": "EXECUTE waits for a STORE",
    "drain": "a tile's last slot waits for the drain of the tile before",
    "issue": "no instruction has reached EXECUTE yet, or it is being set up",
    "finish": "after the layer's last slot: pipeline and drain, for which the next layer waits",
}
"""Why the array issues no slot in a cycle. Every cycle is a slot or has one of these causes."""


@dataclass(frozen=True)
class InstructionTiming:
    """When an instruction ran.

    Parameters
    ----------
    index : int
        Its position in the program; HEADER is 0.
    opcode : Opcode
        LOAD, EXECUTE or STORE.
    layer : int
        Index of the layer that it is for: whose weights or input it brings, whose tiles it
        computes, or whose output it stores.
    ready : int
        First cycle in which its unit looks for its tokens, which may be there already.
    begin : int
        Cycle in which its unit takes it: it has its tokens.
    end : int
        Cycle in which it completes, and sends its tokens.
    """

    index: int
    opcode: Opcode
    layer: int
    ready: int
    begin: int
    end: int


@dataclass(frozen=True)
class LayerTiming:
    """A layer's cycles.

    Parameters
    ----------
    name : str
    begin, end : int
        Values of the cycle counter at the mark of the layer before, and at this layer's.
    marks : dict
        What the RTL's counters of that name (`coprune_hw.contract.registers.COUNTERS`) show at
        this layer's mark.
    slots : int
        Slots issued between the two marks. A layer may begin while the last words of the one before
        are on their way, so a few are the next layer's, and a few of its own come before.
    tiles : int
    drain_bound_tiles : int
        Tiles with fewer slots than the drain takes cycles.
    waits : dict
        Cycles of every one of `WAIT_CAUSES`. ``slots + sum(waits.values()) == cycles``.
    load_bytes, store_bytes : int
        Of the weights, input and output that are this layer's, in bus beats times bus bytes.
    """

    name: str
    begin: int
    end: int
    marks: dict[str, int]
    slots: int
    tiles: int
    drain_bound_tiles: int
    waits: dict[str, int]
    load_bytes: int
    store_bytes: int

    @property
    def cycles(self) -> int:
        """Cycles between the two marks."""
        return self.end - self.begin


@dataclass(frozen=True)
class ProgramTiming:
    """A program's cycles.

    Parameters
    ----------
    layers : tuple of LayerTiming
    instructions : tuple of InstructionTiming
        LOAD, EXECUTE and STORE instructions in program order.
    counters : dict
        The RTL's counters when it is done.
    """

    layers: tuple[LayerTiming, ...]
    instructions: tuple[InstructionTiming, ...]
    counters: dict[str, int]

    @property
    def cycles(self) -> int:
        """Cycles from start to interrupt."""
        return self.counters["cycles"]
