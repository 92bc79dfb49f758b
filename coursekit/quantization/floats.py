"""Floating-point formats taken apart and put together by hand: sign, exponent, fraction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "BF16",
    "E4M3",
    "E5M2",
    "FLOAT_FORMATS",
    "FP16",
    "FP32",
    "FloatFormat",
    "bit_string",
    "float_bits",
    "format_of",
    "round_to_format",
    "value_from_bits",
]

_VIEWS = {1: torch.uint8, 2: torch.int16, 4: torch.int32}


@dataclass(frozen=True)
class FloatFormat:
    """A binary floating-point format: one sign bit, then exponent, then fraction.

    Attributes: name: as people say it. dtype: torch's. exponent_bits, fraction_bits: of the stored fields.
                has_inf: whether the highest exponent is kept for inf and NaN, as in IEEE 754; E4M3 uses it
                for numbers and has one NaN of each sign instead.
    Source:     IEEE 754-2019, section 3.4; for 8 bits Micikevicius et al. 2022, arXiv:2209.05433, table 1.

    >>> FP16.largest, FP16.smallest_normal == 2.0**-14, FP16.smallest == 2.0**-24
    (65504.0, True, True)
    >>> E4M3.largest, E5M2.largest
    (448.0, 57344.0)
    """

    name: str
    dtype: torch.dtype
    exponent_bits: int
    fraction_bits: int
    has_inf: bool = True

    @property
    def n_bits(self) -> int:
        """All bits of one number."""
        return 1 + self.exponent_bits + self.fraction_bits

    @property
    def bias(self) -> int:
        """What is subtracted from the stored exponent: half of its range, rounded down."""
        return 2 ** (self.exponent_bits - 1) - 1

    @property
    def largest(self) -> float:
        """The largest finite number."""
        if self.has_inf:
            return (2 - 2.0**-self.fraction_bits) * 2.0**self.bias
        return (2 - 2 * 2.0**-self.fraction_bits) * 2.0 ** (self.bias + 1)

    @property
    def smallest_normal(self) -> float:
        """The smallest positive number with all its digits; below it digits are lost."""
        return 2.0 ** (1 - self.bias)

    @property
    def smallest(self) -> float:
        """The smallest positive number at all, a subnormal; half of it and less rounds to 0."""
        return 2.0 ** (1 - self.bias - self.fraction_bits)

    @property
    def epsilon(self) -> float:
        """The distance from 1 to the next larger number."""
        return 2.0**-self.fraction_bits


FP32 = FloatFormat("FP32", torch.float32, 8, 23)
FP16 = FloatFormat("FP16", torch.float16, 5, 10)
BF16 = FloatFormat("BF16", torch.bfloat16, 8, 7)
E4M3 = FloatFormat("FP8 E4M3", torch.float8_e4m3fn, 4, 3, has_inf=False)
E5M2 = FloatFormat("FP8 E5M2", torch.float8_e5m2, 5, 2)
FLOAT_FORMATS = (FP32, FP16, BF16, E4M3, E5M2)


def format_of(dtype: torch.dtype) -> FloatFormat:
    """The format of a dtype.

    Raises: TypeError for a dtype that is not in FLOAT_FORMATS.
    """
    for each in FLOAT_FORMATS:
        if each.dtype == dtype:
            return each
    names = ", ".join(str(each.dtype) for each in FLOAT_FORMATS)
    raise TypeError(f"{dtype} is none of {names}; cast the tensor to one of these first")


def _pattern(x: Tensor) -> Tensor:
    """The bits of each element as a non-negative int64."""
    width = x.element_size()
    # A negative number's view is a negative integer; int64 would extend its sign, so keep only the low bits.
    return x.detach().contiguous().view(_VIEWS[width]).to(torch.int64) & (2 ** (8 * width) - 1)


def float_bits(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The stored fields of each number: sign, exponent (with its bias), fraction.

    Args:    x: any shape, float32, float16, bfloat16 or one of torch's two 8-bit formats.
    Returns: three int64 tensors of the shape of x: sign 0 or 1; exponent 0 to 2^e - 1; fraction 0 to 2^m - 1.
    Raises:  TypeError for another dtype.
    Source:  IEEE 754-2019, section 3.4. Taught in lesson 04.

    >>> float_bits(torch.tensor(-6.5, dtype=torch.float16))  # -1.625 * 2^2
    (tensor(1), tensor(17), tensor(640))
    """
    kind = format_of(x.dtype)
    pattern = _pattern(x)
    sign = pattern >> (kind.exponent_bits + kind.fraction_bits)
    exponent = (pattern >> kind.fraction_bits) & (2**kind.exponent_bits - 1)
    return sign, exponent, pattern & (2**kind.fraction_bits - 1)


