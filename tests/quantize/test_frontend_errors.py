"""Networks with pieces that the accelerator has no counterpart for: the message of each."""

import inspect

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coprune.compiler.frontend import UnsupportedOperatorError, export, lower
from coprune.compiler.operators import LOWERINGS

IMAGE = (4, 12, 12)


class Head(nn.Module):
    def forward(self, x):
        return torch.softmax(x.mean((2, 3)), dim=1)


class SqueezeExcite(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return x * F.hardsigmoid(self.gate(x.mean((2, 3), keepdim=True)))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 2, 3, stride=3)

    def forward(self, x):
        return self.up(x)


class Attention(nn.Module):
    def forward(self, x):
        x = x.flatten(2).transpose(1, 2)
        return F.scaled_dot_product_attention(x, x, x)


class Classifier(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)).argmax(1)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(12, 5, batch_first=True)

    def forward(self, x):
        return self.lstm(x.flatten(1, 2))[0]


class Gated(nn.Module):
    def forward(self, x):
        return F.glu(x, dim=1)


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm([4, 12, 12])

    def forward(self, x):
        return self.norm(x)


class Ratio(nn.Module):
    def forward(self, x):
        return x / (1 + x.abs())


class Exponents(nn.Module):
    def __init__(self):
        super().__init__()
        self.exponents = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x):
        return torch.relu(x) ** self.exponents


class Shuffled(nn.Module):
    def forward(self, x):
        return F.pixel_shuffle(torch.cat([x, x, x[:, :1]], 1), 3)


