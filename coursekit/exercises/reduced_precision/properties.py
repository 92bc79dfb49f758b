"""The public tests of lesson 04: each states a property of a right solution."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.expect import (
    MismatchError,
    expect,
    expect_close,
    expect_float,
    expect_int,
    expect_tensor,
)
from coursekit.exercises.spec import Test, TestFunction, as_test, worth

__all__ = ["PUBLIC", "expect_fields", "expect_flag", "expect_same", "expect_tensors", "nearest_by_search"]


def expect_fields(value: Any, expected: tuple[list[int], list[int], list[int]], what: str) -> None:
    """Raises MismatchError unless value is three integer tensors with these elements."""
    expect(
        isinstance(value, tuple | list) and len(value) == 3,
        "the result is not three tensors",
        value,
        "3 tensors",
    )
    for name, got, wanted in zip(("sign", "exponent", "fraction"), value, expected, strict=True):
        expect(isinstance(got, Tensor), f"the {name} is not a tensor", got, "an integer tensor")
        whole = not got.is_floating_point() and got.dtype != torch.bool
        expect(whole, f"the {name} is {got.dtype}", str(got.dtype), "integers")
        expect_close(got, wanted, f"{name} of {what}")


def expect_same(got: Any, expected: Tensor, what: str, given: Tensor | None = None) -> None:
    """Raises MismatchError unless got equals expected element by element, NaN and the signs of inf included."""
    expect(isinstance(got, Tensor), "the result is not a tensor", got, "a tensor")
    expect(got.is_floating_point(), f"{what} is {got.dtype}", str(got.dtype), "floating point")
    expect(
        got.shape == expected.shape, f"{what}: the shape is wrong", tuple(got.shape), tuple(expected.shape)
    )
    ours, theirs = got.double().flatten(), expected.double().flatten()
    right = (ours == theirs) | (ours.isnan() & theirs.isnan())
    if not bool(right.all()):
        first = int((~right).nonzero()[0])
        of = "" if given is None else f" {given.flatten()[first].item():.9g}"
        raise MismatchError(f"{what}{of} is wrong", ours[first].item(), theirs[first].item())


def expect_tensors(value: Any, expected: list[Tensor], what: str, rtol: float = 1e-5) -> None:
    """Raises MismatchError unless value is a list of float32 tensors close to these."""
    expect(isinstance(value, list | tuple), f"{what} are not a list", value, "a list of tensors")
    expect(len(value) == len(expected), f"number of {what}", len(value), len(expected))
    for i, (got, wanted) in enumerate(zip(value, expected, strict=True)):
        expect_tensor(got, torch.float32, wanted.shape)
        expect_close(got, wanted, f"number {i} of the {what}", rtol=rtol)


def expect_flag(value: Any, expected: bool, what: str) -> None:
    """Raises MismatchError unless value is this bool."""
    expect(isinstance(value, bool), "found_inf is not True or False", value, expected)
    expect(value == expected, f"found_inf for {what}", value, expected)


def test_fields_of_float16(student):
    """-6.5 = -1.625 * 2^2 in float16 has sign 1, stored exponent 2 + 15 and fraction 0.625 * 1024."""
    x = torch.tensor([-6.5, 1.0, 2.0**-24, 65504.0], dtype=torch.float16)
    expect_fields(
        student.float_bits(x), ([1, 0, 0, 0], [17, 15, 0, 30], [640, 0, 1, 1023]), "-6.5, 1, 2^-24, 65504"
    )


def test_fields_have_the_widths_of_the_dtype(student):
    """bfloat16 has 8 exponent and 7 fraction bits, float32 8 and 23."""
    expected = ([1, 0], [129, 127]), {7: [80, 64], 23: [0x500000, 0x400000]}
    for dtype, m in ((torch.bfloat16, 7), (torch.float32, 23)):
        found = student.float_bits(torch.tensor([-6.5, 1.5], dtype=dtype))
        expect_fields(found, (*expected[0], expected[1][m]), f"-6.5, 1.5 in {dtype}")


def test_both_zeros_have_a_sign_bit(student):
    """The fields of 0.0 are all 0, and those of -0.0 too, but for the sign."""
    found = student.float_bits(torch.tensor([0.0, -0.0], dtype=torch.float16))
    expect_fields(found, ([0, 1], [0, 0], [0, 0]), "0.0, -0.0")


def _value(student: Any, s: int, e: int, m: int, eb: int, mb: int) -> Any:
    return student.value_from_bits(torch.tensor([s]), torch.tensor([e]), torch.tensor([m]), eb, mb)


def test_normal_numbers(student):
    """An exponent field between the ends means (1 + fraction / 2^m) * 2^(exponent - bias), negative if sign is 1."""
    for fields, value in (
        ((0, 15, 0, 5, 10), 1.0),
        ((1, 17, 640, 5, 10), -6.5),
        ((0, 30, 1023, 5, 10), 65504.0),
    ):
        expect_same(
            _value(student, *fields),
            torch.tensor([value]),
            f"the value of the fields {fields[:3]} in float16",
        )


def test_other_formats_have_other_biases(student):
    """The bias is 2^(e-1) - 1: 127 for 8 exponent bits, 3 for 3."""
    expect_same(
        _value(student, 0, 127, 64, 8, 7), torch.tensor([1.5]), "the value of (0, 127, 64) in bfloat16"
    )
    expect_same(
        _value(student, 1, 4, 1, 3, 2), torch.tensor([-2.5]), "the value of (1, 4, 1) with 3 and 2 bits"
    )


def test_zero_and_subnormals(student):
    """Exponent field 0 means fraction / 2^m * 2^(1 - bias): zero, and numbers that close the gap below 2^(1 - bias)."""
    for fraction, value in ((0, 0.0), (1, 2.0**-24), (1023, 1023 * 2.0**-24)):
        expect_same(
            _value(student, 0, 0, fraction, 5, 10), torch.tensor([value]), f"the value of (0, 0, {fraction})"
        )


def test_inf_and_nan(student):
    """The highest exponent field means inf where the fraction is 0 and NaN elsewhere."""
    expect_same(_value(student, 0, 31, 0, 5, 10), torch.tensor([math.inf]), "the value of (0, 31, 0)")
    expect_same(_value(student, 1, 31, 0, 5, 10), torch.tensor([-math.inf]), "the value of (1, 31, 0)")
    expect_same(_value(student, 0, 31, 1, 5, 10), torch.tensor([math.nan]), "the value of (0, 31, 1)")


def nearest_by_search(x: Tensor, exponent_bits: int, fraction_bits: int) -> Tensor:
    """Each x rounded by looking through every number of a small format; halves to the even fraction, inf included."""
    bias, m = 2 ** (exponent_bits - 1) - 1, fraction_bits
    numbers = []  # (value, fraction), positive; the number after the largest stands for inf
    for e in range(2**exponent_bits):
        for f in range(2**m):
            numbers.append(((min(e, 1) + f / 2**m) * 2.0 ** (max(e, 1) - bias), f))
    top = 2.0 ** (bias + 1)
    numbers = [pair for pair in numbers if pair[0] <= top]
    found = []
    for value in x.tolist():
        if not math.isfinite(value):
            found.append(value)
            continue
        best = min(numbers, key=lambda pair: (abs(abs(value) - pair[0]), pair[1] % 2))[0]
        found.append(math.copysign(math.inf if best >= top else best, value))
    return torch.tensor(found, dtype=x.dtype)


def test_rounds_to_the_nearest_number(student):
    """Between 1 and 2 float16 has steps of 2^-10 and bfloat16 of 2^-7; rounding goes to the nearest."""
    x = torch.tensor([1.1, -1.7, 0.1, 3.14159, -100.3, 0.3333])
    for dtype, eb, mb in ((torch.float16, 5, 10), (torch.bfloat16, 8, 7)):
        got = student.round_to_format(x, eb, mb)
        expect_same(got, x.to(dtype), f"with {eb} exponent and {mb} fraction bits,", x)
        expect(got.dtype == x.dtype, "the dtype of the result", str(got.dtype), str(x.dtype))


def test_halves_go_to_even(student):
    """Exactly between two numbers the one with the even fraction is taken: 1 + 2^-11 becomes 1, 1 + 3 * 2^-11 not."""
    x = torch.tensor([1 + 2.0**-11, 1 + 3 * 2.0**-11, -1 - 2.0**-11])
    expect_same(student.round_to_format(x, 5, 10), x.half(), "in float16,", x)


def test_subnormals_have_a_fixed_step(student):
    """Below 2^-14 float16 goes on in steps of 2^-24, and 2^-25 and less becomes 0."""
    x = torch.tensor([0.77 * 2.0**-14, 1.6 * 2.0**-24, 2.0**-25, -1e-9, 1.1 * 2.0**-25])
    expect_same(student.round_to_format(x, 5, 10), x.half(), "in float16,", x)


def test_beyond_the_largest_is_inf(student):
    """65519 rounds down to 65504, the largest float16; 65520 and more becomes inf, with its sign."""
    x = torch.tensor([65504.0, 65519.0, 65520.0, -70000.0, math.inf, -math.inf])
    expect_same(student.round_to_format(x, 5, 10), x.half(), "in float16,", x)


def test_any_small_format(student):
    """With 3 exponent and 2 fraction bits every result is the nearest of the format's numbers, found by search."""
    x = torch.tensor([0.1, 0.2, 0.3, 1.125, 1.375, -2.6, 13.9, 14.9, 15.0, 15.5, 0.03, -1e3])
    expect_same(student.round_to_format(x, 3, 2), nearest_by_search(x, 3, 2), "with 3 and 2 bits,", x)


