"""The memory behind the bus, as the cycle model sees it: its latencies, and its pauses."""

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


@dataclass(frozen=True)
class Pauses:
    """How much a memory may pause.

    In any `n` consecutive cycles each of its five channels pauses in at most ``share * n + burst``
    of them: a latency-rate server (Stiliadis and Varma, "Latency-rate servers: a general model for
    analysis of traffic scheduling algorithms", IEEE/ACM Transactions on Networking 6(5), 1998).

    Parameters
    ----------
    share : float
        From 0 to 0.5.
    burst : int
    """

    share: float = 0.0
    burst: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 0.5:
            raise ValueError(f"share must be from 0 to 0.5, not {self.share!r}")
        if self.burst < 0:
            raise ValueError(f"burst must not be negative, but is {self.burst!r}")

    @property
    def beat_cycles(self) -> float:
        """Cycles of a beat in the long run."""
        return 1 / (1 - self.share)

    @property
    def delay_cycles(self) -> float:
        """Cycles by which a beat may come later than that."""
        return self.burst / (1 - self.share)
