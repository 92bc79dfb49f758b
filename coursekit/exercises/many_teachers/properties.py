"""The public tests of lesson 10. Each states a property and checks it by definition, not against the reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coursekit.exercises.expect import expect, expect_close, expect_float, expect_tensor
from coursekit.exercises.inputs import normal
from coursekit.exercises.many_teachers.properties_confidence import CONFIDENCE, expect_refused, log_softmax
from coursekit.exercises.spec import Fixture, Test, TestFunction, as_test, worth
from coursekit.fixtures import mutual

__all__ = [
    "PUBLIC", "average_by_hand", "expect_history", "expect_refused", "expect_weights", "mutual_by_hand", "peer_batches",
    "peer_loss_by_hand",
]  # fmt: skip


def expect_weights(value: Any, wanted: Sequence[float], what: str) -> None:
    """Raises MismatchError unless the value is a list of just these floats."""
    expect(isinstance(value, list | tuple), f"{what}: the result is not a list", value, "a list of floats")
    got = [expect_float(each, "a weight") for each in value]
    expect(len(got) == len(wanted), f"{what}: the number of weights", len(got), len(wanted))
    expect_close(got, list(wanted), what, atol=1e-9)


@worth(2)
def test_weights_add_up_to_one(student):
    """The weights come back in their proportions, divided by their sum, as a list of floats."""
    for given, wanted in (
        ([1.0, 1.0], [0.5, 0.5]),
        ([3, 1], [0.75, 0.25]),
        ([0.2, 0.0, 0.6], [0.25, 0.0, 0.75]),
    ):
        expect_weights(student.ensemble_weights(given, len(given)), wanted, f"weights {given}")
    in_a_tensor = student.ensemble_weights(torch.tensor([2.0, 6.0]), 2)
    expect_weights(in_a_tensor, [0.25, 0.75], "weights in a tensor, 2 and 6")


def test_no_weights_means_equal_ones(student):
    """Without weights every teacher has the same one."""
    for n in (1, 3, 4):
        expect_weights(student.ensemble_weights(None, n), [1 / n] * n, f"None for {n} teachers")


def test_bad_weights_are_refused(student):
    """A wrong number of weights, one below 0, NaN or infinite, or all of them 0: ValueError."""
    for given, n, why in (
        ([1.0, 1.0], 3, "2 weights for 3 teachers"),
        ([1.0, 1.0, 1.0], 2, "3 weights for 2 teachers"),
        ([1.5, -0.5], 2, "a negative weight"),
        ([0.0, 0.0], 2, "weights that are all 0"),
        ([math.nan, 1.0], 2, "a weight that is NaN"),
        ([math.inf, 1.0], 2, "an infinite weight"),
    ):
        expect_refused(partial(student.ensemble_weights, given, n), why)


def average_by_hand(logits: Sequence[Tensor], weights: Sequence[float], temperature: float) -> np.ndarray:
    """The mean of the softened probabilities, by definition and in float64."""
    total = 0.0
    for weight, each in zip(weights, logits, strict=True):
        z = each.double().numpy() / temperature
        powers = np.exp(z - z.max(1, keepdims=True))
        total = total + weight * powers / powers.sum(1, keepdims=True)
    return np.asarray(total)


@worth(2)
def test_one_loud_teacher_has_one_vote(student):
    """A teacher whose logits are huge gets its weight of the probability, not all of it."""
    quiet, loud = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 60.0]])
    got = expect_tensor(
        student.ensemble_probabilities([quiet, quiet, loud], [0.25, 0.25, 0.5], 1.0), torch.float32, (1, 3)
    )
    expect_close(got[0, 2], 0.5 + 0.5 / (math.e**2 + 2), "probability of the loud one's class", rtol=1e-4)


def test_average_at_a_temperature(student):
    """Each teacher is softened first, then they are averaged with their weights."""
    logits = [normal(5, 4, seed=s) * 3 for s in (1, 2, 3)]
    for temperature, weights in ((1.0, [0.2, 0.3, 0.5]), (4.0, [0.6, 0.4, 0.0]), (0.5, [0.1, 0.1, 0.8])):
        got = expect_tensor(
            student.ensemble_probabilities(logits, weights, temperature), torch.float32, (5, 4)
        )
        wanted = average_by_hand(logits, weights, temperature)
        expect_close(got, wanted, f"probability at T = {temperature:g}", rtol=1e-4, atol=1e-6)


def test_each_row_is_a_distribution(student):
    """Each image's probabilities add up to 1, whatever the number of teachers."""
    for n in (1, 2, 5):
        logits = [normal(6, 3, seed=s) * 2 for s in range(n)]
        got = expect_tensor(student.ensemble_probabilities(logits, [1 / n] * n, 2.0), torch.float32, (6, 3))
        expect(bool((got >= 0).all()), f"a probability of {n} teachers is negative", got.min(), "0 or more")
        expect_close(got.sum(1), torch.ones(6), f"sum of an image's probabilities, {n} teachers", rtol=1e-4)


