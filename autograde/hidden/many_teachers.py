"""Hidden tests of lesson 10. Each states a property and checks it by definition, not against the reference."""

from __future__ import annotations

import math
from functools import partial

import torch

from coursekit.exercises.expect import expect, expect_close, expect_float, expect_tensor
from coursekit.exercises.inputs import normal
from coursekit.exercises.many_teachers.properties import (
    average_by_hand,
    expect_history,
    expect_refused,
    expect_weights,
    mutual_by_hand,
    peer_batches,
    peer_loss_by_hand,
)
from coursekit.exercises.many_teachers.properties_confidence import (
    chain_links,
    error_by_hand,
    least_surprising,
)
from coursekit.exercises.spec import Fixture, as_test, worth

__all__ = ["HIDDEN"]


def test_other_proportions(student):
    """Weights of any total, large or tiny, keep their proportions."""
    for given in ([5.0, 3.0, 2.0, 7.0], [1e-9, 3e-9], [1e6, 1e6, 2e6], [0.0, 0.0, 4.0], [1.0]):
        wanted = [each / sum(given) for each in given]
        expect_weights(student.ensemble_weights(given, len(given)), wanted, f"weights {given}")


def test_other_bad_weights_are_refused(student):
    """Bad values among good ones, and weights in a tensor of the wrong length, are refused as well."""
    for given, n, why in (
        ([2.0, -1.0, 2.0], 3, "a negative weight between good ones"),
        ([1.0, 1.0, math.nan], 3, "NaN at the end"),
        (torch.tensor([1.0, 2.0, 3.0]), 2, "a tensor of 3 weights for 2 teachers"),
        ([0.0, 0.0, 0.0, 0.0], 4, "four zeros"),
    ):
        expect_refused(partial(student.ensemble_weights, given, n), why)


def test_other_teachers_and_temperatures(student):
    """Two to five teachers, many temperatures: the weighted mean of softened probabilities."""
    for n, temperature in ((2, 2.0), (3, 8.0), (5, 0.7)):
        logits = [normal(7, 6, seed=10 * n + s) * (s + 1) for s in range(n)]
        weights = [(s + 1) * 2 / (n * (n + 1)) for s in range(n)]
        got = expect_tensor(
            student.ensemble_probabilities(logits, weights, temperature), torch.float32, (7, 6)
        )
        wanted = average_by_hand(logits, weights, temperature)
        expect_close(got, wanted, f"probability, {n} teachers, T = {temperature:g}", rtol=1e-4, atol=1e-6)


def test_a_weight_of_one_is_that_teacher(student):
    """If one teacher has all the weight, its softened probabilities come back, however large the others' logits."""
    logits = [normal(4, 3, seed=3) * 50, normal(4, 3, seed=4)]
    got = expect_tensor(student.ensemble_probabilities(logits, [0.0, 1.0], 3.0), torch.float32, (4, 3))
    wanted = average_by_hand(logits[1:], [1.0], 3.0)
    expect_close(got, wanted, "probability of the second teacher", rtol=1e-4, atol=1e-6)


@worth(2)
def test_loss_of_other_peers(student):
    """One to four others, several temperatures and batch sizes."""
    for n_others, temperature, n in ((1, 2.0, 3), (2, 1.0, 8), (4, 5.0, 2)):
        own, labels = normal(n, 5, seed=n) * 2, torch.arange(n) % 5
        others = [normal(n, 5, seed=20 + s) * (s + 1) for s in range(n_others)]
        wanted = peer_loss_by_hand(own, others, labels, temperature)
        got = student.peer_loss(own, others, labels, temperature)
        expect_close(got, wanted, f"loss with {n_others} others at T = {temperature:g}", rtol=1e-4, atol=1e-6)


@worth(4)
def test_longer_trainings_of_more_peers(student):
    """Four peers over eight steps, and two at another learning rate, keep to their own gradients."""
    for n_peers, seed, steps, lr in ((4, 5, 8, 0.3), (2, 7, 6, 1.0)):
        peers, loss = Fixture("mutual.linear_peers", (n_peers, seed)), Fixture("mutual.agreement_loss")
        batches = peer_batches(steps, seed, n=9)
        got = student.train_peers(peers, batches, lr, loss)
        expect_history(got, mutual_by_hand(n_peers, seed, batches, lr), f"{n_peers} peers, {steps} steps")


def test_long_chain(student):
    """Six networks and 23 epochs: neighbours teach, four epochs each, the last has what is left."""
    networks = ["n5", "n4", "n3", "n2", "n1", "n0"]
    links = chain_links(student.plan_chain(networks, 23))
    wanted = [(networks[i], networks[i + 1], 4 if i < 4 else 7) for i in range(5)]
    expect(links == wanted, "the chain of six", links, wanted)


def test_error_of_many_answers(student):
    """For 500 answers and several numbers of bins the error is the definition's."""
    generator = torch.Generator().manual_seed(5)
    confidence = 0.05 + 0.9 * torch.rand(500, generator=generator)
    correct = torch.rand(500, generator=generator) < confidence.square()
    for n_bins in (3, 7, 15):
        got = expect_float(student.expected_calibration_error(confidence, correct, n_bins), "the error")
        wanted = error_by_hand(confidence, correct, n_bins)
        expect_close(got, wanted, f"500 answers in {n_bins} bins", rtol=1e-3, atol=1e-5)


def test_certain_answers_are_counted(student):
    """Confidences of exactly 1 belong to the last bin."""
    confidence = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.55])
    correct = torch.tensor([True, False, False, True, True])
    got = expect_float(student.expected_calibration_error(confidence, correct, 10), "the error")
    expect_close(got, (4 * 0.5 + 0.45) / 5, "four certain answers, two of them wrong", rtol=1e-4)


def test_other_logits(student):
    """For other logits, classes and candidates the lowest cross-entropy wins."""
    candidates = [7.0, 5.5, 0.8, 1.2, 0.45, 2.0, 3.0]
    for seed, factor, classes in ((7, 2.0, 3), (8, 20.0, 10), (9, 0.7, 4)):
        labels = torch.arange(80) % classes
        logits = (
            normal(80, classes, seed=seed) + 1.5 * torch.nn.functional.one_hot(labels, classes)
        ) * factor
        got = expect_float(student.best_temperature(logits, labels, candidates), "the temperature")
        best = least_surprising(logits, labels, candidates)
        expect(
            math.isclose(got, best, rel_tol=1e-6), f"{classes} classes, logits of size {factor:g}", got, best
        )


def _tests(*functions):
    return tuple(as_test(function, public=False) for function in functions)


HIDDEN = {
    "ensemble_weights": _tests(test_other_proportions, test_other_bad_weights_are_refused),
    "ensemble_probabilities": _tests(
        test_other_teachers_and_temperatures, test_a_weight_of_one_is_that_teacher
    ),
    "peer_loss": _tests(test_loss_of_other_peers),
    "train_peers": _tests(test_longer_trainings_of_more_peers),
    "plan_chain": _tests(test_long_chain),
    "expected_calibration_error": _tests(test_error_of_many_answers, test_certain_answers_are_counted),
    "best_temperature": _tests(test_other_logits),
}
