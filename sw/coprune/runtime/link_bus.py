"""The way to an accelerator over a serial line."""

from __future__ import annotations

import time
import zlib
from typing import Protocol

from amaranth.lib import data

from coprune_hw.contract.layout import decode, encode
from coprune_hw.contract.link import (
    CHECKSUM_BYTES,
    MAX_WORDS,
    REPLY_HEADER_BYTES,
    REPLY_SYNC,
    REQUEST_HEADER_BYTES,
    REQUEST_SYNC,
    WORD_BYTES,
    Command,
    LinkStatus,
    ReplyHeader,
    RequestHeader,
)
from coprune_hw.contract.system import DESCRIPTION_ADDRESS, SystemDescription

FEWEST_WORDS = 4
"""Of a frame on a bad line."""


class LinkError(RuntimeError):
    """The line is dead or too bad, or the bus behind it answered with an error."""


class Port(Protocol):
    """What is needed of `serial.Serial`."""

    def write(self, content: bytes) -> object:
        """Send bytes."""
        ...

    def read(self, size: int) -> bytes:
        """Return so many bytes, or those that came before the port's timeout."""
        ...

    def reset_input_buffer(self) -> None:
        """Forget what has come."""
        ...


class LinkBus:
    """Registers and memory of a `coprune_hw.system.System`, which says where its memory lies.

    Every frame carries a checksum. What gets no answer, or one that is damaged, is sent again;
    where that happens frames become shorter, and longer again where it does not.

    Parameters
    ----------
    port
        A `serial.Serial`, with a timeout that is long enough for a reply of `MAX_WORDS` words.
    attempts
        How often a frame is sent at most.
    poll_seconds
        Between two looks at the machine's status.

    Raises
    ------
    LinkError
        Nobody answers.
    """

    def __init__(
        self,
        port: Port,
        *,
        attempts: int = 20,
        poll_seconds: float = 0.0005,
    ) -> None:
        self._port = port
        self._attempts = attempts
        self._poll_seconds = poll_seconds
        self._sequence = 0
        self._words = MAX_WORDS
        self.repeated_frames = 0
        # After a read the link takes any write, whatever the host before this one sent last.
        layout = data.Layout.cast(SystemDescription)
        words = self._exchange(
            Command.READ_REGISTERS, DESCRIPTION_ADDRESS, most_words=layout.size // (8 * WORD_BYTES)
        )
        description = decode(layout, int.from_bytes(words, "little"))
        self.memory_address = description["memory_address"]
        self.memory_bytes = description["memory_bytes"]

    def read_register(self, address: int) -> int:
        """Return the register at a byte address."""
        words = self._exchange(Command.READ_REGISTERS, address, most_words=1)
        return int.from_bytes(words, "little")

    def write_register(self, address: int, value: int) -> None:
        """Write the register at a byte address."""
        content = value.to_bytes(WORD_BYTES, "little")
        self._exchange(Command.WRITE_REGISTERS, address, most_words=1, content=content)

    def read_memory(self, address: int, size: int) -> bytes:
        """Return bytes of the memory; address and size are multiples of `WORD_BYTES`."""
        _check_aligned(address, size)
        content = b""
        while len(content) < size:
            content += self._exchange(
                Command.READ_MEMORY,
                address + len(content),
                most_words=(size - len(content)) // WORD_BYTES,
            )
        return content

    def write_memory(self, address: int, content: bytes) -> None:
        """Write bytes of the memory; address and size are multiples of `WORD_BYTES`."""
        _check_aligned(address, len(content))
        begin = 0
        while begin < len(content):
            written = self._exchange(
                Command.WRITE_MEMORY,
                address + begin,
                most_words=(len(content) - begin) // WORD_BYTES,
                content=content[begin:],
            )
            begin += len(written)

    def wait(self) -> None:
        """Wait a little: there is no interrupt on a serial line."""
        time.sleep(self._poll_seconds)

    def _exchange(
        self, command: Command, address: int, *, most_words: int, content: bytes = b""
    ) -> bytes:
        """Send a request until it is answered: for as many words as the line seems to be good for.

        Returns
        -------
        bytes
            The words that were read or written, from the first on.
        """
        self._sequence = (self._sequence + 1) % 256
        for attempt in range(self._attempts):
            if attempt:
                self.repeated_frames += 1
                self._words = max(FEWEST_WORDS, self._words // 2)
            words = min(self._words, most_words)
            header = {
                "sequence": self._sequence,
                "command": command,
                "words": words,
                "address": address,
            }
            part = content[: words * WORD_BYTES]
            body = _pack(RequestHeader, header, size=REQUEST_HEADER_BYTES) + part
            self._port.reset_input_buffer()
            self._port.write(bytes([REQUEST_SYNC]) + body + _checksum(body))
            reply = self._receive()
            if reply is None:
                continue
            status, found = reply
            if status == LinkStatus.BUS_ERROR:
                raise LinkError(
                    f"the bus answered {command.name} of {words} words at {address:#010x} with an "
                    f"error: nothing is there"
                )
            if not attempt:
                self._words = min(MAX_WORDS, self._words + 1)
            return part or found
        raise LinkError(
            f"no answer to {command.name} at {address:#010x} in {self._attempts} attempts: "
            f"look at cable, port, baud rate, and whether the bitstream is loaded"
        )

    def _receive(self) -> tuple[LinkStatus, bytes] | None:
        """Status and words of the reply to the last request, or None where it must be repeated."""
        while True:
            sync = self._port.read(1)
            if not sync:
                return None
            if sync[0] != REPLY_SYNC:
                continue
            head = self._port.read(REPLY_HEADER_BYTES)
            if len(head) < REPLY_HEADER_BYTES:
                return None
            header = decode(data.Layout.cast(ReplyHeader), int.from_bytes(head, "little"))
            size = header["words"] * WORD_BYTES
            rest = self._port.read(size + CHECKSUM_BYTES)
            if rest[size:] != _checksum(head + rest[:size]):
                return None
            if header["status"] == LinkStatus.DAMAGED:
                return None
            if header["sequence"] == self._sequence:
                return LinkStatus(header["status"]), rest[:size]
            # The answer to a request that was answered before: it had been sent twice.


def _check_aligned(address: int, size: int) -> None:
    if address % WORD_BYTES or size % WORD_BYTES:
        raise ValueError(
            f"address and size must be multiples of {WORD_BYTES}, not {address:#x} and {size}"
        )


def _pack(layout: type[data.Struct], values: dict[str, int], *, size: int) -> bytes:
    return encode(data.Layout.cast(layout), values).to_bytes(size, "little")


def _checksum(body: bytes) -> bytes:
    return zlib.crc32(body).to_bytes(CHECKSUM_BYTES, "little")
