"""Networks that come with coprune, by name."""

import inspect
from collections.abc import Callable
from pathlib import Path

from torch import nn

from coprune.zoo.autoencoder import Autoencoder, autoencoder
from coprune.zoo.ds_cnn import DSCNN, ds_cnn
from coprune.zoo.lenet import LeNet5, lenet5
from coprune.zoo.mobilenet import (
    MobileNetV1,
    MobileNetV2,
    mobilenetv1,
    mobilenetv2,
    mobilenetv2_cifar10,
)
from coprune.zoo.projection_resnet import ProjectionResNet, load_mlperf_tiny, resnet8, resnet18
from coprune.zoo.resnet import (
    WEIGHTS,
    CifarResNet,
    load_akamaster,
    resnet20,
    resnet32,
    resnet44,
    resnet56,
)
from coprune.zoo.squeezenet import SqueezeNet, load_deep_compression, squeezenet
from coprune.zoo.weights_file import load_weights

__all__ = [
    "DSCNN",
    "WEIGHTS",
    "Autoencoder",
    "CifarResNet",
    "LeNet5",
    "MobileNetV1",
    "MobileNetV2",
    "ProjectionResNet",
    "SqueezeNet",
    "autoencoder",
    "build",
    "ds_cnn",
    "lenet5",
    "load_akamaster",
    "load_deep_compression",
    "load_mlperf_tiny",
    "load_weights",
    "mobilenetv1",
    "mobilenetv2",
    "mobilenetv2_cifar10",
    "names",
    "resnet8",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "squeezenet",
]


def _resnet20_4of16() -> CifarResNet:
    return resnet20("4:16")


def _resnet20_dense() -> CifarResNet:
    return resnet20("dense")


_NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "resnet20": _resnet20_4of16,
    "resnet20-dense": _resnet20_dense,
    "resnet32": resnet32,
    "resnet44": resnet44,
    "resnet56": resnet56,
    "resnet8": resnet8,
    "resnet18": resnet18,
    "mobilenetv1": mobilenetv1,
    "mobilenetv2": mobilenetv2,
    "mobilenetv2-cifar10": mobilenetv2_cifar10,
    "ds-cnn": ds_cnn,
    "autoencoder": autoencoder,
    "lenet5": lenet5,
    "squeezenet": squeezenet,
}
_PARAMETERS: dict[str, type[nn.Module]] = {
    "mobilenetv1": MobileNetV1,
    "mobilenetv2": MobileNetV2,
    "ds-cnn": DSCNN,
    "autoencoder": Autoencoder,
    "squeezenet": SqueezeNet,
}
"""Whose constructor names the parameters of a function that passes them on."""


def names() -> list[str]:
    """Return the names that `build` accepts."""
    return list(_NETWORKS)


def build(name: str, *, weights: Path | str | None = None, **parameters) -> nn.Module:
    """Return the network called ``name``, in evaluation mode; it states its ``input_shape``.

    ``resnet20`` is ResNet-20 for CIFAR-10 pruned to 4:16, ``resnet20-dense`` the public
    checkpoint that it was made of. ``mobilenetv2-cifar10`` is trained on CIFAR-10 and ``lenet5``
    on Fashion-MNIST. The others have random weights, the same every time.

    Parameters
    ----------
    weights
        A file for `load_weights`.
    parameters
        Those of the network's own function, such as ``width`` and ``resolution``.

    Raises
    ------
    ValueError
        If there is no such network, or it has no such parameter or value.
    """
    if name not in _NETWORKS:
        raise ValueError(f"network must be one of {', '.join(names())}, not {name!r}")
    known = inspect.signature(_PARAMETERS.get(name, _NETWORKS[name])).parameters
    for parameter in parameters:
        if parameter not in known:
            raise ValueError(
                f"parameters of {name} must be among {', '.join(known) or 'none'}, "
                f"not {parameter!r}"
            )
    model = _NETWORKS[name](**parameters)
    return model if weights is None else load_weights(model, weights)
