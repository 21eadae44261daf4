"""The accelerator as an IP core: described in IP-XACT (IEEE 1685-2009), as Vivado reads it."""

from __future__ import annotations

from xml.etree import ElementTree

from amaranth.lib import data

from coprune_hw.contract import CONTRACT_VERSION, AcceleratorConfig
from coprune_hw.contract.reference_pages import describe_register
from coprune_hw.contract.registers import REGISTERS, address_of
from coprune_hw.gateware.accelerator import TOP_NAME, list_ports

VENDOR, LIBRARY = "coprune", "ip"
IP_NAME = f"{VENDOR}:{LIBRARY}:{TOP_NAME}"
"""As Vivado names it, without the version."""
VERILOG_FILE = f"src/{TOP_NAME}.v"
PANEL_FILE = f"xgui/{TOP_NAME}.tcl"
REGION_BYTES = 4096
"""Of the registers: a page, the least that a host maps."""

_SPIRIT = "http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009"
_XILINX = "http://www.xilinx.com"
_FAMILIES = ("zynq", "artix7")
_ADDRESS_SPACE_BYTES = 1 << 32
_ACCESS = {"R": "read-only", "W": "write-only", "R/W": "read-write"}
_SYNTHESIS, _SIMULATION, _PANEL = "synthesis", "simulation", "panel"
"""File sets, and the views that use them."""


def version() -> str:
    """Of the IP core: integrators depend on the contract."""
    return f"{CONTRACT_VERSION}.0"


def customization_panel() -> str:
    """Tcl of Vivado's dialogue: there is nothing to choose, the geometry is in the Verilog."""
    return 'proc init_gui { IPINST } {\n    ipgui::add_param $IPINST -name "Component_Name"\n}\n'


