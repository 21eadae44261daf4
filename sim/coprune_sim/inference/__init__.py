"""Fast exact inference: whole test sets through an `IntegerGraph`, equal to the reference."""

from .simulator import Simulator

__all__ = ["Simulator"]
