"""The zoo's names, parameters and images on the command line."""

import json

import numpy as np
import pytest
import torch

import coprune
from coprune import zoo
from coprune.cli import main
from coprune.cli.images import find_calibration, find_images
from coprune.cli.network import find_network, input_shape
from coprune.data import fashion_mnist
from coprune_hw.contract import AcceleratorConfig


@pytest.fixture(scope="module")
def lenet5(tmp_path_factory):
    """A program of LeNet-5, calibrated as on the command line."""
    network = find_network("lenet5")
    images = find_calibration(None, shape=input_shape(network))
    config = AcceleratorConfig.preset("16x16")
    program = coprune.compile(network, config, calibration=images, network="lenet5")
    program.save(tmp_path_factory.mktemp("zoo") / "lenet5.coprune")
    return program


def run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 0


def test_parameters_follow_the_name():
    network = find_network("mobilenetv1,width=0.5,resolution=64,blocks=3,classes=7")
    assert input_shape(network) == (3, 64, 64)
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 7)
    expected = zoo.build("mobilenetv1", width=0.5, resolution=64, blocks=3, classes=7)
    assert torch.equal(network.linear.weight, expected.linear.weight)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mobilenetv1,width", "must be NAME=NUMBER, as width=0.5, not 'width'"),
        ("mobilenetv1,width=", "must be NAME=NUMBER"),
        ("mobilenetv1,width=wide", "must be NAME=NUMBER"),
        ("mobilenetv1,width=[1]", "must be NAME=NUMBER"),
        ("mobilenetv1,=1", "must be NAME=NUMBER"),
        ("mobilenetv1,depth=3", "must be among width, resolution, .*, not 'depth'"),
        ("mobilenet,width=1", "MODEL must be one of resnet20, .*, not 'mobilenet'"),
    ],
)
def test_wrong_parameter_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        find_network(name)


def test_calibration_images_have_the_shape_of_the_network():
    for shape, count in (((3, 32, 32), 256), ((1, 28, 28), 256)):
        batches = find_calibration(None, shape=shape)
        assert sum(map(len, batches)) == count
        assert {tuple(batch.shape[1:]) for batch in batches} == {shape}
    assert find_calibration(None)[0].shape[1:] == (3, 32, 32)


def test_other_shapes_need_images_of_ones_own():
    message = "3 x 32 x 32 or 1 x 28 x 28, but the network takes 1 x 49 x 10: give --calibration"
    with pytest.raises(ValueError, match=message):
        find_calibration(None, shape=input_shape(find_network("ds-cnn")))


def test_fashion_mnist_is_found_for_lenet5(lenet5, tmp_path):
    found = find_images(lenet5, count=None, folder=None, file=None)
    assert len(found.inputs) == 400
    assert found.accuracy(lenet5.simulate(found.inputs)) >= 0.91
    with pytest.raises(ValueError, match="at most 400, not 401; --data the folder of its IDX"):
        find_images(lenet5, count=401, folder=None, file=None)
    with pytest.raises(FileNotFoundError, match="no Fashion-MNIST in"):
        find_images(lenet5, count=None, folder=tmp_path, file=None)


def test_lenet5_runs_on_the_rtl_from_the_command_line(lenet5, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lenet5.save("lenet5.coprune")
    run("simulate", "lenet5.coprune", "--images", "50", "--json", "simulated.json")
    run("cosim", "lenet5.coprune", "--json", "cosim.json")
    printed = capsys.readouterr().out
    assert "on 50 images (sample)" in printed
    assert "equal: 7 layers of 1 image(s)" in printed
    test = fashion_mnist.load_sample().test
    answers = lenet5.simulate(fashion_mnist.normalize(test.images[:50])).argmax(axis=1)
    accuracy = json.loads((tmp_path / "simulated.json").read_text())["accuracy"]
    assert accuracy == np.mean(answers == test.labels[:50])


def test_network_with_random_weights_compiles_and_runs_from_the_command_line(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    generator = torch.Generator().manual_seed(2)
    np.save("speech.npy", torch.randn(8, 1, 49, 10, generator=generator).numpy())
    network = "ds-cnn,channels=16,blocks=1"
    run("compile", network, "-o", "speech.coprune", "--calibration", "speech.npy")
    run("cosim", "speech.coprune", "--inputs", "speech.npy")
    assert "equal: 5 layers of 1 image(s)" in capsys.readouterr().out
