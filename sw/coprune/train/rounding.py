"""Networks that compute in training as they will when quantized: torchao's PT2E flow."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.fx import GraphModule


def prepare_for_rounding(model: nn.Module, *, images: torch.Tensor, observer: str) -> GraphModule:
    """Export ``model`` for training with simulated rounding.

    The result shares no weights with ``model``, but has them by the same names.

    Parameters
    ----------
    images
        Two or more, float32 [N, C, H, W], as the network takes them; later batches may have any
        number but one.
    observer
        As for `coprune.quantize.pt2e.AcceleratorQuantizer`.
    """
    # Importing torchao takes seconds, and it is an optional dependency.
    from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e

    from coprune.quantize.pt2e import AcceleratorQuantizer

    batch = torch.export.Dim("batch", min=2)
    network = copy.deepcopy(model).train()
    exported = torch.export.export(network, (images,), dynamic_shapes=({0: batch},))
    return prepare_qat_pt2e(exported.module(), AcceleratorQuantizer(observer=observer, is_qat=True))


def simulate_rounding(prepared: GraphModule) -> GraphModule:
    """Return what `coprune.compile` takes of a network that was prepared and trained.

    Parameters
    ----------
    prepared
        In evaluation mode, as `coprune.train.train` leaves it.
    """
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

    # It changes what it is given.
    return convert_pt2e(copy.deepcopy(prepared))
