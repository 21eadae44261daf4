"""On-chip memories that LOAD fills round and round, and what is overwritten in them."""

from __future__ import annotations

from dataclasses import dataclass

NOTHING = -1
"""In place of an instruction's index: none is needed."""


class Ring:
    """An on-chip memory that is filled round and round, in contiguous pieces."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._next = 0
        self._pieces: list[Piece] = []

    def take(self, count: int) -> Piece:
        """Claim `count` chunks; `needs_execute` of the piece is the last user of what was there."""
        begin = self._next if self._next + count <= self._depth else 0
        end = self._next = begin + count
        overwritten = [piece for piece in self._pieces if piece.begin < end and begin < piece.end]
        self._pieces = [piece for piece in self._pieces if piece not in overwritten]
        last_user = max((piece.last_user for piece in overwritten), default=NOTHING)
        piece = Piece(begin=begin, end=end, needs_execute=last_user)
        self._pieces.append(piece)
        return piece


@dataclass(eq=False)
class Piece:
    """Chunks ``begin .. end - 1`` of a ring, and the last EXECUTE that reads them so far."""

    begin: int
    end: int
    needs_execute: int
    last_user: int = NOTHING
