import numpy as np
import pytest
import torch
import torch.nn.functional as F

import coprune
from coprune.prune import HardwarePruner
from coprune_sim.cycle_model import MemoryModel
from tests.prune.small_network import ACCELERATOR, calibration, labelled_images, network


def pruner(**options) -> HardwarePruner:
    return HardwarePruner(network(), ACCELERATOR, calibration=[labelled_images()], **options)


def compiled_cycles(model) -> int:
    program = coprune.compile(model, ACCELERATOR, calibration=calibration())
    return program.cycles().total.cycles


def test_a_speedup_is_one_of_the_compiled_program_over_the_dense_one():
    dense = compiled_cycles(network())
    pruned = pruner()
    result = pruned.prune_to_budget(speedup=1.5)
    cycles = compiled_cycles(pruned.model)
    assert result.dense_cycles == dense
    assert result.predicted_cycles == cycles == pruned.count_cycles().total.cycles
    assert result.speedup == dense / cycles >= 1.5
    for name, mask in result.masks.items():
        weight = pruned.model.get_submodule(name).weight
        assert torch.equal(weight != 0, mask), name
        assert torch.equal(weight[mask], network().get_submodule(name).weight[mask])
    assert pruned.masks == result.masks


def test_budgets_can_follow_each_other_and_nothing_pruned_comes_back():
    pruned = pruner()
    first = pruned.prune_to_budget(speedup=1.2)
    second = pruned.prune_to_budget(speedup=1.6)
    assert second.dense_cycles == first.dense_cycles
    assert second.predicted_cycles < first.predicted_cycles
    for name, mask in second.masks.items():
        assert not (mask & ~first.masks[name]).any()


def test_skipped_layers_stay_dense():
    pruned = pruner()
    result = pruned.prune_to_budget(speedup=1.3, skip=["conv1"])
    assert "conv1" not in result.masks
    assert bool((pruned.model.conv1.weight != 0).all())


def test_a_slower_memory_counts():
    slow = MemoryModel(latency_cycles=200)
    assert pruner(memory=slow).count_cycles().total.cycles > pruner().count_cycles().total.cycles


def test_sensitivity_prunes_one_layer_at_a_time():
    model = network()
    images, labels = labelled_images(64)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen = []
    sensitivity = HardwarePruner(
        model, ACCELERATOR, calibration=[labelled_images()]
    ).measure_sensitivity(images, labels, ns=[4, 1], progress=lambda *done: seen.append(done))
    assert sensitivity.layers == ("conv1", "conv2", "shortcut")
    assert sensitivity.ns == (1, 4)
    assert seen == [(number + 1, 6) for number in range(6)]
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name

    expected = network()
    with torch.no_grad():
        magnitudes = expected.conv2.weight.abs()
        order = magnitudes.view(16, 2, 8, 3, 3).argsort(dim=2, descending=True)
        kept = torch.zeros(16, 2, 8, 3, 3, dtype=torch.bool).scatter_(2, order[:, :, :1], True)
        expected.conv2.weight *= kept.view(16, 16, 3, 3)
        logits = expected(images)
    assert sensitivity.loss[1, 0] == pytest.approx(float(F.cross_entropy(logits, labels)))
    assert sensitivity.accuracy[1, 0] == float((logits.argmax(dim=1) == labels).double().mean())
    assert sensitivity.cycles[1, 0] == compiled_cycles(expected)
    assert sensitivity.dense_cycles == compiled_cycles(model)
    per_kilocycle = (sensitivity.loss[1, 0] - sensitivity.dense_loss) / (
        (sensitivity.dense_cycles - sensitivity.cycles[1, 0]) / 1000
    )
    assert sensitivity.loss_per_kilocycle[1, 0] == pytest.approx(per_kilocycle)


