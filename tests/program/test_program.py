"""The Python interface: compile, simulate, co-simulate, count."""

import numpy as np
import pytest
import torch
from torch import nn

import coprune
from coprune_sim import machine

from ..end_to_end.configurations import SMALL
from .networks import images, residual


@pytest.fixture(scope="module")
def program():
    return coprune.compile(residual(), SMALL, calibration=[images(16), images(7, seed=2)])


def test_simulates_close_to_the_float_network(program):
    x = images(20, seed=3)
    outputs = program.simulate(x)
    assert outputs.dtype == np.float32
    assert outputs.shape == (20, 5)
    with torch.inference_mode():
        expected = residual()(x).numpy()
    assert np.abs(outputs - expected).max() < 0.05 * np.abs(expected).max()


def test_integer_outputs_stand_for_the_float_ones(program):
    x = images(4, seed=3)
    integers = program.simulate(x, integer=True)
    assert integers.dtype == np.int8
    assert integers.shape == (4, 5)
    tensor = program.graph.output
    real = np.float32(tensor.scale) * (integers.astype(np.float32) - tensor.zero)
    assert np.array_equal(real, program.simulate(x))


def test_integer_outputs_are_those_of_the_instruction_simulator(program):
    x = images(3, seed=4)
    integers = program.simulate(x, integer=True)
    for number, image in enumerate(program.quantize_input(x)):
        simulated = machine.run(program.machine, image).output
        assert np.array_equal(simulated.reshape(5), integers[number]), f"image {number}"


def test_takes_arrays_as_it_takes_tensors(program):
    x = images(2)
    assert np.array_equal(program.simulate(x.numpy()), program.simulate(x))


def test_an_output_that_is_an_image_keeps_its_shape():
    network = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1)).eval()
    compiled = coprune.compile(network, SMALL, calibration=[images(4)])
    assert compiled.output_shape == (6, 4, 4)
    assert compiled.simulate(images(3)).shape == (3, 6, 4, 4)


def test_cosim_is_equal_and_measures_every_layer(program):
    x = images(2, seed=5)
    result = program.cosim(x)
    assert result.equal
    assert np.array_equal(result.outputs, program.simulate(x))
    assert [layer.name for layer in result.layers] == ["stem", "body", "mean", "head"]
    assert all(layer.equal is True for layer in result.layers)
    assert all(layer.cycles >= layer.slots for layer in result.layers)
    assert result.total.cycles > sum(layer.cycles for layer in result.layers)
    assert result.total.cycles == result.counters["cycles"]


def test_cosim_names_the_layer_that_differs(program, monkeypatch):
    def differ(run_program, image):
        run = machine_run(run_program, image)
        run.layers["body"][0, 0, 0] ^= 1
        return run

    machine_run = machine.run
    monkeypatch.setattr(machine, "run", differ)
    result = program.cosim(images(1))
    assert not result.equal
    assert [layer.name for layer in result.layers if not layer.equal] == ["body"]


