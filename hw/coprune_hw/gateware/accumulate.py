"""The adder of an accumulator that can start anew."""

from amaranth.hdl import *

from .family import is_ecp5

CCU2C_INIT = 0xC60C
"""With D high: A xor B, or B where C is high. The carry without propagation: B."""


def accumulate(m: Module, accumulator: Signal, product: Signal, *, alone, platform) -> Value:
    """``product``, or added to ``accumulator`` unless `alone`; as wide as the accumulator.

    On an ECP5 the choice is made within the carry chain's lookup tables, which Yosys does not see:
    a lookup table less per bit.
    """
    width = len(accumulator)
    if not is_ecp5(platform):
        return (Mux(alone, 0, accumulator) + product)[:width]
    # [width + 1], so that pairs of bits are whole.
    augend, addend = Cat(accumulator, 0), Cat(product, product[-1].replicate(width))
    total, carry = Signal(width + width % 2), C(0)
    for bit in range(0, width, 2):
        carry_out = Signal()
        m.submodules += Instance(
            "CCU2C",
            p_INIT0=CCU2C_INIT,
            p_INIT1=CCU2C_INIT,
            p_INJECT1_0="NO",
            p_INJECT1_1="NO",
            i_CIN=carry,
            i_A0=augend[bit],
            i_B0=addend[bit],
            i_C0=alone,
            i_D0=1,
            i_A1=augend[bit + 1],
            i_B1=addend[bit + 1],
            i_C1=alone,
            i_D1=1,
            o_S0=total[bit],
            o_S1=total[bit + 1],
            o_COUT=carry_out,
        )
        carry = carry_out
    return total[:width]
