"""Calibration: the error against NumPy and scikit-learn, the temperature against optima known in closed form."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.calibration import calibration_curve

from coursekit import zoo
from coursekit.data import fashion_mnist
from coursekit.distillation.confidence import (
    best_temperature,
    confidences,
    entropy,
    expected_calibration_error,
    fit_temperature,
    reliability,
)
from coursekit.train import predict


def answers(n=4000, seed=0):
    """Confidences and whether the answer was right, in a way that is not calibrated."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.1, 1.0, n)
    return confidence, rng.uniform(size=n) < confidence**2


def slow_error(confidence, correct, n_bins):
    """Equation 3 of Guo et al., bin by bin."""
    total = 0.0
    for b in range(n_bins):
        inside = (confidence > b / n_bins) & (confidence <= (b + 1) / n_bins)
        if inside.any():
            total += inside.sum() / len(confidence) * abs(correct[inside].mean() - confidence[inside].mean())
    return total


@pytest.mark.parametrize("n_bins", [1, 7, 10, 15])
def test_error_equals_the_definition_bin_by_bin(n_bins):
    confidence, correct = answers()
    got = expected_calibration_error(torch.from_numpy(confidence), torch.from_numpy(correct), n_bins)
    assert got == pytest.approx(slow_error(confidence, correct, n_bins), abs=1e-12)


def test_reliability_equals_scikit_learns_curve():
    confidence, correct = answers()
    curve = reliability(torch.from_numpy(confidence), torch.from_numpy(correct), 8)
    accuracy, mean = calibration_curve(correct, confidence, n_bins=8)
    held = curve.count > 0
    np.testing.assert_allclose(curve.accuracy[held], accuracy, atol=1e-12)
    np.testing.assert_allclose(curve.confidence[held], mean, atol=1e-12)


def test_both_ends_of_the_range_have_a_bin():
    curve = reliability(torch.tensor([0.0, 1.0, 0.5]), torch.tensor([False, True, True]), 2)
    assert curve.count.tolist() == [2, 1]
    assert math.isnan(reliability(torch.tensor([0.9]), torch.tensor([True]), 2).accuracy[0])


def test_perfectly_calibrated_answers_have_no_error():
    confidence = torch.tensor([0.75] * 4 + [0.5] * 2)
    assert expected_calibration_error(confidence, torch.tensor([True] * 3 + [False] + [True, False])) == 0.0


@pytest.mark.parametrize("share", [0.6, 0.75, 0.9])
def test_temperature_finds_the_optimum_of_two_classes(share):
    """Margin m and a share s of right answers: the best T has sigmoid(m / T) = s."""
    n = 200
    labels = (torch.arange(n) >= share * n).long()
    logits = torch.tensor([[3.0, 0.0]]).repeat(n, 1)
    assert fit_temperature(logits, labels) == pytest.approx(3.0 / math.log(share / (1 - share)), rel=1e-9)


def test_temperature_scales_with_the_logits_and_no_neighbour_is_better():
    test = fashion_mnist("test", subset=True)
    logits = predict(zoo.load("lenet300"), test.images[:1000]).double()
    labels = test.labels[:1000]
    best = fit_temperature(logits, labels)
    assert fit_temperature(3 * logits, labels) == pytest.approx(3 * best, rel=1e-9)
    at = F.cross_entropy(logits / best, labels)
    assert all(F.cross_entropy(logits / (best * f), labels) > at for f in (0.99, 1.01))
    assert best_temperature(logits, labels, [best * 0.8, best, best * 1.2]) == best


def test_answers_without_an_error_take_the_lowest_temperature():
    assert fit_temperature(torch.eye(3), torch.arange(3), lowest=0.05) == pytest.approx(0.05, rel=1e-6)


def test_entropy_equals_torchs_and_grows_with_the_temperature():
    logits = torch.randn(20, 10, generator=torch.Generator().manual_seed(0)) * 5
    expected = torch.distributions.Categorical(logits=logits / 2).entropy()
    torch.testing.assert_close(entropy(logits, 2.0), expected, atol=1e-6, rtol=1e-5)
    means = [entropy(logits, t).mean().item() for t in (1, 2, 4, 8)]
    assert means == sorted(means) and means[-1] < math.log(10)


def test_confidences_are_of_the_first_choice():
    logits = torch.tensor([[1.0, 3.0], [5.0, 0.0]])
    sure, right = confidences(logits, torch.tensor([0, 0]), temperature=2.0)
    assert sure.tolist() == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-2.5))])
    assert right.tolist() == [False, True]


@pytest.mark.parametrize(
    ("confidence", "correct", "n_bins"),
    [([1.2], [True], 5), ([-0.1], [True], 5), ([math.nan], [True], 5), ([0.5], [True, False], 5), ([], [], 5),
     ([0.5], [True], 0)],
    ids=["above_1", "below_0", "nan", "lengths", "empty", "no_bins"],
)  # fmt: skip
def test_what_is_no_confidence_is_refused(confidence, correct, n_bins):
    with pytest.raises(ValueError, match=r"n_bins|0\.\.1"):
        expected_calibration_error(torch.tensor(confidence), torch.tensor(correct, dtype=torch.bool), n_bins)


def test_temperatures_and_logits_that_cannot_be_used_are_refused():
    with pytest.raises(ValueError, match="candidates"):
        best_temperature(torch.zeros(1, 2), torch.tensor([0]), [1.0, 0.0])
    with pytest.raises(ValueError, match="finite"):
        fit_temperature(torch.tensor([[math.nan, 0.0]]), torch.tensor([0]))
