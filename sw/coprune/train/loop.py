"""The training loop: any network, from random weights or pruned, with a teacher or without."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from coprune import atomic_file
from coprune.data import LabelledImages, Normalize
from coprune.prune.schedule import Choose, OneShot, Schedule
from coprune.prune.sparse_training import SparseTraining
from coprune.train.augmentation import EPOCH_SEEDS, Augmented, crop_and_flip, epoch_steps
from coprune.train.checkpoint import load_checkpoint, save_checkpoint, save_log
from coprune.train.distillation import Distillation, FeatureMatching, distillation_loss
from coprune.train.evaluation import evaluate
from coprune.train.interruption import Interruption
from coprune.train.mode import set_training
from coprune.train.precision import autocast, choose_precision
from coprune.train.settings import PRECISIONS, TrainingSettings
from coprune.train.teacher import LogitsCache, Teacher, cache_key
from coprune.train.workers import Workers

STEP_SEEDS = 100_003
"""More than an epoch has steps."""
WORKER_SEEDS = 1009
"""More than there are processes."""

Report = Callable[[Sequence[dict]], None]
"""Takes the log so far, a dictionary per epoch."""


def train(
    model: nn.Module,
    *,
    dataset: LabelledImages,
    normalize: Normalize,
    settings: TrainingSettings,
    folder: Path,
    choose: Choose | None = None,
    schedule: Schedule | None = None,
    teacher: nn.Module | None = None,
    distillation: Distillation | None = None,
    validation: LabelledImages | None = None,
    teacher_cache: Path | None = None,
    checkpoint_minutes: float = 5.0,
    show_progress: bool = True,
    origin: Mapping[str, Any] | None = None,
    report: Report | None = None,
) -> dict[str, torch.Tensor]:
    """Train ``model`` in place, and leave it in evaluation mode.

    A run that was interrupted goes on from the checkpoint in ``folder``: on the CPU, with as many
    threads, to bitwise the same weights. Ctrl-C writes one before it stops. Among processes of
    `torch.distributed` each step's images are divided, and the first process writes the files.

    Parameters
    ----------
    model
        Trained on the device of its parameters.
    folder
        Holds ``checkpoint.pt`` and ``log.jsonl``, a line per epoch; made if absent.
    choose
        Chooses the masks of weights to prune; None prunes nothing.
    schedule
        When masks are chosen; by default once, before the first step.
    teacher
        Left unchanged; often a copy of the dense network.
    distillation
        What is learnt from the teacher; by default its soft targets.
    validation
        Images to report the accuracy on after each epoch. Nothing is selected by it.
    teacher_cache
        Folder of what teachers said, for runs of other students with the same settings.
    checkpoint_minutes
        Between checkpoints within an epoch; 0 writes one after every step.
    origin
        What else the result depends on, such as where network, images and masks come from: a
        checkpoint with another origin is refused. Texts, numbers, lists and dictionaries.
    report
        Called after each epoch, in the first process.

    Returns
    -------
    dict
        Module name to the bool mask of the weights that were kept.

    Raises
    ------
    ValueError
        The checkpoint in ``folder`` was made by another recipe, or settings do not go together.
    KeyboardInterrupt
        After Ctrl-C or SIGTERM.
    """
    distillation = Distillation() if distillation is None else distillation
    if teacher_cache is not None and distillation.features:
        raise ValueError("teacher_cache keeps logits only: it does not go with features")
    workers = Workers()
    if settings.batch < workers.count:
        raise ValueError(f"batch must be at least {workers.count} (processes)")
    atomic_file.make_folder(folder)
    device = next(model.parameters()).device
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), Interruption() as interruption:
        run = _Run(
            model,
            images=_Images(dataset, normalize=normalize, settings=settings, device=device),
            settings=settings,
            folder=folder,
            workers=workers,
            choose=choose,
            schedule=OneShot() if schedule is None else schedule,
            teacher=teacher,
            distillation=distillation,
            origin=origin,
        )
        console = Console(stderr=True, quiet=not (show_progress and workers.is_first))
        run.resume(console)
        if teacher is not None and teacher_cache is not None:
            run.teacher.cache = LogitsCache(
                teacher_cache,
                key=cache_key(
                    teacher,
                    dataset=dataset,
                    normalize=normalize,
                    settings=settings,
                    precision=run.precision,
                    device=device,
                    workers=workers,
                ),
            )
        with _Bar(run, console=console) as bar:
            while run.epoch < settings.epochs:
                stopped = _train_epoch(
                    run,
                    interruption=interruption,
                    checkpoint_seconds=60 * checkpoint_minutes,
                    advance=bar.advance,
                )
                if workers.is_first:
                    if validation is not None:
                        with run.pruned():
                            accuracy = evaluate(model, dataset=validation, normalize=normalize)
                        run.history[-1]["validation_accuracy"] = accuracy
                    run.save()
                    save_log(folder, run.history)
                    if report is not None:
                        report(run.history)
                if stopped:
                    raise KeyboardInterrupt
        return run.finish()


class _Bar:
    """Shows how many images are done, how many a second, and the loss of the last epoch."""

    def __init__(self, run: _Run, *, console: Console):
        self._run = run
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]:,.0f} images/s"),
            TextColumn("{task.fields[loss]}"),
            TimeRemainingColumn(),
            console=console,
        )
        images, epochs = len(run.images), run.settings.epochs
        done = run.epoch * images + run.step * run.settings.batch
        self._task = self._progress.add_task(
            "", total=epochs * images, completed=done, epoch="", speed=0.0, loss=""
        )
        self._begin = time.monotonic()
        self._images = 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, images: int) -> None:
        """Count the images of a step."""
        self._images += images
        history = self._run.history
        self._progress.update(
            self._task,
            advance=images,
            epoch=f"{self._run.epoch + 1} of {self._run.settings.epochs}",
            speed=self._images / (time.monotonic() - self._begin),
            loss=f"loss {history[-1]['loss']:.4f}" if history else "",
        )


class _Images:
    """The training images, on the device where they are needed."""

    def __init__(
        self,
        dataset: LabelledImages,
        *,
        normalize: Normalize,
        settings: TrainingSettings,
        device: torch.device,
    ):
        self._pixels = torch.as_tensor(dataset.images, device=device)
        self._labels = torch.as_tensor(dataset.labels, device=device).long()
        self._normalize = normalize
        self._settings = settings
        self._device = device

    def __len__(self) -> int:
        return len(self._pixels)

    def steps(self, epoch: int) -> Iterator[Augmented]:
        """Yield what each step of an epoch takes."""
        settings = self._settings
        return epoch_steps(
            images=len(self),
            batch=settings.batch,
            seed=settings.seed,
            epoch=epoch,
            padding=settings.crop_padding,
            flip=settings.flip,
        )

    def take(self, step: Augmented) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the augmented, normalized pixels of a step, and their labels."""
        step = step.to(self._device)
        pixels = crop_and_flip(
            self._pixels[step.chosen], step=step, padding=self._settings.crop_padding
        )
        pixels = self._normalize(pixels).to(memory_format=self._settings.memory_format)
        return pixels, self._labels[step.chosen]


