"""The one definition of geometry, instructions, slot word, registers and arithmetic.

Imports nothing else of coprune; gateware, simulators and compiler import it.
"""

from .config import CONTRACT_VERSION, AcceleratorConfig

__all__ = ["CONTRACT_VERSION", "AcceleratorConfig"]
