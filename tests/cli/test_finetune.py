"""`coprune finetune`, of a network and a data set of the user's own."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

import coprune
from coprune.cli import main
from coprune.data import load_data_set

NETWORK = """
import os, signal
import torch
from torch import nn

class Network(nn.Module):
    input_shape = (3, 8, 8)

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.conv = nn.Conv2d(16, 16, 3, padding=1)
        self.dropout = nn.Dropout(0.2)
        self.linear = nn.Linear(16, 2)
        self.killed_at = int(os.environ.get("KILLED_AT", 0))
        self.batches = 0

    def forward(self, x):
        if self.training:
            self.batches += 1
            if self.batches == self.killed_at:
                os.kill(os.getpid(), signal.SIGKILL)
        x = self.conv(self.norm(self.stem(x)).relu()).relu()
        return self.linear(self.dropout(x.mean((2, 3))))
"""
RECIPE = """
name = "mine"
network = "own_network:Network"
dataset = "images.npz"
seed = 3

[prune]
method = "pattern"
pattern = "4:16"
schedule = { kind = "sr_ste", epochs = 1.5 }

[teacher]
temperature = 2.0

[train]
epochs = 2
batch = 16
learning_rate = 0.05
crop_padding = 1
precision = "float32"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    random = np.random.default_rng(5)
    labels = random.integers(0, 2, 80)
    images = random.integers(0, 128, (80, 3, 8, 8)) + 127 * labels.reshape(-1, 1, 1, 1)
    np.savez(tmp_path / "images.npz", images=images.astype(np.uint8), labels=labels)
    (tmp_path / "own_network.py").write_text(NETWORK)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    # Another test's module of that name is another file.
    monkeypatch.delitem(sys.modules, "own_network", raising=False)
    return tmp_path


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["finetune", *arguments])
    return ended.value.code


def test_killed_run_ends_in_bitwise_the_same_weights(folder, capsys):
    """Killed by SIGKILL in the eighth of ten steps, the third of the second epoch."""
    command = [sys.executable, "-c", "from coprune.cli import main; main()", "finetune"]
    ended = subprocess.run(
        [*command, "recipe.toml", "--folder", "parts", "--checkpoint-minutes", "0"],
        env={**os.environ, "KILLED_AT": "8", "OMP_NUM_THREADS": "1"},
        capture_output=True,
    )
    assert ended.returncode == -signal.SIGKILL
    checkpoint = torch.load(folder / "parts" / "train" / "checkpoint.pt", weights_only=True)
    assert (checkpoint["epoch"], checkpoint["step"]) == (1, 2)
    assert not (folder / "parts" / "weights.pt").exists()

    assert run("recipe.toml", "--folder", "parts") == 0
    assert run("recipe.toml", "--json", "metrics.json", "--teacher-cache", "cache") == 0
    parts, whole = (
        torch.load(folder / name / "weights.pt", weights_only=True)
        for name in ("parts", "build/mine")
    )
    assert parts.keys() == whole.keys()
    for name, value in whole.items():
        assert torch.equal(parts[name], value), name
    assert (folder / "parts" / "metrics.json").read_text() == (
        folder / "build" / "mine" / "metrics.json"
    ).read_text()
    check_results(folder, capsys.readouterr().out)
    assert run("recipe.toml", "--folder", "parts", "--set", "prune.pattern=8:16") == 1
    assert "checkpoint.pt was made by another recipe, with origin " in capsys.readouterr().err


def check_results(folder, printed):
    """What a run leaves behind."""
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics == json.loads((folder / "build" / "mine" / "metrics.json").read_text())
    assert metrics["test_images"] == 8
    assert metrics["kept"] == 0.25
    program = coprune.load(folder / "build" / "mine" / "network.coprune")
    assert metrics["cycles"] == program.cycles().total.cycles < metrics["dense_cycles"]
    assert metrics["speedup"] == metrics["dense_cycles"] / metrics["cycles"]
    data = load_data_set("images.npz")
    answers = program.simulate(data.normalize(torch.as_tensor(data.test.images))).argmax(axis=1)
    assert metrics["int8_accuracy"] == np.mean(answers == data.test.labels) > 0.5
    assert f"{metrics['cycles']:,} cycles" in printed
    assert (folder / "build" / "mine" / "train" / "training.svg").read_text().startswith("<?xml")
    assert len(list((folder / "cache").iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.toml"], "no such recipe: no.toml"),
        (["recipe.toml", "--set", "train.epoch=3"], "train.epoch is no key of a recipe; known"),
        (["recipe.toml", "--set", "epochs"], "must be KEY=VALUE, as train.epochs=3, not 'epochs'"),
        (["recipe.toml", "--epochs", "1"], "needs at least 1.5 epochs, but train.epochs is 1"),
        (["recipe.toml", "--device", "tpu"], "device must be auto, cpu, cuda or cuda:N"),
        (["recipe.toml", "--set", "dataset=none.npz"], "no such file of images: none.npz"),
        (["recipe.toml", "--set", "prune.pattern=4:8"], "M of prune.pattern must be 16, the lanes"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(folder, capsys, arguments, message):
    assert run(*arguments) == 1
    assert message in capsys.readouterr().err
    assert not list(folder.rglob("checkpoint.pt"))
