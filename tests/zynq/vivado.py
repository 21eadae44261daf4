"""As much of Vivado's Tcl as ``build.tcl`` needs: it records the block design and refuses errors.

What the cells of AMD have for pins is written down here from their product guides.
"""

import tkinter
from dataclasses import dataclass, field
from pathlib import Path

from .component import Component

RESET_PINS = {
    "slowest_sync_clk": "in",
    "ext_reset_in": "in",
    "mb_reset": "out",
    "bus_struct_reset": "out",
    "peripheral_reset": "out",
    "interconnect_aresetn": "out",
    "peripheral_aresetn": "out",
}
SYSTEM_PINS = {"FCLK_CLK0": "out", "FCLK_RESET0_N": "out"}
SYSTEM_OPTIONS = {
    "PCW_USE_M_AXI_GP0": ({"M_AXI_GP0_ACLK": "in"}, {"M_AXI_GP0": "master"}),
    "PCW_USE_S_AXI_HP0": ({"S_AXI_HP0_ACLK": "in"}, {"S_AXI_HP0": "slave"}),
    "PCW_USE_FABRIC_INTERRUPT": ({"IRQ_F2P": "in"}, {}),
}
SYSTEM_VALUES = {
    "PCW_FPGA0_PERIPHERAL_FREQMHZ",
    "PCW_S_AXI_HP0_DATA_WIDTH",
    "PCW_IRQ_F2P_INTR",
}
SWITCH_PINS = {"aclk": "in", "aresetn": "in"}
SWITCH_BUSES = {"S00_AXI": "slave", "M00_AXI": "master"}


@dataclass
class Cell:
    """A cell: directions of its pins, modes of its buses, and what was set."""

    vlnv: str
    pins: dict[str, str] = field(default_factory=dict)
    buses: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)


