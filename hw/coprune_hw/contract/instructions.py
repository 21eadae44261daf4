"""Instruction layouts. Every instruction has 256 bits and starts with the same `Prefix`.

The gateware decodes them as structures, the compiler encodes them with `encode_instruction`, the
simulators decode them with `decode_instruction`, and the documentation lists them: all from here.
"""

from amaranth.hdl import signed
from amaranth.lib import data, enum

from .layout import decode, encode

INSTRUCTION_BITS = 256
INSTRUCTION_BYTES = INSTRUCTION_BITS // 8

ADDRESS_BITS = 16
PLANE_BITS = 13
"""Of the words of a plane, and of addresses within it: a bank has 4096 words at most."""
PITCH_BITS = 10
SIZE_BITS = 11
TILE_COUNT_BITS = 10
MARK_BITS = 8
BARRIER_BITS = 4
TABLE_BITS = 3
RAW_WORDS = 4
"""Words that a pixel of `lanes` accumulators takes."""
TABLE_BYTES = 256
"""An activation function: its value for every int8 number, ordered by the number's byte."""


class Opcode(enum.IntEnum, shape=4):
    """What an instruction does. Zero is none, so cleared memory does not run."""

    HEADER = 1
    LOAD = 2
    EXECUTE = 3
    STORE = 4
    END = 5


class LoadKind(enum.IntEnum, shape=2):
    """Destination of a LOAD."""

    SLOTS = 0
    PARAMETERS = 1
    PIXELS = 2
    TABLES = 3


class Prefix(data.Struct):
    """Common first bits.

    LOAD, EXECUTE and STORE are neighbours in this order. An instruction waits for a token of its
    previous or next neighbour before it starts, and signals one when it completes.
    """

    opcode: Opcode
    wait_previous: 1
    wait_next: 1
    signal_previous: 1
    signal_next: 1
    mark_valid: 1
    mark: MARK_BITS


class Place(data.Struct):
    """Where the planes of one channel group lie in the activation banks.

    Pixel ``(y, x)`` is in phase ``(y mod s, x mod s)`` with ``s = 2**log2_stride``, at row
    ``y div s`` and column ``x div s`` of that phase's plane; see `coprune_hw.contract.planes`.
    """

    base: ADDRESS_BITS
    plane_words: PLANE_BITS
    pitch: PITCH_BITS
    log2_stride: 2
    log2_bank_columns: 3


class Window(data.Struct):
    """Rows ``row_begin .. row_begin + rows - 1`` of an image `width` pixels wide."""

    row_begin: SIZE_BITS
    rows: SIZE_BITS
    width: SIZE_BITS


class Header(data.Struct):
    """First instruction of a program: for which contract version and geometry it was compiled."""

    prefix: Prefix
    version: 16
    geometry_hash: 32


class Load(data.Struct):
    """DRAM to slot, parameter, table or activation memory.

    `count` chunks (slot words, parameter records or bytes of tables, `TABLE_BYTES` of them each) go
    to `place.base` and on; a PIXELS load brings
    `window.rows * window.width` pixels of `pixel_bytes` bytes each, and fills the word up with
    zeros. `source` is a byte offset from the program's base address, a multiple of the bus width.
    """

    prefix: Prefix
    kind: LoadKind
    source: 32
    count: ADDRESS_BITS
    place: Place
    window: Window
    pixel_bytes: 5


class Execute(data.Struct):
    """One tile of `lanes` output channels over rows of pixel tiles.

    Tiles are ``2**log2_bank_columns`` pixels wide; `tile_base` is the address of the first tile's
    word in a plane at address 0. Reads outside ``input_height x input_width`` give `pad`; outputs
    outside ``output_height x output_width`` are not written. `row_begin` is a multiple of the
    tile's rows. A `barrier` b that is not 0 lets it wait until all tiles of earlier EXECUTEs but
    the last ``b - 1`` are in the activation memory; its second tile comes after all of them.
    Without one, tiles of any EXECUTE since the last barrier may still be on their way.

    With `raw` the accumulators themselves are written, as little-endian numbers of 32 bits: four
    words for a pixel, one with byte 0 of every lane, and `output.plane_words` addresses further
    each one with the next byte. The parameters must then be those that change nothing
    (`coprune_hw.contract.parameters.IDENTITY`), and `output.log2_stride` 0.

    Where it is `maximum`, a lane's result is not the sum of its products but that of its largest
    channel, of equal ones the first slot's. It is the largest product where a lane has the same
    positive weight in all slots.

    Where it is `interleaved`, the pixel computed at (y, x) is written to row ``2 y + row_phase``
    and column ``2 x + column_phase`` of the output. Where it is `tabulated`, what is written is
    the entry of table `table` for the requantized and clamped number.
    """

    prefix: Prefix
    barrier: BARRIER_BITS
    maximum: 1
    raw: 1
    interleaved: 1
    row_phase: 1
    column_phase: 1
    tabulated: 1
    table: TABLE_BITS
    slot_base: ADDRESS_BITS
    slot_count: ADDRESS_BITS
    parameter_base: ADDRESS_BITS
    tile_base: PLANE_BITS
    tile_rows: TILE_COUNT_BITS
    tile_columns: TILE_COUNT_BITS
    row_begin: SIZE_BITS
    pitch: PITCH_BITS
    log2_bank_columns: 3
    input_height: SIZE_BITS
    input_width: SIZE_BITS
    output_height: SIZE_BITS
    output_width: SIZE_BITS
    output: Place
    pad: signed(8)
    zero: signed(8)
    low: signed(8)
    high: signed(8)


class Store(data.Struct):
    """Activation memory to DRAM: whole words in raster order, from byte offset `destination` on."""

    prefix: Prefix
    destination: 32
    place: Place
    window: Window


class End(data.Struct):
    """Last instruction: when every unit is idle, the machine is done."""

    prefix: Prefix


LAYOUTS = {
    Opcode.HEADER: Header,
    Opcode.LOAD: Load,
    Opcode.EXECUTE: Execute,
    Opcode.STORE: Store,
    Opcode.END: End,
}


def prefix(opcode: Opcode, *, mark: int | None = None, **tokens: bool) -> dict:
    """Values of a `Prefix`: tokens that are not named are 0; `mark` None records nothing."""
    names = ("wait_previous", "wait_next", "signal_previous", "signal_next")
    unknown = sorted(set(tokens) - set(names))
    if unknown:
        raise ValueError(f"unknown token {unknown[0]!r}: must be one of {', '.join(names)}")
    values = {name: int(tokens.get(name, False)) for name in names}
    return {"opcode": opcode, **values, "mark_valid": int(mark is not None), "mark": mark or 0}


def encode_instruction(values: dict) -> bytes:
    """Encode an instruction given as the nested dict of its layout's fields.

    Raises
    ------
    OverflowError
        A value does not fit its field.
    """
    layout = data.Layout.cast(LAYOUTS[Opcode(values["prefix"]["opcode"])])
    return encode(layout, values).to_bytes(INSTRUCTION_BYTES, "little")


def decode_instruction(raw: bytes) -> dict:
    """Decode 32 bytes into the nested dict that `encode_instruction` takes.

    Raises
    ------
    ValueError
        The opcode is none of `Opcode`.
    """
    bits = int.from_bytes(raw, "little")
    opcode = decode(data.Layout.cast(Prefix), bits)["opcode"]
    if opcode not in LAYOUTS:
        raise ValueError(f"opcode must be one of {[int(code) for code in Opcode]}, not {opcode}")
    return decode(data.Layout.cast(LAYOUTS[opcode]), bits)
