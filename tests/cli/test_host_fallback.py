"""Commands on a network that runs partly on the host."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import coprune
from coprune.cli import main
from coprune.data import cifar10
from coprune.program import Program

from ..end_to_end.configurations import SMALL

NETWORKS = """
import torch
from torch import nn

class Picker(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 3, stride=4)
        self.norm = nn.GroupNorm(2, 8)
        self.head = nn.Conv2d(8, 10, 3)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        return self.head(x).amax((2, 3)).argmax(1)

def softmax():
    return nn.Softmax(1)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a module of networks, a configuration and a compiled network."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "host_networks.py").write_text(NETWORKS)
    fields = [f"{name} = {value}\n" for name, value in SMALL.to_dict().items()]
    (folder / "small.toml").write_text("".join(fields))
    namespace = {}
    exec(NETWORKS, namespace)
    coprune.compile(
        namespace["Picker"]().eval(),
        SMALL,
        calibration=[cifar10.normalize(cifar10.load_sample().calibration.images[:64])],
        host_fallback=True,
        network="picker",
    ).save(folder / "picker.coprune")
    return folder


@pytest.fixture
def run(made, tmp_path, monkeypatch, capsys):
    """Runs a command in this process, in an empty folder: exit code, stdout, stderr."""

    def finish(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(made)
    return finish


def test_compiles_with_host_fallback_alone(run, made, tmp_path):
    arguments = ("compile", "host_networks:Picker", "-o", "x.coprune")
    options = ("--config", made / "small.toml")
    code, out, err = run(*arguments, *options)
    assert (code, out) == (1, "")
    assert "operator aten.group_norm.default" in err
    assert "--host-fallback" in err
    assert list(tmp_path.iterdir()) == []
    code, out, err = run(*arguments, *options, "--host-fallback", "--json", "x.json")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("x.coprune: host_networks:Picker for 8x4, 4 stages, ")
    assert [line.split(",")[0] for line in lines[1:]] == [
        "stage 1: accelerator",
        "stage 2: host",
        "stage 3: accelerator",
        "stage 4: host",
    ]
    described = json.loads(Path("x.json").read_text())
    assert described["network"] == "host_networks:Picker"
    assert [stage["on"] for stage in described["stages"]] == ["accelerator", "host"] * 2
    assert described["stages"][1]["operators"][0]["op"] == "group_norm"
    assert isinstance(coprune.load("x.coprune").stages[0], Program)
    assert run("info", "x.coprune")[1].splitlines()[1:] == lines[1:]


def test_compiles_an_archive_with_host_fallback(run, made):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Softmax(1)).eval()
    torch.export.save(torch.export.export(network, (torch.zeros(2, 3, 32, 32),)), "net.pt2")
    code, out, err = run(
        *("compile", "net.pt2", "-o", "x.coprune", "--host-fallback"),
        *("--config", made / "small.toml"),
    )
    assert (code, err) == (0, "")
    assert "2 stages" in out
    assert coprune.load("x.coprune").simulate(torch.zeros(3, 3, 32, 32)).shape == (3, 4, 30, 30)


def test_refuses_networks_that_cannot_be_divided(run):
    arguments = ("-o", "x.coprune", "--host-fallback")
    code, out, err = run("compile", "host_networks:softmax", *arguments)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "no convolution or matrix product would be left" in err
    code, out, err = run("compile", "network.onnx", *arguments)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "host_fallback must be False for an ONNX network" in err


def test_simulates_with_the_accuracy_of_what_an_argmax_picks(run, made):
    code, out, err = run("simulate", made / "picker.coprune", "--images", "100", "--json", "x.json")
    assert (code, err) == (0, "")
    sample = cifar10.load_sample().test
    picked = coprune.load(made / "picker.coprune").simulate(cifar10.normalize(sample.images[:100]))
    expected = float(np.mean(picked == sample.labels[:100]))
    assert json.loads(Path("x.json").read_text())["accuracy"] == expected
    assert f"accuracy {expected:.2%} on 100 images" in out


def test_cycles_shows_what_is_left_to_the_host(run, made):
    hybrid = coprune.load(made / "picker.coprune")
    code, out, err = run("cycles", made / "picker.coprune", "--json", "x.json")
    assert (code, err) == (0, "")
    table = hybrid.cycles()
    assert "stage 2 of 4, on the host: 512 bytes in, 512 bytes out" in out
    assert "host_networks.py" not in out  # compiled from a text, not from a file
    assert "group_norm" in out
    assert "argmax" in out
    assert out.splitlines()[-1] == (
        f"accelerator: {table.total.cycles:,} cycles (floor {table.total.floor_cycles:,}), "
        f"{table.total.macs:,} MACs; host: 2 operators, 0 MACs (0.0% of all), 1,042 bytes"
    )
    described = json.loads(Path("x.json").read_text())
    assert described["total"]["cycles"] == table.total.cycles
    assert [stage["on"] for stage in described["stages"]] == ["accelerator", "host"] * 2


def test_cosim_and_measured_cycles_are_those_of_all_stages(run, made):
    table = coprune.load(made / "picker.coprune").cycles()
    code, out, err = run("cosim", made / "picker.coprune", "--layers", "--json", "x.json")
    assert code == 0, err
    assert f"{table.total.cycles:,} cycles from start to interrupt" in out
    described = json.loads(Path("x.json").read_text())
    assert described["equal"] is True
    assert len(described["stages"]) == 2
    code, out, err = run("cycles", made / "picker.coprune", "--rtl", "--json", "x.json")
    assert code == 0, err
    measured = json.loads(Path("x.json").read_text())["rtl"]
    assert sum(stage["total"] for stage in measured) == table.total.cycles


@pytest.mark.parametrize(
    ("arguments", "purpose"),
    [
        (("report", "FILE", "-o", "x.html"), "a report"),
        (("export-c", "FILE", "-o", "made"), "export-c"),
        (("cosim", "FILE", "--timeline", "x.json"), "--timeline"),
        (("cosim", "FILE", "--trace", "x.fst"), "--trace"),
        (("cycles", "FILE", "--pauses", "0.25:40"), "--pauses"),
    ],
)
def test_says_what_does_not_take_such_a_program(run, made, tmp_path, arguments, purpose):
    file = made / "picker.coprune"
    code, out, err = run(*(file if each == "FILE" else each for each in arguments))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert f"{purpose} needs a program that runs wholly on the accelerator" in err
    assert "info, simulate, cosim and cycles take it" in err
    assert list(tmp_path.iterdir()) == []
