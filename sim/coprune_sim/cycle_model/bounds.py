"""Bounds of a program's cycles where the memory pauses at random."""

from __future__ import annotations

from dataclasses import dataclass

from coprune_hw.contract.program import MachineProgram

from .contention import Contention, stolen_cycles
from .counts import find_marks
from .machine import Machine
from .memory import MemoryModel, Pauses
from .workload import Workload


@dataclass(frozen=True)
class Bounds:
    """The first and the last cycle in which something can happen."""

    lowest: int
    highest: int

    def __contains__(self, cycle: int) -> bool:
        return self.lowest <= cycle <= self.highest


@dataclass(frozen=True)
class ProgramBounds:
    """Bounds of a program's cycles.

    Parameters
    ----------
    marks : tuple of Bounds
        Of the layer marks, in the order of the program's layers.
    cycles : Bounds
        From start to interrupt.
    """

    marks: tuple[Bounds, ...]
    cycles: Bounds


def bound_cycles(
    program: MachineProgram | Workload, memory: MemoryModel, pauses: Pauses
) -> ProgramBounds:
    """Bound a program's cycles on a memory with the given latencies, and with pauses.

    The lower bound is that of the memory without pauses, with a bus for fetch of its own and no
    conflict at the banks. For the upper one all pauses come where they delay most, and every
    conflict is lost; what fetch takes from LOAD is added at the end.

    Parameters
    ----------
    program : MachineProgram or Workload
    memory : MemoryModel
    pauses : Pauses

    Raises
    ------
    ValueError
        As `count_cycles`.
    """
    workload = program if isinstance(program, Workload) else Workload.from_program(program)
    lowest, highest = (
        Machine(workload, memory, pauses=each, contention=contention)
        for each, contention in ((Pauses(), Contention.NONE), (pauses, Contention.WORST))
    )
    lowest.run()
    highest.run()
    stolen = stolen_cycles(workload, pauses)
    first, last = find_marks(lowest, workload), find_marks(highest, workload)
    return ProgramBounds(
        marks=tuple(
            Bounds(first[record.mark], last[record.mark] + stolen) for record in workload.layers
        ),
        cycles=Bounds(lowest.cycles, highest.cycles + stolen),
    )
