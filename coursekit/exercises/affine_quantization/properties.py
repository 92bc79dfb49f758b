"""The public tests of lesson 01: each states a property of a right solution."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from coursekit.exercises.expect import expect, expect_close, expect_float, expect_int, expect_tensor
from coursekit.exercises.spec import Test, TestFunction, as_test

__all__ = ["PUBLIC", "best_mse", "heavy_tail", "mse_of"]


def test_scale_spans_the_range(student):
    """Where 0 lies inside min(x)..max(x), the 255 steps between the 256 codes span exactly that range."""
    scale, _ = student.affine_qparams(torch.linspace(-1.0, 2.0, 31))
    expect_close(expect_float(scale, "scale"), 3.0 / 255, "scale for x in -1..2")


def test_range_is_widened_to_include_zero(student):
    """If all values are positive (or negative) the range still starts (or ends) at 0."""
    scale, zero_point = student.affine_qparams(torch.linspace(5.0, 10.2, 31))
    expect_close(expect_float(scale, "scale"), 10.2 / 255, "scale for x in 5..10.2")
    expect(expect_int(zero_point, "zero_point") == -128, "zero_point for x in 5..10.2", zero_point, -128)
    scale, zero_point = student.affine_qparams(torch.linspace(-10.2, -5.0, 31))
    expect_close(expect_float(scale, "scale"), 10.2 / 255, "scale for x in -10.2..-5")
    expect(expect_int(zero_point, "zero_point") == 127, "zero_point for x in -10.2..-5", zero_point, 127)


def test_zero_point_is_the_code_of_zero(student):
    """The zero point is the integer code at which the real value is 0, so that min(x) lands on the lowest code."""
    _scale, zero_point = student.affine_qparams(torch.linspace(-1.0, 1.55, 31))
    expect_int(zero_point, "zero_point")
    expect(zero_point == -28, "zero_point for x in -1..1.55 (scale 0.01)", zero_point, -28)


def test_constant_and_zero_tensors_have_a_usable_scale(student):
    """A tensor of zeros or of one constant gets a finite scale above 0."""
    for value in (0.0, 0.5, -3.0):
        scale, zero_point = student.affine_qparams(torch.full((4,), value))
        usable = 0 < expect_float(scale, "scale") < math.inf
        expect(usable, f"scale for a tensor of {value}", scale, "above 0 and finite")
        expect_int(zero_point, "zero_point")


def test_fewer_bits_have_longer_steps(student):
    """With n_bits = 4 there are 15 steps and the lowest code is -8."""
    scale, zero_point = student.affine_qparams(torch.tensor([-1.0, 0.5]), 4)
    expect_close(expect_float(scale, "scale"), 0.1, "scale for x in -1..0.5 at 4 bits")
    expect(expect_int(zero_point, "zero_point") == 2, "zero_point for x in -1..0.5 at 4 bits", zero_point, 2)


def test_codes_are_nearest(student):
    """Every value inside the range gets the code whose real value is nearest."""
    x = torch.tensor([-1.0, -0.626, -0.251, -0.01, 0.0, 0.012, 0.374, 0.99])
    q = expect_tensor(student.quantize(x, 0.25, 3), torch.int8, x.shape)
    expect_close(q, torch.tensor([-1, 0, 2, 3, 3, 3, 4, 7]), "code (scale 0.25, zero point 3)")


def test_out_of_range_saturates(student):
    """Values beyond the range get the lowest or the highest code, and never wrap round."""
    x = torch.tensor([-1e6, -50.0, 0.0, 50.0, 1e6])
    q = expect_tensor(student.quantize(x, 0.1, 10), torch.int8, x.shape)
    expect_close(q, torch.tensor([-128, -128, 10, 127, 127]), "code (scale 0.1, zero point 10)")


def test_fewer_bits_have_fewer_codes(student):
    """With n_bits = 4 the codes are -8..7."""
    x = torch.linspace(-2.0, 2.0, 41)
    q = expect_tensor(student.quantize(x, 0.1, 0, 4), torch.int8, x.shape)
    expect(
        int(q.min()) == -8 and int(q.max()) == 7, "range of the 4-bit codes", f"{q.min()}..{q.max()}", "-8..7"
    )


def test_zero_point_means_zero(student):
    """The code equal to the zero point comes back as exactly 0.0."""
    for zero_point in (-128, -5, 0, 127):
        q = torch.tensor([zero_point], dtype=torch.int8)
        x = expect_tensor(student.dequantize(q, 0.37, zero_point), torch.float32, q.shape)
        expect(
            x.item() == 0.0, f"the real value of code {zero_point} at zero point {zero_point}", x.item(), 0.0
        )


def test_one_code_is_one_scale(student):
    """Neighbouring codes lie one scale apart, and larger codes mean larger values."""
    q = torch.arange(-3, 4, dtype=torch.int8)
    x = expect_tensor(student.dequantize(q, 0.5, 1), torch.float32, q.shape)
    expect_close(x, torch.arange(-4, 3) * 0.5, "value of codes -3..3 (scale 0.5, zero point 1)", atol=1e-6)


def test_codes_far_from_the_zero_point(student):
    """A code and a zero point at opposite ends of the range still give the right value."""
    x = student.dequantize(torch.tensor([-128, 0, 127], dtype=torch.int8), 0.5, -128)
    expect_tensor(x, torch.float32, (3,))
    expect_close(
        x, torch.tensor([0.0, 64.0, 127.5]), "value of codes -128, 0, 127 (scale 0.5, zero point -128)"
    )


def test_largest_magnitude_gets_the_highest_code(student):
    """max|x| / scale is qmax, whichever sign the largest value has."""
    for x in (torch.tensor([-0.5, 0.1, 1.27]), torch.tensor([-1.27, 0.1, 0.5]), torch.tensor([-1.27, -0.2])):
        scale = expect_float(student.symmetric_scale(x), "scale")
        expect_close(scale, 0.01, f"scale for x = {[round(v, 2) for v in x.tolist()]}")


def test_symmetric_scale_depends_on_bits(student):
    """With n_bits = 4 the highest code is 7."""
    scale = expect_float(student.symmetric_scale(torch.tensor([-1.4, 0.7]), 4), "scale")
    expect_close(scale, 0.2, "scale for max|x| = 1.4 and 4 bits")


def test_symmetric_scale_of_zeros(student):
    """A tensor of zeros gets a finite scale above 0."""
    scale = expect_float(student.symmetric_scale(torch.zeros(3)), "scale")
    expect(0 < scale < math.inf, "scale for zeros", scale, "above 0 and finite")


def ramp_weight() -> Tensor:
    """A (3, 2, 2, 2) weight whose output channels have largest magnitudes 1.27, 0.127 and 12.7."""
    base = torch.linspace(-1.0, 0.9, 8).reshape(2, 2, 2)
    return torch.stack([base * 1.27, base.flip(0) * -0.127, base * 12.7])


def test_each_channel_has_its_own_scale(student):
    """Channel c's scale is max|w[c]| / qmax."""
    scale = student.symmetric_scale_per_channel(ramp_weight())
    expect(isinstance(scale, Tensor), "the result is not a tensor", scale, "a tensor")
    expect(scale.numel() == 3, "number of scales for 3 output channels", scale.numel(), 3)
    expect_close(scale.flatten(), torch.tensor([0.01, 0.001, 0.1]), "scale of each channel")


