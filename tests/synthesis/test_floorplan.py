"""Where an array's multipliers lie on an ECP5."""

import re
from dataclasses import replace

import pytest

from coprune_hw.boards import BOARDS
from coprune_hw.contract import AcceleratorConfig
from coprune_hw.synthesis.ecp5_floorplan import DEVICES, place_cells

MULTIPLIERS = {"LFE5U-12F": 28, "LFE5U-25F": 28, "LFE5U-45F": 72, "LFE5U-85F": 156}
"""Of the data sheet; a 12F is a 25F."""


def locate(bel):
    x, y = re.match(r"X(\d+)/Y(\d+)/MULT18_[0145]$", bel).groups()
    return int(x), int(y)


@pytest.mark.parametrize("device", MULTIPLIERS)
def test_a_device_has_as_many_sites_as_multipliers(device):
    rows = DEVICES[device]
    sites = [
        rows.multiplier(row, number)
        for row in range(len(rows.multipliers))
        for number in range(4 * rows.blocks)
    ]
    assert len(set(sites)) == len(sites) == MULTIPLIERS[device]


@pytest.mark.parametrize(
    ("lanes", "columns", "device", "stacked"),
    [(8, 16, "85F", 12), (16, 8, "85F", 5), (8, 8, "85F", 8), (8, 4, "45F", 4), (8, 2, "25F", 0)],
)
def test_columns_follow_each_other_with_one_half_above_the_other(lanes, columns, device, stacked):
    config = replace(AcceleratorConfig(), lanes=lanes, columns=columns)
    places = place_cells(config, f"LFE5U-{device}")
    assert len(set(places.values())) == len(places)
    sites = [
        [locate(places[f"multiplier_{lane}_{column}"]) for lane in range(lanes)]
        for column in range(columns)
    ]
    for column in sites:
        for lane in range(0, lanes, 4):
            (first, row), *others = column[lane : lane + 4]
            assert others == [(first + 1, row), (first + 4, row), (first + 5, row)]
    sites.insert(
        0,
        [locate(places[f"requantizer_{lane}.multiplier_requantize"]) for lane in range(lanes)],
    )
    stacked += stacked > 0
    firsts = [column[0][0] for column in sites[:stacked]]
    assert firsts == sorted(firsts)
    for column in sites[:stacked]:
        above, below = column[: lanes // 2], column[lanes // 2 :]
        assert [x for x, _ in above] == [x for x, _ in below]
        assert {y for _, y in above} < {y for _, y in column}
    for column in sites[stacked:]:
        assert len({y for _, y in column}) == 1


def test_an_array_that_does_not_fit_gets_no_places():
    config = replace(AcceleratorConfig(), lanes=16, columns=16)
    assert place_cells(config, "LFE5U-85F") == {}


@pytest.mark.parametrize("board", BOARDS.values(), ids=lambda board: board.name)
def test_the_presets_arrays_fit_their_boards(board):
    config = AcceleratorConfig.preset(board.preset)
    places = place_cells(config, board.platform().device)
    assert sum("multiplier" in name for name in places) == config.lanes * (config.columns + 1)


def test_banks_of_the_largest_device_are_in_three_rows_with_the_same_bits_side_by_side():
    places = place_cells(AcceleratorConfig.preset("ecp5-85f"), "LFE5U-85F")
    for bits, row in ((0, 22), (1, 46), (2, 46), (3, 70)):
        sites = [
            re.match(r"X(\d+)/Y(\d+)/EBR[0-3]$", places[f"bank_{bank}.0.{bits}"]).groups()
            for bank in range(16)
        ]
        assert {int(y) for _, y in sites} == {row}
        columns = [int(x) for x, _ in sites]
        assert columns == sorted(columns)
        assert columns[-1] - columns[0] < 9 * 4 + 2
