"""The networks that come along, on the RTL of the default preset."""

import numpy as np
import pytest

import coprune
from coprune import zoo
from coprune.data import cifar10
from coprune.program import Program
from coprune_sim.cosim import runner

PRESET = "16x16"
SPARSE_CYCLES = 48_000
DENSE_CYCLES = 168_000
SPEEDUP = 3.5

IMAGES = cifar10.normalize(cifar10.load_sample().test.images[:3])


def compile_network(name: str) -> Program:
    images = cifar10.normalize(cifar10.load_sample().calibration.images)
    accelerator = coprune.AcceleratorConfig.preset(PRESET)
    return coprune.compile(zoo.build(name), accelerator, calibration=list(images.split(64)))


@pytest.fixture(scope="module")
def sparse() -> Program:
    return compile_network("resnet20")


@pytest.fixture(scope="module")
def sparse_result(sparse):
    return sparse.cosim(IMAGES)


def assert_all_equal(result):
    assert [layer.name for layer in result.layers if not layer.equal] == []
    assert result.equal


def test_sparse_network_is_equal_in_every_layer_of_three_images(sparse, sparse_result):
    assert_all_equal(sparse_result)
    assert np.array_equal(sparse_result.outputs, sparse.simulate(IMAGES))


def test_sparse_network_takes_at_most_48000_cycles(sparse_result):
    assert sparse_result.total.cycles <= SPARSE_CYCLES


def test_sparse_network_is_equal_under_random_backpressure(sparse):
    assert_all_equal(sparse.cosim(IMAGES[:1], memory="cocotbext", stall_seed=1))


def test_dense_network_is_equal_and_3_5_times_slower(sparse_result):
    dense = compile_network("resnet20-dense").cosim(IMAGES[:1])
    assert_all_equal(dense)
    assert dense.total.cycles <= DENSE_CYCLES
    assert dense.total.cycles >= SPEEDUP * sparse_result.total.cycles


def test_timing_depends_on_neither_data_nor_history(sparse):
    pixels = list(sparse.quantize_input(IMAGES[:2]))
    first, *others = runner.run(sparse.machine, [*pixels, pixels[0]]).images
    for image in others:
        assert image.counters == first.counters
        assert image.marks == first.marks
    assert np.array_equal(others[-1].output, first.output)
    for field in ("bank", "address", "word"):
        assert np.array_equal(getattr(others[-1].drained, field), getattr(first.drained, field))
