"""Training of LeNet-5 on Fashion-MNIST, as ``scripts/train-lenet5`` starts it."""

import argparse
import io
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from coprune import atomic_file
from coprune.data import LabelledImages, fashion_mnist
from coprune.prune.finetune import crop_and_flip
from coprune.zoo import lenet

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"


@dataclass(frozen=True)
class TrainingRecipe:
    """How to train: stochastic gradient descent with Nesterov momentum, and augmentation.

    Parameters
    ----------
    learning_rate
        At the first step; it falls to zero along half a cosine.
    crop_padding
        Black pixels around an image before a random crop back to its size.
    seed
        Of all random numbers: first weights, order, crops and mirroring.
    """

    epochs: int = 30
    batch: int = 128
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    crop_padding: int = 1
    seed: int = 0


def train(
    *,
    dataset: LabelledImages,
    recipe: TrainingRecipe,
    folder: Path,
    report: Callable[[str], None] = print,
) -> lenet.LeNet5:
    """Train LeNet-5 from random weights and return it in evaluation mode.

    After every epoch a checkpoint and the log are written to ``folder``. A run that was
    interrupted goes on from the checkpoint found there, with the same result.

    Raises
    ------
    ValueError
        If the checkpoint in ``folder`` was made by another recipe.
    """
    atomic_file.make_folder(folder)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model = lenet.LeNet5()
        optimizer = torch.optim.SGD(
            model.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=True,
        )
        history = _resume(folder / CHECKPOINT, model=model, optimizer=optimizer, recipe=recipe)
        for epoch in range(len(history), recipe.epochs):
            # Every epoch seeds its own random numbers, so a checkpoint needs no generator state.
            torch.manual_seed(recipe.seed * 100_003 + epoch)
            loss = _train_epoch(
                model, dataset=dataset, optimizer=optimizer, recipe=recipe, epoch=epoch
            )
            history.append({"epoch": epoch + 1, "loss": loss})
            report(f"epoch {epoch + 1} of {recipe.epochs}: loss {loss:.4f}")
            checkpoint = {
                "recipe": asdict(recipe),
                "history": history,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
            }
            atomic_file.write(folder / CHECKPOINT, _serialize(checkpoint))
            lines = "".join(json.dumps(line) + "\n" for line in history)
            atomic_file.write(folder / LOG, lines)
    return model.eval()


@torch.inference_mode()
def evaluate(model: nn.Module, dataset: LabelledImages) -> float:
    """Return the share of Fashion-MNIST images that ``model`` gives their label."""
    images = torch.as_tensor(dataset.images)
    answers = [model(fashion_mnist.normalize(part)).argmax(dim=1) for part in images.split(500)]
    return float((torch.cat(answers) == torch.as_tensor(dataset.labels)).double().mean())


def _train_epoch(
    model: nn.Module,
    *,
    dataset: LabelledImages,
    optimizer: torch.optim.Optimizer,
    recipe: TrainingRecipe,
    epoch: int,
) -> float:
    """Return the mean loss of one epoch."""
    images, labels = torch.as_tensor(dataset.images), torch.as_tensor(dataset.labels).long()
    model.train()
    loss_sum = 0.0
    batches = torch.randperm(len(images)).split(recipe.batch)
    for number, chosen in enumerate(batches):
        progress = (epoch + number / len(batches)) / recipe.epochs
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
        pixels = crop_and_flip(images[chosen], padding=recipe.crop_padding)
        loss = F.cross_entropy(model(fashion_mnist.normalize(pixels)), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * len(chosen)
    return loss_sum / len(images)


def _resume(
    path: Path, *, model: nn.Module, optimizer: torch.optim.Optimizer, recipe: TrainingRecipe
) -> list[dict]:
    if not path.exists():
        return []
    checkpoint = torch.load(path, weights_only=True)
    if checkpoint["recipe"] != asdict(recipe):
        raise ValueError(f"{path} was made by another recipe, {checkpoint['recipe']}")
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    return checkpoint["history"]


def _serialize(content: dict) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def main() -> None:
    """Train LeNet-5 on Fashion-MNIST."""
    root = Path(__file__).parents[3]
    recipe = TrainingRecipe()
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, help="folder of the four IDX files")
    parser.add_argument("--output", type=Path, default=lenet.WEIGHTS, help="where weights go")
    parser.add_argument(
        "--folder",
        type=Path,
        default=root / ".cache" / "lenet5",
        help="checkpoint and log; an interrupted run goes on from there",
    )
    parser.add_argument("--epochs", type=int, default=recipe.epochs)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    model = train(
        dataset=fashion_mnist.load_train(arguments.data),
        recipe=TrainingRecipe(epochs=arguments.epochs),
        folder=arguments.folder,
    )
    atomic_file.write(arguments.output, _serialize(model.state_dict()))
    test = fashion_mnist.load_test(arguments.data)
    print(f"{arguments.output}: {evaluate(model, test):.2%} of {len(test)} test images")


if __name__ == "__main__":
    main()
