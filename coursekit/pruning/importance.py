"""The policy: how much each unit of channels matters. A policy is any callable (model, graph, groups) -> (n_units,)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.data import Dataset
from coursekit.pruning.channels import channel_importance
from coursekit.pruning.graph import ChannelGraph
from coursekit.pruning.groups import Groups
from coursekit.train import eval_mode

__all__ = ["BatchNormScale", "Importance", "Magnitude", "RandomChannels", "Taylor"]

Importance = Callable[[nn.Module, ChannelGraph, Groups], Tensor]


def _norm_after(graph: ChannelGraph) -> dict[str, str]:
    """Layer to the batch norm that stands right behind it, if one does."""
    norms = {layer.ins: layer.name for layer in graph.layers.values() if layer.kind == "batch norm"}
    makers = (layer for layer in graph.layers.values() if layer.kind != "batch norm")
    return {layer.name: norms[layer.outs] for layer in makers if layer.outs in norms}


def _per_unit(groups: Groups, parts: list[tuple[tuple[int, ...], Tensor]], *, mean: bool) -> Tensor:
    """Values given at the indices of several dimensions, gathered by unit: their sum or their mean."""
    total, count = torch.zeros(groups.n_units), torch.zeros(groups.n_units)
    for labels, values in parts:
        unit = groups.units(labels)
        free = unit >= 0
        total.index_add_(0, unit[free], values[free].float())
        count.index_add_(0, unit[free], torch.ones(int(free.sum())))
    return total / count.clamp(min=1) if mean else total


@dataclass(frozen=True)
class Magnitude:
    """The mean p-norm of the weights of all layers in which the unit is an output.

    Attributes: p: 1 or 2. fold: multiply by what a batch norm right behind the layer multiplies by.
                inputs: also count the weights of the layers that read the channel.
                normalise: divide by the group's mean, so that layers of different sizes can be compared.
    Source:     Li et al. 2017, arXiv:1608.08710. Taught in lesson 06.
    """

    p: int = 2
    fold: bool = True
    inputs: bool = False
    normalise: bool = True

    def __call__(self, model: nn.Module, graph: ChannelGraph, groups: Groups) -> Tensor:
        """The importance of each unit, (n_units,)."""
        norm_after = _norm_after(graph) if self.fold else {}
        parts: list[tuple[tuple[int, ...], Tensor]] = []
        for layer in graph.layers.values():
            if layer.kind == "batch norm":
                continue
            weight = model.get_parameter(f"{layer.name}.weight").detach()
            scale = _scale(model, norm_after.get(layer.name))
            parts.append((layer.outs, channel_importance(weight, scale, self.p)))
            if self.inputs and layer.groups == 1:
                parts.append((layer.ins, channel_importance(weight.transpose(0, 1), None, self.p)))
        scores = _per_unit(groups, parts, mean=True)
        return _normalised(scores, groups) if self.normalise else scores


def _scale(model: nn.Module, name: str | None) -> Tensor | None:
    """gamma / sigma of a batch norm, or None."""
    module = model.get_submodule(name) if name else None
    if not isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) or module.running_var is None:
        return None
    sigma = (module.running_var + module.eps).sqrt()
    return (module.weight.detach() if module.affine else torch.ones_like(sigma)) / sigma


def _normalised(scores: Tensor, groups: Groups) -> Tensor:
    """Scores over the mean of their group."""
    result = scores.clone()
    for group in groups.groups:
        if group.units:
            units = torch.tensor(group.units)
            result[units] = scores[units] / scores[units].mean().clamp(min=1e-12)
    return result


@dataclass(frozen=True)
class BatchNormScale:
    """The mean |gamma| of the batch norms that a unit passes; a unit that passes none gets its normalised L1 norm.

    Source: Liu et al. 2017 (Network Slimming), arXiv:1708.06519. Taught in lesson 06.
    """

    def __call__(self, model: nn.Module, graph: ChannelGraph, groups: Groups) -> Tensor:
        """The importance of each unit, (n_units,)."""
        parts: list[tuple[tuple[int, ...], Tensor]] = []
        for layer in graph.layers.values():
            gamma = getattr(model.get_submodule(layer.name), "weight", None)
            if layer.kind == "batch norm" and isinstance(gamma, Tensor):
                parts.append((layer.outs, gamma.detach().abs()))
        passed = _per_unit(groups, [(labels, torch.ones(len(labels))) for labels, _ in parts], mean=False)
        scores = _per_unit(groups, parts, mean=True)
        return torch.where(passed > 0, scores, Magnitude(p=1)(model, graph, groups))


@dataclass(frozen=True)
class Taylor:
    """The square of the loss change that removing the unit would make, to first order, averaged over batches.

    Zeroing a factor g of a channel changes the loss by about -g dL/dg. That is asked of batch norm's scale and shift
    where one stands behind a layer, of its weights and bias elsewhere, and summed over the unit. All estimates are in
    units of the loss, so layers can be compared as they are.

    Attributes: data: training images and their labels. batch_size: images a gradient.
    Source:     Molchanov et al. 2019, arXiv:1906.10771, section 3. Taught in lesson 06.
    """

    data: Dataset
    batch_size: int = 100

    def __call__(self, model: nn.Module, graph: ChannelGraph, groups: Groups) -> Tensor:
        """The importance of each unit, (n_units,)."""
        probe = copy.deepcopy(model)
        for parameter in probe.parameters():
            parameter.requires_grad_(True)
        total = torch.zeros(groups.n_units)
        with eval_mode(probe):
            batches = self.data.images.split(self.batch_size), self.data.labels.split(self.batch_size)
            for images, labels in zip(*batches, strict=True):
                probe.zero_grad(set_to_none=True)
                F.cross_entropy(probe(images), labels).backward()
                total += self._first_order(probe, graph, groups).square() / len(batches[0])
        return total

    @staticmethod
    @torch.no_grad()
    def _first_order(probe: nn.Module, graph: ChannelGraph, groups: Groups) -> Tensor:
        norm_after = _norm_after(graph)
        parts: list[tuple[tuple[int, ...], Tensor]] = []
        for layer in graph.layers.values():
            if layer.kind == "batch norm":
                continue
            module = probe.get_submodule(norm_after.get(layer.name, layer.name))
            change = torch.zeros(len(layer.outs))
            for parameter in (module.weight, module.bias):
                if isinstance(parameter, Tensor) and parameter.grad is not None:
                    change += (parameter * parameter.grad).reshape(len(parameter), -1).sum(1)
            parts.append((layer.outs, change))
        return _per_unit(groups, parts, mean=False)


@dataclass(frozen=True)
class RandomChannels:
    """Uniform random numbers from a seed: the control that every policy has to beat."""

    seed: int = 0

    def __call__(self, model: nn.Module, graph: ChannelGraph, groups: Groups) -> Tensor:
        """The importance of each unit, (n_units,)."""
        return torch.rand(groups.n_units, generator=torch.Generator().manual_seed(self.seed))
