"""Processes that train one network together, as ``torchrun`` starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn


class Workers:
    """This process among those of `torch.distributed`; the only one where that is not running.

    A batch is divided among the processes. Gradients, sums and the statistics of batch norms are
    added up in one message per step, each process with the share that its images have.
    """

    def __init__(self) -> None:
        together = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if together else 0
        self.count = dist.get_world_size() if together else 1

    @property
    def is_first(self) -> bool:
        """This process is the one that writes files and shows progress."""
        return self.rank == 0

    def part(self, images: int) -> slice:
        """Return which of a step's ``images`` are this process's; all, if there are too few."""
        if images < self.count:
            return slice(0, images)
        bounds = [images * rank // self.count for rank in (self.rank, self.rank + 1)]
        return slice(*bounds)

    def share(self, images: int) -> float:
        """Return the weight of this process's part in the mean over a step of ``images``."""
        if images < self.count:
            return 1 / self.count
        part = self.part(images)
        return (part.stop - part.start) / images

    @torch.no_grad()
    def combine(
        self, modules: Sequence[nn.Module], *, share: float, sums: Sequence[torch.Tensor]
    ) -> None:
        """Make gradients and floating buffers of ``modules`` weighted means, and ``sums`` sums."""
        if self.count == 1:
            return
        means = [
            parameter.grad
            for module in modules
            for parameter in module.parameters()
            if parameter.grad is not None
        ]
        means += [
            buffer
            for module in modules
            for buffer in module.buffers()
            if buffer.is_floating_point()
        ]
        flat = torch.cat(
            [(mean.float() * share).flatten() for mean in means]
            + [value.float().flatten() for value in sums]
        )
        dist.all_reduce(flat)
        tensors = [*means, *sums]
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))

    def agree(self, value: float) -> float:
        """Return the first process's ``value`` in all of them."""
        if self.count == 1:
            return value
        message = torch.tensor([value], dtype=torch.float64, device=_device())
        dist.broadcast(message, src=0)
        return message.item()

    def wait(self) -> None:
        """Return when all processes are here."""
        if self.count > 1:
            dist.barrier()


@contextmanager
def joined_workers(*, device: torch.device) -> Iterator[Workers]:
    """Join the processes that ``torchrun`` started, if it did: gloo on the CPU, NCCL on GPUs.

    ``torchrun`` says by environment variables how many processes there are and where to meet.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Workers()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Workers()
    finally:
        dist.destroy_process_group()


def find_device(name: str) -> torch.device:
    """Return the device called ``name``; with ``torchrun`` each process of ``"cuda"`` has its own.

    ``"auto"`` is ``"cuda"`` where there is one, else ``"cpu"``.

    Raises
    ------
    ValueError
        There is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"device must be auto, cpu, cuda or cuda:N, not {name!r}: {reason}"
        ) from error
    return device


def _device() -> torch.device:
    """On which messages of the processes' group lie."""
    if dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
