"""Affine quantization against PyTorch's own kernels, against brute force, and against its definition."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coursekit.quantization import (
    affine_qparams,
    affine_qparams_per_channel,
    dequantize,
    fake_quantize,
    int_range,
    quantize,
    symmetric_scale,
    symmetric_scale_per_channel,
)

BITS = range(2, 9)
finite = st.floats(-1e4, 1e4, width=32)
tensors = st.lists(finite, min_size=1, max_size=40).map(torch.tensor)
RANGES = pytest.mark.parametrize(
    ("lo", "hi"),
    [(-1.0, 2.0), (1.0, 6.0), (-6.0, -1.0), (2.0, 2.0), (0.0, 0.0), (-1e-30, 1e30)],
    ids=["straddles_zero", "all_positive", "all_negative", "constant", "zero", "twelve_orders"],
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@RANGES
@pytest.mark.parametrize("n_bits", BITS)
def test_round_trip_error_is_at_most_half_a_step(lo, hi, n_bits):
    x = torch.linspace(lo, hi, steps=257)
    scale, zero_point = affine_qparams(x, n_bits)
    back = dequantize(quantize(x, scale, zero_point, n_bits), scale, zero_point)
    # Rounding the zero point may move both ends out by half a step, and half a step more is lost there.
    inside = (x / scale + zero_point).round().clamp(*int_range(n_bits)) == (x / scale + zero_point).round()
    assert (back - x)[inside].abs().max().item() <= 0.5001 * scale  # 0.01 % for float32 rounding
    assert (back - x).abs().max().item() <= 1.0001 * scale


@given(x=tensors, n_bits=st.integers(2, 8))
def test_zero_is_always_exact_and_its_code_in_range(x, n_bits):
    scale, zero_point = affine_qparams(x, n_bits)
    qmin, qmax = int_range(n_bits)
    assert qmin <= zero_point <= qmax
    assert isinstance(zero_point, int) and 0 < scale < math.inf
    zero = torch.zeros(1)
    assert dequantize(quantize(zero, scale, zero_point, n_bits), scale, zero_point).item() == 0.0


@given(x=tensors, n_bits=st.integers(2, 8), scale=st.floats(1e-3, 10), zero_point=st.integers(-2, 1))
def test_no_other_code_is_nearer(x, n_bits, scale, zero_point):
    codes = torch.arange(*[int_range(n_bits)[0], int_range(n_bits)[1] + 1]).double()
    values = (codes - zero_point) * scale
    nearest = (values[None] - x.double()[:, None]).abs().amin(1)
    ours = (values[(quantize(x, scale, zero_point, n_bits).int() - int_range(n_bits)[0]).long()] - x).abs()
    slack = 1e-6 * (x.abs().double() + scale)  # x / scale is a float32
    assert (ours <= nearest + slack).all()


@pytest.mark.parametrize("n_bits", BITS)
def test_codes_equal_those_of_pytorch(n_bits):
    x = normal(500) * 3 + 1
    scale, zero_point = affine_qparams(x, n_bits)
    theirs = torch.fake_quantize_per_tensor_affine(x, scale, zero_point, *int_range(n_bits))
    ours = dequantize(quantize(x, scale, zero_point, n_bits), scale, zero_point)
    # PyTorch multiplies by 1 / scale where we divide: a value exactly between two codes may go either way.
    off = ((ours - theirs).abs() / scale).round()
    assert off.max() <= 1
    assert (off > 0).float().mean() <= 0.005


@pytest.mark.parametrize("n_bits", BITS)
def test_per_channel_codes_equal_those_of_pytorch(n_bits):
    weight = normal(6, 3, 3, 3) * torch.logspace(-3, 1, 6)[:, None, None, None]
    scale = symmetric_scale_per_channel(weight, n_bits)
    qmax = int_range(n_bits)[1]
    theirs = torch.fake_quantize_per_channel_affine(
        weight, scale.flatten(), torch.zeros(6, dtype=torch.int32), 0, -qmax, qmax
    )
    assert torch.allclose(
        fake_quantize(weight, scale, n_bits), theirs, rtol=0, atol=scale.max().item() * 1e-5
    )


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("n_bits", [2, 8])
def test_per_channel_equals_per_tensor_on_each_slice(axis, n_bits):
    weight = normal(3, 4, 5)
    scales = symmetric_scale_per_channel(weight, n_bits, axis)
    a_scales, a_zeros = affine_qparams_per_channel(weight, n_bits, axis)
    assert scales.shape == a_scales.shape == a_zeros.shape
    for c, part in enumerate(weight.unbind(axis)):
        assert scales.flatten()[c].item() == pytest.approx(symmetric_scale(part, n_bits), rel=1e-6)
        scale, zero_point = affine_qparams(part, n_bits)
        assert a_scales.flatten()[c].item() == pytest.approx(scale, rel=1e-6)
        assert abs(a_zeros.flatten()[c].item() - zero_point) <= 1  # float32 against float64 at a half


@given(x=tensors, n_bits=st.integers(2, 8))
def test_symmetric_grid_reaches_the_largest_magnitude_and_no_further(x, n_bits):
    scale = symmetric_scale(x, n_bits)
    largest = x.abs().max().item()
    reach = scale * int_range(n_bits)[1]
    assert reach == pytest.approx(largest, rel=1e-6) or largest < 1e-35


@given(x=tensors)
def test_symmetric_quantization_is_odd(x):
    scale = symmetric_scale(x)
    assert torch.equal(quantize(-x, scale), -quantize(x, scale))


def test_infinity_saturates_and_empty_stays_empty():
    q = quantize(torch.tensor([-math.inf, math.inf]), 0.1)
    assert q.tolist() == [-128, 127]
    assert quantize(torch.empty(0, 2), 0.1).shape == (0, 2)


def test_dequantize_does_not_wrap_round():
    q = torch.tensor([-128, 127], dtype=torch.int8)
    assert dequantize(q, 1.0, 127).tolist() == [-255.0, 0.0]


@pytest.mark.parametrize(
    "view",
    [lambda x: x.t(), lambda x: x[::2, 1:], lambda x: x.double()],
    ids=["transposed", "strided", "float64"],
)
def test_views_and_float64_are_quantized_like_their_copies(view):
    x = view(normal(6, 8))
    scale, zero_point = affine_qparams(x)
    assert (scale, zero_point) == affine_qparams(x.clone(memory_format=torch.contiguous_format))
    assert torch.equal(quantize(x, scale, zero_point), quantize(x.contiguous(), scale, zero_point))


@pytest.mark.parametrize("n_bits", [0, 1, 9, -4, 3.0, True, "8"], ids=repr)
def test_bits_outside_two_to_eight_are_refused_by_value(n_bits):
    for function in (affine_qparams, symmetric_scale, symmetric_scale_per_channel):
        with pytest.raises(ValueError, match=r"from 2 to 8, got"):
            function(torch.ones(3), n_bits)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (torch.empty(0, 3), ValueError, r"empty, shape \(0, 3\)"),
        (torch.tensor([1.0, math.nan]), ValueError, "holds nan"),
        (torch.tensor([1.0, -math.inf]), ValueError, "holds -inf"),
        (torch.tensor([1, 2]), TypeError, "torch.int64"),
        ([1.0, 2.0], TypeError, "list"),
    ],
    ids=["empty", "nan", "inf", "integers", "list"],
)
@pytest.mark.parametrize("function", [affine_qparams, symmetric_scale, symmetric_scale_per_channel])
def test_tensors_without_a_range_are_refused(function, bad, error, message):
    with pytest.raises(error, match=message):
        function(bad)


def test_quantize_refuses_nan_and_scales_that_are_not_positive():
    with pytest.raises(ValueError, match="nan has no integer code"):
        quantize(torch.tensor([math.nan]), 0.1)
    for scale in (0.0, -1.0, math.nan, torch.tensor([0.1, 0.0])):
        with pytest.raises(ValueError, match="above 0"):
            quantize(torch.ones(2), scale)


def test_dequantize_refuses_real_numbers():
    with pytest.raises(TypeError, match=r"torch\.float32"):
        dequantize(torch.ones(2), 0.1)


def test_axis_out_of_range_is_refused_by_value():
    with pytest.raises(ValueError, match="got 2"):
        symmetric_scale_per_channel(torch.ones(2, 2), axis=2)
