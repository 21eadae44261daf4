"""Integer requantization of one lane: accumulator in, int8 out, once a cycle."""

from amaranth.hdl import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.arithmetic import MULTIPLIER_BITS, SATURATED_BITS
from coprune_hw.contract.parameters import ChannelParameters

from .delay import delay
from .multiply import multiply

PRODUCT_BITS = SATURATED_BITS + MULTIPLIER_BITS + 1


class Requantizer(wiring.Component):
    """`coprune_hw.contract.arithmetic.requantize`, as a pipeline.

    A shift that rounds half up is a plain shift plus the last bit that falls off. So both shifters
    work on twice the number, which keeps that bit.

    Members
    -------
    adopt : In
        Accumulators from the next cycle on use the parameters of now, and those before the ones
        that they came with.
    parameters : In
        Bias, multiplier and shifts; stable from `adopt` on for `LATENCY` cycles.
    zero, low, high : In
        Output zero point and clamp; stable likewise.
    accumulator : In
    output : Out
        `LATENCY` cycles after `accumulator`.

    Notes
    -----
    One accumulator a cycle, no backpressure. Every stage adopts its parameters when the first
    accumulator reaches it, so none is lost between one set of parameters and the next.
    """

    LATENCY = 10

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "adopt": In(1),
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
        adopts = [self.adopt]
        for cycle in range(1, self.LATENCY):
            adopts.append(delay(m, adopts[-1], 1, name=f"adopt_{cycle}"))

        def adopted(value, *, cycle, name):
            """The parameter that the accumulator in this cycle's stage came with."""
            register = Signal.like(value, name=name, reset_less=True)
            with m.If(adopts[cycle]):
                m.d.sync += register.eq(value)
            return register

        # Cycle 0: bias.
        bias = adopted(parameters.bias, cycle=0, name="bias")
        biased = Signal(signed(sum_bits), reset_less=True)
        m.d.sync += biased.eq(self.accumulator + bias)

        # Cycles 1 and 2: pre-shift, coarse and fine, of twice the sum.
        coarse = Signal(signed(sum_bits + 1), reset_less=True)
        shifted = Signal(signed(sum_bits + 1), reset_less=True)
        coarse_shift = adopted(parameters.pre_shift[2:], cycle=1, name="coarse_shift")
        fine_shift = adopted(parameters.pre_shift[:2], cycle=2, name="fine_shift")
        m.d.sync += [
            coarse.eq(Cat(C(0, 1), biased).as_signed() >> (coarse_shift << 2)),
            shifted.eq(coarse >> fine_shift),
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
        multiplier = adopted(parameters.multiplier, cycle=5, name="multiplier")
        product = multiply(
            m,
            saturated,
            Cat(multiplier, C(0, 1)).as_signed(),
            name="requantize",
            platform=platform,
            latency=1,
        )

        # Cycles 6 and 7: post-shift, coarse and fine, of twice the product.
        coarse_product = Signal(signed(PRODUCT_BITS + 1), reset_less=True)
        shifted_product = Signal(signed(PRODUCT_BITS + 1), reset_less=True)
        doubled = Cat(C(0, 1), product).as_signed()
        coarse_post_shift = adopted(parameters.post_shift[2:], cycle=6, name="coarse_post_shift")
        fine_post_shift = adopted(parameters.post_shift[:2], cycle=7, name="fine_post_shift")
        m.d.sync += [
            coarse_product.eq(doubled >> (coarse_post_shift << 2)),
            shifted_product.eq(coarse_product >> fine_post_shift),
        ]

        # Cycle 8: round, and add the zero point. Cycle 9: clamp.
        zero = adopted(self.zero, cycle=8, name="zero_point")
        low = adopted(self.low, cycle=9, name="low_clamp")
        high = adopted(self.high, cycle=9, name="high_clamp")
        result = Signal(signed(PRODUCT_BITS + 1), reset_less=True)
        output = Signal(signed(8), reset_less=True)
        m.d.sync += result.eq((shifted_product >> 1) + shifted_product[0] + zero)
        with m.If(result < low):
            m.d.sync += output.eq(low)
        with m.Elif(result > high):
            m.d.sync += output.eq(high)
        with m.Else():
            m.d.sync += output.eq(result)
        m.d.comb += self.output.eq(output)
        return m
