import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coprune.prune import IMPORTANCES, score_weights


class SmallNetwork(nn.Module):
    """A batch norm, dropout and a grouped convolution: what evaluation must leave alone."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 6, 1, groups=2)
        self.dropout = nn.Dropout(0.5)
        self.linear = nn.Linear(6, 4)

    def forward(self, x):
        x = self.grouped(F.relu(self.norm(self.stem(x))))
        return self.linear(self.dropout(x.mean(dim=(2, 3))))


@pytest.fixture
def network():
    torch.manual_seed(3)
    network = SmallNetwork()
    nn.init.uniform_(network.norm.running_mean)
    nn.init.uniform_(network.norm.weight, -1, 1)
    return network


@pytest.fixture
def calibration():
    generator = torch.Generator().manual_seed(5)
    return [
        (torch.randn(count, 3, 5, 5, generator=generator), torch.arange(count) % 4)
        for count in (3, 4)
    ]


def layers_of(network: nn.Module) -> dict[str, nn.Module]:
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


def linear(*rows: list[float]) -> nn.Linear:
    layer = nn.Linear(len(rows[0]), len(rows), bias=False)
    layer.weight.data = torch.tensor(rows)
    return layer


def score(model: nn.Module, **options) -> torch.Tensor:
    """Scores of a network that is one layer."""
    return score_weights(nn.Sequential(model), {"0": model}, **options)["0"]


def test_magnitude_is_the_absolute_value():
    assert score(linear([0.5, -2.0], [0.0, 1.0])).tolist() == [[0.5, 2.0], [0.0, 1.0]]


def test_energy_is_the_share_of_the_layers_squares_and_larger_for_more_weights():
    # 4 + 1 + 0 + 4 + 1 = 10, of 16 weights, whose fourth root is 2.
    weights = [-2.0, 1.0, 0.0, 2.0, -1.0] + 11 * [0.0]
    scores = score(linear(weights), importance="energy").flatten().tolist()
    assert scores == pytest.approx([0.8, 0.2, 0, 0.8, 0.2] + 11 * [0])
    assert not score(linear([0.0, 0.0]), importance="energy").any()


def test_lamp_divides_by_all_weights_that_are_not_smaller():
    # Squares 4, 1, 0, 4, 1 in the order of size: 4/4, 4/8, 1/9, 1/10, 0.
    scores = score(linear([-2.0, 1.0, 0.0, 2.0, -1.0]), importance="lamp")
    assert torch.allclose(scores, torch.tensor([[1.0, 1 / 9, 0.0, 0.5, 0.1]]))
    assert not score(linear([0.0, 0.0]), importance="lamp").any()


def test_variance_is_the_squared_distance_from_the_filters_mean_of_kept_weights():
    # Means 2 and 1: zeros are no part of them, and score 0.
    scores = score(linear([1.0, 3.0, 0.0, 2.0], [-1.0, 0.0, 3.0, 0.0]), importance="variance")
    assert scores.tolist() == [[1.0, 1.0, 0.0, 0.0], [4.0, 0.0, 4.0, 0.0]]


class Sum(nn.Module):
    """Logits [N, 2] of images [N, 2, 1, 1]; the loss is their weighted sum."""

    def __init__(self):
        super().__init__()
        self.linear = linear([1.0, 2.0], [-3.0, 0.0])

    def forward(self, x):
        return self.linear(x.flatten(1))


PIXELS = torch.tensor([[1.0, 2.0], [3.0, -4.0]])[..., None, None]


def weighted_sum(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (logits * labels).sum(dim=1).mean()


def test_taylor_is_the_mean_over_batches_of_the_gradient_times_the_weight():
    model = Sum()
    # The gradient of a batch is the mean over images of label x pixel.
    one = [(PIXELS, torch.tensor([[1.0, 2.0], [1.0, 0.0]]))]
    options = {"importance": "taylor", "loss": weighted_sum}
    scores = score_weights(model, {"linear": model.linear}, calibration=one, **options)
    # Gradients (1 + 3) / 2, (2 - 4) / 2 and 2 / 2, 4 / 2.
    assert scores["linear"].tolist() == [[2.0, 2.0], [3.0, 0.0]]
    two = [(PIXELS[:1], one[0][1][:1]), (PIXELS[1:], one[0][1][1:])]
    scores = score_weights(model, {"linear": model.linear}, calibration=two, **options)
    # Gradients 1, 2, 2, 4 and 3, -4, 0, 0: their absolute values do not cancel out.
    assert scores["linear"].tolist() == [[2.0, 6.0], [3.0, 0.0]]


def test_fisher_is_half_the_mean_over_images_of_the_square():
    model = Sum()
    labels = torch.tensor([[1.0, 2.0], [1.0, 0.0]])
    scores = score_weights(
        model,
        {"linear": model.linear},
        importance="fisher",
        calibration=[(PIXELS, labels)],
        loss=weighted_sum,
    )
    # (g w)^2: 1, 16, 36, 0 and 9, 64, 0, 0.
    assert scores["linear"].tolist() == [[2.5, 20.0], [9.0, 0.0]]


def test_wanda_multiplies_with_the_norm_of_the_input_channel():
    model = Sum()
    labels = torch.zeros(2, dtype=torch.int64)
    options = {"importance": "wanda", "calibration": [(PIXELS[:1], labels[:1]), (PIXELS, labels)]}
    scores = score_weights(model, {"linear": model.linear}, **options)
    # Squares of the channels: 1 + 1 + 9 and 4 + 4 + 16.
    norms = torch.tensor([11.0, 24.0]).sqrt()
    assert torch.allclose(scores["linear"], torch.tensor([[1.0, 2.0], [3.0, 0.0]]) * norms)


def test_wanda_gives_a_group_of_a_convolution_its_own_channels(network, calibration):
    scores = score_weights(network, layers_of(network), importance="wanda", calibration=calibration)
    network.eval()
    with torch.no_grad():
        features = torch.cat(
            [F.relu(network.norm(network.stem(images))).transpose(0, 1).flatten(1)
             for images, _ in calibration],
            dim=1,
        )  # fmt: skip
    norms = features.square().sum(dim=1).sqrt()
    for out in range(6):
        group = norms[:4] if out < 3 else norms[4:]
        expected = network.grouped.weight[out, :, 0, 0].abs() * group
        assert torch.allclose(scores["grouped"][out, :, 0, 0], expected), out


def test_batch_norm_gives_every_weight_of_a_channel_its_scale(network, calibration):
    options = {"importance": "batch_norm", "calibration": calibration}
    scores = score_weights(network, {"stem": network.stem}, **options)
    expected = network.norm.weight.detach().abs().view(8, 1, 1, 1).expand(8, 3, 3, 3)
    assert torch.equal(scores["stem"], expected)
    with pytest.raises(ValueError, match=r"layer 'linear' must be followed by a batch norm"):
        score_weights(network, {"linear": network.linear}, **options)


def test_a_function_of_ones_own(network, calibration):
    seen = []

    def importance(model, layers, batches):
        seen.append((model, len(batches), model.training))
        return {name: torch.ones_like(layer.weight) for name, layer in layers.items()}

    layers = layers_of(network)
    scores = score_weights(network, layers, importance=importance, calibration=calibration)
    assert seen == [(network, 2, False)]
    assert network.training
    assert list(scores) == list(layers)


@pytest.mark.parametrize("importance", sorted(set(IMPORTANCES) - {"batch_norm"}))
def test_pruned_weights_score_zero(network, calibration, importance):
    with torch.no_grad():
        for layer in layers_of(network).values():
            layer.weight.view(-1)[::2] = 0
    scores = score_weights(
        network, layers_of(network), importance=importance, calibration=calibration
    )
    for name, values in scores.items():
        assert not values.view(-1)[::2].any(), name
        assert values.any(), name


@pytest.mark.parametrize("importance", sorted(IMPORTANCES))
def test_the_network_stays_as_it_was(network, calibration, importance):
    network.norm.eval()
    network.stem.weight.requires_grad_(False)
    network.linear.weight.grad = torch.ones_like(network.linear.weight)
    before = copy.deepcopy(network)
    with torch.no_grad():  # of the caller: gradients are had all the same
        score_weights(
            network, {"stem": network.stem}, importance=importance, calibration=calibration
        )
    for (name, value), (_, original) in zip(
        network.state_dict().items(), before.state_dict().items(), strict=True
    ):
        assert torch.equal(value, original), name
    for (name, module), original in zip(network.named_modules(), before.modules(), strict=True):
        assert module.training == original.training, name
        assert not module._forward_hooks, name
        assert not module._forward_pre_hooks, name
    assert not network.stem.weight.requires_grad
    assert network.stem.weight.grad is None
    assert torch.equal(network.linear.weight.grad, torch.ones_like(network.linear.weight))


@pytest.mark.parametrize("importance", ["taylor", "fisher", "wanda", "batch_norm"])
def test_asks_for_calibration(network, importance):
    with pytest.raises(ValueError, match=rf"importance '{importance}' needs calibration"):
        score_weights(network, layers_of(network), importance=importance)


def test_unknown_importance_is_refused(network):
    with pytest.raises(ValueError, match=r"must be one of \['batch_norm', .*not 'size'"):
        score_weights(network, {}, importance="size")


def test_no_layers_have_no_scores(network, calibration):
    assert score_weights(network, {}, importance="taylor", calibration=calibration) == {}


def test_other_layers_are_refused(network):
    with pytest.raises(
        ValueError, match=r"convolutions or Linear modules, but 'norm' is a BatchNorm2d"
    ):
        score_weights(network, {"norm": network.norm})


@pytest.mark.parametrize("importance", ["taylor", "wanda"])
def test_unused_layers_are_refused(network, calibration, importance):
    network.unused = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"'unused'"):
        score_weights(
            network,
            {"unused": network.unused},
            importance=importance,
            calibration=calibration,
        )


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (torch.zeros(2, 3, 5, 5), r"item 0 is a Tensor"),
        ((torch.zeros(2, 3, 5), torch.zeros(2)), r"not torch\.float32 \[2, 3, 5\] in batch 0"),
        ((torch.zeros(2, 3, 5, 5, dtype=torch.uint8), torch.zeros(2)), r"not torch\.uint8"),
        ((torch.zeros(2, 3, 5, 5), torch.zeros(3)), r"not 2 images and 3 labels"),
        ((torch.zeros(0, 3, 5, 5), torch.zeros(0)), r"not 0 images and 0 labels"),
    ],
)
def test_malformed_calibration_is_refused(network, batch, message):
    with pytest.raises(ValueError, match=message):
        score_weights(network, {}, calibration=[batch])


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({}, r"'stem' is missing"),
        ({"stem": torch.zeros(8)}, r"weight's shape \[8, 3, 3, 3\], not \[8\]"),
        ({"stem": torch.full((8, 3, 3, 3), torch.nan)}, r"'stem' must be finite"),
        ({"stem": torch.full((8, 3, 3, 3), -1.0)}, r"not negative"),
    ],
)
def test_malformed_scores_are_refused(network, scores, message):
    with pytest.raises(ValueError, match=message):
        score_weights(network, {"stem": network.stem}, importance=lambda *_: scores)


def test_images_that_are_not_finite_are_found_out(network, calibration):
    calibration[0][0][0, 0, 0, 0] = torch.nan
    for importance in ("taylor", "fisher", "wanda"):
        with pytest.raises(ValueError, match=r"'stem' must be finite"):
            score_weights(
                network, {"stem": network.stem}, importance=importance, calibration=calibration
            )


def test_a_teachers_logits_serve_as_labels(network, calibration):
    teacher = copy.deepcopy(network).eval()
    soft = [(images, teacher(images).detach().softmax(dim=1)) for images, _ in calibration]
    layers = layers_of(network)
    scores = score_weights(network, layers, importance="taylor", calibration=soft)
    # A network that equals its teacher is at the minimum: no weight has a gradient.
    assert all(values.max() < 1e-8 for values in scores.values())
