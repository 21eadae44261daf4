"""The driver in C, and programs for it: sources that the user's firmware is built with."""

from coprune.runtime.c_driver.driver import write_driver
from coprune.runtime.c_driver.export import export_program, name_for

__all__ = ["export_program", "name_for", "write_driver"]
