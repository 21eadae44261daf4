"""The progress bar of a run."""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from coprune.train.run import Run


class ProgressBar:
    """Shows how many images are done, how many a second, and the loss of the last epoch."""

    def __init__(self, run: Run, *, console: Console):
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
