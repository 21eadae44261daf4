"""Quantization with torchao's PT2E flow: what the accelerator does, as its quantizer says it.

Needs the package torchao, which takes a second to import.
"""

from coprune.quantize.pt2e.quantizer import AcceleratorQuantizer

__all__ = ["AcceleratorQuantizer"]
