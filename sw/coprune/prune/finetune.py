"""Fine-tuning of a pruned network against its dense teacher.

``python -m coprune.prune.finetune`` makes the 4:16 ResNet-20 that comes with coprune.
"""

import argparse
import copy
import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from torch import nn

from coprune import zoo
from coprune.data import LabelledImages, load_sample, load_test, load_train, normalize
from coprune.prune.distillation import distillation_loss
from coprune.prune.pattern import MaskedTraining, prune_nm

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"


@dataclass(frozen=True)
class FinetuneRecipe:
    """How to fine-tune: pattern, optimizer, distillation and augmentation.

    Parameters
    ----------
    kept_by_epoch
        N of N:M in the first epochs; the last value holds until the end. A mask is chosen anew
        from the magnitudes of the weights whenever N changes.
    group
        M of N:M.
    learning_rate
        Peak of a schedule that rises linearly over ``warmup_steps`` steps and then falls to zero
        along half a cosine.
    temperature, soft_share
        See `distillation_loss`.
    crop_padding
        Black pixels around an image before a random crop back to its size.
    seed
        Of all random numbers: order, crops, flips and whatever the network draws.
    """

    epochs: int = 30
    kept_by_epoch: tuple[int, ...] = (8, 6, 5, 4)
    group: int = 16
    batch: int = 128
    learning_rate: float = 0.05
    warmup_steps: int = 100
    momentum: float = 0.9
    weight_decay: float = 1e-4
    temperature: float = 4.0
    soft_share: float = 0.9
    crop_padding: int = 4
    seed: int = 0

    def __post_init__(self):
        if self.epochs < len(self.kept_by_epoch):
            raise ValueError(
                f"epochs must be at least {len(self.kept_by_epoch)}, "
                f"so that every N of {self.kept_by_epoch} has its turn, not {self.epochs!r}"
            )
        if not all(1 <= kept <= self.group for kept in self.kept_by_epoch):
            raise ValueError(
                f"kept_by_epoch must be in 1..{self.group} (group), not {self.kept_by_epoch!r}"
            )

    def kept(self, epoch: int) -> int:
        """Return N of N:M in ``epoch``."""
        return self.kept_by_epoch[min(epoch, len(self.kept_by_epoch) - 1)]

    def learning_rate_at(self, step: int, *, steps: int) -> float:
        """Return the learning rate of ``step`` of ``steps`` in the whole run."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / (steps - self.warmup_steps)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def finetune(
    model: nn.Module,
    *,
    teacher: nn.Module,
    dataset: LabelledImages,
    recipe: FinetuneRecipe,
    folder: Path,
    validation: LabelledImages | None = None,
) -> dict[str, torch.Tensor]:
    """Prune ``model`` step by step to the recipe's last N:M and train it to answer as ``teacher``.

    After every epoch a checkpoint and the log are written to ``folder``. A run that was
    interrupted goes on from the checkpoint found there, with bitwise the same result.

    Parameters
    ----------
    model
        Trained in place, on the device of its parameters, and left in evaluation mode; its
        pruned weights are exactly zero.
    teacher
        Left unchanged; often a copy of the dense ``model``.
    folder
        Holds ``checkpoint.pt`` and ``log.jsonl``, a line per epoch; made if absent.
    validation
        Images to report the accuracy on after each epoch. Nothing is selected by it.

    Returns
    -------
    dict
        Module name to the bool mask of the weights that were kept.

    Raises
    ------
    ValueError
        If the checkpoint in ``folder`` was made by another recipe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    device = next(model.parameters()).device
    model.to(memory_format=torch.channels_last)
    teacher = copy.deepcopy(teacher).to(device, memory_format=torch.channels_last).eval()
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
    )
    masks, history = _resume(folder, model=model, optimizer=optimizer, recipe=recipe)
    images = torch.as_tensor(dataset.images, device=device)
    labels = torch.as_tensor(dataset.labels, device=device).long()

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress, torch.random.fork_rng():
        task = progress.add_task("fine-tuning", total=recipe.epochs * len(dataset))
        progress.advance(task, len(history) * len(dataset))
        for epoch in range(len(history), recipe.epochs):
            # Every epoch seeds its own random numbers, so a checkpoint needs no generator state.
            torch.manual_seed(recipe.seed * 100_003 + epoch)
            if epoch == 0 or recipe.kept(epoch) != recipe.kept(epoch - 1):
                masks = prune_nm(model, n=recipe.kept(epoch), m=recipe.group)
            masked = MaskedTraining(model, masks=masks, optimizer=optimizer)
            loss, accuracy = _train_epoch(
                model,
                teacher=teacher,
                images=images,
                labels=labels,
                optimizer=optimizer,
                recipe=recipe,
                epoch=epoch,
                advance=lambda count: progress.advance(task, count),
            )
            masked.remove()
            line = {
                "epoch": epoch + 1,
                "kept": recipe.kept(epoch),
                "loss": loss,
                "train_accuracy": accuracy,
            }
            if validation is not None:
                line["validation_accuracy"] = evaluate(
                    model, images=validation.images, labels=validation.labels
                )
            history.append(line)
            _save(
                {
                    "recipe": asdict(recipe),
                    "history": history,
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "masks": masks,
                },
                path=folder / CHECKPOINT,
            )
            (folder / LOG).write_text("".join(json.dumps(line) + "\n" for line in history))
    model.eval()
    return masks


