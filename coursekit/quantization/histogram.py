"""A histogram of a stream in constant memory, and the clipping ranges read off it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from coursekit.quantization.affine import check_finite, int_range

__all__ = ["StreamingHistogram", "kl_range", "mse_range", "range_error"]

_SMALLEST_WIDTH = 2.0**-149  # the smallest step of float32: nothing in a tensor is finer


class StreamingHistogram:
    """Counts of all values seen, in at most n_bins bins whose width doubles when the values outgrow them.

    Bin k covers width * k to width * (k + 1). Two neighbours merge exactly into one of twice the width, so nothing is
    ever counted in a wrong bin. Exact zeros are counted apart: every affine grid has a code for them, and after a ReLU
    they would drown the rest.

    Args:   n_bins: at least 2.
    Raises: ValueError if n_bins is below 2.

    >>> histogram = StreamingHistogram(n_bins=4)
    >>> histogram.add(torch.tensor([0.0, 0.3, 1.0, 3.0]))
    >>> histogram.edges.tolist(), histogram.counts.tolist(), histogram.n_zeros
    ([0.0, 1.0, 2.0, 3.0, 4.0], [1, 1, 0, 1], 1)
    """

    def __init__(self, n_bins: int = 2048) -> None:
        if n_bins < 2:
            raise ValueError(f"n_bins must be at least 2, got {n_bins}")
        self.n_bins, self.n_zeros = n_bins, 0
        self.lo, self.hi = math.inf, -math.inf
        self.counts = torch.zeros(0, dtype=torch.int64)
        self._width, self._first = _SMALLEST_WIDTH, 0  # bin number of counts[0]

    @property
    def edges(self) -> Tensor:
        """The borders of the bins, in units of the values: one more than there are counts."""
        numbers = torch.arange(self._first, self._first + len(self.counts) + 1, dtype=torch.float64)
        return numbers * self._width

    def add(self, x: Tensor) -> None:
        """Counts the values of x, of any shape.

        Raises: TypeError, ValueError as `check_finite`, before anything is counted.
        """
        check_finite(x)
        values = x.detach().flatten().double()
        self.lo, self.hi = min(self.lo, values.min().item()), max(self.hi, values.max().item())
        self._make_room()
        values = values[values != 0]
        self.n_zeros += x.numel() - len(values)
        bins = torch.floor(values / self._width).long() - self._first
        self.counts += torch.bincount(bins, minlength=len(self.counts))

    def _make_room(self) -> None:
        """Merges and adds bins until lo and hi both have one."""
        if len(self.counts) == 0:  # nothing to merge: start at the right width
            span = max(self.hi - self.lo, abs(self.lo), abs(self.hi), _SMALLEST_WIDTH)
            self._width = max(2.0 ** math.floor(math.log2(span / self.n_bins)), _SMALLEST_WIDTH)
            self._first = math.floor(self.lo / self._width)
        while True:
            last = self._first + len(self.counts) - 1
            first = min(self._first, math.floor(self.lo / self._width))
            last = max(last, math.floor(self.hi / self._width))
            if last - first < self.n_bins:
                break
            self._merge_pairs()
        before, after = self._first - first, last - (self._first + len(self.counts) - 1)
        self.counts = torch.nn.functional.pad(self.counts, (before, after))
        self._first = first

    def _merge_pairs(self) -> None:
        odd = self._first % 2  # pairs start at even bin numbers
        counts = torch.nn.functional.pad(self.counts, (odd, (len(self.counts) + odd) % 2))
        self.counts = counts.reshape(-1, 2).sum(1)
        self._first, self._width = (self._first - odd) // 2, self._width * 2

    def quantile(self, q: float) -> float:
        """The value below which a share q of all values lies, exact to one bin's width.

        Args:   q: 0 to 1.
        Raises: ValueError if q is outside 0 to 1 or nothing was counted.
        """
        total = int(self.counts.sum()) + self.n_zeros
        if not 0 <= q <= 1 or total == 0:
            raise ValueError(f"need q in 0..1 and at least one value, got {q} and {total} values")
        right = self.edges[1:]
        negative = int(self.counts[right <= 0].sum())
        if negative < q * total <= negative + self.n_zeros:
            return 0.0
        below = self.counts.cumsum(0) + self.n_zeros * (right > 0)
        index = min(int((below < q * total).sum()), len(right) - 1)
        return min(max(right[index].item(), self.lo), self.hi)


def _sawtooth(x: Tensor, step: Tensor) -> Tensor:
    """The integral from 0 to x of the squared rounding error of a grid of this step."""
    whole = torch.round(x / step)
    return step**3 * (whole / 12 + (x / step - whole) ** 3 / 3)


def range_error(histogram: StreamingHistogram, lo: Tensor, hi: Tensor, n_bits: int) -> Tensor:
    """The mean squared error over the histogram's values of each affine grid lo..hi, clipping and rounding.

    Exact for values that are spread evenly inside each bin: both errors are integrals over the bin, so that a grid
    much finer than the bins is judged as well as a coarse one.

    Args:    lo, hi: (M,) the ranges, lo <= 0 <= hi, lo < hi. n_bits: 2 to 8.
    Returns: (M,) in squared units of the values.
    """
    qmin, qmax = int_range(n_bits)
    step = ((hi - lo) / (qmax - qmin)).double()[:, None]
    bottom = torch.round(lo.double()[:, None] / step) * step  # the grid contains 0: its ends are nudged to it
    top = bottom + (qmax - qmin) * step
    edges = histogram.edges
    inside = _sawtooth(torch.minimum(torch.maximum(edges, bottom), top), step)  # (M, bins + 1)
    above, below = (edges - top).clamp(min=0) ** 3 / 3, -((bottom - edges).clamp(min=0) ** 3) / 3
    per_bin = (inside + above + below).diff(dim=1) / edges.diff()
    return (per_bin * histogram.counts).sum(1) / (int(histogram.counts.sum()) + histogram.n_zeros)


def mse_range(histogram: StreamingHistogram, n_bits: int = 8, n_candidates: int = 100) -> tuple[float, float]:
    """The range lo..hi whose affine grid has the smallest mean squared error on the histogram's values.

    Both ends start at the extremes; each in turn takes the best of n_candidates shares of its extreme.

    Returns: (lo, hi) with lo <= 0 <= hi.
    Source:  Sung et al. 2015, arXiv:1511.06488; the histogram as in PyTorch's HistogramObserver.
    """
    ends = torch.tensor([min(histogram.lo, 0.0), max(histogram.hi, 0.0)], dtype=torch.float64)
    if ends[0] == ends[1]:
        return 0.0, 0.0
    shares = torch.arange(1, n_candidates + 1, dtype=torch.float64) / n_candidates
    best = ends.clone()
    for side in (1, 0, 1, 0):
        if ends[side] == 0:
            continue
        tried = best.repeat(n_candidates, 1)  # (M, 2)
        tried[:, side] = ends[side] * shares
        error = range_error(histogram, tried[:, 0], tried[:, 1], n_bits)
        best = tried[int(error.argmin())]
    return best[0].item(), best[1].item()


def kl_range(histogram: StreamingHistogram, n_bits: int = 8, n_candidates: int = 100) -> tuple[float, float]:
    """The range whose quantized distribution has the smallest Kullback-Leibler divergence from the original.

    Thresholds are tried on the magnitudes, of all values together, as TensorRT does; zeros are left out.

    Returns: (lo, hi) with lo <= 0 <= hi, neither beyond the extremes.
    Source:  Migacz 2017, "8-bit inference with TensorRT" (GTC 2017), the entropy calibration.
    """
    counts, width = _magnitudes(histogram)
    signed = histogram.lo < 0 < histogram.hi
    levels = 2 ** (n_bits - 1) if signed else 2**n_bits
    n = len(counts)
    if n <= levels:  # a bin for every level: nothing to choose
        return min(histogram.lo, 0.0), max(histogram.hi, 0.0)
    sizes = sorted({round(levels + (n - levels) * k / n_candidates) for k in range(n_candidates + 1)})
    threshold = min(sizes, key=lambda size: _divergence(counts, size, levels)) * width
    return max(min(histogram.lo, 0.0), -threshold), min(max(histogram.hi, 0.0), threshold)


def _magnitudes(histogram: StreamingHistogram) -> tuple[Tensor, float]:
    """Counts of |x| in bins of one width from 0, and that width."""
    edges = histogram.edges
    width = (edges[1] - edges[0]).item()
    number = torch.round(edges[:-1] / width).long()  # bin k covers width * k up; -1 - k is its mirror image
    number = torch.where(number < 0, -1 - number, number)
    return torch.bincount(number, weights=histogram.counts.double()), width


def _divergence(counts: Tensor, size: int, levels: int) -> float:
    """KL divergence between the first `size` bins, the rest clipped into the last, and their quantized version."""
    kept = counts[:size]
    clipped = kept.clone()
    clipped[-1] += counts[size:].sum()
    group = torch.arange(size) * levels // size  # the level that each bin falls to
    occupied = (kept > 0).double()
    mass = torch.bincount(group, weights=kept, minlength=levels)
    bins = torch.bincount(group, weights=occupied, minlength=levels)
    spread = (mass / bins.clamp(min=1))[group] * occupied
    p = clipped / clipped.sum()
    q = (spread / spread.sum().clamp(min=1)).clamp(min=1e-9)  # clipped values may fall where nothing was
    return torch.where(p > 0, p * torch.log(p / q), 0.0).sum().item()
