"""Integer arithmetic against exact fractions in plain Python, and against convolutions in float64."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from coursekit.quantization import (
    conv2d_accumulator,
    integer_add,
    integer_conv2d,
    integer_linear,
    integer_mean,
    linear_accumulator,
    quantize_bias,
    quantize_multiplier,
    quantize_multipliers,
    requantize,
    shared_multipliers,
)

factors = st.floats(2.0**-31, 2.0**29)
int32 = st.integers(-(2**31), 2**31 - 1)


def codes(*shape: int, seed: int = 0, low: int = -128, high: int = 127) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high + 1, shape, generator=generator, dtype=torch.int8)


def round_half_up(x: Fraction) -> int:
    return math.floor(x + Fraction(1, 2))


@given(m=factors)
def test_a_factor_is_met_to_one_part_in_two_to_the_31(m):
    multiplier, shift = quantize_multiplier(m)
    assert 2**30 <= multiplier < 2**31 and 1 <= shift <= 62
    assert abs(Fraction(multiplier, 2**shift) / Fraction(m) - 1) <= Fraction(1, 2**31)


@pytest.mark.parametrize(
    "m", [2.0**k for k in (-31, -10, -1, 0, 1, 20)] + [1 - 2.0**-40, 0.5 - 2.0**-53], ids=repr
)
def test_powers_of_two_and_what_rounds_up_to_one_keep_31_bits(m):
    multiplier, shift = quantize_multiplier(m)
    assert multiplier == 2**30
    assert math.isclose(multiplier / 2**shift, m, rel_tol=2**-31)


def test_a_factor_that_leaves_nothing_of_32_bits_becomes_zero():
    multiplier, shift = quantize_multiplier(2.0**-33)
    extremes = torch.tensor([-(2**31), 2**31 - 1])
    assert requantize(extremes, multiplier, shift).tolist() == [0, 0]


@pytest.mark.parametrize("m", [0.0, -1.0, math.inf, math.nan, 2.0**30], ids=repr)
def test_factors_that_no_multiplier_stands_for_are_refused(m):
    with pytest.raises(ValueError, match="above 0 and below"):
        quantize_multiplier(m)


def test_channels_get_the_pairs_they_would_get_alone():
    m = torch.logspace(-9, 3, 50, dtype=torch.float64).reshape(5, 10)
    multiplier, shift = quantize_multipliers(m)
    pairs = zip(multiplier.flatten().tolist(), shift.flatten().tolist(), strict=True)
    assert list(pairs) == [quantize_multiplier(each) for each in m.flatten().tolist()]


@given(acc=int32, m=factors, zero_point=st.integers(-128, 127), n_bits=st.integers(2, 8))
def test_requantize_equals_the_exact_fraction_rounded_half_up(acc, m, zero_point, n_bits):
    multiplier, shift = quantize_multiplier(m)
    expected = round_half_up(Fraction(acc * multiplier, 2**shift)) + zero_point
    qmin, qmax = -(2 ** (n_bits - 1)), 2 ** (n_bits - 1) - 1
    got = requantize(torch.tensor([acc], dtype=torch.int32), multiplier, shift, zero_point, n_bits)
    assert got.dtype == torch.int8
    assert got.item() == min(max(expected, qmin), qmax)


@given(acc=st.integers(-(2**20), 2**20), m=st.floats(2.0**-14, 2.0**-2))
def test_requantize_is_at_most_half_a_step_from_the_real_product(acc, m):
    got = requantize(torch.tensor([acc]), *quantize_multiplier(m)).item()
    real = Fraction(acc) * Fraction(m)
    if -128 <= real <= 127:
        assert abs(got - real) <= Fraction(1, 2) + abs(real) / 2**31


@pytest.mark.parametrize(
    ("acc", "code"), [(-6, -1), (-5, -1), (-2, 0), (-1, 0), (1, 0), (2, 1), (5, 1), (6, 2)], ids=repr
)
def test_halves_go_up_on_both_sides_of_zero(acc, code):
    assert requantize(torch.tensor([acc]), *quantize_multiplier(0.25)).item() == code


def test_each_channel_has_its_own_multiplier_and_shift():
    acc = torch.arange(-300, 300, dtype=torch.int32).reshape(2, 3, 10, 10)
    m = torch.tensor([0.5, 0.013, 0.21])
    multiplier, shift = (each.reshape(-1, 1, 1) for each in quantize_multipliers(m))
    together = requantize(acc, multiplier, shift, 3)
    for channel in range(3):
        alone = requantize(acc[:, channel], *quantize_multiplier(m[channel].item()), 3)
        assert torch.equal(together[:, channel], alone)


def test_low_and_high_clamp_within_the_range_of_the_bits():
    acc = torch.tensor([-1000, -10, 0, 10, 1000])
    assert requantize(acc, 2**30, 30, 0, 8, low=-5, high=7).tolist() == [-5, -5, 0, 7, 7]
    assert requantize(acc, 2**30, 30, 0, 4, low=-50, high=70).tolist() == [-8, -8, 0, 7, 7]


def test_what_is_no_integer_is_refused_by_name():
    with pytest.raises(TypeError, match=r"acc must hold integers, got torch\.float32"):
        requantize(torch.ones(3), 2**30, 31)
    with pytest.raises(ValueError, match="every shift"):
        requantize(torch.ones(3, dtype=torch.int32), 2**30, 0)
    with pytest.raises(TypeError, match="q_x must hold integer codes"):
        linear_accumulator(torch.ones(1, 3), codes(2, 3))
    with pytest.raises(TypeError, match="q_w must hold integer codes"):
        conv2d_accumulator(codes(1, 1, 3, 3), torch.ones(1, 1, 3, 3))


@given(bias=st.floats(-100, 100), input_scale=st.floats(1e-4, 1), weight_scale=st.floats(1e-4, 1))
def test_the_bias_is_rounded_to_half_a_step_of_the_accumulator(bias, input_scale, weight_scale):
    code = quantize_bias(torch.tensor([bias], dtype=torch.float64), input_scale, weight_scale).item()
    step = Fraction(input_scale) * Fraction(torch.tensor(weight_scale).item())
    if abs(bias) / step < 2**30:
        # The quotient itself is a float64: below 2**34, so good to 2**-19.
        assert abs(Fraction(bias) / step - code) <= Fraction(1, 2) + Fraction(1, 2**18)
    assert abs(code) <= 2**30


def test_a_bias_of_nan_is_refused():
    with pytest.raises(ValueError, match="nan"):
        quantize_bias(torch.tensor([math.nan]), 0.1, 0.1)


@pytest.mark.parametrize("zero_point", [-128, 0, 127])
def test_linear_sums_are_exact_at_the_extremes_of_the_codes(zero_point):
    q_x = torch.cat([codes(3, 784), torch.full((1, 784), -128), torch.full((1, 784), 127)]).to(torch.int8)
    q_w = torch.cat([codes(4, 784, seed=1, low=-127), torch.full((1, 784), -127), torch.full((1, 784), 127)])
    bias = torch.tensor([0, 1, -(2**30), 2**30, 5, -5], dtype=torch.int32)
    got = linear_accumulator(q_x, q_w.to(torch.int8), bias, zero_point)
    assert got.dtype == torch.int32
    x, w = q_x.tolist(), q_w.tolist()
    expected = [
        [sum((a - zero_point) * b for a, b in zip(row, column, strict=True)) + add
         for column, add in zip(w, bias.tolist(), strict=True)]
        for row in x
    ]  # fmt: skip
    assert got.tolist() == expected


@pytest.mark.parametrize("zero_point", [-128, 5])
@pytest.mark.parametrize(
    ("c_in", "c_out", "options"),
    [
        (3, 5, {}),
        (3, 5, {"stride": 2, "padding": 1}),
        (4, 6, {"stride": (1, 2), "padding": (2, 0), "groups": 2}),
        (4, 4, {"padding": 1, "groups": 4}),
        (4, 8, {"padding": 2, "groups": 4, "dilation": 2}),
        (2, 3, {"dilation": (1, 3), "padding": (0, 3), "stride": 2}),
    ],
    ids=["plain", "strided", "grouped", "depthwise", "depthwise_dilated", "dilated_one_way"],
)
def test_convolution_sums_equal_the_exact_float64_convolution_padded_with_the_zero_point(
    c_in, c_out, options, zero_point
):
    q_x, q_w = codes(2, c_in, 9, 8), codes(c_out, c_in // options.get("groups", 1), 3, 3, seed=1, low=-127)
    bias = torch.arange(c_out, dtype=torch.int32) * 1000
    got = conv2d_accumulator(q_x, q_w, bias, zero_point, **options)
    padding = options.pop("padding", 0)
    height, width = (padding, padding) if isinstance(padding, int) else padding
    padded = F.pad(q_x.double(), [width, width, height, height], value=zero_point)
    expected = F.conv2d(padded - zero_point, q_w.double(), bias.double(), **options)
    assert got.dtype == torch.int32
    assert torch.equal(got.double(), expected)  # sums below 2**53 are exact in float64, in any order


def test_linear_and_convolution_go_from_codes_to_codes():
    q_x, q_w = codes(4, 6), codes(3, 6, seed=1, low=-127)
    bias = torch.tensor([10, -20, 30], dtype=torch.int32)
    multiplier, shift = quantize_multipliers(torch.tensor([0.003, 0.001, 0.002]))
    for relu in (False, True):
        got = integer_linear(q_x, q_w, bias, multiplier, shift, 7, -9, relu=relu)
        as_image = integer_conv2d(
            q_x[:, :, None, None], q_w[:, :, None, None], bias, multiplier, shift, 7, -9, relu=relu
        )
        assert torch.equal(as_image[:, :, 0, 0], got)
        acc = linear_accumulator(q_x, q_w, bias, 7).tolist()
        for row, expected_row in zip(got.tolist(), acc, strict=True):
            for code, each, m, s in zip(row, expected_row, multiplier.tolist(), shift.tolist(), strict=True):
                expected = round_half_up(Fraction(each * m, 2**s)) - 9
                assert code == min(max(expected, -9 if relu else -128), 127)


@given(
    a=st.integers(-128, 127), b=st.integers(-128, 127), m_a=st.floats(0.05, 4), m_b=st.floats(0.05, 4),
    z=st.tuples(*[st.integers(-128, 127)] * 3),
)  # fmt: skip
def test_a_sum_is_rounded_once(a, b, m_a, m_b, z):
    multipliers, shift = shared_multipliers(m_a, m_b)
    q_a, q_b = torch.tensor([a], dtype=torch.int8), torch.tensor([b], dtype=torch.int8)
    got = integer_add(q_a, q_b, multipliers, shift, z).item()
    real = (a - z[0]) * Fraction(m_a) + (b - z[1]) * Fraction(m_b) + z[2]
    slack = Fraction(1, 2**20)  # factors below 8 have a shift of 28 or more: 2 * 255 half steps of 2**-28
    assert abs(min(max(real, -128), 127) - got) <= Fraction(1, 2) + slack


@pytest.mark.parametrize("factors", [(0.0, 1.0), (1.0, -2.0)], ids=repr)
def test_shared_factors_must_be_positive(factors):
    with pytest.raises(ValueError, match="above 0"):
        shared_multipliers(*factors)


def test_a_mean_is_the_exact_mean_rounded_half_up():
    q_x = codes(3, 4, 7, 7)
    got = integer_mean(q_x, *quantize_multiplier(1 / 49), x_zero_point=-128, y_zero_point=-128)
    for image, row in zip(q_x.tolist(), got.tolist(), strict=True):
        for channel, code in zip(image, row, strict=True):
            exact = Fraction(sum(sum(line) for line in channel), 49)
            assert abs(code - exact) <= Fraction(1, 2)  # 49 is odd: no mean lies on a half
