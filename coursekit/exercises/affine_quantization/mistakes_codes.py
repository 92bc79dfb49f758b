"""Known mistakes on the way to the codes and back.

Each `wrong` makes one mistake and no other; a check recognises it by equal results on every probe.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.spec import Mistake
from coursekit.quantization import int_range

__all__ = ["DEQUANTIZE", "QUANTIZE", "dequantize_probes", "quantize_probes"]

Args = tuple[Any, ...]


def quantize_probes() -> list[Args]:
    """Values in and out of range, exact halves, a zero point, 4 bits, and a scale a row."""
    x = torch.tensor([-100.0, -30.0, -2.6, -1.3, -0.7, 0.0, 0.26, 0.9, 2.49, 3.7, 17.0, 26.0, 90.0])
    rows = torch.stack([x, x / 10])
    return [
        (x, 0.25, 3),
        (x, 0.25, 0),
        (x, 0.1, -20),
        (x, 0.5, 1, 4),
        (rows, torch.tensor([[0.3], [0.03]]), 0),
    ]


def _codes(x: Tensor, scale: Any, zero_point: int, n_bits: int) -> Tensor:
    return torch.clamp(x, *int_range(n_bits)).to(torch.int8)


def _wrap(x: Tensor) -> Tensor:
    """What a cast of a large value to int8 leaves: the lowest 8 bits."""
    return x.to(torch.int64).to(torch.int8)


def _guide_formula(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _codes(torch.round((x - zero_point) / scale), scale, zero_point, n_bits)


def _no_clamp(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _wrap(torch.round(x / scale) + zero_point)


def _clamp_after_cast(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return torch.clamp(_no_clamp(x, scale, zero_point), *int_range(n_bits))


def _truncates(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _codes(torch.trunc(x / scale) + zero_point, scale, zero_point, n_bits)


def _truncates_at_cast(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _codes(x / scale + zero_point, scale, zero_point, n_bits)


def _adds_half_and_truncates(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _codes(torch.trunc(x / scale + zero_point + 0.5), scale, zero_point, n_bits)


def _floors(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _codes(torch.floor(x / scale) + zero_point, scale, zero_point, n_bits)


def _rounds_first(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _codes(torch.round(torch.round(x) / scale) + zero_point, scale, zero_point, n_bits)


def _multiplies(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _codes(torch.round(x * scale) + zero_point, scale, zero_point, n_bits)


def _forgets_zero_point(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _codes(torch.round(x / scale), scale, zero_point, n_bits)


def _subtracts_zero_point(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _codes(torch.round(x / scale) - zero_point, scale, zero_point, n_bits)


def _clamps_first(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _wrap(torch.clamp(torch.round(x / scale), *int_range(n_bits)) + zero_point)


def _always_8(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _codes(torch.round(x / scale) + zero_point, scale, zero_point, 8)


def _stays_float(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return torch.clamp(torch.round(x / scale) + zero_point, *int_range(n_bits))


def _unsigned_codes(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return torch.clamp(torch.round(x / scale) + zero_point, 0, 2**n_bits - 1).to(torch.uint8)


QUANTIZE = (
    Mistake("guide_formula", "This is round((x - zero_point) / scale), a formula found in many texts. The zero point "
            "is a code, not a real value: it is added after the division.", _guide_formula),
    Mistake("no_clamp", "Values outside the range wrap round: without a clamp, casting 200 to int8 gives -56.",
            _no_clamp),
    Mistake("clamp_after_cast", "You clamp after the cast to int8. By then 200 has already become -56.",
            _clamp_after_cast),
    Mistake("truncates", "You cut the fraction off instead of rounding: everything moves towards 0, and the error "
            "reaches a whole step.", _truncates),
    Mistake("no_rounding", "There is no round before the cast, and the cast cuts the fraction off.",
            _truncates_at_cast),
    Mistake("adds_half_and_truncates", "Adding 0.5 and cutting the fraction off rounds negative numbers towards 0. Use "
            "torch.round, or floor after adding the half.", _adds_half_and_truncates),
    Mistake("floors", "You round down. Nearest is what halves the largest error: torch.round.", _floors),
    Mistake("rounded_before_dividing", "You rounded x itself before dividing by the scale, so everything between two "
            "whole numbers is lost.", _rounds_first),
    Mistake("multiplies_by_scale", "You multiply by the scale. The scale is units of x per step, so x / scale counts "
            "the steps.", _multiplies),
    Mistake("forgets_zero_point", "The zero point is never added: right only for zero_point = 0.", _forgets_zero_point),
    Mistake("subtracts_zero_point", "You subtract the zero point. The real value 0 must get the code +zero_point.",
            _subtracts_zero_point),
    Mistake("clamps_before_zero_point", "You clamp, then add the zero point, and leave the range again. Clamp last.",
            _clamps_first),
    Mistake("ignores_n_bits", "You always use the 8-bit range. Take qmin and qmax from int_range(n_bits).", _always_8),
    Mistake("stays_float", "The values are right, but the result is not int8: .to(torch.int8) at the end.",
            _stays_float),
    Mistake("unsigned_codes", "Your codes are unsigned, 0..255. In this lesson all codes are signed.", _unsigned_codes),
)  # fmt: skip


def dequantize_probes() -> list[Args]:
    """All kinds of codes, with zero points at both ends, and a scale a row."""
    q = torch.tensor([-128, -100, -3, 0, 1, 5, 90, 127], dtype=torch.int8)
    return [
        (q, 0.5, 3),
        (q, 0.25, -128),
        (q, 0.1, 127),
        (q, 0.3, 0),
        (q.reshape(2, 4), torch.tensor([[0.5], [2.0]]), 0),
    ]


def _in_int8(q: Tensor, scale: Any, zero_point: int = 0) -> Tensor:
    return (q.to(torch.int64) - zero_point).to(torch.int8).to(torch.float32) * scale


DEQUANTIZE = (
    Mistake("int8_overflow", "q - zero_point is computed in int8, and 127 - (-128) = 255 does not fit: it wraps to -1. "
            "Go to float32 before you subtract.", _in_int8),
    Mistake("adds_zero_point", "You add the zero point, as some texts do. Put q = zero_point into your formula: "
            "it must give 0.", lambda q, scale, zero_point=0: (q.float() + zero_point) * scale),
    Mistake("forgets_zero_point", "The zero point does not appear in your result.",
            lambda q, scale, zero_point=0: q.float() * scale),
    Mistake("subtracts_after_scaling", "scale * q - zero_point takes the zero point away in units of x. It is a code: "
            "subtract first, then scale.", lambda q, scale, zero_point=0: q.float() * scale - zero_point),
    Mistake("divides_by_scale", "You divide by the scale. It is units of x per step: steps times scale is x.",
            lambda q, scale, zero_point=0: (q.float() - zero_point) / scale),
    Mistake("wrong_way_round", "zero_point - q has the wrong sign: larger codes must mean larger values.",
            lambda q, scale, zero_point=0: (zero_point - q.float()) * scale),
    Mistake("float64", "The values are right, but in float64. The network works in float32.",
            lambda q, scale, zero_point=0: (q.double() - zero_point) * scale),
    Mistake("integer_result", "Your result is an integer tensor: the product with the scale lost its fraction.",
            lambda q, scale, zero_point=0: ((q.int() - zero_point) * scale).to(torch.int32)),
    Mistake("unsigned_codes", "You read the codes as unsigned, 0..255. They are signed, -128..127.",
            lambda q, scale, zero_point=0: (q.view(torch.uint8).float() - zero_point) * scale),
)  # fmt: skip
