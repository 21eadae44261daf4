"""The commands: what they write and print, and how each mistake ends."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import coprune
from coprune import demo, zoo
from coprune.cli import main
from coprune.data import cifar10
from coprune.program import Program
from coprune.report import describe
from coprune.results import CosimResult, CycleTable, LayerResult
from coprune_sim.chrome_trace import chrome_trace
from coprune_sim.cosim.toolchain import find_toolchain
from coprune_sim.cosim.waveform import Trace
from coprune_sim.cycle_model import MemoryModel, Pauses, bound_cycles

from ..compiler import onnx_networks
from ..end_to_end.configurations import SMALL
from ..program.networks import images, residual

COPRUNE = Path(sys.executable).parent / "coprune"

NETWORKS = """
import warnings

import torch
from torch import nn

def classifier():
    warnings.warn("a warning of the user's module")
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )

class Running(nn.Module):
    def forward(self, x):
        return torch.cumsum(x, 1)

class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRU(32, 8)

    def forward(self, x):
        return self.cell(x[:, 0])[0]

class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x

class Failing(nn.Module):
    def forward(self, x):
        raise KeyError("forward failed")

def wide():
    return nn.Sequential(nn.Conv2d(3, 160, 1))

def broken():
    raise KeyError("no weights")

def text():
    return "a string"

def unfinished(width):
    return nn.Conv2d(3, width, 1)
