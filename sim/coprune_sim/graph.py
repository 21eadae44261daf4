"""The integer graph: a quantized network as the hardware sees it.

Every layer is the same thing, a sum of shifted, sparse planes: it adds up products of weights with
the pixels of one or several source tensors and requantizes the sum once. A residual shortcut is one
more source; pooling and linear layers are convolutions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coprune_hw.contract.instructions import RAW_WORDS


@dataclass(frozen=True)
class Tensor:
    """An int8 image: a value `q` stands for ``scale * (q - zero)``.

    Where it is `raw`, its values are the sums themselves, int32: only a network's output can be.
    """

    name: str
    channels: int
    height: int
    width: int
    scale: float
    zero: int
    raw: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return (self.channels, self.height, self.width)

    @property
    def dtype(self) -> type[np.integer]:
        """int8, or int32 where it is raw."""
        return np.int32 if self.raw else np.int8

    def groups(self, lanes: int) -> int:
        """Channel groups of `lanes` bytes."""
        return -(-self.channels // lanes) * (RAW_WORDS if self.raw else 1)


@dataclass(frozen=True)
class Source:
    """One convolution that a layer sums.

    Parameters
    ----------
    tensor : str
        Name of the tensor that it reads.
    weight : int16 array [outputs, inputs / groups, kernel rows, kernel columns]
    groups : int
        As in `torch.nn.functional.conv2d`.
    stride : int
        The same in both directions.
    padding : tuple of int
        Rows above and columns left of the image. Rows below and columns to the right follow from
        the output's size. Padding pixels read as the tensor's zero point.
    dilation : tuple of int
        Rows, columns.
    input_dilation : int
        The convolution reads an image in which this many rows and columns lie between neighbours of
        the tensor, the tensor's zero point in between: 2 for a transposed convolution of stride 2,
        with `stride` 1. `padding` counts rows and columns of that image.
    """

    tensor: str
    weight: np.ndarray
    groups: int = 1
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    input_dilation: int = 1

    @property
    def selects(self) -> bool:
        """Every output takes at most one input value, as in a shortcut: an addition, not a MAC."""
        per_output = np.count_nonzero(self.weight.reshape(len(self.weight), -1), axis=1)
        return self.weight.shape[2:] == (1, 1) and bool((per_output <= 1).all())


@dataclass(frozen=True)
class Layer:
    """A requantized sum of sources.

    Parameters
    ----------
    name, operation : str
        The layer's name in the user's network, and what it was there (``"conv2d"``,
        ``"linear"``...).
    output : Tensor
    sources : tuple of Source
    bias, multiplier, pre_shift, post_shift : int64 arrays [outputs]
        As `coprune_hw.contract.arithmetic.requantize` takes them. The zero points of the sources
        are folded into `bias`. Those of a raw output change nothing: see
        `coprune_hw.contract.parameters.IDENTITY`.
    low, high : int
        Clamp of the output (an activation function).
    maximum : bool
        The layer takes the maximum of the products instead of their sum.
    table : int8 array [256] or None
        An activation function that follows: its values for the numbers from -128 to 127. `zero` of
        the requantization is then `table_zero`, and `low` and `high` bound its argument.
    table_zero : int
    """

    name: str
    operation: str
    output: Tensor
    sources: tuple[Source, ...]
    bias: np.ndarray
    multiplier: np.ndarray
    pre_shift: np.ndarray
    post_shift: np.ndarray
    low: int
    high: int
    maximum: bool = False
    table: np.ndarray | None = None
    table_zero: int = 0

    @property
    def requantized_zero(self) -> int:
        """The zero point to which sums are requantized."""
        return self.output.zero if self.table is None else self.table_zero

    @property
    def input_dilation(self) -> int:
        """That of all its sources."""
        return self.sources[0].input_dilation

    @property
    def computed(self) -> tuple[int, int]:
        """Rows and columns of pixels that are computed."""
        return self.output.shape[1:]

    @property
    def macs(self) -> int:
        """Multiply-accumulates, zero weights included; shortcuts have none."""
        pixels = self.output.height * self.output.width // self.input_dilation**2
        return pixels * sum(source.weight.size for source in self.sources if not source.selects)

    @property
    def nonzero_macs(self) -> int:
        """Multiply-accumulates with a weight that is not zero."""
        pixels = self.output.height * self.output.width // self.input_dilation**2
        return pixels * sum(
            int(np.count_nonzero(source.weight)) for source in self.sources if not source.selects
        )


@dataclass(frozen=True)
class RawScale:
    """What raw sums stand for: ``step * (sum + bias)`` in every channel.

    Parameters
    ----------
    step : float64 array [channels]
    bias : int64 array [channels]
        ``sum + bias`` fits 32 bits.
    """

    step: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class IntegerGraph:
    """A quantized network: layers in execution order; the last one's output is the network's.

    Parameters
    ----------
    input : Tensor
    layers : tuple of Layer
    raw_scale : RawScale, optional
        Of a raw output; without one its sums stand for themselves.
    """

    input: Tensor
    layers: tuple[Layer, ...]
    raw_scale: RawScale | None = None

    @property
    def output(self) -> Tensor:
        """The network's output tensor."""
        return self.layers[-1].output

    def tensor(self, name: str) -> Tensor:
        """The tensor of that name; `KeyError` where there is none."""
        for tensor in (self.input, *(layer.output for layer in self.layers)):
            if tensor.name == name:
                return tensor
        raise KeyError(name)
