"""Geometry: domains, presets, files and the hash."""

from dataclasses import replace

import pytest

from coprune_hw.contract import AcceleratorConfig


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lanes", 12, "lanes must be one of 8, 16, not 12"),
        ("lanes", True, "lanes must be one of 8, 16, not True"),
        ("columns", 32, "columns must be one of 2, 4, 8, 16, not 32"),
        ("activation_depth", 15, "activation_depth must be from 16 to 4096, not 15"),
        ("activation_depth", 4097, "activation_depth must be from 16 to 4096, not 4097"),
        ("slot_depth", 65536, "slot_depth must be from 16 to 65535, not 65536"),
        ("parameter_depth", 0, "parameter_depth must be from 16 to 65535, not 0"),
        ("bus_bits", 256, "bus_bits must be one of 32, 64, 128, not 256"),
        ("accumulator_bits", 33, "accumulator_bits must be from 24 to 32, not 33"),
        ("lane_group", 3, "lane_group must be one of 1, 2, 4, 8, 16, not 3"),
        ("queue_depth", 1, "queue_depth must be from 2 to 64, not 1"),
        ("burst_beats", 2, "burst_beats must be one of 4, 8, 16, 32, 64, not 2"),
        ("outstanding_bursts", 17, "outstanding_bursts must be from 1 to 16, not 17"),
        ("mark_depth", 300, "mark_depth must be from 2 to 256, not 300"),
        ("columns", 8.0, "columns must be one of 2, 4, 8, 16, not 8.0"),
        ("columns", "8", "columns must be one of 2, 4, 8, 16, not '8'"),
    ],
)
def test_names_the_value_outside_its_domain(name, value, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        AcceleratorConfig(**{name: value})


def test_a_lane_group_is_at_most_all_lanes():
    with pytest.raises(ValueError, match=r"lane_group must be at most lanes \(8\), not 16"):
        AcceleratorConfig(lanes=8, lane_group=16)


PRESETS = {
    "16x16": "16x16",
    "16x8": "16x8",
    "8x16": "8x16",
    "8x8": "8x8",
    "ecp5-25f": "8x2",
    "ecp5-45f": "8x4",
    "ecp5-85f": "8x16",
}


@pytest.mark.parametrize(("name", "geometry"), PRESETS.items())
def test_presets_have_the_geometry_that_they_are_known_by(name, geometry):
    config = AcceleratorConfig.preset(name)
    assert config.name == geometry
    assert config.multipliers == config.lanes * config.columns


def test_every_preset_is_known():
    assert AcceleratorConfig.preset_names() == sorted(PRESETS)


def test_refuses_an_unknown_preset():
    names = ", ".join(AcceleratorConfig.preset_names())
    with pytest.raises(ValueError, match=f"unknown preset '3x3': must be one of {names}"):
        AcceleratorConfig.preset("3x3")


def test_a_dict_gives_the_configuration_back():
    config = AcceleratorConfig(lanes=8, columns=4, activation_depth=100)
    assert AcceleratorConfig.from_dict(config.to_dict()) == config


def test_reads_a_file(tmp_path):
    path = tmp_path / "board.toml"
    path.write_text("lanes = 8\ncolumns = 2\n")
    assert AcceleratorConfig.from_toml(path) == AcceleratorConfig(lanes=8, columns=2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"lanes = ", "board.toml is not a TOML file"),
        (b"\xff\xfe", "board.toml is not a TOML file"),
        (b"lane = 8", "board.toml: unknown field 'lane'; known fields are accumulator_bits"),
        (b"lanes = 9", "lanes must be one of 8, 16, not 9"),
    ],
)
def test_refuses_a_bad_file(tmp_path, content, message):
    path = tmp_path / "board.toml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        AcceleratorConfig.from_toml(path)


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        AcceleratorConfig.from_toml(tmp_path / "none.toml")


@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("columns", [2, 4, 8, 16])
def test_derives_widths(lanes, columns):
    config = AcceleratorConfig(lanes=lanes, columns=columns, bus_bits=128)
    assert config.word_bits == 8 * lanes
    assert 1 << config.index_bits == lanes
    assert 1 << config.log2_columns == columns
    assert config.lane_groups * config.lane_group == lanes
    assert config.bus_bytes == 16


def test_the_hash_tells_programs_apart_that_are_not_interchangeable():
    config = AcceleratorConfig()
    changes = {
        "lanes": 8,
        "columns": 8,
        "activation_depth": 1024,
        "slot_depth": 1024,
        "parameter_depth": 512,
        "bus_bits": 32,
        "accumulator_bits": 30,
        "mark_depth": 64,
    }
    hashes = {replace(config, **{name: value}).geometry_hash for name, value in changes.items()}
    assert len(hashes | {config.geometry_hash}) == len(changes) + 1
    assert all(0 <= value < 1 << 32 for value in hashes)


@pytest.mark.parametrize(
    ("name", "value"),
    [("lane_group", 8), ("queue_depth", 16), ("burst_beats", 8), ("outstanding_bursts", 1)],
)
def test_the_hash_ignores_what_no_program_depends_on(name, value):
    config = AcceleratorConfig()
    assert replace(config, **{name: value}).geometry_hash == config.geometry_hash
