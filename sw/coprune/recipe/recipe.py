"""Recipe files: everything that decides what becomes of a network, in TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coprune.prune.block_pattern import parse_pattern
from coprune.prune.schedule import Gradual, OneShot, Schedule, Steps, StraightThrough
from coprune.quantize import OBSERVERS
from coprune.recipe.fields import check_keys, join, read_fields, set_value
from coprune.recipe.methods import METHODS
from coprune.train import Distillation, TrainingSettings
from coprune_hw.contract import AcceleratorConfig

SCHEDULES = {
    "one_shot": OneShot,
    "steps": Steps,
    "gradual": Gradual,
    "sr_ste": StraightThrough,
}
RANDOM = "random"
"""Instead of a file of weights: PyTorch's own initial ones, drawn from the recipe's seed."""


@dataclass(frozen=True)
class PruneStep:
    """``[prune]``: which weights go, and when.

    Parameters
    ----------
    method
        One of `coprune.recipe.methods.METHODS`.
    options
        The method's own keys.
    schedule
        ``{ kind = "one_shot" | "steps" | "gradual" | "sr_ste", ... }`` with the parameters of its
        class in `coprune.prune.schedule`; ``steps`` takes ``kept``, values of N, too.
    """

    method: str = "none"
    options: Mapping[str, Any] = field(default_factory=dict)
    schedule: Schedule = field(default_factory=OneShot)


@dataclass(frozen=True)
class TeacherStep:
    """``[teacher]``: from whom the network learns.

    Parameters
    ----------
    network, weights
        As in `Recipe`; without a network, the recipe's own one before it is pruned.
    distillation
        The keys of `coprune.train.Distillation`.
    """

    network: str | None = None
    weights: str | None = None
    distillation: Distillation = field(default_factory=Distillation)


@dataclass(frozen=True)
class QatStep:
    """``[qat]``: training with simulated rounding, after the other training; needs ``pt2e``.

    Parameters
    ----------
    learning_rate
        From which it falls along half a cosine. What is not said here is as in ``[train]``.
    observer
        How ranges of activations follow those of batches; ``"minmax"`` is the fastest.
    """

    epochs: int
    learning_rate: float
    observer: str = "minmax"

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, not {self.epochs!r}")
        _check_observer(self.observer)


@dataclass(frozen=True)
class QuantizeStep:
    """``[quantize]``: options of `coprune.compile`."""

    observer: str = "mse"
    equalize: bool = False
    correct_bias: bool = False

    def __post_init__(self) -> None:
        _check_observer(self.observer)


@dataclass(frozen=True)
class Recipe:
    """What becomes of a network: pruning, training, quantization.

    Parameters
    ----------
    network
        A name of the zoo, perhaps with parameters, or ``package.module:function``.
    weights
        A file for `coprune.zoo.load_weights`, or ``"random"``; by default those of ``network``.
    accelerator
        A preset or a TOML file.
    dataset
        As for `coprune.data.load_data_set`.
    seed
        Of all random numbers.
    train
        None trains nothing: pruning and quantization only.
    teacher, qat
        None: without.
    """

    name: str
    network: str
    dataset: str
    weights: str | None = None
    accelerator: str = "16x16"
    seed: int = 0
    prune: PruneStep = field(default_factory=PruneStep)
    teacher: TeacherStep | None = None
    train: TrainingSettings | None = None
    qat: QatStep | None = None
    quantize: QuantizeStep = field(default_factory=QuantizeStep)

    def __post_init__(self) -> None:
        if self.qat is not None and self.train is None:
            raise ValueError("train is missing: qat takes its batch and augmentation from there")
        _check_schedule(self.prune.schedule, train=self.train)

    @property
    def config(self) -> AcceleratorConfig:
        """The accelerator's configuration."""
        return AcceleratorConfig.find(self.accelerator)


