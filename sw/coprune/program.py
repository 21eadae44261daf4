"""A compiled network: what users hold, simulate and run on the RTL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from coprune import program_file
from coprune.results import CosimResult, CycleTable, LayerResult, tabulate, total_result
from coprune_hw.contract import AcceleratorConfig
from coprune_hw.contract.arithmetic import dequantize, quantize
from coprune_hw.contract.instructions import LoadKind, Opcode
from coprune_hw.contract.parameters import PARAMETER_BYTES
from coprune_hw.contract.program import MachineProgram, collect_layers
from coprune_hw.contract.registers import ERROR_MEANING, State
from coprune_hw.contract.slots import slot_bytes
from coprune_sim.cycle_model import MemoryModel, Workload
from coprune_sim.graph import IntegerGraph

# PyTorch takes seconds to import, so only the functions that compile or run a network do.
if TYPE_CHECKING:
    import onnx
    import torch
    from torch import nn
    from torch.export import ExportedProgram

    from coprune.compiler.onnx.frontend import OnnxNetwork
    from coprune.hybrid import HybridProgram
    from coprune_sim.cosim.result import CosimRun
    from coprune_sim.cosim.waveform import Trace
    from coprune_sim.inference import Simulator


def compile(
    model: nn.Module | ExportedProgram | str | Path | onnx.ModelProto,
    accelerator: AcceleratorConfig,
    *,
    calibration: Sequence[torch.Tensor] = (),
    observer: str = "mse",
    equalize: bool = False,
    correct_bias: bool = False,
    weight_bits: int | None = None,
    skip_zeros: bool = True,
    channel_order: bool = False,
    int32_output: bool = False,
    host_fallback: bool = False,
    network: str | None = None,
) -> Program | HybridProgram:
    """Quantize a network and compile it for an accelerator.

    Parameters
    ----------
    model : nn.Module, ExportedProgram, path of an ONNX file or onnx.ModelProto
        In evaluation mode, with one float32 input [N, C, H, W]. It may be quantized already.
    accelerator : AcceleratorConfig
    calibration : sequence of float32 tensors [N, C, H, W]
        Batches of typical inputs, preprocessed as the network expects them. A network that is
        quantized throughout needs none.
    observer : str
        ``"mse"``, ``"percentile"`` or ``"minmax"``: how the activations' ranges are chosen.
    equalize, correct_bias, weight_bits
        As in `coprune.quantize.quantize`.
    skip_zeros : bool
        False keeps the zero weights of convolutions in the slot stream, as dense hardware would.
    channel_order : bool
        Leave out channels that nothing depends on, and put the others of inner tensors in the order
        that takes the fewest cycles. Takes seconds, and gains where weights are pruned without a
        pattern.
    int32_output : bool
        The output are the exact sums of the last layer, such as logits, in 32 bits instead of
        int8.
    host_fallback : bool
        Run what the accelerator does not support on the host. A network with such parts becomes a
        `coprune.hybrid.HybridProgram`, another one a `Program` as without this.
    network : str
        A name for tables and reports; the class's or the ONNX file's where it is None.

    Raises
    ------
    TypeError, ValueError
        As `coprune.quantize.quantize`; or the network does not fit the accelerator. With
        `host_fallback`, as `coprune.host_fallback.compile_hybrid`; or the network is an ONNX one.
    """
    from torch import nn
    from torch.export import ExportedProgram

    from coprune.compiler.export import export_again, is_exported
    from coprune.compiler.exported import UnsupportedOperatorError
    from coprune.quantize import quantize as quantize_network

    name = type(model).__name__
    if isinstance(model, nn.Module) and is_exported(model):
        model = export_again(model)
    if not isinstance(model, nn.Module | ExportedProgram):
        if host_fallback:
            raise ValueError(
                "host_fallback must be False for an ONNX network: only PyTorch networks can be "
                "divided between accelerator and host"
            )
        from coprune.compiler.onnx.frontend import lower_onnx

        model = lower_onnx(model)
        name = model.name
    options = {
        "observer": observer,
        "int32_output": int32_output,
        "equalize": equalize,
        "correct_bias": correct_bias,
        "weight_bits": weight_bits,
    }
    try:
        graph = quantize_network(
            model, calibration, accumulator_bits=accelerator.accumulator_bits, **options
        )
    except UnsupportedOperatorError as error:
        from coprune.host_fallback import add_advice, compile_hybrid

        if not host_fallback:
            add_advice(error, model, calibration)
            raise
        return compile_hybrid(
            model,
            accelerator,
            calibration=calibration,
            skip_zeros=skip_zeros,
            channel_order=channel_order,
            network=network or name,
            **options,
        )
    return compile_graph(
        graph,
        accelerator,
        output_shape=_output_shape(model, calibration),
        skip_zeros=skip_zeros,
        channel_order=channel_order,
        network=network or name,
    )


def compile_graph(
    graph: IntegerGraph,
    accelerator: AcceleratorConfig,
    *,
    output_shape: tuple[int, ...] | None = None,
    skip_zeros: bool = True,
    channel_order: bool = False,
    network: str = "graph",
) -> Program:
    """Compile an integer graph; see `compile`. `output_shape` None keeps [C, H, W]."""
    from coprune.compiler.lowering import arrange_channels, lower, transform

    graph = transform(graph)
    if channel_order:
        graph = arrange_channels(graph, accelerator, skip_zeros=skip_zeros)
    machine = lower(graph, accelerator, skip_zeros=skip_zeros)
    return Program(
        graph, machine, network, graph.output.shape if output_shape is None else output_shape
    )


def count_cycles(
    graph: IntegerGraph,
    accelerator: AcceleratorConfig,
    memory: MemoryModel | None = None,
    *,
    skip_zeros: bool = True,
    channel_order: bool = False,
) -> CycleTable:
    """Count the cycles of an integer graph on an accelerator, without packing its weights.

    The result is that of ``compile_graph(graph, accelerator).cycles(memory)``.
    """
    from coprune.compiler.lowering import arrange_channels, plan, transform

    graph = transform(graph)
    if channel_order:
        graph = arrange_channels(graph, accelerator, skip_zeros=skip_zeros)
    workload = plan(graph, accelerator, skip_zeros=skip_zeros).workload
    return tabulate(graph, workload, memory)


def _output_shape(
    model: nn.Module | ExportedProgram | OnnxNetwork, calibration: Sequence[torch.Tensor]
) -> tuple[int, ...]:
    """Shape of the output for one image, without the batch's axis."""
    import torch
    from torch import nn
    from torch.export import ExportedProgram

    if isinstance(model, ExportedProgram):
        # An archive may be of a network for batches of one size, so it cannot be asked by a run.
        output = model.graph.output_node().args[0][-1]
        return tuple(map(int, output.meta["val"].shape[1:]))
    if not isinstance(model, nn.Module):
        return model.output_shape
    with torch.inference_mode():
        return tuple(model(calibration[0][:1]).shape[1:])


