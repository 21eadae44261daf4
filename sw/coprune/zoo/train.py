"""The networks that come with coprune trained from random weights, as ``scripts/train-zoo`` does.

The public ResNet-20 and what `coprune.prune.finetune` makes of it are not among them.
"""

import argparse
import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from coprune import atomic_file
from coprune.data import LabelledImages, cifar10, fashion_mnist
from coprune.zoo import lenet, mobilenet
from coprune.zoo.training import Normalize, TrainingRecipe, evaluate, serialize, train

Load = Callable[[Path | None], LabelledImages]


@dataclass(frozen=True)
class ShippedTraining:
    """How the weights of one network were made.

    Parameters
    ----------
    build
        Makes the network with random weights.
    load_train, load_test
        Read the images from a folder, or from where they are looked for.
    weights
        Where they lie.
    """

    build: Callable[[], nn.Module]
    load_train: Load
    load_test: Load
    normalize: Normalize
    recipe: TrainingRecipe
    weights: Path


TRAININGS = {
    "lenet5": ShippedTraining(
        build=lenet.LeNet5,
        load_train=fashion_mnist.load_train,
        load_test=fashion_mnist.load_test,
        normalize=fashion_mnist.normalize,
        recipe=TrainingRecipe(epochs=30, learning_rate=0.05, crop_padding=1),
        weights=lenet.WEIGHTS,
    ),
    "mobilenetv2-cifar10": ShippedTraining(
        build=functools.partial(mobilenet.MobileNetV2, **mobilenet.CIFAR10_PARAMETERS),
        load_train=cifar10.load_train,
        load_test=cifar10.load_test,
        normalize=cifar10.normalize,
        recipe=TrainingRecipe(
            epochs=16,
            warmup_epochs=1,
            cosine_epochs=30,
            cooldown_epochs=7,
            label_smoothing=0.1,
            channels_last=True,
        ),
        weights=mobilenet.CIFAR10_WEIGHTS,
    ),
}
"""By the name that `coprune.zoo.build` knows."""


def main() -> None:
    """Train a network of the zoo from random weights."""
    cache = Path(__file__).parents[3] / ".cache"
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("network", choices=TRAININGS)
    parser.add_argument("--data", type=Path, help="folder of the data set")
    parser.add_argument("--output", type=Path, help="where weights go (default: the shipped file)")
    parser.add_argument(
        "--folder",
        type=Path,
        help="checkpoint and log; an interrupted run goes on from there (default: .cache/NETWORK)",
    )
    parser.add_argument("--epochs", type=int, help="other than those of the recipe")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    training = TRAININGS[arguments.network]
    output = arguments.output or training.weights
    recipe = training.recipe
    if arguments.epochs is not None:
        recipe = replace(recipe, epochs=arguments.epochs)
    model = train(
        training.build,
        dataset=training.load_train(arguments.data),
        normalize=training.normalize,
        recipe=recipe,
        folder=arguments.folder or cache / arguments.network,
    )
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    atomic_file.write(output, serialize(state))
    test = training.load_test(arguments.data)
    accuracy = evaluate(model, dataset=test, normalize=training.normalize)
    print(f"{output}: {accuracy:.2%} of {len(test)} test images")


if __name__ == "__main__":
    main()
