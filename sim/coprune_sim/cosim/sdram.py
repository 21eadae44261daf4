"""An SDRAM chip behind its controller, in Verilog, in place of the ideal memory of memory.v."""

from __future__ import annotations

import re

from amaranth.back import verilog
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, connect, flipped

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.gateware.interfaces import axi4_signature
from coprune_hw.system.bus_arbiter import BusArbiter
from coprune_hw.system.sdram import SdramController
from coprune_hw.system.sdram_timing import SdramChip

from .toolchain import SOURCES, Model, build_model

SDRAM_MODEL = SOURCES / "sdram_model.v"
"""The chip."""

_MEMORY = SOURCES / "sdram_memory.v"


class _SharedMemory(wiring.Component):
    """A controller behind the arbiter of a system on a board, whose host leaves it alone."""

    def __init__(self, config: AcceleratorConfig, controller: SdramController):
        self._config, self._controller = config, controller
        pins = controller.signature.members["pins"]
        super().__init__({"bus": In(axi4_signature(config)), "pins": pins})

    def elaborate(self, platform):
        m = Module()
        m.submodules.arbiter = arbiter = BusArbiter(self._config)
        m.submodules.controller = controller = self._controller
        connect(m, flipped(self.bus), arbiter.machine)
        connect(m, arbiter.bus, controller.bus)
        connect(m, controller.pins, flipped(self.pins))
        return m


def build_sdram(config: AcceleratorConfig, chip: SdramChip, clock_hz: float, **options) -> Model:
    """Build a simulation whose top module is that of `sdram_verilog`, which has the options.

    Raises
    ------
    ValueError
        See `SdramController`.
    RuntimeError
        The build failed; with the end of its log.
    """
    ports = re.findall(r"(\w+)[,\n]", _MEMORY.read_text(encoding="utf-8").partition(");\n")[0])
    public = "".join(f'public_flat_rw -module "memory" -var "{port}"\n' for port in ports)
    return build_model(
        [],
        top="memory",
        verilog=f"`verilator_config\n{public}`verilog\n"
        + sdram_verilog(config, chip, clock_hz, **options),
        parameters={"BUS_BITS": config.bus_bits},
    )


def sdram_verilog(
    config: AcceleratorConfig,
    chip: SdramChip,
    clock_hz: float,
    *,
    capture_delay: int = 0,
    shared: bool = False,
    controller_chip: SdramChip | None = None,
) -> str:
    """Verilog of a module `memory` with the ports of that in memory.v.

    Parameters
    ----------
    config : AcceleratorConfig
    chip : SdramChip
        What is simulated, and checks how it is used.
    clock_hz : float
    capture_delay : int
        Cycles that the data pins of the chip take to the controller.
    shared : bool
        Put the controller behind the arbiter of a board's system: gives the cycles there.
    controller_chip : SdramChip, optional
        What the controller takes the chip for, where it is wrong on purpose.

    Raises
    ------
    ValueError
        See `SdramController`.
    """
    controller = SdramController(
        config, controller_chip or chip, clock_hz, capture_delay=capture_delay
    )
    converted = verilog.convert(
        _SharedMemory(config, controller) if shared else controller,
        name="sdram_controller",
        emit_src=False,
        strip_internal_attrs=True,
    )
    defines = (
        f"`define SDRAM_DATA_BITS {chip.data_bits}\n"
        f"`define SDRAM_ADDRESS_BITS {chip.address_bits}\n"
    )
    memory, model = (path.read_text(encoding="utf-8") for path in (_MEMORY, SDRAM_MODEL))
    return "\n".join(
        [defines, memory, model, _chip_verilog(chip, clock_hz, capture_delay), converted]
    )


def _chip_verilog(chip: SdramChip, clock_hz: float, delay: int) -> str:
    """A module `sdram_chip`: the model with the figures of a data sheet."""
    clocks = dict(chip.clock_ns)
    never_ns = 1e6
    times_ns = {
        "CLOCK": 1e9 / clock_hz,
        "CLOCK_CL2": clocks.get(2, never_ns),
        "CLOCK_CL3": clocks.get(3, never_ns),
        "RCD": chip.row_to_column_ns,
        "RP": chip.precharge_ns,
        "RAS": chip.row_active_ns,
        "RC": chip.row_cycle_ns,
        "RRD": chip.row_to_row_ns,
        "RFC": chip.refresh_ns,
        "WR": chip.write_recovery_ns,
        "REFRESH": chip.refresh_interval_ns,
        "POWER_UP": 1e3 * chip.power_up_us,
    }
    parameters = {
        "DATA_BITS": chip.data_bits,
        "BANK_BITS": chip.bank_bits,
        "ROW_BITS": chip.row_bits,
        "COLUMN_BITS": chip.column_bits,
        "ADDRESS_BITS": chip.address_bits,
        **{f"{name}_PS": round(1e3 * time) for name, time in times_ns.items()},
    }
    inputs = ("clk", "clock_enable", "cs_n", "ras_n", "cas_n", "we_n", "ba", "a", "dqm", "dq_o")
    values = ", ".join(f".{name}({value})" for name, value in parameters.items())
    pins = ", ".join(f".{name}({name})" for name in (*inputs, "dq_oe", "broken"))
    top = chip.data_bits - 1
    delayed = "".join(f"  reg [{top}:0] delay_{n};\n" for n in range(1, delay + 1))
    delayed += "".join(
        f"  always @(posedge clk) delay_{n} <= delay_{n - 1};\n" for n in range(1, delay + 1)
    )
    return f"""
module sdram_chip(
  input clk, clock_enable, cs_n, ras_n, cas_n, we_n, input [{chip.bank_bits - 1}:0] ba,
  input [{chip.address_bits - 1}:0] a, input [{chip.data_bits // 8 - 1}:0] dqm,
  input [{top}:0] dq_o, input dq_oe, output [{top}:0] dq_i, output [31:0] broken
);
  wire [{top}:0] delay_0;
{delayed}  assign dq_i = delay_{delay};
  sdram_model #({values}) model({pins}, .dq_i(delay_0), .forget(1'b0));
endmodule
"""
