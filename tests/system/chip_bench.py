"""Drives the pins of the SDRAM model inside the simulator; test_sdram_model.py starts it."""

import json
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

CLOCK_NS = 10
PINS = {  # ras_n, cas_n, we_n
    "nop": 0b111,
    "activate": 0b011,
    "read": 0b101,
    "write": 0b100,
    "precharge": 0b010,
    "refresh": 0b001,
    "mode": 0b000,
}


@cocotb.test()
async def play(dut):
    """Play the steps of uses.json; leave the rules that each broke, and the words that came."""
    folder = Path(cocotb.plusargs["folder"])
    uses = json.loads((folder / "uses.json").read_text())
    Clock(dut.clk, CLOCK_NS, unit="ns").start(start_high=False)
    found = {}
    for name, steps in uses.items():
        dut.forget.value = 1
        await play_step(dut, "nop")
        dut.forget.value = 0
        words = [await play_step(dut, **step) for step in steps]
        found[name] = int(dut.broken.value), words
    (folder / "figures.json").write_text(json.dumps(found))


async def play_step(dut, command, *, clock_enable=1, bank=0, address=0, masks=0, data=None) -> int:
    """A cycle; returns what the chip has on its data pins at the end."""
    pins = PINS[command]
    dut.clock_enable.value = clock_enable
    dut.cs_n.value = 0
    dut.ras_n.value, dut.cas_n.value, dut.we_n.value = pins >> 2, pins >> 1 & 1, pins & 1
    dut.ba.value = bank
    dut.a.value = address
    dut.dqm.value = masks
    dut.dq_oe.value = int(data is not None)
    dut.dq_o.value = data or 0
    word = int(dut.dq_i.value)
    await FallingEdge(dut.clk)
    return word
