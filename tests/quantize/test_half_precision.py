"""A network in float16 against the same roundings written out."""

import pytest
import torch
import torch.nn.functional as F

from coprune.compiler.float_graph import evaluate
from coprune.quantize.half_precision import evaluate_half

from .networks import images, lowered, network


def half(values):
    return values.to(torch.float16).to(torch.float32)


def test_weights_biases_and_every_tensor_are_rounded():
    model = network(lambda m, x: m.b(F.relu(m.a(x))))
    values = dict(evaluate_half(lowered(model), images()))
    a, b = (
        {"weight": half(layer.weight), "bias": half(layer.bias)} for layer in (model.a, model.b)
    )
    with torch.no_grad():
        first = half(F.relu(F.conv2d(half(images()), **a, padding=1)))
        second = half(F.conv2d(first, **b, padding=1))
    # The bias is added at another place, and a float32 rounding can tip that to float16: 2**-10.
    torch.testing.assert_close(values["a"], first, rtol=2**-10, atol=2**-14)
    torch.testing.assert_close(values["b"], second, rtol=2**-10, atol=2**-10)
    for rounded in values.values():
        assert torch.equal(rounded, half(rounded))
    exact = dict(evaluate(lowered(model), images()))
    assert (values["b"] - exact["b"]).abs().max() > 1e-5


def test_value_beyond_float16_is_refused():
    model = network(lambda m, x: m.a(x))
    with pytest.raises(ValueError, match=r"a value of 'x' is 1e\+06, and float16 ends at 65504"):
        list(evaluate_half(lowered(model), torch.full((1, 3, 12, 12), 1e6)))
    model.a.bias.data[2] = -7e4
    with pytest.raises(ValueError, match="a bias of 'a' is 70000, and float16 ends at 65504"):
        list(evaluate_half(lowered(model), images()))
    model.a.bias.data[2] = 0.0
    model.a.weight.data[0] = 6e4
    with pytest.raises(ValueError, match="a value of 'a' is "):
        list(evaluate_half(lowered(model), images()))
