"""What a compiled program is to whoever runs it: a memory image, and where things lie in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .config import AcceleratorConfig
from .instructions import INSTRUCTION_BYTES, RAW_WORDS, Opcode, decode_instruction
from .planes import Placement, locate
from .work import written_words


@dataclass(frozen=True)
class Region:
    """A tensor in the memory image: int8, ``[group][row][column][pixel_bytes]``.

    Where there is one group, `pixel_bytes` may be less than a word: the channels alone. Behind
    every group come `padding_bytes`, so that the next one begins at a multiple of the bus width.
    Where it is `raw`, the values are int32, and every `RAW_WORDS` groups hold the bytes of one
    group of channels, the lowest first.

    Where `phases` is above 1, a pixel of the region holds a square of so many pixels a side, and
    its channels are ordered by row, column and channel of them; `fill` stands for those beyond the
    image.
    """

    name: str
    channels: int
    height: int
    width: int
    offset: int
    groups: int
    pixel_bytes: int
    padding_bytes: int = 0
    raw: bool = False
    phases: int = 1
    fill: int = 0

    @property
    def rows(self) -> int:
        """Rows of pixels in the region."""
        return -(-self.height // self.phases)

    @property
    def columns(self) -> int:
        """Pixels in a row of the region."""
        return -(-self.width // self.phases)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of one group."""
        return self.columns * self.pixel_bytes

    @property
    def group_bytes(self) -> int:
        """Bytes from one channel group to the next."""
        return self.rows * self.row_bytes + self.padding_bytes

    @property
    def size_bytes(self) -> int:
        """Bytes of the region."""
        return self.groups * self.group_bytes

    def pack(self, tensor: np.ndarray) -> bytes:
        """Bytes of an int8 array [channels, height, width].

        Raises
        ------
        ValueError
            Another shape or dtype.
        """
        shape = (self.channels, self.height, self.width)
        if tensor.shape != shape or tensor.dtype != np.int8:
            raise ValueError(
                f"{self.name} must be an int8 array of shape {shape}, "
                f"not {tensor.dtype} of shape {tensor.shape}"
            )
        folded = self._fold_phases(tensor)
        padded = np.zeros((self.groups * self.pixel_bytes, *folded.shape[1:]), np.int8)
        padded[: len(folded)] = folded
        grouped = padded.reshape(self.groups, self.pixel_bytes, *folded.shape[1:])
        pixels = grouped.transpose(0, 2, 3, 1).reshape(self.groups, -1)
        return np.pad(pixels, ((0, 0), (0, self.padding_bytes))).tobytes()

    def unpack(self, image: bytes) -> np.ndarray:
        """The array [channels, height, width] in `size_bytes` bytes, int8 or int32; one phase."""
        pixels = np.frombuffer(image, np.int8).reshape(self.groups, self.group_bytes)
        pixels = pixels[:, : self.group_bytes - self.padding_bytes]
        grouped = pixels.reshape(self.groups, self.rows, self.columns, self.pixel_bytes)
        planes = grouped.transpose(0, 3, 1, 2)
        return _join_groups(planes, channels=self.channels, raw=self.raw)

    def _fold_phases(self, tensor: np.ndarray) -> np.ndarray:
        """The array [phases * phases * channels, rows, columns] of a tensor's pixels."""
        rows, columns, phases = self.rows, self.columns, self.phases
        beyond = ((0, 0), (0, rows * phases - self.height), (0, columns * phases - self.width))
        whole = np.pad(tensor, beyond, constant_values=self.fill)
        split = whole.reshape(self.channels, rows, phases, columns, phases)
        return split.transpose(2, 4, 0, 1, 3).reshape(phases**2 * self.channels, rows, columns)


