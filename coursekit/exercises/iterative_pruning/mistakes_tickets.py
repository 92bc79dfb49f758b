"""Known mistakes in rewinding and in the rates of lottery tickets.

Each `wrong` makes one mistake and no other; a check recognises it by equal results on every probe.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.spec import Mistake

__all__ = ["REWIND", "TICKET_SPARSITIES", "rewind_probes", "sparsities_probes"]

Args = tuple[Any, ...]
Tensors = dict[str, Tensor]


def rewind_probes() -> list[Args]:
    """Two layers with biases, one of them without a mask; then a layer that is all gone."""
    snapshot = {
        "fc1.weight": torch.tensor([[0.5, -0.25, 1.0], [2.0, -3.0, 0.125]]),
        "fc1.bias": torch.tensor([0.1, -0.2]),
        "fc2.weight": torch.tensor([[0.7, -0.9]]),
        "fc2.bias": torch.tensor([0.3]),
    }
    mask = torch.tensor([[True, False, True], [False, True, False]])
    gone = {"fc1.weight": mask, "fc2.weight": torch.tensor([[False, False]])}
    return [(snapshot, {"fc1.weight": mask}), (snapshot, gone)]


def _each(
    masked: Callable[[Tensor, Tensor], Tensor], rest: Callable[[Tensor], Tensor] = lambda t: t
) -> Callable[..., Tensors]:
    def wrong(snapshot: Tensors, masks: Tensors) -> Tensors:
        return {n: masked(t, masks[n]) if n in masks else rest(t) for n, t in snapshot.items()}

    return wrong


REWIND = (
    Mistake("forgets_the_masks", "Nothing is pruned in your result: the masks must hold after rewinding too.",
            _each(lambda w, m: w)),
    Mistake("upside_down", "You keep what was pruned. True means kept.", _each(lambda w, m: w * ~m)),
    Mistake("drops_the_rest", "What has no mask, such as biases, is missing. It is rewound as well, whole.",
            lambda snapshot, masks: {n: snapshot[n] * m for n, m in masks.items()}),
    Mistake("zeroes_the_rest", "What has no mask, such as biases, becomes zero. It is rewound too: no mask, no zeros.",
            _each(lambda w, m: w * m, torch.zeros_like)),
    Mistake("survivors_only", "You return only the survivors, as a list of numbers. The tensor keeps its shape, with "
            "0.0 where pruned.", _each(lambda w, m: w[m])),
    Mistake("rescales", "You scale the survivors up, as dropout does. A ticket starts from the very numbers of the "
            "snapshot.", _each(lambda w, m: w * m / m.float().mean().clamp(min=1e-9))),
    Mistake("returns_masks", "Your weights are the masks, 0 and 1. Where is the snapshot?",
            _each(lambda w, m: m.float())),
    Mistake("nan_for_pruned", "Pruned weights are nan in your result. They are 0.0.",
            _each(lambda w, m: torch.where(m, w, math.nan))),
    Mistake("keeps_the_sign", "You keep only the signs of the survivors. That is a finding of a later paper; here the "
            "weights themselves come back.", _each(lambda w, m: w.sign() * m)),
    Mistake("magnitudes", "You return magnitudes. The signs belong to the weights.", _each(lambda w, m: w.abs() * m)),
)  # fmt: skip


def sparsities_probes() -> list[Args]:
    """Two, three and four layers, whose last has other names; other rates; no round yet."""
    three = ["fc1.weight", "fc2.weight", "fc3.weight"]
    return [
        (three, 1, 0.2),
        (three, 3, 0.2),
        (["a", "b", "c", "d"], 2, 0.5),
        (["conv", "head"], 5, 0.1),
        (three, 0, 0.2),
    ]


def _rates(
    of: Callable[[float, int], float], last: Callable[[float, int], float]
) -> Callable[..., dict[str, float]]:
    def wrong(names: list[str], rounds: int, rate: float = 0.2) -> dict[str, float]:
        return {n: (last if n == names[-1] else of)(rate, rounds) for n in names}

    return wrong


def _gone(rate: float, rounds: int) -> float:
    return 1.0 - (1.0 - rate) ** rounds


def _first_layer(names: list[str], rounds: int, rate: float = 0.2) -> dict[str, float]:
    return {n: _gone(rate / 2 if n == names[0] else rate, rounds) for n in names}


def _named_fc3(names: list[str], rounds: int, rate: float = 0.2) -> dict[str, float]:
    return {n: _gone(rate / 2 if n == "fc3.weight" else rate, rounds) for n in names}


TICKET_SPARSITIES = (
    Mistake("adds_up", "You add the rate up, round by round. Each round takes its share of what the one before LEFT, "
            "so what is left is multiplied.", _rates(lambda r, k: r * k, lambda r, k: r / 2 * k)),
    Mistake("output_like_the_others", "The output layer is pruned like the others. Its rate is half.",
            _rates(_gone, _gone)),
    Mistake("half_the_sparsity", "You halve the output layer's sparsity. It is the rate of each round that is halved.",
            _rates(_gone, lambda r, k: _gone(r, k) / 2)),
    Mistake("first_layer_instead", "You halve the rate of the first layer. It is the output layer, the last.",
            _first_layer),
    Mistake("named_fc3", "You look for the name fc3.weight. The output layer is the last name, whatever it is.",
            _named_fc3),
    Mistake("output_dense", "You do not prune the output layer at all. It has half the rate.",
            _rates(_gone, lambda r, k: 0.0)),
    Mistake("share_kept", "You return the share that is kept; sparsity is what is gone.",
            _rates(lambda r, k: (1 - r) ** k, lambda r, k: (1 - r / 2) ** k)),
    Mistake("one_round_more", "You prune once too often: after 0 rounds nothing is gone.",
            _rates(lambda r, k: _gone(r, k + 1), lambda r, k: _gone(r / 2, k + 1))),
    Mistake("always_a_fifth", "You use 0.2 whatever rate says.",
            _rates(lambda r, k: _gone(0.2, k), lambda r, k: _gone(0.1, k))),
    Mistake("rate_to_the_power", "rate ** rounds is the share of a share. What is left after a round is 1 - rate.",
            _rates(lambda r, k: r**k, lambda r, k: (r / 2) ** k)),
    Mistake("a_list", "You return a list; a dict says which layer each number belongs to.",
            lambda names, rounds, rate=0.2: [_gone(rate / 2 if n == names[-1] else rate, rounds) for n in names]),
)  # fmt: skip
