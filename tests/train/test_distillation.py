import math

import numpy as np
import pytest
import torch
from torch import nn

from coprune.train import Distillation, FeatureMatching, distillation_loss


def test_loss_of_an_example_by_hand():
    """Two images, two classes, T = 2, three quarters of the loss soft.

    Logits divided by 2 are logarithms, so that their softmax has simple numbers:
    image 1: teacher (2 ln 3, 0) to (3/4, 1/4); student (0, 0) to (1/2, 1/2).
        KL = 3/4 ln(3/4 / (1/2)) + 1/4 ln(1/4 / (1/2)) = 3/4 ln 3 - ln 2
        label 0: the student's softmax at T = 1 is (1/2, 1/2), cross entropy ln 2
    image 2: teacher (0, 0) to (1/2, 1/2); student (0, 2 ln 3) to (1/4, 3/4).
        KL = 1/2 ln(1/2 / (1/4)) + 1/2 ln(1/2 / (3/4)) = 1/2 ln(4/3) = ln 2 - 1/2 ln 3
        label 1: the student's softmax at T = 1 is (1/10, 9/10), cross entropy ln(10/9)
    soft = (3/4 ln 3 - 1/2 ln 3) / 2 = 1/8 ln 3
    hard = (ln 2 + ln(10/9)) / 2 = 1/2 ln(20/9)
    loss = 3/4 * 2^2 * 1/8 ln 3 + 1/4 * 1/2 ln(20/9) = 3/8 ln 3 + 1/8 ln(20/9) = 0.51179...
    """
    loss = distillation_loss(
        torch.tensor([[0.0, 0.0], [0.0, 2 * math.log(3)]]),
        teacher_logits=torch.tensor([[2 * math.log(3), 0.0], [0.0, 0.0]]),
        labels=torch.tensor([0, 1]),
        temperature=2.0,
        soft_share=0.75,
    )
    # Some roundings of float32.
    assert loss.item() == pytest.approx(0.511793, abs=1e-6)


def test_distillation_loss_follows_its_formula():
    random = np.random.default_rng(9)
    logits, teacher_logits = random.normal(size=(2, 4, 10)).astype(np.float32) * 3
    labels = np.array([3, 1, 4, 1])

    def log_softmax(values):
        return values - np.log(np.exp(values).sum(axis=1, keepdims=True))

    student, teacher = log_softmax(logits / 4), log_softmax(teacher_logits / 4)
    soft = 16 * (np.exp(teacher) * (teacher - student)).sum(axis=1).mean()
    hard = -log_softmax(logits)[np.arange(4), labels].mean()
    loss = distillation_loss(
        torch.from_numpy(logits),
        teacher_logits=torch.from_numpy(teacher_logits),
        labels=torch.from_numpy(labels),
        temperature=4.0,
        soft_share=0.9,
    )
    # float32 logarithms and sums against float64: some tens of units of rounding.
    assert loss.item() == pytest.approx(0.9 * soft + 0.1 * hard, rel=1e-5)


@pytest.mark.parametrize("setting", [{"temperature": 0.0}, {"soft_share": 1.5}])
def test_impossible_settings_are_refused(setting):
    name, value = next(iter(setting.items()))
    logits = torch.zeros(1, 10)
    with pytest.raises(ValueError, match=rf"{name} must be .*, not {value}"):
        distillation_loss(
            logits, teacher_logits=logits, labels=torch.zeros(1, dtype=torch.long), **setting
        )
    with pytest.raises(ValueError, match=rf"{name} must be .*, not {value}"):
        Distillation(**setting)


def small(channels, *, stride=1):
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1, stride=stride), nn.Flatten(), nn.LazyLinear(2)
    )


def match(student, teacher, pairs):
    image = torch.zeros(1, 3, 4, 4)
    student(image), teacher(image)
    return FeatureMatching(student, teacher, pairs=pairs, image=image)


def test_features_of_equal_shape_are_compared_as_they_are():
    student, teacher = small(2), small(2)
    features = match(student, teacher, [("0", "0")])
    x = torch.ones(2, 3, 4, 4)
    student(x), teacher(x)
    expected = (student[0](x) - teacher[0](x)).square().mean()
    assert torch.allclose(features(), expected)
    assert not list(features.parameters())


def test_projection_learns_what_the_teacher_has_more_channels_for():
    student, teacher = small(2), small(5)
    features = match(student, teacher, [("0", "0"), ("2", "2")])
    assert [tuple(each.weight.shape) for each in features.projections[:1]] == [(5, 2, 1, 1)]
    student(torch.ones(2, 3, 4, 4)), teacher(torch.ones(2, 3, 4, 4))
    features().backward()
    assert features.projections[0].weight.grad.any()
    assert student[0].weight.grad.any()


def test_features_that_cannot_be_matched_are_refused():
    with pytest.raises(ValueError, match="the student has no 'layer1'; it has 0, 1, 2"):
        match(small(2), small(2), [("layer1", "0")])
    with pytest.raises(ValueError, match="the teacher has no ''"):
        match(small(2), small(2), [("0", "")])
    with pytest.raises(ValueError, match=r"must have one size, not \[2, 4, 4\] and \[2, 2, 2\]"):
        match(small(2), small(2, stride=2), [("0", "0")])


def test_removed_hooks_see_nothing():
    student, teacher = small(2), small(2)
    features = match(student, teacher, [("0", "0")])
    before = features()
    features.remove()
    student(torch.ones(1, 3, 4, 4))
    assert torch.equal(features(), before)
