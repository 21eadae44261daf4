"""Training of a network on labelled images, from random weights."""

import io
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from torch import nn

from coprune import atomic_file
from coprune.data import LabelledImages
from coprune.prune.finetune import crop_and_flip

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"

Normalize = Callable[[torch.Tensor], torch.Tensor]
"""Makes the float32 input of a network of uint8 images [N, C, H, W]."""


@dataclass(frozen=True)
class TrainingRecipe:
    """How to train: stochastic gradient descent with Nesterov momentum, and augmentation.

    Parameters
    ----------
    learning_rate
        After the warm-up; from there it falls along half a cosine.
    warmup_epochs
        In which the learning rate rises linearly from zero.
    cosine_epochs
        After which the cosine is zero; ``epochs`` where it is None. More of them keep the learning
        rate high until the cool-down.
    cooldown_epochs
        The last ones, in which the learning rate falls linearly to zero from wherever it is (Hu et
        al., "MiniCPM", 2024, section 4). A run can so be ended at any epoch, without another one
        from the beginning.
    label_smoothing
        Share of a label that is spread over all classes (Szegedy et al., "Rethinking the
        Inception Architecture for Computer Vision", 2016, section 7).
    crop_padding
        Black pixels around an image before a random crop back to its size.
    channels_last
        Whether pixels are stored with their channels beside each other, which is faster for many
        channels. It changes the order of sums and so the last bits of the result.
    seed
        Of all random numbers: first weights, order, crops and mirroring.
    """

    epochs: int
    batch: int = 128
    learning_rate: float = 0.1
    warmup_epochs: float = 0.0
    cosine_epochs: int | None = None
    cooldown_epochs: float = 0.0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    crop_padding: int = 4
    channels_last: bool = False
    seed: int = 0

    def __post_init__(self):
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, not {self.epochs!r}")
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ValueError(
                f"warmup_epochs must be at least 0 and below {self.epochs} (epochs), "
                f"not {self.warmup_epochs!r}"
            )
        if self.cosine_epochs is not None and self.cosine_epochs < self.epochs:
            raise ValueError(
                f"cosine_epochs must be at least {self.epochs} (epochs), not {self.cosine_epochs!r}"
            )
        longest = self.epochs - self.warmup_epochs
        if not 0 <= self.cooldown_epochs <= longest:
            raise ValueError(
                f"cooldown_epochs must be from 0 to {longest:g} (epochs after the warm-up), "
                f"not {self.cooldown_epochs!r}"
            )

    def learning_rate_at(self, epoch: float) -> float:
        """Return the learning rate when ``epoch`` epochs are over; a fraction is part of one."""
        if epoch < self.warmup_epochs:
            return self.learning_rate * epoch / self.warmup_epochs
        whole = self.epochs if self.cosine_epochs is None else self.cosine_epochs
        progress = (epoch - self.warmup_epochs) / (whole - self.warmup_epochs)
        rate = self.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
        left = self.epochs - epoch
        return rate * left / self.cooldown_epochs if left < self.cooldown_epochs else rate

    @property
    def memory_format(self) -> torch.memory_format:
        """Of the network's weights and of its input."""
        return torch.channels_last if self.channels_last else torch.contiguous_format


def train(
    build: Callable[[], nn.Module],
    *,
    dataset: LabelledImages,
    normalize: Normalize,
    recipe: TrainingRecipe,
    folder: Path,
    report: Callable[[str], None] = print,
) -> nn.Module:
    """Train a network from random weights and return it in evaluation mode.

    After every epoch a checkpoint and the log are written to ``folder``. A run that was
    interrupted goes on from the checkpoint found there, with the same result.

    Parameters
    ----------
    build
        Makes the network with random weights, out of PyTorch's global generator.
    folder
        Holds ``checkpoint.pt`` and ``log.jsonl``, a line per epoch; made if absent.
    report
        Takes a line per epoch.

    Raises
    ------
    ValueError
        If the checkpoint in ``folder`` was made by another recipe.
    """
    atomic_file.make_folder(folder)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with torch.random.fork_rng(), Progress(*columns, transient=True) as progress:
        torch.manual_seed(recipe.seed)
        model = build().to(memory_format=recipe.memory_format)
        optimizer = torch.optim.SGD(
            model.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=True,
        )
        history = _resume(folder / CHECKPOINT, model=model, optimizer=optimizer, recipe=recipe)
        task = progress.add_task("training", total=recipe.epochs * len(dataset))
        progress.advance(task, len(history) * len(dataset))
        for epoch in range(len(history), recipe.epochs):
            # Every epoch seeds its own random numbers, so a checkpoint needs no generator state.
            torch.manual_seed(recipe.seed * 100_003 + epoch)
            loss = _train_epoch(
                model,
                dataset=dataset,
                normalize=normalize,
                optimizer=optimizer,
                recipe=recipe,
                epoch=epoch,
                advance=lambda count: progress.advance(task, count),
            )
            history.append({"epoch": epoch + 1, "loss": loss})
            checkpoint = {
                "recipe": asdict(recipe),
                "history": history,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
            }
            atomic_file.write(folder / CHECKPOINT, serialize(checkpoint))
            lines = "".join(json.dumps(line) + "\n" for line in history)
            atomic_file.write(folder / LOG, lines)
            report(f"epoch {epoch + 1} of {recipe.epochs}: loss {loss:.4f}")
    return model.eval()


@torch.inference_mode()
def evaluate(model: nn.Module, *, dataset: LabelledImages, normalize: Normalize) -> float:
    """Return the share of the images that ``model``, in evaluation mode, gives their label."""
    images = torch.as_tensor(dataset.images)
    answers = [model(normalize(part)).argmax(dim=1) for part in images.split(500)]
    return float((torch.cat(answers) == torch.as_tensor(dataset.labels)).double().mean())


def serialize(content: dict) -> bytes:
    """Return ``content`` as `torch.save` writes it to a file."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _train_epoch(
    model: nn.Module,
    *,
    dataset: LabelledImages,
    normalize: Normalize,
    optimizer: torch.optim.Optimizer,
    recipe: TrainingRecipe,
    epoch: int,
    advance: Callable[[int], None],
) -> float:
    """Return the mean loss of one epoch."""
    images, labels = torch.as_tensor(dataset.images), torch.as_tensor(dataset.labels).long()
    model.train()
    loss_sum = 0.0
    batches = torch.randperm(len(images)).split(recipe.batch)
    for number, chosen in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate_at(epoch + number / len(batches))
        pixels = normalize(crop_and_flip(images[chosen], padding=recipe.crop_padding))
        logits = model(pixels.to(memory_format=recipe.memory_format))
        loss = F.cross_entropy(logits, labels[chosen], label_smoothing=recipe.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * len(chosen)
        advance(len(chosen))
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