class Vivado:
    """Runs a script; what it made is in the attributes.

    Attributes
    ----------
    cells : dict
        By name.
    drivers : dict
        ``cell/pin`` that drives an input.
    buses : dict
        ``cell/bus`` of the master at a slave.
    segments : dict
        Offset and range of a segment as an address space sees it.
    exported : list
        The interfaces of the processing system that became pins.
    """

    def __init__(self, *, boards, slack="1.5", status="100%", handoff="coprune.gen"):
        self._boards, self._slack, self._status = boards, slack, status
        self._handoff = handoff
        self.cells, self.drivers, self.buses, self.segments = {}, {}, {}, {}
        self.exported, self.properties, self.runs = [], {}, []
        self._cores = {}
        self._is_valid = False
        self._error = None
        self._tcl = tkinter.Tcl()
        for name in dir(self):
            if name.startswith("do_"):
                self._define(name.removeprefix("do_"), getattr(self, name))

    def source(self, script):
        try:
            self._tcl.eval(f"source {{{script}}}")
        except tkinter.TclError:
            if self._error is not None:
                raise self._error from None
            raise

    def _define(self, name, function):
        def call(*arguments):
            try:
                return function(*arguments) or ""
            except Exception as error:
                self._error = error
                raise

        self._tcl.createcommand(name, call)

    def _split(self, text):
        return self._tcl.splitlist(text)

    def do_get_board_parts(self, *arguments):
        quiet, pattern = arguments
        assert quiet == "-quiet"
        assert pattern.endswith(":*")
        return " ".join(name for name in self._boards if name.startswith(pattern[:-1]))

    def do_create_project(self, name, folder, *options):
        assert options == ("-part", "xc7z020clg400-1", "-force")
        self._folder = Path(folder)
        self._name = name

    def do_current_project(self):
        return "project"

    def do_current_fileset(self):
        return "sources_1"

    def do_set_property(self, *arguments):
        if arguments[0] != "-dict":
            name, value, target = arguments
            self.properties[target, name] = value
            return
        _, pairs, name = arguments
        pairs = self._split(pairs)
        cell = self.cells[name]
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            key = key.removeprefix("CONFIG.")
            cell.settings[key] = value
            if "processing_system7" in cell.vlnv and key in SYSTEM_OPTIONS:
                pins, buses = SYSTEM_OPTIONS[key]
                cell.pins.update(pins)
                cell.buses.update(buses)
            elif "processing_system7" in cell.vlnv:
                assert key in SYSTEM_VALUES
            else:
                assert (key, value) in (("NUM_SI", "1"), ("NUM_MI", "1"))

    def do_update_ip_catalog(self):
        folder = Path(self.properties["project", "ip_repo_paths"])
        for path in folder.glob("*/component.xml"):
            component = Component(path.read_text())
            self._cores[component.vlnv] = component

    def do_create_bd_design(self, name):
        self.design = name

    def do_create_bd_cell(self, *arguments):
        kind, ip, option, vlnv, name = arguments
        assert (kind, ip, option) == ("-type", "ip", "-vlnv")
        assert name not in self.cells
        cell = self.cells[name] = Cell(vlnv)
        if vlnv in self._cores:
            core = self._cores[vlnv]
            for interface, found in core.interfaces.items():
                if found.kind == "aximm":
                    cell.buses[interface] = found.mode
            within = {
                pin
                for found in core.interfaces.values()
                if found.kind == "aximm"
                for pin in found.pins.values()
            }
            cell.pins = {
                name: direction for name, (direction, _) in core.ports.items() if name not in within
            }
        elif vlnv == "xilinx.com:ip:processing_system7:5.5":
            cell.pins = dict(SYSTEM_PINS)
        elif vlnv == "xilinx.com:ip:proc_sys_reset:5.0":
            cell.pins = dict(RESET_PINS)
        elif vlnv == "xilinx.com:ip:smartconnect:1.0":
            cell.pins, cell.buses = dict(SWITCH_PINS), dict(SWITCH_BUSES)
        else:
            raise KeyError(f"the catalogue has no {vlnv}")
        return name

    def do_apply_bd_automation(self, *arguments):
        _, rule, _, settings, cell = arguments
        assert rule == "xilinx.com:bd_rule:processing_system7"
        assert "processing_system7" in self.cells[cell].vlnv
        items = self._split(settings)
        chosen = dict(zip(items[::2], items[1::2], strict=True))
        assert chosen.pop("apply_board_preset") == "1"
        assert ("project", "board_part") in self.properties
        self.exported = chosen.pop("make_external").split(", ")
        assert chosen == {"Master": "Disable", "Slave": "Disable"}

    def do_get_bd_pins(self, path):
        cell, pin = path.split("/")
        return path if self.cells[cell].pins[pin] else None

    def do_get_bd_intf_pins(self, path):
        cell, bus = path.split("/")
        return path if self.cells[cell].buses[bus] else None

    def do_connect_bd_net(self, source, target):
        assert self._direction(source) == "out", source
        assert self._direction(target) == "in", target
        assert target not in self.drivers, target
        self.drivers[target] = source

    def do_connect_bd_intf_net(self, master, slave):
        assert self._mode(master) == "master", master
        assert self._mode(slave) == "slave", slave
        assert master not in self.buses.values(), master
        assert slave not in self.buses, slave
        self.buses[slave] = master

    def do_get_bd_addr_spaces(self, path):
        assert path in ("system/Data", "accelerator/m_axi")
        return path

    def do_get_bd_addr_segs(self, path):
        cell, bus, segment = path.split("/")
        assert self._mode(f"{cell}/{bus}") == "slave"
        if self.cells[cell].vlnv in self._cores:
            core = self._cores[self.cells[cell].vlnv]
            blocks = core.find("memoryMaps/memoryMap/addressBlock")
            assert segment in {core.text(block, "name") for block in blocks}
        else:
            assert path == "system/S_AXI_HP0/HP0_DDR_LOWOCM"
        return path

    def do_assign_bd_address(self, *arguments):
        *options, segment = arguments
        values = dict(zip(options[::2], options[1::2], strict=True))
        offset, size = int(values.pop("-offset"), 16), int(values.pop("-range"), 16)
        assert size & (size - 1) == 0
        assert offset % size == 0
        self.segments[values.pop("-target_address_space"), segment] = (offset, size)
        assert not values

    def do_validate_bd_design(self):
        for name, cell in self.cells.items():
            for pin, direction in cell.pins.items():
                assert direction == "out" or f"{name}/{pin}" in self.drivers, f"{name}/{pin}"
            for bus, mode in cell.buses.items():
                ends = self.buses if mode == "slave" else self.buses.values()
                assert f"{name}/{bus}" in ends, f"{name}/{bus}"
        self._is_valid = True

    def do_save_bd_design(self):
        assert self._is_valid

    def do_get_files(self, name):
        assert name == f"{self.design}.bd"
        return name

    def do_generate_target(self, what, design):
        assert (what, design) == ("all", f"{self.design}.bd")

    def do_make_wrapper(self, *arguments):
        assert arguments == ("-files", f"{self.design}.bd", "-top")
        return f"{self.design}_wrapper.v"

    def do_add_files(self, option, path):
        assert (option, path) == ("-norecurse", f"{self.design}_wrapper.v")

    def do_update_compile_order(self, *arguments):
        assert arguments == ("-fileset", "sources_1")

    def do_launch_runs(self, run, *options):
        assert self._is_valid
        self.runs.append((run, *options))
        bitstream = self._folder / f"{self._name}.runs" / run / f"{self.design}_wrapper.bit"
        handoff = self._folder / self._handoff / "sources_1" / "bd" / self.design / "hw_handoff"
        for path in (bitstream, handoff / f"{self.design}.hwh"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(path.suffix)

    def do_wait_on_run(self, run):
        assert run == self.runs[-1][0]

    def do_get_runs(self, run):
        assert run in [launched for launched, *_ in self.runs]
        return run

    def do_get_property(self, name, run):
        return {"PROGRESS": self._status, "STATUS": "ended", "STATS.WNS": self._slack}[name]

    def do_open_run(self, run):
        assert run == self.runs[-1][0]

    def do_report_utilization(self, *options):
        assert options[:2] == ("-hierarchical", "-file")

    def do_report_timing_summary(self, *options):
        assert options[0] == "-file"

    def _direction(self, path):
        cell, pin = path.split("/")
        return self.cells[cell].pins[pin]

    def _mode(self, path):
        cell, bus = path.split("/")
        return self.cells[cell].buses[bus]
