"""Networks that run partly on the host: results, costs, calibration, errors."""

import numpy as np
import pytest
import torch
from torch import nn

import coprune
from coprune.host_stage import HostStage
from coprune.hybrid import HybridProgram
from coprune.program import Program
from coprune_sim.cycle_model import MemoryModel

from ..end_to_end.configurations import SMALL
from .hybrid_networks import (
    ChannelsLast,
    Classifier,
    NormalizedBlock,
    Picker,
    SqueezeExcite,
    Tokens,
    Upsampler,
    build,
)
from .networks import images, residual

NETWORKS = [Classifier, Picker, SqueezeExcite, Upsampler, ChannelsLast, NormalizedBlock, Tokens]


def inputs(kind, count, *, seed=1):
    x = images(count, seed=seed)
    return x.permute(0, 2, 3, 1).contiguous() if kind is ChannelsLast else x


def compile_(kind, **options):
    calibration = [inputs(kind, 32), inputs(kind, 7, seed=2)]
    return coprune.compile(
        build(kind), SMALL, calibration=calibration, host_fallback=True, **options
    )


@pytest.fixture(scope="module")
def hybrids():
    return {kind: compile_(kind) for kind in NETWORKS}


def as_float(kind, x):
    with torch.inference_mode():
        return build(kind)(x).numpy()


@pytest.mark.parametrize("kind", NETWORKS)
def test_gives_what_its_stages_give_by_hand(hybrids, kind):
    hybrid = hybrids[kind]
    x = inputs(kind, 5, seed=3)
    values = x
    for stage in hybrid.stages:
        if isinstance(stage, Program):
            values = torch.from_numpy(stage.simulate(values.reshape(5, *stage.input_shape)))
        else:
            values = stage.run(values)
    outputs = hybrid.simulate(x)
    assert outputs.dtype == values.numpy().dtype
    assert outputs.shape == (5, *hybrid.output_shape)
    assert np.array_equal(outputs, values.numpy())
    assert np.array_equal(hybrid.simulate(x.numpy()), outputs)


@pytest.mark.parametrize("kind", [kind for kind in NETWORKS if kind is not Picker])
def test_simulates_close_to_the_float_network(hybrids, kind):
    x = inputs(kind, 64, seed=3)
    expected = as_float(kind, x)
    error = hybrids[kind].simulate(x) - expected
    # A value that uses a quarter of its int8 range has 64 steps, an error of 1/sqrt(12) steps, and
    # so at least 36 dB; a dozen such roundings, each as bad, leave 25.
    assert 10 * np.log10((expected**2).sum() / (error**2).sum()) > 25


def test_an_argmax_agrees_with_the_float_network(hybrids):
    x = images(200, seed=3)
    picked = hybrids[Picker].simulate(x)
    assert picked.dtype == np.int64
    with torch.inference_mode():
        logits = build(Picker).logits(x).numpy()
    # Another class only where the int8 steps of the output cannot tell the two apart.
    step = hybrids[Picker].programs[0].graph.output.scale
    chosen = np.take_along_axis(logits, picked[:, None], axis=1)[:, 0]
    assert (logits.max(axis=1) - chosen < 4 * step).all()
    assert (picked == logits.argmax(axis=1)).mean() > 0.9


def test_what_needs_no_host_is_the_program_that_it_was():
    program = coprune.compile(residual(), SMALL, calibration=[images(16)], host_fallback=True)
    expected = coprune.compile(residual(), SMALL, calibration=[images(16)])
    assert isinstance(program, Program)
    assert program.machine.image == expected.machine.image


def test_a_stage_is_calibrated_with_what_the_float_network_gives_it(hybrids):
    network = build(Upsampler)
    batches = [images(32), images(7, seed=2)]
    with torch.inference_mode():
        between = [
            nn.functional.interpolate(
                torch.relu(network.before(batch)), scale_factor=2.0, mode="bilinear"
            )
            for batch in batches
        ]
    expected = coprune.compile(network.after, SMALL, calibration=between)
    last = hybrids[Upsampler].stages[-1]
    assert last.graph.input.scale == expected.graph.input.scale
    assert last.graph.output.scale == expected.graph.output.scale
    assert np.array_equal(last.simulate(between[0]), expected.simulate(between[0]))