"""


@dataclasses.dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a module of networks, a configuration, images and two compiled programs."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "own_networks.py").write_text(NETWORKS)
    fields = [f"{name} = {value}\n" for name, value in SMALL.to_dict().items()]
    (folder / "small.toml").write_text("".join(fields))
    np.save(folder / "images.npy", images(5).numpy())
    np.save(folder / "calibration.npy", images(8, size=32).numpy())
    torch.save(residual(seed=3).state_dict(), folder / "residual.pt")
    small = coprune.compile(residual(), SMALL, calibration=[images(8)], network="residual")
    small.save(folder / "residual.coprune")
    namespace = {}
    exec(NETWORKS, namespace)
    sample = cifar10.normalize(cifar10.load_sample().calibration.images[:32])
    with pytest.warns(UserWarning, match="of the user's module"):
        classifier = namespace["classifier"]().eval()
    coprune.compile(classifier, SMALL, calibration=[sample], network="classifier").save(
        folder / "classifier.coprune"
    )
    return folder


@pytest.fixture
def run(made, tmp_path, monkeypatch, capsys):
    """Runs a command in this process, in an empty folder that the one that was made is beside."""

    def finish(*arguments: str | Path) -> Finished:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Finished(ended.value.code, captured.out, captured.err)

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(made)
    return finish


def listing(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def as_measured(table: CycleTable) -> CosimResult:
    """What the RTL would say of what the cycle model counted."""
    names = [field.name for field in dataclasses.fields(LayerResult) if field.name != "equal"]
    layers = tuple(
        LayerResult(**{name: getattr(layer, name) for name in names}, equal=True)
        for layer in table.layers
    )
    return CosimResult(
        outputs=np.zeros(1),
        equal=True,
        layers=layers,
        total=table.total,
        counters={},
        cycles_per_second=1.0,
        timeline=table.timing.instructions,
    )


def assert_refused(finished: Finished, message: str) -> None:
    """One line on stderr, exit code 1, nothing on stdout."""
    assert finished.code == 1
    assert finished.out == ""
    assert finished.err.startswith("coprune: ")
    assert finished.err.count("\n") == 1, finished.err
    assert message in finished.err
    assert "Traceback" not in finished.err


def test_compiles_a_function_of_a_module(run, made, tmp_path):
    finished = run(
        *("compile", "own_networks:classifier", "-o", "own.coprune", "--json", "own.json"),
        *("--config", made / "small.toml", "--calibration", made / "calibration.npy"),
    )
    assert finished.code == 0
    assert finished.err == ""
    assert finished.out.startswith("own.coprune: own_networks:classifier for 8x4, ")
    assert listing(tmp_path) == ["own.coprune", "own.json"]
    described = json.loads(Path("own.json").read_text())
    program = coprune.load("own.coprune")
    assert program.config == SMALL
    assert described["network"] == "own_networks:classifier"
    assert described["float32_bytes"] == 4 * (8 * 3 * 9 + 8 * 10)
    assert described["compression"] == program.compression
    assert [layer["name"] for layer in described["layers"]] == ["0", "3", "5"]


def test_compiles_an_archive(run, made):
    torch.export.save(torch.export.export(residual(), (images(1),)), "residual.pt2")
    finished = run(
        *("compile", "residual.pt2", "-o", "from_archive.coprune"),
        *("--config", made / "small.toml", "--calibration", made / "images.npy"),
    )
    assert finished.code == 0
    assert finished.err == ""
    program = coprune.load("from_archive.coprune")
    expected = coprune.compile(residual(), SMALL, calibration=[images(5)])
    assert np.array_equal(program.simulate(images(2)), expected.simulate(images(2)))


def test_compiles_with_other_weights_and_without_skipping_zeros(run, made, monkeypatch):
    monkeypatch.setitem(zoo._NETWORKS, "residual", residual)
    options = ("--config", made / "small.toml", "--calibration", made / "images.npy")
    weights = ("--weights", made / "residual.pt")
    assert run("compile", "residual", "-o", "other.coprune", *weights, *options).code == 0
    expected = coprune.compile(residual(seed=3), SMALL, calibration=[images(5)])
    actual = coprune.load("other.coprune")
    assert np.array_equal(actual.simulate(images(2)), expected.simulate(images(2)))
    options = (*options, "--observer", "minmax")
    assert run("compile", "residual", "-o", "dense.coprune", "--dense", *options).code == 0


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("resnet21", "squeezenet, package.module:function, a .pt2 archive or an .onnx file, not"),
        ("own_networks:missing", "cannot find own_networks:missing: AttributeError"),
        ("no_such_module:network", "cannot find no_such_module:network: ModuleNotFoundError"),
        ("own_networks:broken", "own_networks:broken failed: KeyError: 'no weights'"),
        ("own_networks:text", "own_networks:text must return an nn.Module, not str"),
        ("own_networks:unfinished", "missing 1 required positional argument: 'width'"),
        ("own_networks:Running", "operator aten.cumsum.default (node 'cumsum', "),
        ("own_networks:Recurrent", "is not supported"),
        ("own_networks:Branching", "data-dependent"),
        ("own_networks:Failing", "forward failed"),
        ("own_networks:wide", "activation_depth is 512"),
        ("missing.pt2", "no such torch.export archive: missing.pt2"),
        ("missing.onnx", "no such ONNX model: missing.onnx"),
    ],
)
def test_refuses_a_model(run, tmp_path, model, message):
    assert_refused(run("compile", model, "-o", "x.coprune", "--json", "x.json"), message)
    assert listing(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04" + bytes(100)])
def test_refuses_an_archive_that_is_damaged(run, tmp_path, content):
    Path("damaged.pt2").write_bytes(content)
    finished = run("compile", "damaged.pt2", "-o", "x.coprune")
    assert_refused(finished, "damaged.pt2 is no torch.export archive, or is damaged: ")
    assert listing(tmp_path) == ["damaged.pt2"]


def test_refuses_an_archive_in_training_mode(run):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.BatchNorm2d(8)).train()
    exported = torch.export.export(network, (torch.zeros(2, 3, 32, 32),))
    torch.export.save(exported, "training.pt2")
    assert_refused(run("compile", "training.pt2", "-o", "x.coprune"), "exported in training mode")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--weights", "missing.pt"), "no such weights file: missing.pt"),
        (("--weights", "junk"), "junk does not hold this network's state dict"),
        (("--weights", "other.pt"), "other.pt does not hold this network's state dict"),
        (("--calibration", "missing.npy"), "no such file of images: missing.npy"),
        (("--calibration", "junk"), "junk is no .npy file"),
        (("--calibration", "doubles.npy"), "float32 [N, C, H, W], not float64 [2, 3, 32, 32]"),
        (("--calibration", "none.npy"), "must hold at least one image"),
        (("--calibration", "nan.npy"), "NaN or infinity"),
        (("--calibration", "gray.npy"), "expected input"),
        (("--observer", "median"), "observer must be one of mse, percentile, minmax"),
        (("--config", "3x3"), "unknown preset '3x3': must be one of 16x16"),
        (("--config", "missing.toml"), "no such configuration file: missing.toml"),
        (("--config", "value.toml"), "lanes must be one of 8, 16, not 12"),
        (("--config", "key.toml"), "key.toml: unknown field 'lines'"),
        (("--config", "syntax.toml"), "syntax.toml is not a TOML file"),
        (("--config", "junk"), "junk is not a TOML file"),
        (("--config", "deep.toml"), "slot"),
    ],
)
def test_refuses_an_option_of_compile(run, tmp_path, options, message):
    Path("junk").write_text("no = such = format")
    torch.save({"weight": torch.zeros(3)}, "other.pt")
    np.save("doubles.npy", np.zeros((2, 3, 32, 32)))
    np.save("none.npy", np.zeros((0, 3, 32, 32), np.float32))
    np.save("nan.npy", np.full((2, 3, 32, 32), np.nan, np.float32))
    np.save("gray.npy", np.zeros((2, 1, 32, 32), np.float32))
    Path("value.toml").write_text("lanes = 12")
    Path("key.toml").write_text("lines = 8")
    Path("syntax.toml").write_text("lanes = = 8")
    Path("deep.toml").write_text("slot_depth = 16")
    before = listing(tmp_path)
    finished = run("compile", "own_networks:classifier", "-o", "x.coprune", *options)
    assert_refused(finished, message)
    assert listing(tmp_path) == before


def test_refuses_weights_beside_an_archive(run):
    finished = run("compile", "x.pt2", "-o", "x.coprune", "--weights", "x.pt")
    assert_refused(finished, "--weights does not go with a .pt2 archive")
    finished = run("compile", "x.onnx", "-o", "x.coprune", "--weights", "x.pt")
    assert_refused(finished, "--weights does not go with an .onnx file")


def test_compiles_an_onnx_file(run, made):
    onnx.save(onnx_networks.export(residual(), images(2)), "residual.onnx")
    finished = run(
        *("compile", "residual.onnx", "-o", "from_onnx.coprune"),
        *("--config", made / "small.toml", "--calibration", made / "images.npy"),
    )
    assert (finished.code, finished.err) == (0, "")
    program = coprune.load("from_onnx.coprune")
    expected = coprune.compile(residual(), SMALL, calibration=[images(5)])
    assert np.array_equal(program.simulate(images(2)), expected.simulate(images(2)))


def test_refuses_an_onnx_file_in_one_line(run, tmp_path):
    node = onnx.helper.make_node("LpNormalization", ["x"], ["y"], name="unit")
    onnx.save(onnx_networks.make_model([node], image=(3, 32, 32)), "unit.onnx")
    finished = run("compile", "unit.onnx", "-o", "x.coprune")
    assert_refused(finished, "operator LpNormalization (node 'unit', output 'y') is not supported")
    assert listing(tmp_path) == ["unit.onnx"]


def test_says_what_images_a_network_was_given(run, tmp_path):
    Path("gray.py").write_text("from torch import nn\ndef net(): return nn.Conv2d(1, 8, 1)\n")
    finished = run("compile", "gray:net", "-o", "x.coprune")
    assert_refused(finished, "without --calibration, the network is given images of 3 x 32 x 32")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("file/x", "cannot write file/x: file is no folder"),
        ("missing/x", "cannot write missing/x: there is no folder missing"),
        ("folder", "cannot write folder: it is a folder"),
    ],
)
@pytest.mark.parametrize(
    "arguments",
    [
        ("compile", "resnet20", "-o"),
        ("compile", "resnet20", "-o", "x.coprune", "--json"),
        ("simulate", "x.coprune", "--json"),
        ("cosim", "x.coprune", "--json"),
        ("cosim", "x.coprune", "--timeline"),
        ("cosim", "x.coprune", "--trace"),
        ("info", "x.coprune", "--json"),
        ("sqnr", "resnet20", "--json"),
        ("verilog", "-o", "made", "--json"),
        ("export-c", "x.coprune", "-o", "made", "--json"),
        ("report", "x.coprune", "-o"),
        ("report", "x.coprune", "-o", "x.html", "--json"),
        ("demo", "-o", "made", "--json"),
    ],
)
def test_refuses_a_path_before_the_work(run, tmp_path, arguments, path, message):
    Path("file").write_text("")
    Path("folder").mkdir()
    assert_refused(run(*arguments, path), message)
    assert listing(tmp_path) == ["file", "folder"]


@pytest.mark.parametrize("command", [("demo",), ("verilog",), ("build", "--board", "pynq-z2")])
def test_refuses_a_folder_that_cannot_be_made(run, tmp_path, command):
    Path("file").write_text("")
    assert_refused(run(*command, "-o", "file/x"), "cannot make the folder file/x: Not a directory")
    assert_refused(run(*command, "-o", "file"), "cannot make the folder file: File exists")
    assert listing(tmp_path) == ["file"]


@pytest.mark.parametrize("command", ["simulate", "cosim", "info"])
def test_refuses_a_program_that_is_missing_or_damaged(run, made, command):
    Path("text.coprune").write_text("hello")
    Path("cut.coprune").write_bytes((made / "residual.coprune").read_bytes()[:-100])
    assert_refused(run(command, "missing.coprune"), "no such program file: missing.coprune")
    assert_refused(run(command, "text.coprune"), "text.coprune is no program file")
    assert_refused(run(command, "cut.coprune"), "is damaged")


def test_simulates_the_sample(run, made):
    program = made / "classifier.coprune"
    finished = run("simulate", program, "--images", "300", "--json", "result.json")
    assert finished.code == 0
    assert finished.err == ""
    result = json.loads(Path("result.json").read_text())
    test = cifar10.load_sample().test
    outputs = coprune.load(program).simulate(cifar10.normalize(test.images[:300]), integer=True)
    assert result["images"] == 300
    assert result["accuracy"] == np.mean(outputs.argmax(axis=1) == test.labels[:300])
    assert result["images_per_second"] > 0
    assert result["data"] == "sample"
    assert f"accuracy {result['accuracy']:.2%} on 300 images (sample)" in finished.out


def test_simulates_all_of_the_sample_without_being_told_how_many(run, made):
    assert "on 500 images (sample)" in run("simulate", made / "classifier.coprune").out


def test_simulates_images_of_ones_own(run, made):
    arguments = ("simulate", made / "residual.coprune", "--inputs", made / "images.npy")
    finished = run(*arguments, "--json", "result.json")
    assert finished.code == 0
    assert finished.out.startswith("no accuracy on 5 images")
    result = json.loads(Path("result.json").read_text())
    assert result["accuracy"] is None
    assert result["images"] == 5
    assert "no accuracy on 2 images" in run(*arguments, "--images", "2").out


def test_reads_test_images_from_a_folder(run, made, monkeypatch):
    sample = cifar10.load_sample().test
    monkeypatch.setattr(cifar10, "load_test", lambda folder: sample)
    finished = run("simulate", made / "classifier.coprune", "--data", "folder", "--images", "7")
    assert "on 7 images (folder)" in finished.out


@pytest.mark.parametrize("command", ["simulate", "cosim"])
@pytest.mark.parametrize(
    ("program", "options", "message"),
    [
        ("classifier", ("--images", "501"), "at most 500, not 501; --data cifar-10-batches-py"),
        ("classifier", ("--images", "0"), "'--images'"),
        ("classifier", ("--images", "many"), "'--images'"),
        ("classifier", ("--data", "missing"), "no CIFAR-10 in missing"),
        ("classifier", ("--inputs", "images.npy"), "must have shape [N, 3, 32, 32], not ["),
        ("residual", (), "network takes 3 x 8 x 8: give --inputs FILE.npy"),
        ("residual", ("--inputs", "images.npy", "--images", "6"), "at most 5, not 6"),
        ("residual", ("--inputs", "images.npy", "--data", "x"), "do not go together"),
        ("residual", ("--inputs", "missing.npy"), "no such file of images: missing.npy"),
        ("residual", ("--inputs", "nan.npy"), "input must be finite"),
        ("residual", ("--inputs", "ints.npy"), "must hold float32 [N, C, H, W], not int8"),
        ("residual", ("--inputs", "two.npz"), "must hold float32 [N, C, H, W], not an .npz"),
    ],
)
def test_refuses_images(run, made, command, program, options, message):
    np.save("images.npy", images(5).numpy())
    np.save("nan.npy", np.full((2, 3, 8, 8), np.nan, np.float32))
    np.save("ints.npy", np.zeros((2, 3, 8, 8), np.int8))
    np.savez("two.npz", np.zeros(2))
    finished = run(command, made / f"{program}.coprune", *options, "--json", "x.json")
    assert_refused(finished, message)
    assert not Path("x.json").exists()


def test_an_interrupt_ends_in_one_line(run, made, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Program, "simulate", interrupt)
    finished = run("simulate", made / "classifier.coprune")
    assert finished.code == 1
    assert finished.err.strip() == "coprune: interrupted"


def test_cosim_measures_and_compares(run, made):
    arguments = ("--inputs", made / "images.npy", "--images", "2", "--layers")
    finished = run("cosim", made / "residual.coprune", *arguments, "--json", "result.json")
    assert finished.code == 0, finished.err
    assert finished.err == ""
    result = json.loads(Path("result.json").read_text())
    assert result["equal"] is True
    assert result["images"] == 2
    keys = {"name", "op", "macs", "nonzero_macs", "slots", "cycles", "equal"}
    assert [set(layer) for layer in result["layers"]] == [keys] * 4
    assert set(result["total"]) == {
        *("macs", "nonzero_macs", "cycles", "floor_cycles", "multiplier_use"),
        *("compute_floor_cycles", "bus_floor_cycles"),
    }
    assert result["total"]["cycles"] == result["counters"]["cycles"]
    for layer in result["layers"]:
        row = next(row for row in finished.out.splitlines() if row.startswith(layer["name"]))
        assert f"{layer['cycles']:,}" in row
        assert row.rstrip().endswith("yes")
    assert "\nequal: 4 layers of 2 image(s)" in finished.out


def test_cosim_writes_the_timeline(run, made, tmp_path):
    inputs = ("--inputs", made / "images.npy")
    outputs = ("--timeline", "trace.json", "--json", "cosim.json")
    finished = run("cosim", made / "residual.coprune", *inputs, *outputs)
    assert finished.code == 0, finished.err
    assert listing(tmp_path) == ["cosim.json", "trace.json"]
    trace, result = (json.loads(Path(name).read_text()) for name in ("trace.json", "cosim.json"))
    layers = [event for event in trace["traceEvents"] if event.get("cat") == "layer"]
    assert [event["name"] for event in layers] == [layer["name"] for layer in result["layers"]]
    assert [event["dur"] for event in layers] == [layer["cycles"] for layer in result["layers"]]
    shown = {event["args"].get("instruction") for event in trace["traceEvents"]} - {None}
    count = len(coprune.load(made / "residual.coprune").machine.instructions())
    assert shown == set(range(1, count - 1))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), Trace()),
        (("--trace-unit", "fetcher", "--trace-window", "20:40"), Trace("fetcher", 20, 40)),
        (("--trace-window", "20:"), Trace(begin=20)),
        (("--trace-window", ":40"), Trace(end=40)),
    ],
)
def test_cosim_writes_the_waveform(run, made, tmp_path, monkeypatch, options, expected):
    def trace(program, x, *, trace, **_):
        assert trace == expected
        return dataclasses.replace(as_measured(program.cycles()), waveform=b"waveform")

    monkeypatch.setattr(Program, "cosim", trace)
    arguments = ("--inputs", made / "images.npy", "--trace", "wave.fst", *options)
    finished = run("cosim", made / "residual.coprune", *arguments)
    assert finished.code == 0, finished.err
    assert listing(tmp_path) == ["wave.fst"]
    assert Path("wave.fst").read_bytes() == b"waveform"


def test_cosim_names_layers_that_are_not_equal(run, made, monkeypatch):
    def differ(program, x, **_):
        result = as_measured(program.cycles())
        equal = (True, False, True, False)
        layers = [
            dataclasses.replace(layer, equal=same)
            for layer, same in zip(result.layers, equal, strict=True)
        ]
        return dataclasses.replace(result, equal=False, layers=tuple(layers))

    monkeypatch.setattr(Program, "cosim", differ)
    arguments = ("--inputs", made / "images.npy", "--layers", "--json", "result.json")
    finished = run("cosim", made / "residual.coprune", *arguments)
    assert finished.code == 1
    assert "\nNOT EQUAL in body, head: 4 layers" in finished.out
    rows = [row.rstrip() for row in finished.out.splitlines()]
    assert [row.split()[0] for row in rows if row.endswith(" NO")] == ["body", "head"]
    assert json.loads(Path("result.json").read_text())["equal"] is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--memory", "ddr"), "memory must be 'internal' or 'cocotbext', not 'ddr'"),
        (("--latency", "-1"), "'--latency'"),
        (("--stalls", "-1"), "'--stalls'"),
        (("--trace-unit", "fetcher"), "--trace-unit and --trace-window need --trace FILE"),
        (("--trace-window", "1:2"), "--trace-unit and --trace-window need --trace FILE"),
        (("--trace", "x", "--trace-unit", "fetch"), "one of access, activations, "),
        (("--trace", "x", "--trace-window", "12"), "must be BEGIN:END in cycles, not '12'"),
        (("--trace", "x", "--trace-window", "-1:2"), "must be BEGIN:END in cycles, not '-1:2'"),
        (("--trace", "x", "--trace-window", "20:20"), "not 20:20"),
    ],
)
def test_refuses_an_option_of_cosim(run, made, options, message):
    inputs = ("--inputs", made / "images.npy")
    assert_refused(run("cosim", made / "residual.coprune", *inputs, *options), message)


def test_writes_verilog_that_verilator_accepts(run, made):
    finished = run("verilog", "-o", "a/b", "--config", made / "small.toml", "--json", "ports.json")
    assert finished.code == 0
    result = json.loads(Path("ports.json").read_text())
    assert result["file"] == "a/b/coprune_accelerator.v"
    ports = {port["name"]: (port["direction"], port["bits"]) for port in result["ports"]}
    assert ports["clk"] == ("input", 1)
    assert ports["m_axi_rdata"] == ("input", SMALL.bus_bits)
    assert ports["s_axi_awready"] == ("output", 1)
    assert ports["interrupt"] == ("output", 1)
    rows = [row.split() for row in finished.out.splitlines()]
    for name, (direction, bits) in ports.items():
        assert [name, direction, str(bits)] in rows
    toolchain = find_toolchain()
    linted = subprocess.run(
        [toolchain.executable, "--lint-only", "-Wno-fatal", result["file"]],
        env={**os.environ, **toolchain.environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert linted.returncode == 0, linted.stderr
    assert "%Error" not in linted.stderr


def test_verilog_refuses_a_preset_that_is_unknown(run, tmp_path):
    assert_refused(run("verilog", "-o", "made", "--config", "9x9"), "unknown preset '9x9'")
    assert listing(tmp_path) == []


def test_build_writes_a_project_for_vivado(run, made):
    arguments = ("--board", "pynq-z2", "--config", made / "small.toml", "--mhz", 40)
    finished = run("build", "-o", "made", *arguments, "--json", "build.json")
    assert finished.code == 0
    assert "vivado -mode batch -source made/build.tcl" in finished.out
    result = json.loads(Path("build.json").read_text())
    assert result == {"board": "pynq-z2", "mhz": 40, "script": "made/build.tcl"}
    assert "set mhz 40" in Path("made/settings.tcl").read_text()
    assert Path("made/ip/coprune_accelerator/component.xml").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--board", "zedboard"), "unknown board 'zedboard': must be one of ulx3s-12f"),
        (("--board", "pynq-z2", "--mhz", "1000"), "mhz must be from 10 to 250, not 1000"),
        (("--board", "pynq-z2", "--config", "16x16"), "16x16 takes 277 multipliers, but xc7z020"),
    ],
)
def test_build_refuses_what_there_is_not(run, tmp_path, arguments, message):
    assert_refused(run("build", "-o", "made", *arguments), message)
    assert listing(tmp_path) == []


def test_info_describes_a_program(run, made):
    finished = run("info", made / "residual.coprune", "--json", "info.json")
    assert finished.code == 0
    described = json.loads(Path("info.json").read_text())
    program = coprune.load(made / "residual.coprune")
    assert described["network"] == "residual"
    assert described["geometry"] == {"name": "8x4", **SMALL.to_dict()}
    assert described["geometry_hash"] == f"{SMALL.geometry_hash:#010x}"
    assert described["output_shape"] == [5]
    assert described["image_bytes"] == len(program.machine.image)
    assert described["weight_bytes"] == program.weight_bytes
    assert described["total"]["cycles"] == program.cycles().total.cycles
    for text in ("network: residual", "3 x 8 x 8, scale", f"{program.compression:.2f}x"):
        assert text in finished.out


def test_cycles_shows_cycles_floor_and_waits_of_every_layer(run, made):
    finished = run("cycles", made / "residual.coprune", "--latency", 50, "--json", "cycles.json")
    assert finished.code == 0
    table = coprune.load(made / "residual.coprune").cycles(MemoryModel(50, 50))
    described = json.loads(Path("cycles.json").read_text())
    assert described["total"]["cycles"] == table.total.cycles
    assert described["total"]["floor_cycles"] == table.total.floor_cycles
    rows = {row.split()[0]: row.split() for row in finished.out.splitlines() if row.split()}
    for layer, shown in zip(table.layers, described["layers"], strict=True):
        assert shown == {**dataclasses.asdict(layer), "floor_cycles": layer.floor_cycles}
        assert rows[layer.name][4:6] == [f"{layer.cycles:,}", f"{layer.floor_cycles:,}"]
        assert layer.limit in rows[layer.name]
    assert f"{table.total.cycles:,}" in rows["total"]


def test_cycles_measures_them_on_the_rtl(run, made):
    finished = run("cycles", made / "residual.coprune", "--rtl", "--json", "cycles.json")
    assert finished.code == 0
    described = json.loads(Path("cycles.json").read_text())
    assert described["rtl"]["layers"] == [layer["cycles"] for layer in described["layers"]]
    assert described["rtl"]["total"] == described["total"]["cycles"]
    rows = {row.split()[0]: row.split() for row in finished.out.splitlines() if row.split()}
    for layer in described["layers"]:
        assert rows[layer["name"]][4:7] == [f"{layer['cycles']:,}", f"{layer['cycles']:,}", "0"]


def test_cycles_gives_bounds_for_pauses(run, made):
    finished = run("cycles", made / "residual.coprune", "--pauses", "0.25:40", "--json", "b.json")
    assert finished.code == 0
    machine = coprune.load(made / "residual.coprune").machine
    bounds = bound_cycles(machine, MemoryModel(20, 20), Pauses(0.25, 40)).cycles
    assert f"{bounds.lowest:,} to {bounds.highest:,} cycles" in finished.out
    described = json.loads(Path("b.json").read_text())
    assert described["bounds"]["cycles"] == dataclasses.asdict(bounds)
    assert bounds.lowest < described["total"]["cycles"] < bounds.highest


@pytest.mark.parametrize(
    ("pauses", "message"),
    [
        ("0.25", "--pauses must be SHARE:BURST, as 0.25:40, not '0.25'"),
        ("0.75:40", "share must be from 0 to 0.5, not 0.75"),
    ],
)
def test_cycles_refuses_pauses(run, made, pauses, message):
    assert_refused(run("cycles", made / "residual.coprune", "--pauses", pauses), message)


def test_cycles_fails_where_the_rtl_differs(run, made, monkeypatch):
    def differ(program, latency_cycles):
        counted = program.cycles()
        return [layer.cycles + 1 for layer in counted.layers], counted.total.cycles + 9

    monkeypatch.setattr(Program, "measure_cycles", differ)
    finished = run("cycles", made / "residual.coprune", "--rtl")
    assert finished.code == 1
    assert " -1 " in finished.out
    assert " -9 " in finished.out


def test_writes_a_report(run, made, tmp_path):
    finished = run(
        *("report", made / "residual.coprune", "-o", "report.html", "--json", "report.json"),
        *("--latency", "90"),
    )
    assert finished.code == 0
    assert finished.err == ""
    assert listing(tmp_path) == ["report.html", "report.json"]
    memory = MemoryModel(latency_cycles=90, write_latency_cycles=90)
    total = coprune.load(made / "residual.coprune").cycles(memory).total.cycles
    size = Path("report.html").stat().st_size
    assert finished.out == f"report.html: {total:,} cycles, {size:,} bytes\n"
    described = json.loads(Path("report.json").read_text())
    assert described["programs"][0]["total"]["cycles"] == total
    assert described["programs"][0]["origin"] == "residual.coprune"


def test_reports_two_programs_with_their_measurements(run, made):
    for name in ("residual", "classifier"):
        program = coprune.load(made / f"{name}.coprune")
        trace = chrome_trace(program.cycles().timing.instructions, program.machine)
        Path(f"{name}.json").write_text(json.dumps(trace))
    finished = run(
        *("report", made / "residual.coprune", made / "classifier.coprune", "-o", "two.html"),
        *("--measured", "residual.json", "--measured", "classifier.json", "--json", "two.json"),
    )
    assert finished.code == 0, finished.err
    described = json.loads(Path("two.json").read_text())
    assert described["pairs"][0] == {"name": "stem", "before": 0, "after": None}
    for program in described["programs"]:
        assert program["timeline"]["measured"]["largest_difference"] == 0


def test_reports_what_cosim_measured(run, made):
    program, inputs = made / "residual.coprune", made / "images.npy"
    finished = run("cosim", program, "--inputs", inputs, "--timeline", "measured.json")
    assert finished.code == 0, finished.err
    finished = run(
        *("report", program, "-o", "report.html"),
        *("--measured", "measured.json", "--json", "report.json"),
    )
    assert finished.code == 0, finished.err
    timeline = json.loads(Path("report.json").read_text())["programs"][0]["timeline"]
    assert timeline["measured"]["largest_difference"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing.coprune",), "no such program file: missing.coprune"),
        (3 * ("residual.coprune",), "a report is about one program or two, not 3"),
        (("residual.coprune", "--measured", "x.json"), "no such timeline: x.json"),
        (("residual.coprune", "--measured", "small.toml"), "small.toml is no timeline"),
        (
            (*2 * ("residual.coprune",), "--measured", "x.json"),
            "2 program(s) need as many --measured, not 1",
        ),
        (("residual.coprune", "--latency", "-1"), "'--latency'"),
        (("residual.coprune", "--latency", "65536"), "latency_cycles must be from 0 to 65535"),
    ],
)
def test_refuses_a_report(run, made, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(made)
    output = tmp_path / "report.html"
    assert_refused(run("report", *arguments, "-o", output), message)
    assert not output.exists()


def test_a_narrow_terminal_cuts_no_name(run, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "40")
    name = "a_rather_long_name_of_a_stage.with_its_number.and_the_name_of_its_layer"
    network = torch.nn.Sequential()
    network.add_module(name.replace(".", "_"), torch.nn.Conv2d(3, 8, 1))
    coprune.compile(network.eval(), SMALL, calibration=[images(2)]).save("x.coprune")
    finished = run("cycles", "x.coprune")
    assert name.replace(".", "_") in finished.out
    assert "…" not in finished.out


def test_the_demo_plots_and_compares_cycles(made, capsys):
    program = coprune.load(made / "residual.coprune")
    result = as_measured(program.cycles())
    assert demo._plot(result, result).startswith(b"\x89PNG")
    demo._print_comparison(result, result, program)
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows[3:7]] == ["stem", "body", "mean", "head"]
    assert " 1.00 " in rows[-1]


def test_the_demo_reports_what_was_measured(made, tmp_path):
    program = coprune.load(made / "residual.coprune")
    measured = {"residual": as_measured(program.cycles())}
    (subject,) = demo._list_subjects({"residual": program}, measured, tmp_path)
    assert subject.origin == "residual.coprune"
    content = describe([subject])
    assert content["programs"][0]["timeline"]["measured"]["largest_difference"] == 0


def test_exports_c_that_compiles(run, made):
    finished = run("export-c", made / "residual.coprune", "-o", "a/b", "--json", "c.json")
    assert finished.code == 0
    result = json.loads(Path("c.json").read_text())
    names = ["coprune.h", "coprune.c", "residual.h", "residual.c", "example_main.c"]
    assert result["files"] == [f"a/b/{name}" for name in names]
    program = coprune.load(made / "residual.coprune")
    assert result["memory_bytes"] == len(program.machine.image)
    assert finished.out.startswith("a/b/coprune.h, ")
    sources = [name for name in result["files"] if name.endswith(".c")]
    subprocess.run(["gcc", "-Wall", "-Wextra", "-Werror", *sources, "-o", "example"], check=True)
    named = run("export-c", made / "residual.coprune", "-o", "c", "--name", "small_net")
    assert named.code == 0
    assert "small_net_pack_input" in Path("c/small_net.h").read_text()


def test_export_c_refuses_a_name_that_is_none_in_c(run, made, tmp_path):
    finished = run("export-c", made / "residual.coprune", "-o", "c", "--name", "small-net")
    assert_refused(finished, "begin with a letter, and be neither coprune nor example_main")
    assert listing(tmp_path) == []


def test_help_names_every_network_of_the_zoo(run):
    finished = run("compile", "--help")
    assert finished.code == 0
    for name in zoo.names():
        assert name in finished.out


@pytest.mark.parametrize(
    "command",
    [
        *("demo", "compile", "simulate", "cosim", "verilog", "export-c", "info", "sqnr", "cycles"),
        *("boards", "build", "program", "run"),
        "report",
    ],
)
def test_every_command_has_help_and_json(run, command):
    finished = run(command, "--help")
    assert finished.code == 0
    assert "--json" in finished.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing command; see coprune --help"),
        (("nonsense",), "No such command 'nonsense'; see coprune --help"),
        (("info",), "Missing argument 'FILE'; see coprune --help"),
        (("compile", "resnet20"), "Missing option"),
        (("info", "x", "--fast"), "No such option"),
        (("info", "x", "y"), "unexpected extra argument"),
    ],
)
def test_a_usage_error_is_one_line(run, arguments, message):
    assert_refused(run(*arguments), message)


def test_a_long_message_keeps_its_beginning_and_its_end(run, made, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("begin\n" + 5000 * "x " + "\nend")

    monkeypatch.setattr(Program, "simulate", fail)
    finished = run("simulate", made / "classifier.coprune")
    assert_refused(finished, "coprune: begin x x")
    assert finished.err.endswith("x end\n")
    assert len(finished.err) < 1300


def test_an_error_that_nobody_foresaw_names_its_type(run, made, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(Program, "simulate", fail)
    assert_refused(run("simulate", made / "classifier.coprune"), "ZeroDivisionError: by zero")


def test_the_process_ends_with_the_exit_code(made, tmp_path):
    def finish(*arguments):
        return subprocess.run(
            [COPRUNE, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    finished = finish("info", made / "residual.coprune")
    assert (finished.returncode, finished.stderr) == (0, "")
    finished = finish("info", "missing.coprune")
    assert finished.returncode == 1
    assert finished.stderr == "coprune: no such program file: missing.coprune\n"
    finished = finish("nonsense")
    assert finished.returncode == 1
    assert finished.stderr == "coprune: No such command 'nonsense'; see coprune --help\n"


def test_finds_a_module_in_the_current_folder(made, tmp_path):
    (tmp_path / "beside.py").write_text(NETWORKS)
    finished = subprocess.run(
        [
            *(COPRUNE, "compile", "beside:classifier", "-o", "x.coprune"),
            *("--config", made / "small.toml", "--calibration", made / "calibration.npy"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    assert coprune.load(tmp_path / "x.coprune").network == "beside:classifier"


def test_the_process_can_be_interrupted(made, tmp_path):
    script = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from coprune.cli import main\n"
        "from coprune.program import Program\n"
        "def wait(*_, **__):\n"
        "    print('waiting', flush=True)\n"
        "    time.sleep(60)\n"
        "Program.simulate = wait\n"
        f"main(['simulate', {str(made / 'classifier.coprune')!r}])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "waiting\n"
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert time.monotonic() - begin < 30
    assert process.returncode == 1
    assert err.strip() == "coprune: interrupted"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["info", "residual.coprune"],
        ["report", "residual.coprune", "-o", os.devnull],
    ],
)
def test_help_info_and_report_do_not_import_pytorch(made, arguments):
    script = (
        "import sys\nfrom coprune.cli import main\n"
        f"try:\n    main({arguments!r})\n"
        "finally:\n    print('torch' in sys.modules, file=sys.stderr)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script], cwd=made, capture_output=True, text=True, check=True
    )
    assert finished.stderr == "False\n"
