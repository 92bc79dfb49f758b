"""N:M sparsity: at most n of every m neighbouring weights are kept, a pattern that hardware can index."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["nm_mask", "nm_masks"]


def nm_mask(scores: Tensor, n: int = 2, m: int = 4) -> Tensor:
    """True at the n highest of every m neighbours along dimension 1, the inputs; the first of equals go first.

    Args:    scores: (out, in) of a linear layer or (out, in, …) of a convolution, finite; in divisible by m.
             n, m: 0 <= n <= m, m at least 1.
    Returns: bool, the shape of scores; exactly n of every m are True.
    Raises:  ValueError if the inputs do not divide into groups of m, or n, m or a score is out of range.
    Source:  Mishra et al. 2021, arXiv:2104.08378, section 3. Taught in lesson 05.

    >>> nm_mask(torch.tensor([[0.1, 0.9, 0.3, 0.2]]))
    tensor([[False,  True,  True, False]])
    """
    if not (0 <= n <= m and m >= 1):
        raise ValueError(f"n of m must be kept with 0 <= n <= m, got {n} of {m}")
    if scores.dim() < 2 or scores.shape[1] % m:
        raise ValueError(f"the inputs of shape {tuple(scores.shape)} do not divide into groups of {m}")
    if not scores.isfinite().all():
        raise ValueError("a score is nan or infinite: find out where it comes from before you prune")
    last = scores.movedim(1, -1)
    groups = last.reshape(-1, m)
    order = groups.argsort(dim=1, stable=True)
    mask = torch.ones_like(groups, dtype=torch.bool)
    mask.scatter_(1, order[:, : m - n], False)
    return mask.reshape(last.shape).movedim(-1, 1).contiguous()


def nm_masks(scores: Mapping[str, Tensor], n: int = 2, m: int = 4) -> dict[str, Tensor]:
    """`nm_mask` of each layer.

    Raises: ValueError as `nm_mask`, with the layer's name: leave that one out.
    """
    masks = {}
    for name, score in scores.items():
        try:
            masks[name] = nm_mask(score, n, m)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return masks