@pytest.mark.parametrize("batch", [1, 3])
def test_an_archive_for_one_batch_size_runs_any_number_of_images(batch):
    network = build(SqueezeExcite)
    exported = torch.export.export(network, (images(batch),))
    hybrid = coprune.compile(exported, SMALL, calibration=[images(32)], host_fallback=True)
    stage = next(stage for stage in hybrid.stages if isinstance(stage, HostStage))
    x = torch.rand(7, *stage.input_shape)
    with torch.inference_mode():
        gate = torch.sigmoid(
            network.expand(torch.relu(network.reduce(x.mean((2, 3), keepdim=True))))
        )
    # float32 sums in another order: 64 pixels, then eight terms, each rounding by up to 6e-8.
    assert torch.allclose(stage.run(x), x * gate, rtol=1e-5, atol=1e-6)
    assert stage.run(x[:0]).shape == (0, *stage.output_shape)
    assert hybrid.simulate(images(7)).shape == (7, 6, 8, 8)


def test_an_open_batch_gives_the_same_whatever_its_size(hybrids):
    x = images(6, seed=5)
    for kind in (Picker, Upsampler):
        alone = np.concatenate([hybrids[kind].simulate(image[None]) for image in x])
        assert np.array_equal(alone, hybrids[kind].simulate(x))


def test_the_host_operators_carry_their_source_and_cost(hybrids):
    _, host, _ = hybrids[SqueezeExcite].cycles().stages
    assert [(each.name, each.op, each.macs, each.elements) for each in host.operators] == [
        ("mean", "mean", 0, 8),
        ("reduce", "conv2d", 8 * 4, 4),
        ("relu", "relu", 0, 4),
        ("expand", "conv2d", 4 * 8, 8),
        ("sigmoid", "sigmoid", 0, 8),
        ("mul", "mul", 0, 8 * 64),
    ]
    assert host.macs == 64
    assert host.operators[-1].source.endswith("x = x * torch.sigmoid(gate)")
    assert "hybrid_networks.py:" in host.operators[-1].source
    # int8 from and to the accelerator.
    assert (host.input_bytes, host.output_bytes) == (8 * 64, 8 * 64)


def test_attention_counts_as_two_products(hybrids):
    _, host, _ = hybrids[Tokens].cycles().stages
    attention = next(each for each in host.operators if each.op.startswith("scaled_dot"))
    assert attention.macs == 2 * 16 * 16 * 8
    assert next(each for each in host.operators if each.op == "linear").macs == 16 * 8 * 24


def test_the_host_reads_and_writes_the_users_numbers_at_the_ends(hybrids):
    first, _ = hybrids[ChannelsLast].cycles().stages
    assert (first.input_bytes, first.output_bytes) == (4 * 3 * 64, 3 * 64)
    _, last = hybrids[Picker].cycles().stages
    assert (last.input_bytes, last.output_bytes) == (5, 8)


def test_cycles_are_those_of_its_programs(hybrids):
    hybrid, memory = hybrids[NormalizedBlock], MemoryModel(50, 50)
    table = hybrid.cycles(memory)
    parts = [program.cycles(memory) for program in hybrid.programs]
    assert len(parts) == 2
    assert table.layers == tuple(layer for part in parts for layer in part.layers)
    for field in ("macs", "nonzero_macs", "cycles", "compute_floor_cycles", "bus_floor_cycles"):
        assert getattr(table.total, field) == sum(getattr(part.total, field) for part in parts)
    use = table.total.nonzero_macs / (SMALL.multipliers * table.total.cycles)
    assert table.total.multiplier_use == use
    assert table.host_macs == 8 * 8 * 9 * 64
    assert table.total.cycles > hybrid.cycles().total.cycles


def test_the_last_stage_on_the_accelerator_can_give_exact_sums(hybrids):
    hybrid = compile_(Classifier, int32_output=True)
    x = images(64, seed=3)
    expected = as_float(Classifier, x)
    exact, rounded = (
        np.square(each.simulate(x) - expected).mean() for each in (hybrid, hybrids[Classifier])
    )
    assert exact < rounded
    assert hybrid.cycles().stages[1].input_bytes == 4 * 5


