"""Exported networks against the float graphs that they become."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coprune.compiler.float_graph import evaluate
from coprune.compiler.frontend import UnsupportedOperatorError, export, lower
from coprune.zoo import resnet20

IMAGE = (3, 12, 12)


class Network(nn.Module):
    """A network of some modules and a function that is called with them and the input."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)
        generator = torch.Generator().manual_seed(0)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                shape = module.weight.shape
                module.running_mean.copy_(torch.randn(shape, generator=generator))
                module.running_var.copy_(torch.rand(shape, generator=generator) + 0.5)
                module.weight.data.copy_(torch.randn(shape, generator=generator))
                module.bias.data.copy_(torch.randn(shape, generator=generator))

    def forward(self, x):
        return self.function(self, x)


def network(function, **modules):
    return Network(function, **modules).eval()


def lowered(model, *, image=IMAGE):
    """Lower a network and check that it computes what the network computes."""
    graph = lower(export(model, image=image))
    images = torch.randn(4, *image, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(images)
        *_, (_, result) = evaluate(graph, images)
    torch.testing.assert_close(result.reshape(expected.shape), expected, rtol=1e-4, atol=1e-4)
    return graph


def names(graph):
    return [layer.name for layer in graph.layers]


def convolution(inputs, outputs, **options):
    torch.manual_seed(inputs * 100 + outputs)
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


def test_resnet20_becomes_21_layers_of_which_9_have_a_shortcut():
    graph = lowered(resnet20("dense"), image=(3, 32, 32))
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in range(3)]
    convolutions = [f"{block}.{conv}" for block in blocks for conv in ("conv1", "conv2")]
    assert names(graph) == ["conv1", *convolutions, "mean", "linear"]
    with_shortcut = [layer.name for layer in graph.layers if len(layer.sources) == 2]
    assert with_shortcut == [f"{block}.conv2" for block in blocks]


def test_batch_norm_folds_into_the_convolution():
    graph = lowered(
        network(lambda m, x: m.norm(m.conv(x)), conv=convolution(3, 5), norm=nn.BatchNorm2d(5))
    )
    assert names(graph) == ["conv"]


def test_batch_norm_alone_is_a_depthwise_layer():
    graph = lowered(network(lambda m, x: m.norm(x), norm=nn.BatchNorm2d(3)))
    (layer,) = graph.layers
    assert layer.name == "norm"
    assert layer.sources[0].weight.shape == (3, 1, 1, 1)


def test_activation_functions_become_clamps():
    graph = lowered(
        network(
            lambda m, x: F.hardtanh(m.c(F.relu6(m.b(F.relu(m.a(x)))))),
            a=convolution(3, 4),
            b=convolution(4, 4),
            c=convolution(4, 4),
        )
    )
    assert [(layer.low, layer.high) for layer in graph.layers] == [
        (0, float("inf")),
        (0, 6),
        (-1, 1),
    ]


def test_projection_shortcut_joins_the_convolution():
    def block(m, x):
        y = m.conv2(F.relu(m.conv1(x)))
        y += m.norm(m.projection(x))
        return m.relu(y)

    graph = lowered(
        network(
            block,
            conv1=convolution(3, 8, stride=2),
            conv2=convolution(8, 8),
            projection=nn.Conv2d(3, 8, 1, stride=2),
            norm=nn.BatchNorm2d(8),
            relu=nn.ReLU(inplace=True),
        )
    )
    assert names(graph) == ["conv1", "conv2"]
    assert [source.name for source in graph.layers[-1].sources] == ["conv2", "projection"]


def test_convolution_with_two_readers_is_computed_once():
    graph = lowered(
        network(lambda m, x: (y := m.a(x)) + m.b(y), a=convolution(3, 4), b=convolution(4, 4))
    )
    assert names(graph) == ["a", "b"]


