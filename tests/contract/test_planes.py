"""Planes and banks: no pixel is lost, and a shifted tile never meets itself in a bank."""

import numpy as np
import pytest

from coprune_hw.contract.planes import Placement, locate, plane_size

SHAPES = [
    (columns, log2_bank_columns)
    for columns in (2, 4, 8, 16)
    for log2_bank_columns in range(columns.bit_length())
]


def placement(columns, log2_bank_columns, *, height, width, log2_stride=0, groups=1, base=0):
    return Placement(
        groups=groups,
        height=height,
        width=width,
        columns=columns,
        log2_stride=log2_stride,
        log2_bank_columns=log2_bank_columns,
        base=base,
    )


@pytest.mark.parametrize(("columns", "log2_bank_columns"), SHAPES)
def test_a_shifted_tile_touches_every_bank_once(columns, log2_bank_columns):
    place = placement(columns, log2_bank_columns, height=64, width=64)
    r, c = np.indices((place.bank_rows, place.bank_columns))
    for dy in range(16):
        for dx in range(16):
            bank, _ = locate(place.fields(0), r + dy, c + dx, columns=columns)
            assert sorted(bank.ravel().tolist()) == list(range(columns)), (dy, dx)


@pytest.mark.parametrize(("columns", "log2_bank_columns"), SHAPES)
def test_the_address_of_a_shifted_tile_needs_only_adders(columns, log2_bank_columns):
    """The formula of the gateware, with its offset, is what `locate` says."""
    place = placement(columns, log2_bank_columns, height=40, width=48, base=3)
    rows, bank_columns = place.bank_rows, place.bank_columns
    r, c = np.indices((rows, bank_columns))
    for i, j, dy, dx in np.ndindex(2, 2, 16, 16):
        dy, dx = dy - 8, dx - 8
        y0, x0 = 16 + i * rows, 16 + j * bank_columns
        bank, address = locate(place.fields(0), y0 + r + dy, x0 + c + dx, columns=columns)
        bank_row, bank_column = (r + dy) % rows, (c + dx) % bank_columns
        tile = 16 // rows * place.pitch + 16 // bank_columns + i * place.pitch + j
        offset = place.base + dy // rows * place.pitch + dx // bank_columns
        carry = (bank_row < dy % rows) * place.pitch + (bank_column < dx % bank_columns)
        assert np.array_equal(bank, bank_row * bank_columns + bank_column)
        assert np.array_equal(address, tile + offset + carry)


@pytest.mark.parametrize("log2_stride", [0, 1, 2])
@pytest.mark.parametrize(("columns", "log2_bank_columns"), SHAPES)
def test_every_pixel_has_its_own_word(columns, log2_bank_columns, log2_stride):
    for height, width in ((1, 1), (5, 7), (8, 8), (13, 6)):
        place = placement(
            columns,
            log2_bank_columns,
            height=height,
            width=width,
            log2_stride=log2_stride,
            groups=2,
            base=5,
        )
        y, x = np.indices((height, width))
        taken = set()
        for group in range(2):
            bank, address = locate(place.fields(group), y, x, columns=columns)
            assert bank.min() >= 0
            assert bank.max() < columns
            assert address.min() >= place.base + group * place.group_words
            assert address.max() < place.base + (group + 1) * place.group_words
            taken |= set(zip(bank.ravel().tolist(), address.ravel().tolist(), strict=True))
        assert len(taken) == 2 * height * width


@pytest.mark.parametrize("log2_stride", [0, 1, 2])
def test_a_phase_is_a_plane_of_its_own(log2_stride):
    place = placement(8, 2, height=11, width=9, log2_stride=log2_stride, base=7)
    stride = 1 << log2_stride
    for phase_row, phase_column in np.ndindex(stride, stride):
        rows = len(range(phase_row, 11, stride))
        columns = len(range(phase_column, 9, stride))
        y, x = np.indices((rows, columns))
        plane = {
            "base": place.plane_offset(0, phase_row, phase_column),
            "plane_words": place.plane_words,
            "pitch": place.pitch,
            "log2_stride": 0,
            "log2_bank_columns": 2,
        }
        expected = locate(plane, y, x, columns=8)
        actual = locate(
            place.fields(0), y * stride + phase_row, x * stride + phase_column, columns=8
        )
        assert np.array_equal(actual, expected)


def test_plane_size_rounds_up():
    assert [plane_size(size, 2) for size in (1, 2, 3, 4)] == [1, 1, 2, 2]
    assert [plane_size(size, 4) for size in (1, 4, 5)] == [1, 1, 2]
