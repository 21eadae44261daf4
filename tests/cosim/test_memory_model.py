"""The memory model of the co-simulation against cocotbext-axi, and how the runner reports failures.

The functions under `cocotb.test` run inside the simulator, the others under pytest.
"""

import random
import re
from pathlib import Path

import cocotb
import numpy as np
import pytest
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiBus, AxiMaster, AxiResp

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.program import MachineProgram, Region
from coprune_hw.contract.registers import address_of
from coprune_sim.cosim import runner
from coprune_sim.cosim.toolchain import SOURCES, build_model

MEMORY_BYTES = 1 << 16
BUS_BYTES = 8
CLOCK_NS = 10
SETTINGS = (
    "latency",
    "write_latency",
    "stall_level",
    "stall_seed",
    "error_enable",
    "error_address",
)


async def start(dut, **settings) -> None:
    """Reset the memory with all settings 0 but those that are given."""
    for name in (*SETTINGS, "load", "dump"):
        getattr(dut, name).value = settings.get(name, 0)
    dut.rst.value = 1
    Clock(dut.clk, CLOCK_NS, unit="ns").start()
    await ClockCycles(dut.clk, 3)
    await FallingEdge(dut.clk)
    dut.rst.value = 0
    await ClockCycles(dut.clk, 2)


def connect_master(dut) -> AxiMaster:
    return AxiMaster(AxiBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst)


async def check_random_bursts(dut, **settings) -> None:
    """Writes of every size and alignment change the bytes they name and no others."""
    source = random.Random(1)
    master = connect_master(dut)
    await start(dut, **settings)
    expected = bytearray(source.randbytes(4096))
    await master.write(0, bytes(expected))
    for number in range(40):
        length = source.choice([1, 3, 8, 64, 200])
        address = source.randrange(len(expected) - length)
        content = source.randbytes(length)
        await master.write(address, content)
        expected[address : address + length] = content
        address = source.randrange(len(expected) - length)
        data = (await master.read(address, length)).data
        assert data == expected[address : address + length], f"read {number} at {address}"
    whole = (await master.read(0, len(expected))).data
    wrong = [at for at in range(len(expected)) if whole[at] != expected[at]]
    assert not wrong, f"byte {wrong[0]} is {whole[wrong[0]]}, must be {expected[wrong[0]]}"
    assert dut.violation.value == 0


@cocotb.test()
async def serves_bursts_at_latency_0(dut):
    await check_random_bursts(dut)


@cocotb.test()
async def serves_bursts_at_latency_1(dut):
    await check_random_bursts(dut, latency=1, write_latency=1)


@cocotb.test()
async def serves_bursts_at_latency_20_with_stalls(dut):
    await check_random_bursts(dut, latency=20, write_latency=20, stall_level=128, stall_seed=5)


async def read_beats(dut, *, bursts: int, beats: int) -> tuple[list[int], list[int]]:
    """Ask for bursts back to back; returns the cycles of the addresses and of the beats."""
    dut.s_axi_rready.value = 1
    dut.s_axi_araddr.value = 0
    dut.s_axi_arlen.value = beats - 1
    dut.s_axi_arsize.value = 3
    dut.s_axi_arburst.value = 1
    dut.s_axi_arvalid.value = 1
    addresses, data = [], []
    while len(data) < bursts * beats:
        await FallingEdge(dut.clk)
        cycle = get_sim_time("ns") // CLOCK_NS
        if dut.s_axi_rvalid.value:
            data.append(cycle)
        if len(addresses) == bursts:
            dut.s_axi_arvalid.value = 0
        elif dut.s_axi_arready.value:
            addresses.append(cycle)
    return addresses, data


@cocotb.test()
async def answers_after_the_latency_and_back_to_back(dut):
    for latency in (0, 1, 2, 20):
        await start(dut, latency=latency)
        addresses, data = await read_beats(dut, bursts=3, beats=4)
        first = addresses[0] + max(1, latency)
        assert addresses == [addresses[0] + index for index in range(3)]
        assert data == [first + index for index in range(12)], f"latency {latency}"


