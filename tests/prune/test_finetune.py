import copy
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coprune.data import LabelledImages
from coprune.prune import distillation_loss, nm_mask
from coprune.prune.finetune import (
    FinetuneRecipe,
    crop_and_flip,
    evaluate,
    finetune,
    save_state_dict,
)

RECIPE = FinetuneRecipe(
    epochs=4, kept_by_epoch=(8, 4), batch=16, learning_rate=0.1, warmup_steps=3, crop_padding=2
)


class BrightnessNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.conv = nn.Conv2d(16, 16, 3, padding=1)
        self.dropout = nn.Dropout(0.1)
        self.linear = nn.Linear(16, 2)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(self.conv(x)).mean(dim=(2, 3))
        return self.linear(self.dropout(x))


class InterruptedTeacher(nn.Module):
    """Answers ``batches`` times and then stops the run, as a user would."""

    def __init__(self, teacher, *, batches):
        super().__init__()
        self.teacher = teacher
        self.batches = batches

    def forward(self, x):
        if self.batches == 0:
            raise KeyboardInterrupt
        self.batches -= 1
        return self.teacher(x)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def network():
    torch.manual_seed(3)
    return BrightnessNetwork()


@pytest.fixture
def dataset():
    random = np.random.default_rng(5)
    labels = random.integers(0, 2, 72, dtype=np.uint8)
    images = random.integers(0, 128, (72, 3, 8, 8), dtype=np.uint8)
    return LabelledImages(images + 127 * labels.reshape(-1, 1, 1, 1), labels)


@pytest.mark.parametrize("batches", [3, 5, 12])
def test_interrupted_run_ends_in_bitwise_the_same_network(network, dataset, tmp_path, batches):
    whole, parts = copy.deepcopy(network), copy.deepcopy(network)
    common = {"dataset": dataset, "recipe": RECIPE, "validation": dataset}
    finetune(whole, teacher=network, folder=tmp_path / "whole", **common)

    teacher = InterruptedTeacher(network, batches=batches)
    with pytest.raises(KeyboardInterrupt):
        finetune(parts, teacher=teacher, folder=tmp_path / "parts", **common)
    parts = copy.deepcopy(network)
    finetune(parts, teacher=network, folder=tmp_path / "parts", **common)

    resumed = parts.state_dict()
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed[name]), name
    logs = [(tmp_path / run / "log.jsonl").read_text() for run in ("whole", "parts")]
    assert logs[0] == logs[1]


def test_finished_run_is_not_trained_again(network, dataset, tmp_path):
    first, second = copy.deepcopy(network), copy.deepcopy(network)
    finetune(first, teacher=network, dataset=dataset, recipe=RECIPE, folder=tmp_path)
    finetune(second, teacher=network, dataset=dataset, recipe=RECIPE, folder=tmp_path)
    assert torch.equal(first.conv.weight, second.conv.weight)


def test_pruned_weights_end_as_exact_zeros_in_the_last_pattern(network, dataset, tmp_path):
    masks = finetune(
        network,
        teacher=copy.deepcopy(network),
        dataset=dataset,
        recipe=RECIPE,
        folder=tmp_path,
    )
    assert list(masks) == ["conv"]
    assert np.array_equal(masks["conv"].sum(dim=1).numpy(), np.full((16, 3, 3), 4))
    assert not network.conv.weight[~masks["conv"]].any()
    assert torch.equal(nm_mask(network.conv.weight), masks["conv"])


def test_training_learns_and_logs_each_epoch(network, dataset, tmp_path):
    finetune(
        network,
        teacher=copy.deepcopy(network),
        dataset=dataset,
        recipe=FinetuneRecipe(
            epochs=6, kept_by_epoch=(8, 4), batch=16, warmup_steps=3, soft_share=0.0
        ),
        folder=tmp_path,
        validation=dataset,
    )
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["kept"] for line in lines] == [8, 4, 4, 4, 4, 4]
    assert lines[-1]["loss"] < lines[0]["loss"]
    accuracy = evaluate(network, images=dataset.images, labels=dataset.labels)
    assert lines[-1]["validation_accuracy"] == accuracy > 0.9


