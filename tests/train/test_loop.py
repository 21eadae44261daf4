import copy
import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from coprune.data import cifar10
from coprune.prune import (
    BlockPattern,
    Gradual,
    OneShot,
    Steps,
    StraightThrough,
    pattern_choice,
)
from coprune.train import Distillation, TrainingSettings, evaluate, train

from .networks import assert_same_state, bright_and_dark, brightness_network

SETTINGS = TrainingSettings(
    epochs=4, batch=16, learning_rate=0.1, warmup_steps=3, crop_padding=2, precision="float32"
)
STEPS_PER_EPOCH = 5
CHOOSE = pattern_choice({"conv": BlockPattern.uniform((16, 16, 3, 3), n=4, lanes=16)})
SCHEDULES = [
    OneShot(),
    Steps.of_kept((8, 4), m=16),
    Gradual(epochs=2.5, every=3),
    StraightThrough(epochs=2.5),
]


class InterruptedTeacher(nn.Module):
    """Answers ``batches`` times and then does what a user does who wants no more."""

    def __init__(self, teacher, *, batches, interrupt):
        super().__init__()
        self.teacher = teacher
        self.batches = batches
        self.interrupt = interrupt

    def forward(self, x):
        if self.batches == 0:
            self.interrupt()
        self.batches -= 1
        return self.teacher(x)


def stop_at_once():
    raise KeyboardInterrupt


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def network():
    return brightness_network()


@pytest.fixture
def dataset():
    return bright_and_dark()


def run(model, dataset, folder, *, settings=SETTINGS, **options):
    return train(
        model,
        dataset=dataset,
        normalize=cifar10.normalize,
        settings=settings,
        folder=folder,
        show_progress=False,
        **options,
    )


def read_log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
@pytest.mark.parametrize(
    ("batches", "interrupt"),
    [
        (1, stop_at_once),
        (5, stop_at_once),
        (8, stop_at_once),
        (3, press_ctrl_c),
        (12, press_ctrl_c),
    ],
)
def test_interrupted_run_ends_in_bitwise_the_same_network(
    network, dataset, tmp_path, schedule, batches, interrupt
):
    common = {"choose": CHOOSE, "schedule": schedule, "validation": dataset}
    whole, parts = copy.deepcopy(network), copy.deepcopy(network)
    run(whole, dataset, tmp_path / "whole", teacher=network, **common)

    teacher = InterruptedTeacher(network, batches=batches, interrupt=interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(parts, dataset, tmp_path / "parts", teacher=teacher, checkpoint_minutes=0, **common)
    # Ctrl-C lets the step end in which it came.
    done = batches + (interrupt is press_ctrl_c)
    checkpoint = torch.load(tmp_path / "parts" / "checkpoint.pt", weights_only=True)
    assert STEPS_PER_EPOCH * checkpoint["epoch"] + checkpoint["step"] == done
    parts = copy.deepcopy(network)
    run(parts, dataset, tmp_path / "parts", teacher=network, **common)

    assert_same_state(parts, whole)
    assert read_log(tmp_path / "parts") == read_log(tmp_path / "whole")


def test_ctrl_c_in_the_last_step_of_an_epoch_ends_after_it(network, dataset, tmp_path):
    whole = copy.deepcopy(network)
    run(whole, dataset, tmp_path / "whole", teacher=network, choose=CHOOSE)
    teacher = InterruptedTeacher(network, batches=STEPS_PER_EPOCH - 1, interrupt=press_ctrl_c)
    parts = copy.deepcopy(network)
    with pytest.raises(KeyboardInterrupt):
        run(parts, dataset, tmp_path / "parts", teacher=teacher, choose=CHOOSE)
    assert len(read_log(tmp_path / "parts")) == 1
    parts = copy.deepcopy(network)
    run(parts, dataset, tmp_path / "parts", teacher=network, choose=CHOOSE)
    assert_same_state(parts, whole)


def test_handlers_of_signals_are_as_before(network, dataset, tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run(network, dataset, tmp_path, settings=replace(SETTINGS, epochs=1))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_finished_run_is_not_trained_again(network, dataset, tmp_path):
    first, second = copy.deepcopy(network), copy.deepcopy(network)
    masks = run(first, dataset, tmp_path, choose=CHOOSE)
    again = run(second, dataset, tmp_path, choose=CHOOSE)
    assert_same_state(second, first)
    assert torch.equal(again["conv"], masks["conv"])


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_pruned_weights_end_as_exact_zeros(network, dataset, tmp_path, schedule, optimizer):
    settings = replace(SETTINGS, optimizer=optimizer, learning_rate=0.01)
    masks = run(network, dataset, tmp_path, settings=settings, choose=CHOOSE, schedule=schedule)
    assert not network.training
    assert list(masks) == ["conv"]
    assert np.array_equal(masks["conv"].sum(dim=1).numpy(), np.full((16, 3, 3), 4))
    assert not network.conv.weight[~masks["conv"]].any()
    assert torch.equal(CHOOSE(network, 1.0)["conv"], masks["conv"])


def test_training_learns_and_logs_each_epoch(network, dataset, tmp_path):
    histories = []
    settings = replace(SETTINGS, epochs=6)
    run(
        network,
        dataset,
        tmp_path,
        settings=settings,
        choose=CHOOSE,
        schedule=Steps.of_kept((8, 4), m=16),
        teacher=copy.deepcopy(network),
        distillation=Distillation(soft_share=0.0),
        validation=dataset,
        report=lambda history: histories.append(len(history)),
    )
    lines = read_log(tmp_path)
    assert [line["epoch"] for line in lines] == histories == [1, 2, 3, 4, 5, 6]
    assert [line["kept"] for line in lines] == [0.5] + 5 * [0.25]
    assert lines[-1]["loss"] < lines[0]["loss"]
    accuracy = evaluate(network, dataset=dataset, normalize=cifar10.normalize)
    assert lines[-1]["validation_accuracy"] == accuracy > 0.9
    assert lines[-1]["train_accuracy"] > 0.9


def test_straight_through_training_is_validated_with_pruned_weights(
    network, dataset, tmp_path, monkeypatch
):
    kept = []

    def count(model, **_):
        assert not model.training
        kept.append(int(model.conv.weight.count_nonzero()))
        return 0.5

    monkeypatch.setattr("coprune.train.loop.evaluate", count)
    options = {"choose": CHOOSE, "schedule": StraightThrough(epochs=3), "validation": dataset}
    run(network, dataset, tmp_path, **options)
    assert kept == SETTINGS.epochs * [4 * 16 * 9]
    assert read_log(tmp_path)[0]["validation_accuracy"] == 0.5


def test_random_numbers_of_the_caller_are_left_alone(network, dataset, tmp_path):
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    run(network, dataset, tmp_path, teacher=copy.deepcopy(network))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"settings": replace(SETTINGS, epochs=5)}, "settings"),
        ({"schedule": Gradual(epochs=1)}, "schedule"),
        ({"distillation": Distillation(temperature=2.0)}, "distillation"),
        ({"dataset": bright_and_dark(80)}, "images"),
        ({"origin": {"pattern": "8:16"}}, "origin"),
    ],
)
def test_checkpoint_of_another_recipe_is_refused(network, dataset, tmp_path, change, name):
    options = {"dataset": dataset, "folder": tmp_path, "choose": CHOOSE, "teacher": network}
    run(copy.deepcopy(network), **options)
    with pytest.raises(ValueError, match=f"made by another recipe, with {name} "):
        run(copy.deepcopy(network), **{**options, **change})


