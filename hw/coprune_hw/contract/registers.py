"""The register map of the AXI4-Lite slave: one structure of 32-bit registers.

Addresses are field offsets; gateware, driver and documentation iterate this one layout.
"""

from amaranth.lib import data, enum

IDENTITY = int.from_bytes(b"COPR", "little")


class State(enum.IntEnum, shape=2):
    """What the machine is doing."""

    IDLE = 0
    RUNNING = 1
    DONE = 2
    ERROR = 3


class ErrorCode(enum.IntEnum, shape=8):
    """Why the machine stopped. Each stops it and leaves the registers readable."""

    NONE = 0
    BAD_OPCODE = 1
    GEOMETRY = 2
    ADDRESS = 3
    AXI_READ = 4
    AXI_WRITE = 5
    DEADLOCK = 6


ERROR_MEANING = {
    ErrorCode.NONE: "no error",
    ErrorCode.BAD_OPCODE: "an instruction has an unknown opcode, or a LOAD an unknown kind",
    ErrorCode.GEOMETRY: "the program does not begin with a HEADER of this version and geometry",
    ErrorCode.ADDRESS: "an instruction reaches outside a memory or the program's bytes, "
    "or is not aligned to the bus",
    ErrorCode.AXI_READ: "the bus answered a read with an error response",
    ErrorCode.AXI_WRITE: "the bus answered a write with an error response",
    ErrorCode.DEADLOCK: "every unit waits for a token that nobody will send",
}


class Identity(data.Struct):
    """The letters COPR. Read-only."""

    value: 32


class Version(data.Struct):
    """Contract version. Read-only."""

    value: 32


class Geometry(data.Struct):
    """Lanes, columns and bytes of the bus. Read-only."""

    lanes: 8
    columns: 8
    bus_bytes: 8
    reserved: 8


class GeometryHash(data.Struct):
    """`AcceleratorConfig.geometry_hash`. Read-only."""

    value: 32


class Control(data.Struct):
    """Write 1 to act; reads as 0.

    `start` runs the program; `reset` brings the machine back to IDLE once the bus is quiet;
    `acknowledge` clears the interrupt.
    """

    start: 1
    reset: 1
    acknowledge: 1
    reserved: 29


class Status(data.Struct):
    """State, pending interrupt and error. Read-only.

    `error` is an `ErrorCode`; `bus_busy` says that bursts are under way.
    """

    state: State
    interrupt: 1
    bus_busy: 1
    reserved: 4
    error: ErrorCode
    reserved2: 16


class InterruptEnable(data.Struct):
    """Raise the interrupt when the machine is done or stopped by an error."""

    enable: 1
    reserved: 31


class ProgramAddress(data.Struct):
    """Byte address of the program image, a multiple of 4096."""

    value: 32


class ProgramBytes(data.Struct):
    """Size of the program image; no instruction reaches beyond it."""

    value: 32


class MarkSelect(data.Struct):
    """Which layer mark the `mark_*` registers show."""

    value: 32


class Counter(data.Struct):
    """A counter of cycles or beats since start. Read-only."""

    value: 32


COUNTERS = {
    "cycles": "cycles since start",
    "slots": "slots issued to the array",
    "token_stalls": "cycles in which EXECUTE waited for a token or a barrier",
    "drain_stalls": "cycles in which EXECUTE waited for the drain",
    "load_beats": "read beats that LOAD took",
    "load_stalls": "cycles in which LOAD waited for a token",
    "store_beats": "write beats that STORE sent",
}
"""The counters: each is a register, and each is recorded at a layer mark as `mark_<name>`."""


REGISTERS = data.StructLayout(
    {
        "identity": Identity,
        "version": Version,
        "geometry": Geometry,
        "geometry_hash": GeometryHash,
        "control": Control,
        "status": Status,
        "interrupt_enable": InterruptEnable,
        "program_address": ProgramAddress,
        "program_bytes": ProgramBytes,
        "mark_select": MarkSelect,
        **dict.fromkeys(COUNTERS, Counter),
        **{f"mark_{name}": Counter for name in COUNTERS},
    }
)


def address_of(name: str) -> int:
    """Byte address of a register, from the start of the slave's region."""
    return REGISTERS[name].offset // 8
