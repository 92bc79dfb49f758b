"""Masks that hold while a network trains, whichever optimizer steps.

Multiplying the weights by the mask once is undone by the next step: gradients are not zero where a weight is, and
momentum remembers. So a mask lives in its layer, as the buffer `weight_mask`, and acts in three places: on the
weight before every forward pass, on the gradient as it arrives, and, after every step of any optimizer, on the weight
and on the optimizer's state. The weight stays the same parameter under the same name.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakIdKeyDictionary

from coursekit.pruning.scores import prunable, weights_of

__all__ = ["attach_masks", "finalize", "masks_from_zeros", "masks_of"]

_MASK = "weight_mask"
# Parameter -> (its layer, the hook on its gradient); neither keeps the other alive.
_HELD: Any = WeakIdKeyDictionary()
_ON_STEP: list[RemovableHandle] = []


def attach_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Sets the masked weights to zero and holds them there through any training, until `finalize`.

    Works with every torch optimizer, made before or after; survives `deepcopy`, moves between devices and
    `load_state_dict` (the masks are buffers of the layers). Attaching again replaces the masks of that name.
    A copy takes hold at the layer's first forward call; where another module computes with the weight and never calls
    the layer (`nn.MultiheadAttention` and its `out_proj`), attach again after copying.

    Args:    model: changed in place. masks: name to bool tensor, True = kept, for any of `prunable(model)`.
    Raises:  ValueError for an unknown name or a wrong shape, TypeError for a mask that is not bool; the model is
             then unchanged.
    Source:  Taught in lesson 05.
    """
    weights = weights_of(model, masks)
    for name, mask in masks.items():
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
            raise TypeError(f"the mask of {name} must be a bool tensor (True = kept), got {kind}")
        if mask.shape != weights[name].shape:
            raise ValueError(f"the mask of {name} is {tuple(mask.shape)}, not {tuple(weights[name].shape)}")
    if not _ON_STEP:
        _ON_STEP.append(register_optimizer_step_post_hook(_after_step))
    for name, mask in masks.items():
        layer = _layer(model, name)
        layer.register_buffer(_MASK, mask.clone().to(weights[name].device))
        if _hold not in layer._forward_pre_hooks.values():
            layer.register_forward_pre_hook(_hold)
        _hold(layer, ())


def masks_of(model: nn.Module) -> dict[str, Tensor]:
    """Name to the mask attached to it, copies; empty if none is."""
    found = {name: getattr(_layer(model, name), _MASK, None) for name in prunable(model)}
    return {name: mask.clone() for name, mask in found.items() if mask is not None}


def masks_from_zeros(model: nn.Module, names: list[str] | None = None) -> dict[str, Tensor]:
    """Masks that keep what is not zero: those of a model that was pruned before.

    Args:   names: as `magnitude_scores`.
    Raises: ValueError as `weights_of`.
    """
    return {name: weight != 0 for name, weight in weights_of(model, names).items()}


def finalize(model: nn.Module) -> None:
    """Makes the masks permanent: the zeros stay in the weights, masks and hooks go. No mask, no change."""
    for name in prunable(model):
        layer = _layer(model, name)
        if getattr(layer, _MASK, None) is None:
            continue
        _hold(layer, ())
        if layer.weight in _HELD:
            _HELD.pop(layer.weight)[1].remove()
        for key in [key for key, hook in layer._forward_pre_hooks.items() if hook is _hold]:
            del layer._forward_pre_hooks[key]
        delattr(layer, _MASK)


def _layer(model: nn.Module, name: str) -> Any:
    return model.get_submodule(name.rpartition(".")[0])


def _zero_(values: Tensor, mask: Tensor) -> Tensor:
    """The values, changed in place to 0 where the mask is False."""
    # Bits times 0 or 1: an eighth of the time of masked_fill_, and unlike a product inf becomes 0, not nan.
    bits = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[values.element_size()]
    values.view(bits).mul_(mask.to(bits))
    return values


def _hold(layer: Any, _: Any) -> None:
    """Zeroes the layer's masked weights, and links a weight that is new here (a copy's) to its mask."""
    weight: Tensor = layer.weight
    _zero_(weight.data, getattr(layer, _MASK))
    if weight in _HELD or not weight.requires_grad:
        return
    owner = weakref.ref(layer)

    def on_gradient(gradient: Tensor) -> Tensor:
        mask = getattr(owner(), _MASK, None)
        if mask is None:
            return gradient
        if gradient.requires_grad:  # somebody differentiates the gradient
            return gradient.masked_fill(~mask, 0)
        return _zero_(gradient.clone(), mask)

    _HELD[weight] = (owner, weight.register_hook(on_gradient))


def _after_step(optimizer: Optimizer, *_: Any) -> None:
    """Zeroes masked weights and their state in the optimizer: momentum from before the mask would move them."""
    if len(_HELD) == 0:
        return
    for group in optimizer.param_groups:
        for weight in group["params"]:
            held = _HELD.get(weight)
            layer = held[0]() if held is not None else None
            if layer is None:
                continue
            mask = getattr(layer, _MASK)
            _zero_(weight.data, mask)
            for value in optimizer.state.get(weight, {}).values():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    _zero_(value, mask)
