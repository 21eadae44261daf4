"""`coprune explore`: what it prints and writes, and how its mistakes end."""

import importlib.util
import json

import pytest

from coprune.cli import main

from ..explore.one_process import OneProcess

SPACE = """
lanes = 8
columns = [2, 4, 8]
activation_depth = [64, 1024]
bus_bits = [32, 64]
tables = 0
speedup = [1, 2, 4]
"""


@pytest.fixture
def pool(monkeypatch):
    class Pool(OneProcess):
        evaluated = []

    monkeypatch.setattr("coprune.explore.workers.WorkerPool", Pool)
    return Pool


@pytest.fixture
def space(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text(SPACE)
    return path


def run(*arguments):
    with pytest.raises(SystemExit) as ending:
        main(["explore", *map(str, arguments)])
    return ending.value.code


def test_writes_front_picture_and_json(pool, space, tmp_path, capsys):
    output, described = tmp_path / "out", tmp_path / "front.json"
    arguments = ["lenet5", "-o", output, "--space", space, "--population", 8, "--mhz", 50]
    arguments += ["--choose", "columns=2,4", "--json", described]
    arguments += ["--objective", "milliseconds", "--objective", "agreement"]
    arguments += ["--objective", "accuracy", "--objective", "luts"]
    assert run(*arguments, "--trials", 8) == 0
    assert run(*arguments, "--trials", 16) == 0
    printed = capsys.readouterr().out
    assert "8 trials are there; workers: processes 1" in printed
    assert (
        "lenet5: not dominated in ms, agreement with the dense network, accuracy before " in printed
    )
    assert "16 trials in a space of 24: " in printed
    assert "infeasible: layer " in printed
    assert "activation_depth is 64" in printed
    content = json.loads(described.read_text())
    assert len(content["trials"]) == 16
    front = [content["trials"][number] for number in content["front"]]
    assert front
    for trial in front:
        evaluation = trial["evaluation"]
        assert evaluation["milliseconds"] == evaluation["cycles"] / 50_000
        assert 0 <= evaluation["agreement"] <= 1
        # Of the 192 or so images that it was calibrated with, the trained network knows most.
        assert abs(evaluation["accuracy"] - evaluation["agreement"]) < 0.2
        assert trial["values"]["columns"] in (2, 4)
        assert f"{evaluation['cycles']:,}" in printed
    assert (output / "front.png").stat().st_size > 1000


def test_infeasible_spaces_have_no_picture(pool, space, tmp_path, capsys):
    arguments = ["lenet5", "-o", tmp_path, "--space", space, "--choose", "activation_depth=64"]
    assert run(*arguments, "--trials", 4, "--device", "ecp5-85") == 0
    assert "4 trials in a space of 18: 4 infeasible" in capsys.readouterr().out
    assert not (tmp_path / "front.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--objective", "cycles"], "objectives must be two or more"),
        (["--objective", "cycles", "--objective", "milliseconds"], "'milliseconds' needs a clock"),
        (["--device", "ecp5-12"], "--device must be one of ecp5-25, ecp5-45, ecp5-85"),
        (["--choose", "lanes"], "a choice must be NAME=VALUE"),
        (["--choose", "lanes=4"], "lanes must be one of 8, 16, not 4"),
        (["--sampler", "grid"], "sampler must be one of nsga2, tpe, random, not 'grid'"),
        (["--picture", "front.txt"], "a picture must end in .png, .svg, .pdf, not 'front.txt'"),
    ],
)
def test_mistakes_are_one_line(pool, space, tmp_path, capsys, arguments, message):
    code = run("lenet5", "-o", tmp_path, "--space", space, "--trials", 2, *arguments)
    assert code == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("coprune: ")
    assert error.count("\n") == 1
    assert not pool.evaluated


def test_says_what_to_install(tmp_path, capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "optuna" else find(name)
    )
    assert run("lenet5", "-o", tmp_path) == 1
    expected = "coprune: explore needs optuna: pip install 'coprune[explore]'\n"
    assert capsys.readouterr().err == expected
