"""Random weights with which a network's activations are as sane as those of a trained one."""

import torch
from torch import nn

IMAGES = 16
"""Random images that batch norms measure their statistics on."""
WEIGHT_RANGE = (0.5, 1.5)
"""Of a batch norm's weights; its biases are as spread as `BIAS_DEVIATION` says."""
BIAS_DEVIATION = 0.2


def randomize(model: nn.Module, *, input_shape: tuple[int, int, int], seed: int = 0) -> nn.Module:
    """Give every layer of ``model`` random weights and leave it in evaluation mode.

    Convolutions and linear layers are drawn after He et al., "Delving deep into rectifiers", 2015.
    Batch norms get the statistics that their inputs have on normally distributed images.

    Parameters
    ----------
    model
        Changed in place.
    input_shape
        Channels, height and width of an image.
    seed
        Of all random numbers; those of PyTorch's own generator are left alone.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        norms = []
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.normal_(module.bias, std=BIAS_DEVIATION)
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.uniform_(module.weight, *WEIGHT_RANGE)
                nn.init.normal_(module.bias, std=BIAS_DEVIATION)
                norms.append(module)
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = 1.0
        model.train()
        model(torch.randn(IMAGES, *input_shape))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return model.eval()
