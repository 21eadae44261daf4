"""Back end of the compiler: an integer graph becomes a machine program."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.parameters import IDENTITY, pack_parameters
from coprune_hw.contract.planes import Placement
from coprune_hw.contract.program import MachineProgram, Region
from coprune_sim.cycle_model import count_cycles
from coprune_sim.graph import IntegerGraph, Layer, Source, Tensor
from coprune_sim.reference import ACTIVATION_REACH, worst_sum

from .channel_order import order_channels
from .dead_channels import remove_dead_channels
from .memory_image import ImagePlan, assemble, plan_image
from .phases import split_phases
from .placement import check_geometry, place_tensors
from .schedule import LayerWork, schedule_layers
from .space_to_depth import fold_input_phases
from .streams import LayerStreams, build_streams, place_streams
from .strides import simplify_strides, unify_strides

PASSES = (simplify_strides, unify_strides)
"""Graph passes, in order. None changes what the graph computes."""


def transform(graph: IntegerGraph) -> IntegerGraph:
    """Apply `PASSES`: the graph whose layers the machine runs one by one."""
    for graph_pass in PASSES:
        graph = graph_pass(graph)
    return graph


def arrange_channels(
    graph: IntegerGraph, config: AcceleratorConfig, *, skip_zeros: bool = True
) -> IntegerGraph:
    """Leave out dead channels and order the others, where the cycle model says that it pays.

    Parameters
    ----------
    graph : IntegerGraph
        As `transform` makes it.
    config : AcceleratorConfig
    skip_zeros : bool
        As `lower` is going to have it.

    Returns
    -------
    IntegerGraph
        With the same layers and the same output, and never more cycles than `graph` takes.
    """
    candidates = [graph, order_channels(graph, config=config, skip_zeros=skip_zeros)]
    smaller = remove_dead_channels(graph)
    if smaller is not graph:
        candidates.append(order_channels(smaller, config=config, skip_zeros=skip_zeros))

    def cycles(candidate: IntegerGraph) -> float:
        try:
            workload = plan(candidate, config, skip_zeros=skip_zeros).workload
        except (OverflowError, ValueError):
            # It does not fit. If none does, compiling the given graph is going to say why.
            return math.inf
        return count_cycles(workload).cycles

    return min(candidates, key=cycles)


def lower(
    graph: IntegerGraph, config: AcceleratorConfig, *, skip_zeros: bool = True
) -> MachineProgram:
    """Compile an integer graph for one accelerator.

    Parameters
    ----------
    graph : IntegerGraph
    config : AcceleratorConfig
    skip_zeros : bool
        False keeps the zero weights of convolutions, as dense hardware would: slower, and the same
        results.

    Returns
    -------
    MachineProgram
        Its layers are those of the graph that `transform` makes of this one.

    Raises
    ------
    ValueError
        The accelerator cannot run the graph; the message names the layer and what it needs.
    OverflowError
        A size or a parameter does not fit its field.
    """
    return assemble(plan(graph, config, skip_zeros=skip_zeros))


def plan(graph: IntegerGraph, config: AcceleratorConfig, *, skip_zeros: bool = True) -> ImagePlan:
    """Decide everything about a program but pack nothing: enough to count its cycles.

    Parameters and errors are those of `lower`.
    """
    graph = transform(graph)
    image, phases = graph.input, 1
    if skip_zeros:
        # Most weights of the folded layer are zeros that it did not have before.
        graph, phases = fold_input_phases(graph, lanes=config.lanes)
    check_layers(graph, config=config)
    graph, numbers = split_phases(graph)
    streams = [
        build_streams(layer, lanes=config.lanes, skip_zeros=skip_zeros) for layer in graph.layers
    ]
    placements = place_tensors(graph, streams=streams, config=config)
    works = [
        prepare_layer(
            layer,
            number=number,
            graph=graph,
            streams=stream,
            placements=placements,
            config=config,
        )
        for number, layer, stream in zip(numbers, graph.layers, streams, strict=True)
    ]
    input_region = _region(image, config=config, compact=True, phases=phases)
    output_region = _region(graph.output, config=config, compact=False)
    schedule = schedule_layers(
        works,
        input_region=input_region,
        input_placement=placements[graph.input.name],
        output_region=output_region,
        config=config,
    )
    return plan_image(
        schedule,
        works=works,
        input_region=input_region,
        output_region=output_region,
        config=config,
    )


def check_layers(graph: IntegerGraph, *, config: AcceleratorConfig) -> None:
    """Refuse a graph with more layers than marks, or whose sums may leave the accumulators.

    Raises
    ------
    ValueError
        Says which layer, what it needs and what there is.
    """
    if len(graph.layers) > config.mark_depth:
        raise ValueError(
            f"the graph has {len(graph.layers)} layers, but mark_depth is {config.mark_depth}"
        )
    limit = 1 << (config.accumulator_bits - 1)
    read = {source.tensor for layer in graph.layers for source in layer.sources}
    for layer in graph.layers:
        if layer.table is not None and not config.tables:
            raise ValueError(
                f"layer {layer.name!r} has an activation function that takes a table, but the "
                "accelerator has no tables: give its configuration 'tables' from 1 on"
            )
        if layer.output.raw:
            _check_raw(layer, is_read=layer.output.name in read)
        for source in layer.sources:
            _check_source(layer, source, tensor=graph.tensor(source.tensor))
        worst = int(sum(worst_sum(source.weight) for source in layer.sources).max())
        if worst >= limit:
            raise ValueError(
                f"layer {layer.name!r}: a sum may reach {worst}, but accumulators of "
                f"{config.accumulator_bits} bits hold {limit - 1}"
            )


def prepare_layer(
    layer: Layer,
    *,
    number: int,
    graph: IntegerGraph,
    streams: LayerStreams,
    placements: Mapping[str, Placement],
    config: AcceleratorConfig,
) -> LayerWork:
    """Resolve a layer's slots and parameters with the places of its tensors."""
    placed = [placements[source.tensor] for source in layer.sources]
    return LayerWork(
        layer=layer,
        number=number,
        streams=place_streams(streams, layer=layer, placements=placed),
        parameters=_pack_parameters(layer, lanes=config.lanes),
        grid=check_geometry(layer, placements),
        output=placements[layer.output.name],
        pad=choose_pad(layer, graph=graph),
    )


