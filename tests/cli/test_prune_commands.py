"""Commands that prune without training."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import coprune
from coprune import zoo
from coprune.cli import main

from ..prune.small_network import ACCELERATOR, labelled_images, network


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a command in an empty folder, where the zoo has one more network, and images are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(zoo._NETWORKS, "small", network)
    random = np.random.default_rng(0)
    np.savez(
        "images.npz",
        images=random.integers(0, 256, (40, 3, 8, 8), np.uint8),
        labels=random.integers(0, 10, 40),
    )
    fields = [f"{name} = {value}\n" for name, value in ACCELERATOR.to_dict().items()]
    Path("small.toml").write_text("".join(fields))

    def finish(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return finish


COMMON = ("small", "--config", "small.toml", "--data", "images.npz")


def test_prune_meets_the_budget_and_writes_the_weights(run):
    code, out, _ = run("prune", *COMMON, "--speedup", 1.5, "-o", "pruned.pt", "--json", "p.json")
    assert code == 0
    written = json.loads(Path("p.json").read_text())
    dense = coprune.compile(network(), ACCELERATOR, calibration=[labelled_images()[0]])
    assert written["dense_cycles"] == dense.cycles().total.cycles
    assert written["predicted_cycles"] <= written["dense_cycles"] / 1.5
    model = network()
    model.load_state_dict(torch.load("pruned.pt", weights_only=True))
    program = coprune.compile(model, ACCELERATOR, calibration=[labelled_images()[0]])
    assert program.cycles().total.cycles == written["predicted_cycles"]
    assert f"{written['predicted_cycles']:,} of {written['dense_cycles']:,} cycles" in out
    kept = np.array(written["layers"]["conv2"]["kept"])
    groups = model.conv2.weight.detach().numpy().reshape(2, 8, 2, 8, 3, 3)
    assert np.array_equal(np.count_nonzero(groups, axis=3).max(axis=1), kept)


def test_a_budget_at_a_clock(run):
    code, _, _ = run("prune", *COMMON, "--latency-ms", 0.02, "--mhz", 100, "--json", "p.json")
    assert code == 0
    assert json.loads(Path("p.json").read_text())["budget"] == 2000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "a budget must be one of cycles, speedup and latency_ms (with mhz), not none"),
        (("--cycles", 10), "a budget of 10 cycles cannot be met"),
        (("--speedup", 2, "--importance", "luck"), "importance must be one of"),
        (("--speedup", 2, "--granularity", "net"), "granularity must be 'layer' or 'block'"),
    ],
)
def test_prune_says_what_is_wrong(run, options, message):
    code, _, err = run("prune", *COMMON, *options)
    assert code == 1
    assert message in err
    assert err.count("\n") == 1


def test_sensitivity_writes_table_picture_and_numbers(run):
    code, out, _ = run(
        "sensitivity", *COMMON, "--n", 2, "--n", 4, "--plot", "s.svg", "--json", "s.json"
    )
    assert code == 0
    written = json.loads(Path("s.json").read_text())
    # Every tenth image of the file is one to test with.
    assert written["images"] == 4
    assert written["ns"] == [2, 4]
    assert written["layers"] == ["conv1", "conv2", "shortcut"]
    assert "conv2" in out
    assert f"{(written['dense_cycles'] - written['cycles'][1][0]) / 1000:.1f}" in out
    assert "<svg" in Path("s.svg").read_text()


def test_sensitivity_refuses_more_images_than_there_are(run):
    code, _, err = run("sensitivity", *COMMON, "--images", 5)
    assert code == 1
    assert "--images must be at most 4, not 5" in err


def test_images_of_another_shape_are_refused(run):
    np.savez("other.npz", images=np.zeros((40, 1, 8, 8), np.uint8), labels=np.zeros(40, int))
    code, _, err = run("prune", *COMMON[:3], "--data", "other.npz", "--speedup", 2)
    assert code == 1
    assert "must hold images of 3 x 8 x 8, as the network takes them, not 1 x 8 x 8" in err