def test_sum_of_stored_tensors_has_two_identity_sources():
    def add(m, x):
        a = F.relu(m.a(x))
        return F.relu(m.b(a)) + a

    graph = lowered(network(add, a=convolution(3, 4), b=convolution(4, 4)))
    assert names(graph) == ["a", "b", "add"]
    assert all(source.weight.eq(1).all() for source in graph.layers[-1].sources)


def test_readers_after_an_in_place_operator_see_its_result():
    def block(m, x):
        y = m.a(x)
        z = m.relu(y)
        return m.b(z) + y

    graph = lowered(
        network(block, a=convolution(3, 4), b=convolution(4, 4), relu=nn.ReLU(inplace=True))
    )
    assert names(graph) == ["a", "b"]


def test_padded_and_strided_shortcut_selects_pixels_and_channels():
    def block(m, x):
        return m.conv(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 3))

    graph = lowered(network(block, conv=convolution(3, 8, stride=2)))
    shortcut = graph.layers[0].sources[1]
    assert shortcut.stride == 2
    assert shortcut.weight.shape == (8, 3, 1, 1)
    assert [tuple(place) for place in shortcut.weight[:, :, 0, 0].nonzero().tolist()] == [
        (2, 0),
        (3, 1),
        (4, 2),
    ]


def test_zero_padding_joins_the_convolution_that_follows():
    conv = nn.Conv2d(3, 4, 3, stride=2)
    graph = lowered(network(lambda m, x: m.conv(F.pad(x, (0, 1, 1, 2))), conv=conv))
    assert names(graph) == ["conv"]
    assert graph.layers[0].sources[0].padding == (1, 0)


def test_cropped_image_is_copied_before_zeros_surround_it():
    conv = nn.Conv2d(3, 4, 3)
    graph = lowered(network(lambda m, x: m.conv(F.pad(x[:, :, :9], (1, 1, 1, 1))), conv=conv))
    assert names(graph) == ["pad.input", "conv"]


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(3, 6, (1, 3), padding="same"),
        nn.Conv2d(3, 6, 4, padding="same"),
        nn.Conv2d(3, 6, 3, stride=4, padding=1),
        nn.Conv2d(3, 6, 3, dilation=(2, 1), padding=(2, 0)),
        nn.Conv2d(3, 6, 5, groups=3, bias=False),
    ],
    ids=str,
)
def test_convolution_options_are_kept(convolution):
    (layer,) = lowered(network(lambda m, x: m.conv(x), conv=convolution)).layers
    assert layer.operation == "conv2d"


@pytest.mark.parametrize(
    "pool",
    [
        nn.AvgPool2d(2),
        nn.AvgPool2d(3, stride=1, padding=1),
        nn.AvgPool2d(12),
        nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveAvgPool2d((6, 6)),
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.MaxPool2d(5, stride=2, ceil_mode=True),
    ],
    ids=str,
)
def test_pooling_is_a_depthwise_layer(pool):
    model = network(lambda m, x: m.pool(m.conv(x)), conv=convolution(3, 4), pool=pool)
    layer = lowered(model).layers[-1]
    assert layer.name == "pool"
    assert layer.sources[0].groups == 4
    assert layer.maximum == isinstance(pool, nn.MaxPool2d)


def test_linear_layer_after_flattening_covers_the_image():
    graph = lowered(
        network(
            lambda m, x: m.linear(m.dropout(torch.flatten(m.conv(x), 1))),
            conv=convolution(3, 4, stride=4),
            dropout=nn.Dropout(0.5),
            linear=nn.Linear(4 * 3 * 3, 10),
        )
    )
    assert names(graph) == ["conv", "linear"]
    assert graph.layers[-1].sources[0].weight.shape == (10, 4, 3, 3)


def test_concatenation_places_channels_side_by_side():
    def concatenate(m, x):
        a, b = m.a(x), m.b(x)
        return torch.cat([a, b[:, 1:3]], dim=1)

    graph = lowered(network(concatenate, a=convolution(3, 4), b=convolution(3, 5)))
    assert graph.layers[-1].operation == "cat"
    assert graph.layers[-1].output.channels == 6


