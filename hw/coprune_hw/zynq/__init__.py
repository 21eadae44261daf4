"""The accelerator in a Zynq-7000: an IP core and a block design for Vivado."""

from .block_design import fit_to_port, settings_script
from .board import BOARDS, ZynqBoard
from .ip_core import IP_NAME, component_description

__all__ = [
    "BOARDS",
    "IP_NAME",
    "ZynqBoard",
    "component_description",
    "fit_to_port",
    "settings_script",
]
