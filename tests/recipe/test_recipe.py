from pathlib import Path

import pytest

from coprune.prune import Gradual, OneShot, Steps, StraightThrough
from coprune.recipe import read_recipe
from coprune.recipe.recipe import parse_recipe
from coprune.train import Distillation, TrainingSettings

RECIPES = Path(__file__).parents[2] / "recipes"


def table(**changes):
    return {
        "name": "x",
        "network": "lenet5",
        "dataset": "cifar10",
        "train": {"epochs": 9},
    } | changes


def pruning(**schedule):
    return table(prune={"method": "pattern", "pattern": "4:16", "schedule": schedule})


def test_defaults_are_dense_training_without_teacher():
    recipe = parse_recipe(table(seed=5))
    assert recipe.prune.method == "none"
    assert recipe.prune.schedule == OneShot()
    assert recipe.teacher is None
    assert recipe.qat is None
    assert recipe.train == TrainingSettings(epochs=9, seed=5)
    assert recipe.quantize.observer == "mse"
    assert recipe.config.lanes == 16


def test_tables_are_read():
    recipe = parse_recipe(
        table(
            teacher={"network": "resnet20", "temperature": 2, "features": [["conv1", "conv2"]]},
            qat={"epochs": 2, "learning_rate": 0.01},
            quantize={"observer": "minmax", "equalize": True},
        )
    )
    assert recipe.teacher.network == "resnet20"
    assert recipe.teacher.distillation == Distillation(
        temperature=2.0, features=(("conv1", "conv2"),)
    )
    assert (recipe.qat.epochs, recipe.qat.observer) == (2, "minmax")
    assert (recipe.quantize.equalize, recipe.quantize.correct_bias) == (True, False)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"kind": "one_shot"}, OneShot()),
        ({"kind": "gradual", "epochs": 3, "every": 10}, Gradual(epochs=3.0, every=10)),
        ({"kind": "sr_ste", "epochs": 2.5}, StraightThrough(epochs=2.5)),
        ({"kind": "steps", "shares": [0.5, 1]}, Steps((0.5, 1.0))),
        ({"kind": "steps", "kept": [10, 4], "epochs": 2}, Steps((0.5, 1.0), epochs=2)),
    ],
)
def test_schedules_are_read(schedule, expected):
    assert parse_recipe(pruning(**schedule)).prune.schedule == expected


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"network": 3}, "network must be a string, not 3"),
        ({"seed": 1.5}, "seed must be an integer, not 1.5"),
        ({"seed": True}, "seed must be an integer, not True"),
        ({"trian": {}}, "trian is no key of a recipe; known here are name, network, "),
        ({"train": 3}, "train must be a table, not 3"),
        ({"train": {"epochs": 0}}, "train.epochs must be at least 1, not 0"),
        ({"train": {}}, "train.epochs is missing"),
        ({"train": {"epochs": 1, "flip": 1}}, "train.flip must be true or false, not 1"),
        ({"train": {"epochs": 1, "momentum": "high"}}, "train.momentum must be a number, not"),
        ({"teacher": {"temprature": 4}}, "teacher.temprature is no key of a recipe"),
        ({"teacher": {"temperature": 0}}, "teacher.temperature must be positive, not 0.0"),
        ({"teacher": {"features": [["a"]]}}, r"teacher.features must have 2 elements, not \['a'\]"),
        ({"teacher": {"features": "a"}}, "teacher.features must be a list, not 'a'"),
        ({"qat": {"epochs": 1}}, "qat.learning_rate is missing"),
        (
            {"qat": {"epochs": 0, "learning_rate": 1}},
            "qat.epochs must be at least 1, not 0",
        ),
        ({"quantize": {"observer": "max"}}, "quantize.observer must be one of .*, not 'max'"),
        ({"prune": {"method": "magic"}}, "prune.method must be one of none, .*, not 'magic'"),
        ({"prune": {"pattern": "4:16"}}, "prune.pattern is no key of a recipe; known here are $"),
    ],
)
def test_error_names_the_key(wrong, message):
    with pytest.raises(ValueError, match=message):
        parse_recipe(table(**wrong))


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"kind": "slow"}, "prune.schedule.kind must be one of one_shot, .*, not 'slow'"),
        ({}, "prune.schedule.kind must be one of .*, not None"),
        ({"kind": "gradual"}, "prune.schedule.epochs is missing"),
        ({"kind": "gradual", "epochs": 10}, "needs at least 10 epochs, but train.epochs is 9"),
        ({"kind": "sr_ste", "epochs": 1, "decay": -1}, "schedule.decay must not be negative"),
        ({"kind": "steps", "kept": [8, 6]}, "kept must end with 4, the N of prune.pattern, not 6"),
        ({"kind": "steps", "kept": [16, 4]}, r"prune.schedule.kept: kept must be in 0\.\.15"),
        ({"kind": "steps", "kept": "4"}, "kept must be a list of integers, not '4'"),
        ({"kind": "steps", "kept": [8, 4], "epochs": 9}, "needs at least 10 epochs"),
    ],
)
def test_wrong_schedule_is_refused(schedule, message):
    with pytest.raises(ValueError, match=message):
        parse_recipe(pruning(**schedule))


def test_schedule_in_values_of_n_needs_one_pattern():
    schedule = {"kind": "steps", "kept": [4]}
    prune = {"method": "pattern", "pattern": {"conv2": "4:16"}, "schedule": schedule}
    with pytest.raises(ValueError, match=r"kept needs prune\.pattern to be N:M; use shares"):
        parse_recipe(table(prune=prune))


def test_quantized_training_takes_the_rest_from_the_other_training():
    wrong = table(qat={"epochs": 1, "learning_rate": 0.1})
    del wrong["train"]
    with pytest.raises(ValueError, match="train is missing"):
        parse_recipe(wrong)


def test_assignments_come_before_the_file(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text('name = "x"\nnetwork = "lenet5"\ndataset = "cifar10"\n')
    recipe = read_recipe(
        path, assignments=["name=y", "train.epochs=3", "train.flip=false", "accelerator=8x8"]
    )
    assert (recipe.name, recipe.accelerator) == ("y", "8x8")
    assert (recipe.train.epochs, recipe.train.flip) == (3, False)
    with pytest.raises(ValueError, match=r"recipe\.toml: name of 'name\.x=3' is no table"):
        read_recipe(path, assignments=["name.x=3"])


def test_file_that_is_no_toml_is_refused(tmp_path):
    (tmp_path / "recipe.toml").write_text("name = ")
    with pytest.raises(ValueError, match=r"recipe\.toml is not a TOML file"):
        read_recipe(tmp_path / "recipe.toml")


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_recipes_that_come_along_are_valid(path):
    assert read_recipe(path).name == path.stem
