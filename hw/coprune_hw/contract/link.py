"""The host link: frames that carry register and memory accesses over a stream of bytes.

A request is `REQUEST_SYNC`, a `RequestHeader`, for a write its words, and a checksum; a reply is
`REPLY_SYNC`, a `ReplyHeader`, for a successful read its words, and a checksum. Numbers are
little-endian; the checksum is a CRC-32 (that of Ethernet) of everything between sync and itself.

A request that arrives damaged is answered with `LinkStatus.DAMAGED` or, where not enough of it
arrives, after a silence. The host repeats what is not answered, under the same sequence number: the
link carries out a write once, however often it arrives.
"""

from amaranth.lib import data, enum

REQUEST_SYNC = 0xA5
REPLY_SYNC = 0x5A

WORD_BYTES = 4
MAX_WORDS = 64
"""Of one frame."""
CHECKSUM_BYTES = 4

SILENCE_BYTES = 16
"""The time of so many bytes, without any, ends a request that is not complete."""


class Command(enum.IntEnum, shape=8):
    """What a request asks for, of words at rising addresses."""

    READ_REGISTERS = 0
    WRITE_REGISTERS = 1
    READ_MEMORY = 2
    WRITE_MEMORY = 3


class LinkStatus(enum.IntEnum, shape=8):
    """What became of a request.

    `DAMAGED`: the checksum is wrong, or command or number of words are none; nothing was done.
    `BUS_ERROR`: the bus answered an access with an error.
    """

    OK = 0
    DAMAGED = 1
    BUS_ERROR = 2


class RequestHeader(data.Struct):
    """Sequence number, `Command`, words from 1 to `MAX_WORDS`, byte address of the first."""

    sequence: 8
    command: 8
    words: 8
    address: 32


class ReplyHeader(data.Struct):
    """Sequence number of the request, `LinkStatus`, words that follow."""

    sequence: 8
    status: 8
    words: 8


REQUEST_HEADER_BYTES = data.Layout.cast(RequestHeader).size // 8
REPLY_HEADER_BYTES = data.Layout.cast(ReplyHeader).size // 8
