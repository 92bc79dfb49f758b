"""k-means in one dimension: exactly by dynamic programming, or almost exactly in the time of a sort."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Clusters", "assign", "initial_centroids", "kmeans", "kmeans_exact", "lloyd"]

Floats = NDArray[np.float64]
Init = Literal["linear", "density", "random"]
N_BINS = 512  # of the coarse problem that is solved exactly: 1.0001 to 1.0007 times the exact error on our networks
N_ENDS = 1024  # single points at either end, where the density changes fastest
N_MARKS = 8192


@dataclass(frozen=True)
class Clusters:
    """A codebook and what it costs.

    Attributes: centroids: (k,) float64, ascending. indices: int64, the shape of the values, into centroids.
                error: the sum of squared distances of the values to their centroids.
    """

    centroids: Tensor
    indices: Tensor
    error: float


class _Sums:
    """Sums over ranges of sorted points, each of which may stand for several values: O(1) after O(n)."""

    def __init__(self, points: Floats, counts: NDArray[np.int64]) -> None:
        self.shift = float(np.average(points, weights=counts))  # squares of small numbers cancel less
        centred = points - self.shift
        self.count = np.concatenate([[0.0], np.cumsum(counts, dtype=np.float64)])
        self.first = np.concatenate([[0.0], np.cumsum(centred * counts)])
        self.second = np.concatenate([[0.0], np.cumsum(centred * centred * counts)])

    def cost(self, start: NDArray[np.int64], stop: NDArray[np.int64]) -> Floats:
        """The squared error of one cluster that holds the points start..stop - 1; 0 where there are none."""
        count = self.count[stop] - self.count[start]
        total = self.first[stop] - self.first[start]
        squares = self.second[stop] - self.second[start]
        return np.maximum(squares - total * total / np.maximum(count, 1.0), 0.0)

    def means(self, cuts: NDArray[np.int64]) -> Floats:
        """The mean of each of the clusters that these cuts make, NaN for an empty one."""
        count = np.diff(self.count[cuts])
        with np.errstate(invalid="ignore"):
            return np.diff(self.first[cuts]) / count + self.shift


def _checked(values: Tensor, n_clusters: int) -> Floats:
    if isinstance(n_clusters, bool) or not isinstance(n_clusters, int) or n_clusters < 1:
        raise ValueError(f"n_clusters must be an int of at least 1, got {n_clusters!r}")
    if values.numel() == 0:
        raise ValueError("there are no values to cluster")
    if not values.isfinite().all():
        raise ValueError("the values hold nan or infinity: find out where it comes from before you cluster")
    return values.detach().double().flatten().numpy()


def _sorted(values: Tensor, n_clusters: int) -> Floats:
    flat = _checked(values, n_clusters)
    if values.dtype == torch.float32:  # half as wide, so sorted sooner
        return np.sort(flat.astype(np.float32)).astype(np.float64)
    return np.sort(flat)


def assign(values: Tensor, centroids: Tensor) -> Tensor:
    """The index of the nearest centroid of each value; of two equally near ones the lower.

    Args:    values: any shape. centroids: (k,), ascending.
    Returns: int64, the shape of values.
    Raises:  ValueError if there are no centroids, or they do not ascend.
    """
    if centroids.numel() == 0 or (centroids.diff() < 0).any():
        raise ValueError("centroids must be ascending, and at least one")
    centres = centroids.detach().double()
    middles = (centres[1:] + centres[:-1]) / 2
    return torch.bucketize(values.detach().double(), middles)


def _clusters(values: Tensor, centroids: Floats) -> Clusters:
    centres = torch.from_numpy(np.ascontiguousarray(centroids))
    indices = assign(values, centres)
    return Clusters(centres, indices, (values.detach().double() - centres[indices]).square().sum().item())


def _means_of(sums: _Sums, cuts: NDArray[np.int64]) -> Floats:
    means = sums.means(np.unique(cuts))
    return np.maximum.accumulate(means)  # rounding could turn two that are almost equal round


def initial_centroids(values: Tensor, n_clusters: int, init: Init, seed: int = 0) -> Tensor:
    """Where k-means may start: the three ways that Deep Compression compares.

    Args:    init: "linear", evenly from the smallest to the largest value; "density", evenly in rank, so that as many
             values lie between each two; "random", values drawn without repetition. seed: for "random".
    Returns: (k,) float64, ascending; fewer than n_clusters if there are fewer values to draw.
    Raises:  ValueError for no values, values that are not finite, n_clusters below 1, or another init.
    Source:  Han et al. 2016, arXiv:1510.00149, section 3.2. Taught in lesson 11.
    """
    flat = torch.from_numpy(_checked(values, n_clusters))
    if init == "linear":
        return torch.linspace(flat.min().item(), flat.max().item(), n_clusters, dtype=torch.float64)
    if init == "density":
        return torch.quantile(flat, (torch.arange(n_clusters, dtype=torch.float64) + 0.5) / n_clusters)
    if init == "random":
        order = torch.randperm(flat.numel(), generator=torch.Generator().manual_seed(seed))
        return flat[order[:n_clusters]].sort().values
    raise ValueError(f"init must be 'linear', 'density' or 'random', got {init!r}")


def lloyd(values: Tensor, centroids: Tensor, max_rounds: int = 1000) -> Clusters:
    """Lloyd's algorithm from these centroids: assign, average, again, until nothing moves.

    On sorted values a cluster is a range and its mean two look-ups, so a round costs k binary searches. A cluster that
    runs empty keeps its centroid.

    Raises: ValueError as `assign`; for no values or values that are not finite; if max_rounds is negative.
    Source: Lloyd 1982, Least squares quantization in PCM. Taught in lesson 11.
    """
    if max_rounds < 0:
        raise ValueError(f"max_rounds must not be negative, got {max_rounds}")
    points = _sorted(values, max(1, centroids.numel()))
    assign(values[:0], centroids)  # refuses centroids it could not use
    sums = _Sums(points, np.ones(points.size, dtype=np.int64))
    return _clusters(values, _descend(sums, points, centroids.detach().double().numpy(), max_rounds))


def _descend(sums: _Sums, points: Floats, centres: Floats, max_rounds: int) -> Floats:
    for _ in range(max_rounds):
        inner = np.searchsorted(points, (centres[1:] + centres[:-1]) / 2, side="right")
        cuts = np.concatenate([[0], inner, [points.size]])
        means = sums.means(cuts)
        moved = np.where(np.isnan(means), centres, means)
        if np.array_equal(moved, centres):
            break
        centres = np.sort(moved)
    return centres


def kmeans(values: Tensor, n_clusters: int) -> Clusters:
    """The best codebook of n_clusters, to a part in a thousand, in little more than the time of a sort.

    The values are first put into 512 bins, finer where they are denser, as a good quantizer's steps are (with the cube
    root of the density: Panter and Dite 1951). The best clusters of whole bins are found exactly; Lloyd's algorithm
    then moves the borders inside the bins. No cluster is empty.

    Args:    values: any shape, floating point. n_clusters: at least 1.
    Returns: clusters; fewer than n_clusters if there are fewer different values.
    Raises:  ValueError for no values, values that are not finite, or n_clusters below 1.
    Source:  Taught in lesson 11.
    """
    points = _sorted(values, n_clusters)
    different = np.unique(points) if points.size <= 4 * N_BINS else points
    if different.size <= N_BINS:
        return kmeans_exact(values, n_clusters)
    sums = _Sums(points, np.ones(points.size, dtype=np.int64))
    edges = _edges(points, max(N_BINS, 4 * n_clusters))
    coarse = edges[_best_cuts(_EdgeSums(sums, edges), edges.size - 1, n_clusters)]
    return _clusters(values, _filled(_descend(sums, points, _means_of(sums, coarse), 1000), points))


def _filled(centres: Floats, points: Floats) -> Floats:
    """The centroids without those that no point is nearest to."""
    inner = np.searchsorted(points, (centres[1:] + centres[:-1]) / 2, side="right")
    return centres[np.diff(np.concatenate([[0], inner, [points.size]])) > 0]


def _edges(points: Floats, n_bins: int) -> NDArray[np.int64]:
    """Ranks at which to cut the sorted points into about n_bins bins."""
    n = points.size
    ends = np.arange(min(n, N_ENDS))
    marks = np.unique(
        np.concatenate([ends, np.linspace(0, n - 1, N_MARKS + 1).astype(np.int64), n - 1 - ends])
    )
    widths, counts = np.diff(points[marks]), np.diff(marks)
    share = np.concatenate([[0.0], np.cumsum(np.cbrt(widths * widths * counts))])  # density^(1/3) times width
    if share[-1] == 0:
        return np.array([0, n])
    at = np.searchsorted(share, share[-1] * np.arange(1, n_bins) / n_bins)
    return np.unique(np.concatenate([[0], marks[at], [n]]))


class _EdgeSums:
    """The costs of clusters of whole bins."""

    def __init__(self, sums: _Sums, edges: NDArray[np.int64]) -> None:
        self.sums, self.edges = sums, edges

    def cost(self, start: NDArray[np.int64], stop: NDArray[np.int64]) -> Floats:
        return self.sums.cost(self.edges[start], self.edges[stop])


def kmeans_exact(values: Tensor, n_clusters: int) -> Clusters:
    """The codebook of n_clusters with the smallest squared error there is.

    In one dimension a cluster is a range of the sorted values, so the best k clusters of the first j values are the
    best k - 1 of the first i and one more, for the best i. That i never decreases with j, which leaves n log n pairs to
    try for each k instead of n * n.

    Args:    as `kmeans`. Equal values count once, with their number.
    Returns: clusters; fewer than n_clusters if there are fewer different values.
    Raises:  as `kmeans`.
    Source:  Wang and Song 2011, Ckmeans.1d.dp, The R Journal 3(2). Taught in lesson 11.
    """
    points, counts = np.unique(_checked(values, n_clusters), return_counts=True)
    sums = _Sums(points, counts)
    cuts = _best_cuts(sums, points.size, n_clusters)
    return _clusters(values, _means_of(sums, cuts))


def _best_cuts(sums: _Sums | _EdgeSums, n: int, n_clusters: int) -> NDArray[np.int64]:
    """Where to cut n points into at most n_clusters clusters, 0 and n included, so that the costs add up to least."""
    n_clusters = min(n_clusters, n)
    whole = np.arange(n + 1)
    best = sums.cost(np.zeros(n + 1, dtype=np.int64), whole)  # best[j]: one cluster of the first j points
    starts = []
    for _ in range(1, n_clusters):
        best, start = _one_more(sums, best, n)
        starts.append(start)
    cuts = [n]
    for start in reversed(starts):
        cuts.append(int(start[cuts[-1]]))
    return np.array(sorted({0, *cuts}))


def _one_more(sums: _Sums | _EdgeSums, best: Floats, n: int) -> tuple[Floats, NDArray[np.int32]]:
    """min over i <= j of best[i] + cost(i, j) for every j, and the i that gives it.

    First for every 2^m-th j, then for those half-way between, each between the answers of its neighbours.
    """
    least, start = np.full(n + 1, np.inf), np.zeros(n + 1, dtype=np.int32)
    step = 1 << max(0, int(n).bit_length() - 1)
    at = np.arange(0, n + 1, step)
    while True:
        left, right = at - step, at + step
        low = np.where(left >= 0, start[np.maximum(left, 0)], 0)
        high = np.where(
            (right <= n) & np.isfinite(least[np.minimum(right, n)]), start[np.minimum(right, n)], at
        )
        high = np.minimum(high, at)
        least[at], start[at] = _range_minima(sums, best, at, np.minimum(low, high), high)
        if step == 1:
            return least, start
        step //= 2
        at = np.arange(step, n + 1, 2 * step)


def _range_minima(
    sums: _Sums | _EdgeSums,
    best: Floats,
    at: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
) -> tuple[Floats, NDArray[np.int64]]:
    """For each j of `at`, the least best[i] + cost(i, j) over low..high, and its i."""
    lengths = high - low + 1
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    i = np.arange(lengths.sum()) - np.repeat(first - low, lengths)
    totals = best[i] + sums.cost(i, np.repeat(at, lengths))
    least = np.minimum.reduceat(totals, first)
    hits = np.flatnonzero(totals == np.repeat(least, lengths))
    return least, i[hits[np.searchsorted(hits, first)]]
