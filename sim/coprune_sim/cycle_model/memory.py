"""The memory behind the bus, as the cycle model sees it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MemoryModel:
    """A memory with fixed latencies that answers in order, as `cosim/memory.v` does.

    Bus width and outstanding bursts are the accelerator's: see `AcceleratorConfig`.

    Parameters
    ----------
    latency_cycles : int
        From a read address to its first beat; 0 acts as 1. Later beats come one per cycle.
    write_latency_cycles : int
        From a write burst's last beat to its response; 0 acts as 1.
    """

    latency_cycles: int = 20
    write_latency_cycles: int = 20

    def __post_init__(self) -> None:
        for name in ("latency_cycles", "write_latency_cycles"):
            value = getattr(self, name)
            if not isinstance(value, int) or not 0 <= value < 1 << 16:
                raise ValueError(f"{name} must be from 0 to {(1 << 16) - 1}, not {value!r}")
