"""Boards with a Zynq-7000."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ZynqBoard:
    """What Vivado has to know of a board.

    Parameters
    ----------
    name : str
        As the command line has it.
    part : str
        Vivado's name of the device.
    board_part : str
        Vivado's name of the board, without its version; its files hold the settings of DDR and MIO.
    multipliers : int
        DSP48E1 of the device.
    memory_bytes : int
        Of the DDR memory, which begins at address 0.
    """

    name: str
    part: str
    board_part: str
    multipliers: int
    memory_bytes: int


BOARDS = {
    board.name: board
    for board in (
        ZynqBoard(
            name="pynq-z2",
            part="xc7z020clg400-1",
            board_part="tul.com.tw:pynq-z2:part0",
            multipliers=220,
            memory_bytes=512 << 20,
        ),
        ZynqBoard(
            name="arty-z7-20",
            part="xc7z020clg400-1",
            board_part="digilentinc.com:arty-z7-20:part0",
            multipliers=220,
            memory_bytes=512 << 20,
        ),
    )
}
