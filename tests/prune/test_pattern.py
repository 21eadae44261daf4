import numpy as np
import pytest
import torch
from torch import nn

from coprune.prune import (
    MaskedTraining,
    apply_masks,
    nm_mask,
    prunable_layers,
    prune_nm,
    prune_unstructured,
)


def naive_mask(weight: np.ndarray, *, n: int, m: int) -> np.ndarray:
    mask = np.zeros(weight.shape, bool)
    for out, *tap in np.ndindex(weight.shape[0], *weight.shape[2:]):
        for start in range(0, weight.shape[1], m):
            channels = range(start, min(start + m, weight.shape[1]))
            largest = sorted(channels, key=lambda channel: -abs(weight[out, channel, *tap]))
            for channel in largest[:n]:
                mask[out, channel, *tap] = True
    return mask


def small_network() -> nn.Sequential:
    torch.manual_seed(7)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.Conv2d(16, 20, 3),
        nn.Conv2d(20, 20, 3, groups=20),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(20, 24),
        nn.Linear(24, 10),
    )


@pytest.mark.parametrize("shape", [(5, 32, 3, 3), (4, 16, 1, 1), (3, 20, 3, 1), (6, 48), (2, 3)])
@pytest.mark.parametrize(("n", "m"), [(4, 16), (1, 16), (16, 16), (2, 4)])
def test_mask_keeps_the_largest_of_each_group(shape, n, m):
    weight = torch.from_numpy(np.random.default_rng(1).normal(size=shape).astype(np.float32))
    mask = nm_mask(weight, n=n, m=m)
    assert mask.dtype == torch.bool
    assert np.array_equal(mask.numpy(), naive_mask(weight.numpy(), n=n, m=m))


def test_mask_keeps_the_lower_channel_of_equal_magnitudes():
    weight = torch.tensor([[1.0, -1.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.0]])
    mask = nm_mask(weight, n=2, m=4)
    assert mask.tolist() == [[True, True, False, False, True, True, False, False]]


def test_mask_keeps_n_of_a_partial_last_group():
    weight = torch.ones(8, 21, 3, 3)
    kept = nm_mask(weight, n=4, m=16).sum(dim=1)
    assert np.array_equal(kept.numpy(), np.full((8, 3, 3), 8))
    kept = nm_mask(weight[:, :18], n=4, m=16).sum(dim=1)
    assert np.array_equal(kept.numpy(), np.full((8, 3, 3), 6))


@pytest.mark.parametrize("n", [0, 17])
def test_mask_refuses_n_outside_of_the_group(n):
    with pytest.raises(ValueError, match=rf"n must be in 1\.\.16 \(m\), not {n}"):
        nm_mask(torch.ones(2, 16), n=n, m=16)


def test_mask_refuses_a_vector():
    with pytest.raises(ValueError, match=r"input channel axis, not shape \[16\]"):
        nm_mask(torch.ones(16))


def test_stem_depthwise_and_classifier_stay_dense():
    assert list(prunable_layers(small_network())) == ["1", "5"]


def test_pruning_zeroes_what_its_masks_do_not_keep_and_nothing_else():
    model, untouched = small_network(), small_network()
    masks = prune_nm(model)
    for (name, pruned), (_, dense) in zip(
        model.named_modules(), untouched.named_modules(), strict=True
    ):
        if not hasattr(pruned, "weight"):
            continue
        mask = masks.get(name, torch.ones_like(dense.weight, dtype=torch.bool))
        assert torch.equal(pruned.weight, dense.weight * mask), name
        assert torch.equal(pruned.bias, dense.bias), name


def test_skipped_layers_stay_dense():
    model = small_network()
    assert list(prune_nm(model, skip=["5"])) == ["1"]
    assert torch.equal(model[5].weight, small_network()[5].weight)


def test_skipping_an_unknown_layer_is_refused():
    with pytest.raises(ValueError, match=r"skip must name prunable layers, not \['stem'\]"):
        prune_nm(small_network(), skip=["stem"])


def test_masks_stay_through_training_and_end_with_removal():
    model = small_network()
    masks = prune_nm(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    masked = MaskedTraining(model, masks=masks, optimizer=optimizer)

    def step():
        optimizer.zero_grad()
        model(torch.randn(4, 3, 8, 8)).square().mean().backward()
        optimizer.step()

    before = model[1].weight.clone()
    for _ in range(3):
        step()
        for name, mask in masks.items():
            assert not model.get_submodule(name).weight[~mask].any(), name
    assert not torch.equal(model[1].weight, before)

    masked.remove()
    step()
    assert model[1].weight[~masks["1"]].any()


def test_masks_can_be_applied_again():
    model = small_network()
    masks = prune_nm(model, n=2)
    nn.init.ones_(model[1].weight)
    apply_masks(model, masks=masks)
    assert torch.equal(model[1].weight, masks["1"].float())


@pytest.mark.parametrize("sparsity", [0, 0.3, 0.75])
def test_unstructured_pruning_zeroes_the_smallest_of_every_layer(sparsity):
    model, untouched = small_network(), small_network()
    masks = prune_unstructured(model, sparsity=sparsity, skip=["5"])
    assert list(masks) == ["1"]
    dense, mask = untouched[1].weight, masks["1"]
    assert torch.equal(model[1].weight, dense * mask)
    assert int((~mask).sum()) == int(sparsity * dense.numel())
    if sparsity:
        assert dense[~mask].abs().max() <= dense[mask].abs().min()
    assert torch.equal(model[5].weight, untouched[5].weight)


def test_unstructured_pruning_refuses_to_prune_all():
    with pytest.raises(ValueError, match=r"sparsity must be from 0 to below 1, not 1\.0"):
        prune_unstructured(small_network(), sparsity=1.0)