@pytest.mark.parametrize(
    ("ns", "count", "message"),
    [
        ([9], 4, r"ns must be in 0\.\.8 \(lanes\), not \[9\]"),
        ([], 4, r"ns must be in 0\.\.8 \(lanes\), not \[\]"),
        ([4], 3, "a label for each of at least one image, not 3"),
    ],
)
def test_sensitivity_refuses_what_it_cannot_measure(ns, count, message):
    images, labels = labelled_images(4)
    with pytest.raises(ValueError, match=message):
        pruner().measure_sensitivity(images, labels[:count], ns=ns)


def test_a_pruner_needs_images():
    with pytest.raises(ValueError, match=r"calibration must hold batches of \(images, labels\)"):
        HardwarePruner(network(), ACCELERATOR, calibration=[])


def test_importances_of_ones_own_decide():
    pruned = pruner()

    def first_channels(model, layers, calibration):
        return {
            name: torch.arange(layer.weight.shape[1], 0, -1.0)
            .view(1, -1, 1, 1)
            .expand_as(layer.weight)
            for name, layer in layers.items()
        }

    result = pruned.prune_to_budget(speedup=1.4, importance=first_channels, granularity="layer")
    for name, pattern in result.pattern.items():
        n = pattern.n
        kept = result.masks[name].unflatten(1, (-1, 8))
        assert bool(kept[:, :, :n].all()), name
        assert not bool(kept[:, :, n:].any()), name
        assert np.isclose(float(result.masks[name].float().mean()), n / 8)


def test_classic_methods_prune_the_network_and_keep_their_masks():
    pruned = pruner()
    masks = pruned.prune_weights(sparsity=0.5)
    assert pruned.masks == masks
    assert not bool(pruned.model.conv2.weight[~masks["conv2"]].any())
    pattern = pruned.prune_pattern({"conv1": "2:8"})
    assert pruned.masks == {**masks, **pattern.masks}
    assert int((pruned.model.conv1.weight != 0).sum()) <= 16 * 9 * 2
    with pytest.raises(ValueError, match=r"M of a pattern must be 8, the accelerator's lanes"):
        pruned.prune_pattern("4:16")
    with pytest.raises(ValueError, match="prune_structure must come before other pruning"):
        pruned.prune_structure(ratio=0.5)


def test_speedups_are_over_the_network_before_channels_were_taken_out():
    dense = compiled_cycles(network())
    pruned = pruner()
    pruned.prune_structure(ratio=0.5)
    assert pruned.dense_cycles == dense
    assert pruned.count_cycles().total.cycles == compiled_cycles(pruned.model) < dense
    result = pruned.prune_to_budget(speedup=2.5)
    assert result.dense_cycles == dense
    assert result.predicted_cycles == compiled_cycles(pruned.model) <= dense / 2.5


class Wide(torch.nn.Module):
    """Layers of which half of the channels do nothing."""

    input_shape = (3, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.conv1 = torch.nn.Conv2d(8, 32, 1)
        self.conv2 = torch.nn.Conv2d(32, 8, 1)
        with torch.no_grad():
            self.conv1.weight[::2] *= 1e-3
            self.conv2.weight[:, ::2] *= 1e-3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(torch.relu(self.conv1(torch.relu(self.stem(x))))).mean(dim=(2, 3))


def test_channels_go_where_that_keeps_more_at_the_same_cycles():
    # Drains of four tiles of outputs take longer than slots: only fewer tiles are faster.
    model = Wide().eval()
    calibration = [labelled_images()]
    dense = HardwarePruner(model, ACCELERATOR, calibration=calibration).dense_cycles
    pruned = HardwarePruner(model, ACCELERATOR, calibration=calibration)
    result = pruned.prune_to_budget(speedup=1.35, channels=True)
    assert result.structure["channels"]["conv1"]["outputs"] == list(range(1, 32, 2))
    assert model.conv1.out_channels == 16
    assert result.kept_importance > 0.5
    program = coprune.compile(model, ACCELERATOR, calibration=[labelled_images()[0]])
    assert program.cycles().total.cycles == result.predicted_cycles <= dense / 1.35
    for name, mask in result.masks.items():
        assert torch.equal(model.get_submodule(name).weight != 0, mask)