@cocotb.test()
async def answers_errors_where_told(dut):
    master = connect_master(dut)
    await start(dut, latency=3, error_enable=1, error_address=1000)
    await master.write(960, bytes(range(32)))
    assert (await master.read(960, 32)).resp == AxiResp.OKAY
    assert (await master.read(960, 48)).resp == AxiResp.SLVERR
    assert (await master.write(992, bytes(64))).resp == AxiResp.SLVERR
    assert (await master.write(1008, bytes(64))).resp == AxiResp.OKAY
    assert (await master.read(MEMORY_BYTES - 8, 8)).resp == AxiResp.OKAY
    assert (await master.read(MEMORY_BYTES, 8)).resp == AxiResp.DECERR
    assert (await master.write(MEMORY_BYTES, bytes(8))).resp == AxiResp.DECERR


@cocotb.test()
async def moves_files(dut):
    folder = Path(cocotb.plusargs["folder"])
    master = connect_master(dut)
    await start(dut)
    await master.write(0, bytes(1000))
    (folder / "load_7.bin").write_bytes(bytes(range(256)))
    for command in (dut.load, dut.dump):
        dut.transfer_index.value = 7
        dut.transfer_address.value = 100 if command is dut.load else 98
        dut.transfer_bytes.value = 256 if command is dut.load else 260
        await FallingEdge(dut.clk)
        command.value = 1
        await FallingEdge(dut.clk)
        command.value = 0
    await RisingEdge(dut.clk)
    assert (folder / "dump_7.bin").read_bytes() == bytes(2) + bytes(range(256)) + bytes(2)


@cocotb.test()
async def notices_an_address_that_is_withdrawn(dut):
    await start(dut, stall_level=255)
    dut.s_axi_arburst.value = 1
    dut.s_axi_arsize.value = 3
    dut.s_axi_arvalid.value = 1
    while True:
        await FallingEdge(dut.clk)
        if not dut.s_axi_arready.value:
            break
    await FallingEdge(dut.clk)
    dut.s_axi_arvalid.value = 0
    await ClockCycles(dut.clk, 3)
    assert dut.violation.value == 1


def test_memory_behaves_in_every_simulated_case(tmp_path, monkeypatch):
    control = tmp_path / "memory.vlt"
    ports = re.findall(r"(\w+)[,\n]", (SOURCES / "memory.v").read_text().partition(");\n")[0])
    public = [f'public_flat_rw -module "memory" -var "{port}"' for port in ports]
    control.write_text("\n".join(["`verilator_config", *public, ""]))
    parameters = {"BUS_BITS": 8 * BUS_BYTES, "MEMORY_BYTES": MEMORY_BYTES}
    model = build_model([control, SOURCES / "memory.v"], top="memory", parameters=parameters)
    monkeypatch.syspath_prepend(Path(__file__).parent)
    model.run_cocotb("test_memory_model", folder=tmp_path, timeout_seconds=300)
    assert (tmp_path / "results.xml").read_text().count("<testcase") == 7


def stub_program(image_bytes: int) -> tuple[MachineProgram, np.ndarray]:
    """A program that only the stub accelerator runs."""
    region = Region("pixels", 1, 1, 1, 0, 1, 1)
    program = MachineProgram(AcceleratorConfig(), bytes(image_bytes), region, region, ())
    return program, np.zeros((1, 1, 1), np.int8)


def stub_verilog() -> str:
    registers = {"PROGRAM_BYTES": "program_bytes", "CONTROL": "control"}
    defines = [f"`define {name} {address_of(register)}" for name, register in registers.items()]
    source = Path(__file__).with_name("stub_accelerator.v").read_text()
    return "\n".join([*defines, source])


def test_reports_a_machine_that_hangs():
    program, tensor = stub_program(4096)
    with pytest.raises(RuntimeError, match="no interrupt within 300 cycles; state IDLE"):
        runner.run(program, [tensor], timeout_cycles=300, verilog=stub_verilog())


def test_reports_a_machine_that_breaks_a_rule_of_the_bus():
    program, tensor = stub_program(8192)
    with pytest.raises(RuntimeError, match="a read burst crosses a 4 KiB boundary"):
        runner.run(program, [tensor], verilog=stub_verilog())


def test_shows_the_log_of_a_build_that_fails():
    program, tensor = stub_program(4096)
    with pytest.raises(RuntimeError, match=r"(?s)the build of bench failed.*syntax error"):
        runner.run(program, [tensor], verilog="module coprune_accelerator")


def test_refuses_a_run_without_images():
    program, _ = stub_program(4096)
    with pytest.raises(ValueError, match="at least one image"):
        runner.run(program, [])
