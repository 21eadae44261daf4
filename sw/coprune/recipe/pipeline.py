"""A recipe, step by step: prune, distil, train quantized, quantize, measure."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.fx import GraphModule

import coprune
from coprune import atomic_file, zoo
from coprune.data import DataSet, LabelledImages, load_data_set
from coprune.named_network import find_network
from coprune.program import Program
from coprune.prune import Choose, apply_masks, fixed_choice
from coprune.recipe.methods import METHODS
from coprune.recipe.recipe import RANDOM, Recipe
from coprune.train import TrainingSettings, evaluate, save_state_dict, train
from coprune.train.plot import plot_log
from coprune.train.rounding import prepare_for_rounding, simulate_rounding
from coprune.train.workers import find_device, joined_workers

WEIGHTS, STRUCTURE, METRICS = "weights.pt", "structure.json", "metrics.json"
PROGRAM, PLOT = "network.coprune", "training.svg"
VALIDATION_IMAGES = 500
"""Of the test images, whose accuracy is logged after every epoch and decides nothing."""
BATCH = 250
"""Images that are simulated at once."""


def run_recipe(
    recipe: Recipe,
    *,
    folder: Path,
    data_folder: Path | None = None,
    teacher_cache: Path | None = None,
    checkpoint_minutes: float = 5.0,
    device: str = "auto",
    show_progress: bool = True,
) -> dict[str, Any]:
    """Make what a recipe describes, and measure it.

    Among processes that ``torchrun`` started, training is divided; the first one does the rest.

    Parameters
    ----------
    folder
        Gets ``weights.pt``, a state dict, and where channels or blocks were taken out
        ``structure.json``, for `coprune.prune.apply_structure`; ``network.coprune``, the compiled
        program; ``metrics.json``; and for each training, ``train`` and ``qat``, a folder with its
        log, a plot of it and the checkpoint from which an interrupted run goes on when started
        again.
    data_folder
        Of the data set, where it has a name.
    teacher_cache, checkpoint_minutes
        As for `coprune.train.train`.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Returns
    -------
    dict
        What ``metrics.json`` holds: accuracies on all test images, before and after quantization,
        and cycles of an image; ``dense_cycles`` and ``speedup`` are None where only the pruned
        network fits the accelerator. In other processes than the first one it is empty.

    Raises
    ------
    ValueError
        Parts of the recipe do not go together, or the pruned network does not compile: said before
        it is trained.
    """
    accelerator = recipe.config
    atomic_file.make_folder(folder)
    data = load_data_set(recipe.dataset, folder=data_folder)
    model = _load(recipe.network, recipe.weights, seed=recipe.seed)
    dense = copy.deepcopy(model)
    planned = METHODS[recipe.prune.method].plan(model, accelerator, data, recipe.prune.options)
    trial = copy.deepcopy(model)
    _prune_at_once(trial, choose=planned.choose)
    _compile(recipe, trial, data=data)
    model.to(find_device(device))
    training = _Training(
        recipe,
        data=data,
        teacher=_find_teacher(recipe, dense),
        folder=folder,
        options={
            "teacher_cache": teacher_cache,
            "checkpoint_minutes": checkpoint_minutes,
            "show_progress": show_progress,
        },
    )
    with joined_workers(device=next(model.parameters()).device) as workers:
        masks = training.finetune(model, choose=planned.choose)
        simulation = None if recipe.qat is None else training.train_rounded(model, masks=masks)
        if not workers.is_first:
            return {}
        model.cpu()
        save_state_dict(model, path=folder / WEIGHTS)
        if planned.structure is not None:
            atomic_file.write(folder / STRUCTURE, json.dumps(planned.structure) + "\n")
        program = _compile(recipe, model if simulation is None else simulation, data=data)
        program.save(folder / PROGRAM)
        metrics = _measure(recipe, model, program=program, dense=dense, masks=masks, data=data)
        atomic_file.write(folder / METRICS, json.dumps(metrics, indent=2) + "\n")
    return metrics


class _Training:
    """What a recipe's two trainings have in common."""

    def __init__(
        self,
        recipe: Recipe,
        *,
        data: DataSet,
        teacher: nn.Module | None,
        folder: Path,
        options: dict[str, Any],
    ):
        self._recipe, self._data, self._teacher = recipe, data, teacher
        self._folder, self._options = folder, options
        test = data.test
        self._validation = LabelledImages(
            test.images[:VALIDATION_IMAGES], test.labels[:VALIDATION_IMAGES]
        )

    def finetune(self, model: nn.Module, *, choose: Choose | None) -> dict[str, torch.Tensor]:
        """Prune and train ``model`` in place, and return the masks."""
        recipe = self._recipe
        if recipe.train is None:
            return _prune_at_once(model, choose=choose)
        return self._train(
            model,
            settings=recipe.train,
            stage="train",
            choose=choose,
            schedule=recipe.prune.schedule,
            distillation=None if recipe.teacher is None else recipe.teacher.distillation,
            validation=self._validation,
        )

    def train_rounded(self, model: nn.Module, *, masks: dict[str, torch.Tensor]) -> GraphModule:
        """Train ``model`` in place as it computes when quantized; return its simulation."""
        recipe = self._recipe
        settings = replace(
            recipe.train,
            epochs=recipe.qat.epochs,
            learning_rate=recipe.qat.learning_rate,
            warmup_steps=0,
            cosine_epochs=None,
            cooldown_epochs=0.0,
            precision="float32",
        )
        distillation = recipe.teacher and replace(recipe.teacher.distillation, features=())
        image = self._data.normalize(torch.as_tensor(self._data.train.images[:2]))
        device = next(model.parameters()).device
        prepared = prepare_for_rounding(
            model, images=image.to(device), observer=recipe.qat.observer
        )
        self._train(
            prepared,
            settings=settings,
            stage="qat",
            choose=fixed_choice(masks),
            distillation=distillation,
        )
        state = prepared.state_dict()
        model.load_state_dict({name: state[name] for name in model.state_dict()})
        return simulate_rounding(prepared.cpu())

    def _train(
        self, model: nn.Module, *, settings: TrainingSettings, stage: str, **options: Any
    ) -> dict[str, torch.Tensor]:
        folder = self._folder / stage
        return train(
            model,
            dataset=self._data.train,
            normalize=self._data.normalize,
            settings=settings,
            folder=folder,
            teacher=self._teacher,
            origin=_origin(self._recipe),
            report=lambda history: plot_log(history, path=folder / PLOT),
            **options,
            **self._options,
        )