def read_recipe(path: Path | str, *, assignments: Sequence[str] = ()) -> Recipe:
    """Read a recipe file.

    Parameters
    ----------
    assignments
        Values to use instead of the file's, such as ``train.epochs=3``.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is not TOML, or a key is unknown, missing or has a wrong value; the error names it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such recipe: {path}")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML file: {error}") from error
    try:
        for assignment in assignments:
            set_value(table, assignment)
        return parse_recipe(table)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse_recipe(table: Mapping[str, Any]) -> Recipe:
    """Make a recipe of the values of a file; see `read_recipe`."""
    for name in ("prune", "teacher", "train", "qat", "quantize"):
        if not isinstance(table.get(name, {}), Mapping):
            raise ValueError(f"{name} must be a table, not {table[name]!r}")
    values = dict(table)
    if "train" in table:
        settings = {"seed": table.get("seed", 0), **table["train"]}
        values["train"] = read_fields(TrainingSettings, settings, key="train")
    if "teacher" in table:
        values["teacher"] = _parse_teacher(table["teacher"])
    for name, kind in (("qat", QatStep), ("quantize", QuantizeStep)):
        if name in table:
            values[name] = read_fields(kind, table[name], key=name)
    values["prune"] = _parse_prune(table.get("prune", {}))
    return read_fields(Recipe, values, key="")


def _parse_teacher(table: Mapping[str, Any]) -> TeacherStep:
    own = {name: table[name] for name in ("network", "weights") if name in table}
    settings = {name: value for name, value in table.items() if name not in own}
    values = {**own, "distillation": read_fields(Distillation, settings, key="teacher")}
    return read_fields(TeacherStep, values, key="teacher")


def _parse_prune(table: Mapping[str, Any]) -> PruneStep:
    method = table.get("method", "none")
    if method not in METHODS:
        raise ValueError(f"prune.method must be one of {', '.join(METHODS)}, not {method!r}")
    options = {name: value for name, value in table.items() if name not in ("method", "schedule")}
    check_keys(options, known=METHODS[method].options, key="prune")
    schedule = table.get("schedule", {"kind": "one_shot"})
    return PruneStep(method, options, _parse_schedule(schedule, pattern=table.get("pattern")))


def _parse_schedule(table: Mapping[str, Any], *, pattern: Any) -> Schedule:
    key = "prune.schedule"
    if not isinstance(table, Mapping):
        raise ValueError(f"{key} must be a table, not {table!r}")
    settings = dict(table)
    kind = settings.pop("kind", None)
    if kind not in SCHEDULES:
        raise ValueError(f"{key}.kind must be one of {', '.join(SCHEDULES)}, not {kind!r}")
    if kind == "steps" and "kept" in settings:
        settings["shares"] = _shares(settings.pop("kept"), pattern=pattern, key=join(key, "kept"))
    return read_fields(SCHEDULES[kind], settings, key=key)


def _shares(kept: Any, *, pattern: Any, key: str) -> list[float]:
    """The shares of pruning at which blocks keep the values of N in ``kept``."""
    if not isinstance(pattern, str):
        raise ValueError(f"{key} needs prune.pattern to be N:M; use shares instead")
    n, m = parse_pattern(pattern)
    if not isinstance(kept, list) or not kept or not all(isinstance(each, int) for each in kept):
        raise ValueError(f"{key} must be a list of integers, not {kept!r}")
    if kept[-1] != n:
        raise ValueError(f"{key} must end with {n}, the N of prune.pattern, not {kept[-1]}")
    try:
        return list(Steps.of_kept(tuple(kept), m=m).shares)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


def _check_schedule(schedule: Schedule, *, train: TrainingSettings | None) -> None:
    """All pruning must be done before the training is."""
    epochs = 0 if train is None else train.epochs
    needed = 0.0
    if isinstance(schedule, Gradual | StraightThrough):
        needed = schedule.epochs
    elif isinstance(schedule, Steps) and len(schedule.shares) > 1:
        needed = (len(schedule.shares) - 1) * schedule.epochs + 1
    if needed > epochs:
        raise ValueError(
            f"prune.schedule needs at least {needed:g} epochs, but train.epochs is {epochs}"
        )


def _check_observer(observer: str) -> None:
    if observer not in OBSERVERS:
        raise ValueError(f"observer must be one of {', '.join(OBSERVERS)}, not {observer!r}")
