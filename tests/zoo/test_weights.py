"""Weights: what comes with coprune, and files that users have."""

from pathlib import Path

import numpy as np
import pytest
import torch

from coprune import zoo
from coprune.data import cifar10, fashion_mnist
from coprune.train import evaluate

SHARED = Path(__file__).parents[3] / "shared" / "data"
CHECKPOINTS = {
    # Correct answers for the 500 images that come with coprune.
    "resnet32": ("resnet32-d509ac18.th", 466),
    "resnet44": ("resnet44-014dd654.th", 464),
    "resnet56": ("resnet56-4bfd9763.th", 470),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_public_checkpoint_recognizes_the_shipped_images(name):
    file, correct = CHECKPOINTS[name]
    checkpoint = SHARED / "akamaster-resnet-cifar10" / file
    if not checkpoint.is_file():
        pytest.skip(f"no {checkpoint}")
    test = cifar10.load_sample().test
    model = zoo.build(name, weights=checkpoint)
    accuracy = evaluate(model, dataset=test, normalize=cifar10.normalize)
    assert accuracy == pytest.approx(correct / 500, abs=0.005)


def test_mlperf_tiny_weights_recognize_the_shipped_images():
    weights = SHARED / "mlperf-tiny-resnet8" / "float_weights.npz"
    if not weights.is_file():
        pytest.skip(f"no {weights}")
    test = cifar10.load_sample().test
    with torch.no_grad():
        answers = zoo.build("resnet8", weights=weights)(torch.from_numpy(test.images).float())
    accuracy = float(np.mean(answers.argmax(dim=1).numpy() == test.labels))
    # 87.19 % of all test images.
    assert 0.85 <= accuracy <= 0.90


def test_lenet5_recognizes_the_shipped_images():
    test = fashion_mnist.load_sample().test
    accuracy = evaluate(zoo.build("lenet5"), dataset=test, normalize=fashion_mnist.normalize)
    assert accuracy >= 0.91


def test_mobilenetv2_recognizes_the_shipped_images():
    test = cifar10.load_sample().test
    model = zoo.build("mobilenetv2-cifar10")
    accuracy = evaluate(model, dataset=test, normalize=cifar10.normalize)
    assert accuracy == pytest.approx(431 / 500, abs=0.005)


def test_state_dict_is_loaded(tmp_path):
    model = zoo.build("ds-cnn")
    with torch.no_grad():
        model.linear.bias += 1
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    loaded = zoo.build("ds-cnn", weights=tmp_path / "weights.pt")
    assert torch.equal(loaded.linear.bias, model.linear.bias)


def test_checkpoint_of_another_depth_is_refused(tmp_path):
    state = {f"module.{name}": value for name, value in zoo.resnet20().state_dict().items()}
    torch.save({"state_dict": state, "best_prec1": 0.0}, tmp_path / "checkpoint.th")
    loaded = zoo.load_weights(zoo.CifarResNet(depth=20), tmp_path / "checkpoint.th")
    assert torch.equal(loaded.conv1.weight, state["module.conv1.weight"])
    with pytest.raises(ValueError, match=r"checkpoint.th does not hold .* state dict: Runtime"):
        zoo.build("resnet32", weights=tmp_path / "checkpoint.th")


@pytest.mark.parametrize("name", ["weights.npz", "weights.pt"])
def test_damaged_file_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"no weights")
    with pytest.raises(ValueError, match=f"{name} does not hold this network's state dict"):
        zoo.build("resnet8", weights=tmp_path / name)


def test_arrays_of_another_network_are_refused(tmp_path):
    np.savez(tmp_path / "weights.npz", fc=np.zeros(3))
    for name in ("resnet8", "lenet5"):
        with pytest.raises(ValueError, match=r"weights.npz does not hold this network's"):
            zoo.build(name, weights=tmp_path / "weights.npz")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no such weights file: {tmp_path / 'none'}"):
        zoo.build("resnet8", weights=tmp_path / "none")
