"""Delays a signal by whole cycles."""

from amaranth.hdl import *


def delay(m: Module, value, cycles: int, *, name: str, init: int | None = None):
    """`value` as it was `cycles` cycles ago.

    Without `init` the registers have no reset: for data whose meaning another, reset signal guards.
    A view comes back as a view of the same layout.
    """
    source = Value.cast(value)
    for cycle in range(cycles):
        register = Signal(
            source.shape(), name=f"{name}_{cycle + 1}", init=init or 0, reset_less=init is None
        )
        m.d.sync += register.eq(source)
        source = register
    shape = value.shape()
    return shape(source) if isinstance(shape, ShapeCastable) else source
