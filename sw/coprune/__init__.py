"""coprune: prune, quantize, compile and verify PyTorch networks for a sparse INT8 accelerator."""

from coprune.matmul import MatmulProgram, matmul_program
from coprune.program import Program, compile
from coprune.program_file import ProgramFileError, load
from coprune_hw.contract import AcceleratorConfig

__all__ = [
    "AcceleratorConfig",
    "MatmulProgram",
    "Program",
    "ProgramFileError",
    "compile",
    "load",
    "matmul_program",
]
