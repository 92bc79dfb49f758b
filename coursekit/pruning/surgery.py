"""The mechanism: channels really removed, or only set to zero. Which ones is decided elsewhere."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from coursekit.pruning.graph import ChannelGraph, Layer
from coursekit.pruning.groups import Groups

__all__ = ["mask_units", "remove_units"]


def _kept(groups: Groups, labels: tuple[int, ...], removed: Tensor) -> Tensor:
    """Indices of a layer's dimension whose unit is not removed, int64."""
    return torch.nonzero(~torch.isin(groups.units(labels), removed)).flatten()


def remove_units(model: nn.Module, graph: ChannelGraph, groups: Groups, units: Iterable[int]) -> nn.Module:
    """A copy of the model in which the channels of these units do not exist any more.

    Args:    model: the network the graph was traced from; left as it is. units: numbers from `groups`.
    Returns: the same class with smaller tensors; every other attribute, mode and flag as it was.
    Raises:  ValueError if a layer would lose its last channel.
    """
    removed = torch.tensor(sorted(units), dtype=torch.int64)
    result = copy.deepcopy(model)
    plan: list[tuple[Layer, Tensor, Tensor]] = []
    for layer in graph.layers.values():
        ins, outs = (_kept(groups, labels, removed) for labels in (layer.ins, layer.outs))
        if not len(ins) or not len(outs):
            raise ValueError(f"{layer.name} would lose its last channel; remove fewer")
        plan.append((layer, ins, outs))
    with torch.no_grad():
        for layer, ins, outs in plan:
            module = result.get_submodule(layer.name)
            (_cut_batch_norm if layer.kind == "batch norm" else _cut_layer)(module, layer, ins, outs)
    return result


def _replace(module: nn.Module, name: str, value: Tensor) -> None:
    """Puts a smaller tensor where a parameter or buffer was."""
    old = getattr(module, name)
    if isinstance(old, nn.Parameter):
        setattr(module, name, nn.Parameter(value.clone(), requires_grad=old.requires_grad))
    else:
        setattr(module, name, value.clone())


def _cut_batch_norm(module: Any, layer: Layer, ins: Tensor, outs: Tensor) -> None:
    for name in ("weight", "bias", "running_mean", "running_var"):
        if getattr(module, name) is not None:
            _replace(module, name, getattr(module, name)[outs])
    module.num_features = len(outs)


def _cut_layer(module: Any, layer: Layer, ins: Tensor, outs: Tensor) -> None:
    """Rows by outputs, columns by inputs; in a grouped convolution every group keeps the same columns."""
    weight = module.weight[outs]
    if layer.depthwise:
        module.groups = len(ins)
    elif len(ins) < len(layer.ins):
        share = len(layer.ins) // layer.groups
        weight = weight[:, ins[ins < share]]
    _replace(module, "weight", weight)
    if module.bias is not None:
        _replace(module, "bias", module.bias[outs])
    names = ("in_features", "out_features") if layer.kind == "linear" else ("in_channels", "out_channels")
    for name, kept in zip(names, (ins, outs), strict=True):
        setattr(module, name, len(kept))


def mask_units(model: nn.Module, graph: ChannelGraph, groups: Groups, units: Iterable[int]) -> nn.Module:
    """A copy of the model, as large as before, in which the channels of these units are zero.

    Zero are the weights and biases that make them and batch norm's scale and shift. What reads them is left alone.

    Args: as `remove_units`.
    """
    removed = torch.tensor(sorted(units), dtype=torch.int64)
    result = copy.deepcopy(model)
    with torch.no_grad():
        for layer in graph.layers.values():
            module = result.get_submodule(layer.name)
            gone = torch.isin(groups.units(layer.outs), removed)
            for parameter in (module.weight, module.bias):
                if isinstance(parameter, Tensor):
                    parameter[gone] = 0
            if layer.kind == "batch norm" and module.weight is None:
                module.running_mean[gone] = 0  # its input is 0, and so is what it takes away
    return result
