"""Integer requantization of one lane: accumulator in, int8 out, once a cycle."""

from amaranth.hdl import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.arithmetic import MULTIPLIER_BITS, SATURATED_BITS
from coprune_hw.contract.parameters import ChannelParameters

PRODUCT_BITS = SATURATED_BITS + MULTIPLIER_BITS + 1


class Requantizer(wiring.Component):
    """`coprune_hw.contract.arithmetic.requantize`, as a pipeline.

    A shift that rounds half up is a plain shift plus the last bit that falls off. So both shifters
    work on twice the number, which keeps that bit.

    Members
    -------
    accumulator : In
    parameters : In
        Bias, multiplier and shifts; stable while accumulators are under way.
    zero, low, high : In
        Output zero point and clamp; stable likewise.
    output : Out
        `LATENCY` cycles after `accumulator`.

    Notes
    -----
    One accumulator a cycle, no backpressure.
    """

    LATENCY = 10

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "accumulator": In(signed(config.accumulator_bits)),
                "parameters": In(ChannelParameters),
                "zero": In(signed(8)),
                "low": In(signed(8)),
                "high": In(signed(8)),
                "output": Out(signed(8)),
            }
        )

    def elaborate(self, platform):
        parameters = self.parameters
        sum_bits = max(self._config.accumulator_bits, 32) + 1
        m = Module()

        # Cycle 0: bias.
        biased = Signal(signed(sum_bits), reset_less=True)
        m.d.sync += biased.eq(self.accumulator + parameters.bias)

        # Cycles 1 and 2: pre-shift, coarse and fine, of twice the sum.
        coarse = Signal(signed(sum_bits + 1), reset_less=True)
        shifted = Signal(signed(sum_bits + 1), reset_less=True)
        m.d.sync += [
            coarse.eq(Cat(C(0, 1), biased).as_signed() >> (parameters.pre_shift & 0b1100)),
            shifted.eq(coarse >> parameters.pre_shift[:2]),
        ]

        # Cycle 3: round. Cycle 4: saturate.
        rounded = Signal(signed(sum_bits), reset_less=True)
        saturated = Signal(signed(SATURATED_BITS), reset_less=True)
        upper = rounded[SATURATED_BITS - 1 :]
        limit = (1 << (SATURATED_BITS - 1)) - 1
        m.d.sync += rounded.eq((shifted >> 1) + shifted[0])
        with m.If(upper.all() | ~upper.any()):
            m.d.sync += saturated.eq(rounded)
        with m.Else():
            m.d.sync += saturated.eq(Mux(rounded[-1], -limit - 1, limit))

        # Cycle 5: multiply.
        product = Signal(signed(PRODUCT_BITS), reset_less=True)
        m.d.sync += product.eq(saturated * parameters.multiplier)

        # Cycles 6 and 7: post-shift, coarse and fine, of twice the product.
        coarse_product = Signal(signed(PRODUCT_BITS + 1), reset_less=True)
        shifted_product = Signal(signed(PRODUCT_BITS + 1), reset_less=True)
        doubled = Cat(C(0, 1), product).as_signed()
        m.d.sync += [
            coarse_product.eq(doubled >> (parameters.post_shift & 0b11100)),
            shifted_product.eq(coarse_product >> parameters.post_shift[:2]),
        ]

        # Cycle 8: round, and add the zero point. Cycle 9: clamp.
        result = Signal(signed(PRODUCT_BITS + 1), reset_less=True)
        output = Signal(signed(8), reset_less=True)
        m.d.sync += result.eq((shifted_product >> 1) + shifted_product[0] + self.zero)
        with m.If(result < self.low):
            m.d.sync += output.eq(self.low)
        with m.Elif(result > self.high):
            m.d.sync += output.eq(self.high)
        with m.Else():
            m.d.sync += output.eq(result)
        m.d.comb += self.output.eq(output)
        return m
