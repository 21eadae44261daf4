"""Training through prepare_qat_pt2e, and what becomes of the trained network."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchao.quantization.pt2e import move_exported_model_to_eval, move_exported_model_to_train
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_qat_pt2e

import coprune
from coprune.prune import SparseTraining, fixed_choice, prune_pattern
from coprune.quantize import quantize
from coprune.quantize.pt2e import AcceleratorQuantizer
from coprune.quantize.pt2e.observers import MovingActivationObserver
from coprune_sim import machine, reference

from .agreement import input_steps, output_difference
from .test_pt2e import assert_agrees, images, operators

IMAGES, CLASSES = 32, 4
STEPS = 12


class Network(nn.Module):
    """A residual block, a depthwise convolution, concatenation and a norm of its own."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm_a = nn.BatchNorm2d(16)
        self.b = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.norm_b = nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.norm_c = nn.BatchNorm2d(16)
        self.wide = nn.Conv2d(16, 16, 1)
        self.norm_d = nn.BatchNorm2d(32)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.1)
        self.linear = nn.Linear(32, CLASSES)

    def forward(self, x):
        a = self.relu(self.norm_a(self.a(x)))
        b = self.relu(self.norm_b(self.b(a)) + a)
        b = F.max_pool2d(b, 2)
        c = F.relu6(self.norm_c(self.depthwise(b)))
        d = self.norm_d(torch.cat([c, self.wide(b)], 1))
        return self.linear(self.dropout(d.mean((2, 3))))


@pytest.fixture(scope="module")
def trained():
    """Losses, the simulation of the trained network, and the masks of its pruned weights."""
    model = Network().train()
    masks = prune_pattern(model, "4:16").masks
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(model, (images(2),), dynamic_shapes=({0: batch},))
    module = prepare_qat_pt2e(program.module(), AcceleratorQuantizer(is_qat=True))
    move_exported_model_to_train(module)
    parameters = dict(module.named_parameters())
    optimizer = torch.optim.SGD(parameters.values(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    labels = torch.arange(IMAGES) % CLASSES
    inputs = images(IMAGES) + labels.view(-1, 1, 1, 1)
    losses = []
    sparse = SparseTraining(module, choose=fixed_choice(masks), optimizer=optimizer)
    for _ in range(STEPS):
        sparse.before_forward()
        loss = F.cross_entropy(module(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for name, mask in masks.items():
            assert not parameters[f"{name}.weight"][~mask].any()
        losses.append(loss.item())
    module = copy.deepcopy(module)
    move_exported_model_to_eval(module)
    with torch.no_grad():
        expected = module(inputs)
    return losses, convert_pt2e(module), masks, inputs, expected


def test_loss_falls(trained):
    losses, *_ = trained
    assert losses[-1] < 0.5 * losses[0]


def test_conversion_keeps_what_was_trained(trained):
    _, simulation, _, inputs, expected = trained
    with torch.no_grad():
        outputs = simulation(inputs)
    step = operators(simulation, "dequantize_per_tensor")[-1].args[1]
    # Batch norms are folded in float32, which may decide a rounding otherwise here and there.
    assert (outputs - expected).abs().max() <= 2.01 * step


def test_batch_norms_and_additions_are_rounded_once(trained):
    _, simulation, *_ = trained
    assert len(operators(simulation, "quantize_per_tensor")) == 8
    # The norm of the concatenation, which follows no convolution, remains.
    assert len(operators(simulation, "batch_norm")) == 1


def test_every_layer_rounds_as_the_simulation_does(trained):
    _, simulation, _, inputs, _ = trained
    graph = quantize(simulation)
    assert_agrees(simulation, graph, inputs)
    assert np.abs(output_difference(simulation, graph, inputs)).max() <= 2


def test_pruned_weights_stay_zero(trained):
    _, simulation, masks, *_ = trained
    graph = quantize(simulation)
    sources = {layer.name: layer.sources[0].weight for layer in graph.layers}
    pruned = {name: mask.numpy() for name, mask in masks.items()}
    assert {"b", "wide"} <= set(pruned) & set(sources)
    for name, mask in pruned.items():
        weight = sources[name]
        assert not weight.reshape(mask.shape)[mask == 0].any()
        assert weight.any()
    blocks = sources["b"].reshape(16, 16, -1)
    assert np.count_nonzero(blocks, axis=1).max() <= 4


def test_program_computes_what_the_graph_does(trained):
    _, simulation, _, inputs, _ = trained
    program = coprune.compile(simulation, coprune.AcceleratorConfig.preset("16x8"))
    steps = input_steps(program.graph, inputs[:4])
    expected = reference.run(program.graph, steps)
    for image, output in zip(steps.numpy(), expected, strict=True):
        np.testing.assert_array_equal(machine.run(program.machine, image).output, output)


def test_ranges_follow_those_of_batches_slowly():
    observer = MovingActivationObserver(
        tensor="x",
        choice="minmax",
        dtype=torch.int8,
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_tensor_affine,
    )
    assert observer.grid() is None
    for end in (2.55, 25.5):
        observer(torch.tensor([0.0, end]))
    (scale,), (zero,) = observer.calculate_qparams()
    assert float(scale) == pytest.approx(0.01 + 0.01 * (0.1 - 0.01))
    assert int(zero) == -128


def test_network_in_training_mode_is_refused():
    program = torch.export.export(Network().train(), (images(2),))
    with pytest.raises(ValueError, match="was exported in training mode: call eval"):
        quantize(program.module(), [images()])
