"""Known mistakes in making masks of scores, and in writing down what is left.

Each `wrong` makes one mistake and no other; a check recognises it by equal results on every probe. Probes hold no equal
scores: which of those go is free.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.spec import Mistake
from coursekit.exercises.weight_pruning.properties_masks import scores_like

__all__ = [
    "GLOBAL_MASKS",
    "NM_MASK",
    "TOPK_MASK",
    "global_probes",
    "nm_probes",
    "topk_probes",
]

Args = tuple[Any, ...]


def topk_probes() -> list[Args]:
    """Different scores of either sign in 1, 2 and 3 dimensions, shares that do not come out even, 0 and 1."""
    scores = scores_like(3, 4)
    return [
        (scores, 0.3),
        (scores, 0.0),
        (scores, 1.0),
        (scores_like(2, 3, 5), 0.72),
        (scores_like(10), 0.12),
    ]


def _lowest(scores: Tensor, n_pruned: int) -> Tensor:
    """The mask that is False at the n_pruned lowest of different scores."""
    rank = scores.flatten().argsort().argsort()
    return (rank >= n_pruned).reshape(scores.shape)


def _right(scores: Tensor, sparsity: float) -> Tensor:
    return _lowest(scores, round(sparsity * scores.numel()))


def _above_quantile(scores: Tensor, sparsity: float) -> Tensor:
    return scores > torch.quantile(scores.flatten(), sparsity)


def _from_quantile(scores: Tensor, sparsity: float) -> Tensor:
    return scores >= torch.quantile(scores.flatten(), sparsity)


def _by_row(scores: Tensor, sparsity: float) -> Tensor:
    rank = scores.argsort(dim=-1).argsort(dim=-1)
    return rank >= round(sparsity * scores.shape[-1])


TOPK_MASK = (
    Mistake("above_threshold", "You keep what is above a threshold. A threshold cannot split equal scores: it prunes "
            "one weight at sparsity 0, and everything where all are equal.", _above_quantile),
    Mistake("from_threshold", "You keep what is at or above a threshold. A threshold cannot split equal scores: where "
            "all are equal nothing goes, and at sparsity 1 one stays.", _from_quantile),
    Mistake("inverted", "Your mask is True where a weight goes. True means kept: it will be multiplied by the "
            "weight.", lambda s, p: ~_right(s, p)),
    Mistake("highest_go", "You prune the highest scores. High is important: those stay.", lambda s, p: _right(-s, p)),
    Mistake("rounded_down", "int() cuts the fraction off: 4.9 becomes 4. Use round().",
            lambda s, p: _lowest(s, int(p * s.numel()))),
    Mistake("rounded_up", "You round up: 1.2 becomes 2. Use round().",
            lambda s, p: _lowest(s, -int(-p * s.numel() // 1))),
    Mistake("keeps_that_share", "You keep the share that should go. Sparsity is the share of zeros.",
            lambda s, p: _right(s, 1 - p)),
    Mistake("takes_abs", "You take |scores|. The scores come ready: a negative one is the lowest there is.",
            lambda s, p: _right(s.abs(), p)),
    Mistake("each_row", "You rank along the last dimension only, each row by itself. Flatten the scores first.",
            _by_row),
    Mistake("flat", "The values are right, but the mask is flat: give it the shape of the scores.",
            lambda s, p: _right(s, p).flatten()),
    Mistake("not_bool", "The mask is right, but of numbers: make it bool, so that ~mask means the opposite.",
            lambda s, p: _right(s, p).float()),
)  # fmt: skip


def global_probes() -> list[Args]:
    """Layers of different size and scale, not in alphabetical order; some with zeros, in number below the target."""
    one = {"w": scores_like(2, 6, seed=1).abs() * 3, "a": scores_like(3, 2, 2, seed=2).abs() + 0.01}
    other = {
        "b": scores_like(4, 3, seed=3) + 1,
        "c": scores_like(5, 1, seed=4) + 0.93,
        "a": scores_like(3, seed=5),
    }
    zeros = {"b": torch.tensor([0.0, 0, 0, 3, 4, 5]), "a": torch.tensor([[7.0, 8], [9, 10]])}
    return [(one, 0.4), (other, 0.63), (one, 0.0), (other, 1.0), (zeros, 0.5)]


Masks = dict[str, Tensor]


def _each(scores: Masks, mask_of: Callable[[Tensor], Tensor]) -> Masks:
    return {name: mask_of(score) for name, score in scores.items()}


def _together(scores: Masks, n_pruned: Callable[[int], int]) -> Masks:
    """The right masks, for another number of weights."""
    flat = torch.cat([score.flatten() for score in scores.values()])
    mask = _lowest(flat, n_pruned(flat.numel()))
    pieces = mask.split([score.numel() for score in scores.values()])
    return {name: piece.reshape(scores[name].shape) for name, piece in zip(scores, pieces, strict=True)}


def _global(scores: Masks, sparsity: float) -> Masks:
    return _together(scores, lambda n: round(sparsity * n))


def _threshold(scores: Masks, sparsity: float) -> Masks:
    flat = torch.cat([score.flatten() for score in scores.values()])
    return _each(scores, lambda score: score > torch.quantile(flat, sparsity))


def _among_survivors(scores: Masks, sparsity: float) -> Masks:
    flat = torch.cat([score.flatten() for score in scores.values()])
    alive = flat[flat > 0]
    n_pruned = round(sparsity * alive.numel()) + flat.numel() - alive.numel()
    return _together(scores, lambda n: n_pruned)


def _sorted_names(scores: Masks, sparsity: float) -> Masks:
    """Joined in alphabetical order, taken apart in the dict's."""
    flat = torch.cat([scores[name].flatten() for name in sorted(scores)])
    mask = _lowest(flat, round(sparsity * flat.numel()))
    pieces = mask.split([score.numel() for score in scores.values()])
    return {name: piece.reshape(scores[name].shape) for name, piece in zip(scores, pieces, strict=True)}


