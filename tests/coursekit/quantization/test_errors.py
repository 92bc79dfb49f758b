"""Error measures and clipping against definitions written out and a search ten times as fine."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coursekit.quantization import (
    error_parts,
    fake_quantize,
    int_range,
    mse_clip,
    quantization_error,
    symmetric_scale,
)


def heavy(seed: int, n: int = 3000) -> torch.Tensor:
    x = torch.randn(n, generator=torch.Generator().manual_seed(seed))
    return x * x.abs().square()


def error_at(x: torch.Tensor, clip: float, n_bits: int) -> float:
    return (x - fake_quantize(x, clip / int_range(n_bits)[1], n_bits)).square().mean().item()


@given(seed=st.integers(0, 50), n_bits=st.integers(2, 8), share=st.floats(0.05, 1.0))
def test_clipping_and_rounding_add_up_to_the_whole_error(seed, n_bits, share):
    x = heavy(seed, 200)
    clip = share * x.abs().max().item()
    clipping, rounding = error_parts(x, clip, n_bits)
    assert clipping + rounding == pytest.approx(error_at(x, clip, n_bits), rel=1e-5)
    if share == 1.0:
        assert clipping == 0.0


@pytest.mark.parametrize("n_bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("seed", [0, 1])
def test_mse_clip_beats_min_max_and_a_finer_search_hardly_beats_it(seed, n_bits):
    x = heavy(seed)
    largest = x.abs().max().item()
    ours = error_at(x, mse_clip(x, n_bits), n_bits)
    assert ours <= error_at(x, largest, n_bits)
    finest = min(error_at(x, largest * k / 1000, n_bits) for k in range(1, 1001))
    assert ours <= 1.1 * finest  # near its minimum the error is flat: a candidate off costs little


def test_mse_clip_of_zeros_is_a_positive_number():
    assert mse_clip(torch.zeros(5)) > 0


def test_mse_clip_refuses_no_candidates():
    with pytest.raises(ValueError, match="got 0"):
        mse_clip(torch.ones(3), n_candidates=0)


def test_error_parts_refuse_a_threshold_of_zero():
    with pytest.raises(ValueError, match="got 0"):
        error_parts(torch.ones(3), 0.0)


def test_quantization_error_by_hand():
    error = quantization_error(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5]))
    assert error.mse == pytest.approx(0.125)
    assert error.max_abs == pytest.approx(0.5)
    assert error.sqnr_db == pytest.approx(20.0)


def test_uniform_data_follow_the_twelfth_of_a_squared_step():
    """Bennett's s² / 12, from 200,000 values: the mean of so many is within 1 % of its expectation."""
    x = torch.rand(200_000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for n_bits in (4, 6, 8):
        scale = symmetric_scale(x, n_bits)
        assert quantization_error(x, fake_quantize(x, scale, n_bits)).mse == pytest.approx(
            scale**2 / 12, rel=0.01
        )


def test_error_of_a_perfect_copy_is_none():
    error = quantization_error(torch.ones(3), torch.ones(3))
    assert (error.mse, error.max_abs, error.sqnr_db) == (0.0, 0.0, math.inf)