def value_from_bits(
    sign: Tensor, exponent: Tensor, fraction: Tensor, exponent_bits: int, fraction_bits: int
) -> Tensor:
    """The numbers that stored fields mean, in float64, by the rules of IEEE 754.

    Exponent 0 is zero or subnormal: no hidden 1, and the scale of exponent 1. The highest exponent is inf where
    the fraction is 0, else NaN. All others are (1 + fraction / 2^m) * 2^(exponent - bias).

    Args:    sign, exponent, fraction: integer tensors of one shape. exponent_bits: 2 to 8. fraction_bits: 1 to 23.
    Returns: float64, the shape of sign; exact.
    Raises:  ValueError if a number of bits is out of range.
    Source:  IEEE 754-2019, section 3.4. Taught in lesson 04.

    >>> value_from_bits(torch.tensor(1), torch.tensor(17), torch.tensor(640), 5, 10)
    tensor(-6.5000, dtype=torch.float64)
    """
    _check_widths(exponent_bits, fraction_bits)
    bias = 2 ** (exponent_bits - 1) - 1
    stored = exponent.to(torch.float64)
    hidden = (exponent > 0).to(torch.float64)
    significand = hidden + fraction.to(torch.float64) / 2**fraction_bits
    value = significand * torch.exp2(stored.clamp(min=1) - bias)
    special = torch.where(fraction == 0, torch.inf, torch.nan)
    value = torch.where(exponent == 2**exponent_bits - 1, special.to(torch.float64), value)
    return torch.where(sign == 1, -value, value)


def _check_widths(exponent_bits: int, fraction_bits: int) -> None:
    if not (2 <= exponent_bits <= 8 and 1 <= fraction_bits <= 23):
        raise ValueError(
            f"exponent_bits must be 2 to 8 and fraction_bits 1 to 23, got {exponent_bits} and {fraction_bits}"
        )


def round_to_format(x: Tensor, exponent_bits: int, fraction_bits: int) -> Tensor:
    """x rounded to the nearest number of an IEEE format with so many bits, still in the dtype of x.

    Halves go to the neighbour whose last bit is 0. Below the smallest normal number the step stays the same
    (subnormals). What rounds beyond the largest number becomes inf. NaN and inf stay.

    Args:    x: any shape, float32 or float64. exponent_bits: 2 to 8. fraction_bits: 1 to 23.
    Returns: the shape and dtype of x.
    Raises:  TypeError if x is of another dtype; ValueError if a number of bits is out of range.
    Source:  IEEE 754-2019, section 4.3.1. Taught in lesson 04.

    >>> round_to_format(torch.tensor([0.1, 1e-8, 70000.0]), 5, 10)  # as float16
    tensor([0.1000, 0.0000,    inf])
    """
    if x.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"x must be float32 or float64, got {x.dtype}; use x.float()")
    _check_widths(exponent_bits, fraction_bits)
    bias = 2 ** (exponent_bits - 1) - 1
    wide = x.to(torch.float64)
    _, power = torch.frexp(
        wide
    )  # |x| = mantissa * 2^power with a mantissa in 0.5..1, so the exponent is power - 1
    exponent = (power - 1).clamp(min=1 - bias)
    step = torch.exp2((exponent - fraction_bits).to(torch.float64))
    rounded = torch.round(wide / step) * step  # torch.round sends halves to even
    largest = (2 - 2.0**-fraction_bits) * 2.0**bias
    rounded = torch.where(
        rounded.abs() > largest, torch.copysign(torch.full_like(wide, torch.inf), wide), rounded
    )
    return torch.where(wide.isfinite(), rounded, wide).to(x.dtype)


def bit_string(x: Tensor) -> str:
    """The bits of one number as text, its fields apart: "sign exponent fraction", or "sign rest" of an integer.

    Args:   x: one element of a floating dtype in FLOAT_FORMATS, or int8.
    Raises: ValueError if x has more or fewer elements than one; TypeError for another dtype.

    >>> bit_string(torch.tensor(1.0, dtype=torch.float16))
    '0 01111 0000000000'
    >>> bit_string(torch.tensor(-2, dtype=torch.int8))  # two's complement: -128 + 126
    '1 1111110'
    """
    if x.numel() != 1:
        raise ValueError(f"x must be one number, got {x.numel()}")
    widths = [1, 7] if x.dtype == torch.int8 else [1, *_field_widths(x.dtype)]
    pattern = f"{int(_pattern(x.reshape(1))):0{sum(widths)}b}"
    ends = torch.tensor(widths).cumsum(0).tolist()
    return " ".join(pattern[end - width : end] for end, width in zip(ends, widths, strict=True))


def _field_widths(dtype: torch.dtype) -> tuple[int, int]:
    kind = format_of(dtype)
    return kind.exponent_bits, kind.fraction_bits
