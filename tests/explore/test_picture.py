"""The picture: what is drawn, and when there is nothing to draw."""

import pytest
from matplotlib.image import imread

from coprune.explore import (
    OBJECTIVES,
    Evaluation,
    Exploration,
    Trial,
    TrialState,
)
from coprune.explore.picture import draw_front
from coprune_sim.resources import Resources


def invented_exploration(*, objectives=("cycles", "kept_importance", "luts")) -> Exploration:
    trials = [
        Trial(0, {"lanes": 8}, TrialState.INFEASIBLE, reason="too large"),
        *(
            Trial(
                number,
                {"lanes": lanes, "columns": columns},
                TrialState.FEASIBLE,
                Evaluation(
                    cycles=cycles,
                    milliseconds=None,
                    kept_importance=importance,
                    kept={},
                    agreement=None,
                    accuracy=None,
                    resources=Resources(luts, 0, 0, 0, 0, 0),
                ),
            )
            for number, (lanes, columns, cycles, importance, luts) in enumerate(
                [(8, 2, 900, 1.0, 100), (16, 4, 300, 0.8, 400), (16, 2, 950, 0.9, 200)], start=1
            )
        ),
    ]
    return Exploration(tuple(OBJECTIVES[name] for name in objectives), tuple(trials))


@pytest.mark.parametrize("objectives", [("cycles", "luts"), ("cycles", "kept_importance", "luts")])
def test_draws_a_png(tmp_path, objectives):
    path = tmp_path / "front.png"
    draw_front(invented_exploration(objectives=objectives), path, title="a network")
    assert len(set(map(tuple, imread(path).reshape(-1, 4)))) > 10


def test_an_svg_has_the_labels(tmp_path):
    path = tmp_path / "front.svg"
    draw_front(invented_exploration(), path, title="a network")
    text = path.read_text()
    for label in ("a network", "importance kept (more is better)", "cycles (less is better)"):
        assert f"<!-- {label} -->" in text


def test_the_front_leaves_out_what_is_dominated():
    assert [trial.number for trial in invented_exploration().front] == [2, 1]


def test_refuses_what_cannot_be_drawn(tmp_path):
    exploration = invented_exploration()
    with pytest.raises(ValueError, match=r"a picture must end in .png, .svg, .pdf, not 'f.txt'"):
        draw_front(exploration, tmp_path / "f.txt", title="")
    empty = Exploration(exploration.objectives, exploration.trials[:1])
    with pytest.raises(ValueError, match="there is nothing to draw: no candidate is feasible"):
        draw_front(empty, tmp_path / "f.png", title="")
