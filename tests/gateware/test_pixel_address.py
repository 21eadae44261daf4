"""Pixel addresses and raster walks against `contract.planes.locate`."""

import numpy as np
import pytest

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.instructions import PLANE_BITS
from coprune_hw.contract.planes import locate
from coprune_hw.gateware.pixel_address import PixelAddress
from coprune_hw.gateware.raster_walk import RasterWalk

from .streams import simulate, stream_get, stream_put


def random_place(generator, config, *, small: bool) -> dict:
    limit = 20 if small else 1 << 16
    return {
        "base": int(generator.integers(0, limit)),
        "plane_words": int(generator.integers(0, min(limit, 1 << PLANE_BITS))),
        "pitch": int(generator.integers(0, 8 if small else 1024)),
        "log2_stride": int(generator.integers(0, 3)),
        "log2_bank_columns": int(generator.integers(0, config.log2_columns + 1)),
    }


@pytest.mark.parametrize("columns", [2, 4, 8, 16])
def test_locates_a_pixel_every_cycle_with_its_latency(columns):
    config = AcceleratorConfig(columns=columns)
    generator = np.random.default_rng(columns)
    dut = PixelAddress(config)
    pixels = [
        {
            "y": int(generator.integers(0, 2048)),
            "x": int(generator.integers(0, 2048)),
            "place": random_place(generator, config, small=False),
        }
        for _ in range(300)
    ]

    async def bench(ctx):
        for cycle in range(len(pixels) + PixelAddress.LATENCY):
            valid = cycle < len(pixels)
            ctx.set(dut.pixels.valid, valid)
            if valid:
                ctx.set(dut.pixels.payload, pixels[cycle])
            await ctx.tick()
            done = cycle + 1 - PixelAddress.LATENCY
            assert ctx.get(dut.located.valid) == (0 <= done < len(pixels))
            if 0 <= done < len(pixels):
                pixel, located = pixels[done], ctx.get(dut.located.payload)
                expected = locate(pixel["place"], pixel["y"], pixel["x"], columns=columns)
                assert (located.bank, located.address) == expected, pixel

    simulate(dut, bench)


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_walks_windows_in_raster_order(stall):
    config = AcceleratorConfig(columns=8, activation_depth=64)
    generator = np.random.default_rng(3)
    windows = []
    for _ in range(12):
        row_begin, rows, width = (int(v) for v in generator.integers((0, 1, 1), (20, 7, 9)))
        window = {"row_begin": row_begin, "rows": rows, "width": width}
        windows.append({"place": random_place(generator, config, small=True), "window": window})
    expected = []
    for window in windows:
        size = window["window"]
        y, x = np.indices((size["rows"], size["width"])).reshape(2, -1)
        bank, address = locate(window["place"], y + size["row_begin"], x, columns=8)
        expected += zip(bank, address, address < 64, strict=True)
    assert any(in_range for *_, in_range in expected)
    assert not all(in_range for *_, in_range in expected)
    dut = RasterWalk(config)

    async def source(ctx):
        await stream_put(ctx, dut.windows, windows)

    async def sink(ctx):
        got = await stream_get(ctx, dut.locations, len(expected), stall=stall, seed=1)
        for index, (result, (bank, address, in_range)) in enumerate(
            zip(got, expected, strict=True)
        ):
            assert (result.bank, result.in_range) == (bank, in_range), index
            assert result.address == address % 4096, index

    cycles = simulate(dut, sink, background=[source])
    if not stall:
        # One cycle between windows, the latency to the first location, one to take the last.
        assert cycles == len(expected) + len(windows) - 1 + RasterWalk.LATENCY
