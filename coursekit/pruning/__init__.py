"""Pruning: which weights go, and how they stay gone."""

from coursekit.pruning.attach import attach_masks, finalize, masks_from_zeros, masks_of
from coursekit.pruning.masks import global_masks, make_masks, sparsity_of, topk_mask
from coursekit.pruning.scores import (
    MovementScores,
    magnitude_scores,
    prunable,
    random_scores,
    taylor_score,
    taylor_scores,
    weights_of,
)

__all__ = [
    "MovementScores",
    "attach_masks",
    "finalize",
    "global_masks",
    "magnitude_scores",
    "make_masks",
    "masks_from_zeros",
    "masks_of",
    "prunable",
    "random_scores",
    "sparsity_of",
    "taylor_score",
    "taylor_scores",
    "topk_mask",
    "weights_of",
]
