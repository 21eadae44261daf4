"""Evaluation on a dask cluster: processes of this machine, or those of a scheduler's."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from distributed import Client, KilledWorker, LocalCluster, WorkerPlugin, as_completed, get_worker

from coprune.explore.evaluation import Evaluation, Evaluator, InfeasibleError
from coprune.explore.space import Candidate


@dataclass(frozen=True)
class Outcome:
    """What came of a candidate.

    Parameters
    ----------
    evaluation : Evaluation or None
    infeasible : str
        Why there is no evaluation.
    lost : str
        Why there is no outcome at all.
    worker : str
        Address and process of the worker.
    """

    evaluation: Evaluation | None = None
    infeasible: str = ""
    lost: str = ""
    worker: str = ""


class EvaluatorPlugin(WorkerPlugin):
    """Brings an evaluator to every worker, those that come later included.

    Parameters
    ----------
    evaluator : Evaluator
    ours : bool
        The workers are processes that this one started: they leave Ctrl-C to it.
    """

    def __init__(self, evaluator: Evaluator, *, ours: bool) -> None:
        self.evaluator = evaluator
        self.name = f"coprune-{evaluator.digest}"
        self._ours = ours

    def setup(self, worker) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self.evaluator.images is not None:
            import torch

            # As many workers as cores: more threads would only be in each other's way.
            torch.set_num_threads(1)


class WorkerPool:
    """Workers that evaluate candidates.

    A worker that dies loses nothing but time: the scheduler gives its candidate to another, and a
    local one is started again.

    Parameters
    ----------
    evaluator : Evaluator
    workers : int
        Processes to start on this machine, where there is no `scheduler`.
    scheduler : str or None
        Address of a running one, such as ``tcp://host:8786``. Its workers need this version of
        coprune.

    Raises
    ------
    OSError
        The scheduler does not answer.
    """

    def __init__(
        self, evaluator: Evaluator, *, workers: int = 2, scheduler: str | None = None
    ) -> None:
        self._plugin = EvaluatorPlugin(evaluator, ours=scheduler is None)
        self._cluster = None
        if scheduler is None:
            self._cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            )
        self._client = Client(scheduler or self._cluster, set_as_default=False)
        self._client.register_plugin(self._plugin)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the workers that were started here, and leave the others as they were."""
        if self._cluster is None:
            self._client.unregister_worker_plugin(self._plugin.name)
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()

    def processes(self) -> dict[str, int]:
        """Address and process of every worker that is there now."""
        return self._client.run(_process)

    def evaluate(self, candidates: Mapping[object, Candidate]) -> Iterator[tuple[object, Outcome]]:
        """Evaluate candidates; give each one's key and outcome as soon as it is there.

        Raises
        ------
        Exception
            What an evaluation raised that is no `InfeasibleError`: an error of coprune.
        """
        futures = {
            self._client.submit(_evaluate, candidate, self._plugin.name, pure=False): key
            for key, candidate in candidates.items()
        }
        try:
            for future in as_completed(futures, loop=self._client.loop):
                try:
                    outcome = future.result()
                except KilledWorker as error:
                    # Whoever evaluates it dies, several times in a row.
                    outcome = Outcome(lost=" ".join(str(error).split()))
                yield futures[future], outcome
        finally:
            self._client.cancel(list(futures))


def _evaluate(candidate: Candidate, plugin_name: str) -> Outcome:
    """On a worker."""
    worker = get_worker()
    name = f"{worker.address} ({_process()})"
    try:
        evaluation = worker.plugins[plugin_name].evaluator.evaluate(candidate)
    except InfeasibleError as error:
        return Outcome(infeasible=str(error), worker=name)
    return Outcome(evaluation, worker=name)


def _process() -> int:
    return os.getpid()
