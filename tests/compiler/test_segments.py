"""Where a network is cut, and who runs what."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coprune.compiler.export import export
from coprune.compiler.exported import UnsupportedOperatorError
from coprune.compiler.segments import divide
from coprune.host_stage import HostStage

from ..program import hybrid_networks
from ..program.hybrid_networks import build
from ..program.networks import images, residual


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(3, 4, 1)
        self.second = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.function(self, x)


def segments_of(network, *, image=(3, 8, 8)):
    return divide(export(network.eval(), image=image, any_batch=True))


def places(segments):
    """Who runs each segment, and the operators in it."""
    return [("host" if each.on_host else "accelerator", operations(each)) for each in segments]


def operations(segment):
    nodes = [node for node in segment.exported.graph.nodes if node.op == "call_function"]
    names = [node.target.__name__.split(".")[0] for node in nodes]
    return [name for name in names if name != "sym_size"]


def assert_same_as_the_network(network, segments, x):
    """The segments one after the other compute what the network computes, to the bit."""
    values = x
    for segment in segments:
        values = HostStage(segment.exported).run(values)
    with torch.inference_mode():
        expected = network(x.clone())
    assert values.dtype == expected.dtype
    assert np.array_equal(values.numpy(), expected.numpy())


HEAD = ["conv2d", "batch_norm", "relu", "mean", "linear"]
DIVISIONS = {
    "Classifier": [("accelerator", HEAD), ("host", ["softmax"])],
    "Picker": [("accelerator", HEAD), ("host", ["argmax"])],
    "SqueezeExcite": [
        ("accelerator", ["conv2d", "relu"]),
        ("host", ["mean", "conv2d", "relu", "conv2d", "sigmoid", "mul"]),
        ("accelerator", ["conv2d"]),
    ],
    "Upsampler": [
        ("accelerator", ["conv2d", "relu"]),
        ("host", ["upsample_bilinear2d"]),
        ("accelerator", ["conv2d"]),
    ],
    "ChannelsLast": [
        ("host", ["permute", "flatten", "std", "view", "div"]),
        ("accelerator", ["conv2d", "relu"]),
    ],
    "NormalizedBlock": [
        ("accelerator", ["conv2d", "relu"]),
        ("host", ["conv2d", "group_norm", "add"]),
        ("accelerator", ["conv2d"]),
    ],
    "Tokens": [
        ("accelerator", ["conv2d", "flatten"]),
        (
            "host",
            ["transpose", "linear", "chunk", *["getitem"] * 3, "scaled_dot_product_attention"],
        ),
        ("accelerator", ["mean", "linear"]),
    ],
}


@pytest.mark.parametrize("name", DIVISIONS)
def test_the_host_runs_what_lies_between_cuts_around_an_unsupported_operator(name):
    network = build(getattr(hybrid_networks, name))
    shape = (8, 8, 3) if name == "ChannelsLast" else (3, 8, 8)
    segments = segments_of(network, image=shape)
    assert places(segments) == DIVISIONS[name]
    assert_same_as_the_network(network, segments, images(3).reshape(3, *shape))


def test_a_network_that_the_accelerator_runs_whole_is_one_segment():
    assert [place for place, _ in places(segments_of(residual()))] == ["accelerator"]
    pooling = nn.Sequential(nn.MaxPool2d(2), nn.ReLU())
    assert places(segments_of(pooling)) == [("accelerator", ["max_pool2d", "relu"])]


@pytest.mark.parametrize(
    ("function", "division"),
    [
        # Supported, but without a matrix product between parts for the host.
        (
            lambda m, x: F.relu(m.conv(x).softmax(1)).cumsum(1),
            [("accelerator", ["conv2d"]), ("host", ["softmax", "relu", "cumsum"])],
        ),
        # A view that only makes sense with the next one: the cut between them is none for it.
        (
            lambda m, x: m.second(
                m.conv(x).view(-1, 2, 2, 8, 8).transpose(1, 2).reshape(-1, 4, 8, 8)
            ).softmax(1),
            [
                ("accelerator", ["conv2d", "view", "transpose", "reshape", "conv2d"]),
                ("host", ["softmax"]),
            ],
        ),
        # Two paths that meet again late: nothing between them is a cut.
        (
            lambda m, x: m.conv(x.softmax(1)) + m.conv(x),
            None,
        ),
        # A table of constants and the size of the batch, needed in both parts.
        (
            lambda m, x: (
                (m.second(m.conv(x).cumsum(2)) * torch.ones(4, 1, 1))
                .view(x.shape[0], 2, -1)
                .softmax(2)
                .reshape(x.size(0), -1)
            ),
            [
                ("accelerator", ["conv2d"]),
                ("host", ["cumsum"]),
                ("accelerator", ["conv2d", "ones", "mul", "view"]),
                ("host", ["softmax", "reshape"]),
            ],
        ),
        # One that is not constant, as it is as large as the batch, does not keep the accelerator
        # from what lies between its readers.
        (
            lambda m, x: (
                m.second(m.conv(x) * (ones := torch.ones(x.shape[0], 1, 1, 1))).exp2() * ones
            ),
            [
                ("accelerator", ["conv2d"]),
                ("host", ["ones", "mul"]),
                ("accelerator", ["conv2d"]),
                ("host", ["ones", "exp2", "mul"]),
            ],
        ),
        # float64 leaves no cut inside.
        (
            lambda m, x: m.second(m.conv(x).double().exp().float()),
            [
                ("accelerator", ["conv2d"]),
                ("host", ["to", "exp", "to"]),
                ("accelerator", ["conv2d"]),
            ],
        ),
        # An operator that overwrites what the accelerator gives.
        (
            lambda m, x: m.second(m.conv(x).cumsum_(1)),
            [
                ("accelerator", ["conv2d"]),
                ("host", ["cumsum"]),
                ("accelerator", ["conv2d"]),
            ],
        ),
    ],
)
def test_divides(function, division):
    torch.manual_seed(0)
    network = Function(function)
    if division is None:
        with pytest.raises(UnsupportedOperatorError, match="no convolution or matrix"):
            segments_of(network)
        return
    segments = segments_of(network)
    assert places(segments) == division
    assert_same_as_the_network(network, segments, images(3))


def test_an_operator_that_overwrites_is_seen_by_those_who_read_its_operand_later():
    torch.manual_seed(0)
    network = Function(lambda m, x: m.second(m.conv(x).cumsum_(1)))
    exported = export(network.eval(), image=(3, 8, 8), any_batch=True)
    nodes = {node.name: node for node in exported.graph.nodes}
    # As some exporters leave it: the name of the operand, whose memory has other values by now.
    nodes["conv2d_1"].replace_input_with(nodes["cumsum_"], nodes["conv2d"])
    with torch.inference_mode():
        parameters = list(exported.state_dict.values())
        assert np.array_equal(
            exported.graph_module(*parameters, images(3))[0].numpy(), network(images(3)).numpy()
        )
    segments = divide(exported)
    assert [each.on_host for each in segments] == [False, True, False]
    assert_same_as_the_network(network, segments, images(3))


def test_random_numbers_are_drawn_once():
    network = Function(lambda m, x: m.second(m.conv(x) + (r := torch.randn(4, 1, 1))).exp2() * r)
    assert places(segments_of(network)) == [
        ("accelerator", ["conv2d"]),
        ("host", ["randn", "add", "conv2d", "exp2", "mul"]),
    ]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda m, x: x.softmax(1), "no convolution or matrix product would be left"),
        (lambda m, x: m.conv(x).softmax(1).mean(), "first axis must remain the batch"),
        (
            lambda m, x: (y := m.conv(x), y.view(-1, 2, 2, 8, 8).cumsum_(1), m.second(y))[2],
            "overwrites a view of a tensor that is read again",
        ),
        (
            lambda m, x: m.second(torch.nn.init.normal_(m.conv(x))),
            "no operator that returns the same instead",
        ),
    ],
)
def test_refuses_what_cannot_be_divided(function, message):
    with pytest.raises(UnsupportedOperatorError, match=message) as caught:
        segments_of(Function(function))
    assert "test_segments.py" in str(caught.value)


def test_refuses_several_outputs():
    network = Function(lambda m, x: (m.conv(x).softmax(1), m.conv(x)))
    with pytest.raises(ValueError, match="must have one output, not 2"):
        segments_of(network)
