"""Which sums float32 holds exactly: a proof per layer, from its weights, bias and shifts."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

import numpy as np

from coprune_hw.contract.arithmetic import (
    MAX_POST_SHIFT,
    MAX_PRE_SHIFT,
    MULTIPLIER_BITS,
    SATURATED_BITS,
    shift_round,
)
from coprune_sim.graph import IntegerGraph, Layer, Source, Tensor

from .pixels import PIXEL_MAX, PIXEL_OFFSET
from .products import int8_products_are_exact

EXACT_SUMS = 1 << 24
"""Integers of a smaller magnitude, and their sums below it, are exact in float32."""
INT8 = range(-128, 128)


class Method(enum.Enum):
    """How a source's products are added up."""

    INT8 = "int8 products, int32 sums"
    FLOAT32 = "float32 convolution"
    IDENTITY = "float32, as the sums drain"


@dataclass(frozen=True)
class Term:
    """A source, what it reads, and how: one summand of a layer's sums."""

    source: Source
    tensor: Tensor
    method: Method

    @property
    def origin(self) -> int:
        """The stored pixel that counts as 0: with int8 products, that of the zero point."""
        return self.tensor.zero + PIXEL_OFFSET if self.method is Method.INT8 else 0

    @property
    def missing(self) -> np.ndarray:
        """What the sums lack because pixels count from the origin on, int64 [outputs]."""
        weights = self.source.weight.astype(np.int64).reshape(len(self.source.weight), -1)
        return (self.origin - PIXEL_OFFSET) * weights.sum(axis=1)


@dataclass(frozen=True)
class ExactSum:
    """A layer whose sums float32 holds exactly.

    Parameters
    ----------
    layer : Layer
    terms : tuple of Term
        The first one is no identity.
    bias : int64 array [outputs]
        Bias, half of ``2**pre_shift`` for the rounding, and what the terms lack.
    largest : int64 array [outputs]
        Largest magnitude of ``sum + bias``, and of every part of it.
    """

    layer: Layer
    terms: tuple[Term, ...]
    bias: np.ndarray
    largest: np.ndarray

    @property
    def saturates(self) -> bool:
        """A sum may leave the 18 bits of the multiplier's operand, and the output shows it.

        It does not where the last operands of 18 bits give clamped outputs: those beyond do too.
        """
        layer, reach = self.layer, 1 << (SATURATED_BITS - 1)
        lowest, highest = (
            layer.requantized_zero + shift_round(operand * layer.multiplier, layer.post_shift)
            for operand in (-reach, reach - 1)
        )
        shows = (lowest > layer.low) | (highest < layer.high)
        return bool((shows & (self.largest >> layer.pre_shift >= reach)).any())


def prove(layer: Layer, graph: IntegerGraph) -> ExactSum | None:
    """Prove that every sum of a layer, in any order, is exact in float32; None where it may not be.

    A layer that takes a maximum, or gives its sums raw, or reads dilated images, or whose
    requantization is wider than the hardware's, has no proof either.
    """
    if layer.maximum or layer.output.raw or not _fits_hardware(layer):
        return None
    if any(source.input_dilation > 1 for source in layer.sources):
        return None
    terms = _choose_terms(layer, graph)
    bias = layer.bias + (1 << layer.pre_shift >> 1) + sum(term.missing for term in terms)
    largest = np.abs(bias)
    largest = largest + sum(largest_sum(term.source.weight, origin=term.origin) for term in terms)
    return ExactSum(layer, terms, bias, largest) if largest.max() < EXACT_SUMS else None


def largest_sum(weight: np.ndarray, *, origin: int) -> np.ndarray:
    """Largest magnitude of a sum of ``weight * (pixel - origin)``, or of any part of it.

    Parameters
    ----------
    weight : integer array [outputs, ...]
    origin : int
        0..255, as the pixels.

    Returns
    -------
    int64 array [outputs]
    """
    flat = weight.astype(np.int64).reshape(len(weight), -1)
    positive, negative = flat.clip(min=0).sum(axis=1), -flat.clip(max=0).sum(axis=1)
    above, below = PIXEL_MAX - origin, origin
    return np.maximum(positive * above + negative * below, positive * below + negative * above)


def _fits_hardware(layer: Layer) -> bool:
    return all(
        values.min() >= 0 and values.max() <= largest
        for values, largest in (
            (layer.multiplier, (1 << MULTIPLIER_BITS) - 1),
            (layer.pre_shift, MAX_PRE_SHIFT),
            (layer.post_shift, MAX_POST_SHIFT),
        )
    )


def _choose_terms(layer: Layer, graph: IntegerGraph) -> tuple[Term, ...]:
    """Convolutions first: identities are added to their sums."""
    convolutions, identities = [], []
    for source in layer.sources:
        tensor = graph.tensor(source.tensor)
        if _is_identity(source, tensor, layer=layer):
            identities.append(Term(source, tensor, Method.IDENTITY))
        else:
            convolutions.append(Term(source, tensor, _convolution_method(source)))
    if not convolutions:
        first = identities.pop(0)
        convolutions = [replace(first, method=_convolution_method(first.source))]
    return (*convolutions, *identities)


def _is_identity(source: Source, tensor: Tensor, *, layer: Layer) -> bool:
    """Every output takes the pixel of the same place and channel, times a factor per channel."""
    return (
        tensor.shape == layer.output.shape
        and source.groups == tensor.channels
        and source.weight.shape[1:] == (1, 1, 1)
        and source.stride == 1
        and source.padding == (0, 0)
    )


def _convolution_method(source: Source) -> Method:
    int8 = source.weight.min() in INT8 and source.weight.max() in INT8
    return Method.INT8 if int8 and int8_products_are_exact() else Method.FLOAT32
