"""Signatures and payloads that components of the accelerator share.

Every channel is a `lib.stream`: payload, valid, ready. The AXI4 constants of the machine (one ID,
INCR bursts, full-width beats, no cache, lock or QoS bits) are not signals; a pin-level wrapper ties
them off with `AXI_BURST_INCR`.
"""

from amaranth.hdl import *
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import (
    ADDRESS_BITS,
    INSTRUCTION_BITS,
    End,
    Execute,
    Header,
    Load,
    Prefix,
    Store,
)
from coprune_hw.contract.parameters import PARAMETER_BYTES
from coprune_hw.contract.slots import slot_bits

AXI_BURST_INCR = 1
"""The only burst type that the machine issues."""

BANK_ADDRESS_BITS = 12
"""Address of a word within an activation bank."""

PIXEL_ADDRESS_BITS = 22
"""Address of a located pixel before it is known to be within a bank: never wraps."""

REGISTER_ADDRESS_BITS = 8
"""Byte address within the AXI4-Lite slave's region of 256 bytes."""


class AxiResponse(enum.IntEnum, shape=2):
    """Response codes of AXI4; the upper bit says that it is an error."""

    OKAY = 0
    EXOKAY = 1
    SLVERR = 2
    DECERR = 3


class BurstAddress(data.Struct):
    """Read or write address of AXI4: byte address, and beats minus one."""

    address: 32
    length: 8


class WriteResponse(data.Struct):
    """Write response of AXI4 and AXI4-Lite."""

    response: AxiResponse


class Transfer(data.Struct):
    """Beats to move: byte address of the first (a multiple of the bus width), and how many."""

    address: 32
    beats: 30


class Instruction(data.Union):
    """An instruction as it is fetched, under every layout that it may have."""

    prefix: Prefix
    header: Header
    load: Load
    execute: Execute
    store: Store
    end: End
    raw: INSTRUCTION_BITS


class TableWrite(data.Struct):
    """A byte of the tables, and its address in the table memory."""

    address: ADDRESS_BITS
    byte: 8


class ParameterWrite(data.Struct):
    """A parameter record, and the output channel in the parameter memory that it is for."""

    address: ADDRESS_BITS
    record: 8 * PARAMETER_BYTES


def read_data_layout(bus_bits: int) -> data.StructLayout:
    """Read data of AXI4."""
    return data.StructLayout({"data": bus_bits, "response": AxiResponse, "last": 1})


def write_data_layout(bus_bits: int) -> data.StructLayout:
    """Write data of AXI4."""
    return data.StructLayout({"data": bus_bits, "strobe": bus_bits // 8, "last": 1})


def slot_write_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A slot word and its address in the slot memory."""
    return data.StructLayout({"address": ADDRESS_BITS, "slot": slot_bits(config.lanes)})


def pixel_address_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Where a word lies in the activation banks."""
    return data.StructLayout({"bank": config.log2_columns, "address": BANK_ADDRESS_BITS})


def pixel_write_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A word of `lanes` channels, and where it goes in the activation banks."""
    return data.StructLayout(
        {
            "bank": config.log2_columns,
            "address": BANK_ADDRESS_BITS,
            "word": config.word_bits,
        }
    )


def slot_write_signature(config: AcceleratorConfig) -> stream.Signature:
    """Writes to the slot memory, always accepted."""
    return stream.Signature(slot_write_layout(config), always_ready=True)


def parameter_write_signature() -> stream.Signature:
    """Writes to the parameter memory, always accepted."""
    return stream.Signature(ParameterWrite, always_ready=True)


def table_write_signature() -> stream.Signature:
    """Writes to the table memory, always accepted."""
    return stream.Signature(TableWrite, always_ready=True)


def pixel_write_signature(config: AcceleratorConfig) -> stream.Signature:
    """Writes to the activation banks; `ready` is low while the drain has the write port."""
    return stream.Signature(pixel_write_layout(config))


def pixel_read_signature(config: AcceleratorConfig) -> wiring.Signature:
    """Reads of the activation banks, as the reader sees them.

    `request` waits while EXECUTE has the read port. `response` brings the word of every accepted
    request, in order, a fixed number of cycles after it was accepted, and cannot be held up.
    """
    return wiring.Signature(
        {
            "request": Out(stream.Signature(pixel_address_layout(config))),
            "response": In(stream.Signature(config.word_bits, always_ready=True)),
        }
    )


def completion_signature() -> stream.Signature:
    """Completed instructions, of which the synchronizer needs the `Prefix`."""
    return stream.Signature(Prefix)


def axi4_read_signature(config: AcceleratorConfig) -> wiring.Signature:
    """The read channels of an AXI4 bus, as the master sees them."""
    return wiring.Signature(
        {
            "read_address": Out(stream.Signature(BurstAddress)),
            "read_data": In(stream.Signature(read_data_layout(config.bus_bits))),
        }
    )


def axi4_write_signature(config: AcceleratorConfig) -> wiring.Signature:
    """The write channels of an AXI4 bus, as the master sees them."""
    return wiring.Signature(
        {
            "write_address": Out(stream.Signature(BurstAddress)),
            "write_data": Out(stream.Signature(write_data_layout(config.bus_bits))),
            "write_response": In(stream.Signature(WriteResponse)),
        }
    )


def axi4_signature(config: AcceleratorConfig) -> wiring.Signature:
    """An AXI4 bus of 32-bit addresses and `bus_bits` data bits, as the master sees it."""
    return wiring.Signature(
        {
            "read": Out(axi4_read_signature(config)),
            "write": Out(axi4_write_signature(config)),
        }
    )


def axi4_lite_signature() -> wiring.Signature:
    """A 32-bit AXI4-Lite bus to the registers, as the master (the host) sees it."""
    address = data.StructLayout({"address": REGISTER_ADDRESS_BITS})
    return wiring.Signature(
        {
            "write_address": Out(stream.Signature(address)),
            "write_data": Out(stream.Signature(data.StructLayout({"data": 32, "strobe": 4}))),
            "write_response": In(stream.Signature(WriteResponse)),
            "read_address": Out(stream.Signature(address)),
            "read_data": In(
                stream.Signature(data.StructLayout({"data": 32, "response": AxiResponse}))
            ),
        }
    )
