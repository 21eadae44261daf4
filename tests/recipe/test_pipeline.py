import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from coprune.data import DataSet, fashion_mnist
from coprune.recipe import pipeline, read_recipe, run_recipe
from coprune.recipe.recipe import PruneStep

RECIPES = Path(__file__).parents[2] / "recipes"


def sample(_name, *, folder=None):
    """Fashion-MNIST's images that come along."""
    found = fashion_mnist.load_sample()
    return DataSet(found.calibration, found.test, found.calibration, fashion_mnist.normalize)


def test_lenet5_is_trained_as_when_its_weights_were_made(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "load_data_set", sample)
    recipe = read_recipe(RECIPES / "lenet5.toml", assignments=["train.epochs=2"])
    metrics = run_recipe(recipe, folder=tmp_path, show_progress=False)
    log = (tmp_path / "train" / "log.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in log]
    # By the program that made the shipped weights. On another processor sums of float32 may have
    # another order: 1e-5 is a hundred of their roundings, and a hundredth of what a seed changes.
    assert losses == pytest.approx([2.3062775135040283, 2.3015769720077515], abs=1e-5)
    assert metrics["cycles"] == metrics["dense_cycles"]
    assert metrics["kept"] == 1


def test_network_is_pruned_and_quantized_without_training(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "load_data_set", sample)
    recipe = read_recipe(
        RECIPES / "lenet5.toml",
        assignments=["prune.method=pattern", "prune.pattern=8:16", "weights=none.pt"],
    )
    recipe = replace(recipe, train=None, weights=None)
    metrics = run_recipe(recipe, folder=tmp_path, show_progress=False)
    assert not (tmp_path / "train").exists()
    assert 0.4 < metrics["kept"] < 0.6
    weight = torch.load(tmp_path / "weights.pt", weights_only=True)["linear1.weight"]
    assert np.count_nonzero(weight.reshape(120, -1, 16), axis=2).max() == 8
    # 91 % before half of the weights went.
    assert metrics["float_accuracy"] > 0.8
    assert abs(metrics["int8_accuracy"] - metrics["float_accuracy"]) < 0.03


def test_accelerator_may_hold_the_pruned_network_only(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "load_data_set", sample)
    small = tmp_path / "small.toml"
    small.write_text("slot_depth = 256\n")
    recipe = read_recipe(
        RECIPES / "lenet5.toml",
        assignments=[
            f"accelerator={small}",
            "prune.method=pattern",
            "prune.pattern=4:16",
            "train.epochs=1",
        ],
    )
    metrics = run_recipe(recipe, folder=tmp_path / "pruned", show_progress=False)
    assert metrics["cycles"] > 0
    assert metrics["dense_cycles"] is None
    assert metrics["speedup"] is None

    recipe = replace(recipe, prune=PruneStep())
    with pytest.raises(ValueError, match="slots, but slot_depth is 256"):
        run_recipe(recipe, folder=tmp_path / "dense", show_progress=False)
    assert not (tmp_path / "dense" / "train").exists()


@pytest.mark.slow
def test_trained_with_rounding_the_weights_are_those_of_the_program(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "load_data_set", sample)
    recipe = read_recipe(
        RECIPES / "lenet5.toml",
        assignments=[
            "prune.method=pattern",
            "prune.pattern=8:16",
            "train.epochs=1",
            "train.learning_rate=0.001",
            "train.batch=64",
            "qat.epochs=1",
            "qat.learning_rate=0.001",
            "teacher.temperature=4",
        ],
    )
    recipe = replace(recipe, weights=None)
    metrics = run_recipe(recipe, folder=tmp_path, show_progress=False)
    assert len((tmp_path / "qat" / "log.jsonl").read_text().splitlines()) == 1
    assert abs(metrics["int8_accuracy"] - metrics["float_accuracy"]) < 0.03
    assert metrics["int8_accuracy"] > 0.8
    weight = torch.load(tmp_path / "weights.pt", weights_only=True)["linear1.weight"]
    assert np.count_nonzero(weight.reshape(120, -1, 16), axis=2).max() == 8


def test_exported_file_cannot_be_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "load_data_set", sample)
    recipe = read_recipe(RECIPES / "lenet5.toml", assignments=["network=a.onnx", "weights=x.pt"])
    with pytest.raises(
        ValueError, match=r"network must be an nn\.Module to be trained, not the file"
    ):
        run_recipe(replace(recipe, weights=None), folder=tmp_path, show_progress=False)
