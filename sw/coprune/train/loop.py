"""The training loop: any network, from random weights or pruned, with a teacher or without."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from coprune import atomic_file
from coprune.data import LabelledImages, Normalize
from coprune.prune.schedule import Choose, OneShot, Schedule
from coprune.train.checkpoint import save_log
from coprune.train.distillation import Distillation
from coprune.train.evaluation import evaluate
from coprune.train.images import TrainingImages
from coprune.train.interruption import Interruption
from coprune.train.precision import autocast
from coprune.train.progress_bar import ProgressBar
from coprune.train.run import Run
from coprune.train.settings import TrainingSettings
from coprune.train.teacher import LogitsCache, cache_key
from coprune.train.workers import Workers

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
        run = Run(
            model,
            images=TrainingImages(dataset, normalize=normalize, settings=settings, device=device),
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
        with ProgressBar(run, console=console) as bar:
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


def _train_epoch(
    run: Run,
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
