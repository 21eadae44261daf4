"""Cycles that a program computes for, counted from its instructions."""

from __future__ import annotations

from coprune_hw.contract.instructions import Opcode
from coprune_hw.contract.program import MachineProgram
from coprune_hw.gateware.execute import ExecuteUnit


def layer_cycles(program: MachineProgram) -> list[int]:
    """Cycles of every layer, if nothing waits for DRAM.

    A tile takes as many cycles as it has slots, or as its drain takes if that is more; a barrier
    waits for another drain and for the pipeline between slots and words.

    Parameters
    ----------
    program : MachineProgram

    Returns
    -------
    list of int
        In the order of `program.layers`.
    """
    columns = program.config.columns
    barrier_cycles = columns + ExecuteUnit.fill_latency(program.config)
    executes = [
        instruction
        for instruction in program.instructions()
        if instruction["prefix"]["opcode"] == Opcode.EXECUTE
    ]
    cycles = []
    for record in program.layers:
        layer_executes = [executes[index] for index in record.executes]
        tiles = sum(
            execute["tile_rows"] * execute["tile_columns"] * max(execute["slot_count"], columns)
            for execute in layer_executes
        )
        barriers = sum(execute["barrier"] for execute in layer_executes)
        cycles.append(tiles + barriers * barrier_cycles)
    return cycles
