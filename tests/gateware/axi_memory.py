"""A memory on the AXI4 bus for tests, which also checks the master's side of the protocol."""

import random
from collections import deque

from coprune_hw.gateware.interfaces import AxiResponse


class AxiMemory:
    """Answer bursts from a byte array at address `base`.

    Parameters
    ----------
    image : bytes
        Contents; `image` holds what was written.
    bus_bytes, burst_beats : int
        No burst may have more beats or cross a multiple of their product.
    latency : int
        Cycles from an address to its first beat, and from a last beat to its response; at least 1.
    stall : float
        Probability that a channel pauses in a cycle.
    error_address : int, optional
        Beats at this address, and bursts that begin there, are answered with SLVERR.
    """

    def __init__(
        self,
        image: bytes,
        *,
        bus_bytes: int,
        burst_beats: int,
        base: int = 0,
        latency: int = 1,
        stall: float = 0.0,
        seed: int = 0,
        error_address: int | None = None,
    ):
        self.image = bytearray(image)
        self.bus_bytes, self.burst_beats = bus_bytes, burst_beats
        self.base, self.latency = base, latency
        self.stall, self.random = stall, random.Random(seed)
        self.error_address = error_address
        self.read_bursts: list[tuple[int, int]] = []
        self.write_bursts: list[tuple[int, int]] = []
        self.read_cycles: list[int] = []
        self.beat_cycles: list[int] = []
        self.in_flight_max = 0

    def _goes(self) -> bool:
        return self.random.random() >= self.stall

    def _check_burst(self, address: int, beats: int) -> None:
        span = self.bus_bytes * self.burst_beats
        assert beats <= self.burst_beats
        assert address % self.bus_bytes == 0
        assert address // span == (address + beats * self.bus_bytes - 1) // span

    async def serve_reads(self, ctx, bus) -> None:
        """Answer the read channels; add as a background testbench."""
        addresses, beats = bus.read_address, bus.read_data
        queue = deque()
        beat_index, waiting, cycle, offered = 0, None, 0, False
        while True:
            address_ready = self._goes()
            ctx.set(addresses.ready, address_ready)
            if not offered and queue and queue[0][2] <= cycle and self._goes():
                address, length, _ = queue[0]
                position = address + beat_index * self.bus_bytes
                begin = position - self.base
                data = self.image[begin : begin + self.bus_bytes]
                failed = position == self.error_address
                payload = {
                    "data": int.from_bytes(data, "little"),
                    "response": AxiResponse.SLVERR if failed else AxiResponse.OKAY,
                    "last": beat_index == length - 1,
                }
                ctx.set(beats.payload, payload)
                offered = True
            ctx.set(beats.valid, offered)
            _, _, valid, payload, ready = await ctx.tick().sample(
                addresses.valid, addresses.payload, beats.ready
            )
            if offered and ready:
                offered = False
                self.beat_cycles.append(cycle)
                beat_index += 1
                if beat_index == queue[0][1]:
                    queue.popleft()
                    beat_index = 0
            burst = (payload.address, payload.length + 1)
            assert waiting is None or (valid and burst == waiting), "read address must hold"
            waiting = burst if valid and not address_ready else None
            if valid and address_ready:
                self._check_burst(*burst)
                self.read_bursts.append(burst)
                self.read_cycles.append(cycle)
                queue.append((*burst, cycle + self.latency))
                self.in_flight_max = max(self.in_flight_max, len(queue))
            cycle += 1

    async def serve_writes(self, ctx, bus) -> None:
        """Answer the write channels; add as a background testbench."""
        addresses, beats, responses = bus.write_address, bus.write_data, bus.write_response
        bursts, answers = deque(), deque()
        beat_index, cycle, offered = 0, 0, False
        waiting_address = waiting_beat = None
        while True:
            address_ready, beat_ready = self._goes(), bool(bursts) and self._goes()
            ctx.set(addresses.ready, address_ready)
            ctx.set(beats.ready, beat_ready)
            if not offered and answers and answers[0][1] <= cycle and self._goes():
                ctx.set(responses.payload, {"response": answers[0][0]})
                offered = True
            ctx.set(responses.valid, offered)
            (
                _,
                _,
                address_valid,
                address,
                beat_valid,
                beat,
                response_ready,
            ) = await ctx.tick().sample(
                addresses.valid,
                addresses.payload,
                beats.valid,
                beats.payload,
                responses.ready,
            )
            if offered and response_ready:
                offered = False
                answers.popleft()
            burst = (address.address, address.length + 1)
            content = (beat.data, beat.strobe, beat.last)
            assert waiting_address is None or (address_valid and burst == waiting_address)
            assert waiting_beat is None or (beat_valid and content == waiting_beat)
            waiting_address = burst if address_valid and not address_ready else None
            waiting_beat = content if beat_valid and not beat_ready else None
            if beat_valid and beat_ready:
                begin, length = bursts[0]
                self._write(begin - self.base + beat_index * self.bus_bytes, beat)
                self.beat_cycles.append(cycle)
                beat_index += 1
                assert beat.last == (beat_index == length), "last must mark the last beat"
                if beat.last:
                    failed = begin == self.error_address
                    code = AxiResponse.SLVERR if failed else AxiResponse.OKAY
                    answers.append((code, cycle + self.latency))
                    bursts.popleft()
                    beat_index = 0
            if address_valid and address_ready:
                self._check_burst(*burst)
                self.write_bursts.append(burst)
                bursts.append(burst)
            cycle += 1

    def _write(self, offset: int, beat) -> None:
        data = beat.data.to_bytes(self.bus_bytes, "little")
        for i in range(self.bus_bytes):
            if beat.strobe >> i & 1:
                self.image[offset + i] = data[i]
