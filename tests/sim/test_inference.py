"""The fast simulator against the reference: the same int8 values in every layer, always."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import coprune
from coprune import zoo
from coprune.data import cifar10
from coprune_hw.contract.arithmetic import MAX_POST_SHIFT, MAX_PRE_SHIFT
from coprune_sim import inference, reference
from coprune_sim.graph import IntegerGraph, Layer, Source, Tensor
from coprune_sim.inference import Simulator, products, proof, simulator
from coprune_sim.inference.proof import Method, largest_sum, prove
from tests.graphs import GRAPHS, GraphBuilder, random_graph

IMAGES = 5
RANDOM_GRAPHS = 30
FLOAT32_INTEGERS = 1 << 24
"""Beyond it float32 does not hold every integer."""


def draw_images(graph: IntegerGraph, *, seed: int, count: int = IMAGES) -> np.ndarray:
    """Random images; one of extreme pixels; one all black and one all white."""
    rng = np.random.default_rng(seed)
    images = rng.integers(-128, 128, (count, *graph.input.shape), np.int8)
    images[-3] = rng.choice([-128, 127], graph.input.shape)
    images[-2], images[-1] = -128, 127
    return images


def assert_equal(graph: IntegerGraph, images: np.ndarray) -> Simulator:
    """Every layer equals the reference's; report the first value that does not."""
    fast = Simulator(graph)
    expected = reference.run(graph, images, keep_layers=True)
    results = fast.run(images, keep_layers=True)
    assert list(results) == list(expected)
    for name, result in results.items():
        assert result.dtype == expected[name].dtype
        differing = np.argwhere(result != expected[name])
        if len(differing):
            place = tuple(map(int, differing[0]))
            pytest.fail(f"{name} {place}: {result[place]}, not {expected[name][place]}")
    np.testing.assert_array_equal(fast.run(images), expected[graph.layers[-1].name])
    return fast


def change_layers(graph: IntegerGraph, **changes) -> IntegerGraph:
    """Replace fields of all layers; callables take the layer."""
    layers = tuple(
        dataclasses.replace(layer, **{name: change(layer) for name, change in changes.items()})
        for layer in graph.layers
    )
    return IntegerGraph(graph.input, layers)


def one_layer(
    weight: np.ndarray, *, bias: int = 0, multiplier: int = 1 << 16, zero: int = -128, **changes
) -> IntegerGraph:
    """One pointwise convolution of an image of a single pixel, without shifts."""
    outputs, inputs = weight.shape[:2]
    output = Tensor("layer", outputs, 1, 1, scale=1.0, zero=zero)
    values = {
        "bias": np.full(outputs, bias),
        "multiplier": np.full(outputs, multiplier),
        "pre_shift": np.zeros(outputs, np.int64),
        "post_shift": np.full(outputs, 16),
        "low": -128,
        "high": 127,
    }
    source = Source("image", weight)
    layer = Layer("layer", "conv2d", output, (source,), **(values | changes))
    return IntegerGraph(Tensor("image", inputs, 1, 1, scale=1.0, zero=-128), (layer,))


def unproven(graph: IntegerGraph) -> set[str]:
    """Layers of random graphs that the reference computes."""
    return {layer.name for layer in graph.layers if layer.maximum or layer.input_dilation > 1}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_are_equal(name):
    graph = GRAPHS[name]()
    assert_equal(graph, draw_images(graph, seed=1))


@pytest.mark.parametrize("seed", range(RANDOM_GRAPHS))
def test_random_graphs_are_equal(seed):
    graph = random_graph(seed=seed)
    fast = assert_equal(graph, draw_images(graph, seed=seed))
    assert set(fast.reference_layers) == unproven(graph)


@pytest.mark.parametrize("seed", range(5))
def test_without_int8_products_everything_is_equal_too(seed, monkeypatch):
    monkeypatch.setattr(proof, "int8_products_are_exact", lambda: False)
    graph = random_graph(seed=seed)
    fast = assert_equal(graph, draw_images(graph, seed=seed))
    assert set(fast.reference_layers) == unproven(graph)


