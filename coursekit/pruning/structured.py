"""Channel pruning of a whole network: a policy's scores and a target in, a smaller network out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from coursekit.pruning._budget import Budget
from coursekit.pruning.graph import ChannelGraph, trace_channels
from coursekit.pruning.groups import Group, Groups, channel_groups
from coursekit.pruning.importance import Importance, Magnitude
from coursekit.pruning.surgery import mask_units, remove_units

__all__ = ["ChannelPlan", "ChannelPruning", "plan_channels", "prune_channels"]

Allocation = Literal["uniform", "global", "per_mac"]


@dataclass(frozen=True)
class ChannelPruning:
    """How much to remove, and from where. Give either `macs` or `ratio`.

    Attributes: macs: the share of the network's MACs to keep, above 0 and up to 1; met within 2 % of it.
                ratio: the share of channels to remove from every group, from 0 to below 1.
                importance: a policy of `coursekit.pruning`, such as `Magnitude(p=1)`.
                allocation: with `macs`, which group gives up a channel next: "uniform" the one that has lost the
                smallest share; "global" the one with the least important channel; "per_mac" the one whose channel has
                the least importance per MAC that its removal saves.
                multiple_of: channels of a group go so many at a time, which keeps multiples of it multiples.
                ignore: names of layers whose output channels stay.
    Raises:     ValueError if not exactly one target is given or a number is out of range.
    """

    macs: float | None = None
    ratio: float | None = None
    importance: Importance = field(default_factory=Magnitude)
    allocation: Allocation = "uniform"
    multiple_of: int = 1
    ignore: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.macs is None) == (self.ratio is None):
            raise ValueError(
                "give either macs, the share of MACs to keep, or ratio, the share of channels to remove"
            )
        if self.macs is not None and not 0 < self.macs <= 1:
            raise ValueError(f"macs is the share to keep, above 0 and up to 1, got {self.macs}")
        if self.ratio is not None and not 0 <= self.ratio < 1:
            raise ValueError(f"ratio is the share to remove, from 0 to below 1, got {self.ratio}")
        if self.allocation not in ("uniform", "global", "per_mac"):
            raise ValueError(f"allocation must be uniform, global or per_mac, got {self.allocation!r}")
        if self.multiple_of < 1:
            raise ValueError(f"multiple_of must be at least 1, got {self.multiple_of}")


@dataclass(frozen=True)
class ChannelPlan:
    """What is to be removed from one network, before anything is.

    Attributes: model: the network, untouched. graph, groups: its channels. removed: numbers of the units that go.
                macs_before, macs_after: multiply-accumulates of one input.
    """

    model: nn.Module
    graph: ChannelGraph
    groups: Groups
    removed: tuple[int, ...]
    macs_before: int
    macs_after: int

    def cut(self) -> nn.Module:
        """A copy of the network without these channels."""
        return remove_units(self.model, self.graph, self.groups, self.removed)

    def mask(self) -> nn.Module:
        """A copy of the network, as large as before, with these channels zero; its output is that of `cut`."""
        return mask_units(self.model, self.graph, self.groups, self.removed)

    def __str__(self) -> str:
        gone = set(self.removed)
        rows = [
            f"{group.name}: {len(group.units)} -> {sum(unit not in gone for unit in group.units)}"
            for group in self.groups.groups
            if group.units
        ]
        share = self.macs_after / self.macs_before
        return "\n".join([*rows, f"MACs: {self.macs_before:,} -> {self.macs_after:,} ({share:.1%})"])


def plan_channels(model: nn.Module, example_input: Tensor, config: ChannelPruning) -> ChannelPlan:
    """What `prune_channels` would remove, with the groups and the MACs it comes to.

    Args, Raises: as `prune_channels`.
    """
    graph = trace_channels(model, example_input)
    groups = channel_groups(graph)
    unknown = set(config.ignore) - set(graph.layers)
    if unknown:
        raise ValueError(f"ignore names {sorted(unknown)}, but the layers are {', '.join(graph.layers)}")
    free = [group for group in groups.groups if group.units and not _ignored(group, config.ignore)]
    if not free:
        raise ValueError("there is no channel that could go: every group is fixed or ignored")
    scores = config.importance(model, graph, groups)
    if scores.shape != (groups.n_units,) or not scores.isfinite().all():
        raise ValueError(f"the importance must be {groups.n_units} finite numbers, got {tuple(scores.shape)}")
    budget = Budget(graph, groups)
    before = budget.macs
    order = {group.name: sorted(group.units, key=lambda unit: (float(scores[unit]), unit)) for group in free}
    if config.ratio is not None:
        removed = _by_ratio(order, config.ratio, config.multiple_of, budget)
    else:
        removed = _to_macs(order, scores, config, budget)
    return ChannelPlan(model, graph, groups, tuple(sorted(removed)), before, budget.macs)


def prune_channels(model: nn.Module, example_input: Tensor, config: ChannelPruning) -> nn.Module:
    """A new, smaller network: the least important channels are gone from every layer they run through.

    The classes at the output and the channels of the input stay, every layer keeps at least one channel, and the output
    equals that of the network with these channels set to zero. Fine-tune it afterwards.

    Args:    model: read, not changed. example_input: (N, C, ...), a batch the model runs on; one image is enough.
    Returns: a network of the same class, for training or `measure`; `save_file` of its state dict is its file.
    Raises:  UnsupportedError (a ValueError) naming what cannot be followed; ValueError if nothing can be removed, or
             the target cannot be met.
    Source:  Li et al. 2017, arXiv:1608.08710; Fang et al. 2023, arXiv:2301.12900. Taught in lesson 06.

    >>> import torch
    >>> from coursekit.models import resnet20
    >>> half = prune_channels(resnet20(), torch.zeros(1, 1, 28, 28), ChannelPruning(ratio=0.5))
    >>> half.conv1.weight.shape, half.fc.weight.shape
    (torch.Size([8, 1, 3, 3]), torch.Size([10, 32]))
    """
    return plan_channels(model, example_input, config).cut()


def _ignored(group: Group, ignore: tuple[str, ...]) -> bool:
    """Whether a layer whose outputs must stay makes channels of this group."""
    return any(layer in ignore and side != "inputs" for layer, side in group.members)


def _by_ratio(order: dict[str, list[int]], ratio: float, step: int, budget: Budget) -> list[int]:
    """The least important `ratio` of each group, rounded to whole steps."""
    removed: list[int] = []
    for units in order.values():
        n = min(round(len(units) * ratio / step) * step, len(units) - 1)
        for unit in units[: n - n % step]:
            if budget.may_remove([unit]):
                budget.remove([unit])
                removed.append(unit)
    return removed


def _to_macs(
    order: dict[str, list[int]], scores: Tensor, config: ChannelPruning, budget: Budget
) -> list[int]:
    """Units removed one step after another until the share of MACs is reached.

    A step that would leave less than 98 % of the target is passed over, as long as a finer one is left.
    """
    target = config.macs * budget.macs if config.macs is not None else 0.0
    sizes = {name: len(units) for name, units in order.items()}
    queues = {name: list(units) for name, units in order.items()}
    removed: list[int] = []
    while budget.macs > target:
        steps: list[tuple[float, bool, str, list[int]]] = []
        for name, units in queues.items():
            step = units[: config.multiple_of]
            if len(units) <= config.multiple_of or not budget.may_remove(step):
                continue
            saved = budget.saved(step)
            price = {
                "uniform": 1 - (len(units) - len(step)) / sizes[name],
                "global": sum(float(scores[unit]) for unit in step) / len(step),
                "per_mac": sum(float(scores[unit]) for unit in step) / max(saved, 1),
            }[config.allocation]
            steps.append((price, budget.macs - saved < 0.98 * target, name, step))
        fine = [each for each in steps if not each[1]]
        if not steps or (not fine and budget.macs <= 1.02 * target):
            break
        # only coarse steps are left: the one that lands nearest
        chosen = min(fine) if fine else min(steps, key=lambda each: budget.saved(each[3]))
        budget.remove(chosen[3])
        removed += chosen[3]
        queues[chosen[2]] = queues[chosen[2]][config.multiple_of :]
    if not 0.98 * target <= budget.macs <= 1.02 * target:
        raise ValueError(
            f"{target:,.0f} MACs cannot be met within 2 %: the nearest found is {budget.macs:,}; "
            "choose another share, or a smaller multiple_of"
        )
    return removed
