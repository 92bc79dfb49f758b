"""Learned step size: the scale of a quantizer is a parameter, trained like a weight."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from coursekit.quantization.affine import int_range

__all__ = ["LearnedStep", "learned_step_quantize", "lsq_initial_step", "lsq_step_gradient"]


def lsq_initial_step(x: Tensor, n_bits: int = 8) -> float:
    """A step to start from: 2 * mean|x| / sqrt(qmax).

    Args:    x: weights or a batch of activations, any shape. n_bits: 2 to 8.
    Returns: above 0; 1.0 if x is all zero.
    Source:  Esser et al. 2020, arXiv:1902.08153, section 2.1.
    """
    _, qmax = int_range(n_bits)
    step = 2 * x.abs().mean().item() / math.sqrt(qmax)
    return step if step >= torch.finfo(torch.float32).tiny else 1.0


def lsq_step_gradient(grad: Tensor, x: Tensor, scale: float, n_bits: int = 8) -> float:
    """The gradient of the loss by the step size of a symmetric quantizer of x.

    Each element's output changes with the step by: round(v) - v for v = x / scale inside the codes' range; the end of
    the range outside it. These are weighted with grad, summed, and divided by sqrt(x.numel() * qmax), which keeps a
    step's updates, relative to its size, about as large as those of the weights.

    Args:    grad: gradient of the loss by the fake-quantized x, the shape of x. x: any shape. scale: above 0.
             n_bits: 2 to 8; the codes are -qmax to qmax.
    Returns: one number.
    Raises:  ValueError if scale is not above 0, or n_bits is not 2 to 8.
    Source:  Esser et al. 2020, arXiv:1902.08153, equation 3 and section 2.2. Taught in lesson 03.

    >>> round(lsq_step_gradient(torch.ones(1), torch.tensor([9.0]), scale=1.0, n_bits=3), 4)  # 3 / sqrt(3)
    1.7321
    """
    if not scale > 0:
        raise ValueError(f"scale must be above 0, got {scale}")
    _, qmax = int_range(n_bits)
    v = x / scale
    slope = torch.where(v.abs() < qmax, torch.round(v) - v, v.sign() * qmax)
    return (grad * slope).sum().item() / math.sqrt(x.numel() * qmax)


class LearnedStep(torch.autograd.Function):
    """Fake quantization with a gradient for the step as well; one step, or one a channel along dimension 0.

    Source: Esser et al. 2020, arXiv:1902.08153. Taught in lesson 03.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, zero_point: float, qmin: int, qmax: int) -> Tensor:
        """x on the grid of this step."""
        v = x / step
        ctx.save_for_backward(v, step)
        ctx.ends = qmin - zero_point, qmax - zero_point
        return v.round().clamp_(*ctx.ends).mul_(step)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        """Straight through for x; Esser's estimate, summed over what shares a step, for the step."""
        v, step = ctx.saved_tensors
        low, high = ctx.ends
        clamped = v.clamp(low, high)
        slope = torch.where(v == clamped, v.round() - v, clamped) * grads[0]
        shared = [d for d in range(v.dim()) if step.dim() == 0 or step.shape[d] == 1]
        total = slope.float().sum(dim=shared, keepdim=step.dim() > 0)
        factor = math.sqrt(v.numel() / max(1, step.numel()) * max(abs(low), high))
        return (
            grads[0] * (v == clamped),
            (total / factor).reshape(step.shape).to(step.dtype),
            None,
            None,
            None,
        )


def learned_step_quantize(
    x: Tensor, step: Tensor, zero_point: int = 0, n_bits: int = 8, *, symmetric: bool = False
) -> Tensor:
    """Fake quantization of x that passes gradients to x and to the step.

    Args:    x: any shape. step: 0-dimensional, or of size 1 everywhere but along dimension 0; above 0.
             zero_point: fixed; one code for all. symmetric: leave the lowest code unused.
    Returns: the shape of x.
    Raises:  ValueError if n_bits is not 2 to 8.
    Source:  Esser et al. 2020, arXiv:1902.08153.
    """
    qmin, qmax = int_range(n_bits)
    return LearnedStep.apply(x, step, zero_point, -qmax if symmetric else qmin, qmax)
