"""The command that shows errors of layers, and the options of quantization that commands share."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import coprune
from coprune import zoo
from coprune.cli import main
from coprune.data import cifar10
from coprune.quantize import measure_errors, quantize_traced

from ..end_to_end.configurations import SMALL
from ..program.networks import images, residual

OPTIONS = {"observer": "minmax", "equalize": True, "correct_bias": True, "weight_bits": 5}
ARGUMENTS = ("--observer", "minmax", "--equalize", "--correct-bias", "--weight-bits", "5")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a command in an empty folder, where the zoo has one more network, and images are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(zoo._NETWORKS, "residual", residual)
    np.save("images.npy", images(5).numpy())
    fields = [f"{name} = {value}\n" for name, value in SMALL.to_dict().items()]
    Path("small.toml").write_text("".join(fields))

    def finish(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return finish


def test_compile_takes_the_options_of_quantization(run):
    files = ("--config", "small.toml", "--calibration", "images.npy")
    assert run("compile", "residual", "-o", "x.coprune", *files, *ARGUMENTS)[0] == 0
    program = coprune.load("x.coprune")
    expected = coprune.compile(residual(), SMALL, calibration=[images(5)], **OPTIONS)
    assert np.array_equal(program.simulate(images(2)), expected.simulate(images(2)))
    for layer, other in zip(program.graph.layers, expected.graph.layers, strict=True):
        assert np.array_equal(layer.bias, other.bias)
        for source, other_source in zip(layer.sources, other.sources, strict=True):
            assert np.array_equal(source.weight, other_source.weight)


@pytest.mark.parametrize(("arguments", "options"), [((), {}), (ARGUMENTS, OPTIONS)])
def test_errors_of_layers_are_those_of_the_library(run, arguments, options):
    files = ("--calibration", "images.npy", "--inputs", "images.npy", "--json", "result.json")
    code, out, err = run("sqnr", "residual", "--images", "3", *files, *arguments)
    assert (code, err) == (0, "")
    quantized = quantize_traced(residual(), [images(5)], **options)
    errors = measure_errors(quantized.exact, quantized.integers, images(5)[:3])
    title, _, _, *lines = out.splitlines()
    assert title == "residual, 3 images (images.npy): signal to noise in dB"
    worst = min(errors, key=lambda error: error.own_sqnr_db)
    for error, line in zip(errors, lines, strict=False):
        marked = ["worst"] if error is worst else []
        figures = [f"{error.sqnr_db:.2f}", f"{error.own_sqnr_db:.2f}"]
        assert line.split() == [error.name, error.operation, *figures, *marked]
    result = json.loads(Path("result.json").read_text())
    assert result["images"] == 3
    assert [layer["name"] for layer in result["layers"]] == [error.name for error in errors]
    assert [layer["own_sqnr_db"] for layer in result["layers"]] == [
        error.own_sqnr_db for error in errors
    ]


def test_images_that_come_along_are_used_without_others(run, monkeypatch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    monkeypatch.setitem(zoo._NETWORKS, "tiny", lambda: model)
    code, out, _ = run("sqnr", "tiny")
    assert code == 0
    count = len(cifar10.load_sample().test)
    assert out.startswith(f"tiny, {count} images (sample): signal to noise in dB\n")


def test_layer_without_noise_has_no_number_in_json(run, monkeypatch):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    model[0].bias.data[:] = -1000.0
    monkeypatch.setitem(zoo._NETWORKS, "silent", lambda: model)
    code, out, _ = run("sqnr", "silent", "--images", "2", "--json", "result.json")
    assert code == 0
    assert " inf " in out
    (layer,) = json.loads(Path("result.json").read_text())["layers"]
    assert (layer["sqnr_db"], layer["own_sqnr_db"]) == (None, None)


def test_wrong_width_and_unknown_network_end_in_one_line(run):
    code, out, err = run("sqnr", "residual", "--calibration", "images.npy", "--weight-bits", "9")
    assert (code, out, err) == (1, "", "coprune: weight_bits must be 2 to 8, not 9\n")
    code, out, err = run("sqnr", "resnet21")
    assert (code, out) == (1, "")
    assert err.startswith("coprune: MODEL must be one of ")
