"""Trials of an exploration, and the optuna study that holds them."""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coprune.explore.evaluation import Evaluation
from coprune.explore.objectives import Objective
from coprune.explore.space import SearchSpace

if TYPE_CHECKING:
    import optuna

SAMPLERS = ("nsga2", "tpe", "random")
"""Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II", 2002; Ozaki et al.,
"Multiobjective tree-structured Parzen estimator", 2022; and independent draws."""

_EVALUATION, _REASON, _WORKER, _SETUP = "evaluation", "reason", "worker", "setup"


class TrialState(enum.Enum):
    """How a trial ended."""

    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    FAILED = "failed"


@dataclass(frozen=True)
class Trial:
    """One candidate that was tried.

    Parameters
    ----------
    number : int
        From 0, in the order in which candidates were chosen.
    values : dict
        Of the space's parameters.
    state : TrialState
    evaluation : Evaluation or None
        Of a feasible one.
    reason : str
        Why it is infeasible, or failed.
    worker : str
        Process that evaluated it; empty where the evaluation was known.
    """

    number: int
    values: dict[str, int | float]
    state: TrialState
    evaluation: Evaluation | None = None
    reason: str = ""
    worker: str = ""


class TrialStore:
    """Trials in an optuna study, which outlives the process.

    Parameters
    ----------
    storage : Path or str
        A journal file, or the URL of a data base (``sqlite:///FILE``), for which optuna needs the
        driver.
    name : str
        Of the study; a storage can hold several.
    objectives : sequence of Objective
    space : SearchSpace
    setup : dict
        What the trials depend on besides their values: JSON types.

    Raises
    ------
    ValueError
        The storage has a study of that name with another setup.
    """

    def __init__(
        self,
        storage: Path | str,
        *,
        name: str,
        objectives: Sequence[Objective],
        space: SearchSpace,
        setup: dict[str, Any],
    ) -> None:
        import optuna

        self._optuna = optuna
        self._objectives = tuple(objectives)
        self._distributions = {
            parameter: optuna.distributions.CategoricalDistribution(values)
            for parameter, values in space.choices.items()
        }
        self._study = optuna.create_study(
            storage=_open(storage),
            study_name=name,
            directions=["maximize" if each.maximize else "minimize" for each in objectives],
            load_if_exists=True,
        )
        known = self._study.user_attrs.get(_SETUP)
        if known is None:
            self._study.set_user_attr(_SETUP, setup)
            return
        for key, value in setup.items():
            if known[key] != value:
                raise ValueError(
                    f"study {name!r} in {storage} was begun with {key} {known[key]}, not {value}: "
                    f"give the same, or another name or storage"
                )

    def trials(self) -> list[Trial]:
        """All trials that ended, in the order of their numbers."""
        states = self._optuna.trial.TrialState
        state_of = {
            states.COMPLETE: TrialState.FEASIBLE,
            states.PRUNED: TrialState.INFEASIBLE,
            states.FAIL: TrialState.FAILED,
        }
        return [
            self._read(trial, state_of[trial.state])
            for trial in self._study.get_trials(deepcopy=False)
            if trial.state in state_of
        ]

    def open_trials(self) -> dict[int, dict[str, int | float]]:
        """Numbers and values of trials that an interrupted process left without a result."""
        states = self._optuna.trial.TrialState
        left = {}
        for trial in self._study.get_trials(deepcopy=False, states=(states.RUNNING,)):
            if set(trial.params) == set(self._distributions):
                left[trial.number] = dict(trial.params)
            else:
                # The process ended while it chose them.
                self.fail(trial.number, "interrupted before all of its values were chosen")
        return left

    def ask(
        self, count: int, *, sampler: str, population: int, seed: int
    ) -> dict[int, dict[str, int | float]]:
        """Choose candidates: their trials' numbers and values.

        What is chosen depends on the seed and the trials before, and on nothing else.
        """
        number = len(self._study.get_trials(deepcopy=False))
        seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        samplers = self._optuna.samplers
        if sampler == "nsga2":
            self._study.sampler = samplers.NSGAIISampler(population_size=population, seed=seed)
        elif sampler == "tpe":
            self._study.sampler = samplers.TPESampler(
                n_startup_trials=population, multivariate=True, constant_liar=True, seed=seed
            )
        else:
            self._study.sampler = samplers.RandomSampler(seed=seed)
        asked = [self._study.ask(self._distributions) for _ in range(count)]
        return {trial.number: dict(trial.params) for trial in asked}

    def finish(self, number: int, evaluation: Evaluation, *, worker: str) -> Trial:
        """Record a feasible trial."""
        self._set(number, {_EVALUATION: evaluation.to_dict(), _WORKER: worker})
        values = [objective.read(evaluation) for objective in self._objectives]
        self._study.tell(number, values)
        return self._read(self._frozen(number), TrialState.FEASIBLE)

    def reject(self, number: int, reason: str, *, worker: str) -> Trial:
        """Record an infeasible trial."""
        self._set(number, {_REASON: reason, _WORKER: worker})
        self._study.tell(number, state=self._optuna.trial.TrialState.PRUNED)
        return self._read(self._frozen(number), TrialState.INFEASIBLE)

    def fail(self, number: int, reason: str) -> Trial:
        """Record a trial without a result."""
        self._set(number, {_REASON: reason})
        self._study.tell(number, state=self._optuna.trial.TrialState.FAIL)
        return self._read(self._frozen(number), TrialState.FAILED)

    def _frozen(self, number: int) -> optuna.trial.FrozenTrial:
        return self._study.get_trials(deepcopy=False)[number]

    def _set(self, number: int, attributes: Mapping[str, Any]) -> None:
        trial_id = self._frozen(number)._trial_id
        for name, value in attributes.items():
            self._study._storage.set_trial_user_attr(trial_id, name, value)

    def _read(self, trial: optuna.trial.FrozenTrial, state: TrialState) -> Trial:
        evaluation = trial.user_attrs.get(_EVALUATION)
        return Trial(
            number=trial.number,
            values=dict(trial.params),
            state=state,
            # A process may end after it wrote the evaluation, and before it told the values.
            evaluation=Evaluation.from_dict(evaluation) if state is TrialState.FEASIBLE else None,
            reason=trial.user_attrs.get(_REASON, ""),
            worker=trial.user_attrs.get(_WORKER, ""),
        )


def _open(storage: Path | str) -> optuna.storages.BaseStorage:
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    if "://" in str(storage):
        return RDBStorage(str(storage))
    path = Path(storage)
    if path.exists():
        _drop_torn_line(path)
    return JournalStorage(JournalFileBackend(str(path)))


def _drop_torn_line(path: Path) -> None:
    """Cut off what a process that was killed had written of its last line: it would spoil the next.

    Every entry of a journal is a line.
    """
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