FUNCTIONS = {
    "sigmoid": lambda m, x: torch.sigmoid(m.conv(x)),
    "gelu": lambda m, x: F.gelu(m.conv(x)),
    "function of a clamp": lambda m, x: torch.sqrt(F.relu(m.conv(x))),
    "function of a function": lambda m, x: torch.tanh(F.softplus(m.conv(x))),
    "clamped function": lambda m, x: torch.exp(m.conv(x)).clamp(max=2.0),
    "function scaled alike": lambda m, x: 1 - 2 * torch.sigmoid(m.conv(x)),
    "swish": lambda m, x: (y := m.conv(x)) * torch.sigmoid(1.5 * y),
    "hard swish": lambda m, x: (y := m.conv(x)) * F.relu6(y + 3) / 6,
    "gelu spelled out": lambda m, x: 0.5 * (y := m.conv(x)) * (1 + torch.erf(y * 0.5**0.5)),
    "square": lambda m, x: (y := m.conv(x)) * y,
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=list(FUNCTIONS))
def test_function_of_single_numbers_is_part_of_the_layer_before_it(function):
    (layer,) = lowered(network(function, conv=convolution(3, 4))).layers
    assert layer.name == "conv"
    assert layer.function is not None


def test_function_of_what_is_read_again_has_a_layer():
    graph = lowered(network(lambda m, x: (y := m.conv(x)) + F.silu(y), conv=convolution(3, 4)))
    assert names(graph) == ["conv", "silu", "add"]
    assert [layer.function is None for layer in graph.layers] == [True, False, True]


def test_function_of_one_convolution_that_joins_another_sum_is_stored_first():
    model = network(
        lambda m, x: m.a(x) + (y := m.b(x)) * torch.sigmoid(y),
        a=convolution(3, 4),
        b=convolution(3, 4),
    )
    graph = lowered(model)
    assert names(graph) == ["b", "a"]
    assert graph.layers[0].function is not None
    assert len(graph.layers[1].sources) == 2


def test_function_scaled_differently_from_channel_to_channel_takes_another_layer():
    model = network(lambda m, x: torch.sigmoid(m.conv(x)) * m.scale, conv=convolution(3, 4))
    model.scale = nn.Parameter(torch.rand(4, 1, 1))
    assert names(lowered(model)) == ["conv", "mul"]


@pytest.mark.parametrize("factor", [0.25, -0.25])
def test_clamp_scaled_alike_stays_a_clamp(factor):
    graph = lowered(network(lambda m, x: F.relu6(m.conv(x)) * factor, conv=convolution(3, 4)))
    (layer,) = graph.layers
    assert (layer.low, layer.high) == (min(0.0, 6 * factor), max(0.0, 6 * factor))
    assert layer.function is None


UNLIKE = {
    "another image": lambda m, x: x * torch.sigmoid(m.conv(x)),
    "other pixels": lambda m, x: x[:, :, 1:] * torch.sigmoid(x[:, :, :-1]),
    "other channels": lambda m, x: x * torch.sigmoid(x[:, [2, 0, 1]]),
    "another factor in every channel": lambda m, x: x * torch.sigmoid(x * m.scale),
    "another offset in every channel": lambda m, x: x * torch.sigmoid(x + m.scale),
    "an average around": lambda m, x: x * torch.sigmoid(F.avg_pool2d(x, 3, 1, 1)),
    "a maximum around": lambda m, x: x * F.max_pool2d(x, 3, 1, 1),
    "a function of a sum": lambda m, x: x * torch.sigmoid(x + m.conv(x)),
}


@pytest.mark.parametrize("function", UNLIKE.values(), ids=list(UNLIKE))
def test_product_with_a_function_of_something_else_is_refused(function):
    model = network(function, conv=convolution(3, 3))
    model.scale = nn.Parameter(torch.tensor([0.5, 1.0, 2.0]).reshape(3, 1, 1))
    with pytest.raises(UnsupportedOperatorError, match="no product of two activations"):
        lower(export(model, image=IMAGE))