def _origin(recipe: Recipe) -> dict[str, Any]:
    """Return what a training's result depends on besides its settings."""
    names = ("network", "weights", "accelerator", "dataset", "seed")
    described = {name: getattr(recipe, name) for name in names}
    described["prune"] = {"method": recipe.prune.method, **recipe.prune.options}
    if recipe.teacher is not None:
        described["teacher"] = [recipe.teacher.network, recipe.teacher.weights]
    return described


def _load(network: str, weights: str | None, *, seed: int) -> nn.Module:
    """Return a network with the weights that a recipe asks for."""
    path = None if weights in (None, RANDOM) else Path(weights)
    model = find_network(network, weights=path)
    if not isinstance(model, nn.Module):
        raise ValueError(f"network must be an nn.Module to be trained, not the file {network!r}")
    if weights == RANDOM:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for module in model.modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()
    return model


def _find_teacher(recipe: Recipe, dense: nn.Module) -> nn.Module | None:
    if recipe.teacher is None:
        return None
    if recipe.teacher.network is None:
        return (
            dense
            if recipe.teacher.weights is None
            else zoo.load_weights(copy.deepcopy(dense), recipe.teacher.weights)
        )
    return _load(recipe.teacher.network, recipe.teacher.weights, seed=recipe.seed)


def _prune_at_once(model: nn.Module, *, choose: Choose | None) -> dict[str, torch.Tensor]:
    """Prune ``model`` in place to its end, and return the masks."""
    masks = {} if choose is None else dict(choose(model, 1.0))
    apply_masks(model, masks=masks)
    return masks


def _count_cycles(recipe: Recipe, model: nn.Module, *, data: DataSet) -> int | None:
    """Return the cycles of a network, or None where it does not fit the accelerator."""
    try:
        return _compile(recipe, model, data=data).cycles().total.cycles
    except ValueError:
        return None


def _compile(recipe: Recipe, model: nn.Module, *, data: DataSet) -> Program:
    return coprune.compile(
        model,
        recipe.config,
        calibration=data.calibration_batches(),
        network=recipe.name,
        **asdict(recipe.quantize),
    )


def _measure(
    recipe: Recipe,
    model: nn.Module,
    *,
    program: Program,
    dense: nn.Module,
    masks: dict[str, torch.Tensor],
    data: DataSet,
) -> dict[str, Any]:
    """Return accuracies of what was made, and its cycles beside those of the dense network."""
    test = data.test
    answers = [
        program.simulate(data.normalize(torch.as_tensor(test.images[begin : begin + BATCH])))
        for begin in range(0, len(test), BATCH)
    ]
    outputs = np.concatenate(answers).reshape(len(test), -1)
    weights = sum(mask.numel() for mask in masks.values())
    cycles = program.cycles().total.cycles
    dense_cycles = _count_cycles(recipe, dense, data=data)
    return {
        "recipe": recipe.name,
        "network": recipe.network,
        "dataset": recipe.dataset,
        "accelerator": program.config.name,
        "test_images": len(test),
        "float_accuracy": evaluate(model, dataset=test, normalize=data.normalize),
        "int8_accuracy": float(np.mean(outputs.argmax(axis=1) == test.labels)),
        "cycles": cycles,
        "dense_cycles": dense_cycles,
        "speedup": None if dense_cycles is None else dense_cycles / cycles,
        "kept": sum(int(mask.sum()) for mask in masks.values()) / weights if weights else 1.0,
    }
