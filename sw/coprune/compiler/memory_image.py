"""The program's memory image: instructions, then what they load, then input and output."""

from __future__ import annotations

from collections.abc import Sequence

from coprune_hw.contract import CONTRACT_VERSION, AcceleratorConfig
from coprune_hw.contract.instructions import (
    INSTRUCTION_BYTES,
    LoadKind,
    Opcode,
    encode_instruction,
    prefix,
)
from coprune_hw.contract.program import LayerRecord, MachineProgram, Region

from .schedule import ExecuteStep, LayerWork, LoadStep, Schedule, StoreStep, interleave, token_pairs

REGION_ALIGNMENT_BYTES = 64


def assemble(
    schedule: Schedule,
    *,
    works: Sequence[LayerWork],
    input_region: Region,
    output_region: Region,
    config: AcceleratorConfig,
) -> MachineProgram:
    """Give every instruction its tokens, marks and addresses, and encode it.

    Parameters
    ----------
    schedule : Schedule
    works : sequence of LayerWork
    input_region, output_region : Region
        Their offsets are set here.
    config : AcceleratorConfig

    Raises
    ------
    OverflowError
        A value does not fit its instruction.
    """
    lookahead = max(config.queue_depth - 2, 1)
    steps = list(interleave(schedule, lookahead=lookahead))
    ...