A, B = torch.tensor([[3.0, -4.0], [0.0, 0.0]]), torch.tensor([12.0])  # of norm 13 together


def test_short_gradients_are_only_unscaled(student):
    """Gradients shorter than max_norm come back divided by the scale, and nothing else; found_inf is False."""
    grads, found_inf = student.unscale_and_clip([A * 1024, B * 1024], 1024.0, 100.0)
    expect_tensors(grads, [A, B], "gradients")
    expect_flag(found_inf, False, "finite gradients")


def test_long_gradients_keep_their_direction(student):
    """The norm of all gradients together, 13 here, is brought down to max_norm by one factor; it is taken unscaled."""
    grads, _ = student.unscale_and_clip([A * 8, B * 8], 8.0, 6.5)
    expect_tensors(grads, [A / 2, B / 2], "gradients")


def test_tiny_float16_gradients_survive(student):
    """A float16 gradient that the scale lifted out of the underflow is still there after dividing, in float32."""
    tiny = torch.tensor([2.0**-20, -(2.0**-22)], dtype=torch.float16)
    grads, _ = student.unscale_and_clip([tiny], 65536.0, 1.0)
    expect_tensors(grads, [torch.tensor([2.0**-36, -(2.0**-38)])], "gradients")


def test_one_overflow_anywhere_is_found(student):
    """found_inf is True if any element of any gradient is inf or NaN."""
    for bad in (math.inf, -math.inf, math.nan):
        for position in (0, 1):
            given = [A.clone(), B.clone()]
            given[position].view(-1)[0] = bad
            _, found_inf = student.unscale_and_clip(given, 2.0, 1.0)
            expect_flag(found_inf, True, f"{bad} in gradient {position}")


