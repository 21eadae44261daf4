"""Bursts on an AXI4 bus, one at a time, for tests."""

from coprune_hw.gateware.interfaces import AxiResponse

from ..gateware.streams import stream_get, stream_put


async def read_burst(ctx, bus, address, beats, *, stall=0.0, seed=0):
    """Read a burst; return its words and the responses of its beats."""
    await stream_put(
        ctx, bus.read_address, [{"address": address, "length": beats - 1}], stall=stall, seed=seed
    )
    got = await stream_get(ctx, bus.read_data, beats, stall=stall, seed=seed + 1)
    assert [beat.last for beat in got] == [0] * (beats - 1) + [1]
    return [beat.data for beat in got], [AxiResponse(beat.response) for beat in got]


async def write_burst(ctx, bus, address, words, *, strobes=None, stall=0.0, seed=0):
    """Write a burst; return its response."""
    await stream_put(
        ctx,
        bus.write_address,
        [{"address": address, "length": len(words) - 1}],
        stall=stall,
        seed=seed,
    )
    all_bytes = (1 << len(bus.write_data.payload.strobe)) - 1
    beats = [
        {"data": word, "strobe": strobe, "last": index == len(words) - 1}
        for index, (word, strobe) in enumerate(
            zip(words, strobes or [all_bytes] * len(words), strict=True)
        )
    ]
    await stream_put(ctx, bus.write_data, beats, stall=stall, seed=seed + 1)
    (response,) = await stream_get(ctx, bus.write_response, 1, stall=stall, seed=seed + 2)
    return AxiResponse(response.response)
