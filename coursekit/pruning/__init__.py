"""Pruning: weights set to zero, or channels that are really gone."""

from coursekit.pruning.channels import (
    channel_importance,
    choose_channels,
    conv_macs,
    coupled_layers,
    cut_conv_bn_conv,
    flat_indices,
)
from coursekit.pruning.graph import ChannelGraph, UnsupportedError, trace_channels
from coursekit.pruning.groups import Group, Groups, channel_groups
from coursekit.pruning.importance import BatchNormScale, Magnitude, RandomChannels, Taylor
from coursekit.pruning.structured import ChannelPlan, ChannelPruning, plan_channels, prune_channels
from coursekit.pruning.surgery import mask_units, remove_units

__all__ = [
    "BatchNormScale",
    "ChannelGraph",
    "ChannelPlan",
    "ChannelPruning",
    "Group",
    "Groups",
    "Magnitude",
    "RandomChannels",
    "Taylor",
    "UnsupportedError",
    "channel_groups",
    "channel_importance",
    "choose_channels",
    "conv_macs",
    "coupled_layers",
    "cut_conv_bn_conv",
    "flat_indices",
    "mask_units",
    "plan_channels",
    "prune_channels",
    "remove_units",
    "trace_channels",
]
