"""The streaming histogram against numpy's on all the data, and its error against the real round trip."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coursekit.quantization import dequantize, quantize, range_qparams
from coursekit.quantization.histogram import StreamingHistogram, mse_range, range_error

BATCHES = st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=20), min_size=1, max_size=6)


@given(batches=BATCHES, n_bins=st.sampled_from([2, 7, 64]))
def test_every_value_is_in_the_bin_that_covers_it(batches, n_bins):
    histogram = StreamingHistogram(n_bins)
    for batch in batches:
        histogram.add(torch.tensor(batch))
    values = np.array([v for batch in batches for v in batch])
    assert len(histogram.counts) <= n_bins
    assert (histogram.lo, histogram.hi) == (values.min(), values.max())
    assert histogram.n_zeros == (values == 0).sum()
    edges = histogram.edges.numpy()
    place = np.searchsorted(edges, values[values != 0], side="right") - 1  # bins include their lower edge
    assert histogram.counts.tolist() == np.bincount(place, minlength=len(edges) - 1).tolist()


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_bins_are_fine_at_every_magnitude(scale):
    histogram = StreamingHistogram(256)
    for batch in (torch.tensor([0.0]), torch.tensor([1e-3 * scale]), torch.tensor([scale, -scale])):
        histogram.add(batch)
    assert (histogram.edges[1] - histogram.edges[0]) <= 2 * (2 * scale) / 255


@pytest.mark.parametrize("n_bits", [2, 4, 8])
def test_error_is_that_of_the_real_round_trip(n_bits):
    """One value in the middle of each thousandth of a bin: the integral, sampled."""
    histogram = StreamingHistogram(16)
    x = (torch.arange(24_000).double() + 0.5) / 1000 - 6  # -6 to 18, bins of 2
    histogram.add(x)
    for lo, hi in ((-6.0, 18.0), (-2.0, 3.0), (0.0, 7.0), (-4.0, 0.0)):
        scale, zero_point = range_qparams(lo, hi, n_bits)
        back = dequantize(quantize(x, scale, zero_point, n_bits), scale, zero_point)
        expected = (x - back).square().mean().item()
        got = range_error(histogram, torch.tensor([lo]), torch.tensor([hi]), n_bits).item()
        assert got == pytest.approx(expected, rel=2e-3)  # a sampled integral, and float32 codes


def test_search_is_not_fooled_by_bins_wider_than_a_step():
    """With an outlier far out all else is in a few bins, whose middles a fine grid would hit exactly."""
    bulk = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    histogram = StreamingHistogram(64)
    histogram.add(torch.cat([bulk, torch.tensor([30.0])]))
    lo, hi = mse_range(histogram, 8)
    assert lo == 0.0
    assert 0.9 <= hi <= 30.0


@pytest.mark.parametrize("q", [0.0, 0.001, 0.25, 0.5, 0.999, 1.0])
def test_quantile_is_within_a_bin_of_numpys(q):
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(1)).relu()
    histogram = StreamingHistogram(512)
    for batch in x.split(3000):
        histogram.add(batch)
    width = (histogram.edges[1] - histogram.edges[0]).item()
    assert histogram.quantile(q) == pytest.approx(np.quantile(x.numpy(), q), abs=width)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="n_bins must be at least 2"):
        StreamingHistogram(1)
    with pytest.raises(ValueError, match="at least one value"):
        StreamingHistogram().quantile(0.5)
    histogram = StreamingHistogram()
    histogram.add(torch.ones(2))
    with pytest.raises(ValueError, match=r"q in 0\.\.1"):
        histogram.quantile(1.5)
