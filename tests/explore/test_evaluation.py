"""What a candidate costs, and why one cannot be had."""

import pickle

import numpy as np
import pytest

from coprune.explore import OBJECTIVES, Candidate, Evaluation, Evaluator, prune_graph
from coprune.explore.evaluation import InfeasibleError
from coprune.explore.objectives import find_objectives
from coprune.program import compile_graph
from coprune_hw.contract import AcceleratorConfig
from coprune_sim.cycle_model import MemoryModel
from coprune_sim.inference import Simulator
from coprune_sim.resources import DEVICES, estimate_resources

from ..graphs import GraphBuilder, residual_graph

ACCELERATOR = AcceleratorConfig(lanes=8, columns=4, bus_bits=32)


@pytest.fixture(scope="module")
def graph():
    return residual_graph(size=8)


@pytest.fixture(scope="module")
def images(graph):
    rng = np.random.default_rng(5)
    return rng.integers(-128, 128, (24, *graph.input.shape)).astype(np.int8)


def test_cycles_are_those_of_the_compiled_program(graph):
    evaluator = Evaluator(graph, mhz=50, memory=MemoryModel(7, 7))
    evaluation = evaluator.evaluate(Candidate(ACCELERATOR, 3.0))
    pruned = prune_graph(graph, lanes=8, speedup=3.0)
    program = compile_graph(pruned.graph, ACCELERATOR)
    assert evaluation.cycles == program.cycles(MemoryModel(7, 7)).total.cycles
    assert evaluation.milliseconds == evaluation.cycles / 50_000
    assert evaluation.kept_importance == pruned.kept_importance
    assert evaluation.resources == estimate_resources(ACCELERATOR)
    assert evaluation.agreement is None
    assert evaluation.device_share is None
    fits = Evaluator(graph, device=DEVICES["ecp5-85"]).evaluate(Candidate(ACCELERATOR, 3.0))
    assert fits.device_share == fits.resources.share(DEVICES["ecp5-85"])
    assert Evaluation.from_dict(evaluation.to_dict()) == evaluation


def test_agreement_and_accuracy_are_those_of_the_pruned_network():
    # The largest of 288 outputs, which differs from image to image.
    builder = GraphBuilder(8, (6, 6), seed=1)
    builder.add(builder.conv(builder.add(builder.conv("input", 8)), 8))
    graph = builder.graph()
    images = np.random.default_rng(5).integers(-128, 128, (24, 8, 6, 6)).astype(np.int8)

    def answers(network):
        return Simulator(network).run(images).reshape(len(images), -1).argmax(axis=1)

    pruned = answers(prune_graph(graph, lanes=8, speedup=2.0).graph)
    labels = np.where(np.arange(len(images)) < 6, pruned, 0)
    evaluator = Evaluator(graph, images=images, labels=labels)
    evaluation = evaluator.evaluate(Candidate(ACCELERATOR, 2.0))
    assert evaluation.agreement == np.mean(pruned == answers(graph))
    assert 0 < evaluation.agreement < 1
    assert evaluation.accuracy == np.mean(pruned == labels)
    assert evaluator.evaluate(Candidate(ACCELERATOR, 1.0)).agreement == 1


def test_a_copy_evaluates_the_same(graph, images):
    evaluator = Evaluator(graph, mhz=10, images=images)
    evaluator.evaluate(Candidate(ACCELERATOR, 1.0))
    copy = pickle.loads(pickle.dumps(evaluator))
    assert copy._pruned == {}
    assert copy.digest == evaluator.digest
    candidate = Candidate(ACCELERATOR, 4.0)
    assert copy.evaluate(candidate) == evaluator.evaluate(candidate)


def test_the_digest_tells_evaluators_apart(graph, images):
    other = residual_graph(size=8, density=0.5)
    evaluators = [
        Evaluator(graph),
        Evaluator(other),
        Evaluator(graph, mhz=1),
        Evaluator(graph, memory=MemoryModel(5, 5)),
        Evaluator(graph, device=DEVICES["ecp5-25"]),
        Evaluator(graph, images=images),
        Evaluator(graph, images=images, labels=np.zeros(len(images), np.int64)),
    ]
    assert len({evaluator.digest for evaluator in evaluators}) == len(evaluators)


@pytest.mark.parametrize(
    ("fields", "speedup", "message"),
    [
        ({"activation_depth": 16}, 1.0, "activation_depth is 16"),
        ({"lanes": 8}, 900.0, "speedup must be at most .* leaves a slot of each layer on 8 lanes"),
        ({"lanes": 16, "columns": 8}, 1.0, "ecp5-25 has .* are needed"),
    ],
)
def test_says_why_a_candidate_is_infeasible(graph, fields, speedup, message):
    accelerator = AcceleratorConfig(**{"lanes": 8, "columns": 2, "tables": 0, **fields})
    device = DEVICES["ecp5-25"] if "columns" in fields else None
    with pytest.raises(InfeasibleError, match=message):
        Evaluator(graph, device=device).evaluate(Candidate(accelerator, speedup))


def test_objectives_read_an_evaluation(graph):
    evaluation = Evaluator(graph, mhz=1).evaluate(Candidate(ACCELERATOR, 2.0))
    assert OBJECTIVES["cycles"].read(evaluation) == evaluation.cycles
    assert OBJECTIVES["luts"].read(evaluation) == evaluation.resources.luts
    for name in ("kept_importance", "agreement", "accuracy"):
        assert OBJECTIVES[name].maximize
    with pytest.raises(ValueError, match="unknown objective 'speed': must be one of cycles, "):
        find_objectives(["cycles", "speed"])
    for names in (["cycles"], ["cycles", "cycles"]):
        with pytest.raises(ValueError, match="objectives must be two or more, each once"):
            find_objectives(names)
