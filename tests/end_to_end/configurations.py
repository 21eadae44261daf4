"""Small accelerators that are built and simulated fast."""

from dataclasses import replace

from coprune_hw.contract import AcceleratorConfig

SMALL = AcceleratorConfig(
    lanes=8,
    columns=4,
    activation_depth=1024,
    slot_depth=1024,
    parameter_depth=32,
    tables=2,
    lane_group=2,
    queue_depth=4,
    burst_beats=16,
    outstanding_bursts=2,
    mark_depth=32,
)

NARROW = AcceleratorConfig(
    lanes=16,
    columns=2,
    activation_depth=1024,
    slot_depth=1024,
    parameter_depth=32,
    tables=1,
    lane_group=16,
    queue_depth=2,
    burst_beats=4,
    outstanding_bursts=1,
    mark_depth=32,
)

WIDE_BUS = replace(SMALL, bus_bits=128, burst_beats=4)
"""A beat is two words, and more than a parameter record or a slot."""