def test_scales_broadcast_against_the_weight(student):
    """The result has size 1 in every dimension but the channels', so weight / scale just works."""
    scale = student.symmetric_scale_per_channel(ramp_weight())
    expect_tensor(scale, torch.float32, (3, 1, 1, 1))


def test_dead_channel_has_a_usable_scale(student):
    """A channel that is all zero gets a finite scale above 0, and the others keep theirs."""
    weight = ramp_weight()
    weight[1] = 0.0
    scale = student.symmetric_scale_per_channel(weight)
    expect(
        bool((scale > 0).all() and scale.isfinite().all()), "scales", scale.flatten(), "above 0 and finite"
    )
    expect_close(scale.flatten()[[0, 2]], torch.tensor([0.01, 0.1]), "scale of the other channels")


def test_axis_and_bits_are_used(student):
    """Along axis 1, at 4 bits, each of the input channels has a scale of its own."""
    weight = torch.tensor([[1.4, -0.3, 0.07], [-0.5, 0.35, 0.0]])
    scale = expect_tensor(student.symmetric_scale_per_channel(weight, 4, 1), torch.float32, (1, 3))
    expect_close(scale.flatten(), torch.tensor([0.2, 0.05, 0.01]), "scale of each column at 4 bits")


def test_ten_percent_error_is_twenty_decibels(student):
    """An error of a tenth of every value is 20 dB, of a hundredth 40 dB."""
    x = torch.tensor([1.0, -2.0, 3.0, -4.0])
    expect_close(expect_float(student.sqnr_db(x, 0.9 * x), "sqnr"), 20.0, "sqnr at 10 % error", rtol=1e-4)
    expect_close(expect_float(student.sqnr_db(x, 0.99 * x), "sqnr"), 40.0, "sqnr at 1 % error", rtol=1e-3)


def test_perfect_copy_is_infinite(student):
    """No error at all is inf, not a division by zero."""
    x = torch.tensor([1.0, -2.0])
    sqnr = expect_float(student.sqnr_db(x, x.clone()), "sqnr")
    expect(sqnr == math.inf, "sqnr of a perfect copy", sqnr, "inf")


def test_offset_is_noise(student):
    """A constant offset of the result is noise like any other."""
    x = torch.tensor([3.0, -3.0, 3.0, -3.0])
    expect_close(
        expect_float(student.sqnr_db(x, x + 0.3), "sqnr"), 20.0, "sqnr with an offset of 0.3", rtol=1e-4
    )