def peer_loss_by_hand(own: Tensor, others: Sequence[Tensor], labels: Tensor, temperature: float) -> float:
    """The peer's loss by definition, in float64."""
    mine = log_softmax(own.double().numpy() / temperature)
    apart = []
    for other in others:
        theirs = log_softmax(other.double().numpy() / temperature)
        apart.append((np.exp(theirs) * (theirs - mine)).sum(1).mean())
    right = -log_softmax(own.double().numpy())[np.arange(len(labels)), labels.numpy()].mean()
    return float(right + temperature**2 * np.mean(apart))


def _expect_loss(value: Any, wanted: float, what: str) -> None:
    expect(isinstance(value, Tensor), f"{what}: not a tensor, so it has no gradient", value, "a tensor")
    expect(value.dim() == 0, f"{what}: the shape", str(tuple(value.shape)), "()")
    expect_close(value, wanted, what, rtol=1e-4, atol=1e-6)


def test_peers_that_agree_leave_the_cross_entropy(student):
    """If all peers say the same, the loss is the cross-entropy with the labels, at any temperature."""
    own, labels = normal(6, 4) * 2, torch.tensor([0, 1, 2, 3, 0, 1])
    for temperature in (1.0, 3.0):
        wanted = peer_loss_by_hand(own, [own], labels, temperature)
        got = student.peer_loss(own, [own.clone(), own.clone()], labels, temperature)
        _expect_loss(got, wanted, f"loss of three that agree, T = {temperature:g}")


@worth(2)
def test_one_other_peer(student):
    """With one other: cross-entropy plus T² times KL(other ‖ own), both softened at T, averaged over the images."""
    own, other, labels = normal(6, 4) * 2, normal(6, 4, seed=1) * 3, torch.tensor([3, 1, 0, 0, 2, 1])
    for temperature in (1.0, 4.0):
        wanted = peer_loss_by_hand(own, [other], labels, temperature)
        got = student.peer_loss(own, [other], labels, temperature)
        _expect_loss(got, wanted, f"loss at T = {temperature:g}")


def test_mean_over_the_other_peers(student):
    """With several others: the mean of one divergence from each."""
    own, labels = normal(5, 4) * 2, torch.tensor([3, 1, 0, 2, 2])
    others = [normal(5, 4, seed=s) * 3 for s in (1, 2, 3)]
    wanted = peer_loss_by_hand(own, others, labels, 2.0)
    _expect_loss(student.peer_loss(own, others, labels, 2.0), wanted, "loss with three others at T = 2")


def peer_batches(n_batches: int, seed: int = 0, n: int = 6) -> list[tuple[Tensor, Tensor]]:
    """Batches for the linear peers of the fixtures."""
    labels = torch.arange(n * n_batches).remainder(mutual.N_CLASSES).split(n)
    return [(normal(n, mutual.N_FEATURES, seed=seed + i), labels[i]) for i in range(n_batches)]


