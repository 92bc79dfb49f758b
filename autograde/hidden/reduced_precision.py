"""Hidden tests of lesson 04. Each states a property and checks it by definition, not against the reference."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from coursekit.exercises.expect import expect, expect_close, expect_float, expect_int, expect_tensor
from coursekit.exercises.inputs import normal
from coursekit.exercises.reduced_precision.properties import (
    expect_fields,
    expect_flag,
    expect_same,
    expect_tensors,
    nearest_by_search,
)
from coursekit.exercises.spec import as_test

__all__ = ["HIDDEN"]


def test_fields_of_random_numbers(student):
    """The fields of random numbers, written side by side, are the number's own bits."""
    for dtype, integer, e, m in (
        (torch.float16, torch.int16, 5, 10),
        (torch.bfloat16, torch.int16, 8, 7),
        (torch.float32, torch.int32, 8, 23),
    ):
        x = (normal(200, seed=m) * torch.logspace(-6, 4, 200)).to(dtype).reshape(10, 20).t()[::2]
        bits = [
            value % 2 ** (8 * x.element_size()) for value in x.contiguous().view(integer).flatten().tolist()
        ]
        expected = [b >> (e + m) for b in bits], [(b >> m) % 2**e for b in bits], [b % 2**m for b in bits]
        fields = student.float_bits(x)
        expect(isinstance(fields, tuple | list) and len(fields) == 3, "the result", fields, "3 tensors")
        for field in fields:
            expect(
                isinstance(field, Tensor) and field.shape == x.shape,
                "the shape of a field",
                field,
                tuple(x.shape),
            )
        expect_fields([field.flatten() for field in fields], expected, f"random numbers in {dtype}")