class _Run:
    """The state of a run from one step to the next, and how it is kept."""

    def __init__(
        self,
        model: nn.Module,
        *,
        images: _Images,
        settings: TrainingSettings,
        folder: Path,
        workers: Workers,
        choose: Choose | None,
        schedule: Schedule,
        teacher: nn.Module | None,
        distillation: Distillation,
        origin: Mapping[str, Any] | None,
    ):
        self.model, self.images, self.settings = model, images, settings
        self.folder, self.workers, self.distillation = folder, workers, distillation
        self.device = next(model.parameters()).device
        self.steps_per_epoch = -(-len(images) // settings.batch)
        model.to(memory_format=settings.memory_format)
        self.teacher = None
        if teacher is not None:
            self.teacher = Teacher(
                teacher, device=self.device, memory_format=settings.memory_format
            )
        self.features = self._match_features()
        self.optimizer = settings.make_optimizer(
            [value for module in self.modules for value in module.parameters()]
        )
        self.sparse = None
        if choose is not None:
            self.sparse = SparseTraining(
                model,
                choose=choose,
                optimizer=self.optimizer,
                schedule=schedule,
                steps_per_epoch=self.steps_per_epoch,
            )
        self._identity = {
            "settings": asdict(settings),
            "schedule": None if choose is None else repr(schedule),
            "distillation": None if teacher is None else asdict(distillation),
            "images": len(images),
            "origin": None if origin is None else dict(origin),
        }
        self.precision = settings.precision
        self.epoch, self.step = 0, 0
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.correct = torch.zeros((), dtype=torch.float64, device=self.device)
        self.history: list[dict] = []
        self._training: bool | None = None

    @property
    def modules(self) -> list[nn.Module]:
        """All that learns."""
        return [self.model] if self.features is None else [self.model, self.features]

    def resume(self, console: Console) -> None:
        """Take over the checkpoint, if there is one, and choose the precision."""
        checkpoint = load_checkpoint(self.folder, identity=self._identity)
        # No process may write a checkpoint before all have read.
        self.workers.wait()
        if checkpoint is not None:
            for module, state in zip(self.modules, checkpoint["modules"], strict=True):
                module.load_state_dict(state)
            self.optimizer.load_state_dict(checkpoint["optimizer"])
            if self.sparse is not None:
                self.sparse.load_state_dict(checkpoint["sparse"])
            for name in ("precision", "epoch", "step", "history"):
                setattr(self, name, checkpoint[name])
            self.loss_sum += checkpoint["loss_sum"]
            self.correct += checkpoint["correct"]
        if self.precision == "auto":
            self.precision = self._measure_precision(console)
        if self.teacher is not None:
            self.teacher.precision = self.precision

    def save(self) -> None:
        """Write the checkpoint."""
        save_checkpoint(
            self.folder,
            {
                "identity": self._identity,
                "modules": [module.state_dict() for module in self.modules],
                "optimizer": self.optimizer.state_dict(),
                "sparse": None if self.sparse is None else self.sparse.state_dict(),
                "precision": self.precision,
                "epoch": self.epoch,
                "step": self.step,
                "history": self.history,
                "loss_sum": self.loss_sum.item(),
                "correct": self.correct.item(),
            },
        )

    @contextmanager
    def pruned(self) -> Iterator[None]:
        """Inside, the network is in evaluation mode and as pruned as it is in training."""
        self.set_training(False)
        with nullcontext() if self.sparse is None else self.sparse.pruned():
            yield

    def finish(self) -> dict[str, torch.Tensor]:
        """Leave the network pruned and in evaluation mode, and return the masks."""
        self.set_training(False)
        if self.features is not None:
            self.features.remove()
        return {} if self.sparse is None else self.sparse.finish()

    def set_training(self, training: bool) -> None:
        """Put the network in training or evaluation mode, which takes a graph some seconds."""
        if training != self._training:
            set_training(self.model, training=training)
            self._training = training

    def begin_step(self) -> None:
        """Set random numbers and learning rate of a step, and prune if it is time to."""
        settings = self.settings
        # Every step seeds what the network draws, so a checkpoint needs no generator.
        seed = (settings.seed * EPOCH_SEEDS + self.epoch) * STEP_SEEDS + self.step
        torch.manual_seed(seed * WORKER_SEEDS + self.workers.rank)
        number = self.epoch * self.steps_per_epoch + self.step
        rate = settings.learning_rate_at(number, steps_per_epoch=self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if self.sparse is not None:
            self.sparse.before_forward()

    def end_epoch(self) -> None:
        """Add what the epoch's images gave to the history."""
        line = {
            "epoch": self.epoch + 1,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "precision": self.precision,
            "loss": self.loss_sum.item() / len(self.images),
            "train_accuracy": self.correct.item() / len(self.images),
        }
        if self.sparse is not None:
            line["kept"] = self.sparse.kept
        self.history.append(line)
        self.loss_sum.zero_()
        self.correct.zero_()
        self.epoch, self.step = self.epoch + 1, 0

    def loss(
        self, logits: torch.Tensor, *, labels: torch.Tensor, teacher_logits: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the mean loss of the images that the networks ran on last."""
        smoothing = self.settings.label_smoothing
        if teacher_logits is None:
            return F.cross_entropy(logits, labels, label_smoothing=smoothing)
        loss = distillation_loss(
            logits,
            teacher_logits=teacher_logits,
            labels=labels,
            temperature=self.distillation.temperature,
            soft_share=self.distillation.soft_share,
            label_smoothing=smoothing,
        )
        if self.features is not None:
            loss = loss + self.distillation.feature_weight * self.features()
        return loss

    def _match_features(self) -> FeatureMatching | None:
        if self.teacher is None or not self.distillation.features:
            return None
        first = next(self.images.steps(0)).part(slice(0, 1))
        # First weights of projections.
        torch.manual_seed(self.settings.seed)
        return FeatureMatching(
            self.model,
            self.teacher.network,
            pairs=self.distillation.features,
            image=self.images.take(first)[0],
        )

    def _measure_precision(self, console: Console) -> str:
        pixels, labels = self.images.take(next(self.images.steps(0)))
        chosen, speeds = choose_precision(self.model, pixels=pixels, labels=labels)
        chosen = PRECISIONS[int(self.workers.agree(PRECISIONS.index(chosen)))]
        rates = ", ".join(f"{name} {speed:,.0f}" for name, speed in speeds.items())
        console.print(f"images per second in {rates}: {chosen} it is", highlight=False)
        return chosen


def _train_epoch(
    run: _Run,
    *,
    interruption: Interruption,
    checkpoint_seconds: float,
    advance: Callable[[int], None],
) -> bool:
    """Train from where ``run`` is to the end of the epoch, and add a line to its history.

    Returns
    -------
    bool
        An interruption was asked for in the last step; in the others it is raised.
    """
    workers = run.workers
    run.set_training(True)
    if run.teacher is not None:
        run.teacher.begin_epoch(run.epoch)
    saved_at = time.monotonic()
    seen = 0
    for number, step in enumerate(run.images.steps(run.epoch)):
        count = len(step.chosen)
        part = workers.part(count)
        begin, seen = seen, seen + part.stop - part.start
        if number < run.step:
            continue
        run.begin_step()
        pixels, labels = run.images.take(step.part(part))
        teacher_logits = None if run.teacher is None else run.teacher(pixels, begin=begin)
        with autocast(run.device, precision=run.precision):
            logits = run.model(pixels)
        loss = run.loss(logits.float(), labels=labels, teacher_logits=teacher_logits)
        run.optimizer.zero_grad()
        loss.backward()
        share = workers.share(count)
        loss_sum = loss.detach().double() * share * count
        correct = (logits.argmax(dim=1) == labels).double().sum() * (share * count / len(pixels))
        stop = torch.tensor(float(interruption.asked))
        workers.combine(run.modules, share=share, sums=[loss_sum, correct, stop])
        run.optimizer.step()
        run.loss_sum += loss_sum
        run.correct += correct
        run.step += 1
        advance(count)
        if run.step == run.steps_per_epoch:
            break
        is_due = time.monotonic() - saved_at >= checkpoint_seconds
        if workers.is_first and (stop or is_due):
            run.save()
            saved_at = time.monotonic()
        if stop:
            raise KeyboardInterrupt
    if run.teacher is not None:
        run.teacher.end_epoch(run.epoch, images=seen)
    run.end_epoch()
    return bool(stop)
