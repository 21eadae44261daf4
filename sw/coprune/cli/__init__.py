"""The command line: `coprune COMMAND`.

A command parses its arguments, calls the library once and shows the result. What takes seconds to
import is imported by the commands that need it.
"""

# Each module adds its commands to the application, in this order.
# isort: off
from coprune.cli import build_commands, prune_commands, train_commands, run_commands  # noqa: F401
from coprune.cli import quality_commands, cycle_commands, explore_commands  # noqa: F401
from coprune.cli import board_commands  # noqa: F401

# isort: on
from coprune.cli.app import main

__all__ = ["main"]