def _refuse_error(run: CosimRun) -> None:
    """Raise `RuntimeError` where the RTL stopped with an error."""
    stopped = run.images[-1]
    if stopped.state != State.DONE:
        raise RuntimeError(
            f"the RTL stopped at image {len(run.images) - 1} with error {stopped.error.name}: "
            f"{ERROR_MEANING[stopped.error]}"
        )


def check_images(
    x: torch.Tensor | np.ndarray, *, shape: tuple[int, int, int], what: str = "input"
) -> np.ndarray:
    """Refuse what are no finite float32 images [N, *shape]; `what` says what they are for."""
    # Without PyTorch: a board that runs programs need not have it.
    images = x.detach() if hasattr(x, "detach") else np.asarray(x)
    dtype = str(images.dtype).removeprefix("torch.")
    if dtype != "float32":
        raise TypeError(f"{what} must be float32, not {dtype}")
    images = np.asarray(images)
    if images.ndim != 4 or tuple(images.shape[1:]) != shape:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"{what} must have shape [N, {wanted}], not {list(images.shape)}")
    if not np.isfinite(images).all():
        raise ValueError(f"{what} must be finite, but has NaN or infinite values")
    return images


@dataclass(frozen=True)
class Program:
    """A network compiled for one accelerator.

    Parameters
    ----------
    graph : IntegerGraph
        What it computes.
    machine : MachineProgram
        The memory image that computes it.
    network : str
        The network's name.
    output_shape : tuple of int
        Of one image's output, as the user's network gives it.
    """

    graph: IntegerGraph
    machine: MachineProgram
    network: str
    output_shape: tuple[int, ...]

    @property
    def config(self) -> AcceleratorConfig:
        """The accelerator that it was compiled for."""
        return self.machine.config

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height, width of an image."""
        return self.graph.input.shape

    @property
    def weight_bytes(self) -> int:
        """Bytes of the memory image that stand for weights and biases: slots and parameters."""
        chunk_bytes = {
            LoadKind.SLOTS: slot_bytes(self.config.lanes),
            LoadKind.PARAMETERS: PARAMETER_BYTES,
        }
        return sum(
            instruction["count"] * chunk_bytes[instruction["kind"]]
            for instruction in self.machine.instructions()
            if instruction["prefix"]["opcode"] == Opcode.LOAD and instruction["kind"] in chunk_bytes
        )

    @property
    def float32_bytes(self) -> int:
        """Bytes that the weights of the convolutions and linear layers take as float32.

        Shortcuts and pooling, whose weights coprune made itself, do not count.
        """
        return 4 * sum(
            source.weight.size
            for layer in self.graph.layers
            if layer.operation in ("conv2d", "linear")
            for source in layer.sources
            if not source.selects
        )

    @property
    def compression(self) -> float:
        """`float32_bytes` per `weight_bytes`."""
        return self.float32_bytes / self.weight_bytes

    def save(self, path: str | Path) -> None:
        """Write the program file, whole or not at all."""
        program_file.save(self, path)

    def quantize_input(self, x: torch.Tensor | np.ndarray) -> np.ndarray:
        """Quantize float32 images [N, C, H, W] to int8.

        Raises
        ------
        TypeError
            Not float32.
        ValueError
            Another shape than the network's input, or values that are not finite.
        """
        tensor = self.graph.input
        images = check_images(x, shape=tensor.shape)
        return quantize(images, scale=tensor.scale, zero=tensor.zero).astype(np.int8)

    def simulate(self, x: torch.Tensor | np.ndarray, *, integer: bool = False) -> np.ndarray:
        """Run the network in software on float32 images [N, C, H, W], bit for bit as the RTL does.

        The first call prepares `coprune_sim.inference.Simulator`, later ones use it again.

        Returns
        -------
        float32 array [N, *output_shape], dequantized; with `integer` the int8 values themselves, or
        int32 where the output are sums: bias and all.
        """
        outputs = self._simulator.run(self.quantize_input(x))
        return self.finish_output(outputs, integer=integer)

    def cosim(
        self,
        x: torch.Tensor | np.ndarray,
        *,
        integer: bool = False,
        memory: str = "internal",
        latency_cycles: int = 20,
        stall_seed: int | None = None,
        trace: Trace | None = None,
    ) -> CosimResult:
        """Run the RTL on float32 images [N, C, H, W] and compare every layer of every image.

        Parameters
        ----------
        x : float32 tensor or array [N, C, H, W]
        integer : bool
            As in `simulate`.
        memory : str
            ``"internal"``: a memory model inside the simulation. ``"cocotbext"``: cocotbext-axi's
            RAM.
        latency_cycles : int
            Of the internal memory.
        stall_seed : int
            Pauses all five AXI channels at random.
        trace : Trace
            Make a waveform of the first image.

        Raises
        ------
        ValueError
            There is nothing of that name to trace, or the program ends before the window begins.
        RuntimeError
            The RTL stops with an error, or the simulation fails.
        """
        from coprune_sim import machine as instruction_simulator
        from coprune_sim import reference
        from coprune_sim.cosim import runner

        images = self.quantize_input(x)
        expected = reference.run(self.graph, images, keep_layers=True)
        run = runner.run(
            self.machine,
            list(images),
            memory=memory,
            latency=latency_cycles,
            seed=stall_seed,
            trace=trace,
        )
        _refuse_error(run)
        equal = dict.fromkeys(expected, True)
        for number, image in enumerate(images):
            simulated = instruction_simulator.run(self.machine, image)
            layers = collect_layers(self.machine, run.images[number].drained)
            for name in equal:
                equal[name] &= np.array_equal(layers[name], expected[name][number])
                equal[name] &= np.array_equal(simulated.layers[name], expected[name][number])
            last = expected[self.graph.layers[-1].name][number]
            for output in (run.images[number].output, simulated.output):
                equal[self.graph.layers[-1].name] &= np.array_equal(output, last)
        marks = [mark["cycles"] for mark in run.images[0].marks]
        cycles = np.diff(marks, prepend=0).tolist()
        layers = self._layer_results(cycles, equal=equal)
        outputs = np.stack([image.output for image in run.images])
        return CosimResult(
            outputs=self.finish_output(outputs, integer=integer),
            equal=all(equal.values()),
            layers=layers,
            total=total_result(
                self.graph,
                Workload.from_program(self.machine),
                cycles=run.images[0].counters["cycles"],
            ),
            counters=run.images[0].counters,
            cycles_per_second=run.cycles_per_second,
            timeline=run.images[0].timeline,
            waveform=run.waveform,
        )

    def measure_cycles(self, latency_cycles: int = 20) -> tuple[list[int], int]:
        """Run the RTL once, and read its counters: cycles of every layer, and in total.

        Raises
        ------
        RuntimeError
            The RTL stops with an error, or the simulation fails.
        """
        from coprune_sim.cosim import runner

        image = np.zeros(self.graph.input.shape, np.int8)
        run = runner.run(self.machine, [image], latency=latency_cycles)
        _refuse_error(run)
        marks = [mark["cycles"] for mark in run.images[0].marks]
        return np.diff(marks, prepend=0).tolist(), run.images[0].counters["cycles"]

    def cycles(self, memory: MemoryModel | None = None) -> CycleTable:
        """Count cycles per layer and in total: those of the RTL, without running anything.

        Parameters
        ----------
        memory : MemoryModel
            What lies behind the bus; by default one with the latencies of `cosim`.
        """
        return tabulate(self.graph, Workload.from_program(self.machine), memory)

    @cached_property
    def _simulator(self) -> Simulator:
        from coprune_sim.inference import Simulator

        return Simulator(self.graph)

    def finish_output(self, outputs: np.ndarray, *, integer: bool) -> np.ndarray:
        """Return outputs of the machine [N, C, H, W] as `simulate` returns them."""
        step, zero = self.graph.output.scale, self.graph.output.zero
        if self.graph.raw_scale is not None:
            step, bias = (
                np.reshape(values, (-1, 1, 1))
                for values in (self.graph.raw_scale.step, self.graph.raw_scale.bias)
            )
            outputs = (outputs + bias).astype(np.int32)
        if not integer:
            # A sum of 32 bits needs more than float32 to be multiplied in.
            precise = outputs.astype(np.float64 if outputs.dtype == np.int32 else np.float32)
            outputs = dequantize(precise, scale=step, zero=zero).astype(np.float32)
        return outputs.reshape(len(outputs), *self.output_shape)

    def _layer_results(
        self, cycles: Sequence[int], *, equal: dict[str, bool]
    ) -> tuple[LayerResult, ...]:
        return tuple(
            LayerResult(
                name=layer.name,
                op=layer.operation,
                macs=layer.macs,
                nonzero_macs=layer.nonzero_macs,
                slots=record.slots,
                cycles=layer_cycle,
                equal=equal[layer.name],
            )
            for layer, record, layer_cycle in zip(
                self.graph.layers, self.machine.layers, cycles, strict=True
            )
        )
