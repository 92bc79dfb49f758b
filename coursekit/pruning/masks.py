"""Which weights to keep, exactly: masks (True is kept) from scores, one tensor or a whole network at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

__all__ = ["global_masks", "make_masks", "sparsity_of", "topk_mask"]

Scope = Literal["global", "layer"]


def _n_pruned(sparsity: float, n: int) -> int:
    """How many of n weights a sparsity asks for."""
    if isinstance(sparsity, bool) or not isinstance(sparsity, (int, float)) or not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity is the share of weights that go, from 0 to 1, got {sparsity!r}")
    return round(sparsity * n)


def topk_mask(scores: Tensor, sparsity: float) -> Tensor:
    """False at the round(sparsity * n) lowest of n scores, True elsewhere; the first of equals go first.

    Args:    scores: any shape, finite. sparsity: 0 to 1.
    Returns: bool, the shape of scores, with exactly that many False.
    Raises:  ValueError if sparsity is outside 0..1 or a score is NaN or infinite.
    Source:  Taught in lesson 05.

    >>> topk_mask(torch.tensor([0.2, 0.2, 0.2, 0.9]), 0.5)
    tensor([False, False,  True,  True])
    """
    if not scores.isfinite().all():
        raise ValueError("a score is nan or infinite: find out where it comes from before you prune")
    n_pruned = _n_pruned(sparsity, scores.numel())
    # A threshold cannot split equal scores; an order that keeps equals in place can.
    order = scores.flatten().argsort(stable=True)
    mask = torch.ones(scores.numel(), dtype=torch.bool, device=scores.device)
    mask[order[:n_pruned]] = False
    return mask.reshape(scores.shape)


def global_masks(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """`topk_mask` over all scores as if they were one tensor: layers compete for the same budget.

    Args:    scores: name to scores, any shapes. sparsity: 0 to 1, of all weights together.
    Returns: name to bool mask of the same shape.
    Raises:  ValueError as `topk_mask`.
    Source:  Taught in lesson 05.
    """
    if not scores:
        return {}
    mask = topk_mask(torch.cat([score.flatten() for score in scores.values()]), sparsity)
    pieces = mask.split([score.numel() for score in scores.values()])
    return {
        name: piece.reshape(score.shape) for (name, score), piece in zip(scores.items(), pieces, strict=True)
    }


def make_masks(
    scores: Mapping[str, Tensor],
    sparsity: float | Mapping[str, float],
    scope: Scope = "global",
    *,
    within: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Masks that keep the highest scores, with the sparsity asked for to one weight.

    Args:    scores: name to scores, as `magnitude_scores` and its siblings give them.
             sparsity: 0 to 1, the share that goes; a dict gives each layer its own.
             scope: "global" ranks all weights together, "layer" each layer by itself (so does a dict).
             within: masks of weights that are gone already: they stay gone and count towards the target.
    Returns: name to bool mask, True = kept; round(sparsity * n) are False, of all weights or of each layer.
    Raises:  ValueError if sparsity is outside 0..1, names or shapes do not fit, a score is not finite, or
             more weights are gone already than the target lets go.
    Source:  Taught in lesson 05.

    >>> scores = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 4.0])}
    >>> make_masks(scores, 0.5)["a"], make_masks(scores, 0.5, scope="layer")["a"]
    (tensor([False, False]), tensor([False,  True]))
    """
    if scope not in ("global", "layer"):
        raise ValueError(f"scope must be 'global' or 'layer', got {scope!r}")
    for name, score in scores.items():
        if not score.isfinite().all():
            raise ValueError(f"a score of {name} is nan or infinite: find out why before you prune")
    ranked = dict(scores) if within is None else _gone_last(scores, within)
    if isinstance(sparsity, Mapping):
        _check_names(sparsity, scores, "sparsity")
        masks = {name: topk_mask(score, sparsity[name]) for name, score in ranked.items()}
    elif scope == "layer":
        masks = {name: topk_mask(score, sparsity) for name, score in ranked.items()}
    else:
        masks = global_masks(ranked, sparsity)
    if within is not None:
        for name, mask in masks.items():
            if (mask & ~within[name]).any():
                raise ValueError(
                    f"{name}: {int((~within[name]).sum())} of {mask.numel()} weights are gone already, more "
                    "than the sparsity asks for; ask for more, or leave out `within`"
                )
    return masks


def _check_names(given: Mapping[str, object], scores: Mapping[str, object], what: str) -> None:
    """Nothing, if both have the same names; else a ValueError with the first that differs."""
    for name in sorted(set(given) ^ set(scores)):
        raise ValueError(
            f"{what} has {name!r}, but there are no scores of it"
            if name in given
            else f"{what} lacks {name!r}"
        )


def _gone_last(scores: Mapping[str, Tensor], within: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The ranks of the scores, from 1 over all layers, and 0 where a weight is gone already."""
    _check_names(within, scores, "within")
    for name, score in scores.items():
        if within[name].shape != score.shape:
            raise ValueError(f"within[{name!r}] is {tuple(within[name].shape)}, not {tuple(score.shape)}")
    if not scores:
        return {}
    flat = torch.cat([score.flatten() for score in scores.values()])
    rank = torch.empty(flat.numel(), dtype=torch.float64, device=flat.device)
    order = flat.argsort(stable=True)
    rank[order] = torch.arange(1, flat.numel() + 1, dtype=torch.float64, device=flat.device)
    pieces = rank.split([score.numel() for score in scores.values()])
    return {
        name: piece.reshape(score.shape) * within[name]
        for (name, score), piece in zip(scores.items(), pieces, strict=True)
    }


def sparsity_of(masks: Mapping[str, Tensor]) -> float:
    """The share of False in all masks together, 0 to 1.

    Raises: ValueError if there is no mask or all are empty.

    >>> sparsity_of({"a": torch.tensor([True, False]), "b": torch.tensor([False, False])})
    0.75
    """
    total = sum(mask.numel() for mask in masks.values())
    if total == 0:
        raise ValueError("there is no mask, or all of them are empty")
    return sum(int((~mask).sum()) for mask in masks.values()) / total