def test_counts_cycles_without_running(program):
    table = program.cycles()
    assert [layer.name for layer in table.layers] == ["stem", "body", "mean", "head"]
    total = table.total
    assert total.cycles == table.timing.cycles > sum(layer.cycles for layer in table.layers)
    assert total.macs == sum(layer.macs for layer in table.layers)
    assert total.nonzero_macs == sum(layer.nonzero_macs for layer in table.layers)
    assert total.compute_floor_cycles == -(-total.nonzero_macs // SMALL.multipliers)
    assert total.multiplier_use == total.nonzero_macs / (SMALL.multipliers * total.cycles)
    assert table.layers[0].macs == 8 * 8 * 8 * 3 * 9


def test_floor_is_the_larger_of_multipliers_and_bus(program):
    table = program.cycles()
    for layer in table.layers:
        compute = -(-layer.nonzero_macs // SMALL.multipliers)
        bus = max(layer.load_bytes, layer.store_bytes) // SMALL.bus_bytes
        assert layer.floor_cycles == max(compute, bus)
        assert layer.limit == ("bus" if bus > compute else "multipliers")
    assert {layer.limit for layer in table.layers} == {"bus", "multipliers"}
    loaded = sum(layer.load_bytes for layer in table.layers)
    assert table.total.bus_floor_cycles == loaded // SMALL.bus_bytes
    assert table.total.cycles > table.total.floor_cycles


def test_measures_the_cycles_that_it_counts(program):
    table = program.cycles()
    layers, total = program.measure_cycles()
    assert layers == [layer.cycles for layer in table.layers]
    assert total == table.total.cycles


def test_dense_keeps_the_zero_weights_and_the_results():
    network = residual()
    with torch.no_grad():
        network.body.weight[:, ::2] = 0
    sparse, dense = (
        coprune.compile(network, SMALL, calibration=[images(8)], skip_zeros=skip_zeros)
        for skip_zeros in (True, False)
    )
    assert dense.cycles().layers[1].slots > 1.5 * sparse.cycles().layers[1].slots
    assert dense.compression < sparse.compression
    assert np.array_equal(dense.simulate(images(3)), sparse.simulate(images(3)))


def test_compression_counts_the_weights_of_the_network_alone(program):
    weights = 8 * 3 * 9 + 8 * 8 * 9 + 5 * 8
    assert program.float32_bytes == 4 * weights
    assert 0 < program.weight_bytes < len(program.machine.image)
    assert program.compression == 4 * weights / program.weight_bytes


@pytest.mark.parametrize("batch", [1, 3])
def test_compiles_an_archive_of_any_batch_size(program, batch):
    exported = torch.export.export(residual(), (images(batch),))
    compiled = coprune.compile(exported, SMALL, calibration=[images(16), images(7, seed=2)])
    assert compiled.output_shape == (5,)
    assert np.array_equal(compiled.simulate(images(2)), program.simulate(images(2)))


def test_the_network_is_named_after_its_class(program):
    assert program.network == "Residual"
    assert program.config == SMALL


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (images(2).double(), TypeError, "must be float32, not float64"),
        (images(2).numpy().astype(np.uint8), TypeError, "must be float32, not uint8"),
        (images(2, channels=1), ValueError, r"shape \[N, 3, 8, 8\], not \[2, 1, 8, 8\]"),
        (images(1)[0], ValueError, r"shape \[N, 3, 8, 8\], not \[3, 8, 8\]"),
        (images(1) * float("nan"), ValueError, "must be finite"),
        (images(1) / 0, ValueError, "must be finite"),
    ],
)
@pytest.mark.parametrize("method", ["simulate", "cosim"])
def test_refuses_inputs_that_the_network_does_not_take(program, method, x, error, message):
    with pytest.raises(error, match=message):
        getattr(program, method)(x)


def test_refuses_a_cosim_of_nothing(program):
    with pytest.raises(ValueError, match="at least one image"):
        program.cosim(images(0))


def test_refuses_a_memory_that_is_unknown(program):
    with pytest.raises(ValueError, match="memory must be 'internal' or 'cocotbext', not 'ddr'"):
        program.cosim(images(1), memory="ddr")


@pytest.mark.parametrize(
    ("network", "calibration", "error", "message"),
    [
        (residual().train(), [images(2)], ValueError, "training mode"),
        (residual(), [images(2).double()], TypeError, "float32"),
        (residual(), [], ValueError, "calibration"),
        (residual(), [images(2) * float("inf")], ValueError, "NaN or infinity"),
        (nn.Sequential(nn.Conv2d(3, 8, 1), nn.Softsign()).eval(), [images(2)], ValueError, "aten"),
    ],
)
def test_refuses_what_it_cannot_compile(network, calibration, error, message):
    with pytest.raises(error, match=message):
        coprune.compile(network, SMALL, calibration=calibration)


def test_refuses_an_observer_that_is_unknown():
    with pytest.raises(ValueError, match="observer must be one of mse, percentile, minmax"):
        coprune.compile(residual(), SMALL, calibration=[images(2)], observer="median")