def expect_scale(value: Any, scale: float, good_steps: int, what: str) -> None:
    """Raises MismatchError unless value is this scale and this count."""
    expect(
        isinstance(value, tuple | list) and len(value) == 2,
        "the result is not (scale, good_steps)",
        value,
        "a pair",
    )
    expect_close(expect_float(value[0], "scale"), scale, f"the scale {what}")
    expect_int(value[1], "good_steps")
    expect(value[1] == good_steps, f"good_steps {what}", value[1], good_steps)


def test_overflow_halves_the_scale(student):
    """After an overflow the scale is backoff_factor times what it was, and the count starts again from 0."""
    expect_scale(student.loss_scale_step(1024.0, 1500, True), 512.0, 0, "after an overflow")
    expect_scale(student.loss_scale_step(1024.0, 0, True), 512.0, 0, "after a second overflow")


def test_good_steps_are_counted(student):
    """A good step leaves the scale and adds 1 to the count."""
    expect_scale(student.loss_scale_step(1024.0, 0, False), 1024.0, 1, "after a good step")
    expect_scale(student.loss_scale_step(1024.0, 41, False), 1024.0, 42, "after 42 good steps")


def test_the_scale_grows_at_the_interval(student):
    """The good step that makes growth_interval in a row doubles the scale, and the count starts again from 0."""
    expect_scale(student.loss_scale_step(1024.0, 1998, False), 1024.0, 1999, "one step before the interval")
    expect_scale(student.loss_scale_step(1024.0, 1999, False), 2048.0, 0, "at the interval")