GLOBAL_MASKS = (
    Mistake("each_layer", "Every layer loses the same share. That is the layer scope; here all scores are ranked "
            "together.", lambda s, p: _each(s, lambda score: _right(score, p))),
    Mistake("above_threshold", "You keep what is above one threshold. That cannot split equal scores, and at sparsity "
            "0 it still prunes one.", _threshold),
    Mistake("among_survivors", "You take the share of what is not zero yet, and the zeros on top. The target is a "
            "share of all weights: the zeros are part of it.", _among_survivors),
    Mistake("layer_normalised", "You divide each layer's scores by their mean before ranking. That is another method: "
            "rank them as they come.",
            lambda s, p: _global({name: score / score.mean() for name, score in s.items()}, p)),
    Mistake("order_of_names", "You join the layers in one order and take them apart in another: use scores.items() "
            "both times, and do not sort the names.", _sorted_names),
    Mistake("inverted", "Your masks are True where a weight goes. True means kept.",
            lambda s, p: _each(_global(s, p), torch.logical_not)),
    Mistake("highest_go", "You prune the highest scores. High is important: those stay.",
            lambda s, p: _global({name: -score for name, score in s.items()}, p)),
    Mistake("rounded_down", "int() cuts the fraction off. Use round(sparsity * n).",
            lambda s, p: _together(s, lambda n: int(p * n))),
    Mistake("flat", "The values are right, but the masks are flat: give each the shape of its scores.",
            lambda s, p: _each(_global(s, p), torch.flatten)),
    Mistake("keeps_that_share", "You keep the share that should go. Sparsity is the share of zeros.",
            lambda s, p: _global(s, 1 - p)),
)  # fmt: skip


def nm_probes() -> list[Args]:
    """Matrices whose rows, columns and groups order differently, for 2 of 4, 1 of 4 and 3 of 8."""
    return [(scores_like(4, 8), 2, 4), (scores_like(8, 12, seed=1), 1, 4), (scores_like(8, 16, seed=2), 3, 8)]


def _grouped(scores: Tensor, n: int, m: int) -> Tensor:
    return _ranks(scores.reshape(-1, m), m - n).reshape(scores.shape)


def _ranks(groups: Tensor, n_pruned: int) -> Tensor:
    return groups.argsort(dim=1).argsort(dim=1) >= n_pruned


def _strided(scores: Tensor, n: int, m: int) -> Tensor:
    rows, columns = scores.shape
    apart = scores.reshape(rows, m, columns // m).transpose(1, 2)
    return _grouped(apart, n, m).transpose(1, 2).reshape(rows, columns)


def _first_n(scores: Tensor, n: int, m: int) -> Tensor:
    return (torch.arange(scores.shape[1]) % m < n).expand(scores.shape).clone()


def _above_mean(scores: Tensor, n: int, m: int) -> Tensor:
    groups = scores.reshape(-1, m)
    return (groups > groups.mean(dim=1, keepdim=True)).reshape(scores.shape)


NM_MASK = (
    Mistake("down_the_columns", "Your groups run down the columns. They are neighbours in a row: inputs of one "
            "output.", lambda s, n, m: _grouped(s.T.contiguous(), n, m).T.contiguous()),
    Mistake("prunes_n", "You prune n of every m. n is how many stay; for 2 of 4 that is the same, for 1 of 4 not.",
            lambda s, n, m: _grouped(s, m - n, m)),
    Mistake("whole_rows", "The share is right in each row, but not in each group: some groups keep more than n.",
            lambda s, n, m: _ranks(s, round((1 - n / m) * s.shape[1]))),
    Mistake("whole_matrix", "The share is right overall, but not in each group: some groups keep more than n.",
            lambda s, n, m: _right(s, 1 - n / m)),
    Mistake("lowest_stay", "You keep the n lowest of each group. High is important.",
            lambda s, n, m: _grouped(-s, n, m)),
    Mistake("above_the_mean", "You keep what is above its group's mean: that may be one of four, or three.",
            _above_mean),
    Mistake("first_n", "You always keep the first n of each group, whatever their scores.", _first_n),
    Mistake("always_two_of_four", "You always keep 2 of 4. Use n and m.", lambda s, n, m: _grouped(s, 2, 4)),
    Mistake("strided", "Your groups are m weights that lie far apart in the row. Neighbours belong together: reshape "
            "to (…, m), with m last.", _strided),
    Mistake("inverted", "Your mask is True where a weight goes. True means kept.",
            lambda s, n, m: ~_grouped(s, n, m)),
    Mistake("not_back_in_shape", "The values are right, but the mask still has one row a group: give it the shape of "
            "the scores.", lambda s, n, m: _grouped(s, n, m).reshape(-1, m)),
)  # fmt: skip
