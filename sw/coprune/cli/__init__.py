"""The command line: `coprune COMMAND`."""

from coprune.cli.commands import main

__all__ = ["main"]
