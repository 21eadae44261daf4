"""The search: counts, repeats, resumes, and keeps what is infeasible out of the front."""

import os
import signal
from collections import Counter

import pytest
from distributed import LocalCluster

from coprune.explore import Evaluator, SearchSpace, Setup, TrialState, explore

from ..graphs import GraphBuilder
from .one_process import OneProcess

SPACE = SearchSpace(
    {
        "lanes": (8, 16),
        "columns": (2, 4, 8),
        "activation_depth": (16, 512),
        "bus_bits": (32, 64),
        "lane_group": (4, 16),
        "tables": (0,),
        "speedup": (1.0, 2.0, 4.0),
    }
)
SETUP = Setup(population=6, seed=3)


def small_graph():
    """Evaluated in milliseconds; two layers of it are pruned."""
    builder = GraphBuilder(3, (6, 6), seed=1)
    x = builder.add(builder.conv("input", 16))
    x = builder.add(builder.conv(x, 32))
    builder.add(builder.conv(x, 16, 1))
    return builder.graph()


@pytest.fixture(scope="module")
def evaluator():
    return Evaluator(small_graph(), mhz=100)


@pytest.fixture
def pool(monkeypatch):
    """What it evaluates is in `evaluated`."""

    class Pool(OneProcess):
        evaluated = []

    monkeypatch.setattr("coprune.explore.workers.WorkerPool", Pool)
    return Pool


def describe(exploration):
    """Trials, but for who evaluated them."""
    return [(t.number, t.values, t.state, t.evaluation, t.reason) for t in exploration.trials]


def test_every_trial_is_the_candidates_evaluation(evaluator, pool, tmp_path):
    ended = []
    exploration = explore(
        evaluator,
        SPACE,
        trials=40,
        storage=tmp_path / "journal",
        setup=SETUP,
        on_trial=ended.append,
    )
    assert [trial.number for trial in exploration.trials] == list(range(40))
    assert sorted(trial.number for trial in ended) == list(range(40))
    states = Counter(trial.state for trial in exploration.trials)
    assert states[TrialState.FEASIBLE] >= 5
    assert states[TrialState.INFEASIBLE] >= 5
    for trial in exploration.trials:
        if trial.state is TrialState.INFEASIBLE:
            with pytest.raises(ValueError) as error:  # noqa: PT011 (the trial has its text)
                evaluator.evaluate(SPACE.candidate(trial.values))
            assert trial.reason == str(error.value)
            assert trial.evaluation is None
        else:
            assert trial.evaluation == evaluator.evaluate(SPACE.candidate(trial.values))
    reasons = " ".join(exploration.reasons())
    assert "activation_depth is 16" in reasons
    assert "lane_group must be at most lanes" in reasons
    assert exploration.reasons().total() == states[TrialState.INFEASIBLE]


def test_equal_candidates_are_evaluated_once(evaluator, pool, tmp_path):
    space = SearchSpace({"lanes": (8,), "columns": (2, 4), "tables": (0,), "speedup": (1.0, 2.0)})
    exploration = explore(evaluator, space, trials=20, storage=tmp_path / "journal", setup=SETUP)
    assert len(exploration.trials) == 20
    assert len(pool.evaluated) == len(set(pool.evaluated)) <= 4
    assert len(exploration.feasible) == len(pool.evaluated)


def test_the_front_is_of_feasible_trials_that_none_dominates(evaluator, pool, tmp_path):
    setup = Setup(("cycles", "kept_importance", "luts"), population=6)
    exploration = explore(evaluator, SPACE, trials=40, storage=tmp_path / "journal", setup=setup)

    def costs(trial):
        e = trial.evaluation
        return e.cycles, -e.kept_importance, e.resources.luts

    front = [costs(trial) for trial in exploration.front]
    assert len(set(front)) == len(front)
    for trial in exploration.feasible:
        dominated = any(
            costs(other) != costs(trial)
            and all(o <= t for o, t in zip(costs(other), costs(trial), strict=True))
            for other in exploration.feasible
        )
        assert (costs(trial) in front) != dominated
    cycles = [trial.evaluation.cycles for trial in exploration.front]
    assert cycles == sorted(cycles)
    described = exploration.to_dict()
    assert described["front"] == sorted(trial.number for trial in exploration.front)
    assert len(described["trials"]) == 40


@pytest.mark.parametrize("storage", ["{}/journal", "sqlite:///{}/study.db"])
def test_an_interrupted_study_goes_on_to_the_same_trials(evaluator, pool, tmp_path, storage):
    whole = explore(evaluator, SPACE, trials=24, storage=tmp_path / "whole", setup=SETUP)
    evaluated = len(pool.evaluated)
    pool.evaluated.clear()
    storage = storage.format(tmp_path)
    pool.stop_after = 7
    with pytest.raises(KeyboardInterrupt):
        explore(evaluator, SPACE, trials=24, storage=storage, setup=SETUP)
    pool.stop_after = None
    begun = []
    resumed = explore(
        evaluator,
        SPACE,
        trials=24,
        storage=storage,
        setup=SETUP,
        on_start=lambda done, _: begun.append(done),
    )
    assert 0 < begun[0] < 24
    assert describe(resumed) == describe(whole)
    # Nothing was evaluated twice.
    assert len(pool.evaluated) == evaluated


def test_trials_count_those_of_earlier_runs(evaluator, pool, tmp_path):
    def run(trials):
        return explore(evaluator, SPACE, trials=trials, storage=tmp_path / "journal", setup=SETUP)

    assert len(run(6).trials) == 6
    evaluated = len(pool.evaluated)
    assert len(run(6).trials) == 6
    assert len(run(3).trials) == 6
    assert len(pool.evaluated) == evaluated
    assert len(run(12).trials) == 12


