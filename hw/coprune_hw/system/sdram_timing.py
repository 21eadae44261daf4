"""SDRAM chips: their geometry, and the times of their data sheets, in ns and in clock cycles."""

from __future__ import annotations

import math
from dataclasses import dataclass

ROUNDING_CYCLES = 1e-9
"""What a quotient of floating-point numbers may exceed a whole number of cycles by."""

MINIMUM_CYCLES = 2
"""Least cycles of tWR, tMRD and tRRD: where some sheets give a time in ns, others give 2 clocks."""

PRECHARGE_ALL_BIT = 10
"""The address bit that makes a precharge one of all banks, on every chip."""

SEGMENT_BEATS = 8
"""Longest run of beats that the controller plans as one; aligned, so never of two rows."""


@dataclass(frozen=True)
class SdramTiming:
    """The times of a chip in cycles of one clock, as a controller needs them.

    Parameters
    ----------
    cas_latency : int
    row_to_column, precharge, row_to_row, refresh, mode_register : int
        tRCD, tRP, tRRD, tRFC, tMRD.
    row_open : int
        From a row's activation to its precharge: tRAS, or what tRC asks for beyond tRP.
    write_recovery : int
        From the last word written to the precharge: tWR, called tDPL or tRDL by others.
    refresh_interval : int
        Between refreshes. A cycle less than the sheet's average, so that one that comes late, after
        the accesses under way, leaves no row beyond its time.
    power_up_intervals : int
        Refresh intervals from power-up to the first command.
    """

    cas_latency: int
    row_to_column: int
    precharge: int
    row_to_row: int
    refresh: int
    mode_register: int
    row_open: int
    write_recovery: int
    refresh_interval: int
    power_up_intervals: int


@dataclass(frozen=True)
class SdramChip:
    """A single-data-rate SDRAM chip of four banks.

    Parameters
    ----------
    data_sheet : str
        The chip, its speed grade, and where its figures are from.
    data_bits : int
        16 or 32.
    row_bits, column_bits : int
    clock_ns : tuple of (int, float)
        CAS latencies, ascending, each with the shortest clock period that it is for.
    row_to_column_ns, precharge_ns, row_active_ns, row_cycle_ns : float
        tRCD, tRP, tRAS, tRC.
    row_to_row_ns, refresh_ns, write_recovery_ns : float
        tRRD, tRFC, tWR.
    refresh_window_ms : float
        In which each row is refreshed.
    refreshes : int
        In that window.
    power_up_us : float
    """

    data_sheet: str
    data_bits: int
    row_bits: int
    column_bits: int
    clock_ns: tuple[tuple[int, float], ...]
    row_to_column_ns: float
    precharge_ns: float
    row_active_ns: float
    row_cycle_ns: float
    row_to_row_ns: float
    refresh_ns: float
    write_recovery_ns: float
    refreshes: int
    refresh_window_ms: float = 64.0
    power_up_us: float = 200.0
    bank_bits: int = 2

    @property
    def size_bytes(self) -> int:
        """Of the whole chip."""
        return self.data_bits // 8 << (self.row_bits + self.column_bits + self.bank_bits)

    @property
    def address_bits(self) -> int:
        """Address pins: of a row, and at least those up to the one of `PRECHARGE_ALL_BIT`."""
        return max(self.row_bits, PRECHARGE_ALL_BIT + 1)

    @property
    def refresh_interval_ns(self) -> float:
        """Average time between refreshes, tREFI."""
        return self.refresh_window_ms * 1e6 / self.refreshes

    def timing(self, clock_hz: float) -> SdramTiming:
        """The times in cycles of a clock, with the smallest CAS latency that it allows.

        Raises
        ------
        ValueError
            The clock is faster than the chip's, or so slow that refreshes leave no time.
        """
        period_ns = 1e9 / clock_hz
        latencies = [latency for latency, shortest in self.clock_ns if period_ns >= shortest - 1e-6]
        if not latencies:
            limit_mhz = 1e3 / min(shortest for _, shortest in self.clock_ns)
            raise ValueError(
                f"clock_hz must be at most {limit_mhz:.1f} MHz for {self.data_sheet}, not "
                f"{clock_hz / 1e6:.1f} MHz: choose a slower clock or a faster chip"
            )

        def cycles(time_ns: float, *, least: int = 1) -> int:
            return max(least, math.ceil(time_ns / period_ns - ROUNDING_CYCLES))

        precharge = cycles(self.precharge_ns)
        refresh_interval = math.floor(self.refresh_interval_ns / period_ns + ROUNDING_CYCLES) - 1
        timing = SdramTiming(
            cas_latency=latencies[0],
            row_to_column=cycles(self.row_to_column_ns),
            precharge=precharge,
            row_to_row=cycles(self.row_to_row_ns, least=MINIMUM_CYCLES),
            refresh=cycles(self.refresh_ns),
            mode_register=MINIMUM_CYCLES,
            row_open=max(cycles(self.row_active_ns), cycles(self.row_cycle_ns) - precharge),
            write_recovery=cycles(self.write_recovery_ns, least=MINIMUM_CYCLES),
            refresh_interval=refresh_interval,
            power_up_intervals=math.ceil(self.power_up_us * 1e3 / period_ns / refresh_interval)
            if refresh_interval > 0
            else 0,
        )
        if refresh_interval < LEAST_REFRESH_INTERVAL:
            raise ValueError(
                f"clock_hz must give {LEAST_REFRESH_INTERVAL} cycles or more between refreshes, "
                f"which {self.data_sheet} needs every {self.refresh_interval_ns:.0f} ns, not "
                f"{refresh_interval}: choose a clock faster than {clock_hz / 1e6:.3f} MHz"
            )
        return timing


