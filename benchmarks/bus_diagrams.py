"""Draws docs/bus_*.svg: what the RTL does on its buses, cycle by cycle, with WaveDrom.

Registers are those of `RegisterFile` in Amaranth's simulator. What goes to memory is of a
convolution on Verilator. Nothing in the pictures is drawn by hand.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pywellen
import torch
import wavedrom
from amaranth.hdl import Value
from amaranth.sim import Simulator
from torch import nn

import coprune
from coprune import atomic_file
from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.registers import address_of
from coprune_hw.gateware.registers import RegisterFile
from coprune_sim.cosim.waveform import CYCLE_NS, Trace

DOCS = Path(__file__).parents[1] / "docs"
CONFIG = replace(AcceleratorConfig.preset("8x8"), burst_beats=4)
LATENCY_CYCLES = 3
WRITTEN_VALUE = 0x1000
HORIZONTAL_SCALE = 2
DATA_MASK = 0xFFFF
"""Of a beat, what has room in the picture."""


@dataclass(frozen=True)
class Lane:
    """A row of a diagram: a signal's value in every cycle.

    Parameters
    ----------
    name : str
    values : sequence of int
    valid : sequence of int, optional
        In which cycles the values mean something; without it they are drawn as a level of one bit.
    digits : int
        Hexadecimal, of a value.
    """

    name: str
    values: Sequence[int]
    valid: Sequence[int] | None = None
    digits: int = 2

    def to_wavedrom(self) -> dict:
        """As WaveJSON has it."""
        if self.valid is None:
            states = [(str(value), None) for value in self.values]
        else:
            states = [
                ("=", f"{value:0{self.digits}x}") if valid else ("x", None)
                for value, valid in zip(self.values, self.valid, strict=True)
            ]
        wave, labels = "", []
        for cycle, (symbol, label) in enumerate(states):
            if cycle and states[cycle - 1] == (symbol, label):
                wave += "."
                continue
            wave += symbol
            if label is not None:
                labels.append(label)
        return {"name": self.name, "wave": wave, "data": labels}


def main() -> None:
    """Simulate, and write the pictures."""
    for name, access in (("register_write", write_register), ("register_read", read_register)):
        draw(f"bus_{name}", simulate_registers(access))
    pins = trace_memory()
    first = {name: pins[f"m_axi_{name}valid"].index(1) for name in ("ar", "aw")}
    end = {
        "ar": pins["m_axi_rlast"].index(1, first["ar"]),
        "aw": pins["m_axi_bvalid"].index(1, first["aw"]),
    }
    for name, channel, groups in (
        ("memory_read", "ar", read_groups(pins)),
        ("memory_write", "aw", write_groups(pins)),
    ):
        window = slice(first[channel] - 1, end[channel] + 2)
        draw(
            f"bus_{name}",
            [
                [
                    Lane(
                        lane.name,
                        lane.values[window],
                        None if lane.valid is None else lane.valid[window],
                        lane.digits,
                    )
                    for lane in group
                ]
                for group in groups
            ],
        )


def draw(name: str, groups: Sequence[Sequence[Lane]]) -> None:
    """Write a diagram, the groups with space between them."""
    cycles = len(groups[0][0].values)
    signals: list = [{"name": "clk", "wave": "p" + "." * (cycles - 1)}]
    for group in groups:
        signals += [{}, *(lane.to_wavedrom() for lane in group)]
    picture = wavedrom.render(
        str({"signal": signals, "config": {"hscale": HORIZONTAL_SCALE}}).replace("'", '"')
    )
    atomic_file.write(DOCS / f"{name}.svg", picture.tostring() + "\n")


async def write_register(ctx, bus) -> None:
    """Address and data together."""
    ctx.set(bus.write_address.payload.address, address_of("program_address"))
    ctx.set(bus.write_data.payload, {"data": WRITTEN_VALUE, "strobe": 0xF})
    ctx.set(bus.write_response.ready, 1)
    waiting = {"write_address", "write_data"}
    for name in waiting:
        ctx.set(getattr(bus, name).valid, 1)
    while waiting:
        accepted = {name for name in waiting if ctx.get(getattr(bus, name).ready)}
        await ctx.tick()
        for name in accepted:
            ctx.set(getattr(bus, name).valid, 0)
        waiting -= accepted


async def read_register(ctx, bus) -> None:
    """The version of the contract."""
    ctx.set(bus.read_address.payload.address, address_of("version"))
    ctx.set(bus.read_data.ready, 1)
    ctx.set(bus.read_address.valid, 1)
    while not ctx.get(bus.read_address.ready):
        await ctx.tick()
    await ctx.tick()
    ctx.set(bus.read_address.valid, 0)


def simulate_registers(access) -> list[list[Lane]]:
    """The channels that `access` uses, from a cycle before it until nothing moves any more."""
    dut = RegisterFile(CONFIG)
    bus = dut.bus
    channels = {
        write_register: (
            ("s_axi_aw", bus.write_address, "addr", bus.write_address.payload.address, 2),
            ("s_axi_w", bus.write_data, "data", bus.write_data.payload.data, 8),
            ("s_axi_b", bus.write_response, "resp", bus.write_response.payload.response, 1),
        ),
        read_register: (
            ("s_axi_ar", bus.read_address, "addr", bus.read_address.payload.address, 2),
            ("s_axi_r", bus.read_data, "data", bus.read_data.payload.data, 8),
        ),
    }[access]
    recorded: dict[str, list[int]] = {}

    async def drive(ctx):
        await ctx.tick()
        await access(ctx, bus)

    async def record(ctx):
        for _ in range(7):
            # Just before the edge, when everything of the cycle has settled.
            values = {}
            async for _, _, *sampled in ctx.tick().sample(*flat):
                values = dict(zip(names, sampled, strict=True))
                break
            for name, value in values.items():
                recorded.setdefault(name, []).append(int(value))

    signals = {
        f"{prefix}{part}": Value.cast(value)
        for prefix, stream, payload_name, payload, _ in channels
        for part, value in (
            ("valid", stream.valid),
            ("ready", stream.ready),
            (payload_name, payload),
        )
    }
    names, flat = list(signals), list(signals.values())
    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(drive)
    simulator.add_testbench(record, background=True)
    simulator.run_until(8e-9)
    return [
        [
            Lane(f"{prefix}valid", recorded[f"{prefix}valid"]),
            Lane(f"{prefix}ready", recorded[f"{prefix}ready"]),
            Lane(
                f"{prefix}{payload_name}",
                recorded[f"{prefix}{payload_name}"],
                recorded[f"{prefix}valid"],
                digits,
            ),
        ]
        for prefix, _, payload_name, _, digits in channels
    ]


def trace_memory() -> dict[str, list[int]]:
    """Values of the accelerator's pins in every cycle of a whole image."""
    torch.manual_seed(0)
    images = torch.randn(8, 8, 4, 4)
    model = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU()).eval()
    program = coprune.compile(model, CONFIG, calibration=[images])
    result = program.cosim(images[:1], latency_cycles=LATENCY_CYCLES, trace=Trace())
    assert result.equal, "the RTL does not give the integer reference's result"
    with TemporaryDirectory() as folder:
        path = Path(folder) / "trace.fst"
        path.write_bytes(result.waveform)
        cycles = result.total.cycles
        return {
            variable.name: sample_cycles(variable, cycles)
            for variable in pywellen.Waveform(os.fspath(path)).all_vars()
            if variable.name.startswith("m_axi_")
        }


