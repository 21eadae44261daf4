"""What a system on a board tells its host besides the accelerator's registers.

The description is read over the host link like registers, from `DESCRIPTION_ADDRESS` on: behind the
region of the accelerator's.
"""

from amaranth.lib import data

DESCRIPTION_ADDRESS = 0x100

MEMORY_ADDRESS = 0
"""Where the memory begins in systems with a memory of their own."""


class SystemDescription(data.Struct):
    """Where the memory that host and accelerator share begins, and its size. Read-only."""

    memory_address: 32
    memory_bytes: 32
