"""How much of each layer the network can spare: a scan, and sparsities for the layers from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from coursekit.data import Dataset
from coursekit.pruning.masks import topk_mask
from coursekit.pruning.scores import magnitude_scores
from coursekit.train import evaluate

__all__ = ["Scan", "layer_sparsities", "sensitivity_scan"]


@dataclass(frozen=True)
class Scan:
    """What a sensitivity scan measured.

    Attributes: baseline: accuracy with nothing pruned, 0 to 1. sparsities: those tried, rising.
                accuracy: layer to accuracy at each of them, with that layer alone pruned.
                counts: layer to its number of weights.
    """

    baseline: float
    sparsities: tuple[float, ...]
    accuracy: Mapping[str, tuple[float, ...]]
    counts: Mapping[str, int]


def sensitivity_scan(
    model: nn.Module,
    data: Dataset,
    sparsities: Sequence[float] = (0.5, 0.7, 0.8, 0.9, 0.95),
    *,
    scores: Mapping[str, Tensor] | None = None,
    names: Iterable[str] | None = None,
) -> Scan:
    """The accuracy of the model with one layer pruned at a time, to each sparsity, without training.

    Args:    model: left as it is. data: not the test set, if anything is chosen by the result.
             sparsities: rising, 0 to 1. scores: by default magnitudes. names: as `magnitude_scores`.
    Raises:  ValueError if sparsities is empty, does not rise or leaves 0..1; as `magnitude_scores`.
    Source:  Han et al. 2015, arXiv:1506.02626, figure 6. Taught in lesson 05.
    """
    levels = tuple(sparsities)
    if not levels or any(a >= b for a, b in pairwise(levels)):
        raise ValueError(f"sparsities must rise and not be empty, got {levels}")
    ranked = dict(scores) if scores is not None else magnitude_scores(model, names)
    accuracy = {}
    for name, score in ranked.items():
        weight = model.get_parameter(name)
        kept = weight.detach().clone()
        try:
            measured = []
            for sparsity in levels:
                with torch.no_grad():
                    weight.copy_(kept * topk_mask(score, sparsity))
                measured.append(evaluate(model, data))
        finally:
            weight.data.copy_(kept)
        accuracy[name] = tuple(measured)
    counts = {name: score.numel() for name, score in ranked.items()}
    return Scan(evaluate(model, data), levels, accuracy, counts)


def _spare(scan: Scan, name: str, drop: float) -> float:
    """The sparsity at which a layer's accuracy, taken piecewise linear, has first fallen by `drop`."""
    at, lost = 0.0, 0.0
    for sparsity, accuracy in zip(scan.sparsities, scan.accuracy[name], strict=True):
        loss = max(scan.baseline - accuracy, lost)  # noise of a few images must not make it rise again
        if loss > drop:
            return at + (sparsity - at) * (drop - lost) / (loss - lost)
        at, lost = sparsity, loss
    return at


def layer_sparsities(scan: Scan, sparsity: float) -> dict[str, float]:
    """A sparsity for each layer, such that each alone would cost the same accuracy, and together the target.

    No layer goes beyond the highest sparsity that was scanned.

    Args:    sparsity: the target over all scanned layers, 0 to the highest scanned sparsity.
    Returns: layer to sparsity; weighted with the layers' sizes, their mean is the target to 1 in 10^6.
    Raises:  ValueError if the target is out of range.
    Source:  after Han et al. 2015, arXiv:1506.02626, section 4 and figure 6. Taught in lesson 05.
    """
    if not 0 <= sparsity <= scan.sparsities[-1]:
        raise ValueError(f"sparsity must be in 0..{scan.sparsities[-1]}, which was scanned, got {sparsity}")
    total = sum(scan.counts.values())

    def at(drop: float) -> tuple[dict[str, float], float]:
        each = {name: _spare(scan, name, drop) for name in scan.accuracy}
        return each, sum(each[name] * n for name, n in scan.counts.items()) / total

    low, high = 0.0, 1.0
    for _ in range(60):  # bisection: the mean rises with the loss that is allowed
        middle = (low + high) / 2
        low, high = (low, middle) if at(middle)[1] >= sparsity else (middle, high)
    (chosen, reached), (floor, floor_reached) = at(high), at(low)
    if floor_reached >= sparsity:  # layers that lose nothing at all can already spare more
        return {name: each * sparsity / (floor_reached or 1.0) for name, each in floor.items()}
    share = (sparsity - floor_reached) / (reached - floor_reached)
    return {name: floor[name] + share * (chosen[name] - floor[name]) for name in chosen}
