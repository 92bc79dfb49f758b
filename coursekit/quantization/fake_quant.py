"""Fake quantization that can be trained through: rounded forward, straight through backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from coursekit.quantization.affine import fake_quantize, int_range

__all__ = ["FakeQuantize", "fake_quantize_affine", "fake_quantize_ste", "qat_step", "ste_gradient"]


def _steps(x: Tensor, scale: float | Tensor, zero_point: float | Tensor) -> Tensor:
    return torch.round(x / scale) + zero_point


def fake_quantize_affine(
    x: Tensor, scale: float | Tensor, zero_point: int | Tensor = 0, n_bits: int = 8
) -> Tensor:
    """x through the codes and back, still in floating point: what the network sees of a quantized tensor.

    Args:    x: any shape, floating point. scale: above 0; a float, or a tensor that broadcasts against x.
             zero_point: integer, likewise. n_bits: 2 to 8.
    Returns: scale * (code - zero_point), the shape and dtype of x.
    Raises:  ValueError if a scale is not above 0, or n_bits is not 2 to 8.
    Source:  Jacob et al. 2018, arXiv:1712.05877, section 3. Taught in lesson 03.

    >>> fake_quantize_affine(torch.tensor([-1.0, 0.1, 0.3, 9.0]), 0.25, zero_point=-2, n_bits=3)
    tensor([-0.5000,  0.0000,  0.2500,  1.2500])
    """
    _check_scale(scale)
    codes = torch.clamp(_steps(x, scale, zero_point), *int_range(n_bits))
    return ((codes - zero_point) * scale).to(x.dtype)


def ste_gradient(
    grad: Tensor, x: Tensor, scale: float | Tensor, zero_point: int | Tensor = 0, n_bits: int = 8
) -> Tensor:
    """The straight-through gradient for x, given the gradient for its fake-quantized version.

    Rounding counts as the identity, so the gradient goes through unchanged; clamping counts as what it is, so nothing
    goes through where the code of x lies outside the range.

    Args:    grad: gradient of the loss by fake_quantize_affine(x, …), the shape of x. x, scale, zero_point, n_bits:
             as in that call.
    Returns: the shape of x.
    Raises:  ValueError if a scale is not above 0, or n_bits is not 2 to 8.
    Source:  Bengio et al. 2013, arXiv:1308.3432, section 4; Krishnamoorthi 2018, arXiv:1806.08342, section 2.4.
             Taught in lesson 03.

    >>> ste_gradient(torch.ones(4), torch.tensor([-1.0, 0.1, 0.3, 9.0]), 0.25, zero_point=-2, n_bits=3)
    tensor([0., 1., 1., 0.])
    """
    _check_scale(scale)
    qmin, qmax = int_range(n_bits)
    codes = _steps(x, scale, zero_point)
    return torch.where((codes >= qmin) & (codes <= qmax), grad, torch.zeros_like(grad))


def _check_scale(scale: float | Tensor) -> None:
    if not (torch.as_tensor(scale) > 0).all():
        raise ValueError(f"every scale must be above 0, got {scale}")


class FakeQuantize(torch.autograd.Function):
    """`fake_quantize_affine` and `ste_gradient` as one differentiable function; the codes' range is given.

    Source: Bengio et al. 2013, arXiv:1308.3432, section 4. Taught in lesson 03.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: float | Tensor, zero_point: float | Tensor, qmin: int, qmax: int
    ) -> Tensor:
        """x on the grid, and a mask of what was not clamped for the way back."""
        codes = (x / scale).round_().add_(zero_point)
        # Bytes for the mask and work in place: activations are large, and memory is what costs time.
        ctx.save_for_backward((codes >= qmin).logical_and_(codes <= qmax))
        return codes.clamp_(qmin, qmax).sub_(zero_point).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        """The gradient where nothing was clamped, else 0."""
        (inside,) = ctx.saved_tensors
        return grads[0] * inside, None, None, None, None


def fake_quantize_ste(
    x: Tensor,
    scale: float | Tensor,
    zero_point: float | Tensor = 0,
    n_bits: int = 8,
    *,
    symmetric: bool = False,
) -> Tensor:
    """`fake_quantize_affine` with a straight-through gradient for x; scale and zero point get none.

    Args:    as `fake_quantize_affine`; symmetric: leave the lowest code unused, as `fake_quantize` does.
    Returns: the shape of x, in its dtype, differentiable.
    Raises:  ValueError if n_bits is not 2 to 8.
    Source:  Krishnamoorthi 2018, arXiv:1806.08342, section 2.4.
    """
    qmin, qmax = int_range(n_bits)
    return FakeQuantize.apply(x, scale, zero_point, -qmax if symmetric else qmin, qmax)


def qat_step(
    weight: Tensor, x: Tensor, targets: Tensor, scale: float | Tensor, lr: float, n_bits: int = 4
) -> Tensor:
    """The weight of a linear layer after one step of quantization-aware gradient descent on the mean squared error.

    The layer computes with the weight on its grid; the gradient goes straight through to the weight that is not, and
    that one takes the step: small steps add up there until a code changes.

    Args:    weight: (M, K), not quantized. x: (N, K). targets: (N, M). scale: of the symmetric grid of n_bits, above 0;
             a float, or (M, 1). lr: the learning rate, in units of weight per gradient.
    Returns: the new weight, (M, K), not quantized.
    Raises:  ValueError if a scale is not above 0, or n_bits is not 2 to 8.
    Source:  Courbariaux et al. 2015, arXiv:1511.00363, algorithm 1; Krishnamoorthi 2018, arXiv:1806.08342, section 2.4.
             Taught in lesson 03.

    >>> weight, x, targets = torch.tensor([[0.9]]), torch.tensor([[1.0]]), torch.tensor([[0.0]])
    >>> qat_step(weight, x, targets, scale=0.5, lr=0.1)  # the layer says 1.0: the gradient is 2
    tensor([[0.7000]])
    """
    _check_scale(scale)
    _, qmax = int_range(n_bits)
    error = x @ fake_quantize(weight, scale, n_bits).T - targets  # (N, M)
    gradient = 2 * error.T @ x / error.numel()
    inside = torch.round(weight / scale).abs() <= qmax
    return weight - lr * gradient * inside
