"""Affine quantization of a tensor: real value = scale * (code - zero point), codes in signed integers."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "affine_qparams",
    "affine_qparams_per_channel",
    "check_finite",
    "dequantize",
    "fake_quantize",
    "int_range",
    "quantize",
    "symmetric_scale",
    "symmetric_scale_per_channel",
]


def int_range(n_bits: int = 8) -> tuple[int, int]:
    """The smallest and the largest signed integer of n_bits: (-128, 127) for 8.

    Args:   n_bits: 2 to 8; the codes are kept in int8 whatever their number of bits.
    Raises: ValueError if n_bits is not an int from 2 to 8.

    >>> int_range(4)
    (-8, 7)
    """
    if isinstance(n_bits, bool) or not isinstance(n_bits, int) or not 2 <= n_bits <= 8:
        raise ValueError(f"n_bits must be an int from 2 to 8, got {n_bits!r}")
    return -(2 ** (n_bits - 1)), 2 ** (n_bits - 1) - 1


def check_finite(x: Tensor, name: str = "x") -> None:
    """Nothing, if x is a non-empty floating-point tensor without NaN or infinity.

    Raises: TypeError if x is not a floating-point tensor; ValueError if it is empty or not finite.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name} must be a floating-point tensor, got {kind}; use {name}.float()")
    if x.numel() == 0:
        raise ValueError(f"{name} is empty, shape {tuple(x.shape)}: an empty tensor has no range")
    if not x.isfinite().all():
        bad = x[~x.isfinite()][0].item()
        raise ValueError(f"{name} holds {bad}: find out where it comes from before you quantize")


def affine_qparams(x: Tensor, n_bits: int = 8) -> tuple[float, int]:
    """Scale and zero point that put min(x)..max(x), widened to include 0, on the signed n_bits integers.

    Args:    x: any shape, floating point. n_bits: 2 to 8.
    Returns: scale, in units of x per step, above 0; zero_point, the integer that means exactly 0.0.
    Raises:  TypeError, ValueError as `check_finite` and `int_range`.
    Source:  Jacob et al. 2018, arXiv:1712.05877, section 2.1. Taught in lesson 01.

    >>> affine_qparams(torch.tensor([-0.5, 15.4375]))
    (0.0625, -120)
    """
    check_finite(x)
    qmin, qmax = int_range(n_bits)
    lo, hi = min(x.min().item(), 0.0), max(x.max().item(), 0.0)  # padding and ReLU need an exact 0
    scale = (hi - lo) / (qmax - qmin)
    if scale < torch.finfo(torch.float32).tiny:  # all zero, or too small to divide by: any scale will do
        return 1.0, qmin
    return scale, round(qmin - lo / scale)


def symmetric_scale(x: Tensor, n_bits: int = 8) -> float:
    """The scale that puts -max|x|..max|x| on the codes -qmax..qmax, with zero point 0.

    The lowest code, -qmax - 1, stays unused: the grid is the same on both sides of 0.

    Args:    x: any shape, floating point. n_bits: 2 to 8.
    Returns: scale, in units of x per step, above 0.
    Raises:  TypeError, ValueError as `check_finite` and `int_range`.
    Source:  Krishnamoorthi 2018, arXiv:1806.08342, section 2.2. Taught in lesson 01.
    """
    check_finite(x)
    _, qmax = int_range(n_bits)
    scale = x.abs().max().item() / qmax
    return scale if scale >= torch.finfo(torch.float32).tiny else 1.0


def _reduced(x: Tensor, axis: int) -> tuple[int, ...]:
    """All dimensions of x but `axis`."""
    if not -x.dim() <= axis < x.dim():
        raise ValueError(f"axis must be in {-x.dim()}..{x.dim() - 1} for shape {tuple(x.shape)}, got {axis}")
    return tuple(d for d in range(x.dim()) if d != axis % x.dim())


