"""A strided first layer reads an input whose phases are channels; results stay the same."""

from dataclasses import replace

import numpy as np
import pytest

from coprune.compiler.lowering import lower
from coprune.compiler.space_to_depth import fold_input_phases
from coprune_hw.contract.instructions import LoadKind, Opcode
from coprune_sim import machine, reference
from coprune_sim.graph import IntegerGraph

from ..end_to_end.configurations import SMALL
from ..graphs import GraphBuilder


def strided_graph(
    *, channels: int = 2, size: tuple[int, int] = (12, 10), kernel: int = 3, stride: int = 2, **more
) -> IntegerGraph:
    """A convolution that reads the input with a stride, and one that reads its output."""
    builder = GraphBuilder(channels, size, seed=3)
    x = builder.add(builder.conv("input", 12, kernel, stride=stride, **more))
    builder.add(builder.conv(x, 8, 1))
    return builder.graph()


def random_pixels(graph: IntegerGraph) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(-128, 128, graph.input.shape).astype(np.int8)


def pixel_bytes(program) -> int:
    """Bytes of the input that LOADs bring."""
    return sum(
        load["window"]["rows"] * load["window"]["width"] * load["pixel_bytes"]
        for load in program.instructions()
        if load["prefix"]["opcode"] == Opcode.LOAD and load["kind"] == LoadKind.PIXELS
    )


@pytest.mark.parametrize("size", [(12, 10), (9, 7), (2, 3)], ids=str)
@pytest.mark.parametrize(
    "taps",
    [
        {"kernel": 3},
        {"kernel": 4, "padding": (1, 2)},
        {"kernel": 2, "padding": (0, 0)},
        {"kernel": 5, "padding": (0, 3)},
        {"kernel": 3, "dilation": (2, 3), "padding": (2, 3)},
        # All taps lie beyond the first pixel of every window.
        {"kernel": 3, "padding": (-2, -1)},
    ],
    ids=str,
)
@pytest.mark.parametrize(("stride", "channels"), [(2, 2), (2, 1), (4, 1)])
def test_machine_computes_what_the_graph_says(stride, channels, taps, size):
    lanes = 16 if stride == 4 else 8
    config = replace(SMALL, lanes=lanes, activation_depth=256)
    graph = strided_graph(channels=channels, size=size, stride=stride, **taps)
    assert fold_input_phases(graph, lanes=config.lanes)[1] == stride
    pixels = random_pixels(graph)
    expected = reference.run(graph, pixels[None], keep_layers=True)
    run = machine.run(lower(graph, config), pixels)
    for name, output in expected.items():
        np.testing.assert_array_equal(run.layers[name], output[0])


def test_folded_graph_computes_the_same_layers():
    graph = strided_graph(size=(9, 10))
    folded, phases = fold_input_phases(graph, lanes=8)
    pixels = random_pixels(graph)
    whole = np.pad(pixels, ((0, 0), (0, 1), (0, 0)), constant_values=graph.input.zero)
    split = np.stack([whole[:, y::2, x::2] for y in range(2) for x in range(2)])
    assert phases == 2
    assert folded.input.shape == (8, 5, 5)
    expected = reference.run(graph, pixels[None], keep_layers=True)
    for name, output in reference.run(folded, split.reshape(1, 8, 5, 5), keep_layers=True).items():
        np.testing.assert_array_equal(output, expected[name])


def test_input_costs_its_own_bytes_on_the_bus_and_few_words():
    graph = strided_graph(channels=2, size=(12, 10))
    program = lower(graph, SMALL)
    assert pixel_bytes(program) == 2 * 12 * 10
    assert program.input.size_bytes == 2 * 12 * 10
    assert program.input.rows * program.input.columns == 6 * 5


class TestIsLeftAlone:
    """An input that would not gain, or could not be folded."""

    @pytest.mark.parametrize(
        "graph",
        [
            strided_graph(stride=1),
            # 12 channels of four phases do not fit into a word of 8.
            strided_graph(channels=3),
            strided_graph(channels=2, groups=2),
        ],
        ids=["stride 1", "too many channels", "groups"],
    )
    def test_unfoldable_convolution(self, graph):
        assert fold_input_phases(graph, lanes=8) == (graph, 1)

    def test_input_with_readers_of_different_strides(self):
        builder = GraphBuilder(2, (8, 8), seed=0)
        builder.add(builder.conv("input", 8, stride=2))
        builder.add(builder.conv("input", 8))
        graph = builder.graph()
        assert fold_input_phases(graph, lanes=8) == (graph, 1)

    def test_selected_channels_keep_their_lanes(self):
        builder = GraphBuilder(2, (8, 8), seed=0)
        selection = builder.selection("input", 8, first=0, stride=2)
        builder.add(builder.conv("input", 8, stride=2), selection)
        graph = builder.graph()
        assert fold_input_phases(graph, lanes=8) == (graph, 1)

    def test_dense_hardware_keeps_the_zeros_that_the_layer_had(self):
        graph = strided_graph()
        assert lower(graph, SMALL, skip_zeros=False).input.phases == 1
