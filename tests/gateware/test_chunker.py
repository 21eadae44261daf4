"""The chunker against slices of the byte string that it cuts."""

import numpy as np
import pytest

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.gateware.chunker import Chunker, chunk_sizes

from .streams import simulate, stream_get, stream_put


def to_beats(image: bytes, bus_bytes: int) -> list[int]:
    padded = image + bytes(-len(image) % bus_bytes)
    return [
        int.from_bytes(padded[i : i + bus_bytes], "little")
        for i in range(0, len(padded), bus_bytes)
    ]


def run_chunker(config, runs, *, beat_stall=0.0, chunk_stall=0.0, seed=0):
    """Cut random bytes; return the chunks as they came, as they should be, and the cycles taken."""
    generator = np.random.default_rng(seed)
    dut = Chunker(config)
    images = [generator.bytes(size * chunks) for size, chunks in runs]
    beats = [beat for image in images for beat in to_beats(image, config.bus_bytes)]
    total = sum(chunks for _, chunks in runs)
    results = []

    async def source_runs(ctx):
        await stream_put(ctx, dut.runs, [{"size": s, "chunks": c} for s, c in runs])

    async def source_beats(ctx):
        await stream_put(ctx, dut.beats, beats, stall=beat_stall, seed=seed + 1)

    async def sink(ctx):
        results.extend(await stream_get(ctx, dut.chunks, total, stall=chunk_stall, seed=seed + 2))

    cycles = simulate(dut, sink, background=[source_runs, source_beats])
    expected = [
        (image[i : i + size], i + size == len(image))
        for image, (size, chunks) in zip(images, runs, strict=True)
        for i in range(0, len(image), size)
    ]
    sizes = [size for size, chunks in runs for _ in range(chunks)]
    got = [
        (int(result.data).to_bytes(chunk_sizes(config)[-1], "little")[:size], bool(result.last))
        for result, size in zip(results, sizes, strict=True)
    ]
    return got, expected, cycles


@pytest.mark.parametrize("bus_bits", [32, 64, 128])
@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("stalls", [(0.5, 0), (0, 0.5), (0.3, 0.3)])
def test_cuts_runs_of_every_size_back_to_back(lanes, bus_bits, stalls):
    config = AcceleratorConfig(lanes=lanes, bus_bits=bus_bits)
    runs = [(size, 4 + size % 3) for size in chunk_sizes(config)] + [(1, 1), (3, 1), (5, 2)]
    got, expected, _ = run_chunker(
        config, runs, beat_stall=stalls[0], chunk_stall=stalls[1], seed=lanes + bus_bits
    )
    assert got == expected


@pytest.mark.parametrize("bus_bits", [32, 64, 128])
@pytest.mark.parametrize("lanes", [8, 16])
def test_is_limited_by_the_bus_or_one_chunk_a_cycle(lanes, bus_bits):
    config = AcceleratorConfig(lanes=lanes, bus_bits=bus_bits)
    runs = [(size, 23) for size in chunk_sizes(config)]
    got, expected, cycles = run_chunker(config, runs)
    assert got == expected
    # One cycle to take a run, one from its last beat to the last chunk.
    assert cycles == sum(1 + run_cycles(*run, bus_bytes=config.bus_bytes) for run in runs)


def run_cycles(size: int, chunks: int, *, bus_bytes: int) -> int:
    """Cycles from the first beat to the last chunk, both included."""
    first_beats, beats = -(-size // bus_bytes), -(-size * chunks // bus_bytes)
    return max(beats + 1, chunks + first_beats)
