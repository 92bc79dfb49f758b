"""Training in half precision, the parts of it by hand: loss scale, master weights, unscaling and clipping."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "DynamicLossScale",
    "loss_scale_step",
    "master_weight_update",
    "underflow_share",
    "unscale_and_clip",
]


def loss_scale_step(
    scale: float,
    good_steps: int,
    found_inf: bool,
    growth_factor: float = 2.0,
    backoff_factor: float = 0.5,
    growth_interval: int = 2000,
) -> tuple[float, int]:
    """The loss scale after a step, and how many good steps in a row there have been since it last changed.

    A gradient that overflowed makes the scale smaller and the count 0. A good step adds one; when the count
    reaches growth_interval, the scale grows and the count starts again.

    Args:    scale: now, above 0. good_steps: at least 0. found_inf: whether a gradient of this step was inf or NaN.
             growth_factor: above 1. backoff_factor: in 0..1. growth_interval: in steps, at least 1.
    Returns: scale, good_steps.
    Raises:  ValueError if a number is out of range.
    Source:  Micikevicius et al. 2018, arXiv:1710.03740, section 3.2; the constants of torch.amp.GradScaler.
             Taught in lesson 04.

    >>> loss_scale_step(1024.0, 1999, False), loss_scale_step(1024.0, 1999, True)
    ((2048.0, 0), (512.0, 0))
    """
    if not (scale > 0 and good_steps >= 0 and growth_interval >= 1):
        raise ValueError(
            f"scale must be above 0, good_steps at least 0 and growth_interval at least 1, got {scale}, "
            f"{good_steps} and {growth_interval}"
        )
    if not (growth_factor > 1 and 0 < backoff_factor < 1):
        raise ValueError(f"growth_factor must be above 1 and backoff_factor between 0 and 1, got {growth_factor} "
                         f"and {backoff_factor}")  # fmt: skip
    if found_inf:
        return scale * backoff_factor, 0
    if good_steps + 1 == growth_interval:
        return scale * growth_factor, 0
    return scale, good_steps + 1


@dataclass
class DynamicLossScale:
    """The loss scale of a training run: multiply the loss by `scale`, then tell `update` how the step went.

    Attributes: scale: now. good_steps: in a row. skipped: steps in which a gradient was not finite.
                growth_interval: good steps before the scale doubles. step: the rule, as `loss_scale_step`.
    """

    scale: float = 2.0**16
    good_steps: int = 0
    skipped: int = 0
    growth_interval: int = 2000
    step: Callable[..., tuple[float, int]] = loss_scale_step

    def update(self, found_inf: bool) -> None:
        """Adapts the scale to what the step found."""
        self.skipped += found_inf
        self.scale, self.good_steps = self.step(
            self.scale, self.good_steps, found_inf, growth_interval=self.growth_interval
        )


def unscale_and_clip(grads: Sequence[Tensor], scale: float, max_norm: float) -> tuple[list[Tensor], bool]:
    """The gradients in float32, divided by the loss scale, then clipped to a total norm; and whether any overflowed.

    The norm is that of all gradients together. It is taken after the division: the scale is no part of a gradient.

    Args:    grads: of a scaled loss, float16, bfloat16 or float32, any shapes; at least one. scale: above 0.
             max_norm: above 0; math.inf clips nothing.
    Returns: new float32 tensors of the same shapes, and found_inf. If found_inf, only unscaled: skip the step.
    Raises:  ValueError if grads is empty or a number is not above 0.
    Source:  Pascanu et al. 2013, arXiv:1211.5063, algorithm 1; the order: Micikevicius et al. 2018,
             arXiv:1710.03740, section 3.2. Taught in lesson 04.
    """
    if not grads:
        raise ValueError("grads is empty: there is nothing to unscale")
    if not (scale > 0 and max_norm > 0):
        raise ValueError(f"scale and max_norm must be above 0, got {scale} and {max_norm}")
    unscaled = [grad.to(torch.float32) / scale for grad in grads]  # in float16 the division would underflow
    if not all(bool(grad.isfinite().all()) for grad in unscaled):
        return unscaled, True
    norm = math.sqrt(sum(grad.double().square().sum().item() for grad in unscaled))
    factor = min(1.0, max_norm / norm) if norm > 0 else 1.0
    return [grad * factor for grad in unscaled], False


def master_weight_update(master: Tensor, weight: Tensor, grad: Tensor, lr: float) -> tuple[Tensor, Tensor]:
    """One step of SGD on the float32 master weight, and the half-precision weight that the network computes with.

    Args:    master: float32, any shape. weight: what the network computed this gradient with, the master in 16 bits.
             grad: unscaled, of any floating dtype. All of one shape. lr: learning rate.
    Returns: master - lr * grad, in float32; the same rounded to the dtype of weight. Both new tensors.
    Raises:  TypeError if master is not float32 or another not floating point; ValueError if the shapes differ.
    Source:  Micikevicius et al. 2018, arXiv:1710.03740, section 3.1. Taught in lesson 04.

    >>> master, weight = torch.ones(1), torch.ones(1, dtype=torch.float16)
    >>> master, weight = master_weight_update(master, weight, torch.ones(1), lr=2**-13)
    >>> 1 - master.item() == 2.0**-13, weight  # too little for 16 bits to show: the master remembers it
    (True, tensor([1.], dtype=torch.float16))
    """
    if master.dtype != torch.float32 or not (weight.is_floating_point() and grad.is_floating_point()):
        raise TypeError(
            f"master must be float32, weight and grad floating point, got {master.dtype}, {weight.dtype}, {grad.dtype}"
        )
    if not master.shape == weight.shape == grad.shape:
        shapes = ", ".join(str(tuple(x.shape)) for x in (master, weight, grad))
        raise ValueError(f"master, weight and grad must have one shape, got {shapes}")
    updated = master - lr * grad.to(torch.float32)
    return updated, updated.to(weight.dtype)


def underflow_share(x: Tensor, smallest: float) -> float:
    """The share of the non-zero values of x that rounding to a format with this smallest number makes 0.

    Args:    x: any shape, floating point. smallest: the format's smallest positive number, above 0.
    Returns: 0 to 1; 0 if x has no non-zero value. Half of `smallest` itself rounds to even, which is 0.
    Raises:  ValueError if smallest is not above 0.
    """
    if not smallest > 0:
        raise ValueError(f"smallest must be above 0, got {smallest}")
    magnitude = x.detach()[x != 0].abs().double()
    return (magnitude <= smallest / 2).double().mean().item() if magnitude.numel() else 0.0
