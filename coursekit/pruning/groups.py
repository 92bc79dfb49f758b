"""Channels that can only go together: units, and the groups of layers that share them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from coursekit.pruning.channels import coupled_layers
from coursekit.pruning.graph import ChannelGraph

__all__ = ["Group", "Groups", "channel_groups"]


@dataclass(frozen=True)
class Group:
    """Layers that lose the same channels.

    Attributes: name: of the first layer that makes its channels. units: numbers of what can be removed, one at a time.
                members: (layer, "outputs" | "inputs" | "channels") of each tensor dimension that shrinks.
                reasons: why they go together. fixed: why nothing can be removed, or "".
    """

    name: str
    units: tuple[int, ...]
    members: tuple[tuple[str, str], ...]
    reasons: tuple[str, ...]
    fixed: str = ""

    def __str__(self) -> str:
        head = f"{self.name}: " + (
            f"stays, it is {self.fixed}" if self.fixed else f"{len(self.units)} channels that can go"
        )
        rows = [f"  {side:<8} of {layer}" for layer, side in self.members]
        return "\n".join([head, *rows, *(f"  because: {reason}" for reason in self.reasons)])


@dataclass(frozen=True)
class Groups:
    """All groups of a network.

    Attributes: groups: in the network's order. unit_of: int64 (n_labels,), the unit of each label, -1 if it stays.
    """

    groups: tuple[Group, ...]
    unit_of: Tensor

    def __str__(self) -> str:
        return "\n".join(str(group) for group in self.groups)

    @property
    def n_units(self) -> int:
        """How many units there are."""
        return sum(len(group.units) for group in self.groups)

    def units(self, labels: tuple[int, ...]) -> Tensor:
        """The unit at each index of a layer's dimension, int64; -1 where the channel stays."""
        return self.unit_of[torch.tensor(labels, dtype=torch.int64)]


def _representatives(graph: ChannelGraph) -> Tensor:
    """For each label the smallest label that ties make it equal to."""
    parent = list(range(graph.n_labels))

    def root(label: int) -> int:
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = parent[label]
        return label

    for tie in graph.ties:
        a, b = sorted((root(tie.a), root(tie.b)))
        parent[b] = a
    return torch.tensor([root(label) for label in range(graph.n_labels)], dtype=torch.int64)


def channel_groups(graph: ChannelGraph) -> Groups:
    """The groups of a network: units are labels that ties connect; layers whose outputs share one are a group.

    Source: Fang et al. 2023 (DepGraph), arXiv:2301.12900, section 3.2. Taught in lesson 06.
    """
    root = _representatives(graph).tolist()
    makers = [layer for layer in graph.layers.values() if layer.kind != "batch norm"]
    first_maker: dict[int, str] = {}
    edges: list[tuple[str, str]] = []
    for layer in makers:
        for label in set(layer.outs):
            edges.append((first_maker.setdefault(root[label], layer.name), layer.name))
    fixed = {root[label]: reason for label, reason in graph.fixed.items()}
    unit_of_root: dict[int, int] = {}
    groups: list[Group] = []
    for names in coupled_layers([layer.name for layer in makers], edges):
        roots = dict.fromkeys(root[label] for name in names for label in graph.layers[name].outs)
        why = next((fixed[each] for each in roots if each in fixed), "")
        first = len(unit_of_root)
        unit_of_root.update((each, first + i) for i, each in enumerate(r for r in roots if r not in fixed))
        units = tuple(range(first, len(unit_of_root)))
        groups.append(
            Group(names[0], units, _members(graph, set(roots), root), _reasons(graph, set(roots), root),
                  "" if units else why)
        )  # fmt: skip
    unit_of = torch.tensor([unit_of_root.get(each, -1) for each in root], dtype=torch.int64)
    return Groups(tuple(groups), unit_of)


def _members(graph: ChannelGraph, roots: set[int], root: list[int]) -> tuple[tuple[str, str], ...]:
    """Every (layer, side) that one of these channels runs along."""
    found: list[tuple[str, str]] = []
    for layer in graph.layers.values():
        meets_out = any(root[label] in roots for label in layer.outs)
        if layer.kind == "batch norm" or layer.depthwise:
            found += [(layer.name, "channels")] if meets_out else []
            continue
        found += [(layer.name, "outputs")] if meets_out else []
        found += [(layer.name, "inputs")] if any(root[label] in roots for label in layer.ins) else []
    return tuple(found)


def _reasons(graph: ChannelGraph, roots: set[int], root: list[int]) -> tuple[str, ...]:
    """The different reasons of the ties among these channels, in the order they were found."""
    return tuple(dict.fromkeys(tie.reason for tie in graph.ties if root[tie.a] in roots))
