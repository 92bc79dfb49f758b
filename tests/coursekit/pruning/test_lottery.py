"""coursekit.pruning.lottery: rates, rewinding, controls, and the loop over all three."""

import copy

import pytest
import torch
from torch import nn

from coursekit.data import Dataset, digits
from coursekit.models import LeNet300100
from coursekit.pruning import (
    Ticket,
    TicketRecipe,
    find_tickets,
    prunable,
    random_masks_like,
    rewind,
    ticket_sparsities,
    train_ticket,
)

RECIPE = TicketRecipe(steps=40, batch_size=30)


@pytest.fixture(scope="module")
def train_digits() -> Dataset:
    return digits("train").take(600)


def small(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 30), nn.ReLU(), nn.Linear(30, 10))


def dense(model: nn.Module) -> Ticket:
    masks = {name: torch.ones_like(model.get_parameter(name), dtype=torch.bool) for name in prunable(model)}
    return Ticket(0, masks, copy.deepcopy(model.state_dict()), 1.0)


def test_rates_are_those_of_the_paper_for_lenet():
    """Frankle and Carbin's LeNet: 20 % a round, 10 % of the output layer; figure 4 marks 51.3, 21.1, 3.6 %."""
    names = prunable(LeNet300100())
    sizes = {name: LeNet300100().get_parameter(name).numel() for name in names}
    for rounds, paper in ((3, 0.513), (7, 0.211), (15, 0.036)):
        sparsities = ticket_sparsities(names, rounds)
        kept = sum(sizes[name] * (1 - sparsities[name]) for name in names) / sum(sizes.values())
        assert kept == pytest.approx(paper, abs=0.001)


def test_the_last_layer_loses_half_the_rate():
    assert ticket_sparsities(["a", "b", "c"], 2, 0.4) == pytest.approx({"a": 0.64, "b": 0.64, "c": 0.36})
    assert ticket_sparsities(["a", "b"], 0) == {"a": 0.0, "b": 0.0}


@pytest.mark.parametrize(("rounds", "rate"), [(-1, 0.2), (3, 0.0), (3, 1.0)])
def test_impossible_rates_are_refused(rounds, rate):
    with pytest.raises(ValueError, match="rate between 0 and 1"):
        ticket_sparsities(["a"], rounds, rate)


def test_rewinding_takes_survivors_from_the_snapshot_and_zero_elsewhere():
    snapshot = copy.deepcopy(small().state_dict())
    kept = torch.rand(30, 64, generator=torch.Generator().manual_seed(1)) < 0.4
    start = rewind(snapshot, {"1.weight": kept})
    assert torch.equal(start["1.weight"][kept], snapshot["1.weight"][kept])
    assert not start["1.weight"][~kept].any()
    for name in ("1.bias", "3.weight", "3.bias"):
        assert torch.equal(start[name], snapshot[name])
        start[name].add_(1)
        assert not torch.equal(start[name], snapshot[name])  # not the same memory


@pytest.mark.parametrize("name", ["2.weight", "3.weight"], ids=["unknown", "other_shape"])
def test_masks_that_do_not_fit_the_snapshot_are_refused(name):
    with pytest.raises(ValueError, match=name):
        rewind(small().state_dict(), {name: torch.ones(30, 64, dtype=torch.bool)})


def test_random_masks_keep_as_many_in_each_layer_elsewhere():
    masks = {"a": torch.arange(200).reshape(10, 20) < 50, "b": torch.arange(40) < 30}
    drawn = random_masks_like(masks, 0)
    assert {n: int(m.sum()) for n, m in drawn.items()} == {"a": 50, "b": 30}
    assert {n: m.shape for n, m in drawn.items()} == {n: m.shape for n, m in masks.items()}
    assert not torch.equal(drawn["a"], masks["a"])
    assert torch.equal(drawn["a"], random_masks_like(masks, 0)["a"])
    assert not torch.equal(drawn["a"], random_masks_like(masks, 1)["a"])
    overlap = int((drawn["a"] & masks["a"]).sum())  # hypergeometric: mean 12.5, deviation 2.7
    assert 2 <= overlap <= 23


def test_each_round_prunes_the_smallest_survivors_of_what_was_trained(train_digits):
    start, names = copy.deepcopy(small().state_dict()), prunable(small())
    trained: list[dict[str, torch.Tensor]] = []

    def train(ticket: Ticket) -> dict[str, torch.Tensor]:
        trained.append(train_ticket(small(7), ticket, train_digits, RECIPE).state_dict())
        return trained[-1]

    tickets = find_tickets(start, names, train, rounds=3, rate=0.5)
    assert [ticket.round for ticket in tickets] == [0, 1, 2, 3]
    for before, after, weights in zip(tickets, tickets[1:], trained, strict=False):
        for name in names:
            was, now = before.masks[name], after.masks[name]
            rate = 0.25 if name == names[-1] else 0.5
            assert int(now.sum()) == now.numel() - round((1 - (1 - rate) ** after.round) * now.numel())
            assert not (now & ~was).any()
            assert weights[name][was & ~now].abs().max() <= weights[name][now].abs().min()
            assert torch.equal(after.start[name], torch.where(now, start[name], 0.0))
    total = sum(mask.numel() for mask in tickets[-1].masks.values())
    assert tickets[-1].kept == sum(int(m.sum()) for m in tickets[-1].masks.values()) / total


def test_a_trained_ticket_learns_and_its_zeros_stay(train_digits):
    ticket = dense(small())
    every_fourth = {n: torch.arange(m.numel()).reshape(m.shape) % 4 == 0 for n, m in ticket.masks.items()}
    masks = random_masks_like(every_fourth, 0)
    sparse = Ticket(1, masks, rewind(ticket.start, masks), 0.25)
    steps: list[int] = []
    model = train_ticket(small(7), sparse, train_digits, RECIPE, on_step=steps.append)
    assert steps == list(range(1, 41))
    assert not model.training
    assert list(model.state_dict()) == list(ticket.start)  # no mask is left in it
    for name, mask in masks.items():
        weight = model.get_parameter(name)
        assert not weight[~mask].any()
        assert not torch.equal(weight, sparse.start[name])


def test_a_ticket_trains_alike_whatever_the_model_held_before(train_digits):
    ticket = dense(small())
    first, second = (train_ticket(small(seed), ticket, train_digits, RECIPE) for seed in (5, 6))
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])


def test_nothing_to_train_is_refused(train_digits):
    with pytest.raises(ValueError, match="0 steps"):
        train_ticket(small(), dense(small()), train_digits, TicketRecipe(steps=0))
