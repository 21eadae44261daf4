"""The search space: what it refuses, and the candidates that it makes."""

import pytest

from coprune.explore import Candidate, SearchSpace
from coprune.explore.space import DEFAULT_CHOICES, parse_choice
from coprune_hw.contract import AcceleratorConfig

from ..graphs import GraphBuilder, residual_graph


def test_reads_lists_and_single_values(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text("lanes = [8, 16]\ncolumns = 4\nspeedup = [1, 2.5]\n")
    space = SearchSpace.from_toml(path)
    assert space.choices == {"lanes": (8, 16), "columns": (4,), "speedup": (1, 2.5)}
    assert space.size == 4
    candidate = space.candidate({"lanes": 8, "columns": 4, "speedup": 2.5})
    assert candidate == Candidate(AcceleratorConfig(lanes=8, columns=4), 2.5)


def test_a_space_without_speedup_prunes_nothing():
    assert SearchSpace({"lanes": (8,)}).candidate({"lanes": 8}).speedup == 1.0


def test_choices_replace_those_of_one_parameter():
    space = SearchSpace({"lanes": (8,), "columns": (2, 4)}).with_choices(lanes=(16,))
    assert space.choices == {"lanes": (16,), "columns": (2, 4)}


def test_by_default_there_are_tables_where_they_are_needed():
    assert SearchSpace.default(residual_graph(size=8)).choices == {
        **DEFAULT_CHOICES,
        "tables": (0,),
    }
    builder = GraphBuilder(3, (4, 4), seed=1)
    builder.add(builder.conv("input", 8), tabulated=True)
    assert SearchSpace.default(builder.graph()).choices["tables"] == (1, 2, 4, 8)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"rows": (1,)}, "unknown parameter 'rows': must be one of accumulator_bits, "),
        ({"lanes": ()}, r"lanes must have values, each once, not \[\]"),
        ({"lanes": (8, 8)}, r"lanes must have values, each once, not \[8, 8\]"),
        ({"lanes": (12,)}, "lanes must be one of 8, 16, not 12"),
        ({"lane_group": (3,)}, "lane_group must be one of 1, 2, 4, 8, 16, not 3"),
        ({"speedup": (0.5,)}, "speedup must be a number from 1, not 0.5"),
        ({"speedup": ("2",)}, "speedup must be a number from 1, not '2'"),
    ],
)
def test_refuses_what_no_accelerator_has(choices, message):
    with pytest.raises(ValueError, match=message):
        SearchSpace(choices)


def test_every_lane_group_is_allowed_alone():
    SearchSpace({"lane_group": (1, 2, 4, 8, 16), "lanes": (8, 16)})


def test_a_contradiction_is_one_of_the_candidate():
    space = SearchSpace({"lane_group": (16,), "lanes": (8,)})
    with pytest.raises(ValueError, match=r"lane_group must be at most lanes \(8\), not 16"):
        space.candidate({"lane_group": 16, "lanes": 8})


def test_errors_name_the_file(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text("lanes = 12")
    with pytest.raises(ValueError, match=r"space.toml: lanes must be one of 8, 16, not 12"):
        SearchSpace.from_toml(path)
    path.write_text("lanes")
    with pytest.raises(ValueError, match=r"space.toml is not a TOML file"):
        SearchSpace.from_toml(path)
    with pytest.raises(FileNotFoundError, match="no such file of a search space"):
        SearchSpace.from_toml(tmp_path / "missing.toml")


def test_reads_a_choice():
    assert parse_choice("lanes=8,16") == ("lanes", (8, 16))
    assert parse_choice("speedup=1.5,2") == ("speedup", (1.5, 2.0))
    for text in ("lanes", "lanes=", "lanes=8;16", "lanes=8.5"):
        with pytest.raises(ValueError, match="a choice must be NAME=VALUE"):
            parse_choice(text)
