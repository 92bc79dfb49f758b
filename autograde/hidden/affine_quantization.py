"""Hidden tests of lesson 01. Each states a property and checks it by definition, not against the reference."""

from __future__ import annotations

import math

import torch

from coursekit.exercises.affine_quantization.properties import best_mse, heavy_tail, mse_of
from coursekit.exercises.expect import (
    expect,
    expect_close,
    expect_float,
    expect_int,
    expect_tensor,
)
from coursekit.exercises.inputs import normal
from coursekit.exercises.spec import as_test

__all__ = ["HIDDEN"]


def test_every_number_of_bits(student):
    """For 2 to 8 bits both ends of the range lie within half a step of the lowest and the highest code."""
    x = normal(300) * 0.7 + 0.3
    for n_bits in range(2, 9):
        scale, zero_point = student.affine_qparams(x, n_bits)
        scale, zero_point = expect_float(scale, "scale"), expect_int(zero_point, "zero_point")
        for end, code in ((x.min().item(), -(2 ** (n_bits - 1))), (x.max().item(), 2 ** (n_bits - 1) - 1)):
            off = abs(scale * (code - zero_point) - end) / scale
            expect(
                off <= 0.5001,
                f"code {code} at {n_bits} bits is {off:.2f} steps from the end",
                off,
                "at most 0.5",
            )


def test_zero_point_is_a_code(student):
    """The zero point is one of the codes qmin..qmax, whatever the range."""
    for low, high in ((-1.0, 2.0), (0.0, 6.0), (5.0, 6.0), (-6.0, -5.0), (-1e-3, 1e3)):
        _, zero_point = student.affine_qparams(torch.tensor([low, high]))
        expect(
            -128 <= expect_int(zero_point, "zero_point") <= 127,
            f"x in {low}..{high}",
            zero_point,
            "-128..127",
        )


def test_views_and_float64(student):
    """A transposed view, a float64 tensor and a single number work like any other tensor."""
    x = normal(8, 5)
    views = {"transposed": x.t()[::2], "float64": x.double(), "0-dimensional": torch.tensor(3.0)}
    for kind, view in views.items():
        scale, _ = student.affine_qparams(view)
        width = max(view.max().item(), 0.0) - min(view.min().item(), 0.0)
        expect_close(expect_float(scale, "scale"), width / 255, f"scale of a {kind} tensor")


def test_no_code_is_nearer(student):
    """For random values and every n_bits no other code's real value is nearer to x."""
    x = normal(200, seed=1) * 2
    for n_bits in range(2, 9):
        codes = torch.arange(-(2 ** (n_bits - 1)), 2 ** (n_bits - 1)).double()
        scale, zero_point = 4.0 / 2**n_bits, 1
        q = expect_tensor(student.quantize(x, scale, zero_point, n_bits), torch.int8, x.shape)
        best = ((codes[None] - zero_point) * scale - x.double()[:, None]).abs().amin(1)
        ours = ((q.double() - zero_point) * scale - x.double()).abs()
        expect(bool((ours <= best + 1e-5).all()), f"distance to the code at {n_bits} bits",
               (ours - best).max().item(), "0: no code nearer")  # fmt: skip


def test_scale_per_row(student):
    """A scale of shape (C, 1) quantizes each row with its own scale."""
    x = torch.stack([torch.linspace(-1, 1, 9), torch.linspace(-10, 10, 9)])
    q = expect_tensor(student.quantize(x, torch.tensor([[0.25], [2.5]]), 0), torch.int8, x.shape)
    expect_close(q[0], torch.tensor([-4, -3, -2, -1, 0, 1, 2, 3, 4]), "codes of row 0")
    expect_close(q[1], q[0], "codes of row 1, ten times the values at ten times the scale")


def test_empty_and_strided(student):
    """An empty tensor has no codes, and a strided view the same ones as its copy."""
    empty = student.quantize(torch.empty(0, 3), 0.1, 0)
    expect_tensor(empty, torch.int8, (0, 3))
    view = normal(6, 4, seed=2).t()[:, ::2]
    q = expect_tensor(student.quantize(view, 0.1, 0), torch.int8, view.shape)
    expect_close(q, torch.clamp(torch.round(view / 0.1), -128, 127), "codes of a strided view")


def test_the_whole_int8_range(student):
    """All 256 codes come back right for zero points at both ends of the range."""
    q = torch.arange(-128, 128).to(torch.int8)
    for zero_point in (-128, 127):
        x = expect_tensor(student.dequantize(q, 0.5, zero_point), torch.float32, q.shape)
        expected = (torch.arange(-128, 128).double() - zero_point) * 0.5
        expect_close(x, expected, f"real value at zero point {zero_point}", atol=1e-6)


def test_scale_per_row_comes_back(student):
    """A scale of shape (C, 1) scales each row."""
    q = torch.tensor([[1, 2], [1, 2]], dtype=torch.int8)
    x = expect_tensor(student.dequantize(q, torch.tensor([[0.5], [3.0]]), 0), torch.float32, q.shape)
    expect_close(x, torch.tensor([[0.5, 1.0], [3.0, 6.0]]), "real value")


