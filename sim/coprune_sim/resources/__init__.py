"""What an accelerator takes of an FPGA, predicted: cells of a Lattice ECP5, as Yosys makes them.

Multipliers, block RAMs and distributed RAMs are counted, from the memories' shapes and the rules by
which Yosys maps them. LUTs, carry cells and flip-flops come from a linear model that is fitted to
recorded synthesis runs; `benchmarks/synthesize_ecp5.py` makes the record.
"""

from .devices import DEVICES, Device
from .logic import LogicModel, leave_one_out
from .memories import MemoryShape, list_memories, map_memory
from .model import Resources, count_multipliers, estimate_resources
from .runs import SynthesisRun, read_runs

__all__ = [
    "DEVICES",
    "Device",
    "LogicModel",
    "MemoryShape",
    "Resources",
    "SynthesisRun",
    "count_multipliers",
    "estimate_resources",
    "leave_one_out",
    "list_memories",
    "map_memory",
    "read_runs",
]
