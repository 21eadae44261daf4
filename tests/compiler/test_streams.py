"""Slot streams against the dense weights that they stand for."""

import numpy as np
import pytest

from coprune.compiler.streams import build_streams, list_blocks, place_streams
from coprune_hw.contract.planes import Placement
from coprune_hw.contract.slots import pack_slots, unpack_slots
from coprune_sim.graph import Layer, Source, Tensor

COLUMNS = 16


def make_layer(*sources: Source, size: tuple[int, int] = (8, 8), maximum: bool = False) -> Layer:
    outputs = len(sources[0].weight)
    return Layer(
        name="layer",
        operation="conv2d",
        output=Tensor("output", outputs, *size, scale=1.0, zero=0),
        sources=sources,
        bias=np.zeros(outputs, np.int64),
        multiplier=np.ones(outputs, np.int64),
        pre_shift=np.zeros(outputs, np.int64),
        post_shift=np.zeros(outputs, np.int64),
        low=-128,
        high=127,
        maximum=maximum,
    )


def random_weight(rng, *shape: int, density: float = 1.0, reach: int = 127) -> np.ndarray:
    weight = rng.integers(-reach, reach + 1, shape)
    return np.where(rng.random(shape) < density, weight, 0).astype(np.int16)


def dense_weight(source: Source) -> np.ndarray:
    """Weights [outputs, inputs, rows, columns] without groups."""
    outputs, group_inputs, rows, columns = source.weight.shape
    dense = np.zeros((outputs, group_inputs * source.groups, rows, columns), np.int64)
    for output in range(outputs):
        first = output // (outputs // source.groups) * group_inputs
        dense[output, first : first + group_inputs] = source.weight[output]
    return dense


def rebuild_weights(layer: Layer, *, lanes: int) -> list[np.ndarray]:
    """Add up what the slots multiply, one by one, into dense weights of every source."""
    streams = build_streams(layer, lanes=lanes)
    weights = [np.zeros_like(dense_weight(source)) for source in layer.sources]
    for slot, block in enumerate(streams.block):
        tile = np.searchsorted(np.cumsum(streams.counts), slot, side="right")
        number = streams.blocks.source[block]
        source = layer.sources[number]
        row = (streams.blocks.row[block] + source.padding[0]) // source.dilation[0]
        column = (streams.blocks.column[block] + source.padding[1]) // source.dilation[1]
        for lane in range(lanes):
            channel = lane if streams.diagonal[slot] else streams.index[slot, lane]
            weight = streams.weight[slot, lane]
            if weight:
                channel = streams.blocks.group[block] * lanes + channel
                weights[number][tile * lanes + lane, channel, row, column] += weight
    return weights


def assert_streams_hold_weights(layer: Layer, *, lanes: int) -> None:
    for source, rebuilt in zip(layer.sources, rebuild_weights(layer, lanes=lanes), strict=True):
        np.testing.assert_array_equal(rebuilt, dense_weight(source))


def place(tensor_size: tuple[int, int], *, groups: int, stride: int = 1, base: int = 0):
    return Placement(
        groups=groups,
        height=tensor_size[0],
        width=tensor_size[1],
        columns=COLUMNS,
        log2_stride=stride.bit_length() - 1,
        log2_bank_columns=2,
        base=base,
    )


