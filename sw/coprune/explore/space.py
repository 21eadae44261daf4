"""What is searched: values of the accelerator's fields, and how strongly is pruned."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from coprune_hw.contract import AcceleratorConfig
from coprune_sim.graph import IntegerGraph

SPEEDUP = "speedup"
"""The parameter that is not the accelerator's: see `prune_graph`."""

DEFAULT_CHOICES: dict[str, tuple[int | float, ...]] = {
    "lanes": (8, 16),
    "columns": (2, 4, 8, 16),
    "activation_depth": (512, 1024, 2048, 4096),
    "slot_depth": (512, 1024, 2048, 4096),
    "parameter_depth": (256, 512, 1024),
    "bus_bits": (32, 64, 128),
    SPEEDUP: (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0),
}
"""Where nothing else is said."""


@dataclass(frozen=True)
class Candidate:
    """One point of the space.

    Parameters
    ----------
    accelerator : AcceleratorConfig
    speedup : float
        As `prune_graph` takes it.
    """

    accelerator: AcceleratorConfig
    speedup: float


@dataclass(frozen=True)
class SearchSpace:
    """Values that every parameter may take.

    Parameters
    ----------
    choices : mapping of str to tuple of numbers
        Fields of `AcceleratorConfig`, and ``"speedup"``. A field that is missing keeps the value
        that it has by default, and a missing ``"speedup"`` is 1: no pruning.

    Raises
    ------
    ValueError
        A parameter is unknown, has no value or one of a wrong type, or one that it may not have.
    """

    choices: Mapping[str, tuple[int | float, ...]]

    def __post_init__(self) -> None:
        known = [SPEEDUP, *(field.name for field in fields(AcceleratorConfig))]
        for name, values in self.choices.items():
            if name not in known:
                raise ValueError(
                    f"unknown parameter {name!r}: must be one of {', '.join(sorted(known))}"
                )
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} must have values, each once, not {list(values)}")
            for value in values:
                _check(name, value)

    @classmethod
    def default(cls, graph: IntegerGraph) -> SearchSpace:
        """`DEFAULT_CHOICES`, and tables where a network has activation functions that need them."""
        tabulated = any(layer.table is not None for layer in graph.layers)
        return cls({**DEFAULT_CHOICES, "tables": (1, 2, 4, 8) if tabulated else (0,)})

    @classmethod
    def from_toml(cls, path: str | Path) -> SearchSpace:
        """Read ``name = value`` or ``name = [value, value]`` for every parameter.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        ValueError
            It is no TOML, or as the class.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no such file of a search space: {path}")
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not a TOML file: {error}") from error
        try:
            return cls(
                {
                    name: tuple(values) if isinstance(values, list) else (values,)
                    for name, values in content.items()
                }
            )
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def with_choices(self, **choices: tuple[int | float, ...]) -> SearchSpace:
        """This space with other values for some parameters."""
        return SearchSpace({**self.choices, **choices})

    @property
    def size(self) -> int:
        """Points, those that cannot be built included."""
        size = 1
        for values in self.choices.values():
            size *= len(values)
        return size

    def candidate(self, values: Mapping[str, int | float]) -> Candidate:
        """The point with one value for every parameter.

        Raises
        ------
        ValueError
            There is no accelerator of such fields: they contradict each other.
        """
        accelerator = {name: value for name, value in values.items() if name != SPEEDUP}
        return Candidate(AcceleratorConfig(**accelerator), float(values.get(SPEEDUP, 1.0)))


def parse_choice(text: str) -> tuple[str, tuple[int | float, ...]]:
    """``"lanes=8,16"`` as a name and its values.

    Raises
    ------
    ValueError
    """
    name, equals, values = text.partition("=")
    try:
        if not equals:
            raise ValueError
        numbers = [float(value) if name == SPEEDUP else int(value) for value in values.split(",")]
    except ValueError:
        raise ValueError(
            f"a choice must be NAME=VALUE or NAME=VALUE,VALUE, such as lanes=8,16, not {text!r}"
        ) from None
    return name.strip(), tuple(numbers)


def _check(name: str, value: int | float) -> None:
    if name == SPEEDUP:
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 1:
            raise ValueError(f"speedup must be a number from 1, not {value!r}")
        return
    # On 16 lanes any lane group goes, with groups of one lane any number of lanes.
    AcceleratorConfig(**{"lane_group": 1, name: value})
