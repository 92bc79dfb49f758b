"""Fake quantization and its straight-through gradient, against PyTorch's own operator and by definition."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.quantization import (
    dequantize,
    fake_quantize,
    fake_quantize_affine,
    fake_quantize_ste,
    int_range,
    qat_step,
    quantize,
    ste_gradient,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


BITS = pytest.mark.parametrize("n_bits", [2, 3, 4, 8])


@BITS
@pytest.mark.parametrize("zero_point", [0, 1, -2])
def test_it_is_quantize_and_dequantize_in_one(n_bits, zero_point):
    x = normal(300)
    expected = dequantize(quantize(x, 0.3, zero_point, n_bits), 0.3, zero_point)
    torch.testing.assert_close(fake_quantize_affine(x, 0.3, zero_point, n_bits), expected)


@BITS
def test_forward_and_backward_are_those_of_torchs_operator(n_bits):
    """On multiples of 1/64 with a scale of 1/4 both divide without rounding, so no code can differ."""
    x = (normal(400) * 64).round().div(64).requires_grad_()
    grad = normal(400, seed=1)
    theirs = torch.fake_quantize_per_tensor_affine(x, 0.25, 1, *int_range(n_bits))
    (expected,) = torch.autograd.grad(theirs, x, grad)
    ours = fake_quantize_ste(x, 0.25, 1, n_bits)
    (gradient,) = torch.autograd.grad(ours, x, grad)
    assert torch.equal(ours, theirs)
    assert torch.equal(gradient, expected)
    assert torch.equal(ste_gradient(grad, x.detach(), 0.25, 1, n_bits), expected)


@BITS
def test_symmetric_per_channel_is_the_one_of_lesson_1_and_leaves_the_lowest_code_unused(n_bits):
    weight = (normal(5, 7) * 3).requires_grad_()
    scale = torch.tensor([0.1, 0.2, 0.5, 1.0, 2.0])[:, None]
    out = fake_quantize_ste(weight, scale, 0, n_bits, symmetric=True)
    assert torch.equal(out, fake_quantize(weight, scale, n_bits))
    (gradient,) = torch.autograd.grad(out.sum(), weight)
    inside = (weight / scale).round().abs() <= int_range(n_bits)[1]
    assert torch.equal(gradient, inside.float())


def test_plain_rounding_has_no_gradient_and_this_one_has():
    x = normal(50).requires_grad_()
    (nothing,) = torch.autograd.grad((torch.round(x / 0.1) * 0.1).sum(), x)
    assert (nothing == 0).all()
    assert fake_quantize_ste(x, 0.1).sum().backward() is None
    assert (x.grad == 1).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_stay_what_they_are(dtype):
    x = normal(20).to(dtype).requires_grad_()
    out = fake_quantize_ste(x, 0.25, 0, 4)
    out.sum().backward()
    assert out.dtype == x.grad.dtype == dtype
    assert fake_quantize_affine(x.detach(), 0.25, 0, 4).dtype == dtype


@pytest.mark.parametrize("function", [
    lambda scale: fake_quantize_affine(torch.ones(2), scale),
    lambda scale: ste_gradient(torch.ones(2), torch.ones(2), scale),
    lambda scale: qat_step(torch.ones(1, 2), torch.ones(1, 2), torch.ones(1, 1), scale, 0.1),
])  # fmt: skip
@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_scale_that_is_no_step_is_refused(function, scale):
    with pytest.raises(ValueError, match="must be above 0"):
        function(scale)


def test_a_step_is_gradient_descent_on_the_loss_of_the_quantized_layer():
    """Oracle: the gradient by central differences at the quantized weight, where the loss is smooth."""
    weight, x, targets = normal(3, 5), normal(8, 5, seed=1), normal(8, 3, seed=2)
    scale = 0.2  # at 4 bits: clamped beyond 1.5
    quantized = fake_quantize(weight, scale, 4).double()
    expected = torch.zeros_like(quantized)
    for index in range(quantized.numel()):
        moved = [quantized.clone() for _ in range(2)]
        moved[0].view(-1)[index] += 1e-4
        moved[1].view(-1)[index] -= 1e-4
        up, down = (F.mse_loss(x.double() @ w.T, targets.double()) for w in moved)
        expected.view(-1)[index] = (up - down) / 2e-4
    expected[weight.abs() > 1.5] = 0
    assert (expected == 0).any()
    torch.testing.assert_close(
        qat_step(weight, x, targets, scale, lr=0.5), (weight - 0.5 * expected).float(), rtol=1e-4, atol=1e-5
    )


def test_many_small_steps_change_codes_that_no_single_step_changes():
    weight, x = torch.tensor([[0.98]]), torch.ones(4, 1)
    targets = torch.full((4, 1), 0.5)
    once = qat_step(weight, x, targets, 0.5, lr=0.02)
    assert fake_quantize(once, 0.5, 4) == fake_quantize(weight, 0.5, 4) == 1.0
    for _ in range(20):
        weight = qat_step(weight, x, targets, 0.5, lr=0.02)
    assert fake_quantize(weight, 0.5, 4) == 0.5