def test_a_torn_last_line_is_dropped(evaluator, pool, tmp_path):
    journal = tmp_path / "journal"
    first = explore(evaluator, SPACE, trials=6, storage=journal, setup=SETUP)
    with journal.open("ab") as file:
        file.write(b'{"op_code": 5, "worker')
    second = explore(evaluator, SPACE, trials=12, storage=journal, setup=SETUP)
    assert describe(second)[:6] == describe(first)
    assert len(second.trials) == 12


def test_lost_candidates_are_asked_for_again(evaluator, pool, tmp_path):
    pool.lose = frozenset({2, 5})
    exploration = explore(evaluator, SPACE, trials=18, storage=tmp_path / "journal", setup=SETUP)
    failed = [trial for trial in exploration.trials if trial.state is TrialState.FAILED]
    assert failed
    assert {trial.reason for trial in failed} == {"the worker died"}
    assert len(exploration.trials) == 18 + len(failed)


def test_gives_up_where_every_worker_dies(evaluator, pool, tmp_path):
    pool.lose = frozenset(range(1000))
    with pytest.raises(RuntimeError, match=r"21 candidates had no result .* the worker died"):
        explore(evaluator, SPACE, trials=40, storage=tmp_path / "journal", setup=SETUP)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_other_samplers_search_too(evaluator, pool, tmp_path, sampler):
    setup = Setup(sampler=sampler, population=6)
    explored = [
        explore(evaluator, SPACE, trials=18, storage=tmp_path / name, setup=setup)
        for name in ("first", "second")
    ]
    assert describe(explored[0]) == describe(explored[1])
    values = [trial.values for trial in explored[0].trials]
    assert len(values) == 18
    # Every batch is drawn anew.
    assert values[:6] != values[6:12]


def test_another_seed_searches_elsewhere(evaluator, pool, tmp_path):
    values = [
        [
            trial.values
            for trial in explore(
                evaluator,
                SPACE,
                trials=12,
                storage=tmp_path / str(seed),
                setup=Setup(population=6, seed=seed),
            ).trials
        ]
        for seed in (1, 2)
    ]
    assert values[0] != values[1]


def test_a_study_is_of_one_network_space_and_setup(evaluator, pool, tmp_path):
    def run(*, network=evaluator, space=SPACE, setup=SETUP):
        return explore(network, space, trials=6, storage=tmp_path / "journal", setup=setup)

    run()
    for changed, message in (
        ({"network": Evaluator(evaluator.graph)}, "was begun with network .*, not .*: give the"),
        ({"space": SPACE.with_choices(lanes=(8,))}, "was begun with space"),
        ({"setup": Setup(population=6, seed=4)}, "was begun with seed 3, not 4"),
        ({"setup": Setup(("cycles", "luts"), population=6, seed=3)}, "was begun with objectives"),
    ):
        with pytest.raises(ValueError, match=message):
            run(**changed)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("milliseconds", "objective 'milliseconds' needs a clock"),
        ("agreement", "objective 'agreement' needs images"),
        ("accuracy", "objective 'accuracy' needs labels of images"),
        ("device_share", "objective 'device_share' needs a device"),
    ],
)
def test_objectives_need_what_they_are_read_from(pool, tmp_path, objective, message):
    setup = Setup(("luts", objective))
    with pytest.raises(ValueError, match=message):
        explore(
            Evaluator(small_graph()),
            SPACE,
            trials=2,
            storage=tmp_path / "journal",
            setup=setup,
        )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sampler": "grid"}, "sampler must be one of nsga2, tpe, random, not 'grid'"),
        ({"population": 1}, "population must be at least 2, not 1"),
        ({"seed": -1}, "seed must not be negative, but is -1"),
        ({"objectives": ("cycles",)}, "objectives must be two or more"),
    ],
)
def test_refuses_a_setup_that_cannot_search(values, message):
    with pytest.raises(ValueError, match=message):
        Setup(**values)


def test_a_killed_worker_loses_no_trial(evaluator, monkeypatch, tmp_path):
    """Two processes on this machine, of which one is killed: the same trials as without."""
    killed = []

    def remember(_done, processes):
        killed.extend(list(processes.values())[:1])

    def kill(trial):
        ended.append(trial)
        if len(ended) == 4:
            # The batch has 12 candidates: both workers are busy.
            os.kill(killed[0], signal.SIGKILL)

    ended = []
    setup = Setup(population=12, seed=3)
    disturbed = explore(
        evaluator,
        SPACE,
        trials=24,
        storage=tmp_path / "disturbed",
        setup=setup,
        workers=2,
        on_start=remember,
        on_trial=kill,
    )
    assert len(ended) == len(disturbed.trials) == 24
    assert all(trial.state is not TrialState.FAILED for trial in disturbed.trials)
    processes = {trial.worker.partition(" ")[2] for trial in disturbed.trials if trial.worker}
    assert processes - {f"({killed[0]})"}
    monkeypatch.setattr("coprune.explore.workers.WorkerPool", OneProcess)
    monkeypatch.setattr(OneProcess, "evaluated", [], raising=False)
    quiet = explore(evaluator, SPACE, trials=24, storage=tmp_path / "quiet", setup=setup)
    assert describe(disturbed) == describe(quiet)


def test_runs_on_a_scheduler_that_is_there(evaluator, tmp_path):
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        for trials in (6, 12):
            exploration = explore(
                evaluator,
                SPACE,
                trials=trials,
                storage=tmp_path / "journal",
                setup=SETUP,
                scheduler=cluster.scheduler_address,
            )
            assert len(exploration.trials) == trials
        # They were only borrowed.
        assert len(cluster.scheduler.workers) == 1
        assert not any(name.startswith("coprune") for name in cluster.workers[0].plugins)
