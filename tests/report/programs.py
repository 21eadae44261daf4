"""Programs that reports are made of."""

from coprune import AcceleratorConfig, Program, zoo
from coprune import compile as compile_network
from coprune.data import cifar10
from coprune.program import compile_graph

from ..end_to_end.configurations import SMALL
from ..graphs import GraphBuilder, odd_graph, residual_graph, tabulated_graph

CALIBRATION_IMAGES = 16
"""Enough for a program whose accuracy nobody asks for."""


def sparse() -> Program:
    """A small ResNet with a quarter of its weights."""
    return compile_graph(residual_graph(density=0.25), SMALL, network="sparse")


def dense() -> Program:
    """The same with all of them."""
    return compile_graph(residual_graph(), SMALL, network="dense")


def odd() -> Program:
    """Grouped and depthwise convolutions, dilation, maximum pooling and odd sizes."""
    return compile_graph(odd_graph(), SMALL, network="odd")


def tabulated() -> Program:
    """Activation functions that take tables, and an output in phases."""
    return compile_graph(tabulated_graph(), SMALL, network="tabulated")


def single_layer() -> Program:
    """One convolution."""
    builder = GraphBuilder(3, (8, 8), seed=0)
    builder.add(builder.conv("input", 8))
    return compile_graph(builder.graph(), SMALL, network="single")


def demo_network(name: str = "resnet20") -> Program:
    """One of the two networks of the demo."""
    sample = cifar10.load_sample().calibration.images[:CALIBRATION_IMAGES]
    return compile_network(
        zoo.build(name),
        AcceleratorConfig.preset("16x16"),
        calibration=[cifar10.normalize(sample)],
        network=name,
    )
