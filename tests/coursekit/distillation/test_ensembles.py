"""Ensembles: probabilities averaged, weights that mean what they say."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from coursekit import zoo
from coursekit.data import fashion_mnist
from coursekit.distillation.ensembles import Ensemble, ensemble_probabilities, ensemble_weights
from coursekit.train import predict


def logits_of(n_teachers, n=6, classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, classes, generator=generator, dtype=torch.float64) * 4 for _ in range(n_teachers)]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("weights", [None, [1, 2, 3], [0, 1, 0]], ids=str)
def test_average_equals_a_numpy_sum_over_teachers(temperature, weights):
    logits = logits_of(3)
    shares = np.array([1, 1, 1] if weights is None else weights, dtype=float)
    expected = np.zeros((6, 5))
    for share, each in zip(shares / shares.sum(), logits, strict=True):
        powers = np.exp(each.numpy() / temperature)
        expected += share * powers / powers.sum(1, keepdims=True)
    got = ensemble_probabilities(logits, weights, temperature)
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-12)


def test_three_teachers_of_whom_one_shouts_are_counted_as_three():
    """The audit's case: the mean of the logits gives the loud one .99998, the mean of the probabilities a third."""
    quiet = torch.tensor([[2.0, 0.0, 0.0, 0.0]])
    loud = torch.tensor([[0.0, 0.0, 0.0, 40.0]])
    teachers = [quiet, quiet, loud]
    of_logits = torch.stack(teachers).mean(0).softmax(1)
    of_probabilities = ensemble_probabilities(teachers)
    assert of_logits[0, 3] > 0.999
    p = math.e**2 / (math.e**2 + 3)
    assert of_probabilities[0].tolist() == pytest.approx([
        2 * p / 3,
        *[2 * (1 - p) / 9] * 2,
        1 / 3 + 2 * (1 - p) / 9,
    ])


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_softmax_of_the_module_at_its_temperature_is_the_average(temperature):
    nets = [nn.Linear(4, 3) for _ in range(3)]
    x = torch.randn(7, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        got = (Ensemble(nets, [3, 2, 1], temperature)(x) / temperature).softmax(1)
        expected = ensemble_probabilities([net(x) for net in nets], [3, 2, 1], temperature)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-6)


def test_teachers_of_four_architectures_keep_their_weights_and_modes():
    teachers = [zoo.load(name) for name in ("resnet20", "mobilenet", "lenet5", "lenet300")]
    teachers[0].stage1.train()  # a module with a mode of its own keeps it
    before = [{k: v.clone() for k, v in t.state_dict().items()} for t in teachers]
    images = fashion_mnist("test", subset=True).images[:20]
    logs = predict(Ensemble(teachers), images)
    assert teachers[0].stage1.training and not teachers[0].stage2.training
    for teacher, state in zip(teachers, before, strict=True):
        assert all(torch.equal(value, state[key]) for key, value in teacher.state_dict().items())
    torch.testing.assert_close(logs.exp().sum(1), torch.ones(20))


def test_a_probability_that_underflows_keeps_a_finite_logarithm():
    logs = Ensemble([nn.Identity(), nn.Identity()])(torch.tensor([[0.0, 500.0]]))
    assert logs[0, 0].item() == pytest.approx(-500.0)


def test_weights_of_any_total_add_up_to_one():
    assert ensemble_weights([2, 6], 2) == [0.25, 0.75]
    assert ensemble_weights(torch.tensor([1.0, 1.0]), 2) == [0.5, 0.5]
    assert ensemble_weights(np.array([0.0, 5.0]), 2) == [0.0, 1.0]
    assert ensemble_weights(None, 4) == [0.25] * 4


@pytest.mark.parametrize(
    ("weights", "n"),
    [
        ([1.0], 2),
        ([1, 1, 1], 2),
        ([1, -0.5], 2),
        ([0, 0], 2),
        ([math.nan, 1], 2),
        ([math.inf, 1], 2),
        ([], 0),
        (None, 0),
    ],
    ids=str,
)
def test_weights_that_cannot_be_meant_are_refused(weights, n):
    with pytest.raises(ValueError, match=r"weights|teacher"):
        ensemble_weights(weights, n)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_temperatures_that_mean_nothing_are_refused(temperature):
    with pytest.raises(ValueError, match="temperature"):
        ensemble_probabilities(logits_of(2), None, temperature)
    with pytest.raises(ValueError, match="temperature"):
        Ensemble([nn.Identity()], None, temperature)


def test_teachers_with_other_classes_are_refused():
    with pytest.raises(ValueError, match="shape"):
        ensemble_probabilities([torch.zeros(2, 3), torch.zeros(2, 4)])


def test_gradients_of_the_log_average_are_right():
    a, b = (each.requires_grad_() for each in logits_of(2, n=3, classes=4))
    assert torch.autograd.gradcheck(lambda x, y: ensemble_probabilities([x, y], [1, 3], 2.0), (a, b))
