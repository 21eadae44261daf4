"""Strides, bank shapes and addresses of tensors."""

from dataclasses import replace

import numpy as np
import pytest

from coprune.compiler.phases import split_phases
from coprune.compiler.placement import peak_words, place_tensors
from coprune.compiler.streams import build_streams
from coprune.compiler.strides import read_strides, simplify_strides, unify_strides
from coprune_hw.contract import AcceleratorConfig
from coprune_sim import reference
from coprune_sim.graph import IntegerGraph, Layer, Source, Tensor

from ..end_to_end.configurations import SMALL
from ..graphs import upsampling_graph

CONFIG = AcceleratorConfig()


class GraphBuilder:
    """Chains layers with random weights; every method returns the name of the new tensor."""

    def __init__(self, channels: int, size: tuple[int, int], *, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.tensors = {"input": Tensor("input", channels, *size, scale=0.1, zero=3)}
        self.layers: list[Layer] = []

    def add(self, *reads: tuple[str, int, int], channels: int) -> str:
        """Sum 'same'-padded convolutions, each given by tensor, kernel size and stride."""
        sources = [
            Source(
                tensor,
                self.rng.integers(
                    -5, 6, (channels, self.tensors[tensor].channels, kernel, kernel)
                ).astype(np.int16),
                stride=stride,
                padding=(kernel // 2, kernel // 2),
            )
            for tensor, kernel, stride in reads
        ]
        first = self.tensors[reads[0][0]]
        height, width = (-(-size // reads[0][2]) for size in (first.height, first.width))
        return self.append(sources, channels=channels, size=(height, width))

    def append(self, sources: list[Source], *, channels: int, size: tuple[int, int]) -> str:
        name = f"layer{len(self.layers)}"
        self.tensors[name] = Tensor(name, channels, *size, scale=0.1, zero=len(name))
        self.layers.append(
            Layer(
                name=name,
                operation="conv2d",
                output=self.tensors[name],
                sources=tuple(sources),
                bias=self.rng.integers(-100, 100, channels),
                multiplier=self.rng.integers(1 << 16, 1 << 17, channels),
                pre_shift=np.zeros(channels, np.int64),
                post_shift=np.full(channels, 22),
                low=-128,
                high=127,
            )
        )
        return name

    def graph(self) -> IntegerGraph:
        return IntegerGraph(self.tensors["input"], tuple(self.layers))


def place_graph(graph: IntegerGraph, *, config: AcceleratorConfig = CONFIG):
    streams = [build_streams(layer, lanes=config.lanes) for layer in graph.layers]
    return place_tensors(graph, streams=streams, config=config)


def random_graph(seed: int) -> IntegerGraph:
    """Layers that read one to three earlier tensors of one size."""
    builder = GraphBuilder(3, (16, 16), seed=seed)
    names = ["input"]
    for _ in range(12):
        reads = builder.rng.choice(names, builder.rng.integers(1, min(len(names), 3) + 1), False)
        channels = int(builder.rng.integers(1, 60))
        names.append(builder.add(*((str(name), 1, 1) for name in reads), channels=channels))
    return builder.graph()


class TestStrides:
    def test_readers_that_agree_need_no_copy(self):
        builder = GraphBuilder(3, (8, 8), seed=1)
        main = builder.add(("input", 3, 2), channels=16)
        builder.add((main, 3, 1), ("input", 1, 2), channels=16)
        graph = builder.graph()
        assert unify_strides(graph).layers == graph.layers

    def test_readers_that_differ_read_one_copy_per_stride(self):
        builder = GraphBuilder(3, (8, 8), seed=2)
        for stride in (1, 2, 4, 2, 1):
            builder.add(("input", 3, stride), channels=5)
        unified = unify_strides(builder.graph())
        assert all(len(strides) == 1 for strides in read_strides(unified).values())
        assert [layer.name for layer in unified.layers] == [
            "layer0",
            "input.stride2",
            "layer1",
            "input.stride4",
            "layer2",
            "layer3",
            "layer4",
        ]

    def test_passes_do_not_change_results(self):
        builder = GraphBuilder(3, (8, 6), seed=3)
        first = builder.add(("input", 3, 1), ("input", 1, 1), channels=5)
        half = builder.add((first, 3, 2), ("input", 1, 2), channels=4)
        builder.add((half, 3, 4), (half, 1, 4), channels=3)
        graph = builder.graph()
        pixels = builder.rng.integers(-128, 128, (2, 3, 8, 6)).astype(np.int8)
        expected = reference.run(graph, pixels, keep_layers=True)
        unified = unify_strides(simplify_strides(graph))
        result = reference.run(unified, pixels, keep_layers=True)
        assert set(result) - set(expected) == {"input.stride2"}
        for name, values in expected.items():
            np.testing.assert_array_equal(result[name], values)

    def test_one_output_pixel_needs_no_stride(self):
        builder = GraphBuilder(4, (7, 7), seed=4)
        weight = np.ones((4, 1, 7, 7), np.int16)
        builder.append([Source("input", weight, groups=4, stride=7)], channels=4, size=(1, 1))
        assert read_strides(simplify_strides(builder.graph())) == {"input": {1}}

    def test_refuses_other_strides(self):
        builder = GraphBuilder(4, (9, 9), seed=5)
        builder.add(("input", 3, 3), channels=4)
        with pytest.raises(ValueError, match=r"'layer0': stride must be one of 1, 2, 4, not 3"):
            unify_strides(builder.graph())


class TestBankShapes:
    def test_phase_split_is_the_stride_of_the_readers(self):
        builder = GraphBuilder(3, (16, 16), seed=6)
        builder.add((builder.add(("input", 3, 4), channels=16), 3, 2), channels=16)
        placements = place_graph(builder.graph())
        strides = {name: placement.stride for name, placement in placements.items()}
        assert strides == {"input": 4, "layer0": 2, "layer1": 1}

    def test_shape_fits_the_grid(self):
        builder = GraphBuilder(3, (2, 8), seed=7)
        builder.add((builder.add(("input", 3, 1), channels=16), 3, 1), channels=16)
        placement = place_graph(builder.graph())["layer0"]
        assert (placement.bank_rows, placement.bank_columns) == (2, 8)

    def test_equals_are_decided_by_squareness_but_for_the_input(self):
        builder = GraphBuilder(3, (16, 16), seed=8)
        builder.add((builder.add(("input", 3, 1), channels=16), 3, 1), channels=16)
        placements = place_graph(builder.graph())
        assert placements["layer0"].bank_rows == placements["layer0"].bank_columns == 4
        assert placements["input"].bank_rows == 1

    def test_tensors_read_together_share_it(self):
        builder = GraphBuilder(16, (8, 8), seed=9)
        a = builder.add(("input", 3, 1), channels=16)
        b = builder.add((a, 3, 1), ("input", 1, 1), channels=16)
        builder.add((b, 3, 1), (a, 1, 1), channels=16)
        placements = place_graph(builder.graph())
        shapes = {placements[name].log2_bank_columns for name in ("input", a, b)}
        assert len(shapes) == 1

    def test_shape_reaches_every_tap_of_a_large_pooling_window(self):
        builder = GraphBuilder(16, (25, 5), seed=10)
        pixels = builder.add(("input", 3, 1), channels=16)
        pool = Source(pixels, np.ones((16, 1, 25, 5), np.int16), groups=16)
        builder.append([pool], channels=16, size=(1, 1))
        assert place_graph(builder.graph())[pixels].bank_rows <= 8

    def test_tiles_of_a_large_pooling_window_read_no_word_that_is_not_there(self):
        """Shifts are remainders, so pixels around the one output look inside, but are not."""
        builder = GraphBuilder(64, (25, 5), seed=10)
        pool = Source("input", np.ones((64, 1, 25, 5), np.int16), groups=64)
        builder.append([pool], channels=64, size=(1, 1))
        words = sum(placement.words for placement in place_graph(builder.graph()).values())
        with pytest.raises(ValueError, match="'layer0' needs"):
            place_graph(builder.graph(), config=replace(CONFIG, activation_depth=words))

    def test_refuses_planes_of_different_sizes(self):
        builder = GraphBuilder(16, (8, 8), seed=11)
        narrow = builder.add(("input", 3, 2), channels=16)
        weight = np.ones((16, 16, 1, 1), np.int16)
        builder.append([Source(narrow, weight), Source("input", weight)], channels=16, size=(4, 4))
        with pytest.raises(ValueError, match=r"'layer1': .* planes of equal size, not 4x4, 8x8"):
            place_graph(unify_strides(builder.graph()))

    def test_refuses_taps_out_of_reach(self):
        builder = GraphBuilder(16, (32, 32), seed=12)
        builder.add(("input", 19, 1), channels=16)
        with pytest.raises(ValueError, match="'layer0': a tap is out of reach with every bank"):
            place_graph(builder.graph())


class TestAddresses:
    @pytest.mark.parametrize("seed", range(20))
    def test_live_tensors_never_overlap(self, seed):
        graph = random_graph(seed)
        placements = place_graph(graph)
        alive = {graph.input.name}
        for index, layer in enumerate(graph.layers):
            alive.add(layer.output.name)
            alive |= {source.tensor for source in layer.sources}
            used = np.zeros(CONFIG.activation_depth, int)
            for name in alive:
                placement = placements[name]
                used[placement.base : placement.base + placement.words] += 1
            assert used.max() == 1, f"layer {index}"
            later = {
                source.tensor for other in graph.layers[index + 1 :] for source in other.sources
            }
            alive &= later
        assert peak_words(placements) <= CONFIG.activation_depth

    @pytest.mark.parametrize("config", [SMALL, CONFIG], ids=["8x4", "16x16"])
    def test_tensor_of_several_layers_lives_from_the_first_to_its_last_reader(self, config):
        graph, _ = split_phases(unify_strides(simplify_strides(upsampling_graph())))
        streams = [build_streams(layer, lanes=config.lanes) for layer in graph.layers]
        placements = place_tensors(graph, streams=streams, config=config)
        lives: dict[str, list[int]] = {graph.input.name: [0]}
        for index, layer in enumerate(graph.layers):
            for name in (layer.output.name, *(source.tensor for source in layer.sources)):
                lives.setdefault(name, []).append(index)
        assert max(map(len, lives.values())) > 4
        for index in range(len(graph.layers)):
            used = np.zeros(config.activation_depth, int)
            for name, places in lives.items():
                if places[0] <= index <= places[-1]:
                    place = placements[name]
                    used[place.base : place.base + place.words] += 1
            assert used.max() == 1, f"layer {index}"

    def test_words_are_reused_after_the_last_reader(self):
        builder = GraphBuilder(16, (16, 16), seed=13)
        name = "input"
        for _ in range(10):
            name = builder.add((name, 3, 1), channels=16)
        assert peak_words(place_graph(builder.graph())) == 2 * 16

    def test_refuses_what_does_not_fit(self):
        builder = GraphBuilder(16, (16, 16), seed=14)
        builder.add((builder.add(("input", 3, 1), channels=32), 3, 1), channels=48)
        config = replace(CONFIG, activation_depth=79)
        with pytest.raises(ValueError, match=r"'layer1' needs 80 words .* activation_depth is 79"):
            place_graph(builder.graph(), config=config)
        assert peak_words(place_graph(builder.graph(), config=replace(config, activation_depth=80)))
