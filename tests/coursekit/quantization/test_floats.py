"""Floats taken apart and rounded by hand, against torch's casts on every value and at every boundary."""

from __future__ import annotations

import pytest
import torch

from coursekit.quantization import (
    BF16,
    E4M3,
    E5M2,
    FLOAT_FORMATS,
    FP16,
    FP32,
    bit_string,
    float_bits,
    format_of,
    round_to_format,
    value_from_bits,
)

IEEE = pytest.mark.parametrize("kind", [FP16, BF16, E5M2], ids=lambda kind: kind.name)


def every_number(kind):
    """All bit patterns of a format of 8 or 16 bits, as a tensor of its dtype."""
    whole = torch.arange(2**kind.n_bits, dtype=torch.int32)
    return whole.to(torch.int16 if kind.n_bits == 16 else torch.uint8).view(kind.dtype)


def same(a, b):
    return bool(((a == b) | (a.isnan() & b.isnan())).all())


@pytest.mark.parametrize("kind", FLOAT_FORMATS, ids=lambda kind: kind.name)
def test_limits_are_torchs(kind):
    limits = torch.finfo(kind.dtype)
    assert (kind.largest, kind.smallest_normal, kind.epsilon, kind.n_bits) == (
        limits.max,
        limits.smallest_normal,
        limits.eps,
        limits.bits,
    )


def test_smallest_is_the_first_number_above_zero():
    for kind in (FP16, BF16, E4M3, E5M2):
        first = torch.tensor([1], dtype=torch.int16 if kind.n_bits == 16 else torch.uint8).view(kind.dtype)
        assert first.double().item() == kind.smallest


@IEEE
def test_every_bit_pattern_means_what_torch_says(kind):
    numbers = every_number(kind)
    mine = value_from_bits(*float_bits(numbers), kind.exponent_bits, kind.fraction_bits)
    assert mine.dtype == torch.float64
    assert same(mine, numbers.double())
    assert torch.equal(mine.signbit()[mine == 0], numbers.double().signbit()[mine == 0])


def test_random_float32_values_come_back():
    x = torch.randn(2000, generator=torch.Generator().manual_seed(0)) * torch.logspace(-44, 37, 2000)
    assert torch.equal(value_from_bits(*float_bits(x), 8, 23), x.double())
    assert bool((x.abs() < FP32.smallest_normal).any())


@IEEE
def test_rounding_is_the_cast_on_both_sides_of_every_boundary(kind):
    """Rounding is a staircase: right at each number, at each midpoint and beside it, it is right everywhere."""
    finite = every_number(kind).float()
    finite = finite[finite.isfinite()].unique().double()
    overflow = kind.largest + 2.0 ** (kind.bias - kind.fraction_bits - 1)  # half a step beyond the largest
    edges = torch.cat([finite, (finite[1:] + finite[:-1]) / 2, torch.tensor([overflow, -overflow])]).float()
    ends = torch.tensor([torch.inf, -torch.inf])
    x = torch.cat([
        edges,
        *(torch.nextafter(edges, end) for end in ends),
        ends,
        torch.tensor([torch.nan, -0.0]),
    ])
    assert same(round_to_format(x, kind.exponent_bits, kind.fraction_bits), x.to(kind.dtype).float())


def test_rounding_float32_to_its_own_format_changes_nothing():
    x = torch.randn(500, generator=torch.Generator().manual_seed(1)) * torch.logspace(-44, 37, 500)
    assert torch.equal(round_to_format(x, 8, 23), x)
    assert round_to_format(x.double(), 8, 23).dtype == torch.float64


def test_float64_is_rounded_once():
    """1 + 2^-11 + 2^-40 is nearer to 1 + 2^-10; by way of float32 it would be a half and go to 1."""
    x = torch.tensor(1 + 2.0**-11 + 2.0**-40, dtype=torch.float64)
    assert round_to_format(x, 5, 10).item() == 1 + 2.0**-10


def test_views_and_empty_tensors():
    x = torch.linspace(-3, 3, 24).reshape(4, 6).t()[::2]
    assert torch.equal(round_to_format(x, 8, 7), x.bfloat16().float())
    assert round_to_format(torch.empty(0, 3), 5, 10).shape == (0, 3)
    assert [part.shape for part in float_bits(x.half())] == [x.shape] * 3


def test_bit_strings():
    assert bit_string(torch.tensor(-0.15625)) == "1 01111100 01000000000000000000000"
    assert bit_string(torch.tensor([65504.0]).half()) == "0 11110 1111111111"
    assert bit_string(torch.tensor(448.0).to(torch.float8_e4m3fn)) == "0 1111 110"
    assert [bit_string(torch.tensor(i, dtype=torch.int8)) for i in (-128, -1, 127)] == [
        "1 0000000",
        "1 1111111",
        "0 1111111",
    ]


def test_bad_inputs_say_what_to_do():
    with pytest.raises(TypeError, match=r"cast the tensor"):
        float_bits(torch.ones(2, dtype=torch.float64))
    with pytest.raises(TypeError, match="none of"):
        format_of(torch.int8)
    with pytest.raises(TypeError, match=r"use x\.float"):
        round_to_format(torch.ones(2).half(), 5, 10)
    with pytest.raises(ValueError, match="exponent_bits must be 2 to 8"):
        round_to_format(torch.ones(2), 9, 10)
    with pytest.raises(ValueError, match="fraction_bits 1 to 23"):
        value_from_bits(torch.tensor(0), torch.tensor(0), torch.tensor(0), 5, 0)
    with pytest.raises(ValueError, match="one number, got 2"):
        bit_string(torch.ones(2))
