"""The instruction simulator against naive convolutions, on programs assembled by hand."""

import copy
from dataclasses import dataclass, field

import numpy as np
import pytest

from coprune_hw.contract import CONTRACT_VERSION, AcceleratorConfig
from coprune_hw.contract.arithmetic import requantize
from coprune_hw.contract.instructions import (
    INSTRUCTION_BYTES,
    LoadKind,
    Opcode,
    encode_instruction,
    prefix,
)
from coprune_hw.contract.parameters import pack_parameters
from coprune_hw.contract.planes import Placement, plane_size
from coprune_hw.contract.program import LayerRecord, MachineProgram, Region
from coprune_hw.contract.registers import ErrorCode
from coprune_hw.contract.slots import OFFSET_BITS, SlotStream, pack_slots
from coprune_sim.machine import PREFERENCES, MachineError, run

from ..instructions import PLAIN

DATA_OFFSET = 2048
"""Where data begin in an assembled image: behind all instructions."""

NO_PLACE = {"base": 0, "plane_words": 0, "pitch": 0, "log2_stride": 0, "log2_bank_columns": 0}
NO_WINDOW = {"row_begin": 0, "rows": 0, "width": 0}


@dataclass(frozen=True)
class Plane:
    """A tensor in the activation memory, and the convolution that reads it."""

    tensor: np.ndarray
    placement: Placement
    weight: np.ndarray  # [outputs, inputs, kernel rows, kernel columns]; diagonal: [outputs, 1, ..]
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    diagonal: bool = False


@dataclass
class Assembler:
    """Collects instructions and data into a memory image."""

    config: AcceleratorConfig
    instructions: list[dict] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)

    def __post_init__(self):
        self.instructions.append(
            {
                "prefix": prefix(Opcode.HEADER),
                "version": CONTRACT_VERSION,
                "geometry_hash": self.config.geometry_hash,
            }
        )

    def add_data(self, content: bytes) -> int:
        self.data += bytes(-len(self.data) % self.config.bus_bytes)
        offset = DATA_OFFSET + len(self.data)
        self.data += content
        return offset

    def load_chunks(self, kind: LoadKind, content: bytes, *, base: int, count: int, **tokens):
        self.instructions.append(
            {
                "prefix": prefix(Opcode.LOAD, **tokens),
                "kind": kind,
                "source": self.add_data(content),
                "count": count,
                "place": {**NO_PLACE, "base": base},
                "window": NO_WINDOW,
                "pixel_bytes": 0,
            }
        )

    def load_slots(self, stream: SlotStream, *, base: int = 0, **tokens):
        content = pack_slots(stream, lanes=self.config.lanes)
        self.load_chunks(LoadKind.SLOTS, content, base=base, count=len(stream), **tokens)

    def load_parameters(self, parameters: dict, *, base: int = 0, **tokens):
        content = pack_parameters(**parameters)
        count = len(parameters["bias"])
        self.load_chunks(LoadKind.PARAMETERS, content, base=base, count=count, **tokens)

    def load_pixels(self, source: int, *, place: dict, window: dict, pixel_bytes: int, **tokens):
        self.instructions.append(
            {
                "prefix": prefix(Opcode.LOAD, **tokens),
                "kind": LoadKind.PIXELS,
                "source": source,
                "count": 0,
                "place": place,
                "window": window,
                "pixel_bytes": pixel_bytes,
            }
        )

    def load_tensor(self, tensor: np.ndarray, placement: Placement) -> Region:
        """Load a tensor; where one word holds its pixels, only their channels are in DRAM."""
        channels, height, width = tensor.shape
        pixel_bytes = channels if placement.groups == 1 else self.config.lanes
        region = Region("input", channels, height, width, 0, placement.groups, pixel_bytes)
        size = height * width * pixel_bytes
        begin = self.add_data(region.pack(tensor))
        for group in range(placement.groups):
            self.load_pixels(
                begin + group * size,
                place=placement.fields(group),
                window={"row_begin": 0, "rows": height, "width": width},
                pixel_bytes=pixel_bytes,
            )
        return Region("input", channels, height, width, begin, placement.groups, pixel_bytes)

    def execute(self, *, tokens: dict | None = None, **values):
        fields = {
            "barrier": 0,
            **PLAIN,
            "slot_base": 0,
            "parameter_base": 0,
            "tile_base": 0,
            "row_begin": 0,
            "pad": 0,
            "zero": 0,
            "low": -128,
            "high": 127,
        }
        self.instructions.append(
            {"prefix": prefix(Opcode.EXECUTE, **(tokens or {})), **fields, **values}
        )

    def store(self, destination: int, *, place: dict, window: dict, **tokens):
        self.instructions.append(
            {
                "prefix": prefix(Opcode.STORE, **tokens),
                "destination": destination,
                "place": place,
                "window": window,
            }
        )

    def store_tensor(self, placement: Placement, *, channels: int) -> Region:
        """Store a tensor when a token has come from EXECUTE."""
        height, width = placement.height, placement.width
        size = height * width * self.config.lanes
        begin = self.add_data(bytes(size * placement.groups))
        for group in range(placement.groups):
            self.store(
                begin + group * size,
                place=placement.fields(group),
                window={"row_begin": 0, "rows": height, "width": width},
                wait_previous=group == 0,
            )
        return Region("output", channels, height, width, begin, placement.groups, self.config.lanes)

    def program(self, input: Region, output: Region, layers=()) -> MachineProgram:
        instructions = [*self.instructions, {"prefix": prefix(Opcode.END)}]
        code = b"".join(map(encode_instruction, instructions))
        assert len(code) <= DATA_OFFSET
        image = code + bytes(DATA_OFFSET - len(code)) + bytes(self.data)
        return MachineProgram(self.config, image, input, output, tuple(layers))


