"""Networks with smooth activation functions and decoders, from PyTorch to the instructions."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coprune.compiler.lowering import transform
from coprune.quantize import quantize
from coprune_hw.contract import arithmetic
from coprune_sim import machine, reference

from .comparison import assert_layers_equal, make_case
from .configurations import SMALL

IMAGE = (3, 16, 16)


class InvertedResidual(nn.Module):
    """MobileNetV3's block without squeeze-and-excite (Howard et al., 2019)."""

    def __init__(self, inputs: int, expanded: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(inputs, expanded, 1)
        self.expand_norm = nn.BatchNorm2d(expanded, momentum=1.0)
        self.depthwise = nn.Conv2d(
            expanded, expanded, 5, stride=stride, padding=2, groups=expanded, bias=False
        )
        self.depthwise_norm = nn.BatchNorm2d(expanded, momentum=1.0)
        self.project = nn.Conv2d(expanded, outputs, 1)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.hardswish(self.expand_norm(self.expand(x)))
        y = F.hardswish(self.depthwise_norm(self.depthwise(y)))
        y = self.project(y)
        return x + y if self.adds else y


class MobileNet(nn.Module):
    """A stem, two blocks, and a classifier with hardswish between its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.narrow = InvertedResidual(8, 24, 8, stride=1)
        self.wide = InvertedResidual(8, 32, 16, stride=2)
        self.head = nn.Linear(16, 24)
        self.classes = nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.wide(self.narrow(F.hardswish(self.stem(x))))
        return self.classes(F.hardswish(self.head(x.mean((2, 3)))))


class UNet(nn.Module):
    """Two steps down and up again, SiLU, and what was there before beside what comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.top = nn.Conv2d(3, 8, 3, padding=1)
        self.down = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.bottom = nn.Conv2d(12, 16, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(16, 12, 4, stride=2, padding=1)
        self.middle = nn.Conv2d(24, 12, 3, padding=1)
        self.last_up = nn.ConvTranspose2d(12, 8, 2, stride=2)
        self.end = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        top = F.silu(self.top(x))
        down = F.silu(self.down(top))
        y = F.silu(self.up(F.silu(self.bottom(down))))
        y = F.silu(self.middle(torch.cat([y, down], 1)))
        y = F.silu(self.last_up(y))
        return torch.sigmoid(self.end(torch.cat([y, top], 1)))


class SuperResolution(nn.Module):
    """Sub-pixel convolution (Shi et al., 2016) beside the image, repeated."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 5, padding=2)
        self.second = nn.Conv2d(16, 12, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(torch.tanh(self.first(x)))
        return F.interpolate(x, scale_factor=2.0) + F.pixel_shuffle(y, 2)


def prepare(kind: type[nn.Module]) -> nn.Module:
    """The network with weights that keep the size of what passes through (He et al., 2015)."""
    torch.manual_seed(0)
    model = kind()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            # Of a transposed convolution of stride 2, a quarter of the taps meets a pixel.
            taps = 4 if isinstance(module, nn.ConvTranspose2d) else 1
            inputs = module.weight[0].numel()
            if taps > 1:
                inputs = len(module.weight) * module.weight[0, 0].numel()
            nn.init.normal_(module.weight, std=(2 * taps / inputs) ** 0.5)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
    # Batch norms know the statistics of such images.
    with torch.no_grad():
        model.train()(images(0))
    return model.eval()


def images(seed: int) -> torch.Tensor:
    """Noise of different contrast."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(32, *IMAGE, generator=generator)
    return noise * (0.5 + torch.rand(32, 1, 1, 1, generator=generator))


LEAST_DB = 22
"""Normally distributed values that are rounded to 255 steps over 6 deviations either way keep
10 log10(12 (255 / 12)**2) = 37 dB. A path through the networks has up to 10 such roundings, int8
weights add about as much error once more, and what averages pixels makes the signal smaller, but
not the errors that all pixels have in common: 10 log10(2 * 10) + 2 = 15 dB less."""


@pytest.mark.parametrize("kind", [MobileNet, UNet, SuperResolution])
def test_integer_network_follows_the_float_network(kind):
    model = prepare(kind)
    graph = quantize(model, [images(1)])
    batch = images(2)
    with torch.no_grad():
        expected = model(batch).double().numpy()
    pixels = arithmetic.quantize(batch, scale=graph.input.scale, zero=graph.input.zero)
    outputs = reference.run(graph, pixels.to(torch.int8)).reshape(expected.shape)
    output = graph.output
    values = arithmetic.dequantize(outputs.astype(float), scale=output.scale, zero=output.zero)
    # A constant that all images have in common is no signal.
    signal = expected - expected.mean(axis=0)
    ratio_db = 10 * np.log10((signal**2).mean() / ((values - expected) ** 2).mean())
    print(f"{kind.__name__}: {ratio_db:.1f} dB")
    assert ratio_db > LEAST_DB


@pytest.mark.parametrize("kind", [MobileNet, UNet, SuperResolution])
def test_instruction_simulator_computes_every_layer_as_the_reference(kind):
    case = make_case(transform(quantize(prepare(kind), [images(1)])), SMALL, seed=3)
    for eager in machine.PREFERENCES:
        run = machine.run(case.machine, case.pixels, eager=eager, seed=4)
        assert_layers_equal(run.layers, run.output, expected=case.expected)


@pytest.mark.parametrize(("kind", "layers"), [(MobileNet, 10), (UNet, 9), (SuperResolution, 5)])
def test_functions_take_no_layers_of_their_own(kind, layers):
    graph = quantize(prepare(kind), [images(1)])
    assert len(graph.layers) == layers
