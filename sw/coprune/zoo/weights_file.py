"""Files of weights, in the forms in which they are published."""

from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from coprune.zoo.projection_resnet import ProjectionResNet, load_mlperf_tiny
from coprune.zoo.resnet import load_akamaster
from coprune.zoo.squeezenet import SqueezeNet, load_deep_compression

Network = TypeVar("Network", bound=nn.Module)


def load_weights(model: Network, path: Path | str) -> Network:
    """Load a file of weights into ``model``, and return it.

    Parameters
    ----------
    model
        Any network for a state dict; see the other forms for theirs.
    path
        A state dict by `torch.save`, a checkpoint as `load_akamaster` takes it, or a ``.npz`` as
        `load_mlperf_tiny` and `load_deep_compression` do.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, or holds the weights of another network.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such weights file: {path}")
    try:
        if path.suffix == ".npz":
            return _load_arrays(model, path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        if "state_dict" in content:
            return load_akamaster(model, checkpoint=path)
        model.load_state_dict(content)
    except Exception as error:
        # torch.load and load_state_dict raise many types.
        raise ValueError(
            f"{path} does not hold this network's state dict: {type(error).__name__}: {error}"
        ) from error
    return model


def _load_arrays(model: Network, path: Path) -> Network:
    if isinstance(model, ProjectionResNet):
        return load_mlperf_tiny(model, weights=path)
    if isinstance(model, SqueezeNet):
        return load_deep_compression(model, weights=path)
    raise TypeError(f"no .npz is known for {type(model).__name__}")
