"""The clocks of a board with an ECP5: its oscillator multiplied by a PLL."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from amaranth.hdl import *

VCO_HZ = (400e6, 800e6)
"""Of the PLL's oscillator; this and the next two: ECP5 family data sheet, sysCLOCK PLL timing."""
PHASE_DETECTOR_HZ = (10e6, 400e6)
MOST_OUTPUT_HZ = 400e6
LARGEST_DIVIDER = 128
FREQUENCY_TOLERANCE = 0.005


@dataclass(frozen=True)
class PllDividers:
    """Dividers of an EHXPLLL: its first output is fed back, its others are of use.

    Parameters
    ----------
    reference, feedback, loop, output : int
        The PLL's oscillator runs at ``feedback * loop / reference`` times the input's frequency, an
        output at 1 / ``output`` of that.
    """

    reference: int
    feedback: int
    loop: int
    output: int

    @classmethod
    def find(cls, input_hz: float, output_hz: float) -> Self:
        """The dividers whose output is nearest.

        Raises
        ------
        ValueError
            None is within `FREQUENCY_TOLERANCE`.
        """
        found = []
        for reference in range(1, LARGEST_DIVIDER + 1):
            detector_hz = input_hz / reference
            if not PHASE_DETECTOR_HZ[0] <= detector_hz <= PHASE_DETECTOR_HZ[1]:
                continue
            for feedback in range(1, int(MOST_OUTPUT_HZ / detector_hz) + 1):
                loop_hz = detector_hz * feedback
                fewest, most = max(2, math.ceil(VCO_HZ[0] / loop_hz)), int(VCO_HZ[1] / loop_hz)
                for loop in range(fewest, most + 1):
                    output = round(loop_hz * loop / output_hz)
                    if max(feedback, loop, output) <= LARGEST_DIVIDER and output:
                        error = abs(loop_hz * loop / output - output_hz)
                        found.append((error, reference, loop, feedback, output))
        if not found or min(found)[0] > FREQUENCY_TOLERANCE * output_hz:
            raise ValueError(
                f"a PLL cannot make {output_hz / 1e6:g} MHz of {input_hz / 1e6:g} MHz: "
                f"take a frequency with fewer digits"
            )
        _, reference, loop, feedback, output = min(found)
        return cls(reference, feedback, loop, output)

    def output_hz(self, input_hz: float) -> float:
        """The frequency that comes out."""
        return input_hz * self.feedback * self.loop / self.reference / self.output


class Ecp5Clocks(Elaboratable):
    """Drives the domains `sync` and `memory_clock`, of one frequency, from an oscillator.

    Neither has a reset: registers begin with the bitstream's values, and `sync` runs only once the
    PLL has locked.

    Parameters
    ----------
    oscillator : Signal
    dividers : PllDividers
    memory_phase : float
        By how many degrees `memory_clock` comes later.
    """

    def __init__(self, oscillator, dividers: PllDividers, *, memory_phase: float):
        self._oscillator = oscillator
        self._dividers = dividers
        self._memory_phase = memory_phase

    def elaborate(self, platform):
        m = Module()
        dividers = self._dividers
        loop, first, locked, gated = Signal(), Signal(), Signal(), Signal()
        sync = ClockDomain("sync", reset_less=True)
        memory_clock = ClockDomain("memory_clock", reset_less=True)
        m.domains += sync, memory_clock
        # A phase of 0 is a coarse delay of the divider less 1.
        later = round(self._memory_phase / 360 * dividers.output)
        m.submodules.pll = Instance(
            "EHXPLLL",
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED",
            p_INTFB_WAKE="DISABLED",
            p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA",
            p_OUTDIVIDER_MUXB="DIVB",
            p_OUTDIVIDER_MUXC="DIVC",
            p_CLKI_DIV=dividers.reference,
            p_CLKFB_DIV=dividers.feedback,
            p_FEEDBK_PATH="CLKOP",
            p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_DIV=dividers.loop,
            p_CLKOP_CPHASE=dividers.loop - 1,
            p_CLKOP_FPHASE=0,
            p_CLKOS_ENABLE="ENABLED",
            p_CLKOS_DIV=dividers.output,
            p_CLKOS_CPHASE=dividers.output - 1,
            p_CLKOS_FPHASE=0,
            p_CLKOS2_ENABLE="ENABLED",
            p_CLKOS2_DIV=dividers.output,
            p_CLKOS2_CPHASE=dividers.output - 1 + later,
            p_CLKOS2_FPHASE=0,
            i_CLKI=self._oscillator,
            i_CLKFB=loop,
            i_RST=0,
            i_STDBY=0,
            i_PHASESEL0=0,
            i_PHASESEL1=0,
            i_PHASEDIR=1,
            i_PHASESTEP=1,
            i_PHASELOADREG=1,
            i_PLLWAKESYNC=0,
            i_ENCLKOP=0,
            o_CLKOP=loop,
            o_CLKOS=first,
            o_CLKOS2=memory_clock.clk,
            o_LOCK=locked,
        )
        m.submodules.gate = Instance("DCCA", i_CLKI=first, i_CE=locked, o_CLKO=gated)
        m.d.comb += sync.clk.eq(gated)
        return m
