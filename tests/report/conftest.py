"""Programs, and a browser for their reports."""

import pytest

from . import programs


@pytest.fixture(scope="session")
def sparse():
    return programs.sparse()


@pytest.fixture(scope="session")
def dense():
    return programs.dense()


@pytest.fixture(scope="session")
def odd():
    return programs.odd()


@pytest.fixture(scope="session")
def tabulated():
    return programs.tabulated()


@pytest.fixture(scope="session")
def single_layer():
    return programs.single_layer()
