"""The EXECUTE unit: sequencer, memories, array and drain."""

from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import Execute
from coprune_hw.contract.registers import ErrorCode

from .activation_memory import ActivationMemory
from .delay import delay
from .drain import Drain
from .interfaces import (
    completion_signature,
    parameter_write_signature,
    pixel_read_signature,
    pixel_write_layout,
    pixel_write_signature,
    slot_write_signature,
    table_write_signature,
)
from .parameter_memory import ParameterMemory
from .pe_array import PEArray
from .sequencer import Sequencer
from .slot_memory import SlotMemory


class ExecuteUnit(wiring.Component):
    """Computes tiles of output channels from the slot stream and the activation memory.

    Members
    -------
    instruction : In(stream of Execute)
    completion : Out(stream of Prefix)
        When the last word of an instruction has been written.
    slot_write, parameter_write, table_write, pixel_write, pixel_read : In
        What LOAD and STORE do with the memories.
    observe : Out(stream)
        The words that the drain writes.
    halt : In
        Issue nothing more.
    busy : Out
        An instruction is here.
    error, error_code : Out
        The cycle before brought an error.
    slot_issued, barrier_stall, drain_stall : Out
        For the counters.

    Notes
    -----
    Fixed latencies throughout, from the slot's issue to the word's write: `fill_latency` cycles.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "instruction": In(stream.Signature(Execute)),
                "completion": Out(completion_signature()),
                "slot_write": In(slot_write_signature(config)),
                "parameter_write": In(parameter_write_signature()),
                "table_write": In(table_write_signature()),
                "pixel_write": In(pixel_write_signature(config)),
                "pixel_read": In(pixel_read_signature(config)),
                "observe": Out(stream.Signature(pixel_write_layout(config), always_ready=True)),
                "halt": In(1),
                "busy": Out(1),
                "error": Out(1),
                "error_code": Out(ErrorCode),
                "slot_issued": Out(1),
                "barrier_stall": Out(1),
                "drain_stall": Out(1),
            }
        )

    @staticmethod
    def words_latency(config: AcceleratorConfig) -> int:
        """Cycles from a slot's issue to its words and weights at the array."""
        return SlotMemory.LATENCY + ActivationMemory.block_latency(config)

    @classmethod
    def sums_latency(cls, config: AcceleratorConfig) -> int:
        """Cycles from the issue of a tile's last slot to its sums leaving the array."""
        return cls.words_latency(config) + PEArray.DRAIN_LATENCY

    @classmethod
    def fill_latency(cls, config: AcceleratorConfig) -> int:
        """Cycles from the issue of a tile's last slot to the write of its first word."""
        return cls.sums_latency(config) + Drain.latency(config)

    def elaborate(self, platform):
        config = self._config
        m = Module()
        m.submodules.sequencer = sequencer = Sequencer(config)
        m.submodules.slots = slots = SlotMemory(config)
        m.submodules.parameters = parameters = ParameterMemory(config)
        m.submodules.activations = activations = ActivationMemory(config)
        m.submodules.array = array = PEArray(config)
        m.submodules.drain = drain = Drain(config, sums_latency=self.sums_latency(config))

        connect(m, flipped(self.instruction), sequencer.instruction)
        connect(m, sequencer.job, drain.job)
        connect(m, sequencer.drain_tile, drain.tile)
        connect(m, drain.write, activations.drain_write)
        connect(m, drain.completion, flipped(self.completion))
        connect(m, flipped(self.slot_write), slots.write)
        connect(m, flipped(self.parameter_write), parameters.write)
        connect(m, flipped(self.table_write), drain.table_write)
        connect(m, flipped(self.pixel_write), activations.load_write)
        connect(m, flipped(self.pixel_read), activations.store_read)

        words_latency = self.words_latency(config)
        slot_read = delay(m, sequencer.slot_valid, SlotMemory.LATENCY, name="slot_read", init=0)
        m.d.comb += [
            slots.control_address.eq(sequencer.slot_address),
            activations.block.valid.eq(slot_read & slots.control.new_block),
            activations.block.control.eq(slots.control),
            activations.block.tile.eq(delay(m, sequencer.tile, SlotMemory.LATENCY, name="tile")),
            activations.drain_out_of_range.eq(drain.out_of_range),
            array.words.eq(activations.words),
            array.inside.eq(activations.inside),
            array.pad.eq(activations.pad),
            array.words_soon.eq(activations.words_soon),
        ]
        address = sequencer.slot_address
        address = delay(m, address, words_latency - SlotMemory.LATENCY, name="slot_address")
        for group in range(config.lane_groups):
            if group:
                address = delay(m, address, 1, name=f"slot_address_group_{group}")
            m.d.comb += [
                slots.group_address[group].eq(address),
                array.fields[group].eq(slots.group_fields[group]),
            ]

        flags = array.flags
        diagonal_delay = words_latency - SlotMemory.LATENCY
        for name, value, cycles in (
            ("valid", sequencer.slot_valid, words_latency),
            ("first", sequencer.first, words_latency),
            ("last", sequencer.last, words_latency),
            ("maximum", sequencer.maximum, words_latency),
            ("raw", sequencer.raw, words_latency),
            ("diagonal", slots.control.diagonal, diagonal_delay),
        ):
            delayed = delay(m, value, cycles, name=f"slot_{name}", init=0)
            m.d.comb += getattr(flags, name).eq(delayed)

        m.d.comb += [
            drain.begin.eq(array.drain),
            drain.sums.eq(array.sums),
            parameters.address.eq(drain.parameter_address),
            drain.parameter.eq(parameters.record),
            sequencer.halt.eq(self.halt),
            sequencer.parameters_soon.eq(drain.parameters_soon),
            sequencer.tile_written.eq(drain.tile_written),
            sequencer.completed.eq(drain.completed),
            self.observe.payload.eq(drain.write.payload),
            self.observe.valid.eq(drain.write.valid & ~drain.out_of_range),
            self.busy.eq(sequencer.busy),
            self.error_code.eq(ErrorCode.ADDRESS),
            self.slot_issued.eq(sequencer.slot_valid),
            self.barrier_stall.eq(sequencer.barrier_stall),
            self.drain_stall.eq(sequencer.drain_stall),
        ]
        m.d.sync += self.error.eq(sequencer.invalid | drain.out_of_range | activations.out_of_range)
        return m
