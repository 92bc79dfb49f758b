"""Repairs for networks whose channels differ too much for one scale: cross-layer equalization, bias correction."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from coursekit.quantization.quantizers import QATLayer, switched_off

__all__ = ["ChannelClip", "Tracer", "bias_correction", "correct_biases", "equalization_scale", "equalize"]

_LAYERS = (nn.Conv2d, nn.Linear)
_UNLIMITED: tuple[object, ...] = (F.relu, torch.relu, "relu")


class ChannelClip(nn.Module):
    """max(0, min(x, limit)) with one limit a channel: what a ReLU6 becomes when its input's channels are rescaled.

    Args: limit: (C,), above 0; x is (N, C, …).
    """

    limit: Tensor

    def __init__(self, limit: Tensor) -> None:
        super().__init__()
        self.register_buffer("limit", limit.clone())

    def forward(self, x: Tensor) -> Tensor:
        """The clipped x."""
        limit = self.limit.reshape(-1, *[1] * (x.dim() - 2)).to(x.dtype)
        return torch.minimum(x.clamp(min=0), limit)


class Tracer(fx.Tracer):
    """torch.fx's tracer, for which a `ChannelClip` is one operation like a ReLU."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether the graph calls this module as a whole."""
        return isinstance(m, ChannelClip) or super().is_leaf_module(m, module_qualified_name)

    def graph_module(self, model: nn.Module) -> fx.GraphModule:
        """A copy of the model, in eval mode, as a graph."""
        copied = copy.deepcopy(model).eval()
        return fx.GraphModule(copied, self.trace(copied)).eval()


def equalization_scale(weight1: Tensor, weight2: Tensor) -> Tensor:
    """The factor of each channel between two layers that makes both layers' ranges in that channel equal.

    Divide output channel i of the first layer, weight and bias, by s[i] and multiply input channel i of the second by
    it: nothing changes in the network, with a ReLU between them or without, and both have sqrt(r1 * r2) as range.

    Args:    weight1: (C, …), the first layer's. weight2: (M, C, …), the second's.
    Returns: s, (C,), above 0; r1 = max|weight1[i]|, r2 = max|weight2[:, i]|: s = sqrt(r1 / r2). 1 where either is 0.
    Raises:  ValueError if the second does not take as many channels as the first makes.
    Source:  Nagel et al. 2019, arXiv:1906.04721, equation 11. Taught in lesson 03.

    >>> equalization_scale(torch.tensor([[8.0], [0.5]]), torch.tensor([[2.0, 2.0]]))
    tensor([2.0000, 0.5000])
    """
    if weight2.dim() < 2 or len(weight1) != weight2.shape[1]:
        raise ValueError(
            f"weight1 {tuple(weight1.shape)} makes {len(weight1)} channels, weight2 {tuple(weight2.shape)} takes others"
        )
    r1 = weight1.abs().flatten(1).amax(1)
    r2 = weight2.abs().transpose(0, 1).flatten(1).amax(1)
    return torch.where((r1 > 0) & (r2 > 0), torch.sqrt(r1 / r2), 1.0)


def bias_correction(weight: Tensor, quantized: Tensor, bias: Tensor, input_mean: Tensor) -> Tensor:
    """The bias with which a linear layer's quantized weight has the mean output that its weight had.

    Args:    weight, quantized: (M, K), before and after. bias: (M,). input_mean: (K,), of the layer's inputs.
    Returns: (M,): bias - (quantized - weight) @ input_mean.
    Source:  Nagel et al. 2019, arXiv:1906.04721, section 4.2. Taught in lesson 03.

    >>> bias_correction(torch.tensor([[0.4]]), torch.tensor([[0.5]]), torch.tensor([1.0]), torch.tensor([2.0]))
    tensor([0.8000])
    """
    return bias - (quantized - weight) @ input_mean


