from dataclasses import replace

import pytest
import torch
from torch import nn

from coprune.train import TrainingSettings

SETTINGS = TrainingSettings(epochs=3, batch=8, learning_rate=0.02)


def test_learning_rate_rises_and_falls_to_zero():
    settings = replace(SETTINGS, epochs=10, learning_rate=0.5, warmup_steps=10)
    rates = [settings.learning_rate_at(step, steps_per_epoch=10) for step in range(101)]
    assert rates[0] == 0.05
    assert max(rates) == rates[9] == rates[10] == 0.5
    assert rates[55] == pytest.approx(0.25)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == 0.0


def test_learning_rate_leaves_a_longer_cosine_in_the_cool_down():
    whole = replace(SETTINGS, epochs=30, learning_rate=0.1, warmup_steps=4)
    ended = replace(whole, epochs=12, cosine_epochs=30, cooldown_epochs=4)
    for step in (0, 2, 4, 13, 32):
        rate = ended.learning_rate_at(step, steps_per_epoch=4)
        assert rate == whole.learning_rate_at(step, steps_per_epoch=4)
    # Products and quotients of float64: 1e-12 is thousands of their roundings.
    for step, share in ((36, 0.75), (46, 0.125), (48, 0.0)):
        expected = share * whole.learning_rate_at(step, steps_per_epoch=4)
        rate = ended.learning_rate_at(step, steps_per_epoch=4)
        assert rate == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"batch": 0}, "batch must be at least 1, not 0"),
        ({"warmup_steps": -1}, "warmup_steps must be at least 0, not -1"),
        ({"learning_rate": 0.0}, "learning_rate must be positive, not 0.0"),
        ({"momentum": 1.0}, "momentum must be from 0 to below 1, not 1.0"),
        ({"label_smoothing": 1.0}, "label_smoothing must be from 0 to below 1, not 1.0"),
        ({"cosine_epochs": 2}, r"cosine_epochs must be at least 3 \(epochs\), not 2"),
        ({"cooldown_epochs": 4}, r"cooldown_epochs must be from 0 to 3 \(epochs\), not 4"),
        ({"optimizer": "lion"}, "optimizer must be one of sgd, adam, adamw, not 'lion'"),
        ({"precision": "int8"}, "precision must be one of float32, bfloat16, auto, not 'int8'"),
    ],
)
def test_wrong_settings_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        replace(SETTINGS, **values)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)],
)
def test_optimizer_has_the_settings(name, kind):
    settings = replace(SETTINGS, optimizer=name, momentum=0.8, weight_decay=0.25)
    optimizer = settings.make_optimizer([nn.Parameter(torch.zeros(1))])
    assert type(optimizer) is kind
    assert optimizer.defaults["weight_decay"] == 0.25
    if name == "sgd":
        assert (optimizer.defaults["momentum"], optimizer.defaults["nesterov"]) == (0.8, True)
