import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coprune.prune import (
    BlockPattern,
    Gradual,
    OneShot,
    SparseTraining,
    StraightThrough,
    fixed_choice,
    pattern_choice,
)

OPTIMIZERS = {
    "sgd": lambda weights: torch.optim.SGD(
        weights, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01
    ),
    "adam": lambda weights: torch.optim.Adam(weights, lr=0.01, weight_decay=0.01),
    "adamw": lambda weights: torch.optim.AdamW(weights, lr=0.01, weight_decay=0.1),
}
CHOOSE = pattern_choice(
    {
        "1": BlockPattern.uniform((16, 16, 3, 3), n=4, lanes=16),
        "4": BlockPattern.uniform((8, 16), n=2, lanes=8),
    }
)


@pytest.fixture
def network():
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 8),
    )


def take_step(model, optimizer, sparse):
    sparse.before_forward()
    F.cross_entropy(model(torch.randn(4, 3, 8, 8)), torch.arange(4)).backward()
    optimizer.step()
    optimizer.zero_grad()


def assert_pruned(model, masks):
    for name, mask in masks.items():
        assert not mask.all(), name
        assert not model.get_submodule(name).weight[~mask].any(), name
        assert model.get_submodule(name).weight[mask].all(), name


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_pruned_weights_stay_exactly_zero(network, kind):
    optimizer = OPTIMIZERS[kind](network.parameters())
    # A dense start gives momentum to what is pruned then.
    for _ in range(3):
        F.cross_entropy(network(torch.randn(4, 3, 8, 8)), torch.arange(4)).backward()
        optimizer.step()
    sparse = SparseTraining(network, choose=CHOOSE, optimizer=optimizer)
    before = network[1].weight.detach().clone()
    for _ in range(4):
        take_step(network, optimizer, sparse)
        assert_pruned(network, sparse.masks)
    assert not torch.equal(network[1].weight[sparse.masks["1"]], before[sparse.masks["1"]])
    masks = sparse.finish()
    assert_pruned(network, masks)
    # The optimizer is free again.
    F.cross_entropy(network(torch.randn(4, 3, 8, 8)), torch.arange(4)).backward()
    optimizer.step()
    assert network[1].weight[~masks["1"]].any()


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("schedule", [Gradual(epochs=2, every=2), StraightThrough(epochs=2)])
def test_masks_of_a_schedule_hold_when_it_ends(network, kind, schedule):
    optimizer = OPTIMIZERS[kind](network.parameters())
    sparse = SparseTraining(
        network, choose=CHOOSE, optimizer=optimizer, schedule=schedule, steps_per_epoch=3
    )
    for _ in range(7):
        take_step(network, optimizer, sparse)
    masks = sparse.masks
    assert sparse.kept == (4 / 16 * 16 * 16 * 9 + 2 / 8 * 8 * 16) / (16 * 16 * 9 + 8 * 16)
    assert_pruned(network, masks)
    take_step(network, optimizer, sparse)
    assert_pruned(network, masks)
    assert all(torch.equal(sparse.finish()[name], mask) for name, mask in masks.items())


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Gradual(1, every=2), [0, 7 / 8, 1]),
        # In each of the four steps, and for the last time.
        (StraightThrough(1), [1, 1, 1, 1, 1]),
    ],
)
def test_masks_are_chosen_only_when_it_is_time_to(network, schedule, expected):
    seen = []

    def choose(model, share):
        seen.append(share)
        return CHOOSE(model, share)

    optimizer = OPTIMIZERS["sgd"](network.parameters())
    sparse = SparseTraining(
        network, choose=choose, optimizer=optimizer, schedule=schedule, steps_per_epoch=4
    )
    for _ in range(6):
        take_step(network, optimizer, sparse)
    sparse.finish()
    assert seen == expected


def example(decay=0.1):
    """A layer of one output and four inputs that keeps two of four weights, and SGD of rate 1."""
    model = nn.Sequential(nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[4.0, -3.0, 2.0, -1.0]]))
    choose = pattern_choice({"0": BlockPattern.uniform((1, 4), n=2, lanes=4)})
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    schedule = StraightThrough(epochs=2, decay=decay)
    return (
        model,
        optimizer,
        SparseTraining(model, choose=choose, optimizer=optimizer, schedule=schedule),
    )


