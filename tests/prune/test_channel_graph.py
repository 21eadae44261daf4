import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coprune import zoo
from coprune.prune.channel_graph import ChannelGraph


class Network(nn.Module):
    """A concatenation, a residual sum, a depthwise convolution and a flattened image."""

    def __init__(self):
        super().__init__()
        self.left = nn.Conv2d(3, 4, 1)
        self.right = nn.Conv2d(3, 2, 1)
        self.norm = nn.BatchNorm2d(6)
        self.depthwise = nn.Conv2d(6, 12, 3, padding=1, groups=6)
        self.inner = nn.Conv2d(12, 6, 1)
        self.linear = nn.Linear(6 * 4, 5)
        self.classifier = nn.Linear(5, 2)

    def forward(self, x):
        x = F.relu_(self.norm(torch.cat([self.left(x), self.right(x)], dim=1)))
        x = x + self.inner(self.depthwise(x))
        return self.classifier(F.relu(self.linear(F.max_pool2d(x, 2).flatten(1))))


@pytest.fixture(scope="module")
def graph():
    return ChannelGraph.of(Network().eval(), image=(3, 4, 4))


def test_sums_and_channelwise_operators_share_channels(graph):
    joined = np.concatenate([graph.outputs["left"], graph.outputs["right"]])
    assert len(set(joined)) == 6
    assert np.array_equal(graph.outputs["norm"], joined)
    assert np.array_equal(graph.outputs["inner"], joined)


def test_depthwise_outputs_follow_their_inputs(graph):
    assert np.array_equal(graph.outputs["depthwise"], graph.outputs["norm"].repeat(2))
    assert np.array_equal(graph.inputs["inner"], graph.outputs["depthwise"])
    assert "depthwise" not in graph.inputs


def test_flattened_pixels_belong_to_their_channel(graph):
    assert np.array_equal(graph.inputs["linear"], graph.outputs["inner"].repeat(4))


def test_input_and_output_of_the_network_are_fixed(graph):
    assert graph.fixed == {*graph.inputs["left"], *graph.outputs["classifier"]}


def test_classes_are_channels_with_the_same_places(graph):
    parts = [graph.outputs[name].tolist() for name in ("left", "right", "linear")]
    assert sorted(members.tolist() for members in graph.classes()) == sorted(map(sorted, parts))


def test_a_shortcut_that_pads_divides_the_channels():
    model = zoo.resnet20()
    graph = ChannelGraph.of(model, image=model.input_shape)
    small, middle, large = (graph.outputs[f"layer{stage}.1.conv2"].tolist() for stage in (1, 2, 3))
    assert middle[8:24] == small
    assert large[16:48] == middle
    first, second = graph.paddings
    assert first.inner.tolist() == small
    assert first.low.tolist() == middle[:8]
    assert second.high.tolist() == large[48:]
    classes = [sorted(members.tolist()) for members in graph.classes()]
    assert sorted(small) in classes
    assert sorted(middle[:8] + middle[24:]) in classes
    assert sorted(large[:16] + large[48:]) in classes


def fixed_outputs(layer: nn.Module, after) -> set[bool]:
    """Whether the outputs of a layer of eight channels are fixed when `after` follows it."""

    class Followed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer
            self.scale = nn.Parameter(torch.ones(1, 8, 1, 1))
            self.grouped = nn.Conv2d(8, 8, 1, groups=2)
            self.last = nn.Linear(8, 3)

        def forward(self, x):
            return self.last(after(self, self.layer(x)).mean(dim=(2, 3)))

    graph = ChannelGraph.of(Followed().eval(), image=(3, 4, 4))
    return {bool(channel in graph.fixed) for channel in graph.outputs["layer"]}


@pytest.mark.parametrize(
    ("after", "fixed"),
    [
        (lambda self, x: F.silu(x) * 2 + 1, False),
        (lambda self, x: F.adaptive_avg_pool2d(x, 1), False),
        (lambda self, x: x * F.hardsigmoid(x.mean(dim=(2, 3), keepdim=True)), False),
        (lambda self, x: x * x[:, :1] + x[:, :, 1:2], False),
        (lambda self, x: F.pad(x, (1, 1)), False),
        (lambda self, x: F.softmax(x, dim=1), True),
        (lambda self, x: x.flip(1), True),
        (lambda self, x: F.pixel_shuffle(x.repeat(1, 4, 1, 1), 2), True),
        (lambda self, x: x + self.scale, True),
        (lambda self, x: self.grouped(x), True),
        (lambda self, x: x.transpose(1, 2).reshape(x.shape), True),
        (lambda self, x: x - x.mean(dim=1, keepdim=True), True),
        (lambda self, x: F.pad(x, (0, 0, 0, 0, 1, -1)), True),
    ],
)
def test_only_operators_that_treat_channels_apart_leave_them_free(after, fixed):
    assert fixed_outputs(nn.Conv2d(3, 8, 1), after) == {fixed}


def test_a_module_that_is_called_twice_has_one_order_of_channels():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 4, 1)
            self.shared = nn.Conv2d(4, 4, 1)
            self.last = nn.Conv2d(4, 2, 1)

        def forward(self, x):
            return self.last(self.shared(F.relu(self.shared(self.first(x)))))

    graph = ChannelGraph.of(Twice().eval(), image=(3, 4, 4))
    assert np.array_equal(graph.outputs["first"], graph.outputs["shared"])
    assert np.array_equal(graph.inputs["shared"], graph.outputs["shared"])


def test_parameters_that_are_computed_leave_channels_fixed():
    layer = nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 1))
    model = nn.Sequential(nn.Conv2d(3, 8, 1), layer, nn.Conv2d(8, 2, 1)).eval()
    graph = ChannelGraph.of(model, image=(3, 4, 4))
    assert graph.fixed >= {*graph.outputs["0"], *graph.inputs["2"]}
