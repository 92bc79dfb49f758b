"""The learned step's gradient, by finite differences of a smooth stand-in and by hand."""

from __future__ import annotations

import math

import pytest
import torch

from coursekit.quantization import int_range, learned_step_quantize, lsq_initial_step, lsq_step_gradient


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_by_hand_inside_and_outside_the_range():
    """3 bits, codes -3..3, step 1: 0.3 -> 0 (slope -0.3), 1.8 -> 2 (slope 0.2), 5 -> 3, -9 -> -3."""
    x = torch.tensor([0.3, 1.8, 5.0, -9.0])
    grad = torch.tensor([1.0, 2.0, 0.5, 1.0])
    expected = (-0.3 + 2 * 0.2 + 0.5 * 3 - 3) / math.sqrt(4 * 3)
    assert lsq_step_gradient(grad, x, 1.0, 3) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("n_bits", [2, 4, 8])
def test_it_is_the_derivative_with_the_rounding_error_held_still(n_bits):
    """Straight-through: round(v) moves with v. So d/ds of s * (clamp(v) + c), c the rounding error, held still."""
    x, grad, scale = normal(200).double(), normal(200, seed=1).double(), 0.5
    _, qmax = int_range(n_bits)
    v = x / scale
    held = torch.round(v.clamp(-qmax, qmax)) - v.clamp(-qmax, qmax)

    def surrogate(s: float) -> float:
        return (grad * s * ((x / s).clamp(-qmax, qmax) + held)).sum().item()

    slope = (surrogate(scale + 1e-6) - surrogate(scale - 1e-6)) / 2e-6
    ours = lsq_step_gradient(grad, x, scale, n_bits)
    assert ours == pytest.approx(slope / math.sqrt(200 * qmax), rel=1e-4, abs=1e-6)


def test_autograd_function_agrees_with_the_plain_one_for_each_channel():
    weight, grad = normal(3, 4, 5).requires_grad_(), normal(3, 4, 5, seed=1)
    step = torch.tensor([0.1, 0.4, 2.0]).reshape(3, 1, 1).requires_grad_()
    out = learned_step_quantize(weight, step, 0, 4, symmetric=True)
    out.backward(grad)
    for c in range(3):
        expected = lsq_step_gradient(grad[c], weight[c].detach(), step[c].item(), 4)
        assert step.grad[c].item() == pytest.approx(expected, rel=1e-4)
    inside = (weight / step).abs() <= 7
    assert torch.equal(weight.grad, grad * inside)
    assert not inside.all()


def test_unsigned_activations_use_all_codes_of_the_shifted_range():
    x, step = torch.tensor([-1.0, 0.2, 1.4, 9.0]).requires_grad_(), torch.tensor(0.5).requires_grad_()
    out = learned_step_quantize(x, step, -8, 4)
    assert out.tolist() == [0.0, 0.0, 1.5, 7.5]
    out.sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 0.0]
    assert step.grad.item() == pytest.approx((0 + (0 - 0.4) + (3 - 2.8) + 15) / math.sqrt(4 * 15), rel=1e-5)


def test_training_the_step_alone_lowers_the_error():
    x = normal(2000)
    step = torch.tensor(0.05).requires_grad_()
    optimizer = torch.optim.SGD([step], lr=0.5)
    errors = []
    for _ in range(60):
        optimizer.zero_grad()
        error = (learned_step_quantize(x, step, 0, 3, symmetric=True) - x).square().mean()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < errors[0] / 5


def test_initial_step_and_its_edges():
    assert lsq_initial_step(torch.tensor([1.0, -3.0]), 3) == pytest.approx(4 / math.sqrt(3))
    assert lsq_initial_step(torch.zeros(4), 4) == 1.0
    with pytest.raises(ValueError, match="above 0, got 0"):
        lsq_step_gradient(torch.ones(2), torch.ones(2), 0.0)
