"""Where an array's multipliers lie on an ECP5."""

import re
from dataclasses import replace

import pytest

from coprune_hw.boards import BOARDS
from coprune_hw.contract import AcceleratorConfig
from coprune_hw.synthesis.ecp5_floorplan import DEVICES, place_multipliers

MULTIPLIERS = {"LFE5U-12F": 28, "LFE5U-25F": 28, "LFE5U-45F": 72, "LFE5U-85F": 156}
"""Of the data sheet; a 12F is a 25F."""


def locate(bel):
    x, y = re.match(r"X(\d+)/Y(\d+)/MULT18_[0145]$", bel).groups()
    return int(x), int(y)


@pytest.mark.parametrize("device", MULTIPLIERS)
def test_a_device_has_as_many_sites_as_multipliers(device):
    rows = DEVICES[device]
    sites = [
        rows.site(row, block, multiplier)
        for row in range(len(rows.rows))
        for block in range(rows.blocks)
        for multiplier in range(4)
    ]
    assert len(set(sites)) == len(sites) == MULTIPLIERS[device]


@pytest.mark.parametrize(
    ("lanes", "columns", "device"),
    [(8, 16, "85F"), (16, 8, "85F"), (8, 8, "85F"), (8, 4, "45F"), (8, 2, "25F")],
)
def test_a_column_is_side_by_side_and_near_the_next(lanes, columns, device):
    config = replace(AcceleratorConfig(), lanes=lanes, columns=columns)
    device = f"LFE5U-{device}"
    places = place_multipliers(config, device)
    assert len(set(places.values())) == len(places) == lanes * columns
    blocks = lanes // 4
    before = None
    for column in range(columns):
        sites = [locate(places[f"multiplier_{lane}_{column}"]) for lane in range(lanes)]
        first, row = sites[0]
        assert {y for _, y in sites} == {row}
        # The clocks' column of tiles may lie within.
        assert sites == sorted(sites) and sites[-1][0] - first < 9 * blocks + 2
        # The next row begins at the end where the one before it ended.
        if before is not None and before[1] != row:
            assert abs(before[0] - first) <= 9 * blocks
        before = first, row


def test_an_array_that_does_not_fit_gets_no_places():
    config = replace(AcceleratorConfig(), lanes=16, columns=16)
    assert place_multipliers(config, "LFE5U-85F") == {}


@pytest.mark.parametrize("board", BOARDS.values(), ids=lambda board: board.name)
def test_the_presets_arrays_fit_their_boards(board):
    config = AcceleratorConfig.preset(board.preset)
    places = place_multipliers(config, board.platform().device)
    assert len(places) == config.lanes * config.columns
