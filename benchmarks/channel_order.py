"""Cycles and slots before and after channels are put in another order, by the cycle model.

benchmarks/channel_order.py --weights squeezenet_decoded_fp32.npz
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from coprune import prune, zoo
from coprune.compiler.channel_order import order_channels
from coprune.compiler.lowering import transform
from coprune.compiler.streams import build_streams
from coprune.data import cifar10
from coprune.program import count_cycles
from coprune.quantize import quantize
from coprune_hw.contract import AcceleratorConfig
from coprune_sim.graph import IntegerGraph, Layer

PRESET = AcceleratorConfig.preset("16x8")
LARGER = replace(PRESET, activation_depth=2048)
"""The first tensor of SqueezeNet takes 1232 words of every bank at 64 x 64 pixels."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, help="of SqueezeNet by Deep Compression")
    parser.add_argument("--layers", action="store_true", help="print SqueezeNet's layers")
    arguments = parser.parse_args()
    for pattern in ("4:16", "unstructured 75 %"):
        compare(f"ResNet-20 {pattern}", resnet20(pattern), PRESET)
    graph = resnet20("structured 50 %")
    given, arranged = (
        count_cycles(graph, PRESET, channel_order=order).total.cycles for order in (False, True)
    )
    print(
        f"ResNet-20 without half of the channels inside blocks, {PRESET.name}: {given:,} cycles; "
        f"{arranged:,} with dead channels removed"
    )
    if arguments.weights:
        graph = squeezenet(arguments.weights)
        ordered = compare("SqueezeNet, Deep Compression, 64 x 64", graph, LARGER)
        if arguments.layers:
            print_layers(graph, ordered)


def compare(name: str, graph: IntegerGraph, config: AcceleratorConfig) -> IntegerGraph:
    """Print a table of orders, and return the graph in the last one."""
    dense = count_cycles(graph, config, skip_zeros=False).total.cycles
    dense_slots = count_slots(graph, config, skip_zeros=False)
    dense_convolutions = count_convolution_slots(graph, config, skip_zeros=False)
    print(
        f"{name}, {config.name}\n"
        f"  dense: {dense:,} cycles, {dense_slots:,} slots, of which convolutions have "
        f"{dense_convolutions:,}\n"
        "  order: cycles (times fewer than dense); slots; convolutions' slots; idle lanes"
    )
    ordered = graph
    for order, sweeps in (("given", None), ("greedy outputs", 0), ("searched", None)):
        begin = time.perf_counter()
        if order != "given":
            ordered = order_channels(graph, config=config, sweeps=sweeps)
        seconds = time.perf_counter() - begin
        cycles = count_cycles(ordered, config).total.cycles
        slots = count_slots(ordered, config)
        convolutions = count_convolution_slots(ordered, config)
        idle = 1 - count_weights(ordered) / (convolutions * config.lanes)
        print(
            f"  {order:14}: {cycles:9,} ({dense / cycles:.2f}x); "
            f"{slots:7,} ({dense_slots / slots:.2f}x); "
            f"{convolutions:7,} ({dense_convolutions / convolutions:.2f}x); {idle:.1%}; "
            f"found in {seconds:.1f} s",
            flush=True,
        )
    ideal = dense_convolutions * config.lanes / count_weights(graph)
    print(
        f"  if every lane were always busy: {dense / ideal_cycles(graph, config):.2f}x in cycles, "
        f"{ideal:.2f}x in slots of convolutions"
    )
    return ordered


def ideal_cycles(graph: IntegerGraph, config: AcceleratorConfig) -> float:
    """Cycles if those of convolutions shrank as their slots do when no lane is idle."""
    cycles = 0.0
    for result, layer in zip(count_cycles(graph, config).layers, graph.layers, strict=True):
        single = replace(graph, layers=(layer,))
        slots = count_convolution_slots(single, config)
        busy = count_weights(single) / (slots * config.lanes) if slots else 1.0
        cycles += result.cycles * busy
    return cycles


def is_convolution(layer: Layer) -> bool:
    return layer.operation in ("conv2d", "linear")


def count_slots(graph: IntegerGraph, config: AcceleratorConfig, *, skip_zeros: bool = True) -> int:
    return sum(
        int(build_streams(layer, lanes=config.lanes, skip_zeros=skip_zeros).counts.sum())
        for layer in graph.layers
    )


def count_convolution_slots(
    graph: IntegerGraph, config: AcceleratorConfig, *, skip_zeros: bool = True
) -> int:
    """Slots of convolutions and linear layers, without those of their shortcuts."""
    total = 0
    for layer in filter(is_convolution, graph.layers):
        sources = tuple(source for source in layer.sources if not source.selects)
        alone = replace(layer, sources=sources)
        total += int(build_streams(alone, lanes=config.lanes, skip_zeros=skip_zeros).counts.sum())
    return total


def count_weights(graph: IntegerGraph) -> int:
    return sum(
        int(np.count_nonzero(source.weight))
        for layer in filter(is_convolution, graph.layers)
        for source in layer.sources
        if not source.selects
    )


def print_layers(graph: IntegerGraph, ordered: IntegerGraph) -> None:
    print("layer: cycles dense, given, searched; slots given, searched")
    tables = [
        count_cycles(graph, LARGER, skip_zeros=False),
        count_cycles(graph, LARGER),
        count_cycles(ordered, LARGER),
    ]
    for layers in zip(
        *(table.layers for table in tables), graph.layers, ordered.layers, strict=True
    ):
        cycles = ", ".join(f"{layer.cycles:7,}" for layer in layers[:3])
        slots = ", ".join(
            f"{int(build_streams(layer, lanes=LARGER.lanes).counts.sum()):6,}"
            for layer in layers[3:]
        )
        print(f"  {layers[0].name:24} {cycles}; {slots}")


def resnet20(pattern: str) -> IntegerGraph:
    """ResNet-20 with weights pruned by magnitude, without tuning: only its cycles matter."""
    model = zoo.build("resnet20-dense")
    if pattern.endswith(":16"):
        prune.prune_pattern(model, pattern)
    elif pattern.startswith("unstructured"):
        prune.prune_weights(model, sparsity=0.75, scope="local")
    else:
        prune_inner_channels(model)
    images = cifar10.normalize(cifar10.load_sample().calibration.images[:32])
    return transform(quantize(model, [images]))


@torch.no_grad()
def prune_inner_channels(model: zoo.CifarResNet) -> None:
    """Zero the weaker half of the channels between the convolutions of every block."""
    for block in (*model.layer1, *model.layer2, *model.layer3):
        norms = block.conv1.weight.flatten(1).norm(dim=1)
        weak = norms.argsort()[: len(norms) // 2]
        block.bn1.weight[weak] = block.bn1.bias[weak] = 0.0


def squeezenet(weights: Path) -> IntegerGraph:
    """SqueezeNet for random crops of 64 x 64 pixels."""
    model = zoo.load_deep_compression(zoo.SqueezeNet().eval(), weights=weights)
    images = 60 * torch.randn(8, *model.input_shape, generator=torch.Generator().manual_seed(0))
    return transform(quantize(model, [images]))


if __name__ == "__main__":
    main()