@torch.no_grad()
def equalize(model: nn.Module, n_rounds: int = 20, *, exact: bool = True) -> fx.GraphModule:
    """A copy of a folded network in which the ranges of neighbouring layers' channels are equal, wherever possible.

    For each two layers with nothing but a ReLU or ReLU6 between them, and no other use of what is in between, channels
    are rescaled by `equalization_scale`; a chain of three needs several rounds.

    Args:    model: eval mode, batch norms folded, traceable by torch.fx; left as it is. n_rounds: at least 1.
             exact: turn each ReLU6 into a `ChannelClip`, so that the outputs stay the same up to float rounding; False
             turns it into a ReLU, as the paper does: simpler to compute, and a slightly different network.
    Returns: a GraphModule in eval mode.
    Raises:  ValueError if n_rounds is below 1, or no two layers follow each other so.
    Source:  Nagel et al. 2019, arXiv:1906.04721, section 4.1. Taught in lesson 03.
    """
    if n_rounds < 1:
        raise ValueError(f"n_rounds must be at least 1, got {n_rounds}")
    result = Tracer().graph_module(model)
    modules: dict[Any, Any] = dict(result.named_modules())
    pairs = [pair for node in result.graph.nodes if (pair := _pair(node, modules)) is not None]
    if not pairs:
        raise ValueError(
            "no two layers follow each other with only a ReLU between them; fold batch norms first"
        )
    factors = {first: modules[first].weight.new_ones(len(modules[first].weight)) for first, _, _ in pairs}
    for _ in range(n_rounds):
        for first, _, second in pairs:
            factors[first] *= _rescale(modules[first], modules[second])
    for first, between, _ in pairs:
        if between is not None and isinstance(modules[between], nn.ReLU6):
            result.set_submodule(between, ChannelClip(6.0 / factors[first]) if exact else nn.ReLU())
    result.recompile()
    return result.eval()


def _pair(node: fx.Node, modules: Mapping[Any, Any]) -> tuple[Any, Any, Any] | None:
    """The names of this layer, of the activation module after it if there is one, and of the next layer."""
    if node.op != "call_module" or not isinstance(modules[node.target], _LAYERS) or len(node.users) != 1:
        return None
    after, between = next(iter(node.users)), None
    if after.op == "call_module" and isinstance(modules[after.target], nn.ReLU | nn.ReLU6):
        between = after.target
        after = next(iter(after.users)) if len(after.users) == 1 else after
    elif after.target in _UNLIMITED and len(after.users) == 1:
        after = next(iter(after.users))
    if after.op != "call_module" or not isinstance(second := modules[after.target], _LAYERS):
        return None
    ordinary = isinstance(second, nn.Linear) or second.groups == 1
    return (node.target, between, after.target) if ordinary or _is_depthwise(second) else None


def _is_depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels == layer.out_channels


def _rescale(first: Any, second: Any) -> Tensor:
    """One step for one pair, in place; returns the factors."""
    # A depthwise weight (C, 1, K, K) takes channel c in row c: turned round, it is like any other second layer.
    as_second = second.weight.transpose(0, 1) if _is_depthwise(second) else second.weight
    scale = equalization_scale(first.weight, as_second)
    first.weight.div_(_along(scale, first.weight, 0))
    if first.bias is not None:
        first.bias.div_(scale)
    second.weight.mul_(_along(scale, second.weight, 0 if _is_depthwise(second) else 1))
    return scale


def _along(scale: Tensor, weight: Tensor, dim: int) -> Tensor:
    return scale.reshape([-1 if d == dim else 1 for d in range(weight.dim())])


@torch.no_grad()
def correct_biases(model: nn.Module, images: Tensor) -> nn.Module:
    """A copy of a prepared and calibrated model whose biases make up for the mean error of quantization.

    Rounding the few weights of a depthwise filter shifts the mean of its output. The same shift for every image is what
    a bias can undo. Layer by layer, the mean of each output channel is brought to that of the float network, and the
    next layer sees the corrected output.

    Args:    model: from `prepare_qat`, after `calibrate`; left as it is. images: (N, …), N above 0, in one batch.
    Returns: the copy, in eval mode.
    Raises:  ValueError if there are no images, or nothing in the model is quantized.
    Source:  Nagel et al. 2019, arXiv:1906.04721, section 4.2 and appendix D. Taught in lesson 03.
    """
    result = copy.deepcopy(model).eval()
    layers = [module for module in result.modules() if isinstance(module, QATLayer)]
    if len(images) == 0 or not layers:
        raise ValueError(f"nothing to correct: {len(images)} images, {len(layers)} quantized layers")
    means: dict[QATLayer, Tensor] = {}

    def remember(layer: QATLayer, _: tuple[Tensor, ...], out: Tensor) -> None:
        means[layer] = _channel_mean(out)

    def correct(layer: QATLayer, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        layer.shift_bias(means[layer] - _channel_mean(out))
        return layer.forward(*args)  # the new bias is rounded too

    with switched_off(result):
        _run_with_hooks(result, layers, remember, images)
    _run_with_hooks(result, layers, correct, images)
    return result


def _channel_mean(out: Tensor) -> Tensor:
    return out.transpose(0, 1).flatten(1).mean(1)


def _run_with_hooks(
    model: nn.Module, layers: list[QATLayer], hook: Callable[..., Any], images: Tensor
) -> None:
    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
