"""Which layers need their bits: a scan of one layer at a time, and bits chosen for each within a budget of bytes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from coursekit.quantization.affine import fake_quantize, symmetric_scale_per_channel
from coursekit.quantization.weight_only import weight_names

__all__ = ["greedy_bits", "layer_sensitivity", "optimal_bits", "sensitivity_table"]

Score = Callable[[nn.Module], float]


def layer_sensitivity(model: nn.Module, score: Score, n_bits: int = 8) -> dict[str, float]:
    """By how much the score falls when one layer's weight alone is quantized, for each layer by its weight's name.

    Args:    model: left as it is. score: a network to a number, the higher the better: accuracy, or minus a loss, on
             images that are not the test set. n_bits: 2 to 8; one symmetric scale for each output channel.
    Returns: weight name to drop, in units of the score, in the order of the network; below 0 where it rose.
    Raises:  ValueError if the model has no such layer or a score is not finite; else as `int_range`.
    Source:  Wu et al. 2020, arXiv:2004.09602 (to choose the layers that stay in floating point). Taught in lesson 02.
    """
    names = weight_names(model)
    if not names:
        raise ValueError(
            f"{type(model).__name__} has no linear layer or convolution: there is nothing to scan"
        )
    before, trial = _finite(score(model), "the model as it is"), copy.deepcopy(model)
    drops = {}
    for name in names:
        weight = trial.get_parameter(name)
        kept = weight.detach().clone()
        with torch.no_grad():
            weight.copy_(fake_quantize(kept, symmetric_scale_per_channel(kept, n_bits), n_bits))
            drops[name] = before - _finite(score(trial), f"{name} at {n_bits} bits")
            weight.copy_(kept)
    return drops


def _finite(value: float, of: str) -> float:
    if not math.isfinite(value):
        raise ValueError(f"the score of {of} is {value}: a scan needs finite scores")
    return float(value)


def sensitivity_table(
    model: nn.Module, score: Score, bits: Sequence[int] = (8, 4, 3, 2)
) -> dict[str, list[float]]:
    """`layer_sensitivity` at several numbers of bits: weight name to one drop for each, in the order of bits."""
    scans = [layer_sensitivity(model, score, n_bits) for n_bits in bits]
    return {name: [scan[name] for scan in scans] for name in scans[0]}


def greedy_bits(
    losses: Mapping[str, Sequence[float]],
    sizes: Mapping[str, Sequence[int]],
    budget: int,
    bits: Sequence[int] = (8, 4, 3, 2),
) -> dict[str, int]:
    """Bits for every layer within a budget, each step taking what costs the least loss for each byte it saves.

    All layers start at the first, finest option. While the sizes add up to more than the budget, one layer moves to its
    next option: the one whose move adds the least loss per byte saved; of equals, the first.

    Args:    losses: layer to its loss at each of `bits`. sizes: layer to its bytes at each, falling.
             budget: bytes that all layers together may take. bits: the options, from fine to coarse.
    Returns: layer to its bits, in the order of losses.
    Raises:  ValueError if even the coarsest options do not fit, or the tables do not match.
    Source:  the greedy heuristic for the multiple-choice knapsack; see `optimal_bits`. Taught in lesson 02.

    >>> losses, sizes = {"a": [0.0, 1.0], "b": [0.0, 1.5]}, {"a": [8, 4], "b": [16, 8]}
    >>> greedy_bits(losses, sizes, budget=20, bits=(8, 4))  # b costs more, but less a byte
    {'a': 8, 'b': 4}
    """
    _check_tables(losses, sizes, budget, bits)
    chosen = dict.fromkeys(losses, 0)
    while sum(sizes[name][i] for name, i in chosen.items()) > budget:
        prices = {
            name: (losses[name][i + 1] - losses[name][i]) / (sizes[name][i] - sizes[name][i + 1])
            for name, i in chosen.items()
            if i + 1 < len(bits)
        }
        chosen[min(prices, key=prices.__getitem__)] += 1
    return {name: bits[i] for name, i in chosen.items()}


def optimal_bits(
    losses: Mapping[str, Sequence[float]],
    sizes: Mapping[str, Sequence[int]],
    budget: int,
    bits: Sequence[int] = (8, 4, 3, 2),
) -> dict[str, int]:
    """Bits for every layer within a budget with the smallest sum of losses: exact, by dynamic programming.

    Layer by layer it keeps, of all choices so far, those that no other choice beats in both size and loss.

    Args, Returns, Raises: as `greedy_bits`.
    Source: the multiple-choice knapsack; Sinha and Zoltners 1979, "The multiple-choice knapsack problem".
    """
    _check_tables(losses, sizes, budget, bits)
    smallest_rest = sum(size[-1] for size in sizes.values())
    states: list[tuple[int, float, tuple[int, ...]]] = [(0, 0.0, ())]
    for name in losses:
        smallest_rest -= sizes[name][-1]
        room = budget - smallest_rest  # what comes later needs at least this much
        grown = [
            (size + sizes[name][i], loss + losses[name][i], (*chosen, i))
            for size, loss, chosen in states
            for i in range(len(bits))
            if size + sizes[name][i] <= room
        ]
        states = []
        for state in sorted(grown):
            if not states or state[1] < states[-1][1]:
                states.append(state)
    return {name: bits[i] for name, i in zip(losses, states[-1][2], strict=True)}


def _check_tables(
    losses: Mapping[str, Sequence[float]],
    sizes: Mapping[str, Sequence[int]],
    budget: int,
    bits: Sequence[int],
) -> None:
    if not losses or losses.keys() != sizes.keys() or not bits:
        raise ValueError("losses and sizes must name the same layers, at least one, and bits an option")
    for name in losses:
        if len(losses[name]) != len(bits) or len(sizes[name]) != len(bits):
            raise ValueError(f"{name} needs a loss and a size for each of the {len(bits)} options")
        if any(b >= a for a, b in zip(sizes[name], sizes[name][1:], strict=False)):
            raise ValueError(f"the sizes of {name} must fall from option to option, got {list(sizes[name])}")
    smallest = sum(size[-1] for size in sizes.values())
    if smallest > budget:
        raise ValueError(
            f"{budget:,} bytes cannot be met: with the fewest bits everywhere it takes {smallest:,}"
        )
