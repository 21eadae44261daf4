"""The registered product of a processing element."""

from amaranth.hdl import *

from .family import is_ecp5

OPERAND_BITS = 18
"""Of an ECP5's multiplier."""


def multiply(m: Module, weight: Value, channel: Value, *, name: str, platform) -> Signal:
    """The product of two signed values, a cycle later, in as many bits as both have.

    On an ECP5 it is registered within the multiplier, which Yosys does not do: its wires need not
    reach registers elsewhere. The operands are in the upper bits, whose signs need no wires.
    """
    bits = len(weight) + len(channel)
    product = Signal(signed(bits), name=f"product_{name}", reset_less=True)
    if not is_ecp5(platform):
        m.d.sync += product.eq(weight * channel)
        return product
    unused = 2 * OPERAND_BITS - bits
    whole = Signal(2 * OPERAND_BITS, name=f"whole_{name}")
    operands = {}
    for port, value in (("A", weight), ("B", channel)):
        operand = Cat(C(0, OPERAND_BITS - len(value)), value)
        operands |= {f"i_{port}{bit}": operand[bit] for bit in range(OPERAND_BITS)}
        operands |= {f"i_SIGNED{port}": 1, f"i_SOURCE{port}": 0}
    m.submodules += Instance(
        "MULT18X18D",
        p_REG_INPUTA_CLK="NONE",
        p_REG_INPUTB_CLK="NONE",
        p_REG_PIPELINE_CLK="NONE",
        p_REG_OUTPUT_CLK="CLK0",
        p_REG_OUTPUT_CE="CE0",
        p_REG_OUTPUT_RST="RST0",
        p_RESETMODE="SYNC",
        i_CLK0=ClockSignal(),
        i_CE0=1,
        i_RST0=0,
        **operands,
        **{f"o_P{bit}": whole[bit] for bit in range(2 * OPERAND_BITS)},
    )
    m.d.comb += product.eq(whole[unused:])
    return product
