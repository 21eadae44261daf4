"""Evaluation without processes."""

from coprune.explore import Candidate
from coprune.explore.evaluation import InfeasibleError
from coprune.explore.workers import Outcome


class OneProcess:
    """A pool without processes, which can break down or lose candidates."""

    evaluated: list[Candidate]
    stop_after: int | None = None
    lose: frozenset[int] = frozenset()

    def __init__(self, evaluator, *, workers, scheduler):
        self.evaluator = evaluator

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def processes(self):
        return {"here": 1}

    def evaluate(self, candidates):
        for key, candidate in candidates.items():
            if len(self.evaluated) == self.stop_after:
                raise KeyboardInterrupt
            self.evaluated.append(candidate)
            if len(self.evaluated) in self.lose:
                yield key, Outcome(lost="the worker died")
                continue
            try:
                yield key, Outcome(self.evaluator.evaluate(candidate), worker="here")
            except InfeasibleError as error:
                yield key, Outcome(infeasible=str(error), worker="here")
