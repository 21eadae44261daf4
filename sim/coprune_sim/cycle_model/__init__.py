"""The cycle model: how many cycles a program takes, exactly, without running it.

Timing never depends on data, so a program's cycles follow from its instructions and the memory's
latency. The units (`dispatch`, `load`, `execute`, `store`) and the bus that they share (`read_bus`)
say when things happen, from the latencies that the gateware's components state; `machine` lets
them run, instruction by instruction and burst by burst; `counts` sums up.
"""

from __future__ import annotations

from coprune_hw.contract.program import MachineProgram

from .bounds import Bounds, ProgramBounds, bound_cycles
from .counts import describe
from .machine import Machine
from .memory import MemoryModel, Pauses
from .result import WAIT_CAUSES, InstructionTiming, LayerTiming, ProgramTiming
from .workload import Workload

__all__ = [
    "WAIT_CAUSES",
    "Bounds",
    "InstructionTiming",
    "LayerTiming",
    "MemoryModel",
    "Pauses",
    "ProgramBounds",
    "ProgramTiming",
    "Workload",
    "bound_cycles",
    "count_cycles",
]


def count_cycles(
    program: MachineProgram | Workload, memory: MemoryModel | None = None
) -> ProgramTiming:
    """Count a program's cycles: those of the RTL, at every layer mark.

    Instructions of two units that complete in one cycle must not both have a mark, as one of them
    would be held up: in a compiled program only the last EXECUTEs of layers and the last STORE do.

    Parameters
    ----------
    program : MachineProgram or Workload
    memory : MemoryModel
        By default with the latencies that `MemoryModel` has by default.

    Raises
    ------
    ValueError
        The program does not end, as an instruction waits for a token that nobody sends.
    """
    workload = program if isinstance(program, Workload) else Workload.from_program(program)
    machine = Machine(workload, memory or MemoryModel())
    machine.run()
    return describe(machine, workload)
