"""The command line: `coprune COMMAND`.

A command parses its arguments, calls the library once and shows the result. What takes seconds to
import is imported by the commands that need it.
"""

# Each module adds its commands to the application, in this order.
from coprune.cli import build_commands, run_commands, quality_commands, cycle_commands  # noqa: F401, I001
from coprune.cli.app import main

__all__ = ["main"]