def test_damaged_checkpoint_is_refused(network, dataset, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"half of it")
    with pytest.raises(ValueError, match=r"checkpoint\.pt is no checkpoint, or is damaged"):
        run(network, dataset, tmp_path)


def test_label_smoothing_changes_the_loss(network, dataset, tmp_path):
    losses = set()
    for smoothing in (0.0, 0.1):
        settings = replace(SETTINGS, epochs=1, label_smoothing=smoothing)
        run(copy.deepcopy(network), dataset, tmp_path / str(smoothing), settings=settings)
        losses.add(read_log(tmp_path / str(smoothing))[0]["loss"])
    assert len(losses) == 2


def test_resumed_run_keeps_the_precision_that_was_chosen(network, dataset, tmp_path, monkeypatch):
    settings = replace(SETTINGS, epochs=2, precision="auto")
    answers = iter(["bfloat16"])
    monkeypatch.setattr(
        "coprune.train.run.choose_precision", lambda *_, **__: (next(answers), {"bfloat16": 1.0})
    )
    teacher = InterruptedTeacher(network, batches=7, interrupt=press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        run(copy.deepcopy(network), dataset, tmp_path, settings=settings, teacher=teacher)
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert (checkpoint["epoch"], checkpoint["step"]) == (1, 3)
    parts, whole = copy.deepcopy(network), copy.deepcopy(network)
    run(parts, dataset, tmp_path, settings=settings, teacher=network)
    assert [line["precision"] for line in read_log(tmp_path)] == ["bfloat16", "bfloat16"]
    answers = iter(["bfloat16"])
    run(whole, dataset, tmp_path / "whole", settings=settings, teacher=network)
    assert_same_state(parts, whole)


def test_features_are_matched_and_projections_resume(network, dataset, tmp_path):
    teacher = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(512, 2))
    options = {
        "distillation": Distillation(features=(("stem", "0"), ("conv", "0")), feature_weight=0.5),
        "teacher": teacher,
    }
    whole, parts = copy.deepcopy(network), copy.deepcopy(network)
    run(whole, dataset, tmp_path / "whole", **options)
    other = copy.deepcopy(network)
    run(other, dataset, tmp_path / "other", teacher=teacher)
    assert not torch.equal(other.stem.weight, whole.stem.weight)

    interrupted = InterruptedTeacher(teacher, batches=8, interrupt=press_ctrl_c)
    pairs = (("stem", "teacher.0"), ("conv", "teacher.0"))
    options["distillation"] = replace(options["distillation"], features=pairs)
    with pytest.raises(KeyboardInterrupt):
        run(parts, dataset, tmp_path / "parts", **{**options, "teacher": interrupted})
    interrupted.batches = -1
    parts = copy.deepcopy(network)
    run(parts, dataset, tmp_path / "parts", **{**options, "teacher": interrupted})
    assert_same_state(parts, whole)


def test_features_do_not_go_with_a_cache_of_logits(network, dataset, tmp_path):
    with pytest.raises(ValueError, match="teacher_cache keeps logits only"):
        run(
            network,
            dataset,
            tmp_path,
            teacher=network,
            teacher_cache=tmp_path,
            distillation=Distillation(features=(("conv", "conv"),)),
        )
