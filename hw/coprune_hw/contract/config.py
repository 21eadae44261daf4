"""The accelerator's geometry: one frozen dataclass, and its named presets."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path

CONTRACT_VERSION = 3
"""Counts every change of an instruction, slot, parameter or register layout."""

PRESETS = Path(__file__).parent / "presets"

_DOMAINS: dict[str, tuple[int, ...] | range] = {
    "lanes": (8, 16),
    "columns": (2, 4, 8, 16),
    "activation_depth": range(16, 4097),
    "slot_depth": range(16, 65536),
    "parameter_depth": range(16, 65536),
    "tables": (0, 1, 2, 4, 8),
    "bus_bits": (32, 64, 128),
    "accumulator_bits": range(24, 33),
    "lane_group": (1, 2, 4, 8, 16),
    "queue_depth": range(2, 65),
    "burst_beats": (4, 8, 16, 32, 64),
    "outstanding_bursts": range(1, 17),
    "mark_depth": range(2, 257),
}
"""Every field of `AcceleratorConfig` and the values that the gateware is made for."""


@dataclass(frozen=True)
class AcceleratorConfig:
    """Geometry of one accelerator. Everything that gateware, compiler and simulators share.

    Parameters
    ----------
    lanes : int
        Output channels computed in parallel, and channels in an activation word. 8 or 16.
    columns : int
        Output pixels computed in parallel, and activation banks. 2, 4, 8 or 16.
    activation_depth : int
        Words of `lanes` bytes in each of the `columns` activation banks.
    slot_depth : int
        Slot words in the slot-stream memory.
    parameter_depth : int
        Output channels whose bias and requantization the parameter memory holds.
    tables : int
        Activation functions that the drain holds as tables of 256 values. With none, the machine
        has no table memory, and only activation functions of straight lines.
    bus_bits : int
        Width of the AXI4 data bus.
    accumulator_bits : int
        Width of the accumulators; the compiler proves that no sum leaves it.
    lane_group : int
        Lanes that receive a word in the same cycle; the next group receives it a cycle later.
    queue_depth : int
        Instructions that each of the LOAD, EXECUTE and STORE queues holds.
    burst_beats : int
        Longest AXI4 burst, in beats. Bursts start at multiples of their size.
    outstanding_bursts : int
        Read bursts under way at once.
    mark_depth : int
        Layer marks that the machine records.

    Raises
    ------
    ValueError
        A value outside its domain.
    """

    lanes: int = 16
    columns: int = 16
    activation_depth: int = 512
    slot_depth: int = 2048
    parameter_depth: int = 1024
    tables: int = 8
    bus_bits: int = 64
    accumulator_bits: int = 32
    lane_group: int = 4
    queue_depth: int = 16
    burst_beats: int = 32
    outstanding_bursts: int = 4
    mark_depth: int = 128

    def __post_init__(self) -> None:
        for name, domain in _DOMAINS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value not in domain:
                allowed = (
                    f"from {domain.start} to {domain.stop - 1}"
                    if isinstance(domain, range)
                    else f"one of {', '.join(map(str, domain))}"
                )
                raise ValueError(f"{name} must be {allowed}, not {value!r}")
        if self.lane_group > self.lanes:
            raise ValueError(
                f"lane_group must be at most lanes ({self.lanes}), not {self.lane_group}"
            )

    @classmethod
    def preset(cls, name: str) -> AcceleratorConfig:
        """Read a named preset, such as ``"16x16"`` (lanes x columns).

        Raises
        ------
        ValueError
            There is no such preset.
        """
        path = PRESETS / f"{name}.toml"
        if name not in cls.preset_names():
            raise ValueError(
                f"unknown preset {name!r}: must be one of {', '.join(cls.preset_names())}"
            )
        return cls.from_toml(path)

    @classmethod
    def find(cls, name: str) -> AcceleratorConfig:
        """Read a TOML file, where `name` is one or ends in ``.toml``, else a preset."""
        path = Path(name)
        is_file = path.suffix == ".toml" or path.is_file()
        return cls.from_toml(path) if is_file else cls.preset(name)

    @staticmethod
    def preset_names() -> list[str]:
        """Names of the presets that come with coprune."""
        return sorted(path.stem for path in PRESETS.glob("*.toml"))

    @classmethod
    def from_toml(cls, path: str | Path) -> AcceleratorConfig:
        """Read a configuration from a TOML file whose keys are the fields' names.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        ValueError
            The file is not TOML, or has an unknown key or a value outside its domain.
        """
        # New in Python 3.11; PYNQ's images have 3.10, and the driver reads no such files.
        import tomllib

        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no such configuration file: {path}")
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not a TOML file: {error}") from error
        return cls.from_dict(values, origin=str(path))

    @classmethod
    def from_dict(cls, values: dict, *, origin: str = "configuration") -> AcceleratorConfig:
        """Make a configuration from a mapping of field names; unknown names raise `ValueError`."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(
                f"{origin}: unknown field {unknown[0]!r}; known fields are "
                f"{', '.join(sorted(known))}"
            )
        try:
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"{origin}: {error}") from None

    def to_dict(self) -> dict[str, int]:
        """Field names and values, as `from_dict` takes them."""
        return asdict(self)

    @property
    def name(self) -> str:
        """Lanes by columns, for example ``"16x8"``."""
        return f"{self.lanes}x{self.columns}"

    @property
    def multipliers(self) -> int:
        """PEs of the array."""
        return self.lanes * self.columns

    @property
    def word_bits(self) -> int:
        """Bits of an activation word: `lanes` int8 channels of one pixel."""
        return 8 * self.lanes

    @property
    def index_bits(self) -> int:
        """Bits that name a channel within a word."""
        return (self.lanes - 1).bit_length()

    @property
    def log2_columns(self) -> int:
        """Bits that name a bank."""
        return self.columns.bit_length() - 1

    @property
    def lane_groups(self) -> int:
        """Steps in which a word travels along the lanes."""
        return self.lanes // self.lane_group

    @property
    def bus_bytes(self) -> int:
        """Bytes of one beat on the AXI4 bus."""
        return self.bus_bits // 8

    @cached_property
    def geometry_hash(self) -> int:
        """32 bits that differ between geometries whose programs are not interchangeable.

        The first four bytes (little-endian) of the SHA-256 of the contract version and of every
        field that a program depends on.
        """
        relevant = ("lanes", "columns", "activation_depth", "slot_depth", "parameter_depth")
        relevant += ("tables", "bus_bits", "accumulator_bits", "mark_depth")
        text = json.dumps([CONTRACT_VERSION, *(getattr(self, name) for name in relevant)])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