def test_no_codes_no_values(student):
    """An empty tensor of codes comes back as an empty float32 tensor."""
    expect_tensor(student.dequantize(torch.empty(2, 0, dtype=torch.int8), 0.5, 0), torch.float32, (2, 0))


def test_no_value_is_cut_off(student):
    """For random tensors and every n_bits all values lie on -qmax..qmax steps, and one of them reaches the end."""
    for seed, n_bits in enumerate(range(2, 9)):
        x = normal(50, seed=seed) + seed - 3
        qmax = 2 ** (n_bits - 1) - 1
        scale = expect_float(student.symmetric_scale(x, n_bits), "scale")
        largest = (x.double() / scale).abs().max().item()
        expect(
            math.isclose(largest, qmax, rel_tol=1e-5), f"largest |x| / scale at {n_bits} bits", largest, qmax
        )


def test_random_convolution(student):
    """For a random convolution weight each scale is that channel's max|w| / qmax, at every n_bits."""
    weight = normal(6, 3, 5, 5) * torch.logspace(-2, 1, 6)[:, None, None, None]
    for n_bits in (2, 4, 8):
        scale = expect_tensor(
            student.symmetric_scale_per_channel(weight, n_bits), torch.float32, (6, 1, 1, 1)
        )
        expected = [
            max(abs(v) for v in weight[c].flatten().tolist()) / (2 ** (n_bits - 1) - 1) for c in range(6)
        ]
        expect_close(scale.flatten(), torch.tensor(expected), f"scale of each channel at {n_bits} bits")


def test_linear_weight_and_other_axis(student):
    """It works for a linear layer's (out, in) weight, and along axis 1."""
    weight = torch.tensor([[1.27, -0.5, 0.1], [-2.54, 0.2, 12.7]])
    scale = student.symmetric_scale_per_channel(weight)
    expect_close(expect_tensor(scale, torch.float32, (2, 1)).flatten(), [0.01, 0.1], "scales along axis 0")
    scale = student.symmetric_scale_per_channel(weight, 8, 1)
    expected = [2.54 / 127, 0.5 / 127, 0.1]
    expect_close(expect_tensor(scale, torch.float32, (1, 3)).flatten(), expected, "scales along axis 1")


def test_six_decibels_a_bit(student):
    """Halving every error adds 20 log10(2) = 6.02 dB."""
    x, noise = normal(500), normal(500, seed=1) * 0.1
    coarse, fine = student.sqnr_db(x, x + noise), student.sqnr_db(x, x + noise / 2)
    gain = expect_float(fine, "sqnr") - expect_float(coarse, "sqnr")
    expect_close(gain, 20 * math.log10(2), "gain from halving the error", rtol=1e-3)


def test_other_seeds_and_bits(student):
    """On other heavy-tailed data and with 3 to 6 bits the error is within 10 % of the best."""
    for n_bits in (3, 4, 5, 6):
        x = heavy_tail(seed=n_bits, n=1500) - 0.1
        clip = expect_float(student.mse_clip(x, n_bits), "the threshold")
        expect(clip > 0, "the threshold", clip, "above 0")
        best, error = best_mse(x, n_bits)
        ours = mse_of(x, clip, n_bits)
        expect(
            ours <= 1.1 * error,
            f"error at {n_bits} bits",
            f"{ours:.3g} at {clip:.3g}",
            f"{error:.3g} at {best:.3g}",
        )


def test_flat_data_is_hardly_clipped(student):
    """Uniform data at 8 bits has no tail to cut: the threshold stays above 95 % of max|x|."""
    x = torch.linspace(-3.0, 3.0, 2001)
    clip = expect_float(student.mse_clip(x, 8), "the threshold")
    expect(2.85 <= clip <= 3.0001, "the threshold for uniform data in -3..3", clip, "2.85..3")


def test_number_of_candidates(student):
    """With n_candidates = 4 only a quarter, a half, three quarters and all of max|x| can come out."""
    x = torch.cat([torch.linspace(-2.0, 2.0, 1000), torch.tensor([-8.0])])
    clip = expect_float(student.mse_clip(x, 3, 4), "the threshold")
    nearest = min((2.0, 4.0, 6.0, 8.0), key=lambda c: mse_of(x, c, 3))
    expect_close(clip, nearest, "the threshold among 2, 4, 6, 8", rtol=1e-4)


def _tests(*functions):
    return tuple(as_test(function, public=False) for function in functions)


HIDDEN = {
    "affine_qparams": _tests(test_every_number_of_bits, test_zero_point_is_a_code, test_views_and_float64),
    "quantize": _tests(test_no_code_is_nearer, test_scale_per_row, test_empty_and_strided),
    "dequantize": _tests(test_the_whole_int8_range, test_scale_per_row_comes_back, test_no_codes_no_values),
    "symmetric_scale": _tests(test_no_value_is_cut_off),
    "symmetric_scale_per_channel": _tests(test_random_convolution, test_linear_weight_and_other_axis),
    "sqnr_db": _tests(test_six_decibels_a_bit),
    "mse_clip": _tests(
        test_other_seeds_and_bits, test_flat_data_is_hardly_clipped, test_number_of_candidates
    ),
}