def test_decoder_reads_dilated_images():
    model = network(
        lambda m, x: F.pixel_shuffle(F.interpolate(m.up(m.conv(x)), scale_factor=4), 2),
        conv=convolution(3, 4),
        up=nn.ConvTranspose2d(4, 8, 2, stride=2),
    )
    graph = lowered(model)
    assert names(graph) == [
        "conv",
        "up",
        "upsample_nearest2d",
        "upsample_nearest2d_1",
        "pixel_shuffle",
    ]
    dilations = [layer.sources[0].input_dilation for layer in graph.layers]
    assert dilations == [1, 2, 2, 2, 2]


def test_layer_names_are_unique_when_a_module_is_used_twice():
    graph = lowered(network(lambda m, x: m.conv(F.relu(m.conv(x))), conv=convolution(3, 3)))
    assert names(graph) == ["conv", "conv_1"]


def test_program_with_a_dynamic_batch_is_taken_as_it_is():
    model = network(
        lambda m, x: m.linear((y := m.conv(x)).view(y.size(0), -1)),
        conv=convolution(3, 4, stride=4),
        linear=nn.Linear(36, 5),
    )
    batch = torch.export.Dim("batch")
    exported = torch.export.export(
        model, (torch.zeros(2, *IMAGE),), dynamic_shapes={"x": {0: batch}}
    )
    assert names(lower(exported)) == ["conv", "linear"]


class Cumulative(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = convolution(3, 4)

    def forward(self, x):
        return torch.cumsum(self.conv(x), 2)


def test_unknown_operator_is_refused_with_node_operator_and_line():
    with pytest.raises(UnsupportedOperatorError) as error:
        lower(export(Cumulative().eval(), image=IMAGE))
    message = str(error.value)
    assert "aten.cumsum.default" in message
    assert "'cumsum'" in message
    assert "test_frontend.py" in message
    assert "return torch.cumsum(self.conv(x), 2)" in message
    assert "supported are conv2d, conv1d, linear" in message
    assert (error.value.operator, error.value.node) == ("aten.cumsum.default", "cumsum")


def test_overwriting_a_view_that_is_read_again_is_refused():
    def overwrite(m, x):
        y = m.conv(x)
        z = y[:, :2].relu_()
        return y[:, 2:] + z

    with pytest.raises(UnsupportedOperatorError, match="overwrites a view"):
        lower(export(network(overwrite, conv=convolution(3, 4)), image=IMAGE))


def test_part_in_training_mode_is_refused():
    model = network(lambda m, x: m.norm(x), norm=nn.BatchNorm2d(3))
    model.norm.train()
    with pytest.raises(ValueError, match=r"module 'norm' is in training mode"):
        export(model, image=IMAGE)


def test_program_exported_in_training_mode_is_refused():
    model = network(lambda m, x: m.norm(x), norm=nn.BatchNorm2d(3)).train()
    exported = torch.export.export(model, (torch.zeros(2, *IMAGE),))
    with pytest.raises(ValueError, match="exported in training mode"):
        lower(exported)


def test_parameter_that_is_not_finite_is_refused():
    model = network(lambda m, x: m.conv(x), conv=convolution(3, 4))
    model.conv.weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"'conv.weight' holds NaN"):
        lower(export(model, image=IMAGE))


def test_network_with_two_outputs_is_refused():
    with pytest.raises(ValueError, match="one output, not 2"):
        lower(export(network(lambda m, x: (F.relu(x), x + x)), image=IMAGE))


def test_output_that_does_not_depend_on_the_input_is_refused():
    model = network(lambda m, x: m.weight)
    model.weight = nn.Parameter(torch.ones(2, 3, 3, 3))
    with pytest.raises(ValueError, match="output must be computed from its input"):
        lower(export(model, image=IMAGE))