def mutual_by_hand(
    n_peers: int, seed: int, batches: Sequence[tuple[Tensor, Tensor]], lr: float
) -> list[list[float]]:
    """Each step's losses, with the gradient of linear softmax peers written out: no autograd, no graph to share."""
    weights = [w.double().numpy() for w in mutual.peer_weights(n_peers, seed)]
    history: list[list[float]] = []
    for images, labels in batches:
        x, hot = images.double().numpy(), np.eye(mutual.N_CLASSES)[labels.numpy()]
        logs = [log_softmax(x @ w.T) for w in weights]
        losses, moved = [], []
        for i, weight in enumerate(weights):
            others = [np.exp(logs[j]) for j in range(n_peers) if j != i]
            apart = np.mean([(q * (np.log(q) - logs[i])).sum(1).mean() for q in others])
            losses.append(float(-(hot * logs[i]).sum(1).mean() + apart))
            slope = (np.exp(logs[i]) - hot) + (np.exp(logs[i]) - np.mean(others, axis=0))
            moved.append(weight - lr * slope.T @ x / len(x))
        weights, history = moved, [*history, losses]
    return history


def expect_history(value: Any, wanted: Sequence[Sequence[float]], what: str) -> None:
    """Raises MismatchError unless the value holds these losses, step by step and peer by peer."""
    expect(isinstance(value, list | tuple), f"{what}: not a list", value, "a list, one entry a step")
    expect(len(value) == len(wanted), f"{what}: the number of steps", len(value), len(wanted))
    for step, (got, right) in enumerate(zip(value, wanted, strict=True), start=1):
        expect(
            isinstance(got, list | tuple),
            f"{what}: step {step} is not a list",
            got,
            "a list, one loss a peer",
        )
        expect(len(got) == len(right), f"{what}: losses of step {step}", len(got), len(right))
        losses = [expect_float(loss, "a loss") for loss in got]
        expect_close(losses, right, f"{what}: the losses of step {step}", rtol=1e-3)


def _peers(n_peers: int, seed: int) -> tuple[Fixture, Fixture]:
    torch.optim.SGD([torch.zeros(1)], 0.1)  # the first one loads torch's compiler: no time of hers
    return Fixture("mutual.linear_peers", (n_peers, seed)), Fixture("mutual.agreement_loss")


@worth(2)
def test_losses_of_the_first_step(student):
    """The first step's losses are those of the untrained peers, each against all the others, in the peers' order."""
    for n_peers, seed in ((2, 0), (3, 1)):
        peers, loss = _peers(n_peers, seed)
        batches = peer_batches(1, seed)
        got = student.train_peers(peers, batches, 0.5, loss)
        expect_history(got, mutual_by_hand(n_peers, seed, batches, 0.5), f"{n_peers} peers")


@worth(2)
def test_peers_follow_their_own_gradient_only(student):
    """Step by step the losses are those of peers whose targets were fixed numbers: no gradient went into a target."""
    for n_peers, seed in ((2, 0), (3, 2)):
        peers, loss = _peers(n_peers, seed)
        batches = peer_batches(5, seed)
        got = student.train_peers(peers, batches, 0.5, loss)
        expect_history(got, mutual_by_hand(n_peers, seed, batches, 0.5), f"{n_peers} peers, 5 steps")


def _tests(*functions: TestFunction) -> tuple[Test, ...]:
    return tuple(as_test(function, public=True) for function in functions)


PUBLIC: dict[str, tuple[Test, ...]] = {
    "ensemble_weights": _tests(
        test_weights_add_up_to_one, test_no_weights_means_equal_ones, test_bad_weights_are_refused
    ),
    "ensemble_probabilities": _tests(
        test_one_loud_teacher_has_one_vote, test_average_at_a_temperature, test_each_row_is_a_distribution
    ),
    "peer_loss": _tests(
        test_peers_that_agree_leave_the_cross_entropy, test_one_other_peer, test_mean_over_the_other_peers
    ),
    "train_peers": _tests(test_losses_of_the_first_step, test_peers_follow_their_own_gradient_only),
    **CONFIDENCE,
}
