"""Relative positions of Deep Compression: a sparse tensor as gaps of a few bits, with filler zeros for long ones."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["from_relative_positions", "relative_positions"]


def relative_positions(x: Tensor, n_bits: int) -> tuple[Tensor, Tensor]:
    """For each value that is not 0, the number of zeros before it, in n_bits; a gap too long for them gets fillers.

    A filler is a stored value of 0.0 with the largest gap, 2**n_bits - 1: it stands for that many zeros and itself.

    Args:    x: (n,). n_bits: 1 to 16.
    Returns: gaps, int64, 0 to 2**n_bits - 1; values, of x's dtype, as many. Zeros behind the last value are not told.
    Raises:  ValueError if x has not one dimension, or n_bits is out of range.
    Source:  Han et al. 2016, arXiv:1510.00149, section 2 and figure 2. Taught in lesson 12.

    >>> relative_positions(torch.tensor([0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 4.0]), n_bits=2)
    (tensor([2, 3, 1]), tensor([3., 0., 4.]))
    """
    if x.dim() != 1 or not 1 <= n_bits <= 16:
        raise ValueError(
            f"x must have one dimension and n_bits be 1 to 16, got {tuple(x.shape)} and {n_bits}"
        )
    span = 1 << n_bits  # places that a filler stands for
    places = x.nonzero().flatten()
    gaps = places.diff(prepend=torch.tensor([-1])) - 1
    fillers = gaps // span
    at = torch.arange(len(gaps)) + fillers.cumsum(0)  # of each value among values and fillers
    all_gaps = torch.full((len(gaps) + int(fillers.sum()),), span - 1)
    values = torch.zeros(len(all_gaps), dtype=x.dtype)
    all_gaps[at], values[at] = gaps % span, x[places]
    return all_gaps, values


def from_relative_positions(gaps: Tensor, values: Tensor, n: int) -> Tensor:
    """The n numbers that `relative_positions` took.

    Args:    gaps: (k,), integers. values: (k,).
    Returns: (n,), of the dtype of values.
    Raises:  ValueError if gaps and values are not as many, a gap is negative, or a place lies beyond n.
    Source:  as `relative_positions`.

    >>> from_relative_positions(torch.tensor([2, 3, 1]), torch.tensor([3.0, 0.0, 4.0]), 10)
    tensor([0., 0., 3., 0., 0., 0., 0., 0., 4., 0.])
    """
    if len(gaps) != len(values) or (gaps < 0).any():
        raise ValueError(f"{len(gaps)} gaps, none of them negative, do not go with {len(values)} values")
    places = (gaps.to(torch.int64) + 1).cumsum(0) - 1
    if len(places) and int(places[-1]) >= n:
        raise ValueError(f"a value's place, {int(places[-1])}, is beyond the {n} there are")
    x = torch.zeros(n, dtype=values.dtype)
    x[places] = values
    return x
