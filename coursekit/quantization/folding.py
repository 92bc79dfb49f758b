"""Batch norm folded into the layer before it: one layer less, and a weight that can be quantized as it is used."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn

__all__ = ["fold_batch_norm", "fold_batch_norms"]

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold_batch_norm(
    conv_weight: Tensor,
    conv_bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one layer that does what a convolution or linear layer and its batch norm do together.

    With gain = weight / sqrt(var + eps), one a channel: conv_weight * gain and (conv_bias - mean) * gain + bias.

    Args:    conv_weight: (C_out, ...), of a convolution or a linear layer, not of a transposed convolution.
             conv_bias: (C_out,), or None for none. mean, var: (C_out,), the running statistics of the batch norm.
             weight, bias: (C_out,), its scale and shift, or None where it has none. eps: as in the batch norm.
    Returns: weight, the shape of conv_weight; bias, (C_out,).
    Raises:  ValueError if the channels do not match, var is negative somewhere, or var + eps is not above 0.
    Source:  Jacob et al. 2018, arXiv:1712.05877, section 3.2; Krishnamoorthi 2018, arXiv:1806.08342, section 3.2.2.
             Taught in lesson 02.

    >>> one = torch.ones(1)
    >>> fold_batch_norm(torch.ones(1, 1), None, mean=2 * one, var=4 * one, weight=6 * one, bias=one, eps=0.0)
    (tensor([[3.]]), tensor([-5.]))
    """
    channels = len(conv_weight)
    for name, each in {
        "mean": mean,
        "var": var,
        "weight": weight,
        "bias": bias,
        "conv_bias": conv_bias,
    }.items():
        if each is not None and each.shape != (channels,):
            raise ValueError(
                f"{name} has shape {tuple(each.shape)}, but the layer has {channels} output channels"
            )
    if (var < 0).any() or not (var + eps > 0).all():
        raise ValueError(
            f"var + eps must be above 0, the smallest var is {var.min().item():g} and eps {eps:g}"
        )
    gain = torch.rsqrt(var + eps) * (1.0 if weight is None else weight)
    shift = -mean if conv_bias is None else conv_bias - mean
    folded = conv_weight * gain.reshape(-1, *[1] * (conv_weight.dim() - 1))
    return folded, shift * gain + (0.0 if bias is None else bias)


def fold_batch_norms(model: nn.Module) -> fx.GraphModule:
    """A copy of an eval-mode model in which every batch norm that follows a convolution or linear layer is folded.

    A batch norm stays where folding would change the result: the layer before it also feeds something else, or one of
    the two is used more than once, or it keeps no running statistics. After a linear layer, (N, C) is assumed.

    Args:    model: in eval mode, traceable by torch.fx; left as it is.
    Returns: a GraphModule in eval mode whose layers have the names they had; the folded batch norms are gone.
    Raises:  ValueError if the model, or a module of it, is in training mode: a batch norm that still follows its
             batches has nothing fixed to fold.
    Source:  as `fold_batch_norm`; the way over the graph as torch.fx.experimental.optimization.fuse.
    """
    training = [name or type(model).__name__ for name, module in model.named_modules() if module.training]
    if training:
        raise ValueError(f"call model.eval() before folding: {training[0]} is in training mode")
    graph_module = fx.symbolic_trace(copy.deepcopy(model))
    modules = dict(graph_module.named_modules())
    calls = [node.target for node in graph_module.graph.nodes if node.op == "call_module"]
    for node in list(graph_module.graph.nodes):
        layer = _foldable(node, modules, calls)
        if layer is None:
            continue
        _fold_into(layer, modules[str(node.target)])
        node.replace_all_uses_with(node.args[0])
        graph_module.graph.erase_node(node)
    graph_module.delete_all_unused_submodules()
    graph_module.recompile()
    return graph_module.eval()


def _foldable(node: fx.Node, modules: dict[str, nn.Module], calls: list[object]) -> nn.Module | None:
    """The layer that this node's batch norm may be folded into, or None."""
    if node.op != "call_module" or not isinstance(norm := modules[str(node.target)], _NORMS):
        return None
    before = node.args[0] if node.args else None
    if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
        return None
    layer = modules[str(before.target)]
    once = calls.count(node.target) == 1 and calls.count(before.target) == 1
    if not isinstance(layer, _LAYERS) or not once or norm.running_mean is None:
        return None
    return layer if len(layer.weight) == norm.num_features else None


def _fold_into(layer: Any, norm: Any) -> None:
    weight, bias = fold_batch_norm(
        layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps
    )
    layer.weight = nn.Parameter(weight.detach(), requires_grad=layer.weight.requires_grad)
    layer.bias = nn.Parameter(bias.detach(), requires_grad=layer.weight.requires_grad)
