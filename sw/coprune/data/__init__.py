"""Images to calibrate, fine-tune and measure with."""

from coprune.data import cifar10, fashion_mnist
from coprune.data.cifar10 import (
    CLASSES,
    find_cifar10,
    load_sample,
    load_test,
    load_train,
    normalize,
)
from coprune.data.images import LabelledImages, Sample

__all__ = [
    "CLASSES",
    "LabelledImages",
    "Sample",
    "cifar10",
    "fashion_mnist",
    "find_cifar10",
    "load_sample",
    "load_test",
    "load_train",
    "normalize",
]