def test_random_numbers_of_the_caller_are_left_alone(network, dataset, tmp_path):
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    finetune(
        network,
        teacher=copy.deepcopy(network),
        dataset=dataset,
        recipe=RECIPE,
        folder=tmp_path,
    )
    assert torch.equal(torch.rand(1), expected)


def test_checkpoint_of_another_recipe_is_refused(network, dataset, tmp_path):
    teacher = copy.deepcopy(network)
    finetune(network, teacher=teacher, dataset=dataset, recipe=RECIPE, folder=tmp_path)
    other = FinetuneRecipe(epochs=5)
    with pytest.raises(ValueError, match="made by another recipe"):
        finetune(network, teacher=teacher, dataset=dataset, recipe=other, folder=tmp_path)


def test_recipe_without_an_epoch_for_each_n_is_refused():
    with pytest.raises(ValueError, match="epochs must be at least 3"):
        FinetuneRecipe(epochs=2, kept_by_epoch=(8, 6, 4))


def test_recipe_with_n_outside_of_the_group_is_refused():
    with pytest.raises(ValueError, match=r"kept_by_epoch must be in 1\.\.16 \(group\), not \(20,"):
        FinetuneRecipe(kept_by_epoch=(20, 4))


def test_learning_rate_rises_and_falls_to_zero():
    recipe = FinetuneRecipe(learning_rate=0.5, warmup_steps=10)
    rates = [recipe.learning_rate_at(step, steps=100) for step in range(101)]
    assert rates[0] == 0.05
    assert max(rates) == rates[9] == rates[10] == 0.5
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == 0.0


def test_crops_and_flips_are_windows_of_the_padded_image():
    torch.manual_seed(2)
    images = (
        torch.arange(1, 1 + 2 * 5 * 6, dtype=torch.uint8).reshape(1, 2, 5, 6).repeat(64, 1, 1, 1)
    )
    padded = F.pad(images[0], (2, 2, 2, 2))
    windows = {}
    for y in range(5):
        for x in range(5):
            window = padded[:, y : y + 5, x : x + 6]
            windows[window.numpy().tobytes()] = (y, x, False)
            windows[window.flip(-1).contiguous().numpy().tobytes()] = (y, x, True)
    seen = [windows[image.numpy().tobytes()] for image in crop_and_flip(images, padding=2)]
    assert {y for y, _, _ in seen} == {x for _, x, _ in seen} == {0, 1, 2, 3, 4}
    assert {flipped for _, _, flipped in seen} == {False, True}


def test_distillation_loss_follows_its_formula():
    random = np.random.default_rng(9)
    logits, teacher_logits = random.normal(size=(2, 4, 10)).astype(np.float32) * 3
    labels = np.array([3, 1, 4, 1])

    def log_softmax(values):
        return values - np.log(np.exp(values).sum(axis=1, keepdims=True))

    student, teacher = log_softmax(logits / 4), log_softmax(teacher_logits / 4)
    soft = 16 * (np.exp(teacher) * (teacher - student)).sum(axis=1).mean()
    hard = -log_softmax(logits)[np.arange(4), labels].mean()
    loss = distillation_loss(
        torch.from_numpy(logits),
        teacher_logits=torch.from_numpy(teacher_logits),
        labels=torch.from_numpy(labels),
        temperature=4.0,
        soft_share=0.9,
    )
    # float32 logarithms and sums against float64: some tens of units of rounding.
    assert loss.item() == pytest.approx(0.9 * soft + 0.1 * hard, rel=1e-5)


@pytest.mark.parametrize("setting", [{"temperature": 0.0}, {"soft_share": 1.5}])
def test_distillation_loss_refuses_impossible_settings(setting):
    name, value = next(iter(setting.items()))
    logits = torch.zeros(1, 10)
    with pytest.raises(ValueError, match=rf"{name} must be .*, not {value}"):
        distillation_loss(
            logits, teacher_logits=logits, labels=torch.zeros(1, dtype=torch.long), **setting
        )


def test_saved_weights_are_contiguous_and_load_without_pickled_code(network, tmp_path):
    network.to(memory_format=torch.channels_last)
    save_state_dict(network, path=tmp_path / "weights.pt")
    state = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert [file.name for file in tmp_path.iterdir()] == ["weights.pt"]
    for name, value in network.state_dict().items():
        assert state[name].is_contiguous()
        assert torch.equal(state[name], value), name
