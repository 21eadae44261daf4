"""Small integer graphs with random weights."""

from collections.abc import Callable

import numpy as np

from coprune_hw.contract.parameters import IDENTITY
from coprune_sim.graph import IntegerGraph, Layer, Source, Tensor

PIXEL_DEVIATION = 74
"""Standard deviation of uniform int8 values."""


class GraphBuilder:
    """Adds layers with random weights and parameters; `add` returns the new tensor's name."""

    def __init__(self, channels: int, size: tuple[int, int], *, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.tensors = {"input": Tensor("input", channels, *size, scale=0.1, zero=-7)}
        self.layers: list[Layer] = []

    def weight(self, *shape: int, density: float = 1.0, reach: int = 127) -> np.ndarray:
        """Uniform values, a part of which is 0."""
        values = self.rng.integers(-reach, reach + 1, shape)
        return np.where(self.rng.random(shape) < density, values, 0).astype(np.int16)

    def conv(
        self, tensor: str, channels: int, kernel: int = 3, *, groups: int = 1, density=1.0, **more
    ) -> Source:
        """A 'same'-padded convolution."""
        inputs = self.tensors[tensor].channels // groups
        weight = self.weight(channels, inputs, kernel, kernel, density=density)
        padding = (kernel // 2, kernel // 2)
        return Source(tensor, weight, **({"padding": padding, "groups": groups} | more))

    def depthwise(self, tensor: str, kernel: int = 3, *, stride: int = 1) -> Source:
        """A 'same'-padded depthwise convolution with weights of 12 bits."""
        channels = self.tensors[tensor].channels
        weight = self.weight(channels, 1, kernel, kernel, reach=2047)
        padding = (kernel // 2, kernel // 2)
        return Source(tensor, weight, groups=channels, stride=stride, padding=padding)

    def shortcut(self, tensor: str) -> Source:
        """An identity with a factor of 12 bits per channel."""
        return self.depthwise(tensor, 1)

    def selection(self, tensor: str, channels: int, *, first: int, stride: int = 1) -> Source:
        """All channels of a tensor as channels `first` and on, with factors of 12 bits."""
        copied = np.arange(self.tensors[tensor].channels)
        weight = np.zeros((channels, len(copied), 1, 1), np.int16)
        weight[first + copied, copied] = self.weight(len(copied), 1, 1, reach=2047)
        return Source(tensor, weight, stride=stride)

    def window(self, tensor: str, shape: tuple[int, int], *, weight: int = 1, **more) -> Source:
        """Every channel alone under a window of equal weights, as pooling layers have it."""
        channels = self.tensors[tensor].channels
        return Source(
            tensor, np.full((channels, 1, *shape), weight, np.int16), groups=channels, **more
        )

    def transposed(self, tensor: str, channels: int, kernel: int = 4, **more) -> Source:
        """A convolution over an image of twice the rows and columns, with zeros in between."""
        return self.conv(tensor, channels, kernel, input_dilation=2, **more)

    def add(
        self, *sources: Source, maximum: bool = False, size=None, tabulated: bool = False
    ) -> str:
        """A layer whose outputs spread over int8; its size is that of a 'same' convolution.

        Where it is `tabulated`, random numbers stand for them.
        """
        first = self.tensors[sources[0].tensor]
        channels = len(sources[0].weight)
        if size is None:
            size = [
                -(-extent * sources[0].input_dilation // sources[0].stride)
                for extent in first.shape[1:]
            ]
        name = f"layer{len(self.layers)}"
        zero = int(self.rng.integers(-60, 60))
        self.tensors[name] = Tensor(name, channels, *size, scale=0.1, zero=zero)
        squares = [
            np.square(source.weight.astype(float)).reshape(channels, -1).sum(axis=1)
            for source in sources
        ]
        deviation = PIXEL_DEVIATION * np.sqrt(np.maximum(sum(squares), 1))
        multiplier = self.rng.integers(1 << 16, 1 << 17, channels)
        shift = np.round(np.log2(deviation * multiplier / PIXEL_DEVIATION)).astype(np.int64)
        pre_shift = np.maximum(shift - 24, 0) + self.rng.integers(0, 4, channels)
        self.layers.append(
            Layer(
                name=name,
                operation="maximum" if maximum else "conv2d",
                output=self.tensors[name],
                sources=sources,
                bias=self.rng.integers(-deviation.astype(np.int64), deviation.astype(np.int64)),
                multiplier=multiplier,
                pre_shift=pre_shift,
                post_shift=shift - pre_shift,
                low=-100,
                high=120,
                maximum=maximum,
                table=self.rng.integers(-128, 128, 256).astype(np.int8) if tabulated else None,
                table_zero=int(self.rng.integers(-60, 60)) if tabulated else 0,
            )
        )
        return name

    def add_raw(self, *sources: Source) -> str:
        """A layer whose outputs are the sums themselves, as large as a 'same' convolution's."""
        channels, first = len(sources[0].weight), self.tensors[sources[0].tensor]
        name = f"layer{len(self.layers)}"
        size = [-(-extent // sources[0].stride) for extent in first.shape[1:]]
        self.tensors[name] = Tensor(name, channels, *size, scale=0.01, zero=0, raw=True)
        self.layers.append(
            Layer(
                name=name,
                operation="linear",
                output=self.tensors[name],
                sources=sources,
                low=-128,
                high=127,
                **{field: np.full(channels, value) for field, value in IDENTITY.items()},
            )
        )
        return name

    def graph(self) -> IntegerGraph:
        """The layers so far; the last one is the output."""
        return IntegerGraph(self.tensors["input"], tuple(self.layers))


def residual_graph(*, size: int = 16, density: float = 1.0) -> IntegerGraph:
    """A small ResNet: three stages, option-A shortcuts, global pooling, a linear layer."""
    builder = GraphBuilder(3, (size, size), seed=1)
    x = builder.add(builder.conv("input", 16))
    for channels in (16, 32, 64):
        stride = 2 if channels > 16 else 1
        y = builder.add(builder.conv(x, channels, stride=stride, density=density))
        if stride == 1:
            short = builder.shortcut(x)
        else:
            short = builder.selection(x, channels, first=channels // 4, stride=2)
        x = builder.add(builder.conv(y, channels, density=density), short)
    last = builder.tensors[x]
    pool = builder.window(x, (last.height, last.width), weight=5, stride=last.height)
    x = builder.add(pool, size=(1, 1))
    builder.add(builder.conv(x, 10, 1))
    return builder.graph()


def odd_graph() -> IntegerGraph:
    """Odd sizes under phase split, grouped convolutions, dilation and max pooling."""
    builder = GraphBuilder(21, (13, 11), seed=2)
    x = builder.add(builder.conv("input", 42, groups=3, stride=2))
    x = builder.add(builder.window(x, (3, 3), padding=(1, 1)), maximum=True)
    x = builder.add(builder.conv(x, 42, 5, groups=42, stride=4))
    builder.add(builder.conv(x, 7, dilation=(2, 2), padding=(2, 2), density=0.3))
    return builder.graph()


def strided_graph() -> IntegerGraph:
    """A tensor that is read with strides 1 and 2, and the input read by several layers."""
    builder = GraphBuilder(3, (16, 16), seed=3)
    a = builder.add(builder.conv("input", 20))
    b = builder.add(builder.conv(a, 20), builder.shortcut(a))
    c = builder.add(
        builder.conv(b, 24, stride=2), Source(a, builder.weight(24, 20, 1, 1), stride=2)
    )
    builder.add(builder.conv(c, 24), Source("input", builder.weight(24, 3, 1, 1), stride=2))
    return builder.graph()


def pooling_graph() -> IntegerGraph:
    """A global pooling window that is larger than a slot's shifts."""
    builder = GraphBuilder(8, (25, 10), seed=4)
    x = builder.add(builder.conv("input", 16))
    x = builder.add(builder.window(x, (25, 10)), size=(1, 1))
    builder.add(builder.conv(x, 40, 1))
    return builder.graph()


def raw_graph() -> IntegerGraph:
    """Sums as outputs: several channel tiles, an odd image, tiles of few and of many slots."""
    builder = GraphBuilder(5, (7, 9), seed=6)
    x = builder.add(builder.conv("input", 24, density=0.5))
    builder.add_raw(builder.conv(x, 43, 1, density=0.6), builder.conv("input", 43, 3, density=0.1))
    return builder.graph()


def random_graph(*, seed: int) -> IntegerGraph:
    """Every kind of layer once, in random order, with random sizes, strides and channels."""
    rng = np.random.default_rng(seed)
    height, width = (int(extent) for extent in rng.integers(7, 13, 2))
    builder = GraphBuilder(int(rng.integers(1, 20)), (height, width), seed=seed)
    x = builder.add(builder.conv("input", draw_channels(rng), int(rng.choice([1, 3, 5]))))
    for kind in rng.permutation(list(KINDS)):
        x = KINDS[kind](builder, x)
    last = builder.tensors[x]
    x = builder.add(builder.window(x, (last.height, last.width), weight=3), size=(1, 1))
    builder.add(builder.conv(x, int(rng.integers(2, 30)), 1))
    return builder.graph()


def upsampling_graph() -> IntegerGraph:
    """Transposed convolutions of stride 2 that meet, with kernels that have every phase or not."""
    builder = GraphBuilder(3, (5, 7), seed=9)
    narrow = builder.add(builder.conv("input", 12, stride=2))
    wide = builder.add(builder.transposed(narrow, 18, 3, density=0.4), size=(5, 7))
    nearest = builder.window(narrow, (2, 2), weight=5, padding=(1, 1), input_dilation=2)
    copied = builder.add(nearest, size=(5, 7))
    x = builder.add(builder.conv(wide, 12, density=0.3), builder.shortcut(copied))
    far = builder.transposed(x, 10, 3, dilation=(3, 2), padding=(3, 1))
    x = builder.add(far, builder.transposed(x, 10, 1, padding=(0, 0)), size=(10, 13))
    builder.add(builder.transposed(x, 5, 5, groups=5, padding=(1, 3)), size=(9, 4))
    return builder.graph()


def tabulated_graph() -> IntegerGraph:
    """More activation functions than tables fit, one of them over several tiles and phases."""
    builder = GraphBuilder(3, (9, 8), seed=10)
    x = builder.add(builder.conv("input", 20, stride=2), tabulated=True)
    y = builder.add(builder.conv(x, 20, density=0.3), tabulated=True)
    x = builder.add(builder.conv(y, 20, 1), builder.shortcut(x))
    x = builder.add(builder.transposed(x, 12, 3), tabulated=True)
    x = builder.add(builder.depthwise(x), tabulated=True)
    builder.add(builder.conv(x, 10, 1), tabulated=True)
    return builder.graph()


def single_layer_graph(*, seed: int) -> IntegerGraph:
    """One convolution with random size, channels, groups, kernel, stride, dilation and density."""
    rng = np.random.default_rng(seed)
    while True:
        size = tuple(int(extent) for extent in rng.integers(1, 20, 2))
        groups, stride = int(rng.choice([1, 1, 1, 2, 3])), int(rng.choice([1, 1, 2, 4]))
        inputs = groups * int(rng.integers(1, 40 // groups + 1))
        outputs = groups * int(rng.integers(1, 60 // groups + 1))
        kernel = tuple(int(extent) for extent in rng.integers(1, 6, 2))
        dilation = tuple(int(factor) for factor in rng.integers(1, 4, 2))
        reach = [factor * (taps - 1) for factor, taps in zip(dilation, kernel, strict=True)]
        padding = tuple(int(rng.integers(0, extent // 2 + 1)) for extent in reach)
        output = [
            (extent + 2 * pad - further - 1) // stride + 1
            for extent, pad, further in zip(size, padding, reach, strict=True)
        ]
        # Taps further away than a slot's shifts reach are another test's.
        if min(output) >= 1 and max(reach) <= 8:
            break
    builder = GraphBuilder(inputs, size, seed=seed)
    density = float(rng.uniform(0.02, 1))
    weight = builder.weight(outputs, inputs // groups, *kernel, density=density)
    source = Source(
        "input", weight, groups=groups, stride=stride, padding=padding, dilation=dilation
    )
    builder.add(source, size=output)
    return builder.graph()


def draw_channels(rng: np.random.Generator) -> int:
    """A number of channels that groups divide and lanes need not."""
    return 6 * int(rng.integers(1, 6))


def draw_stride(builder: GraphBuilder, tensor: str) -> int:
    """A stride that leaves several pixels."""
    smallest = min(builder.tensors[tensor].shape[1:])
    return int(builder.rng.choice([1, *(stride for stride in (1, 2, 4) if 2 * stride <= smallest)]))


def add_sparse(builder: GraphBuilder, x: str) -> str:
    """A pruned convolution with a stride."""
    channels, stride = draw_channels(builder.rng), draw_stride(builder, x)
    kernel, density = int(builder.rng.choice([1, 3, 5])), builder.rng.uniform(0.05, 0.4)
    return builder.add(builder.conv(x, channels, kernel, stride=stride, density=density))


def add_dilated(builder: GraphBuilder, x: str) -> str:
    """A convolution that is dilated by different factors in both directions."""
    dilation = tuple(int(factor) for factor in builder.rng.permutation([1, 2, 3])[:2])
    channels = draw_channels(builder.rng)
    return builder.add(builder.conv(x, channels, dilation=dilation, padding=dilation, density=0.5))


def add_grouped(builder: GraphBuilder, x: str) -> str:
    """A grouped convolution with a stride."""
    groups, stride = int(builder.rng.choice([2, 3])), draw_stride(builder, x)
    channels = draw_channels(builder.rng)
    return builder.add(builder.conv(x, channels, groups=groups, stride=stride))


def add_depthwise(builder: GraphBuilder, x: str) -> str:
    """A depthwise convolution with weights of 12 bits and a stride."""
    return builder.add(builder.depthwise(x, stride=draw_stride(builder, x)))


def add_residual(builder: GraphBuilder, x: str) -> str:
    """A residual block with an identity shortcut."""
    channels = builder.tensors[x].channels
    y = builder.add(builder.conv(x, channels, density=0.25))
    return builder.add(builder.conv(y, channels, density=0.25), builder.shortcut(x))


def add_unaligned_residual(builder: GraphBuilder, x: str) -> str:
    """A strided residual block whose shortcut moves channels across lanes."""
    channels, stride = builder.tensors[x].channels, draw_stride(builder, x)
    first = int(builder.rng.integers(1, 8))
    wider = channels + 6 * int(builder.rng.integers(2, 4))
    y = builder.add(builder.conv(x, wider, stride=stride, density=0.25))
    short = builder.selection(x, wider, first=first, stride=stride)
    return builder.add(builder.conv(y, wider, density=0.25), short)


def add_projection(builder: GraphBuilder, x: str) -> str:
    """Two convolutions of one tensor in one sum."""
    channels, stride = draw_channels(builder.rng), draw_stride(builder, x)
    main = builder.conv(x, channels, stride=stride, density=0.25)
    return builder.add(main, builder.conv(x, channels, 1, stride=stride))


def add_max_pooling(builder: GraphBuilder, x: str) -> str:
    """Overlapping windows beyond the edge, with a stride."""
    pool = builder.window(x, (3, 3), padding=(1, 1), stride=draw_stride(builder, x))
    return builder.add(pool, maximum=True)


def add_average_pooling(builder: GraphBuilder, x: str) -> str:
    """Windows without padding."""
    height, width = builder.tensors[x].shape[1:]
    rows, columns = min(height, 2), min(width, 3)
    window = builder.window(x, (rows, columns), weight=9)
    return builder.add(window, size=(height - rows + 1, width - columns + 1))


def add_transposed(builder: GraphBuilder, x: str) -> str:
    """A transposed convolution of stride 2, cropped where its image would be large."""
    size = [min(2 * extent, 12) for extent in builder.tensors[x].shape[1:]]
    kernel = int(builder.rng.choice([2, 3, 4]))
    source = builder.transposed(x, draw_channels(builder.rng), kernel, density=0.4)
    return builder.add(source, size=size)


def add_tabulated(builder: GraphBuilder, x: str) -> str:
    """A pointwise convolution with an activation function that takes a table."""
    source = builder.conv(x, draw_channels(builder.rng), 1, density=0.5)
    return builder.add(source, tabulated=True)


KINDS: dict[str, Callable[[GraphBuilder, str], str]] = {
    "sparse": add_sparse,
    "dilated": add_dilated,
    "grouped": add_grouped,
    "depthwise": add_depthwise,
    "residual": add_residual,
    "unaligned residual": add_unaligned_residual,
    "projection": add_projection,
    "max pooling": add_max_pooling,
    "average pooling": add_average_pooling,
    "transposed": add_transposed,
    "tabulated": add_tabulated,
}

GRAPHS: dict[str, Callable[[], IntegerGraph]] = {
    "residual": residual_graph,
    "odd": odd_graph,
    "strided": strided_graph,
    "pooling": pooling_graph,
    "raw": raw_graph,
    "upsampling": upsampling_graph,
    "tabulated": tabulated_graph,
}