def choose_pad(layer: Layer, *, graph: IntegerGraph) -> int:
    """What pixels outside the image read as: the zero point of the sources that read them.

    A maximum reads the smallest value there, which loses against every pixel.

    Raises
    ------
    ValueError
        Sources with different zero points read outside their images.
    """
    if layer.maximum:
        return -ACTIVATION_REACH
    zeros = {
        graph.tensor(source.tensor).zero
        for source in layer.sources
        if _reads_outside(source, image=graph.tensor(source.tensor), computed=layer.computed)
    }
    if len(zeros) > 1:
        raise ValueError(
            f"layer {layer.name!r}: sources that read outside their images must have one zero "
            f"point, not {sorted(zeros)}"
        )
    return zeros.pop() if zeros else 0


def _reads_outside(source: Source, *, image: Tensor, computed: tuple[int, int]) -> bool:
    for axis in range(2):
        first = -source.padding[axis]
        last = (computed[axis] - 1) * source.stride + first
        last += (source.weight.shape[2 + axis] - 1) * source.dilation[axis]
        if first < 0 or last >= image.shape[1 + axis]:
            return True
    return False


def _check_raw(layer: Layer, *, is_read: bool) -> None:
    if is_read:
        raise ValueError(f"layer {layer.name!r}: only the network's output can be raw")
    for name, value in IDENTITY.items():
        if (getattr(layer, name) != value).any():
            raise ValueError(f"layer {layer.name!r}: {name} of a raw output must be {value}")
    if (layer.low, layer.high, layer.output.zero) != (-128, 127, 0) or layer.table is not None:
        raise ValueError(f"layer {layer.name!r}: a raw output must be neither clamped nor shifted")


def _check_source(layer: Layer, source: Source, *, tensor: Tensor) -> None:
    outputs, group_inputs = source.weight.shape[:2]
    if outputs != layer.output.channels or group_inputs * source.groups != tensor.channels:
        raise ValueError(
            f"layer {layer.name!r}: weights over {tensor.name!r} must have "
            f"{layer.output.channels} outputs and {tensor.channels} inputs in {source.groups} "
            f"groups, not the shape {source.weight.shape}"
        )


def _pack_parameters(layer: Layer, *, lanes: int) -> bytes:
    padding = -layer.output.channels % lanes
    return pack_parameters(
        **{
            name: np.pad(getattr(layer, name), (0, padding))
            for name in ("bias", "multiplier", "pre_shift", "post_shift")
        }
    )


def _region(tensor: Tensor, *, config: AcceleratorConfig, compact: bool, phases: int = 1) -> Region:
    """A tensor's region; a compact one leaves out the channels that fill up a single group."""
    groups = tensor.groups(config.lanes)
    pixel_bytes = tensor.channels * phases**2 if compact and groups == 1 else config.lanes
    region = Region(
        name=tensor.name,
        channels=tensor.channels,
        height=tensor.height,
        width=tensor.width,
        offset=0,
        groups=groups,
        pixel_bytes=pixel_bytes,
        raw=tensor.raw,
        phases=phases,
        fill=tensor.zero,
    )
    padding_bytes = -region.group_bytes % config.bus_bytes if groups > 1 else 0
    return replace(region, padding_bytes=padding_bytes)