def symmetric_scale_per_channel(x: Tensor, n_bits: int = 8, axis: int = 0) -> Tensor:
    """One symmetric scale for each slice of x along `axis`, shaped so that x / scale broadcasts.

    Args:    x: floating point, any shape, e.g. a convolution's weight (C_out, C_in, K, K). n_bits: 2 to 8.
             axis: the channel dimension; 0 for the weights of linear layers and convolutions.
    Returns: (C, 1, 1, 1) for a 4-dimensional x: size 1 everywhere but along `axis`; every scale above 0.
    Raises:  TypeError, ValueError as `check_finite` and `int_range`; ValueError if axis is out of range.
    Source:  Krishnamoorthi 2018, arXiv:1806.08342, section 2.2. Taught in lesson 01.
    """
    check_finite(x)
    _, qmax = int_range(n_bits)
    dims = _reduced(x, axis)
    largest = x.abs().amax(dim=dims, keepdim=True) if dims else x.abs()
    scale = largest / qmax
    return torch.where(scale >= torch.finfo(torch.float32).tiny, scale, 1.0)


def affine_qparams_per_channel(x: Tensor, n_bits: int = 8, axis: int = 0) -> tuple[Tensor, Tensor]:
    """One scale and one zero point for each slice of x along `axis`; the ranges include 0.

    Args:    as `symmetric_scale_per_channel`.
    Returns: scale, zero_point (int32), both of size 1 everywhere but along `axis`.
    Raises:  as `symmetric_scale_per_channel`.
    Source:  Krishnamoorthi 2018, arXiv:1806.08342, section 2.2.
    """
    check_finite(x)
    qmin, qmax = int_range(n_bits)
    dims = _reduced(x, axis)
    lo = (x.amin(dim=dims, keepdim=True) if dims else x).clamp(max=0)
    hi = (x.amax(dim=dims, keepdim=True) if dims else x).clamp(min=0)
    scale = (hi - lo) / (qmax - qmin)
    scale = torch.where(scale >= torch.finfo(torch.float32).tiny, scale, 1.0)
    zero_point = torch.round(qmin - lo / scale).clamp(qmin, qmax)
    return scale, zero_point.to(torch.int32)


def quantize(x: Tensor, scale: float | Tensor, zero_point: int | Tensor = 0, n_bits: int = 8) -> Tensor:
    """The integer codes of x: round(x / scale) + zero_point, clamped to the signed n_bits range.

    Args:    x: any shape, floating point; may be empty or infinite (infinity saturates).
             scale: above 0; a float, or a tensor that broadcasts against x. zero_point: likewise, integer.
    Returns: int8, the shape of x. Values outside the range saturate; halves round to even.
    Raises:  ValueError if x holds NaN, a scale is not above 0, or n_bits is not 2 to 8.
    Source:  Jacob et al. 2018, arXiv:1712.05877, section 2.1. Taught in lesson 01.

    >>> quantize(torch.tensor([-1.0, 0.0, 0.26, 9.0]), scale=0.1)
    tensor([-10,   0,   3,  90], dtype=torch.int8)
    """
    if x.isnan().any():
        raise ValueError("x holds nan, and nan has no integer code")
    if not (torch.as_tensor(scale) > 0).all():
        raise ValueError(f"every scale must be above 0, got {scale}")
    qmin, qmax = int_range(n_bits)
    return torch.clamp(torch.round(x / scale) + zero_point, qmin, qmax).to(torch.int8)


def dequantize(q: Tensor, scale: float | Tensor, zero_point: int | Tensor = 0) -> Tensor:
    """The real values that codes stand for: scale * (q - zero_point), in float32.

    Args:    q: integer codes, any shape. scale, zero_point: as for `quantize`.
    Returns: float32, the shape of q.
    Raises:  TypeError if q is not an integer tensor.
    Source:  Jacob et al. 2018, arXiv:1712.05877, equation 1. Taught in lesson 01.
    """
    if q.is_floating_point() or q.is_complex():
        raise TypeError(f"q must hold integer codes, got {q.dtype}")
    # In int8, 127 - (-128) wraps round to -1: go to float before subtracting.
    return ((q.to(torch.float32) - zero_point) * scale).to(torch.float32)


def fake_quantize(x: Tensor, scale: float | Tensor, n_bits: int = 8) -> Tensor:
    """x on the symmetric grid -qmax..qmax times scale, still in floating point: there and back at once.

    Args:    x: any shape, floating point. scale: above 0; a float, or a tensor that broadcasts against x.
    Returns: the shape and dtype of x.
    Source:  Krishnamoorthi 2018, arXiv:1806.08342, section 2.3.
    """
    _, qmax = int_range(n_bits)
    return torch.clamp(torch.round(x / scale), -qmax, qmax) * scale
