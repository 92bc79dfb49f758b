"""Pruning: which weights go, and how they stay gone."""

from coursekit.pruning.attach import attach_masks, finalize, masks_from_zeros, masks_of
from coursekit.pruning.iterative import (
    IterativePruner,
    PruningStep,
    prune_and_finetune,
    prune_further,
    weights_to_prune,
)
from coursekit.pruning.lottery import (
    Ticket,
    TicketRecipe,
    find_tickets,
    random_masks_like,
    rewind,
    ticket_sparsities,
    train_ticket,
)
from coursekit.pruning.masks import global_masks, make_masks, sparsity_of, topk_mask
from coursekit.pruning.schedules import Schedule, cubic_sparsity, linear_sparsity, relative_compounding
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
    "IterativePruner",
    "MovementScores",
    "PruningStep",
    "Schedule",
    "Ticket",
    "TicketRecipe",
    "attach_masks",
    "cubic_sparsity",
    "finalize",
    "find_tickets",
    "global_masks",
    "linear_sparsity",
    "magnitude_scores",
    "make_masks",
    "masks_from_zeros",
    "masks_of",
    "prunable",
    "prune_and_finetune",
    "prune_further",
    "random_masks_like",
    "random_scores",
    "relative_compounding",
    "rewind",
    "sparsity_of",
    "taylor_score",
    "taylor_scores",
    "ticket_sparsities",
    "topk_mask",
    "train_ticket",
    "weights_of",
    "weights_to_prune",
]