class Normalized(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.GroupNorm(2, 4)

    def forward(self, x):
        return self.norm(x)


class Upsampled(nn.Module):
    def forward(self, x):
        return F.interpolate(x, scale_factor=2.0, mode="bilinear")


class Tripled(nn.Module):
    def forward(self, x):
        return F.interpolate(x, scale_factor=3.0)


class Anisotropic(nn.Module):
    def forward(self, x):
        x = F.pad(x, (30, 30, 30, 30))
        return F.max_pool2d(x, 2, stride=(3, 1))


class Mirrored(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")

    def forward(self, x):
        return self.conv(x)


class ChannelsLast(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(4, 4)

    def forward(self, x):
        return self.mix(x.permute(0, 2, 3, 1))


class Positional(nn.Module):
    def __init__(self):
        super().__init__()
        self.position = nn.Parameter(torch.ones(1, 4, 12, 12))

    def forward(self, x):
        return x + self.position


class Whole(nn.Module):
    """A network that has its unsupported piece in a module of its own."""

    def __init__(self, piece):
        super().__init__()
        self.stem = nn.Conv2d(4, 4, 1)
        self.piece = piece()

    def forward(self, x):
        return self.piece(self.stem(x))


NETWORKS = {
    Head: ("softmax", "torch.softmax(", "leave it out at the end of the network"),
    Classifier: ("argmax", ".argmax(1)", "compute it on the host"),
    Recurrent: ("lstm", "self.lstm(", "supported are conv2d"),
    Gated: ("glu", "F.glu(", "supported are conv2d"),
    Transformer: ("layer_norm", "self.norm(x)", "use batch_norm"),
    Ratio: ("div", "x / (1 + x.abs())", "it must divide by a number or a parameter"),
    Exponents: ("pow", "** self.exponents", "exponent must be one number, not of shape [4, 1, 1]"),
    Shuffled: ("pixel_shuffle", "F.pixel_shuffle(", "factor must be 2 or 4, not 3"),
    SqueezeExcite: ("mul", "x * F.hardsigmoid(", "no product of two activations"),
    Decoder: ("conv_transpose2d", "self.up(x)", "strides must be equal and 1, 2 or 4, not [3, 3]"),
    Upsampled: ("upsample_bilinear2d", "F.interpolate(", "use nearest upsampling by a power of 2"),
    Tripled: ("upsample_nearest2d", "F.interpolate(", "must become 2, 4, 8 or 16 times as many"),
    Attention: ("transpose", ".transpose(1, 2)", "axes must be channels, rows and columns"),
    Normalized: ("group_norm", "self.norm(x)", "use batch_norm"),
    Anisotropic: ("max_pool2d", "F.max_pool2d(", "strides must be equal powers of 2, not"),
    Mirrored: ("pad", "self.conv(x)", "pad with the constant 0"),
    ChannelsLast: ("permute", ".permute(0, 2, 3, 1)", "rows and columns must stay last"),
    Positional: ("add", "x + self.position", "one value for each channel"),
}
"""The operator that is refused, the code that calls it, and a part of the reason."""


@pytest.mark.parametrize("piece", NETWORKS, ids=lambda piece: piece.__name__)
def test_the_error_names_operator_node_module_line_and_reason(piece):
    operator, code, reason = NETWORKS[piece]
    with pytest.raises(UnsupportedOperatorError) as caught:
        lower(export(Whole(piece).eval(), image=IMAGE))
    error, message = caught.value, str(caught.value)
    lines, first = inspect.getsourcelines(piece.forward)
    line = first + next(index for index, text in enumerate(lines) if code in text)
    assert error.operator.split(".")[1] == operator
    assert error.module.startswith("piece")
    assert f"operator {error.operator} (node {error.node!r} of module {error.module!r}, " in message
    assert f"test_frontend_errors.py:{line}: {lines[line - first].strip()})" in message
    assert reason in message
    assert "\n" not in message
    assert set(error.supported) <= set(LOWERINGS)


def test_an_unknown_operator_is_refused_with_all_that_are_supported():
    with pytest.raises(UnsupportedOperatorError) as caught:
        lower(export(Whole(Gated).eval(), image=IMAGE))
    assert f"supported are {', '.join(caught.value.supported)}" in str(caught.value)


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.ones(2, 4, 3, 3))
        self.taps = nn.Parameter(torch.ones(4, 2, 3, 3))

    def forward(self, x):
        return self.function(self, x)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda m, x: F.pad(x, (1, 1), value=2.0), "pad with the constant 0"),
        (lambda m, x: x**x, "exponent must be a number, not another activation"),
        (lambda m, x: F.interpolate(x, size=(24, 12)), "must become 2, 4, 8 or 16 times"),
        (lambda m, x: F.interpolate(x, size=(18, 18)), "must become 2, 4, 8 or 16 times"),
        (lambda m, x: F.conv_transpose2d(x, m.taps, stride=(2, 4)), "strides must be equal"),
        (lambda m, x: F.pad(x, (-1, 1)), "pad, not crop"),
        (lambda m, x: x + x.mean((2, 3), keepdim=True), "must have the same shape"),
        (lambda m, x: x / x, "divide by a number or a parameter"),
        (lambda m, x: torch.div(x, 2, rounding_mode="floor"), "rounding_mode must be None"),
        (lambda m, x: torch.clamp(x, x, x + 1), "bounds must be numbers"),
        (lambda m, x: torch.maximum(x, m.weight[0, 0, 0, 0]), "both operands must be computed"),
        (lambda m, x: x * float("inf"), "must be finite"),
        (lambda m, x: x.mean(), "first axis must remain the batch"),
        (lambda m, x: x.mean(0, keepdim=True).expand(2, 4, 12, 12), "first axis must remain"),
        (lambda m, x: x.amax(1), "over rows or columns, not over channels"),
        (lambda m, x: torch.relu(x.reshape(-1, 4, 144)).mean(2), "axes must be channels, rows"),
        (lambda m, x: x.reshape(-1, 12, 12), "first axis must remain the batch"),
        (lambda m, x: F.adaptive_max_pool2d(x, 3, return_indices=True)[1], "result 1 does not"),
        (lambda m, x: F.adaptive_avg_pool2d(F.pad(x, [9] * 4), 19), "windows must be alike"),
        (lambda m, x: torch.cat([x.mean(2), x.mean(3)], dim=1), "images of the same size"),
        (lambda m, x: F.conv2d(x, x), "weight must be a parameter"),
        (lambda m, x: x.flip(2), "must flip channels"),
        (lambda m, x: F.pixel_unshuffle(x, 3), "factor must be 2 or 4, not 3"),
        (lambda m, x: F.linear(x, torch.ones(2, 12)), "its operand must be flat"),
        (lambda m, x: x.to(torch.float64), "must be float32, not float64"),
        (lambda m, x: x[:, :, [2, 1]], "it must select channels"),
        (lambda m, x: x + torch.randn(4, 1, 1), "must be computed from the input"),
    ],
)
def test_unsupported_use_is_refused_with_the_reason(function, reason):
    with pytest.raises((UnsupportedOperatorError), match=reason) as caught:
        lower(export(Function(function).eval(), image=IMAGE))
    assert "test_frontend_errors.py" in str(caught.value)


def test_overwriting_memory_that_another_view_reads_again_is_refused():
    def overwrite(m, x):
        y = torch.relu(x)
        a, b = y.view(-1, 2, 2, 12, 12), y.view(-1, 4, 12, 12)
        a.relu_()
        return b + 1

    with pytest.raises(UnsupportedOperatorError, match="overwrites a view"):
        lower(export(Function(overwrite).eval(), image=IMAGE))