def heavy_tail(seed: int = 0, n: int = 2000) -> Tensor:
    """Student-t values with 3 degrees of freedom: most are small, a few are very large."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(4, n, generator=generator)
    return normal[0] / normal[1:].square().mean(0).sqrt()


def best_mse(x: Tensor, n_bits: int) -> tuple[float, float]:
    """The best threshold and its error on a grid of 400, by definition and in float64."""
    return _best_mse(x.numpy().tobytes(), n_bits)


@functools.lru_cache(maxsize=64)  # the same data for every student of a class
def _best_mse(values: bytes, n_bits: int) -> tuple[float, float]:
    qmax = 2 ** (n_bits - 1) - 1
    x = torch.frombuffer(bytearray(values), dtype=torch.float32).double()
    steps = x.abs().max().item() * torch.arange(1, 401, dtype=torch.float64)[:, None] / (400 * qmax)
    errors = (x - torch.clamp(torch.round(x / steps), -qmax, qmax) * steps).square().mean(dim=1)
    best = int(errors.argmin())
    return steps[best].item() * qmax, errors[best].item()


def mse_of(x: Tensor, clip: float, n_bits: int) -> float:
    """Mean squared error of the symmetric grid on -clip..clip, in float64."""
    qmax = 2 ** (n_bits - 1) - 1
    scale = clip / qmax
    x = x.double()
    return (x - torch.clamp(torch.round(x / scale), -qmax, qmax) * scale).square().mean().item()


def test_clip_is_near_the_best(student):
    """On heavy-tailed data the threshold's error is within 10 % of the best on a much finer grid."""
    for n_bits in (4, 8):
        x = heavy_tail()
        clip = expect_float(student.mse_clip(x, n_bits), "the threshold")
        expect(0 < clip <= x.abs().max().item() * 1.0001, "the threshold", clip, "above 0, at most max|x|")
        best, error = best_mse(x, n_bits)
        # Candidates 1 % of max|x| apart lose at most a few per cent of error against ones 0.25 % apart.
        ours = mse_of(x, clip, n_bits)
        expect(
            ours <= 1.1 * error,
            f"error at {n_bits} bits",
            f"{ours:.3g} at {clip:.3g}",
            f"{error:.3g} at {best:.3g}",
        )


def test_clip_cuts_a_single_outlier(student):
    """One value of -3 among a thousand in -1..1 is cut off at 3 bits, for finer steps on all the others."""
    x = torch.cat([torch.linspace(-1.0, 1.0, 1000), torch.tensor([-3.0])])
    clip = expect_float(student.mse_clip(x, 3), "the threshold")
    best, error = best_mse(x, 3)
    ours = mse_of(x, clip, 3)
    expect(
        ours <= 1.1 * error,
        "error with the outlier",
        f"{ours:.3g} at {clip:.3g}",
        f"{error:.3g} at {best:.3g}",
    )


def test_clip_of_zeros_is_usable(student):
    """A tensor of zeros gets a finite threshold above 0."""
    clip = expect_float(student.mse_clip(torch.zeros(5), 4), "the threshold for zeros")
    expect(0 < clip < math.inf, "the threshold for zeros", clip, "above 0 and finite")


def _tests(*functions: TestFunction) -> tuple[Test, ...]:
    return tuple(as_test(function, public=True) for function in functions)


PUBLIC = {
    "affine_qparams": _tests(
        test_scale_spans_the_range,
        test_range_is_widened_to_include_zero,
        test_zero_point_is_the_code_of_zero,
        test_constant_and_zero_tensors_have_a_usable_scale,
        test_fewer_bits_have_longer_steps,
    ),
    "quantize": _tests(
        test_codes_are_nearest,
        test_out_of_range_saturates,
        test_fewer_bits_have_fewer_codes,
    ),
    "dequantize": _tests(
        test_zero_point_means_zero,
        test_one_code_is_one_scale,
        test_codes_far_from_the_zero_point,
    ),
    "symmetric_scale": _tests(
        test_largest_magnitude_gets_the_highest_code,
        test_symmetric_scale_depends_on_bits,
        test_symmetric_scale_of_zeros,
    ),
    "symmetric_scale_per_channel": _tests(
        test_each_channel_has_its_own_scale,
        test_scales_broadcast_against_the_weight,
        test_dead_channel_has_a_usable_scale,
        test_axis_and_bits_are_used,
    ),
    "sqnr_db": _tests(
        test_ten_percent_error_is_twenty_decibels,
        test_perfect_copy_is_infinite,
        test_offset_is_noise,
    ),
    "mse_clip": _tests(
        test_clip_is_near_the_best,
        test_clip_cuts_a_single_outlier,
        test_clip_of_zeros_is_usable,
    ),
}
