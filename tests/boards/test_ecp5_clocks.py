"""Dividers of a PLL: within the device's limits, and as near as they come."""

import pytest

from coprune_hw.boards.ecp5_clocks import PllDividers


@pytest.mark.parametrize("input_hz", [12e6, 25e6, 48e6, 100e6])
@pytest.mark.parametrize("output_mhz", [20, 50, 80, 90, 100, 120])
def test_all_frequencies_are_within_the_limits(input_hz, output_mhz):
    dividers = PllDividers.find(input_hz, 1e6 * output_mhz)
    detector = input_hz / dividers.reference
    oscillator = detector * dividers.feedback * dividers.loop
    assert 10e6 <= detector <= 400e6
    assert 400e6 <= oscillator <= 800e6
    assert detector * dividers.feedback <= 400e6
    assert dividers.output_hz(input_hz) == pytest.approx(oscillator / dividers.output)
    assert dividers.output_hz(input_hz) == pytest.approx(1e6 * output_mhz, rel=0.005)


def test_an_exact_frequency_is_preferred():
    dividers = PllDividers.find(25e6, 80e6)
    # 25 MHz x 16 is an oscillator of 400 MHz, a fifth of which is 80 MHz.
    assert dividers.feedback * dividers.loop == 16
    assert (dividers.reference, dividers.output) == (1, 5)


@pytest.mark.parametrize("output_hz", [1e6, 900e6])
def test_refuses_what_no_divider_makes(output_hz):
    with pytest.raises(ValueError, match=r"a PLL cannot make .* MHz of 25 MHz"):
        PllDividers.find(25e6, output_hz)