@torch.no_grad()
def evaluate(
    model: nn.Module, *, images: np.ndarray, labels: np.ndarray, batch: int = 500
) -> float:
    """Return the share of uint8 ``images`` [N, 3, H, W] that ``model`` gives their label.

    Parameters
    ----------
    model
        Called as it is: put it in evaluation mode first.
    """
    device = next(model.parameters()).device
    correct = 0
    for start in range(0, len(images), batch):
        pixels = normalize(torch.as_tensor(images[start : start + batch], device=device))
        answers = model(pixels.to(memory_format=torch.channels_last)).argmax(dim=1).cpu().numpy()
        correct += int((answers == labels[start : start + batch]).sum())
    return correct / len(images)


def crop_and_flip(images: torch.Tensor, *, padding: int) -> torch.Tensor:
    """Return each image cropped at random out of a black border and mirrored half of the time.

    Parameters
    ----------
    images
        uint8 [N, C, H, W]; the result has the same shape.
    padding
        Width of the border in pixels.
    """
    count, channels, height, width = images.shape
    device = images.device
    padded = F.pad(images, (padding,) * 4)
    offsets = torch.randint(0, 2 * padding + 1, (2, count, 1), device=device)
    flipped = torch.rand(count, 1, device=device) < 0.5
    rows = offsets[0] + torch.arange(height, device=device)
    columns = torch.arange(width, device=device)
    columns = offsets[1] + torch.where(flipped, width - 1 - columns, columns)
    return padded[
        torch.arange(count, device=device).view(-1, 1, 1, 1),
        torch.arange(channels, device=device).view(1, -1, 1, 1),
        rows.view(count, 1, height, 1),
        columns.view(count, 1, 1, width),
    ]


def save_state_dict(model: nn.Module, *, path: Path) -> None:
    """Write the contiguous float32 state of ``model``; no reader ever sees half of a file."""
    state = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    _save(state, path=path)


def _train_epoch(
    model: nn.Module,
    *,
    teacher: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    recipe: FinetuneRecipe,
    epoch: int,
    advance: Callable[[int], None],
) -> tuple[float, float]:
    """Return the mean loss and the accuracy on the augmented images of one epoch."""
    model.train()
    loss_sum = torch.zeros((), device=images.device)
    correct = torch.zeros((), device=images.device)
    batches = torch.randperm(len(images), device=images.device).split(recipe.batch)
    for number, chosen in enumerate(batches):
        rate = recipe.learning_rate_at(
            epoch * len(batches) + number, steps=recipe.epochs * len(batches)
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = crop_and_flip(images[chosen], padding=recipe.crop_padding)
        pixels = normalize(batch).to(memory_format=torch.channels_last)
        with torch.autocast(pixels.device.type, dtype=torch.bfloat16):
            with torch.no_grad():
                teacher_logits = teacher(pixels)
            logits = model(pixels)
        loss = distillation_loss(
            logits.float(),
            teacher_logits=teacher_logits.float(),
            labels=labels[chosen],
            temperature=recipe.temperature,
            soft_share=recipe.soft_share,
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.detach() * len(chosen)
        correct += (logits.argmax(dim=1) == labels[chosen]).sum()
        advance(len(chosen))
    model.eval()
    return loss_sum.item() / len(images), correct.item() / len(images)


def _resume(
    folder: Path, *, model: nn.Module, optimizer: torch.optim.Optimizer, recipe: FinetuneRecipe
) -> tuple[dict[str, torch.Tensor], list[dict]]:
    path = folder / CHECKPOINT
    if not path.exists():
        return {}, []
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    if checkpoint["recipe"] != asdict(recipe):
        raise ValueError(f"{path} was made by another recipe, {checkpoint['recipe']}")
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    device = next(model.parameters()).device
    masks = {name: mask.to(device) for name, mask in checkpoint["masks"].items()}
    return masks, checkpoint["history"]


def _save(content: dict, *, path: Path) -> None:
    part = path.with_name(path.name + ".part")
    torch.save(content, part)
    os.replace(part, path)


def main() -> None:
    """Make the 4:16 ResNet-20 from the dense one."""
    root = Path(__file__).parents[3]
    recipe = FinetuneRecipe()
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, help="folder cifar-10-batches-py")
    parser.add_argument(
        "--output", type=Path, default=zoo.WEIGHTS / "resnet20_4of16.pt", help="where weights go"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=root / ".cache" / "finetune",
        help="checkpoint and log; an interrupted run goes on from there",
    )
    parser.add_argument("--epochs", type=int, default=recipe.epochs)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    recipe = FinetuneRecipe(epochs=arguments.epochs)
    train = load_train(arguments.data)
    test = load_test(arguments.data)
    teacher = zoo.resnet20("dense")
    model = copy.deepcopy(teacher)
    finetune(
        model,
        teacher=teacher,
        dataset=train,
        recipe=recipe,
        folder=arguments.folder,
        validation=load_sample().test,
    )
    save_state_dict(model, path=arguments.output)
    accuracy = evaluate(model, images=test.images, labels=test.labels)
    print(f"{arguments.output}: {accuracy:.2%} of {len(test)} test images")


if __name__ == "__main__":
    main()
