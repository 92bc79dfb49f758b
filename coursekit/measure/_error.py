"""How far a tensor is from the one it stands for."""

from __future__ import annotations

import math

from torch import Tensor


def _checked(x: Tensor, x_hat: Tensor) -> tuple[Tensor, Tensor]:
    """Both tensors in float64, after every check."""
    for name, value in (("x", x), ("x_hat", x_hat)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(value).__name__}; use torch.as_tensor")
        if not value.is_floating_point():
            raise ValueError(f"{name} is {value.dtype}, not floating point; dequantize integers first")
    if x.shape != x_hat.shape:
        raise ValueError(f"x has shape {tuple(x.shape)}, x_hat {tuple(x_hat.shape)}; they must be equal")
    if x.numel() == 0:
        raise ValueError(f"x is empty (shape {tuple(x.shape)}): there is nothing to measure")
    for name, value in (("x", x), ("x_hat", x_hat)):
        if not value.isfinite().all():
            first = value[~value.isfinite()][0].item()
            raise ValueError(f"{name} holds {first}; only finite values can be compared")
    return x.detach().double(), x_hat.detach().double()


def mse(x: Tensor, x_hat: Tensor) -> float:
    """The mean squared error of `x_hat` as a stand-in for `x`, computed in float64.

    Args:    x, x_hat: tensors of one shape, any floating dtype, finite, not empty.
    Returns: the mean of (x - x_hat)², in units of x squared.
    Raises:  ValueError if shapes differ, or a tensor is empty, not floating point, or holds NaN or inf;
             TypeError for what is not a tensor.

    >>> import torch
    >>> mse(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
    2.0
    """
    x, x_hat = _checked(x, x_hat)
    return (x - x_hat).square().mean().item()


def sqnr_db(x: Tensor, x_hat: Tensor) -> float:
    """The signal-to-quantization-noise ratio of `x_hat`: 10 log10(sum x² / sum (x - x_hat)²), in decibels.

    It does not depend on the units of x: 20 dB is a noise of a tenth of the signal (root mean square), and
    each further bit of a uniform quantizer adds about 6 dB.

    Args:    x: the signal. x_hat: what stands for it, same shape. Both floating point, finite, not empty.
    Returns: decibels; inf if the two are equal, -inf if x is all zero and x_hat is not.
    Raises:  ValueError and TypeError as `mse`.
    Source:  Bennett 1948, "Spectra of quantized signals", Bell System Technical Journal 27(3).

    >>> import torch
    >>> round(sqnr_db(torch.tensor([10.0]), torch.tensor([9.0])), 6)
    20.0
    """
    x, x_hat = _checked(x, x_hat)
    largest = max(x.abs().max().item(), x_hat.abs().max().item()) or 1.0
    signal = (x / largest).square().sum().item()  # scaled, so that squares neither overflow nor vanish
    noise = ((x - x_hat) / largest).square().sum().item()
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf
