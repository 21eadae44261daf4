import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

import coprune
from coprune.prune.block_pattern import BlockPattern
from coprune.prune.budget import BudgetSolver, budget_cycles
from coprune.prune.cycle_counter import CycleCounter
from coprune.prune.pattern import apply_masks
from tests.prune.small_network import ACCELERATOR, calibration, network


def solver(model: nn.Module, *, granularity: str) -> BudgetSolver:
    counter = CycleCounter(model, ACCELERATOR, calibration=calibration())
    scores = {
        name: model.get_submodule(name).weight.detach().abs()
        for name in ("conv1", "conv2", "shortcut")
    }
    return BudgetSolver(scores, counter=counter, lanes=8, granularity=granularity)


@pytest.mark.parametrize("granularity", ["layer", "block"])
@pytest.mark.parametrize("share", [0.95, 0.8, 0.65])
def test_predicted_cycles_are_those_of_the_compiled_program(granularity, share):
    model = network()
    solve = solver(model, granularity=granularity)
    budget = int(share * solve.full_cycles)
    result = solve.solve(budget, model=model)
    assert result.dense_cycles == solve.full_cycles
    apply_masks(model, masks=result.masks)
    program = coprune.compile(model, ACCELERATOR, calibration=calibration())
    assert program.cycles().total.cycles == result.predicted_cycles <= budget
    # What is left of the budget is less than a step of the options.
    assert budget - result.predicted_cycles < 0.05 * budget


def test_no_other_n_of_the_layers_keeps_more_within_the_budget():
    model = network()
    solve = solver(model, granularity="layer")
    budget = int(0.7 * solve.full_cycles)
    result = solve.solve(budget, model=model)

    counter = CycleCounter(model, ACCELERATOR, calibration=calibration())
    scores = {name: model.get_submodule(name).weight.detach().abs() for name in result.pattern}
    best = 0.0
    for ns in itertools.product((1, 2, 3, 4, 5, 6, 7, 8), repeat=len(scores)):
        masks = {
            name: BlockPattern.uniform(tuple(layer.shape), n=n, lanes=8).mask(layer)
            for (name, layer), n in zip(scores.items(), ns, strict=True)
        }
        kept = sum(float(layer[masks[name]].sum()) for name, layer in scores.items())
        if kept > best and counter.count(masks).total.cycles <= budget:
            best = kept
    whole = sum(float(layer.sum()) for layer in scores.values())
    assert result.kept_importance == pytest.approx(best / whole, rel=1e-6)


def test_blocks_keep_more_than_whole_layers_at_the_same_cycles():
    model = network()
    whole, blocks = (solver(model, granularity=each) for each in ("layer", "block"))
    budget = int(0.7 * whole.full_cycles)
    kept = [solve.solve(budget, model=model).kept_importance for solve in (whole, blocks)]
    assert kept[0] < kept[1] < 1


def test_masks_have_the_pattern_and_the_network_is_left_alone():
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    solve = solver(model, granularity="block")
    result = solve.solve(int(0.7 * solve.full_cycles), model=model)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    for name, pattern in result.pattern.items():
        weight = model.get_submodule(name).weight
        assert torch.equal(pattern.mask(weight.abs()), result.masks[name])
        assert not bool(result.masks[name].all())


def test_an_ample_budget_prunes_nothing_that_costs():
    model = network()
    solve = solver(model, granularity="layer")
    result = solve.solve(2 * solve.full_cycles, model=model)
    assert [pattern.n for pattern in result.pattern.values()] == [8, 8, 8]
    assert result.predicted_cycles == result.dense_cycles
    assert result.kept_importance == 1
    assert result.speedup == 1


def test_what_takes_more_once_it_is_quantized_is_pruned_further(monkeypatch):
    model = network()
    counter = CycleCounter(model, ACCELERATOR, calibration=calibration())
    scores = {"conv2": model.conv2.weight.detach().abs()}
    solve = BudgetSolver(scores, counter=counter, lanes=8)
    budget = int(0.8 * solve.full_cycles)
    excess = budget // 10
    exactly, seen = counter.count_exactly, []

    def count_exactly(pruned):
        table = exactly(pruned)
        seen.append(table.total.cycles)
        if len(seen) > 1:
            return table
        return replace(table, total=replace(table.total, cycles=budget + excess))

    monkeypatch.setattr(counter, "count_exactly", count_exactly)
    result = solve.solve(budget, model=model)
    assert len(seen) == 2
    assert seen[0] > budget - excess >= seen[1] == result.predicted_cycles


@pytest.mark.parametrize("granularity", ["layer", "block"])
def test_a_budget_that_cannot_be_met_is_refused(granularity):
    model = network()
    with pytest.raises(ValueError, match=r"a budget of 100 cycles cannot be met: .* takes about"):
        solver(model, granularity=granularity).solve(100, model=model)


def test_a_budget_is_given_in_one_of_three_ways():
    assert budget_cycles(1000, cycles=300) == 300
    assert budget_cycles(1000, speedup=4) == 250
    assert budget_cycles(1000, speedup=3) == 333
    # 0.5 ms at 80 MHz.
    assert budget_cycles(1000, latency_ms=0.5, mhz=80) == 40_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "not none of them"),
        ({"cycles": 5, "speedup": 2.0}, "not cycles and speedup"),
        ({"latency_ms": 1.0}, "latency_ms and mhz, the clock, must be given together"),
        ({"cycles": 5, "mhz": 100.0}, "latency_ms and mhz, the clock, must be given together"),
        ({"speedup": -2.0}, r"speedup must be positive, not -2\.0"),
        ({"cycles": 0}, "cycles must be positive, not 0"),
        ({"latency_ms": float("nan"), "mhz": 5}, "latency_ms must be positive, not nan"),
    ],
)
def test_other_budgets_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        budget_cycles(1000, **options)