@dataclass(frozen=True)
class LayerRecord:
    """A layer of the program.

    Parameters
    ----------
    name : str
    mark : int
        The layer mark that its last instruction records.
    executes : tuple of int
        Its EXECUTE instructions, counted among all EXECUTE instructions in program order.
    channels : int
        Output channels.
    placement : Placement
        Where its output lies when the last of them has completed.
    slots : int
        Slots issued over all its EXECUTE instructions and tiles.
    raw : bool
        Its output are accumulators: int32.
    """

    name: str
    mark: int
    executes: tuple[int, ...]
    channels: int
    placement: Placement
    slots: int
    raw: bool = False


@dataclass(frozen=True)
class MachineProgram:
    """A memory image that starts with the instructions, and what a host needs to run it."""

    config: AcceleratorConfig
    image: bytes
    input: Region
    output: Region
    layers: tuple[LayerRecord, ...]

    def instructions(self) -> list[dict]:
        """Decode the instructions, HEADER to END.

        Raises
        ------
        ValueError
            An opcode is unknown, or the image ends before END.
        """
        decoded = []
        for offset in range(0, len(self.image), INSTRUCTION_BYTES):
            decoded.append(decode_instruction(self.image[offset : offset + INSTRUCTION_BYTES]))
            if decoded[-1]["prefix"]["opcode"] == Opcode.END:
                return decoded
        raise ValueError("the program image has no END instruction")


@dataclass(frozen=True)
class DrainedWords:
    """Words that the drain wrote, in order.

    Parameters
    ----------
    bank, address : int arrays [n]
    word : int8 array [n, lanes]
    """

    bank: np.ndarray
    address: np.ndarray
    word: np.ndarray


def collect_layers(program: MachineProgram, drained: DrainedWords) -> dict[str, np.ndarray]:
    """Put every layer's output together from the words that the drain wrote.

    Parameters
    ----------
    program : MachineProgram
    drained : DrainedWords
        Of one run of the whole program, by the RTL or by a simulator.

    Returns
    -------
    dict
        Layer name to int8 array [channels, height, width]; int32 where the layer is raw.

    Raises
    ------
    ValueError
        The number of words is not the one that the program writes.
    """
    config = program.config
    executes = [
        instruction
        for instruction in program.instructions()
        if instruction["prefix"]["opcode"] == Opcode.EXECUTE
    ]
    counts = [written_words(instruction, config) for instruction in executes]
    if sum(counts) != len(drained.bank):
        raise ValueError(f"the program writes {sum(counts)} words, but {len(drained.bank)} came")
    banks = np.zeros((config.columns, config.activation_depth, config.lanes), np.int8)
    outputs = {}
    last_execute = {record.executes[-1]: record for record in program.layers}
    begin = 0
    for index, count in enumerate(counts):
        span = slice(begin, begin + count)
        banks[drained.bank[span], drained.address[span]] = drained.word[span]
        begin += count
        if index in last_execute:
            record = last_execute[index]
            outputs[record.name] = read_planes(
                banks, record.placement, channels=record.channels, raw=record.raw
            )
    return outputs


def read_planes(
    banks: np.ndarray, placement: Placement, *, channels: int, raw: bool = False
) -> np.ndarray:
    """Read a tensor [channels, height, width] out of banks [columns, depth, lanes]."""
    y, x = np.indices((placement.height, placement.width))
    planes = []
    for group in range(placement.groups):
        bank, address = locate(placement.fields(group), y, x, columns=placement.columns)
        planes.append(banks[bank, address].transpose(2, 0, 1))
    return _join_groups(np.stack(planes), channels=channels, raw=raw)


def _join_groups(planes: np.ndarray, *, channels: int, raw: bool) -> np.ndarray:
    """The tensor [channels, height, width] in planes [groups, lanes, height, width]."""
    if raw:
        by_bytes = planes.reshape(-1, RAW_WORDS, *planes.shape[1:])
        planes = np.ascontiguousarray(np.moveaxis(by_bytes, 1, -1)).view("<i4")[..., 0]
        planes = planes.astype(np.int32)
    return planes.reshape(-1, *planes.shape[2:])[:channels].copy()