class TestWeights:
    @pytest.mark.parametrize("lanes", [8, 16])
    @pytest.mark.parametrize("density", [0.05, 0.3, 1.0])
    def test_hold_every_weight_once(self, lanes, density):
        rng = np.random.default_rng(1)
        source = Source("input", random_weight(rng, 35, 21, 3, 2, density=density), padding=(1, 0))
        assert_streams_hold_weights(make_layer(source), lanes=lanes)

    @pytest.mark.parametrize("groups", [2, 3, 6, 24])
    def test_hold_grouped_weights(self, groups):
        rng = np.random.default_rng(2)
        weight = random_weight(rng, 48, 24 // groups, 3, 3, density=0.6)
        source = Source("input", weight, groups=groups, dilation=(2, 3))
        assert_streams_hold_weights(make_layer(source), lanes=16)

    def test_hold_wide_weights_off_the_diagonal(self):
        rng = np.random.default_rng(3)
        source = Source("input", random_weight(rng, 20, 20, 1, 2, density=0.3, reach=2047))
        assert_streams_hold_weights(make_layer(source), lanes=16)

    def test_hold_weights_of_several_sources(self):
        rng = np.random.default_rng(4)
        shortcut = random_weight(rng, 32, 1, 1, 1, reach=2047)
        layer = make_layer(
            Source("input", random_weight(rng, 32, 32, 3, 3, density=0.25), padding=(1, 1)),
            Source("other", shortcut, groups=32),
        )
        assert_streams_hold_weights(layer, lanes=16)

    def test_minus_128_is_split(self):
        source = Source("input", np.full((3, 3, 1, 1), -128, np.int16))
        assert_streams_hold_weights(make_layer(source), lanes=16)
        assert build_streams(make_layer(source), lanes=16).weight.min() >= -127


class TestSlots:
    def test_dense_block_takes_a_slot_per_channel(self):
        source = Source("input", np.ones((16, 32, 3, 3), np.int16))
        assert build_streams(make_layer(source), lanes=16).counts.tolist() == [16 * 2 * 9]

    def test_n_of_16_block_takes_n_slots(self):
        rng = np.random.default_rng(5)
        rank = rng.random((32, 2, 16, 3, 3)).argsort(axis=2).argsort(axis=2)
        weight = np.where(rank < 4, 9, 0).reshape(32, 32, 3, 3).astype(np.int16)
        streams = build_streams(make_layer(Source("input", weight)), lanes=16)
        assert streams.counts.tolist() == [4 * 2 * 9] * 2

    def test_busiest_lane_decides(self):
        weight = np.zeros((16, 16, 1, 1), np.int16)
        weight[:, 3] = 1
        weight[7, :5] = 1
        assert build_streams(make_layer(Source("input", weight)), lanes=16).counts.tolist() == [5]

    def test_zero_block_is_left_out(self):
        weight = np.ones((16, 48, 1, 1), np.int16)
        weight[:, 16:32] = 0
        streams = build_streams(make_layer(Source("input", weight)), lanes=16)
        assert np.unique(streams.block).tolist() == [0, 2]
        assert streams.new_block.sum() == 2

    def test_zeros_of_convolutions_can_be_kept(self):
        rng = np.random.default_rng(8)
        weight = random_weight(rng, 16, 32, 3, 3, density=0.25)
        weight[:, 16:] = 0
        copy = np.zeros((16, 32, 1, 1), np.int16)
        copy[np.arange(16), np.arange(16)] = 2047
        layer = make_layer(Source("input", weight), Source("other", copy))
        streams = build_streams(layer, lanes=16, skip_zeros=False)
        assert streams.counts.tolist() == [16 * 2 * 9 + 1]
        assert np.abs(streams.weight.astype(int)).sum() == sum(
            np.abs(source.weight.astype(int)).sum() for source in layer.sources
        )

    def test_blocks_come_in_order_of_source_tap_group(self):
        weight = np.ones((16, 32, 2, 1), np.int16)
        layer = make_layer(Source("a", weight), Source("b", weight))
        streams = build_streams(layer, lanes=16)
        blocks = streams.blocks
        seen = streams.block[streams.new_block]
        order = [(blocks.source[b], blocks.row[b], blocks.group[b]) for b in seen]
        assert order == sorted(order)
        assert len(order) == len(blocks) == 8

    def test_diagonal_block_takes_one_wide_slot(self):
        weight = np.full((32, 1, 3, 3), 2047, np.int16)
        streams = build_streams(make_layer(Source("input", weight, groups=32)), lanes=16)
        assert streams.counts.tolist() == [9, 9]
        assert streams.diagonal.all()

    def test_wide_weight_next_to_others_takes_a_slot_per_part(self):
        weight = np.zeros((16, 16, 1, 1), np.int16)
        weight[0, 0] = 2047
        weight[1, 0] = 1
        streams = build_streams(make_layer(Source("input", weight)), lanes=16)
        assert streams.counts.tolist() == [-(-2047 // 127)]
        assert not streams.diagonal.any()
        assert np.abs(streams.weight).max() == 127

    def test_tile_without_weights_has_one_slot_of_zeros(self):
        weight = np.zeros((48, 16, 3, 3), np.int16)
        weight[0] = 1
        streams = build_streams(make_layer(Source("input", weight)), lanes=16)
        assert streams.counts.tolist() == [16 * 9, 1, 1]
        assert not streams.weight[-2:].any()
        assert streams.new_block[-2:].all()


class TestErrors:
    def test_too_wide_for_a_diagonal_slot(self):
        source = Source("input", np.full((4, 1, 1, 1), 2048, np.int16), groups=4)
        with pytest.raises(ValueError, match=r"'layer': a diagonal weight must .* not 2048"):
            build_streams(make_layer(source), lanes=16)

    @pytest.mark.parametrize(
        ("weight", "groups"),
        [
            (np.ones((4, 4, 2, 2), np.int16), 1),
            (np.full((4, 1, 2, 2), 2, np.int16), 4),
            (np.eye(4, dtype=np.int16)[:, [0]].reshape(4, 1, 1, 1), 4),
        ],
        ids=["not diagonal", "not one", "idle lane"],
    )
    def test_maximum_of_anything_but_whole_diagonals_of_ones(self, weight, groups):
        layer = make_layer(Source("input", weight, groups=groups), maximum=True)
        with pytest.raises(ValueError, match="maximum must be taken over taps with weight 1"):
            build_streams(layer, lanes=16)

    def test_tap_out_of_reach(self):
        source = Source("input", np.ones((4, 4, 3, 1), np.int16), dilation=(9, 1), padding=(9, 0))
        layer = make_layer(source)
        with pytest.raises(ValueError, match=r"distance \(-9, 0\) of 'input' is out of reach"):
            place_streams(
                build_streams(layer, lanes=16), layer=layer, placements=[place((8, 8), groups=1)]
            )


class TestPlacedStreams:
    def test_survive_packing(self):
        rng = np.random.default_rng(7)
        source = Source("input", random_weight(rng, 20, 20, 3, 3, density=0.4), padding=(1, 1))
        layer = make_layer(source)
        streams = build_streams(layer, lanes=16)
        placed = place_streams(streams, layer=layer, placements=[place((8, 8), groups=2, base=40)])
        assert [len(stream) for stream in placed] == streams.counts.tolist()
        for stream in placed:
            unpacked = unpack_slots(pack_slots(stream, lanes=16), lanes=16)
            used = ~stream.diagonal
            for name in ("weight", "new_block", "short_row", "short_column", "offset", "dy", "dx"):
                np.testing.assert_array_equal(getattr(unpacked, name), getattr(stream, name))
            np.testing.assert_array_equal(unpacked.index[used], stream.index[used])

    @pytest.mark.parametrize("stride", [1, 2, 4])
    @pytest.mark.parametrize("size", [(8, 8), (9, 11), (10, 7), (3, 15)])
    def test_address_the_pixel_of_every_tap(self, stride, size):
        """A slot's fields, by the rules of the machine, against where planes put the pixel."""
        weight = np.ones((4, 36, 5, 3), np.int16)
        source = Source("input", weight, stride=stride, padding=(3, 1), dilation=(1, 2))
        output = tuple(-(-extent // stride) for extent in size)
        layer = make_layer(source, size=output)
        placement = place(size, groups=3, stride=stride, base=100)
        (stream,) = place_streams(
            build_streams(layer, lanes=16), layer=layer, placements=[placement]
        )
        blocks = list_blocks(layer, lanes=16)
        for block, slot in enumerate(np.flatnonzero(stream.new_block)):
            dy, dx = int(stream.dy[slot]), int(stream.dx[slot])
            for y, x in np.ndindex(output):
                true_y = y * stride + int(blocks.row[block])
                true_x = x * stride + int(blocks.column[block])
                inside = 0 <= true_y < size[0] and 0 <= true_x < size[1]
                height = placement.plane_height - int(stream.short_row[slot])
                width = placement.plane_width - int(stream.short_column[slot])
                assert (0 <= y + dy < height and 0 <= x + dx < width) == inside
                if inside:
                    plane = placement.plane_offset(
                        int(blocks.group[block]), true_y % stride, true_x % stride
                    )
                    row, column = true_y // stride, true_x // stride
                    expected = plane + row // 4 * placement.pitch + column // 4
                    carry = (row % 4 < dy % 4) * placement.pitch + (column % 4 < dx % 4)
                    address = y // 4 * placement.pitch + x // 4 + int(stream.offset[slot]) + carry
                    assert address % 4096 == expected
