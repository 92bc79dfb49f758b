"""Observers: they see a stream of activations, batch by batch, and propose the range to quantize."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from coursekit.quantization.affine import check_finite, int_range
from coursekit.quantization.histogram import StreamingHistogram, kl_range, mse_range

__all__ = [
    "HistogramObserver",
    "MinMaxObserver",
    "MovingAverageObserver",
    "Observer",
    "PercentileObserver",
    "moving_average_range",
    "range_qparams",
]


class Observer(ABC):
    """Sees batches with `update`, then says with `range` what interval of values the codes should span.

    No batch is kept: memory does not grow with the stream. The range is that of the data; `range_qparams` widens it
    to include 0.
    """

    def __init__(self) -> None:
        self._used = False

    def update(self, x: Tensor) -> None:
        """Sees one batch of any shape.

        Raises: TypeError, ValueError as `check_finite`, and then nothing is changed.
        """
        check_finite(x)
        self._see(x.detach())
        self._used = True

    def range(self) -> tuple[float, float]:
        """(lo, hi), in units of the observed values, lo <= hi.

        Raises: RuntimeError if no batch was seen.
        """
        if not self._used:
            raise RuntimeError(
                f"this {type(self).__name__} has seen no data: run calibration batches through update(x) first"
            )
        return self._range()

    @abstractmethod
    def _see(self, x: Tensor) -> None: ...

    @abstractmethod
    def _range(self) -> tuple[float, float]: ...


class MinMaxObserver(Observer):
    """The smallest and the largest value of the whole stream: nothing is clipped, one outlier decides.

    Source: Jacob et al. 2018, arXiv:1712.05877, section 3.1. Taught in lesson 02.

    >>> observer = MinMaxObserver()
    >>> observer.update(torch.tensor([0.0, 2.0]))
    >>> observer.update(torch.tensor([-1.0, 1.0]))
    >>> observer.range()
    (-1.0, 2.0)
    """

    def __init__(self) -> None:
        super().__init__()
        self._lo, self._hi = float("inf"), float("-inf")

    def _see(self, x: Tensor) -> None:
        self._lo, self._hi = min(self._lo, x.min().item()), max(self._hi, x.max().item())

    def _range(self) -> tuple[float, float]:
        return self._lo, self._hi


class MovingAverageObserver(Observer):
    """Exponential moving averages of the batches' minima and maxima; the first batch sets them.

    new average = momentum * old average + (1 - momentum) * this batch's extreme.

    Args:   momentum: the share of the old average, 0 (only the last batch counts) to below 1.
    Raises: ValueError if momentum is outside that range.
    Source: Jacob et al. 2018, arXiv:1712.05877, section 3.1. Taught in lesson 02.
    """

    def __init__(self, momentum: float = 0.9) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in 0..1, 1 excluded, got {momentum}")
        self.momentum = momentum
        self._ends: tuple[float, float] | None = None

    def _see(self, x: Tensor) -> None:
        lo, hi = x.min().item(), x.max().item()
        if self._ends is not None:
            old_lo, old_hi = self._ends
            lo = self.momentum * old_lo + (1 - self.momentum) * lo
            hi = self.momentum * old_hi + (1 - self.momentum) * hi
        self._ends = (lo, hi)

    def _range(self) -> tuple[float, float]:
        assert self._ends is not None
        return self._ends


class PercentileObserver(Observer):
    """The middle `percentile` per cent of all values: half of the rest is cut off at each end.

    Percentiles come from a histogram of the stream, exact to one bin's width. Where one value is so frequent that a
    cut would fall into it, such as the zeros after a ReLU, that end is this value.

    Args:   percentile: above 0, at most 100, which is the whole range. n_bins: of the histogram.
    Raises: ValueError if percentile is outside that range.
    Source: McKinstry et al. 2018, arXiv:1809.04191; Wu et al. 2020, arXiv:2004.09602. Taught in lesson 02.
    """

    def __init__(self, percentile: float = 99.99, n_bins: int = 2048) -> None:
        super().__init__()
        if not 0 < percentile <= 100:
            raise ValueError(f"percentile must be above 0 and at most 100, got {percentile}")
        self.percentile, self._histogram = percentile, StreamingHistogram(n_bins)

    def _see(self, x: Tensor) -> None:
        self._histogram.add(x)

    def _range(self) -> tuple[float, float]:
        tail = (1 - self.percentile / 100) / 2
        if tail == 0:
            return self._histogram.lo, self._histogram.hi
        return self._histogram.quantile(tail), self._histogram.quantile(1 - tail)


class HistogramObserver(Observer):
    """The range that a search over a histogram of the stream finds best.

    Args:   method: "mse", the smallest mean squared error of an affine grid; "kl", the smallest divergence between
            the distributions before and after. n_bits: of the codes the range is for. n_bins: of the histogram.
    Raises: ValueError for another method, or n_bits outside 2 to 8.
    Source: "kl": Migacz 2017 (GTC 2017); both: Wu et al. 2020, arXiv:2004.09602. Taught in lesson 02.
    """

    def __init__(self, method: Literal["mse", "kl"] = "mse", n_bits: int = 8, n_bins: int = 2048) -> None:
        super().__init__()
        if method not in ("mse", "kl"):
            raise ValueError(f'method must be "mse" or "kl", got {method!r}')
        int_range(n_bits)
        self.method, self.n_bits, self._histogram = method, n_bits, StreamingHistogram(n_bins)

    def _see(self, x: Tensor) -> None:
        self._histogram.add(x)

    def _range(self) -> tuple[float, float]:
        search = mse_range if self.method == "mse" else kl_range
        return search(self._histogram, self.n_bits)


def moving_average_range(batches: Iterable[Tensor], momentum: float = 0.9) -> tuple[float, float]:
    """The range of a MovingAverageObserver that has seen these batches in this order.

    Args:    batches: at least one, each of any shape. momentum: the share of the old average, 0 to below 1.
    Returns: (lo, hi), in units of the values.
    Raises:  RuntimeError if there is no batch; else as `MovingAverageObserver`.
    Source:  Jacob et al. 2018, arXiv:1712.05877, section 3.1. Taught in lesson 02.

    >>> moving_average_range([torch.tensor([0.0, 2.0]), torch.tensor([0.0, 4.0])], momentum=0.5)
    (0.0, 3.0)
    """
    observer = MovingAverageObserver(momentum)
    for batch in batches:
        observer.update(batch)
    return observer.range()


def range_qparams(lo: float, hi: float, n_bits: int = 8) -> tuple[float, int]:
    """Scale and zero point that put lo..hi, widened to include 0, on the signed n_bits integers.

    Args:    lo, hi: finite, lo <= hi, such as an observer's range. n_bits: 2 to 8.
    Returns: scale, in units of the values per step, above 0; zero_point, the integer that means exactly 0.0.
    Raises:  ValueError if lo is above hi or either is not finite.
    Source:  Jacob et al. 2018, arXiv:1712.05877, section 2.1.

    >>> range_qparams(-0.5, 15.4375)
    (0.0625, -120)
    """
    ends = torch.tensor([lo, hi], dtype=torch.float64)
    if not ends.isfinite().all() or lo > hi:
        raise ValueError(f"a range needs finite ends, the lower first, got {lo} and {hi}")
    qmin, qmax = int_range(n_bits)
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    scale = (hi - lo) / (qmax - qmin)
    if scale < torch.finfo(torch.float32).tiny:
        return 1.0, qmin
    return scale, round(qmin - lo / scale)
