"""For every operator, a strategy of networks that use it."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from hypothesis import assume
from hypothesis import strategies as st
from torch import nn

from .networks import Image, images

Example = tuple[nn.Module, tuple[int, ...]]

MATRIX: dict[tuple[str, ...], st.SearchStrategy[Example]] = {}
"""Names of operators, as in `OPERATORS`, and networks that use one of them each."""

LARGER = st.integers(4, 9)
STRIDES = st.sampled_from((1, 1, 2, 2, 4))
NUMBERS = st.floats(-3, 3).filter(lambda number: abs(number) > 0.05)


def operators(*names: str) -> Callable:
    """Register a function that draws networks."""

    def register(function: Callable) -> Callable:
        MATRIX[names] = st.composite(function)()
        return function

    return register


def pair(draw: st.DrawFn, numbers: st.SearchStrategy[int], *, rank: int) -> tuple[int, ...]:
    return tuple(draw(numbers) for _ in range(rank - 1))


def draw_strides(draw: st.DrawFn, *, rank: int, odd: bool) -> tuple[int, ...]:
    """Equal strides; with `odd` sometimes others."""
    if odd and draw(st.integers(0, 3)) == 0:
        return pair(draw, st.sampled_from((1, 2, 3, 4, 8)), rank=rank)
    return (draw(STRIDES),) * (rank - 1)


@operators("conv2d")
def convolution(draw: st.DrawFn) -> Example:
    return draw_convolution(draw, draw(images()))


@operators("conv1d")
def convolution_of_a_row(draw: st.DrawFn) -> Example:
    return draw_convolution(draw, draw(images(ranks=(2,), sizes=st.integers(1, 20))))


def draw_convolution(draw: st.DrawFn, image: Image) -> Example:
    rank, inputs = len(image.shape), image.shape[0]
    kernel = pair(draw, st.integers(1, 4), rank=rank)
    stride = draw_strides(draw, rank=rank, odd=True)
    dilation = pair(draw, st.sampled_from((1, 1, 2)), rank=rank)
    padding = pair(draw, st.integers(0, 2), rank=rank)
    if set(stride) == {1} and draw(st.booleans()):
        padding = "same"
    groups = draw(st.sampled_from([1, inputs] if inputs > 1 else [1]))
    outputs = groups * draw(st.integers(1, 2)) if groups > 1 else draw(st.integers(1, 10))
    around = draw(st.sampled_from((None, None, (0, 1), (2, 1))))
    if rank == 3 and around:
        around += draw(st.sampled_from(((), (1, 0), (0, 2))))
    reaches = [step * (taps - 1) + 1 for step, taps in zip(dilation, kernel, strict=True)]
    zeros = [0] * (rank - 1) if padding == "same" else padding
    assume(
        padding == "same"
        or all(
            size + 2 * margin >= reach
            for size, margin, reach in zip(image.shape[1:], zeros, reaches, strict=True)
        )
    )
    layer = {2: nn.Conv1d, 3: nn.Conv2d}[rank](
        inputs,
        outputs,
        kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
    )
    return (
        image.network(
            lambda m, x: m.layer(F.pad(x, around) if around else x), layer=image.seeded(layer)
        ),
        image.shape,
    )


@operators("conv_transpose2d")
def transposed_convolution(draw: st.DrawFn) -> Example:
    return draw_transposed_convolution(draw, draw(images(sizes=st.integers(2, 6))))


@operators("conv_transpose1d")
def transposed_convolution_of_a_row(draw: st.DrawFn) -> Example:
    return draw_transposed_convolution(draw, draw(images(ranks=(2,))))


def draw_transposed_convolution(draw: st.DrawFn, image: Image) -> Example:
    rank, inputs = len(image.shape), image.shape[0]
    if draw(st.integers(0, 3)) == 0:
        image.shape = (inputs,) + (1,) * (rank - 1)
    is_pixel = image.shape[1:] == (1,) * (rank - 1)
    stride = draw(st.integers(1, 4) if is_pixel else st.sampled_from((1, 2, 2, 4)))
    kernel = pair(draw, st.integers(1, 4), rank=rank)
    dilation = pair(draw, st.sampled_from((1, 1, 2)), rank=rank)
    groups = draw(st.sampled_from((1, inputs)))
    classes = {2: nn.ConvTranspose1d, 3: nn.ConvTranspose2d}
    padding = tuple(draw(st.integers(0, (taps - 1) // 2)) for taps in kernel)
    further = tuple(draw(st.integers(0, max(stride, step) - 1)) for step in dilation)
    layer = classes[rank](
        inputs,
        groups * draw(st.integers(1, 3)),
        kernel,
        stride=stride,
        padding=padding,
        output_padding=further,
        groups=groups,
        dilation=dilation,
    )
    return image.network(lambda m, x: m.layer(x), layer=image.seeded(layer)), image.shape


@operators("linear")
def linear(draw: st.DrawFn) -> Example:
    image = draw(images(ranks=(1, 3), sizes=st.integers(1, 4)))
    layer = nn.Linear(int(torch.tensor(image.shape).prod()), draw(st.integers(1, 12)))
    return image.network(lambda m, x: m.layer(x.flatten(1)), layer=image.seeded(layer)), image.shape


@operators("matmul", "mm", "addmm")
def product(draw: st.DrawFn) -> Example:
    image = draw(images(ranks=(1,)))
    outputs = draw(st.integers(1, 10))
    weight, bias = image.random(image.shape[0], outputs), image.random(outputs)
    function = draw(
        st.sampled_from(
            (
                lambda m, x: x @ m.weight,
                lambda m, x: torch.mm(x, m.weight),
                lambda m, x: torch.addmm(m.bias, x, m.weight),
            )
        )
    )
    return image.network(function, weight=weight, bias=bias), image.shape


@operators("batch_norm")
def batch_norm(draw: st.DrawFn) -> Example:
    image = draw(images(ranks=(1, 2, 3), sizes=st.integers(1, 6)))
    rank = len(image.shape)
    layer = {1: nn.BatchNorm1d, 2: nn.BatchNorm1d, 3: nn.BatchNorm2d}[rank](
        image.shape[0], affine=draw(st.booleans())
    )
    return image.network(lambda m, x: m.layer(x), layer=image.seeded(layer)), image.shape


def activation(*names: str, functions: list[Callable]) -> None:
    """Register functions of one activation."""

    @operators(*names)
    def activate(draw: st.DrawFn) -> Example:
        image = draw(images(ranks=(1, 2, 3), sizes=st.integers(1, 6)))
        function = draw(st.sampled_from(functions))
        return image.network(lambda m, x: function(x)), image.shape


activation("relu", functions=[torch.relu, lambda x: F.relu(x + 0, inplace=True)])
activation("relu6", functions=[F.relu6, lambda x: F.relu6(x + 0, inplace=True)])
activation("hardtanh", functions=[F.hardtanh, lambda x: F.hardtanh(x, -0.3, 1.5)])
activation(
    "clamp",
    "clamp_min",
    "clamp_max",
    functions=[
        lambda x: x.clamp(-0.5, 0.7),
        lambda x: x.clamp(max=0.4),
        lambda x: torch.clamp_min(x, 0.1),
        lambda x: torch.clamp_max(x, 1.1),
    ],
)
activation("hardsigmoid", functions=[F.hardsigmoid, lambda x: F.hardsigmoid(x + 0, inplace=True)])
activation(
    "leaky_relu",
    functions=[F.leaky_relu, lambda x: F.leaky_relu(x, 0.3), lambda x: F.leaky_relu(x, 1.7)],
)
activation(
    *("sigmoid", "tanh", "silu", "hardswish", "gelu", "mish", "elu", "selu", "celu"),
    *("softplus", "log_sigmoid", "softshrink", "hardshrink", "threshold"),
    functions=[
        *(torch.sigmoid, lambda x: (x + 0).sigmoid_(), torch.tanh, lambda x: (x + 0).tanh_()),
        *(F.silu, lambda x: F.silu(x + 0, inplace=True)),
        *(F.hardswish, lambda x: F.hardswish(x + 0, inplace=True)),
        *(F.gelu, lambda x: F.gelu(x, approximate="tanh")),
        *(F.mish, lambda x: F.mish(x + 0, inplace=True)),
        *(F.elu, lambda x: F.elu(x, alpha=0.4), lambda x: F.elu(x + 0, inplace=True)),
        *(F.selu, lambda x: F.selu(x + 0, inplace=True)),
        *(lambda x: F.celu(x, alpha=0.6), lambda x: F.celu(x + 0, inplace=True)),
        *(F.softplus, lambda x: F.softplus(x, beta=3.0, threshold=4.0), F.logsigmoid),
        *(lambda x: F.softshrink(x, 0.3), lambda x: F.hardshrink(x, 0.7)),
        *(lambda x: F.threshold(x, 0.2, -0.5), lambda x: F.threshold(x + 0, 0.2, 1.0, True)),
    ],
)
activation(
    *("exp", "erf", "square", "sin", "cos", "atan"),
    functions=[
        # What exp gives must be a float32.
        *(lambda x: torch.exp(0.1 * x), lambda x: (-torch.relu(x)).exp_()),
        *(torch.erf, lambda x: (x + 0).erf_(), torch.square, lambda x: (x + 0).square_()),
        *(torch.sin, lambda x: (x + 0).sin_(), torch.cos, lambda x: (x + 0).cos_()),
        *(torch.atan, lambda x: (x + 0).atan_()),
    ],
)
activation(
    *("log", "log1p", "sqrt", "rsqrt", "reciprocal"),
    functions=[
        *(lambda x: torch.log(F.relu(x) + 0.5), lambda x: (F.relu(x) + 0.5).log_()),
        *(lambda x: torch.log1p(F.relu(x)), lambda x: F.relu(x).log1p_()),
        *(lambda x: torch.sqrt(F.relu(x)), lambda x: (F.relu(x) + 1).sqrt_()),
        *(lambda x: torch.rsqrt(x.clamp(0.1, 3)), lambda x: (F.relu(x) + 0.3).rsqrt_()),
        *(lambda x: torch.reciprocal(F.relu(x) + 0.7), lambda x: (F.relu(x) + 2).reciprocal_()),
        lambda x: torch.reciprocal(-F.relu(x) - 0.7),
    ],
)
activation(
    "pow",
    functions=[
        *(lambda x: x**2, lambda x: x**3, lambda x: (F.relu(x) + 0.4) ** -1.5),
        *(lambda x: F.relu(x) ** 0.7, lambda x: (x + 0).pow_(2), lambda x: 1.1**x),
    ],
)
activation("abs", functions=[torch.abs, lambda x: (x + 0).abs_()])
activation("neg", functions=[torch.neg, lambda x: -x])


@operators("prelu")
def prelu(draw: st.DrawFn) -> Example:
    image = draw(images(ranks=(1, 2, 3), sizes=st.integers(1, 6)))
    layer = nn.PReLU(draw(st.sampled_from((1, image.shape[0]))))
    return image.network(lambda m, x: m.layer(x), layer=image.seeded(layer)), image.shape


def arithmetic(*names: str, function: Callable, constants: bool, tensors: bool) -> None:
    """Register an operator of two operands, of which one may be constant."""

    @operators(*names)
    def combine(draw: st.DrawFn) -> Example:
        image = draw(images(sizes=st.integers(1, 6)))
        channels = image.shape[0]
        kinds = ["number", "channels", "one"] * constants + tensors * ["branch", "self", "cropped"]
        kind = draw(st.sampled_from(kinds))
        members = {}
        if kind == "number":
            other = draw(NUMBERS)
        elif kind in ("channels", "one"):
            shape = (channels, 1, 1) if kind == "channels" else (1, 1, 1)
            members["constant"] = image.random(*shape).abs() + 0.2
        elif kind in ("branch", "cropped"):
            kernel = draw(st.sampled_from((1, 3)))
            branch = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
            members["branch"] = image.seeded(branch)
        reverse = draw(st.booleans())
        window = draw(st.sampled_from((1, 3)))
        members["main"] = image.seeded(nn.Conv2d(channels, channels, window, padding=window // 2))
        joined = draw(st.booleans())

        def compute(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
            a = m.main(x) if joined else x
            if kind == "number":
                b = other
            elif kind in ("channels", "one"):
                b = m.constant
            elif kind == "branch":
                # Two convolutions whose zeros around differ.
                b = m.branch(torch.relu(x))
            elif kind == "cropped":
                # Two images of different size.
                a, b = torch.relu(a[:, :, 1:]), m.branch(x)[:, :, :-1]
            else:
                b = x
            return function(b, a) if reverse else function(a, b)

        assume(kind != "cropped" or image.shape[1] > 1)
        assume(not (reverse and kind == "number" and names == ("div",)))
        return image.network(compute, **members), image.shape


arithmetic("add", function=lambda a, b: a + b, constants=True, tensors=True)
arithmetic("sub", function=lambda a, b: a - b, constants=True, tensors=True)
arithmetic("mul", function=lambda a, b: a * b, constants=True, tensors=False)
arithmetic("maximum", function=torch.maximum, constants=False, tensors=True)
arithmetic("minimum", function=torch.minimum, constants=False, tensors=True)


@st.composite
def products_of_functions(draw: st.DrawFn) -> Example:
    image = draw(images(ranks=(1, 2, 3), sizes=st.integers(1, 6)))
    function = draw(
        st.sampled_from(
            (
                lambda x: x * torch.sigmoid(x),
                lambda x: torch.tanh(F.softplus(x)) * x,
                lambda x: x * torch.sigmoid(1.7 * x),
                lambda x: x * F.relu6(x + 3) / 6,
                lambda x: (F.relu6(x + 3) / 6) * x,
                lambda x: x * F.hardsigmoid(x),
                lambda x: 0.5 * x * (1 + torch.erf(x * 0.5**0.5)),
                lambda x: torch.sigmoid(x) * torch.tanh(x),
                lambda x: x * x,
                lambda x: x * (0.5 * x - 1),
                lambda x: (x + 0).mul_(torch.sigmoid(x + 0)),
                # The product's argument is read again.
                lambda x: x + x * torch.sigmoid(x),
                lambda x: x[:, :1] * torch.sigmoid(x[:, :1]),
            )
        )
    )
    return image.network(lambda m, x: function(x)), image.shape


MATRIX["mul",] |= products_of_functions()


@operators("rsub")
def reverse_subtract(draw: st.DrawFn) -> Example:
    image = draw(images(ranks=(1, 2, 3), sizes=st.integers(1, 6)))
    number, alpha = draw(NUMBERS), draw(st.sampled_from((1, 2)))
    return image.network(lambda m, x: torch.rsub(x, number, alpha=alpha)), image.shape


@operators("div")
def divide(draw: st.DrawFn) -> Example:
    image = draw(images(sizes=st.integers(1, 6)))
    number = draw(NUMBERS)
    constant = image.random(image.shape[0], 1, 1).abs() + 0.2
    function = draw(st.sampled_from((lambda m, x: x / number, lambda m, x: x / m.constant)))
    return image.network(function, constant=constant), image.shape


@operators("max_pool2d")
def max_pool(draw: st.DrawFn) -> Example:
    return draw_max_pool(draw, draw(images(sizes=LARGER)))


@operators("max_pool1d")
def max_pool_of_a_row(draw: st.DrawFn) -> Example:
    return draw_max_pool(draw, draw(images(ranks=(2,), sizes=st.integers(4, 20))))


def draw_max_pool(draw: st.DrawFn, image: Image) -> Example:
    rank = len(image.shape)
    kernel = pair(draw, st.integers(1, 4), rank=rank)
    layer = {2: nn.MaxPool1d, 3: nn.MaxPool2d}[rank](
        kernel,
        stride=draw_strides(draw, rank=rank, odd=True),
        padding=tuple(draw(st.integers(0, taps // 2)) for taps in kernel),
        ceil_mode=draw(st.booleans()),
    )
    return image.network(lambda m, x: m.layer(x), layer=layer), image.shape


@operators("avg_pool2d")
def average_pool(draw: st.DrawFn) -> Example:
    return draw_average_pool(draw, draw(images(sizes=LARGER)))


@operators("avg_pool1d")
def average_pool_of_a_row(draw: st.DrawFn) -> Example:
    return draw_average_pool(draw, draw(images(ranks=(2,), sizes=st.integers(4, 20))))


def draw_average_pool(draw: st.DrawFn, image: Image) -> Example:
    rank = len(image.shape)
    kernel = pair(draw, st.integers(1, 4), rank=rank)
    options = {
        "stride": draw_strides(draw, rank=rank, odd=False),
        "padding": tuple(draw(st.integers(0, taps // 2)) for taps in kernel),
        "ceil_mode": draw(st.booleans()),
        "count_include_pad": draw(st.booleans()),
    }
    if rank == 3:
        options["divisor_override"] = draw(st.sampled_from((None, None, 3)))
    layer = {2: nn.AvgPool1d, 3: nn.AvgPool2d}[rank](kernel, **options)
    return image.network(lambda m, x: m.layer(x), layer=layer), image.shape


def adaptive(*names: str, rank: int, function: Callable) -> None:
    """Register adaptive pooling."""

    @operators(*names)
    def reduce(draw: st.DrawFn) -> Example:
        image = draw(images(ranks=(rank,), sizes=st.integers(1, 7)))
        size = tuple(draw(st.integers(1, min(extent, 4))) for extent in image.shape[1:])
        return image.network(lambda m, x: function(x, size)), image.shape


adaptive("adaptive_avg_pool2d", rank=3, function=F.adaptive_avg_pool2d)
adaptive("adaptive_avg_pool1d", rank=2, function=F.adaptive_avg_pool1d)
adaptive("adaptive_max_pool2d", rank=3, function=F.adaptive_max_pool2d)
adaptive("adaptive_max_pool1d", rank=2, function=F.adaptive_max_pool1d)


def reduction(*names: str, function: Callable, dims: tuple) -> None:
    """Register a reduction of axes."""

    @operators(*names)
    def reduce(draw: st.DrawFn) -> Example:
        image = draw(images(sizes=st.integers(1, 7)))
        dim, keep = draw(st.sampled_from(dims)), draw(st.booleans())
        return image.network(lambda m, x: function(x, dim, keepdim=keep)), image.shape


reduction("mean", function=torch.mean, dims=((2, 3), (-1, -2), 2, 3, -1, 1, (1, 2, 3)))
reduction("sum", function=torch.sum, dims=((2, 3), 2, 3, 1))
reduction("amax", function=torch.amax, dims=((2, 3), 2, -1))


@operators("flatten", "view", "reshape", "squeeze", "unsqueeze", "unflatten")
def reshape(draw: st.DrawFn) -> Example:
    image = draw(images(sizes=st.integers(1, 4)))
    channels, height, width = image.shape
    flat = channels * height * width

    def rejoin(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(1, (channels, 1)).reshape(-1, channels, height, width)

    function = draw(
        st.sampled_from(
            (
                lambda m, x: torch.relu(x.flatten(1)) + 1.0,
                lambda m, x: x.view(x.size(0), -1) * m.scale,
                lambda m, x: x.reshape(-1, channels, height * width).reshape(-1, flat),
                lambda m, x: x.amax((2, 3), keepdim=True).squeeze(-1).squeeze(2),
                lambda m, x: x.mean(2).unsqueeze(2),
                rejoin,
            )
        )
    )
    assume(flat <= 64)
    return image.network(function, scale=image.random(flat)), image.shape


@operators("permute", "transpose")
def permute(draw: st.DrawFn) -> Example:
    groups, each = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    image = draw(images(channels=st.just(groups * each), sizes=st.integers(1, 5)))
    _, height, width = image.shape
    shuffle = draw(
        st.sampled_from(
            (
                lambda y: y.transpose(1, 2),
                lambda y: y.permute(0, 2, 1, 3, 4),
                lambda y: y.permute(0, 1, 2, 3, 4),
            )
        )
    )

    def compute(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = shuffle(x.view(-1, groups, each, height, width))
        return y.reshape(-1, groups * each, height, width)

    return image.network(compute), image.shape


@operators("slice", "narrow")
def take_slice(draw: st.DrawFn) -> Example:
    image = draw(images(channels=LARGER, sizes=LARGER))
    channels = slice(draw(st.integers(0, 2)), None, draw(st.integers(1, 2)))
    step = draw(st.sampled_from((1, 1, 2, 4)))
    steps = draw(st.sampled_from(((step, step), (step, step), (1, 2), (3, 1))))
    rows, columns = (slice(draw(st.integers(0, 2)), draw(LARGER), step) for step in steps)
    function = draw(
        st.sampled_from(
            (
                lambda m, x: x[:, channels, rows, columns],
                lambda m, x: x[:, channels],
                lambda m, x: x[:, :, rows, columns],
                lambda m, x: x.narrow(1, 1, 3).narrow(2, 2, 2),
            )
        )
    )
    return image.network(function), image.shape


@operators("select")
def select(draw: st.DrawFn) -> Example:
    image = draw(images(ranks=(2, 3)))
    dim = draw(st.integers(1, len(image.shape)))
    index = draw(st.integers(-image.shape[dim - 1], image.shape[dim - 1] - 1))
    return image.network(lambda m, x: x.select(dim, index)), image.shape


@operators("chunk", "split", "split_with_sizes")
def split(draw: st.DrawFn) -> Example:
    image = draw(images(channels=st.just(6), sizes=st.just(4)))
    dim = draw(st.integers(1, 3))
    function = draw(
        st.sampled_from(
            (
                lambda m, x: torch.add(*x.chunk(2, dim)),
                lambda m, x: x.split(3, dim)[1],
                lambda m, x: torch.relu(x.split([1, 2, x.shape[dim] - 3], dim)[1]),
                lambda m, x: torch.cat(x.chunk(2, dim)[::-1], dim),
            )
        )
    )
    return image.network(function), image.shape


@operators("index_select", "index")
def index_select(draw: st.DrawFn) -> Example:
    image = draw(images())
    places = draw(st.lists(st.integers(0, image.shape[0] - 1), min_size=1, max_size=12))
    function = draw(
        st.sampled_from(
            (
                lambda m, x: x[:, places],
                lambda m, x: torch.index_select(x, 1, m.index),
                lambda m, x: x[:, m.index],
            )
        )
    )
    return image.network(function, index=torch.tensor(places)), image.shape


@operators("flip")
def flip(draw: st.DrawFn) -> Example:
    image = draw(images())
    return image.network(lambda m, x: x.flip(1)), image.shape


@operators("pad", "constant_pad_nd")
def pad(draw: st.DrawFn) -> Example:
    image = draw(images(ranks=(2, 3), sizes=st.integers(1, 5)))
    amounts = st.sampled_from((0, 1, 2, 3, 10))
    sides = 2 * draw(st.integers(1, len(image.shape)))
    padding = [draw(amounts) for _ in range(sides)]
    function = draw(st.sampled_from((F.pad, torch.constant_pad_nd)))
    return image.network(lambda m, x: function(x, padding)), image.shape


@operators("cat", "concat")
def concatenate(draw: st.DrawFn) -> Example:
    image = draw(images(sizes=st.integers(1, 5)))
    channels = image.shape[0]
    dim = draw(st.integers(1, 3))
    branch = nn.Conv2d(channels, channels, 1)
    function = draw(st.sampled_from((torch.cat, torch.concat)))
    return (
        image.network(
            lambda m, x: function([x, m.branch(x), torch.relu(x)], dim=dim),
            branch=image.seeded(branch),
        ),
        image.shape,
    )


@operators("upsample_nearest2d", "upsample_nearest1d")
def upsample(draw: st.DrawFn) -> Example:
    rank = draw(st.sampled_from((2, 3)))
    factor = draw(st.sampled_from((2, 2, 4, 8) if rank == 3 else (2, 4, 16)))
    image = draw(images(ranks=(rank,), sizes=st.integers(1, 16 // factor)))
    function = draw(
        st.sampled_from(
            (
                lambda x: F.interpolate(x, scale_factor=factor),
                lambda x: F.interpolate(x, size=[factor * size for size in x.shape[2:]]),
                lambda x: torch.relu(nn.Upsample(scale_factor=factor)(x)),
            )
        )
    )
    return image.network(lambda m, x: function(x)), image.shape


@operators("pixel_shuffle")
def depth_to_space(draw: st.DrawFn) -> Example:
    factor = draw(st.sampled_from((2, 2, 4)))
    channels = st.integers(1, 3).map(lambda outputs: outputs * factor**2)
    image = draw(images(channels=channels, sizes=st.integers(1, 12 // factor)))
    order = torch.randperm(image.shape[0], generator=image.generator).tolist()
    function = draw(
        st.sampled_from(
            (
                lambda x: F.pixel_shuffle(x, factor),
                lambda x: F.pixel_shuffle(x[:, order], factor),
                lambda x: F.pixel_shuffle(F.pad(x, (0, 1, 2, 0)), factor),
            )
        )
    )
    return image.network(lambda m, x: function(x)), image.shape


@operators("pixel_unshuffle")
def space_to_depth(draw: st.DrawFn) -> Example:
    factor = draw(st.sampled_from((2, 4)))
    sizes = st.integers(1, 8 // factor).map(lambda size: size * factor)
    image = draw(images(channels=st.integers(1, 4), sizes=sizes))
    return image.network(lambda m, x: F.pixel_unshuffle(x, factor)), image.shape


@operators("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
def dropout(draw: st.DrawFn) -> Example:
    image = draw(images())
    kinds = (nn.Dropout, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout)
    layer = draw(st.sampled_from(kinds))(0.5)
    return image.network(lambda m, x: torch.relu(m.layer(x)), layer=layer), image.shape


@operators("contiguous", "to", "detach", "alias", "clone")
def unchanged(draw: st.DrawFn) -> Example:
    image = draw(images())
    function = draw(
        st.sampled_from(
            (
                lambda x: x.contiguous(),
                lambda x: x.to(torch.float32),
                lambda x: x.detach(),
                torch.ops.aten.alias.default,
                lambda x: x.clone(),
            )
        )
    )
    return image.network(lambda m, x: torch.relu(function(x))), image.shape
