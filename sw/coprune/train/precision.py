"""Whether bfloat16 pays: with AVX512-BF16 or a GPU it does, with AVX2 it is ten times slower."""

from __future__ import annotations

import copy
import time

import torch
import torch.nn.functional as F
from torch import nn

REPETITIONS = 3
GAIN = 1.1
"""By which bfloat16 must be faster to be chosen: it costs precision."""


def choose_precision(
    model: nn.Module, *, pixels: torch.Tensor, labels: torch.Tensor
) -> tuple[str, dict[str, float]]:
    """Measure training steps in both precisions, and return the better one and images per second.

    Parameters
    ----------
    model
        Left unchanged.
    pixels, labels
        A batch.
    """
    model = copy.deepcopy(model).train()
    seconds = {
        precision: min(
            _measure_step(model, precision=precision, pixels=pixels, labels=labels)
            for _ in range(REPETITIONS)
        )
        for precision in ("float32", "bfloat16")
    }
    speeds = {precision: len(pixels) / least for precision, least in seconds.items()}
    pays = speeds["bfloat16"] >= GAIN * speeds["float32"]
    return "bfloat16" if pays else "float32", speeds


def autocast(device: torch.device, *, precision: str) -> torch.autocast:
    """Return the context of a forward pass in ``"float32"`` or ``"bfloat16"``."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def _measure_step(
    model: nn.Module, *, precision: str, pixels: torch.Tensor, labels: torch.Tensor
) -> float:
    begin = time.perf_counter()
    with autocast(pixels.device, precision=precision):
        logits = model(pixels)
    F.cross_entropy(logits.float(), labels).backward()
    if pixels.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - begin
