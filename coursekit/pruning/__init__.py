"""Pruning: which weights go, how they stay gone, and what that is worth."""

from coursekit.pruning.attach import attach_masks, finalize, masks_from_zeros, masks_of
from coursekit.pruning.channels import (
    channel_importance,
    choose_channels,
    conv_macs,
    coupled_layers,
    cut_conv_bn_conv,
    flat_indices,
)
from coursekit.pruning.counting import effective_weights, nonzero_of_state
from coursekit.pruning.graph import ChannelGraph, UnsupportedError, trace_channels
from coursekit.pruning.groups import Group, Groups, channel_groups
from coursekit.pruning.importance import BatchNormScale, Magnitude, RandomChannels, Taylor
from coursekit.pruning.iterative import (
    IterativePruner,
    PruningStep,
    prune_and_finetune,
    prune_further,
    prune_iteratively,
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
from coursekit.pruning.measured import measured_curves
from coursekit.pruning.nm import nm_mask, nm_masks
from coursekit.pruning.pruner import MagnitudePruner
from coursekit.pruning.schedules import (
    Schedule,
    cubic_sparsity,
    linear_sparsity,
    pruning_steps,
    relative_compounding,
)
from coursekit.pruning.scores import (
    MovementScores,
    magnitude_scores,
    prunable,
    random_scores,
    taylor_score,
    taylor_scores,
    weights_of,
)
from coursekit.pruning.sensitivity import Scan, layer_sparsities, sensitivity_scan
from coursekit.pruning.sparse import SparseLinear, from_csr, load_sparse, save_sparse, sparse_linear, to_csr
from coursekit.pruning.steps import adam_step, masked_adam
from coursekit.pruning.structured import ChannelPlan, ChannelPruning, plan_channels, prune_channels
from coursekit.pruning.surgery import mask_units, remove_units

__all__ = [
    "BatchNormScale",
    "ChannelGraph",
    "ChannelPlan",
    "ChannelPruning",
    "Group",
    "Groups",
    "IterativePruner",
    "Magnitude",
    "MagnitudePruner",
    "MovementScores",
    "PruningStep",
    "RandomChannels",
    "Scan",
    "Schedule",
    "SparseLinear",
    "Taylor",
    "Ticket",
    "TicketRecipe",
    "UnsupportedError",
    "adam_step",
    "attach_masks",
    "channel_groups",
    "channel_importance",
    "choose_channels",
    "conv_macs",
    "coupled_layers",
    "cubic_sparsity",
    "cut_conv_bn_conv",
    "effective_weights",
    "finalize",
    "find_tickets",
    "flat_indices",
    "from_csr",
    "global_masks",
    "layer_sparsities",
    "linear_sparsity",
    "load_sparse",
    "magnitude_scores",
    "make_masks",
    "mask_units",
    "masked_adam",
    "masks_from_zeros",
    "masks_of",
    "measured_curves",
    "nm_mask",
    "nm_masks",
    "nonzero_of_state",
    "plan_channels",
    "prunable",
    "prune_and_finetune",
    "prune_channels",
    "prune_further",
    "prune_iteratively",
    "pruning_steps",
    "random_masks_like",
    "random_scores",
    "relative_compounding",
    "remove_units",
    "rewind",
    "save_sparse",
    "sensitivity_scan",
    "sparse_linear",
    "sparsity_of",
    "taylor_score",
    "taylor_scores",
    "ticket_sparsities",
    "to_csr",
    "topk_mask",
    "trace_channels",
    "train_ticket",
    "weights_of",
    "weights_to_prune",
]
