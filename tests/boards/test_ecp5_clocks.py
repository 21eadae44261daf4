"""Dividers of a PLL: within the device's limits, and as near as they come."""

from fractions import Fraction

import pytest

from coprune_hw.boards.ecp5_clocks import FREQUENCY_TOLERANCE, PllDividers


@pytest.mark.parametrize("input_mhz", [12, 25, 48, 100])
@pytest.mark.parametrize("output_mhz", [20, 50, 80, 90, 100, 120])
def test_all_frequencies_are_within_the_limits(input_mhz, output_mhz):
    dividers = PllDividers.find(1e6 * input_mhz, 1e6 * output_mhz)
    detector = Fraction(input_mhz, dividers.reference)
    oscillator = detector * dividers.feedback * dividers.loop
    assert 10 <= detector <= 400
    assert 400 <= oscillator <= 800
    assert detector * dividers.feedback <= 400
    # What `find` promises, in fractions, and so exactly.
    reached = oscillator / dividers.output
    assert abs(reached - output_mhz) <= FREQUENCY_TOLERANCE * output_mhz
    assert round(dividers.output_hz(1e6 * input_mhz)) == round(reached * 10**6)


def test_an_exact_frequency_is_preferred():
    dividers = PllDividers.find(25e6, 80e6)
    # 25 MHz x 16 is an oscillator of 400 MHz, a fifth of which is 80 MHz.
    assert dividers.feedback * dividers.loop == 16
    assert (dividers.reference, dividers.output) == (1, 5)


@pytest.mark.parametrize("output_hz", [1e6, 900e6])
def test_refuses_what_no_divider_makes(output_hz):
    with pytest.raises(ValueError, match=r"a PLL cannot make .* MHz of 25 MHz"):
        PllDividers.find(25e6, output_hz)
