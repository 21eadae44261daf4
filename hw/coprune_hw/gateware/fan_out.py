"""Registers of the same value, one for each place that needs it."""

from amaranth.hdl import *

from .family import is_ecp5


def fan_out(m: Module, value, copies: int, *, name: str, platform) -> list[Signal]:
    """`value` as it was a cycle ago, in registers without reset that begin with 0.

    Synthesis makes one of registers that are always equal, and a wire from it to everywhere. On an
    ECP5 these are cells of the device, which it leaves as they are; elsewhere there is one
    register.
    """
    source = Value.cast(value)
    if not is_ecp5(platform):
        register = Signal(source.shape(), name=name, reset_less=True)
        m.d.sync += register.eq(source)
        return [register] * copies
    registers = []
    for copy in range(copies):
        register = Signal(source.shape(), name=f"{name}_{copy}")
        for bit in range(len(source)):
            m.submodules += Instance(
                "TRELLIS_FF",
                p_GSR="DISABLED",
                p_CEMUX="1",
                p_CLKMUX="CLK",
                p_LSRMUX="LSR",
                p_REGSET="RESET",
                i_CLK=ClockSignal(),
                i_LSR=0,
                i_DI=source[bit],
                o_Q=register[bit],
            )
        registers.append(register)
    return registers