def place_tensor(config, shape, *, base, stride=1, log2_bank_columns=1) -> Placement:
    channels, height, width = shape
    return Placement(
        groups=-(-channels // config.lanes),
        height=height,
        width=width,
        columns=config.columns,
        log2_stride=stride.bit_length() - 1,
        log2_bank_columns=log2_bank_columns,
        base=base,
    )


def block_slots(matrix: np.ndarray, *, diagonal: bool) -> tuple[np.ndarray, np.ndarray]:
    """Weights and indices [n, lanes] of a block of weights [lanes, channels]."""
    lanes = len(matrix)
    if diagonal:
        return matrix[:, 0][None], np.zeros((1, lanes), int)
    kept = [np.flatnonzero(row) for row in matrix]
    count = max(1, *map(len, kept))
    weight, index = np.zeros((count, lanes), int), np.zeros((count, lanes), int)
    for lane, channels in enumerate(kept):
        index[: len(channels), lane] = channels
        weight[: len(channels), lane] = matrix[lane, channels]
    return weight, index


def compile_tile(planes: list[Plane], *, tile: int, lanes: int) -> SlotStream:
    """Slots of output channels ``tile * lanes`` and on."""
    columns = {name: [] for name in SlotStream.__dataclass_fields__}
    for plane in planes:
        place = plane.placement
        rows = plane.weight[tile * lanes : (tile + 1) * lanes]
        groups = [tile] if plane.diagonal else range(place.groups)
        for group in groups:
            for ky, kx in np.ndindex(plane.weight.shape[2:]):
                taps = rows[:, :, ky, kx]
                taps = taps if plane.diagonal else taps[:, group * lanes : (group + 1) * lanes]
                matrix = np.zeros((lanes, lanes), int)
                matrix[: taps.shape[0], : taps.shape[1]] = taps
                weight, index = block_slots(matrix, diagonal=plane.diagonal)
                dy, phase_row = divmod(ky * plane.dilation[0] - plane.padding[0], place.stride)
                dx, phase_column = divmod(kx * plane.dilation[1] - plane.padding[1], place.stride)
                offset = place.plane_offset(group, phase_row, phase_column)
                offset += dy // place.bank_rows * place.pitch + dx // place.bank_columns
                short_row = plane_size(place.height - phase_row, place.stride) < place.plane_height
                short_column = (
                    plane_size(place.width - phase_column, place.stride) < place.plane_width
                )
                control = {
                    "diagonal": plane.diagonal,
                    "short_row": short_row,
                    "short_column": short_column,
                    "offset": offset % (1 << OFFSET_BITS),
                    "dy": dy,
                    "dx": dx,
                }
                for name, value in control.items():
                    columns[name] += [value] * len(weight)
                columns["new_block"] += [True] + [False] * (len(weight) - 1)
                columns["weight"] += [*weight]
                columns["index"] += [*index]
    return SlotStream(**{name: np.array(values) for name, values in columns.items()})


def random_parameters(
    rng: np.random.Generator, channels: int, *, post_shift: int = 22
) -> dict[str, np.ndarray]:
    return {
        "bias": rng.integers(-3000, 3000, channels),
        "multiplier": rng.integers(1 << 15, 1 << 17, channels),
        "pre_shift": rng.integers(0, 3, channels),
        "post_shift": rng.integers(post_shift - 1, post_shift + 2, channels),
    }


def naive_layer(planes, parameters, *, out_shape, pad, zero, low, high, maximum=False):
    """Loop over outputs; every product is an exact Python integer."""
    result = np.zeros(out_shape, np.int8)
    for o, y, x in np.ndindex(out_shape):
        products = []
        for plane in planes:
            stride, (_, height, width) = plane.placement.stride, plane.tensor.shape
            for i, ky, kx in np.ndindex(plane.weight.shape[1:]):
                row = y * stride + ky * plane.dilation[0] - plane.padding[0]
                column = x * stride + kx * plane.dilation[1] - plane.padding[1]
                inside = 0 <= row < height and 0 <= column < width
                channel = o if plane.diagonal else i
                pixel = int(plane.tensor[channel, row, column]) if inside else pad
                products.append(pixel * int(plane.weight[o, i, ky, kx]))
        total = np.int64(max(products) if maximum else sum(products))
        channel = {name: values[o] for name, values in parameters.items()}
        result[o, y, x] = requantize(total, **channel, zero=zero, low=low, high=high)
    return result


def first_mismatch(actual, expected):
    where = np.argwhere(actual != expected)
    if not len(where):
        return None
    at = tuple(map(int, where[0]))
    return f"at {at}: {actual[at]}, must be {expected[at]} ({len(where)} of {actual.size})"


def sparse_weight(rng, shape, *, keep=0.3, limit=128):
    kept = rng.random(shape) < keep
    return rng.integers(1, limit, shape) * rng.choice([-1, 1], shape) * kept


@dataclass(frozen=True)
class Case:
    """A layer; `sources` are inputs, kernel, stride, padding, dilation, and whether diagonal."""

    sources: tuple[dict, ...]
    height: int
    width: int
    outputs: int
    out_height: int
    out_width: int
    lanes: int = 8
    columns: int = 4
    log2_bank_columns: int = 1
    maximum: bool = False
    out_stride: int = 1
    strip_tile_rows: int = 1000
    post_shift: int = 22


CASES = {
    "sparse_3x3_padded": Case(({"inputs": 3, "kernel": (3, 3), "padding": (1, 1)},), 6, 7, 8, 6, 7),
    "several_groups": Case(
        ({"inputs": 40, "kernel": (3, 3), "padding": (1, 1)},), 5, 6, 24, 5, 6, lanes=16
    ),
    "partial_output_tile": Case(({"inputs": 11, "kernel": (1, 1)},), 4, 4, 13, 4, 4),
    "unpadded_5x3": Case(({"inputs": 8, "kernel": (5, 3)},), 9, 8, 8, 5, 6, log2_bank_columns=2),
    "dilated": Case(
        ({"inputs": 8, "kernel": (3, 3), "padding": (3, 2), "dilation": (3, 2)},), 8, 9, 8, 8, 9
    ),
    "wide_kernel_crosses_banks": Case(
        ({"inputs": 4, "kernel": (7, 7), "padding": (3, 3)},), 9, 9, 8, 9, 9, columns=8
    ),
    "stride_2_odd": Case(
        ({"inputs": 8, "kernel": (3, 3), "padding": (1, 1), "stride": 2},), 9, 7, 8, 5, 4
    ),
    "stride_2_even_output_in_phases": Case(
        ({"inputs": 8, "kernel": (2, 2), "stride": 2},), 10, 12, 16, 5, 6, out_stride=2
    ),
    "stride_4": Case(
        ({"inputs": 3, "kernel": (5, 5), "padding": (2, 2), "stride": 4},), 13, 14, 8, 4, 4
    ),
    "depthwise": Case(
        ({"inputs": 16, "kernel": (3, 3), "padding": (1, 1), "diagonal": True},),
        7,
        5,
        16,
        7,
        5,
        post_shift=25,
    ),
    "depthwise_stride_2_16_columns": Case(
        (
            {
                "inputs": 16,
                "kernel": (3, 3),
                "padding": (1, 1),
                "stride": 2,
                "diagonal": True,
            },
        ),
        11,
        13,
        16,
        6,
        7,
        lanes=16,
        columns=16,
        log2_bank_columns=2,
        post_shift=25,
    ),
    "max_pool": Case(
        ({"inputs": 8, "kernel": (3, 3), "padding": (1, 1), "stride": 2, "diagonal": True},),
        7,
        7,
        8,
        4,
        4,
        maximum=True,
        post_shift=27,
    ),
    "max_of_channels": Case(
        ({"inputs": 8, "kernel": (2, 2), "stride": 2},), 6, 6, 16, 3, 3, maximum=True
    ),
    "residual_and_projection": Case(
        (
            {"inputs": 8, "kernel": (3, 3), "padding": (1, 1)},
            {"inputs": 8, "kernel": (1, 1), "diagonal": True},
            {"inputs": 16, "kernel": (1, 1)},
        ),
        5,
        5,
        8,
        5,
        5,
    ),
    "one_row_of_banks": Case(
        ({"inputs": 8, "kernel": (3, 3), "padding": (1, 1)},), 4, 9, 8, 4, 9, log2_bank_columns=2
    ),
    "strips": Case(
        ({"inputs": 8, "kernel": (3, 3), "padding": (1, 1)},), 11, 5, 16, 11, 5, strip_tile_rows=2
    ),
    "one_column_of_banks": Case(
        ({"inputs": 8, "kernel": (3, 3), "padding": (1, 1)},), 9, 4, 8, 9, 4, log2_bank_columns=0
    ),
}


def assemble_case(case: Case, *, rng: np.random.Generator):
    """The program of a case, its first source, and the naive result."""
    config = AcceleratorConfig(
        lanes=case.lanes, columns=case.columns, lane_group=4, parameter_depth=64, bus_bits=64
    )
    assembler = Assembler(config)
    planes, base = [], 0
    for source in case.sources:
        shape = (source["inputs"], case.height, case.width)
        diagonal = source.get("diagonal", False)
        limit = 2048 if diagonal else 128
        kernel_inputs = 1 if diagonal else source["inputs"]
        weight_shape = (case.outputs, kernel_inputs, *source["kernel"])
        keep = 1.0 if diagonal else 0.3
        weight = sparse_weight(rng, weight_shape, keep=keep, limit=limit)
        if case.maximum:
            # With one positive weight a lane the largest channel's product is the largest product.
            weight = np.broadcast_to(np.abs(weight[:, :1, :1, :1]) + 1, weight_shape)
        placement = place_tensor(
            config,
            shape,
            base=base,
            stride=source.get("stride", 1),
            log2_bank_columns=case.log2_bank_columns,
        )
        planes.append(
            Plane(
                tensor=rng.integers(-128, 128, shape).astype(np.int8),
                placement=placement,
                weight=weight,
                padding=source.get("padding", (0, 0)),
                dilation=source.get("dilation", (1, 1)),
                diagonal=diagonal,
            )
        )
        base += placement.words
    regions = [assembler.load_tensor(plane.tensor, plane.placement) for plane in planes]
    out_shape = (case.outputs, case.out_height, case.out_width)
    out_placement = place_tensor(
        config,
        out_shape,
        base=base,
        stride=case.out_stride,
        log2_bank_columns=case.log2_bank_columns,
    )
    padded_outputs = out_placement.groups * config.lanes
    parameters = random_parameters(rng, padded_outputs, post_shift=case.post_shift)
    clamp = {"pad": int(rng.integers(-128, 128)), "zero": -9, "low": -100, "high": 90}
    assembler.load_parameters(parameters)
    streams = [
        compile_tile(planes, tile=tile, lanes=config.lanes) for tile in range(out_placement.groups)
    ]
    grid = planes[0].placement
    tile_rows = -(-case.out_height // grid.bank_rows)
    strips = range(0, tile_rows, case.strip_tile_rows)
    slot_base = 0
    for tile, stream in enumerate(streams):
        assembler.load_slots(stream, base=slot_base, signal_next=True)
        for strip in strips:
            last = tile == len(streams) - 1 and strip == strips[-1]
            assembler.execute(
                tokens={"wait_previous": strip == 0, "signal_next": last},
                maximum=int(case.maximum),
                slot_base=slot_base,
                slot_count=len(stream),
                parameter_base=tile * config.lanes,
                tile_base=strip * grid.pitch,
                tile_rows=min(case.strip_tile_rows, tile_rows - strip),
                tile_columns=-(-case.out_width // grid.bank_columns),
                row_begin=strip * grid.bank_rows,
                pitch=grid.pitch,
                log2_bank_columns=grid.log2_bank_columns,
                input_height=grid.plane_height,
                input_width=grid.plane_width,
                output_height=case.out_height,
                output_width=case.out_width,
                output=out_placement.fields(tile),
                **clamp,
            )
        slot_base += len(stream)
    output = assembler.store_tensor(out_placement, channels=case.outputs)
    record = LayerRecord(
        name="layer",
        mark=0,
        executes=tuple(range(out_placement.groups * len(strips))),
        channels=case.outputs,
        placement=out_placement,
        slots=0,
    )
    program = assembler.program(regions[0], output, [record])
    expected = naive_layer(planes, parameters, out_shape=out_shape, maximum=case.maximum, **clamp)
    return program, planes[0].tensor, expected


@pytest.mark.parametrize("name", CASES)
def test_computes_the_naive_layer(name):
    program, tensor, expected = assemble_case(CASES[name], rng=np.random.default_rng(1))
    for eager in PREFERENCES:
        result = run(program, tensor, eager=eager, seed=2)
        assert first_mismatch(result.output, expected) is None
        assert first_mismatch(result.layers["layer"], expected) is None
    assert len(np.unique(expected)) > 20, "the case must not clamp everything"


SMALL = AcceleratorConfig(
    lanes=8, columns=4, activation_depth=64, slot_depth=64, parameter_depth=32, queue_depth=2
)


def neutral_parameters(config: AcceleratorConfig, **changes) -> dict[str, np.ndarray]:
    values = {"bias": 0, "multiplier": 1 << 16, "pre_shift": 0, "post_shift": 16, **changes}
    return {name: np.full(config.lanes, value) for name, value in values.items()}


def pointwise_fields(placement: Placement, output: dict, *, slot_count: int) -> dict:
    """EXECUTE of a 1x1 convolution that keeps the image's size."""
    return {
        "slot_count": slot_count,
        "tile_rows": -(-placement.height // placement.bank_rows),
        "tile_columns": placement.pitch,
        "pitch": placement.pitch,
        "log2_bank_columns": placement.log2_bank_columns,
        "input_height": placement.height,
        "input_width": placement.width,
        "output_height": placement.height,
        "output_width": placement.width,
        "output": output,
    }


def two_pass_assembler() -> tuple[Assembler, Region, Region, np.ndarray, np.ndarray]:
    """Two 1x1 convolutions of one tensor that share slot memory and output words.

    Each of the four token counters is needed. Returns regions, tensor and result as well.
    """
    rng = np.random.default_rng(3)
    tensor = rng.integers(-128, 128, (8, 5, 6)).astype(np.int8)
    placement = place_tensor(SMALL, tensor.shape, base=0)
    out_placement = place_tensor(SMALL, tensor.shape, base=placement.words)
    weight = rng.integers(-128, 128, (16, 8, 1, 1))
    assembler = Assembler(SMALL)
    output_offset = assembler.add_data(bytes(2 * 5 * 6 * 8))
    streams = [
        compile_tile([Plane(tensor, placement, weight)], tile=tile, lanes=8) for tile in (0, 1)
    ]
    parameters = neutral_parameters(SMALL, post_shift=24)
    window = {"row_begin": 0, "rows": 5, "width": 6}

    region = assembler.load_tensor(tensor, placement)
    assembler.load_parameters(parameters)
    assembler.load_slots(streams[0], signal_next=True)
    values = pointwise_fields(placement, out_placement.fields(0), slot_count=len(streams[0]))
    assembler.execute(
        tokens={"wait_previous": True, "signal_previous": True, "signal_next": True}, **values
    )
    assembler.store(
        output_offset,
        place=out_placement.fields(0),
        window=window,
        wait_previous=True,
        signal_previous=True,
    )
    assembler.load_slots(streams[1], wait_next=True, signal_next=True)
    values = pointwise_fields(placement, out_placement.fields(0), slot_count=len(streams[1]))
    assembler.execute(
        tokens={"wait_previous": True, "wait_next": True, "signal_next": True}, **values
    )
    assembler.store(
        output_offset + 5 * 6 * 8,
        place=out_placement.fields(0),
        window=window,
        wait_previous=True,
    )
    both = {name: np.tile(value, 2) for name, value in parameters.items()}
    expected = naive_layer(
        [Plane(tensor, placement, weight)],
        both,
        out_shape=(16, 5, 6),
        pad=0,
        zero=0,
        low=-128,
        high=127,
    )
    return assembler, region, Region("output", 16, 5, 6, output_offset, 2, 8), tensor, expected


def nth(assembler: Assembler, opcode: Opcode, index: int) -> dict:
    """The index-th instruction with an opcode."""
    return [i for i in assembler.instructions if i["prefix"]["opcode"] == opcode][index]


@pytest.mark.parametrize("eager", PREFERENCES)
def test_gives_the_same_result_in_every_legal_order(eager):
    assembler, region, output, tensor, expected = two_pass_assembler()
    result = run(assembler.program(region, output), tensor, eager=eager)
    assert first_mismatch(result.output, expected) is None
    assert result.instructions == len(assembler.instructions) + 1


TOKENS = {
    "slots_loaded": ((Opcode.LOAD, 2, "signal_next"), (Opcode.EXECUTE, 0, "wait_previous")),
    "slots_read": ((Opcode.EXECUTE, 0, "signal_previous"), (Opcode.LOAD, 3, "wait_next")),
    "outputs_written": ((Opcode.EXECUTE, 0, "signal_next"), (Opcode.STORE, 0, "wait_previous")),
    "outputs_stored": ((Opcode.STORE, 0, "signal_previous"), (Opcode.EXECUTE, 1, "wait_next")),
    "slots_loaded_again": ((Opcode.LOAD, 3, "signal_next"), (Opcode.EXECUTE, 1, "wait_previous")),
    "outputs_written_again": (
        (Opcode.EXECUTE, 1, "signal_next"),
        (Opcode.STORE, 1, "wait_previous"),
    ),
}


def is_right(program: MachineProgram, tensor, expected, *, eager: str) -> bool:
    """Whether the result is right; slots that were never loaded may also stop the machine."""
    try:
        return np.array_equal(run(program, tensor, eager=eager).output, expected)
    except MachineError:
        return False


@pytest.mark.parametrize("name", TOKENS)
def test_a_missing_token_goes_wrong_in_some_order(name):
    assembler, region, output, tensor, expected = two_pass_assembler()
    for opcode, index, token in TOKENS[name]:
        assert nth(assembler, opcode, index)["prefix"][token] == 1
        nth(assembler, opcode, index)["prefix"][token] = 0
    program = assembler.program(region, output)
    assert not all(is_right(program, tensor, expected, eager=eager) for eager in PREFERENCES)


@pytest.mark.parametrize("name", TOKENS)
def test_a_token_that_nobody_sends_is_a_deadlock(name):
    assembler, region, output, tensor, _ = two_pass_assembler()
    opcode, index, token = TOKENS[name][0]
    nth(assembler, opcode, index)["prefix"][token] = 0
    for eager in PREFERENCES:
        with pytest.raises(MachineError, match=r"DEADLOCK: .*must get tokens") as error:
            run(assembler.program(region, output), tensor, eager=eager)
        assert error.value.code == ErrorCode.DEADLOCK


def test_a_full_queue_in_front_of_the_sender_is_a_deadlock():
    assembler, region, output, tensor, _ = two_pass_assembler()
    waiting = {**nth(assembler, Opcode.LOAD, 3)}
    waiting["prefix"] = prefix(Opcode.LOAD, wait_next=True)
    for _ in range(SMALL.queue_depth + 1):
        assembler.instructions.insert(1, waiting)
    with pytest.raises(MachineError, match="DEADLOCK"):
        run(assembler.program(region, output), tensor)


ADDRESS_ERRORS = [
    (Opcode.LOAD, 0, "source", DATA_OFFSET + 4, "DRAM offset must be a multiple of 8"),
    (Opcode.LOAD, 0, "source", 1 << 20, "DRAM bytes .* must be below"),
    (Opcode.LOAD, 0, "pixel_bytes", 0, "pixel_bytes must be in 1..8, not 0"),
    (Opcode.LOAD, 0, "pixel_bytes", 9, "pixel_bytes must be in 1..8, not 9"),
    (Opcode.LOAD, 0, "window.rows", 0, "a window must have pixels"),
    (Opcode.LOAD, 0, "window.row_begin", 100, "activation address must be below 64"),
    (Opcode.LOAD, 0, "place.log2_bank_columns", 3, "bank columns must be at most 4, not 8"),
    (Opcode.LOAD, 0, "place.log2_stride", 3, "a place's stride must be 1, 2 or 4, not 8"),
    (Opcode.LOAD, 1, "place.base", 25, "LOAD must end at 32, not at 33"),
    (Opcode.LOAD, 1, "count", 33, "LOAD must end at 32, not at 33"),
    (Opcode.LOAD, 2, "place.base", 64, "LOAD must end at 64"),
    (Opcode.LOAD, 2, "source", 1 << 20, "DRAM bytes"),
    (Opcode.EXECUTE, 0, "slot_count", 0, "slot_count must be at least 1, not 0"),
    (Opcode.EXECUTE, 0, "tile_rows", 0, "tile_rows must be at least 1, not 0"),
    (Opcode.EXECUTE, 0, "tile_columns", 0, "tile_columns must be at least 1, not 0"),
    (Opcode.EXECUTE, 0, "slot_base", 63, "slot address must be below 64"),
    (Opcode.EXECUTE, 0, "parameter_base", 25, "parameter address must be below 32, not 32"),
    (Opcode.EXECUTE, 0, "log2_bank_columns", 3, "bank columns must be at most 4, not 8"),
    (Opcode.EXECUTE, 0, "tile_base", 60, "activation address must be below 64, not 6"),
    (Opcode.EXECUTE, 0, "output.base", 60, "activation address must be below 64"),
    (Opcode.EXECUTE, 0, "output.log2_bank_columns", 3, "bank columns must be at most 4"),
    (Opcode.EXECUTE, 0, "output.log2_stride", 3, "a place's stride must be 1, 2 or 4, not 8"),
    (Opcode.STORE, 0, "destination", DATA_OFFSET + 4, "DRAM offset must be a multiple of 8"),
    (Opcode.STORE, 0, "destination", 1 << 20, "DRAM bytes"),
    (Opcode.STORE, 0, "window.width", 0, "a window must have pixels"),
    (Opcode.STORE, 0, "place.base", 60, "activation address must be below 64"),
]


@pytest.mark.parametrize(("opcode", "index", "path", "value", "message"), ADDRESS_ERRORS)
def test_stops_at_an_address_outside(opcode, index, path, value, message):
    assembler, region, output, tensor, _ = two_pass_assembler()
    *parents, name = path.split(".")
    values = copy.deepcopy(nth(assembler, opcode, index))
    assembler.instructions[assembler.instructions.index(nth(assembler, opcode, index))] = values
    for parent in parents:
        values = values[parent]
    values[name] = value
    with pytest.raises(MachineError, match=f"ADDRESS: .*{message}") as error:
        run(assembler.program(region, output), tensor)
    assert error.value.code == ErrorCode.ADDRESS


@pytest.mark.parametrize("name", ["version", "geometry_hash"])
def test_stops_at_a_header_of_another_machine(name):
    assembler, region, output, tensor, _ = two_pass_assembler()
    assembler.instructions[0][name] += 1
    with pytest.raises(MachineError, match=f"GEOMETRY: {name} must be") as error:
        run(assembler.program(region, output), tensor)
    assert error.value.code == ErrorCode.GEOMETRY


def with_image(program: MachineProgram, offset: int, content: bytes) -> MachineProgram:
    image = program.image[:offset] + content + program.image[offset + len(content) :]
    return MachineProgram(program.config, image, program.input, program.output, program.layers)


@pytest.mark.parametrize("first", [bytes(INSTRUCTION_BYTES), b"\x05" + bytes(31)])
def test_stops_where_the_header_is_missing(first):
    assembler, region, output, tensor, _ = two_pass_assembler()
    program = with_image(assembler.program(region, output), 0, first)
    with pytest.raises(MachineError, match="HEADER must come first") as error:
        run(program, tensor)
    assert error.value.code == ErrorCode.GEOMETRY


def test_stops_at_an_unknown_opcode():
    assembler, region, output, tensor, _ = two_pass_assembler()
    program = with_image(assembler.program(region, output), 3 * INSTRUCTION_BYTES, b"\x0f")
    with pytest.raises(MachineError, match=r"at 96: opcode must be one of .*, not 15") as error:
        run(program, tensor)
    assert error.value.code == ErrorCode.BAD_OPCODE


def test_stops_where_the_image_ends_before_end():
    header = encode_instruction(Assembler(SMALL).instructions[0])
    nothing = Region("nothing", 1, 0, 0, 0, 1, 1)
    program = MachineProgram(SMALL, header, nothing, nothing, ())
    with pytest.raises(MachineError, match="instruction at 32 must be within") as error:
        run(program, np.zeros((1, 0, 0), np.int8))
    assert error.value.code == ErrorCode.ADDRESS


def test_refuses_an_unknown_order():
    assembler, region, output, tensor, _ = two_pass_assembler()
    with pytest.raises(ValueError, match=r"eager must be one of .*, not 'lazy'"):
        run(assembler.program(region, output), tensor, eager="lazy")


def test_an_empty_load_only_carries_tokens():
    assembler, region, output, tensor, expected = two_pass_assembler()
    execute = nth(assembler, Opcode.EXECUTE, 0)
    nth(assembler, Opcode.LOAD, 2)["prefix"]["signal_next"] = 0
    assembler.load_chunks(LoadKind.SLOTS, b"", base=0, count=0, signal_next=True)
    at = assembler.instructions.index(execute)
    assembler.instructions.insert(at, assembler.instructions.pop())
    result = run(assembler.program(region, output), tensor, eager="execute")
    assert np.array_equal(result.output, expected)


def chained_program(*, barrier: int):
    """Two identity layers, the second of which reads what the first wrote."""
    tensor = np.random.default_rng(4).integers(-128, 128, (8, 4, 4)).astype(np.int8)
    first = place_tensor(SMALL, tensor.shape, base=0)
    second = place_tensor(SMALL, tensor.shape, base=first.words)
    third = place_tensor(SMALL, tensor.shape, base=first.words + second.words)
    ones = np.ones((8, 1, 1, 1), int)
    assembler = Assembler(SMALL)
    region = assembler.load_tensor(tensor, first)
    assembler.load_parameters(neutral_parameters(SMALL))
    for base, place in enumerate((first, second)):
        plane = Plane(tensor, place, ones, diagonal=True)
        stream = compile_tile([plane], tile=0, lanes=8)
        assembler.load_slots(stream, base=base, signal_next=base == 1)
    assembler.execute(
        tokens={"wait_previous": True}, **pointwise_fields(first, second.fields(0), slot_count=1)
    )
    assembler.execute(
        tokens={"signal_next": True},
        **pointwise_fields(second, third.fields(0), slot_count=1) | {"slot_base": 1},
        barrier=barrier,
    )
    output = assembler.store_tensor(third, channels=8)
    return assembler.program(region, output), tensor


def test_a_barrier_makes_the_last_results_readable():
    program, tensor = chained_program(barrier=1)
    assert np.array_equal(run(program, tensor).output, tensor)


def test_a_missing_barrier_gives_a_wrong_result():
    program, tensor = chained_program(barrier=0)
    assert not np.array_equal(run(program, tensor).output, tensor)


def test_loads_back_what_it_stored():
    """DRAM is one memory: a tensor stored in words and loaded as 4-byte pixels."""
    tensor = np.random.default_rng(5).integers(-128, 128, (8, 2, 4)).astype(np.int8)
    first = place_tensor(SMALL, tensor.shape, base=0)
    second = place_tensor(SMALL, (8, 4, 4), base=first.words)
    assembler = Assembler(SMALL)
    region = assembler.load_tensor(tensor, first)
    nth(assembler, Opcode.LOAD, 0)["prefix"]["signal_next"] = 1
    assembler.load_parameters(neutral_parameters(SMALL))
    # EXECUTE only passes the tokens on; its result is not stored.
    assembler.execute(
        tokens={"wait_previous": True, "signal_next": True},
        **pointwise_fields(first, second.fields(0) | {"base": 40}, slot_count=1),
    )
    middle = assembler.store_tensor(first, channels=8)
    nth(assembler, Opcode.STORE, 0)["prefix"]["signal_previous"] = 1
    assembler.execute(
        tokens={"wait_next": True, "signal_previous": True},
        **pointwise_fields(first, second.fields(0) | {"base": 40}, slot_count=1),
    )
    assembler.load_pixels(
        middle.offset,
        place=second.fields(0),
        window={"row_begin": 0, "rows": 4, "width": 4},
        pixel_bytes=4,
        wait_next=True,
        signal_next=True,
    )
    assembler.execute(
        tokens={"wait_previous": True, "signal_next": True},
        **pointwise_fields(first, second.fields(0) | {"base": 40}, slot_count=1),
    )
    output = assembler.store_tensor(second, channels=8)
    for eager in PREFERENCES:
        result = run(assembler.program(region, output), tensor, eager=eager)
        expected = np.zeros((4, 4, 8), np.int8)
        expected[..., :4] = tensor.transpose(1, 2, 0).reshape(4, 4, 4)
        assert np.array_equal(result.output, expected.transpose(2, 0, 1))


def random_stream(rng, *, slots: int, lanes: int, offsets: int) -> SlotStream:
    """Any slots: blocks of any length, diagonal and sparse ones mixed, channels read twice."""
    new_block = rng.random(slots) < 0.1
    new_block[0] = True
    diagonal = rng.random(slots) < 0.3
    narrow = rng.integers(-128, 128, (slots, lanes))
    wide = rng.integers(-2048, 2048, (slots, lanes))
    return SlotStream(
        weight=np.where(diagonal[:, None], wide, narrow),
        index=rng.integers(0, lanes, (slots, lanes)),
        new_block=new_block,
        diagonal=diagonal,
        short_row=rng.random(slots) < 0.5,
        short_column=rng.random(slots) < 0.5,
        offset=rng.integers(0, offsets, slots),
        dy=rng.integers(-8, 8, slots),
        dx=rng.integers(-8, 8, slots),
    )


def naive_execute(banks, stream, values, parameters, *, config):
    """The machine's definition, one slot, lane and column at a time."""
    bank_columns = 1 << values["log2_bank_columns"]
    bank_rows = config.columns // bank_columns
    result = np.zeros((config.lanes, values["output_height"], values["output_width"]), np.int8)
    wrap = 1 << config.accumulator_bits
    for i, j, r, c in np.ndindex(
        values["tile_rows"], values["tile_columns"], bank_rows, bank_columns
    ):
        y, x = i * bank_rows + r, j * bank_columns + c
        accumulators, largest = [0] * config.lanes, [-129] * config.lanes
        for slot in range(len(stream)):
            if stream.new_block[slot]:
                dy, dx = int(stream.dy[slot]), int(stream.dx[slot])
                row, column = (r + dy) % bank_rows, (c + dx) % bank_columns
                address = values["tile_base"] + i * values["pitch"] + j + int(stream.offset[slot])
                address += (row < dy % bank_rows) * values["pitch"] + (column < dx % bank_columns)
                inside = (
                    0 <= y + dy < values["input_height"] - stream.short_row[slot]
                    and 0 <= x + dx < values["input_width"] - stream.short_column[slot]
                )
                word = [values["pad"]] * config.lanes
                if inside:
                    word = banks[row * bank_columns + column, address % 4096]
            for lane in range(config.lanes):
                channel = lane if stream.diagonal[slot] else stream.index[slot, lane]
                value = int(stream.weight[slot, lane]) * int(word[channel])
                if not values["maximum"]:
                    total = accumulators[lane] + value
                    accumulators[lane] = (total + wrap // 2) % wrap - wrap // 2
                elif word[channel] > largest[lane]:
                    accumulators[lane], largest[lane] = value, int(word[channel])
        if y < values["output_height"] and x < values["output_width"]:
            for lane in range(config.lanes):
                result[lane, y, x] = requantize(
                    np.int64(accumulators[lane]),
                    **{name: value[lane] for name, value in parameters.items()},
                    **{name: values[name] for name in ("zero", "low", "high")},
                )
    return result


@pytest.mark.parametrize("maximum", [0, 1])
@pytest.mark.parametrize("log2_bank_columns", [0, 1, 2])
def test_follows_its_definition_slot_by_slot(log2_bank_columns, maximum):
    """Random slots over random memory: any block length, addresses that wrap, sums that wrap."""
    config = AcceleratorConfig(
        lanes=8, columns=4, activation_depth=4096, accumulator_bits=24, parameter_depth=32
    )
    rng = np.random.default_rng(6 + log2_bank_columns)
    banks = rng.integers(-128, 128, (4, 4096, 8)).astype(np.int8)
    stream = random_stream(rng, slots=180, lanes=8, offsets=4096)
    # Positive products in lanes 0 to 3 leave 24 bits.
    stream.weight[:, :4] = np.where(stream.diagonal[:, None], 2047, 127)
    banks[..., :4] = 127
    stream.index[:, :4] %= 4
    parameters = random_parameters(rng, 8, post_shift=26)
    values = {
        "slot_count": len(stream),
        "tile_base": 4000,
        "tile_rows": (2, 4, 8)[log2_bank_columns],
        "tile_columns": (4, 2, 1)[log2_bank_columns],
        "pitch": 5,
        "log2_bank_columns": log2_bank_columns,
        "input_height": 7,
        "input_width": 6,
        "output_height": 6,
        "output_width": 3,
        "pad": 77,
        "zero": 1,
        "low": -120,
        "high": 127,
        "maximum": maximum,
    }
    assembler = Assembler(config)
    out_placement = place_tensor(config, (8, 6, 3), base=0, log2_bank_columns=log2_bank_columns)
    # In a grid of one bank row, raster order is address by address, bank by bank.
    offset = assembler.add_data(banks.transpose(1, 0, 2).tobytes())
    for address in range(0, 4096, 1024):
        assembler.load_pixels(
            offset + address * 32,
            place={**NO_PLACE, "base": address, "pitch": 1, "log2_bank_columns": 2},
            window={"row_begin": 0, "rows": 1024, "width": 4},
            pixel_bytes=8,
        )
    assembler.load_parameters(parameters)
    assembler.load_slots(stream, signal_next=True)
    assembler.execute(
        tokens={"wait_previous": True, "signal_next": True},
        **values,
        output=out_placement.fields(0),
    )
    output = assembler.store_tensor(out_placement, channels=8)
    region = Region("input", 8, 4096, 4, offset, 1, 8)
    result = run(assembler.program(region, output), banks.transpose(2, 1, 0).copy())
    expected = naive_execute(banks, stream, values, parameters, config=config)
    assert first_mismatch(result.output, expected) is None
    assert len(np.unique(expected)) > 9, "the case must not clamp everything"


def test_reports_drained_words_tile_by_tile():
    program, tensor, _ = assemble_case(CASES["strips"], rng=np.random.default_rng(1))
    drained = run(program, tensor).drained
    # Tiles of 2 x 2 pixels over 11 x 5: a whole tile takes every bank once, in order.
    assert drained.bank[:8].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert drained.bank[8:10].tolist() == [0, 2]
    assert len(drained.bank) == 2 * 11 * 5


def test_masked_pixels_may_have_any_address():
    tensor = np.full((8, 2, 2), 5, np.int8)
    place = place_tensor(SMALL, tensor.shape, base=0)
    plane = Plane(tensor, place, np.ones((8, 1, 1, 1), int), diagonal=True)
    stream = compile_tile([plane], tile=0, lanes=8)
    stream.dy[:], stream.offset[:] = 2, 4000
    assembler = Assembler(SMALL)
    region = assembler.load_tensor(tensor, place)
    assembler.load_parameters(neutral_parameters(SMALL))
    assembler.load_slots(stream, signal_next=True)
    out_placement = place_tensor(SMALL, tensor.shape, base=1)
    assembler.execute(
        tokens={"wait_previous": True, "signal_next": True},
        **pointwise_fields(place, out_placement.fields(0), slot_count=1) | {"pad": -3},
    )
    output = assembler.store_tensor(out_placement, channels=8)
    assert (run(assembler.program(region, output), tensor).output == -3).all()
