"""Counting what is really zero: on the weights that act, not on masks and not on what a mask hides."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["effective_weights", "nonzero_of_state"]

_ORIGINAL, _MASK = "_orig", "_mask"


def effective_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights that act, of a state dict with or without masks: `x_orig` times `x_mask` becomes `x`.

    `torch.nn.utils.prune` keeps the dense weight as `weight_orig` and multiplies by `weight_mask` on the fly;
    `attach_masks` keeps `weight` masked. Both end here as one `weight`. All other entries pass.

    Args:    state: name to tensor, as `model.state_dict()` gives it.
    Raises:  ValueError if `x_orig` has no `x_mask`.

    >>> effective_weights({"w_orig": torch.tensor([3.0, 4.0]), "w_mask": torch.tensor([0.0, 1.0])})
    {'w': tensor([0., 4.])}
    """
    acting: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.endswith(_ORIGINAL):
            base = name.removesuffix(_ORIGINAL)
            if base + _MASK not in state:
                raise ValueError(f"{name} has no {base + _MASK} beside it: what does it hide?")
            acting[base] = value * state[base + _MASK]
        elif name.endswith(_MASK) and any(name.removesuffix(_MASK) + s in state for s in ("", _ORIGINAL)):
            continue
        else:
            acting[name] = value
    return acting


def nonzero_of_state(state: Mapping[str, Tensor]) -> tuple[int, int]:
    """How many of the numbers that act are not zero, and how many there are, masks counted neither way.

    Args:    state: parameters by name, biases too, perhaps with `x_orig` and `x_mask` for a masked `x`.
    Returns: (non-zero, total).
    Raises:  ValueError as `effective_weights`.
    Source:  Taught in lesson 05.

    >>> nonzero_of_state({"w_orig": torch.tensor([3.0, 4.0]), "w_mask": torch.tensor([0.0, 1.0])})
    (1, 2)
    """
    weights = effective_weights(state).values()
    return sum(int(torch.count_nonzero(w)) for w in weights), sum(w.numel() for w in weights)
