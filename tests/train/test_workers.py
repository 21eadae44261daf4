"""Several processes that train one network."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from coprune.train.workers import Workers, find_device, joined_workers

TESTS = Path(__file__).parents[1]
PROGRAM = """
import os, sys
from dataclasses import replace
from pathlib import Path
import torch
from coprune.data import cifar10
from coprune.prune import BlockPattern, Gradual, pattern_choice
from coprune.train import TrainingSettings, save_state_dict, train
from coprune.train.workers import joined_workers
from train.networks import bright_and_dark, brightness_network

folder, epochs = Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
with joined_workers(device=torch.device("cpu")) as workers:
    model = brightness_network()
    # Of 65 images the last step has one, too few for two processes.
    masks = train(
        model,
        dataset=bright_and_dark(65),
        normalize=cifar10.normalize,
        settings=TrainingSettings(
            epochs=2, batch=16, learning_rate=0.1, crop_padding=2, precision="auto"
        ),
        folder=folder / "run",
        choose=pattern_choice({"conv": BlockPattern.uniform((16, 16, 3, 3), n=4, lanes=16)}),
        schedule=Gradual(epochs=1, every=2),
        teacher=brightness_network(),
        teacher_cache=folder / "cache",
        validation=bright_and_dark(40),
        show_progress=False,
    )
    torch.save(masks, folder / f"masks{workers.rank}.pt")
    save_state_dict(model, path=folder / f"weights{workers.rank}.pt")
"""


def load(folder, name):
    return torch.load(folder / name, weights_only=True)


def test_two_processes_end_with_the_same_pruned_weights(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**__import__("os").environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = f"{TESTS}:{environment.get('PYTHONPATH', '')}"
    ended = subprocess.run(
        [*command, str(program), str(tmp_path), "2"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    first, second = (load(tmp_path, f"weights{rank}.pt") for rank in (0, 1))
    for name, value in first.items():
        assert torch.equal(second[name], value), name
    masks = load(tmp_path, "masks0.pt")
    assert torch.equal(load(tmp_path, "masks1.pt")["conv"], masks["conv"])
    assert masks["conv"].sum() == 4 * 16 * 9
    assert not first["conv.weight"][~masks["conv"]].any()
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 2
    # Each process keeps what the teacher said of its images.
    assert len(list((tmp_path / "cache").iterdir())) == 4


@pytest.mark.parametrize("images", [2, 3, 16, 17, 128])
def test_every_image_is_one_processes(images):
    parts, shares = [], []
    for rank in range(2):
        workers = Workers()
        workers.rank, workers.count = rank, 2
        parts += list(range(images))[workers.part(images)]
        shares.append(workers.share(images))
    assert parts == list(range(images))
    assert sum(shares) == 1


def test_too_few_images_are_everybodys():
    workers = Workers()
    workers.rank, workers.count = 3, 4
    assert workers.part(2) == slice(0, 2)
    assert workers.share(2) == 1 / 4


def test_a_process_alone_is_the_first_of_one():
    with joined_workers(device=torch.device("cpu")) as workers:
        assert (workers.rank, workers.count, workers.is_first) == (0, 1, True)
        assert workers.part(5) == slice(0, 5)
        assert workers.share(5) == 1


def test_unknown_device_is_refused():
    assert find_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match="device must be auto, cpu, cuda or cuda:N, not 'tpu5'"):
        find_device("tpu5")