LEAST_REFRESH_INTERVAL = 160
"""Cycles in which the accesses that were begun end, a refresh is made, and others get a turn."""


IS42S16160G_7 = SdramChip(
    data_sheet="ISSI IS42S16160G-7 (the slower -7 figures of its revisions D to G)",
    data_bits=16,
    row_bits=13,
    column_bits=9,
    clock_ns=((2, 10.0), (3, 7.0)),
    row_to_column_ns=20.0,
    precharge_ns=20.0,
    row_active_ns=45.0,
    row_cycle_ns=67.5,
    row_to_row_ns=14.0,
    refresh_ns=67.5,
    write_recovery_ns=14.0,
    refreshes=8192,
)

W9825G6KH_6 = SdramChip(
    data_sheet="Winbond W9825G6KH-6 (AC table of W9825G6JH-6, revision A04)",
    data_bits=16,
    row_bits=13,
    column_bits=9,
    clock_ns=((2, 7.5), (3, 6.0)),
    row_to_column_ns=15.0,
    precharge_ns=15.0,
    row_active_ns=42.0,
    row_cycle_ns=60.0,
    row_to_row_ns=12.0,
    refresh_ns=60.0,
    write_recovery_ns=12.0,
    refreshes=8192,
)

MT48LC16M16A2_75 = SdramChip(
    data_sheet="Micron MT48LC16M16A2-75 (256Mb x4, x8, x16 SDRAM)",
    data_bits=16,
    row_bits=13,
    column_bits=9,
    clock_ns=((2, 10.0), (3, 7.5)),
    row_to_column_ns=20.0,
    precharge_ns=20.0,
    row_active_ns=44.0,
    row_cycle_ns=66.0,
    row_to_row_ns=15.0,
    refresh_ns=66.0,
    write_recovery_ns=15.0,
    refreshes=8192,
)

M12L64322A_6 = SdramChip(
    data_sheet="ESMT M12L64322A-6T (and Etron EM638325-6, whose tRCD and tRP are the same)",
    data_bits=32,
    row_bits=11,
    column_bits=8,
    clock_ns=((2, 10.0), (3, 6.0)),
    row_to_column_ns=18.0,
    precharge_ns=18.0,
    row_active_ns=42.0,
    row_cycle_ns=60.0,
    row_to_row_ns=12.0,
    refresh_ns=60.0,
    write_recovery_ns=12.0,
    refreshes=4096,
)

CHIPS = {
    "IS42S16160G-7": IS42S16160G_7,
    "W9825G6KH-6": W9825G6KH_6,
    "MT48LC16M16A2-75": MT48LC16M16A2_75,
    "M12L64322A-6": M12L64322A_6,
    "EM638325-6": M12L64322A_6,
}
"""The chips of the boards that the project knows, by name."""