def every(e: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """The fields of every number of a format."""
    whole = torch.arange(2 ** (1 + e + m))
    return whole >> (e + m), (whole >> m) % 2**e, whole % 2**m


def test_all_of_float16(student):
    """All 65,536 bit patterns of float16 and of bfloat16 have the value that torch gives them."""
    whole = torch.arange(65536, dtype=torch.int32).to(torch.int16)
    for dtype, e, m in ((torch.float16, 5, 10), (torch.bfloat16, 8, 7)):
        expect_same(student.value_from_bits(*every(e, m), e, m), whole.view(dtype), f"a value in {dtype}")


def test_all_of_a_format_nobody_uses(student):
    """With 4 exponent and 3 fraction bits every value follows from the three rules."""
    sign, exponent, fraction = every(4, 3)
    expected = []
    for s, e, f in zip(sign.tolist(), exponent.tolist(), fraction.tolist(), strict=True):
        value = (
            math.inf
            if e == 15 and f == 0
            else math.nan
            if e == 15
            else (min(e, 1) + f / 8) * 2.0 ** (max(e, 1) - 7)
        )
        expected.append(-value if s else value)
    got = student.value_from_bits(sign, exponent, fraction, 4, 3)
    expect_same(got, torch.tensor(expected, dtype=torch.float64), "a value with 4 and 3 bits")


def test_random_numbers_round_as_torch_casts(student):
    """Random numbers of all magnitudes round to float16 and bfloat16 as torch casts them."""
    x = normal(4000, seed=1) * torch.logspace(-9, 6, 4000)
    for dtype, e, m in ((torch.float16, 5, 10), (torch.bfloat16, 8, 7)):
        expect_same(student.round_to_format(x, e, m), x.to(dtype), f"in {dtype},", x)


def test_boundaries_round_as_torch_casts(student):
    """At the middle between two neighbours, and one float32 beside it, rounding goes the way of torch's cast."""
    halves = torch.arange(0, 31744, 13, dtype=torch.int32).to(torch.int16).view(torch.float16)
    up = torch.arange(1, 31745, 13, dtype=torch.int32).to(torch.int16).view(torch.float16).double()
    middle = ((halves.double() + up.clamp(max=65536.0)) / 2).float()
    x = torch.cat([
        middle,
        torch.nextafter(middle, torch.tensor(0.0)),
        torch.nextafter(middle, torch.tensor(1e9)),
    ])
    x = torch.cat([x, -x, torch.tensor([0.0, -0.0, math.nan])])
    expect_same(student.round_to_format(x, 5, 10), x.half(), "in float16,", x)


def test_other_small_formats_and_float64(student):
    """With 2 and 3, 4 and 3, 4 and 1 bits, and for float64, the nearest number of the format is found."""
    for seed, (e, m) in enumerate([(2, 3), (4, 3), (4, 1)]):
        x = normal(120, seed=seed).double() * torch.logspace(-3, 2.5, 120, dtype=torch.float64)
        got = student.round_to_format(x, e, m)
        expect_same(got, nearest_by_search(x, e, m), f"with {e} and {m} bits,", x)
        expect(got.dtype == torch.float64, "the dtype for float64", str(got.dtype), "torch.float64")


def test_clipping_by_definition(student):
    """For random gradients the result is the unscaled gradient times min(1, max_norm / norm)."""
    true = [normal(3, 4, seed=1), normal(7, seed=2), normal(1, seed=3) * 5]
    norm = math.sqrt(sum(v * v for g in true for v in g.flatten().tolist()))
    for scale, max_norm in ((256.0, 1.0), (0.5, norm * 0.999), (2.0**16, norm * 1.001), (32.0, math.inf)):
        grads, found_inf = student.unscale_and_clip([g * scale for g in true], scale, max_norm)
        expect_tensors(
            grads, [g * min(1.0, max_norm / norm) for g in true], f"gradients at max_norm {max_norm:.3g}"
        )
        expect_flag(found_inf, False, "finite gradients")


def test_zero_gradients_and_overflowing_float16(student):
    """Gradients of zeros stay zeros; a float16 gradient that overflowed in the backward pass is found."""
    grads, found_inf = student.unscale_and_clip([torch.zeros(3)], 8.0, 1.0)
    expect_tensors(grads, [torch.zeros(3)], "gradients")
    expect_flag(found_inf, False, "zeros")
    overflowed = torch.tensor([1e5, 1.0]).half()
    _, found_inf = student.unscale_and_clip([torch.ones(2).half(), overflowed, torch.ones(1)], 4.0, 1.0)
    expect_flag(found_inf, True, "a float16 gradient of inf")


def test_a_long_run_of_steps(student):
    """Over 200 steps scale and count are those of a run kept by hand."""
    bad_steps = {3, 4, 40, 41, 77, 150}
    scale, good, expected, in_a_row = 2.0**10, 0, 2.0**10, 0
    for step in range(200):
        scale, good = student.loss_scale_step(scale, good, step in bad_steps, 2.0, 0.5, 16)
        in_a_row = 0 if step in bad_steps else in_a_row + 1
        expected *= 0.5 if step in bad_steps else 2.0 if in_a_row == 16 else 1.0
        in_a_row %= 16
        expect_close(expect_float(scale, "scale"), expected, f"the scale after step {step}")
        expect(expect_int(good, "good_steps") == in_a_row, f"good_steps after step {step}", good, in_a_row)


def test_an_interval_of_one(student):
    """With growth_interval 1 every good step lets the scale grow."""
    for good, bad, expected in ((0, False, 24.0), (0, True, 2.0)):
        scale, count = student.loss_scale_step(8.0, good, bad, 3.0, 0.25, 1)
        expect_close(expect_float(scale, "scale"), expected, "the scale")
        expect(expect_int(count, "good_steps") == 0, "good_steps", count, 0)


def test_random_master_steps(student):
    """For random weights of any shape the master is exact to float32 and the weight is its rounding."""
    for seed, dtype in enumerate((torch.float16, torch.bfloat16)):
        master, grad = normal(4, 3, seed=seed), normal(4, 3, seed=seed + 5)
        new, weight = student.master_weight_update(master, master.to(dtype), grad, 0.01)
        expect_tensor(new, torch.float32, (4, 3))
        exact = master.double() - 0.01 * grad.double()
        expect_close(new, exact, "master", rtol=1e-6, atol=1e-7)
        expect_same(expect_tensor(weight, dtype, (4, 3)), new.to(dtype), "the weight of a master")


def test_gradients_that_underflow_with_the_learning_rate(student):
    """A float16 gradient whose product with the learning rate is no float16 number still moves the master."""
    master, grad = torch.zeros(2), torch.tensor([2.0**-20, -(2.0**-18)], dtype=torch.float16)
    new, _ = student.master_weight_update(master, master.half(), grad, 2.0**-10)
    expect_close(expect_tensor(new, torch.float32, (2,)), [-(2.0**-30), 2.0**-28], "master")


def _tests(*functions):
    return tuple(as_test(function, public=False) for function in functions)


HIDDEN = {
    "float_bits": _tests(test_fields_of_random_numbers),
    "value_from_bits": _tests(test_all_of_float16, test_all_of_a_format_nobody_uses),
    "round_to_format": _tests(
        test_random_numbers_round_as_torch_casts,
        test_boundaries_round_as_torch_casts,
        test_other_small_formats_and_float64,
    ),
    "unscale_and_clip": _tests(test_clipping_by_definition, test_zero_gradients_and_overflowing_float16),
    "loss_scale_step": _tests(test_a_long_run_of_steps, test_an_interval_of_one),
    "master_weight_update": _tests(
        test_random_master_steps, test_gradients_that_underflow_with_the_learning_rate
    ),
}
