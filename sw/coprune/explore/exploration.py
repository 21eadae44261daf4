"""The search: asks for candidates, has them evaluated, and keeps every result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coprune.explore.evaluation import Evaluator
from coprune.explore.front import pareto_front
from coprune.explore.objectives import Objective, find_objectives
from coprune.explore.space import SearchSpace
from coprune.explore.trials import SAMPLERS, Trial, TrialState, TrialStore
from coprune_hw.contract.config import CONTRACT_VERSION

DEFAULT_OBJECTIVES = ("cycles", "kept_importance", "luts", "block_rams")
MOST_FAILURES = 20
"""Trials without a result, after which something else must be wrong."""


@dataclass(frozen=True)
class Setup:
    """How is searched.

    Parameters
    ----------
    objectives : sequence of str
        Of `OBJECTIVES`.
    sampler : str
        ``"nsga2"``, ``"tpe"`` or ``"random"``.
    population : int
        Candidates that are chosen at once, before any of them is evaluated. So the trials are the
        same for every number of workers, and whether workers died or not.
    seed : int

    Raises
    ------
    ValueError
    """

    objectives: Sequence[str] = DEFAULT_OBJECTIVES
    sampler: str = "nsga2"
    population: int = 24
    seed: int = 0

    def __post_init__(self) -> None:
        find_objectives(self.objectives)
        if self.sampler not in SAMPLERS:
            raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, not {self.sampler!r}")
        if self.population < 2:
            raise ValueError(f"population must be at least 2, not {self.population!r}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, but is {self.seed!r}")


@dataclass(frozen=True)
class Exploration:
    """All trials of a study.

    Parameters
    ----------
    objectives : tuple of Objective
    trials : tuple of Trial
        In the order in which they were chosen.
    """

    objectives: tuple[Objective, ...]
    trials: tuple[Trial, ...]

    @property
    def feasible(self) -> tuple[Trial, ...]:
        """Trials with an evaluation; of those with equal values the first."""
        distinct: dict[frozenset, Trial] = {}
        for trial in self.trials:
            if trial.state is TrialState.FEASIBLE:
                distinct.setdefault(frozenset(trial.values.items()), trial)
        return tuple(distinct.values())

    @property
    def front(self) -> tuple[Trial, ...]:
        """The feasible trials that none dominates, by the first objective.

        Of those with equal objectives the first one stands for all.
        """
        trials = self.feasible
        if not trials:
            return ()
        scores = np.array([self.scores(trial) for trial in trials])
        chosen = pareto_front(scores, maximize=[each.maximize for each in self.objectives])
        front: dict[tuple[float, ...], Trial] = {}
        for trial, kept in zip(trials, chosen, strict=True):
            if kept:
                front.setdefault(self.scores(trial), trial)
        return tuple(front[scores] for scores in sorted(front))

    def scores(self, trial: Trial) -> tuple[float, ...]:
        """The objectives of a feasible trial."""
        return tuple(objective.read(trial.evaluation) for objective in self.objectives)

    def reasons(self) -> Counter[str]:
        """Why trials are infeasible, and how many are."""
        return Counter(
            trial.reason for trial in self.trials if trial.state is TrialState.INFEASIBLE
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        front = {trial.number for trial in self.front}
        return {
            "objectives": [asdict(objective) for objective in self.objectives],
            "front": sorted(front),
            "trials": [
                {
                    "number": trial.number,
                    "state": trial.state.value,
                    "values": trial.values,
                    "evaluation": trial.evaluation and trial.evaluation.to_dict(),
                    "reason": trial.reason,
                    "worker": trial.worker,
                }
                for trial in self.trials
            ],
        }


def explore(
    evaluator: Evaluator,
    space: SearchSpace,
    *,
    trials: int,
    storage: Path | str,
    name: str = "exploration",
    setup: Setup = Setup(),
    workers: int = 2,
    scheduler: str | None = None,
    on_start: Callable[[int, dict[str, int]], None] | None = None,
    on_trial: Callable[[Trial], None] | None = None,
) -> Exploration:
    """Search accelerators and pruning for a network, until there are enough trials.

    What is interrupted goes on where it was: results are stored one by one, and candidates that
    were being evaluated are evaluated again. One process at a time may use a study.

    Parameters
    ----------
    evaluator : Evaluator
    space : SearchSpace
    trials : int
        Feasible and infeasible ones, those of earlier runs of the study included. A candidate that
        is chosen again counts again, but is not evaluated again.
    storage, name
        As `TrialStore` takes them.
    setup : Setup
    workers, scheduler
        As `WorkerPool` takes them.
    on_start : callable
        Called with the number of trials that are there, and address and process of every worker.
    on_trial : callable
        Called with every trial that ends.

    Raises
    ------
    ValueError
        An objective needs something that the evaluator does not have; or the study was begun with
        another network, space or setup.
    RuntimeError
        Too many candidates end without a result, because their workers die.
    """
    # It needs distributed, which not everybody has.
    from coprune.explore.workers import WorkerPool

    objectives = find_objectives(setup.objectives)
    _check_objectives(objectives, evaluator)
    store = TrialStore(
        storage,
        name=name,
        objectives=objectives,
        space=space,
        setup={
            "network": evaluator.digest,
            "contract": CONTRACT_VERSION,
            "space": {key: list(values) for key, values in space.choices.items()},
            **asdict(setup),
            "objectives": list(setup.objectives),
        },
    )
    ended = store.trials()
    results = {
        frozenset(trial.values.items()): trial
        for trial in ended
        if trial.state is not TrialState.FAILED
    }
    count = sum(trial.state is not TrialState.FAILED for trial in ended)
    failures = 0
    batch = store.open_trials()
    if count + len(batch) >= trials and not batch:
        return Exploration(objectives, tuple(ended))
    with WorkerPool(evaluator, workers=workers, scheduler=scheduler) as pool:
        if on_start is not None:
            on_start(count, pool.processes())
        while batch or count < trials:
            batch = batch or store.ask(
                min(setup.population, trials - count),
                sampler=setup.sampler,
                population=setup.population,
                seed=setup.seed,
            )
            for trial in _run_batch(batch, space, store=store, pool=pool, results=results):
                failed = trial.state is TrialState.FAILED
                failures += failed
                count += not failed
                if on_trial is not None:
                    on_trial(trial)
                if failures > MOST_FAILURES:
                    raise RuntimeError(
                        f"{failures} candidates had no result because their workers died; the "
                        f"last: {trial.reason}"
                    )
            batch = {}
    return Exploration(objectives, tuple(store.trials()))


def _run_batch(batch, space, *, store, pool, results):
    """Evaluate what is not known yet; gives every trial of the batch as it ends."""
    numbers: dict[frozenset, list[int]] = {}
    candidates = {}
    for number, values in batch.items():
        key = frozenset(values.items())
        if key in results:
            yield _repeat(number, results[key], store)
        elif key in numbers:
            numbers[key].append(number)
        else:
            try:
                candidates[key] = space.candidate(values)
            except ValueError as error:
                results[key] = store.reject(number, str(error), worker="")
                yield results[key]
            else:
                numbers[key] = [number]
    for key, outcome in pool.evaluate(candidates):
        first, *others = numbers[key]
        if outcome.lost:
            yield from (store.fail(number, outcome.lost) for number in numbers[key])
            continue
        if outcome.evaluation is None:
            results[key] = store.reject(first, outcome.infeasible, worker=outcome.worker)
        else:
            results[key] = store.finish(first, outcome.evaluation, worker=outcome.worker)
        yield results[key]
        for number in others:
            yield _repeat(number, results[key], store)


def _repeat(number: int, trial: Trial, store: TrialStore) -> Trial:
    """End a trial like an earlier one of the same values."""
    if trial.evaluation is None:
        return store.reject(number, trial.reason, worker="")
    return store.finish(number, trial.evaluation, worker="")


def _check_objectives(objectives: Sequence[Objective], evaluator: Evaluator) -> None:
    needs = {
        "milliseconds": (evaluator.mhz, "a clock"),
        "agreement": (evaluator.images, "images"),
        "accuracy": (evaluator.labels, "labels of images"),
        "device_share": (evaluator.device, "a device"),
    }
    for objective in objectives:
        given, what = needs.get(objective.name, (True, ""))
        if given is None:
            raise ValueError(f"objective {objective.name!r} needs {what}")
