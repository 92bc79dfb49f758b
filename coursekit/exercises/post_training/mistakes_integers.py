"""Known mistakes in arithmetic with integers: multipliers, requantization, a whole linear layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.spec import Mistake
from coursekit.quantization import int_range

__all__ = [
    "INTEGER_LINEAR",
    "QUANTIZE_MULTIPLIER",
    "REQUANTIZE",
    "linear_probes",
    "multiplier_probes",
    "requantize_probes",
]

Args = tuple[Any, ...]


def multiplier_probes() -> list[Args]:
    """Ordinary factors, powers of two, one above 1, and one a hair below a power of two."""
    return [(0.75,), (0.0123,), (0.5,), (3.3e-6,), (5.2,), (0.5 - 2.0**-40,)]


def _split(m: float, bits: int = 31, to_int: Callable[[float], Any] = round) -> tuple[Any, int]:
    fraction, exponent = math.frexp(m)
    return to_int(fraction * 2**bits), bits - exponent


def _settled(multiplier: Any, shift: int, bits: int = 31) -> tuple[Any, int]:
    return (2 ** (bits - 1), shift - 1) if multiplier == 2**bits else (multiplier, shift)


def _power_of_two(m: float) -> tuple[int, int]:
    return 2**30, 30 - round(math.log2(m))


def _too_large(m: float) -> tuple[int, int]:
    exponent = math.floor(math.log2(m))
    return round(m * 2.0**-exponent * 2**31), 31 - exponent


QUANTIZE_MULTIPLIER = (
    Mistake("always_31", "Your shift is always 31, so a small factor keeps few of its bits: of 3.3e-6 only 13. Bring "
            "the factor to 0.5..1 first and put the rest into the shift.", lambda m: (round(m * 2**31), 31)),
    Mistake("shift_without_31", "Your shift leaves out the 31 of the multiplier's own scaling: multiplier / 2**shift "
            "must be the factor itself.", lambda m: (_settled(*_split(m))[0], _settled(*_split(m))[1] - 31)),
    Mistake("shift_to_the_left", "Your shift has the wrong sign: the smaller the factor, the larger the right shift.",
            lambda m: (_settled(*_split(m))[0], 62 - _settled(*_split(m))[1])),
    Mistake("power_of_two_only", "You round the factor to a power of two, which may be 41 % off. The multiplier is "
            "there for the rest.", _power_of_two),
    Mistake("truncates", "int() cuts towards 0. Use round().", lambda m: _split(m, to_int=int)),
    Mistake("sixteen_bits", "Your multiplier has 15 bits. 32-bit integers hold "
            "31.", lambda m: _settled(*_split(m, 15), 15)),
    Mistake("overflows_at_one", "A fraction just below 1 rounds up to 2**31, which a 32-bit integer cannot hold. Then "
            "halve it and shift by one less.", _split),
    Mistake("too_large", "Your fraction lies in 1..2, so the multiplier needs 32 bits and a sign. It must stay below "
            "2**31: use a fraction of 0.5..1, as math.frexp gives it.", _too_large),
    Mistake("float_multiplier", "Your multiplier is a float. The point of it all is that no float is left.",
            lambda m: (float(_settled(*_split(m))[0]), _settled(*_split(m))[1])),
    Mistake("scaled_by_largest", "You scale by 2**31 - 1. A shift divides by 2**31, so scale by just that.",
            lambda m: _split(m, to_int=lambda f: round(f / 2**31 * (2**31 - 1)))),
    Mistake("reciprocal", "You have quantized 1 / m.", lambda m: _settled(*_split(1 / m))),
)  # fmt: skip


def requantize_probes() -> list[Args]:
    """Halves of both signs, values beyond the range, a large accumulator, a zero point, 4 bits, channels."""
    small = torch.tensor([-30, -6, -3, -2, -1, 0, 1, 2, 3, 6, 30], dtype=torch.int32)
    large = torch.tensor([-9_000_000, -1_234_567, 7_654_321, 2**23], dtype=torch.int32)
    channels = torch.tensor([[[[100]], [[100]]], [[[-70]], [[2000]]]], dtype=torch.int32)
    return [
        (small, 2**30, 32),
        (small * 20, 1_500_000_000, 33, 7),
        (large, 1_431_655_765, 47, -5),
        (small * 3, 2**30, 31, 5, 4),
        (
            channels,
            torch.tensor([2**30, 3 * 2**29]).reshape(2, 1, 1),
            torch.tensor([31, 33]).reshape(2, 1, 1),
            3,
        ),
    ]


def _rescaled(acc: Tensor, multiplier: Any, shift: Any) -> Tensor:
    return (acc.long() * multiplier + _power(shift) // 2) >> torch.as_tensor(shift)


def _power(shift: Any) -> Tensor:
    return torch.ones_like(torch.as_tensor(shift)) << torch.as_tensor(shift)


def _codes(q: Tensor, n_bits: int = 8) -> Tensor:
    return q.clamp(*int_range(n_bits)).to(torch.int8)


def _requantize_with(rescale: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def requantize(acc: Tensor, multiplier: Any, shift: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
        return _codes(rescale(acc, multiplier, shift) + zero_point, n_bits)

    return requantize


def _away_from_zero(acc: Tensor, multiplier: Any, shift: Any) -> Tensor:
    return acc.sign() * _rescaled(acc.abs(), multiplier, shift)


def _wrapped(acc: Tensor, multiplier: Any, shift: Any) -> Tensor:
    product = (acc.long() * multiplier + 2**31) % 2**32 - 2**31
    return (product + _power(shift) // 2) >> torch.as_tensor(shift)


def _clamped_early(acc: Tensor, multiplier: Any, shift: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return (_codes(_rescaled(acc, multiplier, shift), n_bits).long() + zero_point).to(torch.int8)


REQUANTIZE = (
    Mistake("rounds_down", "A shift alone rounds down: on average you lose half a step. Add half of 2**shift first.",
            _requantize_with(lambda acc, m, s: (acc.long() * m) >> torch.as_tensor(s))),
    Mistake("int32_product", "The product of two 32-bit numbers needs 64 bits; yours wraps round. Use acc.long().",
            _requantize_with(_wrapped)),
    Mistake("halves_to_even", "You round with torch.round, which sends halves to the even neighbour, and works in "
            "floats. Integers on every machine must agree, so the exercise says: halves up.",
            _requantize_with(lambda acc, m, s: torch.round(acc.double() * m / _power(s)).long())),
    Mistake("halves_away_from_zero", "You round halves away from 0; below 0 they should go up as well.",
            _requantize_with(_away_from_zero)),
    Mistake("truncating_division", "Your division cuts towards 0, so negative values come out too large. A right shift "
            "rounds down on both sides of 0.",
            _requantize_with(lambda acc, m, s: torch.div(
                acc.long() * m + _power(s) // 2, _power(s), rounding_mode="trunc"))),
    Mistake("adds_a_whole_step", "Half of 2**shift is 2**(shift - 1); you add twice that.",
            _requantize_with(lambda acc, m, s: (acc.long() * m + _power(s)) >> torch.as_tensor(s))),
    Mistake("zero_point_before_scaling", "The zero point counts in steps of the output: add it after the shift.",
            lambda acc, multiplier, shift, zero_point=0, n_bits=8: _codes(
                _rescaled(acc + zero_point, multiplier, shift), n_bits)),
    Mistake("forgets_zero_point", "The zero point is missing.",
            lambda acc, multiplier, shift, zero_point=0, n_bits=8: _codes(_rescaled(acc, multiplier, shift), n_bits)),
    Mistake("subtracts_zero_point", "The zero point must be added: the real value 0 gets the code zero_point.",
            lambda acc, multiplier, shift, zero_point=0, n_bits=8: _codes(
                _rescaled(acc, multiplier, shift) - zero_point, n_bits)),
    Mistake("no_clamp", "Values beyond the range wrap round to the other end. Clamp before the cast.",
            lambda acc, multiplier, shift, zero_point=0, n_bits=8: (
                _rescaled(acc, multiplier, shift) + zero_point).to(torch.int8)),
    Mistake("clamps_before_zero_point", "You clamp first and add the zero point then, and that can wrap round.",
            _clamped_early),
    Mistake("ignores_n_bits", "You always clamp to 8 bits.",
            lambda acc, multiplier, shift, zero_point=0, n_bits=8: _codes(
                _rescaled(acc, multiplier, shift) + zero_point)),
    Mistake("stays_wide", "The values are right, but not yet int8.",
            lambda acc, multiplier, shift, zero_point=0, n_bits=8: _codes(
                _rescaled(acc, multiplier, shift) + zero_point, n_bits).long()),
)  # fmt: skip


def linear_probes() -> list[Args]:
    """Two square layers and one of another shape, zero points at the ends of the range, with and without a bias."""
    g = torch.Generator().manual_seed(3)
    q_x, q_w = (torch.randint(-128, 128, (3, 3), generator=g).to(torch.int8) for _ in range(2))
    wide = torch.randint(-128, 128, (2, 40), generator=g).to(torch.int8)
    w_wide = torch.randint(-127, 128, (5, 40), generator=g).to(torch.int8)
    bias, channels = (
        torch.tensor([900, -20_000, 3000], dtype=torch.int32),
        torch.tensor([2**30, 2**30 + 77, 2**30 + 9]),
    )
    return [
        (q_x, q_w, bias, channels, torch.tensor([38, 39, 40]), -128, 11),
        (q_x, q_w, None, 1_300_000_000, 39, 90, -30),
        (wide, w_wide, bias.repeat(2)[:5] * 7, 1_900_000_000, 42, -128, -128),
    ]


def _linear_with(
    sum_of: Callable[..., Tensor] = lambda q_x, q_w, z: (q_x.long() - z) @ q_w.long().T,
    finish: Callable[..., Tensor] = lambda acc, b, m, s, z: _codes(_rescaled(acc + b, m, s) + z),
) -> Callable[..., Tensor]:
    """integer_linear with its own sum, or its own way from the sum to the codes."""

    def integer_linear(
        q_x: Tensor, q_w: Tensor, q_bias: Tensor | None, multiplier: Any, shift: Any,
        x_zero_point: int = 0, y_zero_point: int = 0,
    ) -> Tensor:  # fmt: skip
        bias: Any = 0 if q_bias is None else q_bias.long()
        return finish(sum_of(q_x, q_w, x_zero_point), bias, multiplier, shift, y_zero_point)

    return integer_linear


INTEGER_LINEAR = (
    Mistake("ignores_x_zero_point", "The input's zero point is never taken off: a code is not a value yet.",
            _linear_with(lambda q_x, q_w, z: q_x.long() @ q_w.long().T)),
    Mistake("zero_point_once", "You take the zero point off the sum once. Every one of its terms holds it, times a "
            "weight.",
            _linear_with(lambda q_x, q_w, z: q_x.long() @ q_w.long().T - z)),
    Mistake("int8_difference", "In int8, 127 - (-128) wraps round to -1. Make the codes int32 before taking the zero "
            "point off.", _linear_with(lambda q_x, q_w, z: (q_x.long() - z).to(torch.int8).long() @ q_w.long().T)),
    Mistake("int8_products", "You multiply and add in int8, where even 12 * 12 does not fit. Accumulate in int32.",
            _linear_with(lambda q_x, q_w, z: ((q_x.long() - z) @ q_w.long().T).to(torch.int8).long())),
    Mistake("int16_accumulator", "Two products of codes fill 16 bits. Accumulate in int32.",
            _linear_with(lambda q_x, q_w, z: ((q_x.long() - z) @ q_w.long().T).to(torch.int16).long())),
    Mistake("not_transposed", "The weight is (M, K), one row an output: multiply by its transpose.",
            _linear_with(lambda q_x, q_w, z: (q_x.long() - z) @ q_w.long())),
    Mistake("saturated_accumulator", "You clamp the sum to int8 before it is rescaled. Only the result is int8.",
            _linear_with(finish=lambda acc, b, m, s, z: _codes(_rescaled((acc + b).clamp(-128, 127), m, s) + z))),
    Mistake("bias_after_scaling", "The bias is in steps of the accumulator: it is added before the rescaling.",
            _linear_with(finish=lambda acc, b, m, s, z: _codes(_rescaled(acc, m, s) + b + z))),
    Mistake("bias_lost", "The bias is missing.",
            _linear_with(finish=lambda acc, b, m, s, z: _codes(_rescaled(acc, m, s) + z))),
    Mistake("y_zero_point_before_scaling", "The output's zero point is in steps of the output: add it after the shift.",
            _linear_with(finish=lambda acc, b, m, s, z: _codes(_rescaled(acc + b + z, m, s)))),
    Mistake("y_zero_point_lost", "The output's zero point is missing.",
            _linear_with(finish=lambda acc, b, m, s, z: _codes(_rescaled(acc + b, m, s)))),
    Mistake("rounds_down", "A shift alone rounds down. Add half of 2**shift first.",
            _linear_with(finish=lambda acc, b, m, s, z: _codes((((acc + b) * m) >> torch.as_tensor(s)) + z))),
    Mistake("stays_wide", "The values are right, but not yet int8.",
            _linear_with(finish=lambda acc, b, m, s, z: _codes(_rescaled(acc + b, m, s) + z).int())),
)  # fmt: skip
