"""Boards that a bitstream is made for with open tools."""

from .colorlight import COLORLIGHT
from .ecp5_board import Ecp5Board, Ecp5Top
from .orangecrab import ORANGECRAB
from .ulx3s import ULX3S

BOARDS = {board.name: board for board in (*ULX3S, *COLORLIGHT, *ORANGECRAB)}

__all__ = ["BOARDS", "Ecp5Board", "Ecp5Top"]
