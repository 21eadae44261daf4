"""What tests of the driver share: simulated RTL."""

import pytest

from coprune.runtime import SimulatedBus

from ..end_to_end.configurations import SMALL


@pytest.fixture(scope="module")
def bus():
    with SimulatedBus(SMALL) as bus:
        yield bus