def test_straight_through_step_by_hand():
    """The mask keeps 4 and -3, so the forward pass sees (4, -3, 0, 0).

    With x = (1, 1, 3, 2) the output is 1; its gradient with respect to every weight, the pruned
    ones too, is x. The decay adds 0.1 * (0, 0, 2, -1). After a step of rate 1:
    (4 - 1, -3 - 1, 2 - 3 - 0.2, -1 - 2 + 0.1) = (3, -4, -1.2, -2.9).
    The next mask keeps -4 and 3. Then x = (0, 0, 1, -1): the output is 0 and the weights become
    (3, -4, -1.2 - 1 + 0.12, -2.9 + 1 + 0.29) = (3, -4, -2.08, -1.61).
    """
    model, optimizer, sparse = example()
    for x, output, expected in (
        ([1.0, 1.0, 3.0, 2.0], 1.0, [3.0, -4.0, -1.2, -2.9]),
        ([0.0, 0.0, 1.0, -1.0], 0.0, [3.0, -4.0, -2.08, -1.61]),
    ):
        sparse.before_forward()
        result = model(torch.tensor([x]))
        assert result.item() == output
        result.sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        torch.testing.assert_close(model[0].weight.detach(), torch.tensor([expected]))
    # Two epochs are over: the last masks are those of the dense weights, and hold.
    sparse.before_forward()
    torch.testing.assert_close(model[0].weight.detach(), torch.tensor([[3.0, -4.0, 0.0, 0.0]]))
    assert sparse.finish()["0"].tolist() == [[True, True, False, False]]


def test_pruned_weight_may_come_back_in_straight_through_training():
    model, optimizer, sparse = example(decay=0.0)
    sparse.before_forward()
    assert sparse.masks["0"].tolist() == [[True, True, False, False]]
    model(torch.tensor([[0.0, 0.0, -8.0, 0.0]])).sum().backward()
    optimizer.step()
    sparse.before_forward()
    assert sparse.masks["0"].tolist() == [[True, False, True, False]]
    assert model[0].weight.tolist() == [[4.0, 0.0, 10.0, 0.0]]


def test_gradients_of_several_batches_add_up_in_straight_through_training():
    model, optimizer, sparse = example(decay=0.1)
    for _ in range(2):
        sparse.before_forward()
        model(torch.tensor([[0.0, 0.0, 1.0, 0.0]])).sum().backward()
    optimizer.step()
    # 2 - 2 * 1 - 0.1 * 2 and -1 + 0.1 * 1.
    torch.testing.assert_close(model[0].weight.detach(), torch.tensor([[4.0, -3.0, -0.2, -0.9]]))


def test_pruned_shows_the_network_as_in_training():
    model, optimizer, sparse = example()
    with sparse.pruned():
        assert model[0].weight.tolist() == [[4.0, -3.0, 2.0, -1.0]]
    sparse.before_forward()
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    dense = model[0].weight.detach().clone()
    with sparse.pruned():
        assert model[0].weight.count_nonzero() == 2
    assert torch.equal(model[0].weight, dense)


def test_finish_prunes_what_a_schedule_had_not_come_to(network):
    optimizer = OPTIMIZERS["sgd"](network.parameters())
    sparse = SparseTraining(
        network, choose=CHOOSE, optimizer=optimizer, schedule=Gradual(5), steps_per_epoch=5
    )
    take_step(network, optimizer, sparse)
    assert sparse.kept == 1
    assert_pruned(network, sparse.finish())


@pytest.mark.parametrize("steps", [3, 6])
@pytest.mark.parametrize("schedule", [OneShot(), Gradual(2, every=2), StraightThrough(2)])
def test_state_goes_on_as_if_nothing_had_happened(network, schedule, steps):
    def start(model):
        optimizer = OPTIMIZERS["sgd"](model.parameters())
        return optimizer, SparseTraining(
            model, choose=CHOOSE, optimizer=optimizer, schedule=schedule, steps_per_epoch=3
        )

    def go_on(model, optimizer, sparse):
        torch.manual_seed(8)
        for _ in range(5):
            take_step(model, optimizer, sparse)
        sparse.finish()

    optimizer, sparse = start(network)
    for _ in range(steps):
        take_step(network, optimizer, sparse)
    other = copy.deepcopy(network)
    other_optimizer, other_sparse = start(other)
    # It would share the state's tensors.
    other_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    other_sparse.load_state_dict(sparse.state_dict())
    go_on(network, optimizer, sparse)
    go_on(other, other_optimizer, other_sparse)
    for name, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_masks_of_the_users_own(network):
    masks = {"1": torch.zeros(16, 16, 3, 3, dtype=torch.bool)}
    optimizer = OPTIMIZERS["adamw"](network.parameters())
    sparse = SparseTraining(network, choose=fixed_choice(masks), optimizer=optimizer)
    take_step(network, optimizer, sparse)
    assert not network[1].weight.any()
    assert network[0].weight.all()
