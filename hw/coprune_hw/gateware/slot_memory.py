"""On-chip memory of the slot stream."""

from amaranth.hdl import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.slots import CONTROL_BITS, LANE_BITS, SlotControl

from .interfaces import slot_write_signature


class SlotMemory(wiring.Component):
    """Slot words, readable by part: the control bits, and the fields of each lane group.

    The parts are memories of their own, because the array needs them in different cycles: the
    control bits first (they fetch the activation words), then one lane group after the other. A
    delayed address costs less than a delayed slot word.

    Members
    -------
    write : slot_write_signature
        Slot words from LOAD.
    control_address, control : In, Out
        Read port of the control bits.
    group_address, group_fields : In, Out
        Per lane group: address, and the `lane_group` fields of 12 bits.

    Notes
    -----
    Reads take `LATENCY` cycles (memory, output register), one a cycle on every port.
    """

    LATENCY = 2

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        address_bits = range(config.slot_depth)
        fields = data.ArrayLayout(LANE_BITS, config.lane_group)
        super().__init__(
            {
                "write": In(slot_write_signature(config)),
                "control_address": In(address_bits),
                "control": Out(SlotControl),
                "group_address": In(address_bits).array(config.lane_groups),
                "group_fields": Out(fields).array(config.lane_groups),
            }
        )

    def elaborate(self, platform):
        config = self._config
        m = Module()
        slot = self.write.payload.slot
        control_start = config.lanes * LANE_BITS
        self._add_part(
            m,
            name="control_memory",
            bits=slot[control_start : control_start + CONTROL_BITS],
            address=self.control_address,
            output=self.control,
        )
        group_bits = config.lane_group * LANE_BITS
        for group in range(config.lane_groups):
            self._add_part(
                m,
                name=f"lane_memory_{group}",
                bits=slot[group * group_bits : (group + 1) * group_bits],
                address=self.group_address[group],
                output=self.group_fields[group],
            )
        return m

    def _add_part(self, m, *, name, bits, address, output):
        part = memory.Memory(shape=len(bits), depth=self._config.slot_depth, init=[])
        m.submodules[name] = part
        write, read = part.write_port(), part.read_port()
        register = Signal(len(bits), name=f"{name}_output", reset_less=True)
        m.d.comb += [
            write.en.eq(self.write.valid),
            write.addr.eq(self.write.payload.address),
            write.data.eq(bits),
            read.en.eq(1),
            read.addr.eq(address),
            Value.cast(output).eq(register),
        ]
        m.d.sync += register.eq(read.data)
