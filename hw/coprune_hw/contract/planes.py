"""Where a tensor's pixels lie in the activation banks.

A tensor is a set of planes, one per channel group and phase. A tensor that is read with stride `s`
is stored in `s * s` phases: pixel (y, x) lies in phase (y mod s, x mod s) at row y div s, column
x div s. Within a plane, pixel (y, x) is in bank (y mod bank_rows, x mod bank_columns), at word
``(y div bank_rows) * pitch + x div bank_columns``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def plane_size(size: int, stride: int) -> int:
    """Rows (or columns) of a plane of a tensor of `size` rows that is read with `stride`."""
    return -(-size // stride)


@dataclass(frozen=True)
class Placement:
    """A tensor's place in the activation banks.

    Parameters
    ----------
    groups, height, width : int
        Channel groups of `lanes` channels, rows, columns of the tensor.
    columns : int
        Banks of the accelerator.
    log2_stride, log2_bank_columns : int
        Phase split, and bank columns of the grid (bank rows follow from `columns`).
    base : int
        First word, the same in every bank.
    """

    groups: int
    height: int
    width: int
    columns: int
    log2_stride: int
    log2_bank_columns: int
    base: int

    @property
    def stride(self) -> int:
        return 1 << self.log2_stride

    @property
    def bank_columns(self) -> int:
        return 1 << self.log2_bank_columns

    @property
    def bank_rows(self) -> int:
        return self.columns >> self.log2_bank_columns

    @property
    def plane_height(self) -> int:
        return plane_size(self.height, self.stride)

    @property
    def plane_width(self) -> int:
        return plane_size(self.width, self.stride)

    @property
    def pitch(self) -> int:
        """Words from one row of tiles to the next."""
        return -(-self.plane_width // self.bank_columns)

    @property
    def plane_words(self) -> int:
        """Words of one plane, in every bank."""
        return -(-self.plane_height // self.bank_rows) * self.pitch

    @property
    def group_words(self) -> int:
        """Words of all phases of one channel group, in every bank."""
        return self.plane_words << (2 * self.log2_stride)

    @property
    def words(self) -> int:
        """Words of the whole tensor, in every bank."""
        return self.groups * self.group_words

    def plane_offset(self, group: int, phase_row: int, phase_column: int) -> int:
        """First word of a plane."""
        phase = phase_row * self.stride + phase_column
        return self.base + group * self.group_words + phase * self.plane_words

    def fields(self, group: int) -> dict[str, int]:
        """The `Place` fields of one channel group."""
        return {
            "base": self.base + group * self.group_words,
            "plane_words": self.plane_words,
            "pitch": self.pitch,
            "log2_stride": self.log2_stride,
            "log2_bank_columns": self.log2_bank_columns,
        }


def locate(place: dict[str, int], y: np.ndarray, x: np.ndarray, *, columns: int):
    """Bank and address of pixels, from the `Place` fields of an instruction.

    Parameters
    ----------
    place : dict
        Fields of `coprune_hw.contract.instructions.Place`.
    y, x : int arrays of equal shape
    columns : int
        Banks of the accelerator.

    Returns
    -------
    bank, address : int arrays
    """
    log2_stride, log2_bank_columns = place["log2_stride"], place["log2_bank_columns"]
    log2_bank_rows = columns.bit_length() - 1 - log2_bank_columns
    phase_mask = (1 << log2_stride) - 1
    phase = ((y & phase_mask) << log2_stride) | (x & phase_mask)
    row, column = y >> log2_stride, x >> log2_stride
    bank_row = row & ((1 << log2_bank_rows) - 1)
    bank_column = column & ((1 << log2_bank_columns) - 1)
    address = place["base"] + phase * place["plane_words"]
    address = address + (row >> log2_bank_rows) * place["pitch"] + (column >> log2_bank_columns)
    return (bank_row << log2_bank_columns) | bank_column, address
