"""How many images a network gives their label."""

import numpy as np
import torch
from torch import nn

from coprune.data import LabelledImages, Normalize

BATCH = 500


@torch.no_grad()
def evaluate(model: nn.Module, *, dataset: LabelledImages, normalize: Normalize) -> float:
    """Return the share of the images that ``model`` gives their label.

    Parameters
    ----------
    model
        Called as it is: put it in evaluation mode first.
    """
    device = next(model.parameters()).device
    correct = 0
    for start in range(0, len(dataset), BATCH):
        pixels = normalize(torch.as_tensor(dataset.images[start : start + BATCH], device=device))
        answers = model(pixels.to(memory_format=torch.channels_last)).argmax(dim=1).cpu().numpy()
        correct += int(np.sum(answers == dataset.labels[start : start + BATCH]))
    return correct / len(dataset)
