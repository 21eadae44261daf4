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
from coprune.data.data_set import DataSet, load_data_set
from coprune.data.images import LabelledImages, Normalize, Sample

__all__ = [
    "CLASSES",
    "DataSet",
    "LabelledImages",
    "Normalize",
    "Sample",
    "cifar10",
    "fashion_mnist",
    "find_cifar10",
    "load_data_set",
    "load_sample",
    "load_test",
    "load_train",
    "normalize",
]
