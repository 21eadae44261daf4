import numpy as np
import pytest
import torch
from torch import nn

from coprune import zoo
from coprune.prune import apply_masks, prunable_layers, prune_pattern
from coprune.prune.block_pattern import BlockPattern


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


def images(count: int = 4) -> torch.Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(("pattern", "n", "m"), [("4:16", 4, 16), ("1:8", 1, 8), ("8:8", 8, 8)])
def test_masks_keep_the_largest_of_each_group(pattern, n, m):
    dense = small_network()
    masks = prune_pattern(small_network(), pattern).masks
    assert list(masks) == ["1", "5"]
    for name, mask in masks.items():
        weight = dense.get_submodule(name).weight.detach().numpy()
        assert mask.dtype == torch.bool
        assert np.array_equal(mask.numpy(), naive_mask(weight, n=n, m=m)), name


def test_stem_depthwise_and_classifier_stay_dense():
    assert list(prunable_layers(small_network())) == ["1", "5"]
    assert list(prunable_layers(small_network(), skip=["1"])) == ["5"]


def test_pruning_zeroes_what_its_masks_do_not_keep_and_nothing_else():
    model, untouched = small_network(), small_network()
    masks = prune_pattern(model).masks
    for (name, pruned), (_, dense) in zip(
        model.named_modules(), untouched.named_modules(), strict=True
    ):
        if not hasattr(pruned, "weight"):
            continue
        mask = masks.get(name, torch.ones_like(dense.weight, dtype=torch.bool))
        assert torch.equal(pruned.weight, dense.weight * mask), name
        assert torch.equal(pruned.bias, dense.bias), name


def test_every_layer_may_have_a_pattern_of_its_own():
    kept = np.array([[1, 2]] * 2).reshape(2, 2, 1, 1)
    patterns = {"1": "2:16", "5": BlockPattern(kept, lanes=16)}
    result = prune_pattern(small_network(), patterns)
    assert result.masks["1"].sum(dim=1).unique().tolist() == [2]
    assert result.masks["5"][:, :16].sum(dim=1).tolist() == [1] * 24
    assert result.masks["5"][:, 16:].sum(dim=1).tolist() == [2] * 24
    assert {name: str(pattern) for name, pattern in result.patterns.items()} == {
        "1": "2:16",
        "5": "1.50:16",
    }
    assert list(prune_pattern(small_network(), {"5": "1:8"}).masks) == ["5"]


def test_importance_decides_what_is_kept():
    def last_channels(model, layers, calibration):
        return {
            name: torch.arange(layer.weight.shape[1], dtype=torch.float32)
            .view(1, -1, *[1] * (layer.weight.dim() - 2))
            .expand_as(layer.weight)
            for name, layer in layers.items()
        }

    result = prune_pattern(small_network(), {"1": "3:16"}, importance=last_channels)
    assert result.masks["1"][0, :, 0, 0].nonzero().flatten().tolist() == [13, 14, 15]
    assert result.importance == {"1": 20 * 9 * 120.0}
    assert result.kept_importance == {"1": 20 * 9 * 42.0}
    assert result.kept_without_permutation == result.kept_importance
    assert result.kept_share == 0.35
    assert result.permutation_gain == 0


def test_permutation_keeps_more_and_the_masks_are_those_of_the_new_order():
    model = zoo.resnet20("dense")
    names = ["layer3.1.conv1", "layer3.1.conv2", "layer3.2.conv1"]
    dense = {name: model.get_submodule(name).weight.detach().clone() for name in names}
    result = prune_pattern(
        model,
        dict.fromkeys(names, "2:16"),
        permute=True,
        example=torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)),
    )
    for name in names:
        weight = model.get_submodule(name).weight.detach()
        assert torch.equal(weight != 0, result.masks[name]), name
        assert result.masks[name].unflatten(1, (-1, 16)).sum(dim=2).unique().tolist() == [2]
        assert result.kept_importance[name] == pytest.approx(weight.abs().sum().item(), rel=1e-5)
        assert result.importance[name] == pytest.approx(dense[name].abs().sum().item(), rel=1e-5)
        assert result.kept_importance[name] > result.kept_without_permutation[name], name
    assert 0.005 < result.permutation_gain < 0.02


def test_permutation_needs_an_example():
    with pytest.raises(ValueError, match=r"pass example or calibration"):
        prune_pattern(small_network(), permute=True)


def test_permutation_refuses_patterns_that_differ_from_block_to_block():
    pattern = BlockPattern(np.array([[1, 2]] * 2).reshape(2, 2, 1, 1), lanes=16)
    with pytest.raises(ValueError, match=r"'5' has 1\.50:16: prune it without permute"):
        prune_pattern(small_network(), {"5": pattern}, permute=True, example=images())


def test_skipped_layers_stay_dense():
    model = small_network()
    assert list(prune_pattern(model, skip=["5"]).masks) == ["1"]
    assert torch.equal(model[5].weight, small_network()[5].weight)


def test_skipping_an_unknown_layer_is_refused():
    with pytest.raises(ValueError, match=r"skip must name prunable layers, not \['stem'\]"):
        prune_pattern(small_network(), skip=["stem"])


def test_skipping_and_naming_layers_is_refused():
    with pytest.raises(ValueError, match=r"leave those layers out of pattern"):
        prune_pattern(small_network(), {"1": "4:16"}, skip=["5"])


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("0:16", r"N must be at least 1 in a pattern N:M, not '0:16'"),
        ("17:16", r"N must be in 0\.\.M"),
        ("4", r"must be N:M"),
        ({"6": "4:16"}, r"prunable in groups of 16, not '6': these are \['1', '5'\]"),
        ({"1": BlockPattern(np.ones((1, 1, 3, 3), int), lanes=16)}, r"pattern is for"),
    ],
)
def test_patterns_that_do_not_fit_are_refused(pattern, message):
    model = small_network()
    with pytest.raises(ValueError, match=message):
        prune_pattern(model, pattern)
    assert torch.equal(model[1].weight, small_network()[1].weight)


def test_masks_can_be_applied_again():
    model = small_network()
    masks = prune_pattern(model, "2:16").masks
    nn.init.ones_(model[1].weight)
    apply_masks(model, masks=masks)
    assert torch.equal(model[1].weight, masks["1"].float())
