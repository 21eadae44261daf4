"""Drives an AXI4 slave of one ID in cocotb, every channel on its own, with random pauses."""

import random
from collections import deque
from dataclasses import dataclass, field

from cocotb.triggers import FallingEdge

LONGEST_CYCLES = 400_000
"""No test takes so many cycles, unless it hangs."""


@dataclass
class ReadBurst:
    """Beats to read; the driver fills in what came, and when (in cycles)."""

    address: int
    beats: int
    data: list[int] = field(default_factory=list)
    responses: list[int] = field(default_factory=list)
    asked_cycle: int | None = None
    beat_cycles: list[int] = field(default_factory=list)


@dataclass
class WriteBurst:
    """Beats to write, as integers, and their strobes; the driver fills in the response."""

    address: int
    data: list[int]
    strobes: list[int]
    response: int | None = None
    response_cycle: int | None = None


class BusDriver:
    """Keep all five channels going.

    Parameters
    ----------
    dut : HierarchyObject
        With pins `s_axi_*`.
    stall : float
        Probability that a channel of ours pauses in a cycle.
    seed : int
    """

    def __init__(self, dut, *, stall: float = 0.0, seed: int = 0):
        self.dut, self.stall, self.random = dut, stall, random.Random(seed)
        self.cycle = 0
        size = (len(dut.s_axi_wstrb) - 1).bit_length()
        for channel in ("ar", "aw"):
            getattr(dut, f"s_axi_{channel}size").value = size
            getattr(dut, f"s_axi_{channel}burst").value = 1
            getattr(dut, f"s_axi_{channel}valid").value = 0
        for name in ("wvalid", "bready", "rready"):
            getattr(dut, f"s_axi_{name}").value = 0

    def _goes(self) -> bool:
        return self.stall == 0 or self.random.random() >= self.stall

    async def run(
        self,
        reads: list[ReadBurst] = (),
        writes: list[WriteBurst] = (),
        *,
        holds_data_until_read: bool = False,
    ) -> None:
        """Do bursts, reads and writes beside each other, until all are answered.

        With `holds_data_until_read` no beat is written before the last beat was read.
        """
        dut = self.dut
        to_ask, to_come = deque(reads), deque(reads)
        to_address, to_confirm = deque(writes), deque(writes)
        beats = deque(
            (burst.data[index], burst.strobes[index], index == len(burst.data) - 1)
            for burst in writes
            for index in range(len(burst.data))
        )
        begin = self.cycle
        ar = aw = w = None
        bready = rready = False
        while to_ask or to_come or to_address or to_confirm or ar or aw or w:
            assert self.cycle - begin < LONGEST_CYCLES, (
                f"hangs: {len(to_come)} reads, {len(to_confirm)} writes not answered"
            )
            if ar is None and to_ask and self._goes():
                ar = to_ask.popleft()
                dut.s_axi_araddr.value = ar.address
                dut.s_axi_arlen.value = ar.beats - 1
                dut.s_axi_arvalid.value = 1
            if aw is None and to_address and self._goes():
                aw = to_address.popleft()
                dut.s_axi_awaddr.value = aw.address
                dut.s_axi_awlen.value = len(aw.data) - 1
                dut.s_axi_awvalid.value = 1
            may_write = not (holds_data_until_read and to_come)
            if w is None and beats and may_write and self._goes():
                w = beats.popleft()
                dut.s_axi_wdata.value = w[0]
                dut.s_axi_wstrb.value = w[1]
                dut.s_axi_wlast.value = int(w[2])
                dut.s_axi_wvalid.value = 1
            if bready != (goes := self._goes()):
                bready = goes
                dut.s_axi_bready.value = int(bready)
            if rready != (goes := self._goes()):
                rready = goes
                dut.s_axi_rready.value = int(rready)
            # None of these depends on what was just set: they hold at the coming edge.
            asked = ar is not None and dut.s_axi_arready.value == 1
            addressed = aw is not None and dut.s_axi_awready.value == 1
            written = w is not None and dut.s_axi_wready.value == 1
            if rready and dut.s_axi_rvalid.value == 1:
                burst = to_come[0]
                burst.data.append(int(dut.s_axi_rdata.value))
                burst.responses.append(int(dut.s_axi_rresp.value))
                burst.beat_cycles.append(self.cycle)
                is_last = len(burst.data) == burst.beats
                assert bool(dut.s_axi_rlast.value) == is_last, (
                    f"RLAST at beat {len(burst.data)} of {burst.beats} at {burst.address:#x}"
                )
                if is_last:
                    to_come.popleft()
            if bready and dut.s_axi_bvalid.value == 1:
                burst = to_confirm.popleft()
                burst.response = int(dut.s_axi_bresp.value)
                burst.response_cycle = self.cycle
            await FallingEdge(dut.clk)
            if asked:
                ar.asked_cycle = self.cycle
                dut.s_axi_arvalid.value = 0
                ar = None
            if addressed:
                dut.s_axi_awvalid.value = 0
                aw = None
            if written:
                dut.s_axi_wvalid.value = 0
                w = None
            self.cycle += 1
        for name in ("bready", "rready"):
            getattr(dut, f"s_axi_{name}").value = 0


class Contents:
    """What a memory must hold: bytes by address, 0 where none was written."""

    def __init__(self, bus_bytes: int):
        self.bus_bytes = bus_bytes
        self.bytes: dict[int, int] = {}

    def write(self, burst: WriteBurst) -> None:
        for index, (data, strobe) in enumerate(zip(burst.data, burst.strobes, strict=True)):
            address = burst.address + index * self.bus_bytes
            for lane in range(self.bus_bytes):
                if strobe >> lane & 1:
                    self.bytes[address + lane] = data >> 8 * lane & 0xFF

    def check(self, burst: ReadBurst) -> None:
        """Every byte that is known is what was read."""
        for index, data in enumerate(burst.data):
            for lane in range(self.bus_bytes):
                address = burst.address + index * self.bus_bytes + lane
                actual, wanted = data >> 8 * lane & 0xFF, self.bytes.get(address)
                assert wanted is None or actual == wanted, (
                    f"byte {address:#x} is {actual:#x}, must be {wanted:#x}"
                )
