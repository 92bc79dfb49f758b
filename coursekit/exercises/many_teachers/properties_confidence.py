"""The public tests of lesson 10 on chains and calibration. Each checks a property by definition."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coursekit.exercises.expect import MismatchError, expect, expect_close, expect_float, expect_int
from coursekit.exercises.inputs import normal
from coursekit.exercises.spec import Test, TestFunction, as_test, worth
from coursekit.exercises.student import StudentError

__all__ = ["CONFIDENCE", "chain_links", "error_by_hand", "expect_refused", "least_surprising", "log_softmax"]


def expect_refused(call: Callable[[], Any], what: str) -> None:
    """Raises MismatchError unless the call raises ValueError."""
    try:
        result = call()
    except StudentError as error:
        if isinstance(error.error, ValueError):
            return
        raise MismatchError(f"{what}: another error", type(error.error).__name__, "ValueError") from error
    raise MismatchError(f"{what} must be refused", result, "ValueError")


def log_softmax(z: np.ndarray) -> np.ndarray:
    """The logarithm of each row's softmax, in NumPy."""
    z = z - z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def chain_links(value: Any) -> list[tuple[str, str, int]]:
    """The value, if it is a list of (teacher, student, epochs)."""
    expect(
        isinstance(value, list | tuple),
        "the result is not a list",
        value,
        "a list of (teacher, student, epochs)",
    )
    for link in value:
        expect(isinstance(link, list | tuple) and len(link) == 3, "a training is not a triple", link,
               "(teacher, student, epochs)")  # fmt: skip
        expect_int(link[2], "a number of epochs")
    return [tuple(link) for link in value]


def test_each_is_taught_by_the_one_before(student):
    """The pairs are the neighbours of the chain, in its order."""
    for networks in (["big", "small"], ["a", "b", "c", "d"]):
        links = chain_links(student.plan_chain(networks, 12))
        pairs = [link[:2] for link in links]
        wanted = [(networks[i], networks[i + 1]) for i in range(len(networks) - 1)]
        expect(pairs == wanted, f"who teaches whom in {networks}", pairs, wanted)


def test_no_epoch_is_lost(student):
    """The epochs of all trainings add up to those given; what does not divide goes to the last."""
    for n, epochs, wanted in ((3, 10, [5, 5]), (3, 11, [5, 6]), (4, 11, [3, 3, 5]), (2, 7, [7])):
        links = chain_links(student.plan_chain(list("abcde")[:n], epochs))
        got = [link[2] for link in links]
        expect(got == wanted, f"{epochs} epochs for {n} networks", got, wanted)


def test_impossible_chains_are_refused(student):
    """Fewer than two networks, or fewer epochs than trainings: ValueError."""
    expect_refused(lambda: student.plan_chain(["big"], 5), "a chain of one network")
    expect_refused(lambda: student.plan_chain(["a", "b", "c", "d"], 2), "2 epochs for 3 trainings")


def error_by_hand(confidence: Tensor, correct: Tensor, n_bins: int) -> float:
    """The calibration error bin by bin, in float64; no confidence may lie on an inner edge."""
    c, right = confidence.double().numpy(), correct.numpy()
    total = 0.0
    for b in range(n_bins):
        inside = (c > b / n_bins) & (c <= (b + 1) / n_bins)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - c[inside].mean())
    return float(total)


def test_one_bin_is_the_gap_of_the_means(student):
    """If all answers are equally sure, the error is how far that is from the share of right ones."""
    for sure, n_right, wanted in ((0.95, 6, 0.35), (0.65, 8, 0.15), (1.0, 9, 0.1)):
        correct = torch.arange(10) < n_right
        got = expect_float(
            student.expected_calibration_error(torch.full((10,), sure), correct, 10), "the error"
        )
        expect_close(got, wanted, f"10 answers at {sure:.0%}, {n_right} of them right", rtol=1e-4)


@worth(2)
def test_bins_count_by_their_images(student):
    """A bin of 8 images weighs 8 times as much as a bin of one; gaps of opposite sign do not cancel."""
    confidence = torch.tensor([0.93] * 8 + [0.47] * 3 + [0.28])
    correct = torch.tensor([True] * 5 + [False] * 3 + [True, True, True] + [False])
    wanted = (8 * (0.93 - 5 / 8) + 3 * (1 - 0.47) + 1 * 0.28) / 12
    got = expect_float(student.expected_calibration_error(confidence, correct, 10), "the error")
    expect_close(got, wanted, "bins of 8, 3 and 1 images", rtol=1e-4)


def test_number_of_bins(student):
    """Fewer bins mix answers whose errors cancel; n_bins decides."""
    confidence = torch.tensor([0.61, 0.63, 0.71, 0.79, 0.83, 0.97, 0.99, 1.0])
    correct = torch.tensor([True, True, False, True, False, True, False, True])
    for n_bins in (2, 5, 10):
        got = expect_float(student.expected_calibration_error(confidence, correct, n_bins), "the error")
        expect_close(got, error_by_hand(confidence, correct, n_bins), f"with {n_bins} bins", rtol=1e-4)


def surprise(logits: Tensor, labels: Tensor, temperature: float) -> float:
    """The mean cross-entropy at a temperature, by definition."""
    logs = log_softmax(logits.double().numpy() / temperature)
    return float(-logs[np.arange(len(labels)), labels.numpy()].mean())


def least_surprising(logits: Tensor, labels: Tensor, candidates: Sequence[float]) -> float:
    """The candidate with the lowest cross-entropy, by definition."""
    return min(candidates, key=lambda t: surprise(logits, labels, t))


def test_temperature_of_two_classes(student):
    """With a margin of 3 and 3 of 4 answers right the best temperature is 3 / log 3."""
    logits, labels = torch.tensor([[3.0, 0.0]]).repeat(8, 1), torch.tensor([0, 0, 0, 1, 0, 0, 0, 1])
    candidates = [0.5, 1.0, 2.0, 3.0 / math.log(3.0), 3.5, 5.0, 20.0]
    got = expect_float(student.best_temperature(logits, labels, candidates), "the temperature")
    expect_close(got, 3.0 / math.log(3.0), "the best of the candidates", rtol=1e-6)


@worth(2)
def test_temperature_has_the_lowest_cross_entropy(student):
    """Of the candidates, in whatever order, the one whose cross-entropy with the labels is lowest."""
    candidates = [4.0, 0.3, 1.0, 2.5, 0.6, 1.6, 8.0]
    for seed, factor in ((0, 6.0), (1, 0.4), (2, 14.0)):
        labels = torch.arange(60) % 5
        logits = (normal(60, 5, seed=seed) + 1.2 * torch.nn.functional.one_hot(labels, 5)) * factor
        got = expect_float(student.best_temperature(logits, labels, candidates), "the temperature")
        best = least_surprising(logits, labels, candidates)
        expect(math.isclose(got, best, rel_tol=1e-6), f"logits of size {factor:g}", got, best)


def _tests(*functions: TestFunction) -> tuple[Test, ...]:
    return tuple(as_test(function, public=True) for function in functions)


CONFIDENCE = {
    "plan_chain": _tests(
        test_each_is_taught_by_the_one_before, test_no_epoch_is_lost, test_impossible_chains_are_refused
    ),
    "expected_calibration_error": _tests(
        test_one_bin_is_the_gap_of_the_means, test_bins_count_by_their_images, test_number_of_bins
    ),
    "best_temperature": _tests(
        test_temperature_of_two_classes, test_temperature_has_the_lowest_cross_entropy
    ),
}