def test_integers_are_those_of_the_last_program(hybrids):
    hybrid = hybrids[Upsampler]
    integers = hybrid.simulate(images(2), integer=True)
    assert integers.dtype == np.int8
    tensor = hybrid.stages[-1].graph.output
    real = np.float32(tensor.scale) * (integers.astype(np.float32) - tensor.zero)
    assert np.array_equal(real, hybrid.simulate(images(2)))
    with pytest.raises(ValueError, match="runs on the host: leave out integer=True"):
        hybrids[Classifier].simulate(images(2), integer=True)


def test_cosim_runs_every_program_on_the_rtl(hybrids):
    x = images(2, seed=4)
    hybrid = hybrids[NormalizedBlock]
    result = hybrid.cosim(x)
    assert result.equal
    assert np.array_equal(result.outputs, hybrid.simulate(x))
    table = hybrid.cycles()
    assert result.total == table.total
    assert [(each.name, each.cycles) for each in result.layers] == [
        (each.name, each.cycles) for each in table.layers
    ]
    assert len(result.stages) == 2
    assert result.cycles_per_second > 0


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (images(2).double(), TypeError, "input must be float32, not float64"),
        (images(2, channels=1), ValueError, r"shape \[N, 3, 8, 8\], not \[2, 1, 8, 8\]"),
        (images(1) * float("nan"), ValueError, "input must be finite"),
    ],
)
@pytest.mark.parametrize("method", ["simulate", "cosim"])
def test_refuses_inputs_that_the_network_does_not_take(hybrids, method, x, error, message):
    with pytest.raises(error, match=message):
        getattr(hybrids[SqueezeExcite], method)(x)


def test_names_the_stage_that_gives_infinite_values():
    hybrid = compile_(ChannelsLast)
    # An image of one value has no spread to be divided by.
    with pytest.raises(ValueError, match=r"stage 1 on the host gives NaN .* which stage 2 on"):
        hybrid.simulate(torch.ones(1, 8, 8, 3))


@pytest.mark.parametrize(
    ("kind", "calibration", "error", "message"),
    [
        (ChannelsLast, [images(2).double()], TypeError, "calibration batches must be float32"),
        (Classifier, [], ValueError, "at least one batch"),
        (ChannelsLast, [torch.ones(1, 8, 8, 3)], ValueError, "holds NaN or infinity"),
    ],
)
def test_refuses_calibration_images(kind, calibration, error, message):
    with pytest.raises(error, match=message):
        coprune.compile(build(kind), SMALL, calibration=calibration, host_fallback=True)


def test_refuses_calibration_images_of_another_shape_than_an_archive():
    exported = torch.export.export(build(ChannelsLast), (inputs(ChannelsLast, 2),))
    with pytest.raises(ValueError, match=r"calibration must have shape \[N, 8, 8, 3\], not"):
        coprune.compile(exported, SMALL, calibration=[images(2)], host_fallback=True)


def test_an_error_says_that_the_host_could_run_it_where_it_could():
    with pytest.raises(ValueError, match="softmax") as caught:
        coprune.compile(build(Classifier), SMALL, calibration=[images(4)])
    assert str(caught.value).endswith(
        "; host_fallback=True (--host-fallback) runs such parts on the host"
    )
    for fallback in (False, True):
        with pytest.raises(ValueError, match="softmax") as caught:
            coprune.compile(
                nn.Softmax(1).eval(), SMALL, calibration=[images(4)], host_fallback=fallback
            )
        assert "host_fallback=True" not in str(caught.value)
        assert ("no convolution or matrix product would be left" in str(caught.value)) == fallback


def test_refuses_an_onnx_network():
    with pytest.raises(ValueError, match="host_fallback must be False for an ONNX network"):
        coprune.compile("network.onnx", SMALL, host_fallback=True)


def test_keeps_the_interface_of_a_program(hybrids):
    hybrid = hybrids[Classifier]
    assert isinstance(hybrid, HybridProgram)
    assert (hybrid.network, hybrid.config) == ("Classifier", SMALL)
    assert (hybrid.input_shape, hybrid.output_shape) == ((3, 8, 8), (5,))
    assert hybrid.float32_bytes == 4 * (8 * 3 * 9 + 8 * 5)
    assert hybrid.compression == hybrid.float32_bytes / hybrid.weight_bytes
    assert [hybrids[kind].picks_class for kind in (Classifier, Picker)] == [False, True]