@pytest.mark.parametrize("seed", range(8))
def test_parameters_at_their_ends_are_equal(seed):
    rng = np.random.default_rng(seed)

    def choose(values):
        return lambda layer: rng.choice(values, layer.output.channels)

    graph = change_layers(
        random_graph(seed=100 + seed),
        multiplier=choose([0, 1, 3, (1 << 17) - 1, 1 << 16]),
        pre_shift=choose([0, 1, 2, 5, MAX_PRE_SHIFT]),
        post_shift=choose([0, 1, 8, 16, 24, MAX_POST_SHIFT]),
        bias=choose([-(1 << 20), -1, 0, 1, 1 << 20]),
        low=lambda layer: int(rng.choice([-128, 0])),
        high=lambda layer: int(rng.choice([1, 127])),
    )
    fast = assert_equal(graph, draw_images(graph, seed=seed))
    assert len(fast.reference_layers) < len(graph.layers) // 2


@pytest.mark.parametrize("zero", [-128, -127, -1, 0, 1, 127])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_zero_points_are_what_padding_reads(zero, stride):
    builder = GraphBuilder(5, (9, 10), seed=zero + 200)
    builder.tensors["input"] = dataclasses.replace(builder.tensors["input"], zero=zero)
    builder.add(builder.conv("input", 6, stride=stride), builder.conv("input", 6, stride=stride))
    builder.add(builder.depthwise("input", stride=stride))
    builder.add(builder.conv("input", 7, 2, stride=stride, padding=(1, 0)), size=(2, 2))
    graph = builder.graph()
    fast = assert_equal(graph, draw_images(graph, seed=zero + 300))
    assert fast.reference_layers == ()


def test_sums_of_identities_alone_are_equal():
    builder = GraphBuilder(6, (5, 4), seed=9)
    builder.add(*(builder.shortcut("input") for _ in range(3)))
    graph = builder.graph()
    assert assert_equal(graph, draw_images(graph, seed=9)).reference_layers == ()


def test_a_depthwise_source_that_strides_beyond_the_image_is_no_identity():
    builder = GraphBuilder(6, (5, 4), seed=18)
    strided = builder.depthwise("input", 1, stride=2)
    builder.add(builder.conv("input", 6), strided, size=(5, 4))
    graph = builder.graph()
    assert assert_equal(graph, draw_images(graph, seed=18)).reference_layers == ()


def test_every_method_takes_part():
    methods = set()
    for seed in range(5):
        graph = random_graph(seed=seed)
        proofs = [prove(layer, graph) for layer in graph.layers]
        methods |= {term.method for exact in proofs if exact for term in exact.terms}
    expected = set(Method)
    if not products.int8_products_are_exact():
        expected.remove(Method.INT8)
    assert methods == expected


def test_rounding_is_equal_at_every_operand_around_every_step():
    """Operands from one end to the other of the clamp, for many multipliers."""
    rng = np.random.default_rng(10)
    outputs = 64
    shape = (outputs, 2, 1, 1)
    weight = np.stack([np.full(outputs, 127), np.ones(outputs, int)], axis=1).reshape(shape)
    graph = one_layer(
        weight.astype(np.int16),
        zero=3,
        multiplier=rng.integers(1, 1 << 17, outputs),
        post_shift=rng.integers(15, 26, outputs),
        pre_shift=rng.integers(0, 4, outputs),
        bias=rng.integers(-300, 300, outputs),
    )
    pixels = np.stack(np.meshgrid(*[np.arange(-128, 128, dtype=np.int8)] * 2), axis=-1)
    assert assert_equal(graph, pixels.reshape(-1, 2, 1, 1)).reference_layers == ()


