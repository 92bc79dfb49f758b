"""Layers in integers alone: int8 codes in, int32 accumulators, one multiply and shift, int8 codes out.

real value = scale * (code - zero point), so a layer's sum of products of codes is its real output in steps of
input scale * weight scale. Bringing that sum to the steps of the output is one multiplication by
M = input scale * weight scale / output scale, and M is kept as an integer and a right shift: no float is left.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.quantization.affine import int_range

__all__ = [
    "conv2d_accumulator",
    "integer_add",
    "integer_conv2d",
    "integer_linear",
    "integer_mean",
    "linear_accumulator",
    "quantize_bias",
    "quantize_multiplier",
    "quantize_multipliers",
    "requantize",
    "shared_multipliers",
]

_INT32_MAX = 2**31 - 1


def quantize_multiplier(m: float) -> tuple[int, int]:
    """The integer and the right shift that stand for a real factor: m = multiplier / 2**shift.

    The multiplier has its highest bit at place 30, so m is met to one part in 2**31. Of an m so small (below 2**-32)
    that no 32-bit accumulator times m reaches one half, nothing is left: (0, 31).

    Args:    m: above 0 and below 2**30, such as input scale * weight scale / output scale.
    Returns: multiplier, 2**30 to 2**31 - 1 (or 0); shift, 1 to 62.
    Raises:  ValueError if m is not above 0, not finite, or 2**30 and more.
    Source:  Jacob et al. 2018, arXiv:1712.05877, section 2.2. Taught in lesson 02.

    >>> quantize_multiplier(0.75)
    (1610612736, 31)
    >>> quantize_multiplier(0.01)
    (1374389535, 37)
    """
    multiplier, shift = quantize_multipliers(torch.tensor([m], dtype=torch.float64))
    return int(multiplier), int(shift)


def quantize_multipliers(m: Tensor) -> tuple[Tensor, Tensor]:
    """`quantize_multiplier` of every element, one a channel: (multiplier, shift), int64, the shape of m.

    Raises: ValueError if an element is not above 0, not finite, or 2**30 and more.
    """
    m = m.double()
    if not ((m > 0) & (m < 2.0**30)).all():
        raise ValueError(f"a factor must be above 0 and below 2**30, got {m[~((m > 0) & (m < 2.0**30))][0]}")
    fraction, exponent = torch.frexp(m)  # m = fraction * 2**exponent, fraction in [0.5, 1)
    multiplier, shift = torch.round(fraction * 2**31).long(), 31 - exponent.long()
    full = multiplier == 2**31  # the fraction was rounded up to 1
    multiplier, shift = torch.where(full, 2**30, multiplier), torch.where(full, shift - 1, shift)
    vanishes = shift > 62
    return torch.where(vanishes, 0, multiplier), torch.where(vanishes, 31, shift)


def shared_multipliers(*factors: float) -> tuple[list[int], int]:
    """Integers that stand for several real factors under one right shift: factor = multiplier / 2**shift.

    So that terms in different steps can be added before the one rounding. The largest gets 31 bits.

    Args:    factors: each above 0 and below 2**30.
    Raises:  as `quantize_multiplier`.
    Source:  Jacob et al. 2018, arXiv:1712.05877, appendix A.2.

    >>> shared_multipliers(0.75, 0.375)
    ([1610612736, 805306368], 31)
    """
    multiplier, shift = quantize_multiplier(max(factors))
    if min(factors) <= 0:
        raise ValueError(f"every factor must be above 0, got {min(factors)}")
    return [multiplier if f == max(factors) else round(f * 2.0**shift) for f in factors], shift


def requantize(
    acc: Tensor,
    multiplier: int | Tensor,
    shift: int | Tensor,
    zero_point: int = 0,
    n_bits: int = 8,
    *,
    low: int | None = None,
    high: int | None = None,
) -> Tensor:
    """Output codes of an accumulator: round(acc * multiplier / 2**shift) + zero_point, clamped.

    Rounding is to the nearest integer, halves up (towards plus infinity), and it is done once:
    floor((acc * multiplier + 2**(shift - 1)) / 2**shift), in 64-bit integers, where nothing can overflow.
    (gemmlowp rounds twice, first to 32 bits; ONNX Runtime multiplies by a float32 and rounds halves to even. Each
    may differ from this by one step, near a half.)

    Args:    acc: integer, any shape, within 32 bits. multiplier: 0 to 2**31 - 1; shift: 1 to 62: an int each, or
             tensors that broadcast against acc, such as (C, 1, 1) against (N, C, H, W).
             zero_point: of the output. n_bits: of the output. low, high: codes to clamp to beyond the range of
             n_bits: low = zero_point is a ReLU for nothing.
    Returns: int8, the shape of acc.
    Raises:  TypeError if acc is not an integer tensor; ValueError if n_bits is not 2 to 8 or a shift not 1 to 62.
    Source:  Jacob et al. 2018, arXiv:1712.05877, sections 2.2 and 2.4. Taught in lesson 02.

    >>> requantize(torch.tensor([-6, -2, 2, 6, 1000]), multiplier=2**30, shift=32)  # a quarter, halves up
    tensor([ -1,   0,   1,   2, 127], dtype=torch.int8)
    """
    if acc.is_floating_point() or acc.is_complex():
        raise TypeError(f"acc must hold integers, got {acc.dtype}")
    shift = torch.as_tensor(shift, dtype=torch.int64)
    if ((shift < 1) | (shift > 62)).any():
        raise ValueError(f"every shift must be in 1..62, got {shift.tolist()}")
    qmin, qmax = int_range(n_bits)
    half = torch.ones_like(shift) << (shift - 1)
    # In place, on a copy: new tensors of this size would take longer than the arithmetic.
    scaled = acc.to(torch.int64, copy=True).mul_(multiplier).add_(half)
    rounded = scaled.bitwise_right_shift_(shift)  # an arithmetic shift rounds down, also below 0
    lowest, highest = max(qmin, qmin if low is None else low), min(qmax, qmax if high is None else high)
    return rounded.add_(zero_point).clamp_(lowest, highest).to(torch.int8)


def quantize_bias(bias: Tensor, input_scale: float, weight_scale: float | Tensor) -> Tensor:
    """The bias in the steps of the accumulator: round(bias / (input_scale * weight_scale)), int32, zero point 0.

    Args:    bias: (C,), floating point. input_scale: above 0. weight_scale: above 0; a float, or (C,).
    Returns: int32 (C,), saturated at half the range of int32, which leaves room for the products.
    Raises:  ValueError if the bias holds NaN.
    Source:  Jacob et al. 2018, arXiv:1712.05877, section 2.4. Taught in lesson 02.

    >>> quantize_bias(torch.tensor([1.0, -0.25]), 0.5, torch.tensor([0.25, 0.125]))
    tensor([ 8, -4], dtype=torch.int32)
    """
    if bias.isnan().any():
        raise ValueError("the bias holds nan, and nan has no integer code")
    step = torch.as_tensor(weight_scale).double() * input_scale
    return torch.round(bias.double() / step).clamp(-(2**30), 2**30).to(torch.int32)


def linear_accumulator(q_x: Tensor, q_w: Tensor, q_bias: Tensor | None = None, zero_point: int = 0) -> Tensor:
    """The int32 sums of a linear layer: (q_x - zero_point) @ q_w.T + q_bias.

    int32 is enough: a product is below 2**15, so 2**15 of them stay below 2**30, and the bias too.

    Args:    q_x: int8 (..., K), codes with that zero_point. q_w: int8 (M, K), symmetric codes.
             q_bias: int32 (M,), from `quantize_bias`, or None.
    Returns: int32 (..., M), in steps of input scale * weight scale.
    Raises:  TypeError if q_x or q_w does not hold integers.
    Source:  Jacob et al. 2018, arXiv:1712.05877, section 2.3. Taught in lesson 02.
    """
    _check_codes(q_x, q_w)
    # To int32 first: in int8, 127 - (-128) wraps round to -1.
    return F.linear(q_x.int() - zero_point, q_w.int(), None if q_bias is None else q_bias.int())


def conv2d_accumulator(
    q_x: Tensor,
    q_w: Tensor,
    q_bias: Tensor | None = None,
    zero_point: int = 0,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Tensor:
    """The int32 sums of a 2-dimensional convolution, padded with the code that means 0: the zero point.

    Args:    q_x: int8 (N, C_in, H, W), codes with that zero_point. q_w: int8 (C_out, C_in / groups, K, K).
             q_bias: int32 (C_out,), or None. The rest as in torch.nn.functional.conv2d.
    Returns: int32 (N, C_out, H', W'), in steps of input scale * weight scale.
    Raises:  TypeError if q_x or q_w does not hold integers.
    Source:  Jacob et al. 2018, arXiv:1712.05877, section 2.3. Taught in lesson 02.
    """
    _check_codes(q_x, q_w)
    centred = q_x.to(torch.int32, copy=True).sub_(
        zero_point
    )  # the zero point becomes 0, so padding with zeros pads with it
    bias = None if q_bias is None else q_bias.int()
    # PyTorch has an integer convolution, but not a dilated one: put the zeros into the kernel.
    return F.conv2d(centred, _dilated(q_w.int(), dilation), bias, stride, padding, 1, groups)


def _check_codes(q_x: Tensor, q_w: Tensor) -> None:
    for name, each in {"q_x": q_x, "q_w": q_w}.items():
        if each.is_floating_point() or each.is_complex():
            raise TypeError(f"{name} must hold integer codes, got {each.dtype}; quantize it first")


def _dilated(weight: Tensor, dilation: int | tuple[int, int]) -> Tensor:
    """The kernel with dilation - 1 zeros between its elements: it does without dilation what `weight` does with."""
    dy, dx = (dilation, dilation) if isinstance(dilation, int) else dilation
    height, width = weight.shape[2:]
    wide = weight.new_zeros(*weight.shape[:2], (height - 1) * dy + 1, (width - 1) * dx + 1)
    wide[:, :, ::dy, ::dx] = weight
    return wide


def integer_linear(
    q_x: Tensor,
    q_w: Tensor,
    q_bias: Tensor | None,
    multiplier: int | Tensor,
    shift: int | Tensor,
    x_zero_point: int = 0,
    y_zero_point: int = 0,
    n_bits: int = 8,
    *,
    relu: bool = False,
) -> Tensor:
    """A linear layer from codes to codes, in integers alone: `linear_accumulator`, then `requantize`.

    Args:    q_x: int8 (..., K). q_w: int8 (M, K), symmetric. q_bias: int32 (M,), or None.
             multiplier, shift: of input scale * weight scale / output scale: an int each, or (M,).
             x_zero_point, y_zero_point: of the input's and the output's codes. n_bits: of the output.
             relu: clamp the output at its zero point, which is a ReLU.
    Returns: int8 (..., M).
    Raises:  as the two functions.
    Source:  Jacob et al. 2018, arXiv:1712.05877, section 2. Taught in lesson 02.

    >>> q_x = torch.tensor([[10, -3]], dtype=torch.int8)
    >>> q_w = torch.tensor([[2, 1], [-4, 0]], dtype=torch.int8)
    >>> integer_linear(q_x, q_w, None, *quantize_multiplier(0.5), x_zero_point=-4)
    tensor([[ 15, -28]], dtype=torch.int8)
    """
    acc = linear_accumulator(q_x, q_w, q_bias, x_zero_point)
    return requantize(acc, multiplier, shift, y_zero_point, n_bits, low=y_zero_point if relu else None)


def integer_conv2d(
    q_x: Tensor,
    q_w: Tensor,
    q_bias: Tensor | None,
    multiplier: int | Tensor,
    shift: int | Tensor,
    x_zero_point: int = 0,
    y_zero_point: int = 0,
    n_bits: int = 8,
    *,
    relu: bool = False,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Tensor:
    """A 2-dimensional convolution from codes to codes: `conv2d_accumulator`, then `requantize`.

    Args:    as `conv2d_accumulator` and `integer_linear`; multiplier and shift: an int each, or (C_out,).
    Returns: int8 (N, C_out, H', W').
    Raises:  as the two functions.
    Source:  Jacob et al. 2018, arXiv:1712.05877, section 2. Taught in lesson 02.
    """
    acc = conv2d_accumulator(q_x, q_w, q_bias, x_zero_point, stride, padding, dilation, groups)
    multiplier, shift = (torch.as_tensor(each).reshape(-1, 1, 1) for each in (multiplier, shift))
    return requantize(acc, multiplier, shift, y_zero_point, n_bits, low=y_zero_point if relu else None)


def integer_add(
    q_a: Tensor,
    q_b: Tensor,
    multipliers: list[int],
    shift: int,
    zero_points: tuple[int, int, int] = (0, 0, 0),
    n_bits: int = 8,
    *,
    relu: bool = False,
) -> Tensor:
    """The sum of two tensors on different grids, from codes to codes: rescaled, added, rounded once.

    Args:    q_a, q_b: int8, of shapes that broadcast. multipliers, shift: of a's and b's scale over the output's,
             from `shared_multipliers`. zero_points: of a, of b, of the output. n_bits: of the output.
             relu: clamp the output at its zero point.
    Returns: int8.
    Source:  Jacob et al. 2018, arXiv:1712.05877, appendix A.2 (there in int32, with two roundings more).

    >>> a, b = torch.tensor([10], dtype=torch.int8), torch.tensor([100], dtype=torch.int8)
    >>> integer_add(a, b, *shared_multipliers(2.0, 0.5))
    tensor([70], dtype=torch.int8)
    """
    (m_a, m_b), (z_a, z_b, z_y) = multipliers, zero_points
    total = (q_a.long() - z_a) * m_a + (q_b.long() - z_b) * m_b  # below 2**42: 9 bits and 31, twice
    return requantize(total, 1, shift, z_y, n_bits, low=z_y if relu else None)


def integer_mean(
    q_x: Tensor,
    multiplier: int,
    shift: int,
    x_zero_point: int = 0,
    y_zero_point: int = 0,
    n_bits: int = 8,
) -> Tensor:
    """The mean over height and width, from codes to codes: an int32 sum, then `requantize`.

    Args:    q_x: int8 (N, C, H, W). multiplier, shift: of input scale / (H * W * output scale).
    Returns: int8 (N, C).

    >>> q_x = torch.tensor([[[[1, 2], [3, 5]]]], dtype=torch.int8)
    >>> integer_mean(q_x, *quantize_multiplier(1 / 4))
    tensor([[3]], dtype=torch.int8)
    """
    total = (q_x.int() - x_zero_point).sum(dim=(2, 3))
    return requantize(total, multiplier, shift, y_zero_point, n_bits)
