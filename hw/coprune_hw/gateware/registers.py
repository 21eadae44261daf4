"""The registers that the host sees, over AXI4-Lite."""

from amaranth.hdl import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from coprune_hw.contract import CONTRACT_VERSION, AcceleratorConfig
from coprune_hw.contract.instructions import MARK_BITS
from coprune_hw.contract.registers import (
    COUNTERS,
    IDENTITY,
    REGISTERS,
    ErrorCode,
    State,
    address_of,
)

from .counters import COUNTER_VALUES
from .interfaces import AxiResponse, axi4_lite_signature

_GROUP = 8
"""Registers that a read chooses from in its first step."""


class RegisterFile(wiring.Component):
    """Serve the registers of `coprune_hw.contract.registers` to the host.

    An address beyond the last register is answered with SLVERR. Writes obey their strobes; a write
    to a read-only register changes nothing and is answered with OKAY. The lowest two address bits
    are ignored.

    Members
    -------
    bus : In(axi4_lite_signature)
    start, reset, acknowledge : Out(1)
        The host wrote 1 to the field; high for one cycle.
    program_address, program_bytes : Out(32)
        The lowest 12 bits of `program_address` are always 0.
    mark_select : Out(8)
    state, error_code, bus_busy, interrupt_pending : In
        What `status` shows.
    counters, mark_counters : In(COUNTER_VALUES)
        `mark_counters` two cycles after `mark_select` at the latest.
    interrupt : Out(1)
        A pending interrupt, where enabled.

    Notes
    -----
    One read and one write transaction at a time, independent of each other. A write is answered two
    cycles after the later of address and data, a read three cycles after its address.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "bus": In(axi4_lite_signature()),
                "start": Out(1),
                "reset": Out(1),
                "acknowledge": Out(1),
                "program_address": Out(32),
                "program_bytes": Out(32),
                "mark_select": Out(MARK_BITS),
                "state": In(State),
                "error_code": In(ErrorCode),
                "bus_busy": In(1),
                "interrupt_pending": In(1),
                "counters": In(COUNTER_VALUES),
                "mark_counters": In(COUNTER_VALUES),
                "interrupt": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        values = Signal(REGISTERS)
        interrupt_enable = Signal()
        m.d.comb += [
            values.identity.value.eq(IDENTITY),
            values.version.value.eq(CONTRACT_VERSION),
            values.geometry.lanes.eq(self._config.lanes),
            values.geometry.columns.eq(self._config.columns),
            values.geometry.bus_bytes.eq(self._config.bus_bytes),
            values.geometry_hash.value.eq(self._config.geometry_hash),
            values.status.state.eq(self.state),
            values.status.interrupt.eq(self.interrupt_pending),
            values.status.bus_busy.eq(self.bus_busy),
            values.status.error.eq(self.error_code),
            values.interrupt_enable.enable.eq(interrupt_enable),
            values.program_address.value.eq(self.program_address),
            values.program_bytes.value.eq(self.program_bytes),
            values.mark_select.value.eq(self.mark_select),
            self.interrupt.eq(self.interrupt_pending & interrupt_enable),
        ]
        for name in COUNTERS:
            m.d.comb += values[name].value.eq(self.counters[name])
            m.d.comb += values[f"mark_{name}"].value.eq(self.mark_counters[name])
        self._serve_reads(m, values)
        self._serve_writes(m, values, interrupt_enable)
        return m

    def _serve_reads(self, m, values):
        address, result = self.bus.read_address, self.bus.read_data
        index = Signal.like(address.payload.address[2:])
        words = [Value.cast(values[name]) for name, _ in REGISTERS]
        groups = [words[begin : begin + _GROUP] for begin in range(0, len(words), _GROUP)]
        in_group, group = index[: exact_log2(_GROUP)], index[exact_log2(_GROUP) :]
        # Of each group's registers the one at the place.
        chosen = Array(Signal(32, name=f"chosen_{number}") for number in range(len(groups)))
        for word, members in zip(chosen, groups, strict=True):
            m.d.sync += word.eq(Array(members)[in_group])
        with m.FSM(name="reads"):
            with m.State("ADDRESS"):
                m.d.comb += address.ready.eq(1)
                m.d.sync += index.eq(address.payload.address[2:])
                with m.If(address.valid):
                    m.next = "GROUP"
            with m.State("GROUP"):
                m.next = "READ"
            with m.State("READ"):
                is_register = index < len(words)
                m.d.sync += [
                    result.payload.data.eq(Mux(is_register, chosen[group], 0)),
                    result.payload.response.eq(
                        Mux(is_register, AxiResponse.OKAY, AxiResponse.SLVERR)
                    ),
                ]
                m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += result.valid.eq(1)
                with m.If(result.ready):
                    m.next = "ADDRESS"

    def _serve_writes(self, m, values, interrupt_enable):
        address, written, response = (
            self.bus.write_address,
            self.bus.write_data,
            self.bus.write_response,
        )
        has_address, has_data = Signal(), Signal()
        index = Signal.like(address.payload.address[2:])
        word, strobe = Signal(32), Signal(4)
        mask = Cat(bit.replicate(8) for bit in strobe)
        m.d.comb += [address.ready.eq(~has_address), written.ready.eq(~has_data)]
        with m.If(address.valid & address.ready):
            m.d.sync += [has_address.eq(1), index.eq(address.payload.address[2:])]
        with m.If(written.valid & written.ready):
            m.d.sync += [
                has_data.eq(1),
                word.eq(written.payload.data),
                strobe.eq(written.payload.strobe),
            ]

        merged = Signal(REGISTERS)
        for name, _ in REGISTERS:
            old = values[name].as_value()
            m.d.comb += merged[name].as_value().eq((old & ~mask) | (word & mask))
        with m.If(has_address & has_data & ~response.valid):
            m.d.sync += [
                response.valid.eq(1),
                response.payload.response.eq(
                    Mux(index < REGISTERS.size // 32, AxiResponse.OKAY, AxiResponse.SLVERR)
                ),
            ]
            with m.Switch(index):
                with m.Case(address_of("control") // 4):
                    m.d.comb += [
                        self.start.eq(merged.control.start),
                        self.reset.eq(merged.control.reset),
                        self.acknowledge.eq(merged.control.acknowledge),
                    ]
                with m.Case(address_of("interrupt_enable") // 4):
                    m.d.sync += interrupt_enable.eq(merged.interrupt_enable.enable)
                with m.Case(address_of("program_address") // 4):
                    m.d.sync += self.program_address[12:].eq(merged.program_address.value[12:])
                with m.Case(address_of("program_bytes") // 4):
                    m.d.sync += self.program_bytes.eq(merged.program_bytes.value)
                with m.Case(address_of("mark_select") // 4):
                    m.d.sync += self.mark_select.eq(merged.mark_select.value)
        with m.If(response.valid & response.ready):
            m.d.sync += [response.valid.eq(0), has_address.eq(0), has_data.eq(0)]
