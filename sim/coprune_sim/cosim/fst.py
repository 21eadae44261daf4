"""Writes FST waveform files, the compact format of GTKWave, which Surfer and others open too.

Verilator has a writer, but needs two compression libraries whose headers are seldom installed. This
one needs Python alone. The format: https://blog.timhutt.co.uk/fst_spec/ and fstapi.c of GTKWave.
Values are of two states.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass, field

HEADER, GEOMETRY, HIERARCHY, VALUE_CHANGES = 0, 3, 4, 8
"""Types of blocks."""

SCOPE, UPSCOPE, WIRE = 254, 255, 16
"""Tags in the hierarchy."""

HEADER_FORMAT = ">QQ8sQQQQQb128s119sBq"
ENDIAN_TEST = struct.pack("<d", 2.7182818284590452354)
BLOCK_BYTES = 1 << 24
"""Bytes of changes from which on a block is closed."""


@dataclass
class _Signal:
    """Changes of a signal in the open block: `changes` as the format has them."""

    bits: int
    value: int = 0
    initial: int = 0
    changes: bytearray = field(default_factory=bytearray)
    last_index: int = 0


class FstWriter:
    """A waveform file in memory: declare scopes and signals, then tell the changes in time.

    Parameters
    ----------
    log10_seconds : int
        Unit of time: 10 to this power of a second.
    """

    def __init__(self, *, log10_seconds: int) -> None:
        self._log10_seconds = log10_seconds
        self._hierarchy = bytearray()
        self._scopes = self._variables = 0
        self._signals: list[_Signal] = []
        self._times: list[int] = []
        self._begin = self._end = 0
        self._bytes = 0
        self._blocks: list[bytes] = []

    def enter_scope(self, name: str) -> None:
        """Declare what follows within a module."""
        self._scopes += 1
        self._hierarchy += bytes([SCOPE, 0]) + name.encode() + b"\0\0"

    def leave_scope(self) -> None:
        """End a module."""
        self._hierarchy.append(UPSCOPE)

    def add_signal(self, name: str, *, bits: int, alias: int | None = None) -> int:
        """Declare a signal, and return its number; `alias` is that of one that always equals it."""
        self._variables += 1
        self._hierarchy += bytes([WIRE, 0]) + name.encode() + b"\0" + _varint(bits)
        self._hierarchy += _varint(0 if alias is None else alias + 1)
        if alias is not None:
            return alias
        self._signals.append(_Signal(bits))
        return len(self._signals) - 1

    def set_time(self, time: int) -> None:
        """Changes from here on happen at `time`, which never goes back."""
        if self._times and time == self._times[-1]:
            return
        if self._bytes >= BLOCK_BYTES:
            self._close_block()
        if not self._times and not self._blocks:
            self._begin = time
        self._times.append(time)
        self._end = time

    def change(self, signal: int, value: int) -> None:
        """Give a signal a value; at the first time, it is the one that it begins with."""
        changed = self._signals[signal]
        if value == changed.value and self._times[-1] != self._begin:
            return
        changed.value = value
        index = len(self._times) - 1
        delta = index - changed.last_index
        changed.last_index = index
        before = len(changed.changes)
        if changed.bits == 1:
            changed.changes += _varint(delta << 2 | value << 1)
        else:
            size = -(-changed.bits // 8)
            changed.changes += _varint(delta << 1)
            changed.changes += (value << -changed.bits % 8).to_bytes(size, "big")
        self._bytes += len(changed.changes) - before

    def finish(self) -> bytes:
        """The file."""
        self._close_block()
        header = struct.pack(
            HEADER_FORMAT,
            *(self._begin, self._end, ENDIAN_TEST, 0),
            *(self._scopes, self._variables, len(self._signals), len(self._blocks)),
            *(self._log10_seconds, b"coprune", b"", 0, 0),
        )
        geometry = b"".join(_varint(signal.bits) for signal in self._signals)
        packed = _shortest(geometry)
        lengths = struct.pack(">QQ", len(geometry), len(self._signals))
        return b"".join(
            [
                _block(HEADER, header),
                *self._blocks,
                _block(GEOMETRY, lengths + packed),
                _block(
                    HIERARCHY,
                    struct.pack(">Q", len(self._hierarchy))
                    + gzip.compress(self._hierarchy, mtime=0),
                ),
            ]
        )

    def _close_block(self) -> None:
        """Put the changes so far away, and go on with the values that they led to."""
        frame = "".join(f"{signal.initial:0{signal.bits}b}" for signal in self._signals).encode()
        count = _varint(len(self._signals))
        packed = _shortest(frame)
        waves, positions = bytearray(b"Z"), bytearray()
        traversed = unchanged = last_position = 0
        for signal in self._signals:
            if not signal.changes:
                unchanged += 1
                continue
            if unchanged:
                positions += _varint(unchanged << 1)
                unchanged = 0
            positions += _signed_varint((len(waves) - last_position) << 1 | 1)
            last_position = len(waves)
            short = _shortest(bytes(signal.changes))
            size = len(signal.changes)
            waves += _varint(0 if len(short) == size else size) + short
            traversed += size
            signal.changes.clear()
            signal.initial, signal.last_index = signal.value, 0
        if unchanged:
            positions += _varint(unchanged << 1)
        deltas = [
            after - before for before, after in zip([0, *self._times], self._times, strict=False)
        ]
        times = b"".join(map(_varint, deltas))
        packed_times = _shortest(times)
        content = [
            struct.pack(">QQQ", self._times[0], self._times[-1], traversed),
            *(_varint(len(frame)), _varint(len(packed)), count, packed),
            *(count, bytes(waves), bytes(positions), struct.pack(">Q", len(positions))),
            *(packed_times, struct.pack(">QQQ", len(times), len(packed_times), len(self._times))),
        ]
        self._blocks.append(_block(VALUE_CHANGES, b"".join(content)))
        self._times = []
        self._bytes = 0


def _block(kind: int, content: bytes) -> bytes:
    """A block: its type, its length with the eight bytes that say it, and its content."""
    return bytes([kind]) + struct.pack(">Q", 8 + len(content)) + content


def _shortest(content: bytes) -> bytes:
    """Compressed, where that is shorter: readers see it by the length."""
    return min(content, zlib.compress(content), key=len)


def _varint(value: int) -> bytes:
    """LEB128."""
    if value < 0x80:
        return bytes([value])
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def _signed_varint(value: int) -> bytes:
    """LEB128 of a number that is not negative, as a signed number has it: the last bit 6 is 0."""
    groups = bytearray(_varint(value))
    if groups[-1] & 0x40:
        groups[-1] |= 0x80
        groups.append(0)
    return bytes(groups)