def component_description(config: AcceleratorConfig) -> str:
    """``component.xml``: bus interfaces, registers, ports and files of the accelerator.

    The pins `observe_*` are ports without an interface, and stay unconnected.
    """
    for prefix, namespace in (("spirit", _SPIRIT), ("xilinx", _XILINX)):
        ElementTree.register_namespace(prefix, namespace)
    component = ElementTree.Element(_name("component"))
    _texts(component, vendor=VENDOR, library=LIBRARY, name=TOP_NAME, version=version())
    ports = list_ports(config)
    interfaces = _add(component, "busInterfaces")
    _add_master(interfaces, config, ports)
    _add_slave(interfaces, ports)
    _add_signals(interfaces)
    _add_address_space(component, config)
    _add_memory_map(component)
    _add_model(component, ports)
    _add_file_sets(component)
    description = (
        f"Sparse INT8 accelerator, {config.lanes} lanes by {config.columns} columns, "
        f"geometry hash {config.geometry_hash:#010x}"
    )
    _texts(component, description=description)
    _add_parameters(
        component, {"Component_Name": TOP_NAME}, prefix="PARAM_VALUE", resolve="user", order="1"
    )
    _add_vendor_extensions(component)
    ElementTree.indent(component)
    text = ElementTree.tostring(component, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _add_master(interfaces, config, ports):
    interface = _add_interface(interfaces, "m_axi", "interface", "aximm")
    master = _add(interface, "master")
    _add(master, "addressSpaceRef", addressSpaceRef="m_axi")
    _map_channels(interface, "m_axi", ports)
    parameters = {
        "PROTOCOL": "AXI4",
        "ADDR_WIDTH": 32,
        "DATA_WIDTH": config.bus_bits,
        "ID_WIDTH": 1,
        "HAS_BURST": 1,
        "SUPPORTS_NARROW_BURST": 0,
        "MAX_BURST_LENGTH": config.burst_beats,
        "NUM_READ_OUTSTANDING": config.outstanding_bursts,
    }
    _add_parameters(interface, parameters, prefix="BUSIFPARAM_VALUE.M_AXI")


def _add_slave(interfaces, ports):
    interface = _add_interface(interfaces, "s_axi", "interface", "aximm")
    slave = _add(interface, "slave")
    _add(slave, "memoryMapRef", memoryMapRef="s_axi")
    _map_channels(interface, "s_axi", ports)
    parameters = {"PROTOCOL": "AXI4LITE", "DATA_WIDTH": 32}
    _add_parameters(interface, parameters, prefix="BUSIFPARAM_VALUE.S_AXI")


def _add_signals(interfaces):
    """Clock, reset and interrupt."""
    signals = {
        "clk": ("clock", {"ASSOCIATED_BUSIF": "m_axi:s_axi", "ASSOCIATED_RESET": "rst"}),
        "rst": ("reset", {"POLARITY": "ACTIVE_HIGH"}),
        "interrupt": ("interrupt", {"SENSITIVITY": "LEVEL_HIGH"}),
    }
    logical_names = {"clock": "CLK", "reset": "RST", "interrupt": "INTERRUPT"}
    for port, (kind, parameters) in signals.items():
        interface = _add_interface(interfaces, port, "signal", kind)
        _add(interface, "master" if kind == "interrupt" else "slave")
        _map_ports(interface, {logical_names[kind]: port})
        _add_parameters(interface, parameters, prefix=f"BUSIFPARAM_VALUE.{port.upper()}")


def _add_interface(interfaces, name, library, bus):
    interface = _add(interfaces, "busInterface")
    _texts(interface, name=name)
    for element, bus_name in (("busType", bus), ("abstractionType", f"{bus}_rtl")):
        reference = {"vendor": "xilinx.com", "library": library, "version": "1.0"}
        _add(interface, element, name=bus_name, **reference)
    return interface


def _map_channels(interface, name, ports):
    """Pins of AXI: `m_axi_awaddr` is AWADDR."""
    prefix = f"{name}_"
    pins = [port["name"] for port in ports if port["name"].startswith(prefix)]
    _map_ports(interface, {pin.removeprefix(prefix).upper(): pin for pin in pins})


def _map_ports(interface, pins):
    maps = _add(interface, "portMaps")
    for logical, physical in pins.items():
        pair = _add(maps, "portMap")
        _texts(_add(pair, "logicalPort"), name=logical)
        _texts(_add(pair, "physicalPort"), name=physical)


def _add_address_space(component, config):
    space = _add(_add(component, "addressSpaces"), "addressSpace")
    _texts(space, name="m_axi")
    _numbers(space, range=_ADDRESS_SPACE_BYTES, width=config.bus_bits)


def _add_memory_map(component):
    memory_map = _add(_add(component, "memoryMaps"), "memoryMap")
    _texts(memory_map, name="s_axi")
    block = _add(memory_map, "addressBlock")
    _texts(block, name="registers", baseAddress=0)
    _numbers(block, range=REGION_BYTES, width=32)
    _texts(block, usage="register")
    for name, field in REGISTERS:
        access, meaning = describe_register(name, field.shape)
        register = _add(block, "register")
        _texts(register, name=name, description=meaning, addressOffset=f"{address_of(name):#04x}")
        _texts(register, size=32, access=_ACCESS[access])
        for field_name, part in data.Layout.cast(field.shape):
            element = _add(register, "field")
            _texts(element, name=field_name, bitOffset=part.offset, bitWidth=part.width)
            _texts(element, access=_ACCESS[access])


def _add_model(component, ports):
    model = _add(component, "model")
    views = _add(model, "views")
    for name, environment in (
        (_SYNTHESIS, ":vivado.xilinx.com:synthesis"),
        (_SIMULATION, ":vivado.xilinx.com:simulation"),
        (_PANEL, ":vivado.xilinx.com:xgui.ui"),
    ):
        view = _add(views, "view")
        _texts(view, name=name, envIdentifier=environment)
        if name != _PANEL:
            _texts(view, language="Verilog", modelName=TOP_NAME)
        _texts(_add(view, "fileSetRef"), localName=name)
    container = _add(model, "ports")
    for port in ports:
        element = _add(container, "port")
        _texts(element, name=port["name"])
        wire = _add(element, "wire")
        _texts(wire, direction={"input": "in", "output": "out"}[port["direction"]])
        if port["bits"] > 1:
            _numbers(_add(wire, "vector"), left=port["bits"] - 1, right=0)
        wire_type = _add(_add(wire, "wireTypeDefs"), "wireTypeDef")
        _texts(wire_type, typeName="std_logic_vector" if port["bits"] > 1 else "std_logic")
        for view in (_SYNTHESIS, _SIMULATION):
            _texts(wire_type, viewNameRef=view)


def _add_file_sets(component):
    file_sets = _add(component, "fileSets")
    for name, path, kind in (
        (_SYNTHESIS, VERILOG_FILE, "verilogSource"),
        (_SIMULATION, VERILOG_FILE, "verilogSource"),
        (_PANEL, PANEL_FILE, "tclSource"),
    ):
        file_set = _add(file_sets, "fileSet")
        _texts(file_set, name=name)
        file = _add(file_set, "file")
        _texts(file, name=path, fileType=kind)
        if name == _PANEL:
            _texts(file, userFileType="XGUI_VERSION_2")


def _add_parameters(element, values, *, prefix, **attributes):
    """Parameters of the component or of an interface; Vivado finds their values by `id`."""
    container = _add(element, "parameters")
    for name, value in values.items():
        parameter = _add(container, "parameter")
        _texts(parameter, name=name)
        _add(parameter, "value", id=f"{prefix}.{name}", **attributes).text = str(value)


def _add_vendor_extensions(component):
    core = _add(_add(component, "vendorExtensions"), "coreExtensions", namespace=_XILINX)
    families = _add(core, "supportedFamilies", namespace=_XILINX)
    for family in _FAMILIES:
        element = _add(families, "family", namespace=_XILINX)
        element.set(f"{{{_XILINX}}}lifeCycle", "Production")
        element.text = family
    taxonomies = _add(core, "taxonomies", namespace=_XILINX)
    _add(taxonomies, "taxonomy", namespace=_XILINX).text = "/UserIP"
    _add(core, "displayName", namespace=_XILINX).text = "coprune accelerator"
    _add(core, "coreRevision", namespace=_XILINX).text = "1"


def _name(tag, namespace=_SPIRIT):
    return f"{{{namespace}}}{tag}"


def _add(parent, tag, *, namespace=_SPIRIT, **attributes):
    """An element with attributes of IP-XACT."""
    element = ElementTree.SubElement(parent, _name(tag, namespace))
    for key, value in attributes.items():
        element.set(_name(key), value)
    return element


def _texts(parent, **contents):
    """Elements with nothing but text, in this order."""
    for tag, text in contents.items():
        ElementTree.SubElement(parent, _name(tag)).text = str(text)


def _numbers(parent, **contents):
    """Elements with an integer; Vivado wants its format."""
    for tag, value in contents.items():
        _add(parent, tag, format="long").text = str(value)
