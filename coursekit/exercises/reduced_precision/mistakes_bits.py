"""Known mistakes in taking floats apart, putting them together and rounding to them.

Each `wrong` makes one mistake and no other; a check recognises it by equal results on every probe.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.spec import Mistake

__all__ = [
    "FLOAT_BITS",
    "ROUND_TO_FORMAT",
    "VALUE_FROM_BITS",
    "bits_probes",
    "rounding_probes",
    "value_probes",
]

Args = tuple[Any, ...]
Fields = tuple[Any, Any, Any]
_WIDTHS = {torch.float16: (5, 10), torch.bfloat16: (8, 7), torch.float32: (8, 23)}


def bits_probes() -> list[Args]:
    """Both signs, zeros, subnormals and large values, in three dtypes."""
    x = torch.tensor([1.0, -6.5, 0.1, -0.0, 0.0, 2.0**-24, -300.0, 65504.0])
    return [(x.half(),), (x.bfloat16(),), (x,)]


def _pattern(x: Tensor) -> Tensor:
    signed = x.view(torch.int32 if x.element_size() == 4 else torch.int16).to(torch.int64)
    return signed & (2 ** (8 * x.element_size()) - 1)


def _fields(x: Tensor, e: int, m: int) -> Fields:
    p = _pattern(x)
    return p >> (e + m), (p >> m) & (2**e - 1), p & (2**m - 1)


def _right(x: Tensor) -> Fields:
    return _fields(x, *_WIDTHS[x.dtype])


def _unmasked_sign(x: Tensor) -> Fields:
    sign, exponent, fraction = _right(x)
    return -sign, exponent, fraction


def _sign_by_comparison(x: Tensor) -> Fields:
    _, exponent, fraction = _right(x)
    return (x < 0).to(torch.int64), exponent, fraction


def _without_bias(x: Tensor) -> Fields:
    sign, exponent, fraction = _right(x)
    return sign, exponent - (2 ** (_WIDTHS[x.dtype][0] - 1) - 1), fraction


def _with_hidden_one(x: Tensor) -> Fields:
    sign, exponent, fraction = _right(x)
    return sign, exponent, fraction + 2 ** _WIDTHS[x.dtype][1] * (exponent > 0)


def _swapped_widths(x: Tensor) -> Fields:
    e, m = _WIDTHS[x.dtype]
    return _fields(x, m, e)


def _exponent_with_sign(x: Tensor) -> Fields:
    sign, _, fraction = _right(x)
    return sign, _pattern(x) >> _WIDTHS[x.dtype][1], fraction


def _fraction_with_exponent(x: Tensor) -> Fields:
    e, m = _WIDTHS[x.dtype]
    sign, exponent, _ = _right(x)
    return sign, exponent, _pattern(x) & (2 ** (e + m) - 1)


def _casts_the_value(x: Tensor) -> Fields:
    e, m = _WIDTHS[x.dtype]
    p = x.to(torch.int64) & (2 ** (8 * x.element_size()) - 1)
    return p >> (e + m), (p >> m) & (2**e - 1), p & (2**m - 1)


def _fraction_as_value(x: Tensor) -> Fields:
    sign, exponent, fraction = _right(x)
    return sign, exponent, fraction / 2 ** _WIDTHS[x.dtype][1]


def _as_booleans(x: Tensor) -> Fields:
    sign, exponent, fraction = _right(x)
    return sign.bool(), exponent, fraction


FLOAT_BITS = (
    Mistake("unmasked_sign", "Your sign bits are 0 and -1: a negative integer stays negative when you shift it right. "
            "Keep only the number's own bits first.", _unmasked_sign),
    Mistake("sign_by_comparison", "x < 0 says that -0.0 is not negative, yet its sign bit is 1. Read the bit.",
            _sign_by_comparison),
    Mistake("bias_subtracted", "You subtracted the bias. Asked for is the exponent as it is stored, 0 and up.",
            _without_bias),
    Mistake("hidden_one_added", "You added the hidden 1 to the fraction. It is hidden because it is not stored.",
            _with_hidden_one),
    Mistake("always_float16", "You use 5 and 10 bits for every dtype. format_of(x.dtype) knows the widths of each.",
            lambda x: _fields(x, 5, 10)),
    Mistake("swapped_widths", "The widths of exponent and fraction are swapped.", _swapped_widths),
    Mistake("exponent_keeps_sign", "Your exponent has the sign bit in it: after the shift, keep only its own bits.",
            _exponent_with_sign),
    Mistake("fraction_keeps_exponent", "Your fraction has the exponent in it: the mask is too wide.",
            _fraction_with_exponent),
    Mistake("casts_the_value", "x.to(integer) converts the number, so 6.5 becomes 6. x.view(integer) reads its bits.",
            _casts_the_value),
    Mistake("fraction_as_value", "You divided the fraction by 2^m. Asked for is the stored integer.",
            _fraction_as_value),
    Mistake("sign_as_boolean", "The sign is True or False; make it the integer 1 or 0.", _as_booleans),
)  # fmt: skip


def value_probes() -> list[Args]:
    """Zeros, subnormals, normals of both signs, inf and NaN, in three formats."""
    s = torch.tensor([0, 1, 0, 1, 0, 1, 0, 0, 1, 0])
    e = torch.tensor([0, 0, 0, 1, 15, 17, 30, 31, 31, 31])
    m = torch.tensor([0, 0, 1, 3, 512, 640, 1023, 0, 0, 5])
    small = torch.tensor([0, 0, 1, 2, 3, 4, 6, 7, 7, 7]), torch.tensor([0, 1, 3, 0, 2, 1, 3, 0, 0, 1])
    return [(s, e, m, 5, 10), (s, *small, 3, 2), (s, e * 8, m % 128, 8, 7)]


def _value(
    s: Tensor, e: Tensor, m: Tensor, eb: int, mb: int, *, hidden: Any = None, bias: int | None = None,
    lowest: int = 1, special: bool = True, nan: float = torch.nan, parts: int | None = None,
) -> Tensor:  # fmt: skip
    bias = 2 ** (eb - 1) - 1 if bias is None else bias
    hidden = (e > 0).double() if hidden is None else hidden
    value = (hidden + m.double() / (parts or 2**mb)) * torch.exp2(e.clamp(min=lowest).double() - bias)
    if special:
        top = torch.where(m == 0, torch.inf, nan).double()
        value = torch.where(e == 2**eb - 1, top, value)
    return torch.where(s == 1, -value, value)


def _flushes(s: Tensor, e: Tensor, m: Tensor, eb: int, mb: int) -> Tensor:
    return torch.where(e == 0, torch.where(s == 1, -0.0, 0.0).double(), _value(s, e, m, eb, mb))


VALUE_FROM_BITS = (
    Mistake("no_hidden_one", "The hidden 1 is missing: a normal number is 1 + fraction / 2^m, times a power of 2.",
            lambda s, e, m, eb, mb: _value(s, e, m, eb, mb, hidden=0.0)),
    Mistake("hidden_one_everywhere", "Exponent 0 has no hidden 1. With it there would be no zero at all.",
            lambda s, e, m, eb, mb: _value(s, e, m, eb, mb, hidden=1.0)),
    Mistake("subnormal_exponent", "Subnormals are half of what they should be: exponent 0 has the power of exponent 1, "
            "so that they join the normal numbers without a gap.",
            lambda s, e, m, eb, mb: _value(s, e, m, eb, mb, lowest=0)),
    Mistake("subnormals_dropped", "You make every number with exponent 0 zero. With a fraction it is a subnormal.",
            _flushes),
    Mistake("bias_off_by_one", "Every value is half of what it should be: the bias is 2^(e-1) - 1, 15 for 5 bits.",
            lambda s, e, m, eb, mb: _value(s, e, m, eb, mb, bias=2 ** (eb - 1))),
    Mistake("bias_of_float16", "You use the bias 15 for every format. It follows from the number of exponent bits.",
            lambda s, e, m, eb, mb: _value(s, e, m, eb, mb, bias=15)),
    Mistake("no_specials", "The highest exponent is no power of 2: it is kept for inf and NaN.",
            lambda s, e, m, eb, mb: _value(s, e, m, eb, mb, special=False)),
    Mistake("nan_is_inf", "The highest exponent is inf only where the fraction is 0; elsewhere it is NaN.",
            lambda s, e, m, eb, mb: _value(s, e, m, eb, mb, nan=torch.inf)),
    Mistake("sign_ignored", "No value of yours is negative: the sign bit is not used.",
            lambda s, e, m, eb, mb: _value(torch.zeros_like(s), e, m, eb, mb)),
    Mistake("sign_turned", "Sign bit 1 means minus; you have it the other way round.",
            lambda s, e, m, eb, mb: _value(1 - s, e, m, eb, mb)),
    Mistake("fraction_steps", "You divide the fraction by 2^m - 1. Its highest value must stay one step below 1.",
            lambda s, e, m, eb, mb: _value(s, e, m, eb, mb, parts=2**mb - 1)),
)  # fmt: skip


def rounding_probes() -> list[Args]:
    """Halves, powers of 2, subnormals, both sides of the overflow, specials; three formats."""
    near = torch.tensor([1.0, 1.3, -1.7, 1.0 + 2.0**-11, 1.0 + 3 * 2.0**-11, -3.14159, 100.3, 0.1, -0.0, 0.0])
    tiny = torch.tensor([2.0**-14 * 0.77, 2.0**-24, 2.0**-25, -1.6 * 2.0**-25, 1e-9, 2.0**-15])
    huge = torch.tensor([
        65504.0,
        65510.0,
        65519.9,
        65520.0,
        -70000.0,
        40000.0,
        torch.inf,
        -torch.inf,
        torch.nan,
    ])
    x = torch.cat([near, tiny, huge])
    small = torch.tensor([0.1, 0.2, 0.3, 1.125, 1.375, -2.6, 13.9, 14.9, 15.5, 15.0, 1e3, 0.03])
    return [(x, 5, 10), (x, 8, 7), (small, 3, 2)]


def _rounded(
    x: Tensor, eb: int, mb: int, *, rounding: Any = torch.round, lowest: bool = True, bias: int | None = None,
    shift: int = 0, overflow: str = "inf", first: bool = False, fixed: bool = False,
) -> Tensor:  # fmt: skip
    bias = 2 ** (eb - 1) - 1 if bias is None else bias
    wide = x.double()
    exponent = torch.frexp(wide)[1] - 1
    exponent = exponent.clamp(min=1 - bias) if lowest else exponent
    exponent = torch.zeros_like(exponent) if fixed else exponent
    step = torch.exp2((exponent - mb + shift).double())
    result = rounding(wide / step) * step
    largest = (2 - 2.0**-mb) * 2.0**bias
    if overflow == "inf":
        beyond = (wide if first else result).abs() > largest
        result = torch.where(beyond, torch.copysign(torch.full_like(wide, torch.inf), wide), result)
    elif overflow == "clamp":
        result = result.clamp(-largest, largest)
    return torch.where(wide.isfinite(), result, wide).to(x.dtype)


def _flush(x: Tensor, eb: int, mb: int) -> Tensor:
    return torch.where(x.abs() < 2.0 ** (2 - 2 ** (eb - 1)), torch.zeros_like(x), _rounded(x, eb, mb))


def _specials_lost(x: Tensor, eb: int, mb: int) -> Tensor:
    return torch.where(x.isinf(), torch.full_like(x, torch.nan), _rounded(x, eb, mb))


def _half_away(x: Tensor) -> Tensor:
    return torch.sign(x) * torch.floor(x.abs() + 0.5)


ROUND_TO_FORMAT = (
    Mistake("truncates", "You cut the extra digits off. Nearest halves the error, and does not pull everything to 0.",
            lambda x, eb, mb: _rounded(x, eb, mb, rounding=torch.trunc)),
    Mistake("halves_away", "Exact halves go away from 0 in your code. They go to the neighbour whose last bit is 0, "
            "so that sums do not drift; torch.round does that.",
            lambda x, eb, mb: _rounded(x, eb, mb, rounding=_half_away)),
    Mistake("subnormals_dropped", "Everything below the smallest normal number becomes 0. The format still has "
            "numbers there, a fixed step apart.", _flush),
    Mistake("no_underflow", "Tiny numbers keep all their digits: below the smallest normal exponent the step must stop "
            "shrinking.", lambda x, eb, mb: _rounded(x, eb, mb, lowest=False)),
    Mistake("no_overflow", "Numbers beyond the largest one stay finite. The format has no exponent for them: inf.",
            lambda x, eb, mb: _rounded(x, eb, mb, overflow="none")),
    Mistake("saturates", "You clamp to the largest number, as int8 does. A float overflows to inf.",
            lambda x, eb, mb: _rounded(x, eb, mb, overflow="clamp")),
    Mistake("overflow_before_rounding", "You compare with the largest number before rounding. What lies less than half "
            "a step beyond it still rounds down to it.", lambda x, eb, mb: _rounded(x, eb, mb, first=True)),
    Mistake("a_bit_too_few", "Your step is twice as long as it should be. frexp gives a mantissa in 0.5..1, so its "
            "power is one more than the exponent.", lambda x, eb, mb: _rounded(x, eb, mb, shift=1)),
    Mistake("a_bit_too_many", "Your step is half as long as it should be: the hidden 1 is no fraction bit.",
            lambda x, eb, mb: _rounded(x, eb, mb, shift=-1)),
    Mistake("fixed_point", "Your step is the same everywhere: fixed point. A float's step follows its exponent.",
            lambda x, eb, mb: _rounded(x, eb, mb, fixed=True)),
    Mistake("bias_off_by_one", "Your range ends one exponent too far out at both ends: the bias is 2^(e-1) - 1.",
            lambda x, eb, mb: _rounded(x, eb, mb, bias=2 ** (eb - 1))),
    Mistake("inf_becomes_nan", "inf comes back as NaN: inf / step * step does not work. Leave inf as it is.",
            _specials_lost),
    Mistake("always_float16", "You cast to float16 whatever the arguments say.",
            lambda x, eb, mb: x.half().to(x.dtype)),
    Mistake("float64_result", "The values are right, but the result is float64; it should have the dtype of x.",
            lambda x, eb, mb: _rounded(x, eb, mb).double()),
)  # fmt: skip
