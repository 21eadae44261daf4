"""coprune: prune, quantize, compile and verify PyTorch networks for a sparse INT8 accelerator."""

from coprune.program import Program, compile
from coprune.program_file import ProgramFileError, load
from coprune_hw.contract import AcceleratorConfig

__all__ = ["AcceleratorConfig", "Program", "ProgramFileError", "compile", "load"]
