"""Adam, one tensor and one step at a time, without and with a mask."""

from __future__ import annotations

from torch import Tensor

__all__ = ["adam_step", "masked_adam"]


def adam_step(
    weight: Tensor, gradient: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, step: int, lr: float = 1e-3
) -> tuple[Tensor, Tensor, Tensor]:
    """The weight and both moments after one step of Adam with betas 0.9 and 0.999, as new tensors.

    Args:    weight, gradient: one shape. exp_avg, exp_avg_sq: running means of the gradient and of its square.
             step: this step's number, from 1, for the correction of the first steps. lr: learning rate.
    Returns: weight, exp_avg, exp_avg_sq.
    Raises:  ValueError if step is below 1.
    Source:  Kingma and Ba 2015, arXiv:1412.6980, algorithm 1.
    """
    if step < 1:
        raise ValueError(f"steps count from 1, got {step}")
    exp_avg = 0.9 * exp_avg + 0.1 * gradient
    exp_avg_sq = 0.999 * exp_avg_sq + 0.001 * gradient.square()
    mean, spread = exp_avg / (1 - 0.9**step), (exp_avg_sq / (1 - 0.999**step)).sqrt()
    return weight - lr * mean / (spread + 1e-8), exp_avg, exp_avg_sq


def masked_adam(
    weight: Tensor,
    mask: Tensor,
    gradients: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    step: int,
    lr: float = 1e-3,
) -> tuple[Tensor, Tensor, Tensor]:
    """The weight and both moments after several steps of Adam in which masked weights are and stay gone.

    Args:    weight: any shape. mask: bool, True = kept. gradients: (T, *weight.shape), one a step, dense.
             exp_avg, exp_avg_sq: the moments from training without the mask. step: how many steps that took.
             lr: learning rate.
    Returns: weight, exp_avg, exp_avg_sq: all three 0 where the mask is False, as Adam has them elsewhere.
    Raises:  ValueError if mask or gradients do not fit the weight.
    Source:  Taught in lesson 05.
    """
    if mask.shape != weight.shape or gradients.shape[1:] != weight.shape:
        raise ValueError(f"mask {tuple(mask.shape)} or gradients do not fit the weight {tuple(weight.shape)}")
    kept = mask.to(weight.dtype)
    weight, exp_avg, exp_avg_sq = weight * kept, exp_avg * kept, exp_avg_sq * kept
    for t, gradient in enumerate(gradients, start=step + 1):
        weight, exp_avg, exp_avg_sq = adam_step(weight, gradient * kept, exp_avg, exp_avg_sq, t, lr)
    return weight, exp_avg, exp_avg_sq
