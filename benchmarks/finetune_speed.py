"""Print images per second of the training loop with masks, and of a plain PyTorch loop without.

Both train the same network on the same images with the same teacher, in turns: an epoch of one, an
epoch of the other. So what else the machine does slows both down. The plain loop augments as usual,
and has neither masks nor checkpoints nor a log nor a bar.
"""

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import nn

from coprune.data import LabelledImages, cifar10
from coprune.named_network import find_network
from coprune.prune import BlockPattern, pattern_choice, prunable_layers
from coprune.prune.schedule import OneShot, Schedule, StraightThrough
from coprune.train import TrainingSettings, distillation_loss, train
from coprune.train.augmentation import crop_and_flip, epoch_steps
from coprune.train.workers import find_device

LANES = 16


def main() -> None:
    """Parse the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", nargs="?", default="resnet20-dense")
    parser.add_argument("--images", type=int, default=1280, help="in an epoch")
    parser.add_argument("--epochs", type=int, default=7, help="of each; the first does not count")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--straight-through", action="store_true", help="SR-STE, not fixed masks")
    parser.add_argument("--no-teacher", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    settings = TrainingSettings(
        epochs=arguments.epochs,
        batch=arguments.batch,
        learning_rate=0.01,
        precision=arguments.precision,
    )
    model = find_network(arguments.network).to(find_device(arguments.device))
    schedule = StraightThrough(epochs=settings.epochs) if arguments.straight_through else OneShot()
    measure(
        model,
        dataset=random_images(arguments.images),
        settings=settings,
        schedule=schedule,
        teacher=None if arguments.no_teacher else copy.deepcopy(model),
        name=arguments.network,
    )


def measure(
    model: nn.Module,
    *,
    dataset: LabelledImages,
    settings: TrainingSettings,
    schedule: Schedule,
    teacher: nn.Module | None,
    name: str,
) -> None:
    """Train with both loops in turns, and print a line for each epoch and the ratio."""
    plain_epoch = plain_loop(model, dataset=dataset, settings=settings, teacher=teacher)
    patterns = {
        layer: BlockPattern.uniform(tuple(module.weight.shape), n=4, lanes=LANES)
        for layer, module in prunable_layers(model, m=LANES).items()
    }
    ours, plain, begun = [], [], [time.perf_counter()]

    def take_turns(history: list[dict]) -> None:
        ours.append(len(dataset) / (time.perf_counter() - begun[0]))
        start = time.perf_counter()
        plain_epoch(len(history) - 1)
        plain.append(len(dataset) / (time.perf_counter() - start))
        print(f"epoch {len(history)}: {ours[-1]:8.1f} images/s, plain {plain[-1]:8.1f}", flush=True)
        begun[0] = time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        train(
            model,
            dataset=dataset,
            normalize=cifar10.normalize,
            settings=settings,
            folder=Path(folder),
            choose=pattern_choice(patterns),
            schedule=schedule,
            teacher=teacher,
            report=take_turns,
        )
    # The first epoch of both warms up.
    ratio = median(own / other for own, other in zip(ours[1:], plain[1:], strict=True))
    print(
        f"{name}, {settings.precision}, {type(schedule).__name__}: median {median(ours[1:]):.1f} "
        f"images/s, plain {median(plain[1:]):.1f}; ratio of neighbours {ratio:.3f}"
    )


def plain_loop(
    model: nn.Module,
    *,
    dataset: LabelledImages,
    settings: TrainingSettings,
    teacher: nn.Module | None,
) -> Callable[[int], None]:
    """Return what trains a copy of ``model`` for an epoch, as everybody writes it."""
    model = copy.deepcopy(model).to(memory_format=torch.channels_last)
    device = next(model.parameters()).device
    images = torch.as_tensor(dataset.images, device=device)
    labels = torch.as_tensor(dataset.labels, device=device).long()
    optimizer = settings.make_optimizer(list(model.parameters()))
    if teacher is not None:
        teacher = copy.deepcopy(teacher).to(memory_format=torch.channels_last).eval()

    def epoch(number: int) -> None:
        model.train()
        for step in epoch_steps(
            images=len(images),
            batch=settings.batch,
            seed=0,
            epoch=number,
            padding=settings.crop_padding,
        ):
            step = step.to(device)
            pixels = crop_and_flip(images[step.chosen], step=step, padding=settings.crop_padding)
            pixels = cifar10.normalize(pixels).to(memory_format=torch.channels_last)
            with torch.autocast(
                device.type, dtype=torch.bfloat16, enabled=settings.precision == "bfloat16"
            ):
                logits = model(pixels).float()
                if teacher is not None:
                    with torch.no_grad():
                        teacher_logits = teacher(pixels).float()
            if teacher is None:
                loss = nn.functional.cross_entropy(logits, labels[step.chosen])
            else:
                loss = distillation_loss(
                    logits, teacher_logits=teacher_logits, labels=labels[step.chosen]
                )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return epoch


def random_images(count: int) -> LabelledImages:
    """CIFAR-10's shape; speed does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (count,), generator=generator)
    return LabelledImages(images.numpy(), labels.numpy())


if __name__ == "__main__":
    main()
