"""Networks that come with coprune, by name."""

from collections.abc import Callable

from torch import nn

from coprune.zoo.resnet import (
    WEIGHTS,
    CifarResNet,
    load_akamaster,
    resnet20,
    resnet32,
    resnet44,
    resnet56,
)

__all__ = [
    "WEIGHTS",
    "CifarResNet",
    "build",
    "load_akamaster",
    "names",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
]

_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet20": lambda: resnet20("4:16"),
    "resnet20-dense": lambda: resnet20("dense"),
}


def names() -> list[str]:
    """Return the names that `build` accepts."""
    return list(_NETWORKS)


def build(name: str) -> nn.Module:
    """Return the pretrained network called ``name``, in evaluation mode.

    ``resnet20`` is ResNet-20 for CIFAR-10 pruned to 4:16, ``resnet20-dense`` the public
    checkpoint that it was made of.
    """
    if name not in _NETWORKS:
        raise ValueError(f"network must be one of {', '.join(names())}, not {name!r}")
    return _NETWORKS[name]()