@pytest.mark.parametrize("zero", [-128, 100])
def test_saturation_that_shows_is_equal(zero):
    """Operands beyond 18 bits whose saturated product is not clamped."""
    weight = np.full((2, 1000, 1, 1), 30, np.int16)
    weight[1] = -30
    graph = one_layer(weight, zero=zero, post_shift=np.full(2, 26))
    assert prove(graph.layers[0], graph).saturates
    assert assert_equal(graph, draw_images(graph, seed=11)).reference_layers == ()


def test_saturation_behind_the_clamp_is_left_out():
    weight = np.full((1, 1000, 1, 1), 30, np.int16)
    graph = one_layer(weight, zero=-128, post_shift=np.full(1, 26), high=-1)
    assert not prove(graph.layers[0], graph).saturates
    assert_equal(graph, draw_images(graph, seed=11))


def wide_weight(total: int) -> np.ndarray:
    """One output's weights, of which 127 is the largest, that add up to `total`."""
    weight = np.full((1, -(-total // 127), 1, 1), 127, np.int16)
    weight[0, 0] -= 127 * weight.size - total
    return weight


def test_a_layer_beyond_24_bits_takes_the_reference_and_is_equal(monkeypatch):
    weight = wide_weight(127 * 1800 - 2)
    whitest = 127 * int(weight.sum(dtype=np.int64))
    graph = one_layer(weight, bias=-whitest, zero=0, post_shift=np.array([22]))
    assert prove(graph.layers[0], graph) is None
    images = np.full((100, *graph.input.shape), 127, np.int8)
    images[:, 0, 0, 0] -= np.arange(100, dtype=np.int8)
    assert assert_equal(graph, images).reference_layers == ("layer",)

    monkeypatch.setattr(proof, "EXACT_SUMS", 1 << 31)
    unproven = Simulator(graph)
    assert unproven.reference_layers == ()
    assert not np.array_equal(unproven.run(images), reference.run(graph, images))


@pytest.mark.parametrize(("bias", "proven"), [(0, True), (1, False)])
def test_the_proof_ends_at_the_last_sum_that_float32_holds(bias, proven):
    total = (FLOAT32_INTEGERS - 1) // 255
    # The input's zero point is -128: stored pixels count from 0, and 128 times the weights is what
    # the bias makes up for.
    room = FLOAT32_INTEGERS - 1 - 255 * total
    graph = one_layer(wide_weight(total), bias=128 * total + room + bias)
    exact = prove(graph.layers[0], graph)
    assert (exact is not None) == proven
    assert not proven or exact.largest[0] == FLOAT32_INTEGERS - 1
    assert_equal(graph, draw_images(graph, seed=17))


@pytest.mark.parametrize(
    "change",
    [
        {"multiplier": 1 << 17},
        {"multiplier": -1},
        {"pre_shift": np.array([MAX_PRE_SHIFT + 1])},
        {"post_shift": np.array([MAX_POST_SHIFT + 1])},
        {"post_shift": np.array([40]), "multiplier": 1 << 30},
    ],
)
def test_requantization_beyond_the_hardware_takes_the_reference(change):
    graph = one_layer(np.full((1, 3, 1, 1), 100, np.int16), **change)
    fast = assert_equal(graph, draw_images(graph, seed=13))
    assert fast.reference_layers == ("layer",)


@pytest.mark.parametrize("origin", [0, 1, 128, 255])
def test_largest_sum_is_reached_and_never_exceeded(origin):
    rng = np.random.default_rng(origin)
    weight = rng.integers(-2047, 2048, (6, 3, 3, 3)).astype(np.int16)
    weight[0], weight[1] = np.abs(weight[0]), -np.abs(weight[1])
    flat = weight.reshape(6, -1).astype(np.int64)
    largest = largest_sum(weight, origin=origin)
    extremes = [np.where(flat > 0, a, b) - origin for a, b in ((0, 255), (255, 0))]
    reached = np.max([np.abs((flat * pixels).sum(axis=1)) for pixels in extremes], axis=0)
    np.testing.assert_array_equal(largest, reached)
    pixels = rng.choice([0, 255], (27, 1000)) - origin
    partial_sums = np.cumsum(flat[:, :, None] * pixels, axis=1)
    assert (np.abs(partial_sums).max(axis=(1, 2)) <= largest).all()


def test_int8_products_that_saturate_are_noticed(monkeypatch):
    def saturating(self, image):
        return honest(self, image).clamp(max=32767)

    honest = products.Int8Products.__call__
    monkeypatch.setattr(products.Int8Products, "__call__", saturating)
    assert not products.int8_products_are_exact.__wrapped__()


def test_int8_products_are_used_where_the_processor_has_instructions_for_them():
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists() or "avx512_vnni" not in cpuinfo.read_text():
        pytest.skip("the processor has no AVX-512 VNNI, without which products may saturate")
    assert products.int8_products_are_exact()


def test_batches_of_any_size_are_equal(monkeypatch):
    graph = GRAPHS["strided"]()
    images = draw_images(graph, seed=14, count=11)
    monkeypatch.setattr(simulator, "BATCH_VALUES", 4 * 24 * 16 * 16)
    fast = Simulator(graph)
    assert 1 < fast.batch_images < len(images)
    expected = reference.run(graph, images)
    for count in (11, 1, 4, 5):
        np.testing.assert_array_equal(fast.run(images[:count]), expected[:count])


def test_blocks_of_the_drain_need_not_divide_the_image(monkeypatch):
    monkeypatch.setattr(inference.drain, "BLOCK_VALUES", 1000)
    graph = random_graph(seed=15)
    assert_equal(graph, draw_images(graph, seed=15))


def test_inputs_are_left_as_they_are():
    graph = GRAPHS["strided"]()
    images = torch.from_numpy(draw_images(graph, seed=16))
    images = images.contiguous(memory_format=torch.channels_last)
    before = images.clone()
    Simulator(graph).run(images)
    assert torch.equal(images, before)


def test_other_inputs_are_refused():
    fast = Simulator(GRAPHS["strided"]())
    with pytest.raises(TypeError, match=r"must be int8, not torch\.float32"):
        fast.run(np.zeros((1, 3, 16, 16), np.float32))
    with pytest.raises(ValueError, match=r"shape \[N, 3, 16, 16\], not \[1, 3, 5, 16\]"):
        fast.run(np.zeros((1, 3, 5, 16), np.int8))


@pytest.fixture(scope="module")
def demo() -> coprune.Program:
    sample = cifar10.load_sample()
    calibration = list(cifar10.normalize(sample.calibration.images).split(64))
    accelerator = coprune.AcceleratorConfig.preset("16x16")
    return coprune.compile(zoo.build("resnet20"), accelerator, calibration=calibration)


def test_demo_network_is_equal_on_real_images(demo):
    images = demo.quantize_input(cifar10.normalize(cifar10.load_sample().test.images[:100]))
    assert assert_equal(demo.graph, images).reference_layers == ()


def test_program_prepares_once_and_equals_the_reference(demo, monkeypatch):
    prepared = []
    monkeypatch.setattr(
        inference, "Simulator", lambda graph: prepared.append(graph) or Simulator(graph)
    )
    program = dataclasses.replace(demo)
    images = cifar10.normalize(cifar10.load_sample().test.images[:6])
    halves = [program.simulate(half, integer=True) for half in images.split(3)]
    expected = reference.run(demo.graph, demo.quantize_input(images))
    np.testing.assert_array_equal(np.concatenate(halves), expected.reshape(6, 10))
    assert prepared == [demo.graph]


def test_copies_of_a_used_program_work(demo):
    images = cifar10.normalize(cifar10.load_sample().test.images[:2])
    expected = demo.simulate(images)
    np.testing.assert_array_equal(copy.deepcopy(demo).simulate(images), expected)
