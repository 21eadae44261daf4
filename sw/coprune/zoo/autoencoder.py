"""A fully connected autoencoder that hears when a machine sounds wrong."""

import torch
from torch import nn

from coprune.zoo.random_weights import randomize

INPUTS = 640
"""Five frames of 128 mel bands."""
HIDDEN = (128, 128, 128, 128, 8, 128, 128, 128, 128)


class Autoencoder(nn.Module):
    """The baseline of Koizumi et al., "Description and Discussion on DCASE2020 Task 2", 2020.

    Input [N, 640, 1, 1]; output [N, 640], the input as it went through eight numbers. Every layer
    but the last has a batch norm and a ReLU.

    Parameters
    ----------
    width
        Units of the wide layers; the published one has 128.
    """

    input_shape = (INPUTS, 1, 1)

    def __init__(self, *, width: int = 128):
        super().__init__()
        if width < 1:
            raise ValueError(f"width must be at least 1, not {width!r}")
        layers, inputs = [], INPUTS
        for units in HIDDEN:
            outputs = width if units == max(HIDDEN) else units
            layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
            inputs = outputs
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, INPUTS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x.flatten(1))


def autoencoder(**parameters) -> Autoencoder:
    """Return an `Autoencoder` of these parameters in evaluation mode, with random weights."""
    return randomize(Autoencoder(**parameters), input_shape=Autoencoder.input_shape)
