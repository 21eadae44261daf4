"""The registered product of a processing element."""

from amaranth.hdl import *

from .delay import delay
from .family import is_ecp5

OPERAND_BITS = 18
"""Of an ECP5's multiplier."""


def multiply(m: Module, a: Value, b: Value, *, name: str, platform, latency: int = 2) -> Signal:
    """The product of two signed values, `latency` cycles later, in as many bits as both have.

    On an ECP5 the product, and with a latency of 2 the operands, are registered within the
    multiplier, which Yosys does not do: their wires need not reach registers elsewhere. The
    operands are in the upper bits, whose signs need no wires.
    """
    bits = len(a) + len(b)
    if not is_ecp5(platform):
        operands = [
            delay(m, value, latency - 1, name=f"{operand}_{name}").as_signed()
            for operand, value in (("a", a), ("b", b))
        ]
        product = Signal(signed(bits), name=f"product_{name}", reset_less=True)
        m.d.sync += product.eq(operands[0] * operands[1])
        return product
    product = Signal(signed(bits), name=f"product_{name}")
    whole = Signal(2 * OPERAND_BITS, name=f"whole_{name}")
    pins = {}
    for port, value in (("A", a), ("B", b)):
        operand = Cat(C(0, OPERAND_BITS - len(value)), value)
        pins |= {f"i_{port}{bit}": operand[bit] for bit in range(OPERAND_BITS)}
        pins |= {f"i_SIGNED{port}": 1, f"i_SOURCE{port}": 0}
    registers = {}
    for register in ("INPUTA", "INPUTB", "OUTPUT") if latency == 2 else ("OUTPUT",):
        registers |= {
            f"p_REG_{register}_CLK": "CLK0",
            f"p_REG_{register}_CE": "CE0",
            f"p_REG_{register}_RST": "RST0",
        }
    m.submodules[f"multiplier_{name}"] = Instance(
        "MULT18X18D",
        **registers,
        p_REG_PIPELINE_CLK="NONE",
        p_RESETMODE="SYNC",
        i_CLK0=ClockSignal(),
        i_CE0=1,
        i_RST0=0,
        **pins,
        **{f"o_P{bit}": whole[bit] for bit in range(2 * OPERAND_BITS)},
    )
    m.d.comb += product.eq(whole[2 * OPERAND_BITS - bits :])
    return product