def sample_cycles(variable, cycles: int) -> list[int]:
    """A value for each cycle."""
    values, changes = [], [(time, int(value)) for time, value in variable.tv]
    for (time, value), (next_time, _) in zip(
        changes, [*changes[1:], (cycles * CYCLE_NS, 0)], strict=True
    ):
        values += [value] * (next_time // CYCLE_NS - time // CYCLE_NS)
    return values


def data_lane(pins: dict[str, list[int]], channel: str) -> Lane:
    """The lowest bits of a channel's data."""
    values = [value & DATA_MASK for value in pins[f"m_axi_{channel}data"]]
    return Lane(f"m_axi_{channel}data", values, pins[f"m_axi_{channel}valid"], 4)


def read_groups(pins: dict[str, list[int]]) -> list[list[Lane]]:
    """Address and data of a read."""
    return [
        [
            *(Lane(f"m_axi_ar{part}", pins[f"m_axi_ar{part}"]) for part in ("valid", "ready")),
            Lane("m_axi_araddr", pins["m_axi_araddr"], pins["m_axi_arvalid"], 5),
            Lane("m_axi_arlen", pins["m_axi_arlen"], pins["m_axi_arvalid"]),
        ],
        [
            *(Lane(f"m_axi_r{part}", pins[f"m_axi_r{part}"]) for part in ("valid", "ready")),
            data_lane(pins, "r"),
            Lane("m_axi_rlast", pins["m_axi_rlast"]),
        ],
    ]


def write_groups(pins: dict[str, list[int]]) -> list[list[Lane]]:
    """Address, data and response of a write."""
    return [
        [
            *(Lane(f"m_axi_aw{part}", pins[f"m_axi_aw{part}"]) for part in ("valid", "ready")),
            Lane("m_axi_awaddr", pins["m_axi_awaddr"], pins["m_axi_awvalid"], 5),
            Lane("m_axi_awlen", pins["m_axi_awlen"], pins["m_axi_awvalid"]),
        ],
        [
            *(Lane(f"m_axi_w{part}", pins[f"m_axi_w{part}"]) for part in ("valid", "ready")),
            data_lane(pins, "w"),
            Lane("m_axi_wstrb", pins["m_axi_wstrb"], pins["m_axi_wvalid"]),
            Lane("m_axi_wlast", pins["m_axi_wlast"]),
        ],
        [Lane(f"m_axi_b{part}", pins[f"m_axi_b{part}"]) for part in ("valid", "ready")],
    ]


if __name__ == "__main__":
    main()
