"""Reads an IP core's description and its Verilog."""

import re
from dataclasses import dataclass
from xml.etree import ElementTree

NAMESPACES = {"s": "http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009"}
ATTRIBUTE = f"{{{NAMESPACES['s']}}}"


@dataclass
class Interface:
    """A bus interface: `mode` is ``"master"`` or ``"slave"``, `pins` are ports by logical name."""

    kind: str
    mode: str
    pins: dict[str, str]
    parameters: dict[str, str]


class Component:
    """What ``component.xml`` says."""

    def __init__(self, text):
        self.root = ElementTree.fromstring(text)
        parts = ("vendor", "library", "name", "version")
        self.vlnv = ":".join(self.text(self.root, part) for part in parts)
        self.ports = {
            self.text(port, "name"): (
                self.text(port, "wire/direction"),
                int(self.text(port, "wire/vector/left", "0")) + 1,
            )
            for port in self.find("model/ports/port")
        }
        self.interfaces = {
            self.text(element, "name"): self._interface(element)
            for element in self.find("busInterfaces/busInterface")
        }

    def find(self, path, element=None):
        path = "/".join(f"s:{tag}" for tag in path.split("/"))
        return (self.root if element is None else element).findall(path, NAMESPACES)

    def text(self, element, path, default=None):
        found = self.find(path, element)
        return found[0].text if found else default

    def _interface(self, element):
        (bus_type,) = self.find("busType", element)
        return Interface(
            kind=bus_type.get(f"{ATTRIBUTE}name"),
            mode="master" if self.find("master", element) else "slave",
            pins={
                self.text(pair, "logicalPort/name"): self.text(pair, "physicalPort/name")
                for pair in self.find("portMaps/portMap", element)
            },
            parameters={
                self.text(parameter, "name"): self.text(parameter, "value")
                for parameter in self.find("parameters/parameter", element)
            },
        )


def verilog_ports(text, module):
    """Direction and bits of the ports of a module, as the Verilog declares them."""
    (body,) = re.findall(rf"^module {module}\((.*?)^endmodule", text, re.DOTALL | re.MULTILINE)
    declared = re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);", body, re.MULTILINE)
    directions = {"input": "in", "output": "out"}
    return {name: (directions[side], int(left or 0) + 1) for side, left, name in declared}
