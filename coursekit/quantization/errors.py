"""How much a quantizer loses, and the clipping range that loses least."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from coursekit.measure import mse, sqnr_db
from coursekit.quantization.affine import check_finite, fake_quantize, int_range, symmetric_scale

__all__ = ["QuantizationError", "error_parts", "mse_clip", "quantization_error"]


@dataclass(frozen=True)
class QuantizationError:
    """What a round trip through the codes lost.

    Attributes: mse: mean squared error, in squared units of x. max_abs: the largest error, in units of x.
                sqnr_db: signal to quantization noise, in decibels.
    """

    mse: float
    max_abs: float
    sqnr_db: float


def quantization_error(x: Tensor, x_hat: Tensor) -> QuantizationError:
    """The three usual error measures of x_hat, the dequantized version of x.

    Raises: ValueError if the shapes differ, or either holds NaN.
    """
    return QuantizationError(mse(x, x_hat), (x - x_hat).abs().max().item(), sqnr_db(x, x_hat))


def error_parts(x: Tensor, clip: float, n_bits: int = 8) -> tuple[float, float]:
    """The squared error of clipping x to -clip..clip, and of rounding what is inside, as means over x.

    The two add up to the mean squared error of the whole round trip.

    Returns: (clipping, rounding), in squared units of x.
    Raises:  ValueError if clip is not above 0; else as `check_finite` and `int_range`.
    Source:  Sakr et al. 2022, arXiv:2206.06501, section 3.
    """
    check_finite(x)
    if not clip > 0:
        raise ValueError(f"clip must be above 0, got {clip}")
    squared = (x - fake_quantize(x, clip / int_range(n_bits)[1], n_bits)).square()
    outside = x.abs() > clip
    return squared[outside].sum().item() / x.numel(), squared[~outside].sum().item() / x.numel()


def mse_clip(x: Tensor, n_bits: int = 8, n_candidates: int = 100) -> float:
    """The threshold c for which the symmetric grid on -c..c has the smallest mean squared error on x.

    Tries max|x| * k / n_candidates for k = 1..n_candidates.

    Args:    x: any shape, floating point. n_bits: 2 to 8. n_candidates: at least 1.
    Returns: c, in units of x, above 0 and at most max|x| (1 qmax steps if x is all zero).
    Raises:  TypeError, ValueError as `check_finite` and `int_range`; ValueError if n_candidates is below 1.
    Source:  Sung et al. 2015, arXiv:1511.06488, section 3; Banner et al. 2019, arXiv:1810.05723. Taught in
             lesson 01.
    """
    if n_candidates < 1:
        raise ValueError(f"n_candidates must be at least 1, got {n_candidates}")
    _, qmax = int_range(n_bits)
    largest = symmetric_scale(x, n_bits) * qmax
    candidates = [largest * k / n_candidates for k in range(1, n_candidates + 1)]
    errors = [(x - fake_quantize(x, c / qmax, n_bits)).square().mean() for c in candidates]
    return candidates[int(torch.stack(errors).argmin())]