def test_other_constants_are_used(student):
    """growth_factor, backoff_factor and growth_interval are those given."""
    expect_scale(student.loss_scale_step(96.0, 2, False, 3.0, 0.25, 3), 288.0, 0, "with growth 3, interval 3")
    expect_scale(student.loss_scale_step(96.0, 2, True, 3.0, 0.25, 3), 24.0, 0, "with backoff 0.25")


def _pair(value: Any) -> tuple[Any, Any]:
    expect(
        isinstance(value, tuple | list) and len(value) == 2,
        "the result is not (master, weight)",
        value,
        "a pair",
    )
    return value[0], value[1]


def test_the_master_takes_the_step(student):
    """The new master is master - lr * grad, in float32."""
    master, grad = torch.tensor([1.0, -0.5, 2.0]), torch.tensor([0.5, -4.0, 1.0])
    new, _ = _pair(student.master_weight_update(master, master.half(), grad, 0.25))
    expect_close(expect_tensor(new, torch.float32, (3,)), [0.875, 0.5, 1.75], "master")


def test_the_weight_is_the_rounded_master(student):
    """The new weight is the new master in the dtype of weight."""
    master, grad = torch.tensor([1.0, -0.7334]), torch.tensor([0.3, -0.1])
    for dtype in (torch.float16, torch.bfloat16):
        new, weight = _pair(student.master_weight_update(master, master.to(dtype), grad, 0.1))
        expect_close(expect_tensor(new, torch.float32, (2,)), [0.97, -0.7234], "master")
        expect_close(expect_tensor(weight, dtype, (2,)), torch.tensor([0.97, -0.7234]).to(dtype), "weight")


@worth(2)
def test_small_steps_add_up(student):
    """64 steps, each too small for a 16-bit weight to show, together move master and weight."""
    for dtype, lr in ((torch.float16, 2.0**-13), (torch.bfloat16, 2.0**-10)):
        master, weight = torch.ones(2), torch.ones(2, dtype=dtype)
        for _ in range(64):
            master, weight = _pair(
                student.master_weight_update(master, weight, torch.ones(2, dtype=dtype), lr)
            )
            expect_tensor(master, torch.float32, (2,))
            expect_tensor(weight, dtype, (2,))
        expect_close(master, [1 - 64 * lr] * 2, f"the master after 64 steps of {lr}", rtol=1e-5)
        expect_close(weight, torch.tensor([1 - 64 * lr] * 2).to(dtype), f"the {dtype} weight after 64 steps")


def _tests(*functions: TestFunction) -> tuple[Test, ...]:
    return tuple(as_test(function, public=True) for function in functions)


PUBLIC = {
    "float_bits": _tests(
        test_fields_of_float16, test_fields_have_the_widths_of_the_dtype, test_both_zeros_have_a_sign_bit
    ),
    "value_from_bits": _tests(
        test_normal_numbers, test_other_formats_have_other_biases, test_zero_and_subnormals, test_inf_and_nan
    ),
    "round_to_format": _tests(
        test_rounds_to_the_nearest_number,
        test_halves_go_to_even,
        test_subnormals_have_a_fixed_step,
        test_beyond_the_largest_is_inf,
        test_any_small_format,
    ),
    "unscale_and_clip": _tests(
        test_short_gradients_are_only_unscaled,
        test_long_gradients_keep_their_direction,
        test_tiny_float16_gradients_survive,
        test_one_overflow_anywhere_is_found,
    ),
    "loss_scale_step": _tests(
        test_overflow_halves_the_scale,
        test_good_steps_are_counted,
        test_the_scale_grows_at_the_interval,
        test_other_constants_are_used,
    ),
    "master_weight_update": _tests(
        test_the_master_takes_the_step, test_the_weight_is_the_rounded_master, test_small_steps_add_up
    ),
}
