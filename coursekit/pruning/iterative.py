"""Iterative pruning: prune a little, train on, prune a little more, on one and the same network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from coursekit.data import Dataset
from coursekit.pruning.attach import attach_masks, finalize
from coursekit.pruning.masks import Scope, make_masks
from coursekit.pruning.schedules import Schedule
from coursekit.pruning.scores import magnitude_scores, weights_of
from coursekit.train import History, Recipe, fit

__all__ = [
    "IterativePruner",
    "PruningStep",
    "prune_and_finetune",
    "prune_further",
    "prune_iteratively",
    "weights_to_prune",
]

Tensors = Mapping[str, Tensor]
Scores = Callable[[nn.Module], Mapping[str, Tensor]]


def weights_to_prune(n_weights: int, n_pruned: int, sparsity: float) -> int:
    """How many of the weights that are left must go now, for `sparsity` of ALL weights to be zero.

    Args:    n_weights: all prunable weights. n_pruned: those that are zero already.
             sparsity: the target, 0 to 1, a share of n_weights.
    Returns: at least 0: what is pruned stays pruned.
    Raises:  ValueError if a number is out of range.
    Taught in: lesson 07.

    >>> weights_to_prune(1000, 500, 0.9), weights_to_prune(1000, 500, 0.3)
    (400, 0)
    """
    if not 0 <= n_pruned <= n_weights or not 0.0 <= sparsity <= 1.0:
        raise ValueError(
            f"needs 0 <= n_pruned <= n_weights and 0 <= sparsity <= 1, got {n_pruned}, {n_weights}, {sparsity}"
        )
    return max(round(sparsity * n_weights) - n_pruned, 0)


def prune_further(
    scores: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    sparsity: float | Mapping[str, float],
    scope: Scope = "global",
) -> dict[str, Tensor]:
    """New masks in which also the lowest scores of the survivors are gone, until `sparsity` of all weights is.

    Args:    scores: weight name to floating point, finite; low goes first. What a pruned weight scores plays no part.
             masks: name to bool, True = kept; nothing pruned comes back.
             sparsity: the target as a share of all weights, or one for each name (scope "layer").
             scope: "global" compares all weights, "layer" each layer's among themselves.
    Returns: name to bool mask; round(sparsity * n) are False.
    Raises:  ValueError if names or shapes differ, or as `make_masks`.
    Taught in: lesson 07.

    >>> masks = prune_further({"w": torch.tensor([9.0, 1.0, 2.0, 3.0])},
    ...                       {"w": torch.tensor([False, True, True, True])}, sparsity=0.5)
    >>> masks["w"]
    tensor([False, False,  True,  True])
    """
    return make_masks(scores, sparsity, scope, within=masks)


def prune_iteratively(
    weights: Tensors,
    train: Callable[[Tensors, Tensors], Tensors],
    prune: Callable[[Tensors, Tensors, float], Tensors],
    targets: Sequence[float],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights and masks after pruning to each target in turn, with training after every pruning.

    Args:    weights: name to tensor, of a trained network; left as they are.
             train: (weights, masks) -> weights trained on, without touching what is pruned.
             prune: (weights, masks, target) -> masks, with `target` of all weights gone.
             targets: rising shares, 0 to 1.
    Returns: the weights after the last training, exactly 0.0 where pruned, and the last masks (True = kept).
    Source:  Han et al. 2015, arXiv:1506.02626, section 3. Taught in lesson 07.
    """
    current = dict(weights)
    masks: Tensors = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in current.items()}
    for target in targets:
        masks = prune(current, masks, target)
        current = dict(train({name: weight * masks[name] for name, weight in current.items()}, masks))
    return current, dict(masks)


@dataclass(frozen=True)
class PruningStep:
    """What one pruning did: the step it came after, the sparsity asked for, and the one counted in the weights."""

    step: int
    target: float
    reached: float


class IterativePruner:
    """Prunes a network further while it trains; pass its `on_step` to `coursekit.train.fit`.

    Weights are compared anew at each pruning, among those that are left, until the schedule's share of ALL weights is
    zero; the masks hold through every optimizer step in between.

    Args:   model: changed in place; masks are attached, and the first pruning done if the schedule begins at 0.
            schedule: when to prune, and how far. scores: model to name to tensor, low goes first.
            scope: "global" or "layer". names: which weights, by default all that `prunable` lists.
    Attributes: masks: name to bool, True = kept. history: one PruningStep for each pruning.
    Source: Zhu and Gupta 2017, arXiv:1710.01878, section 3. Taught in lesson 07.
    """

    def __init__(
        self,
        model: nn.Module,
        schedule: Schedule,
        *,
        scores: Scores = magnitude_scores,
        scope: Scope = "global",
        names: Sequence[str] | None = None,
    ) -> None:
        self.model, self.schedule, self.scope, self._scores = model, schedule, scope, scores
        weights = weights_of(model, names)
        self.masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
        self.history: list[PruningStep] = []
        self.on_step(0)

    def on_step(self, step: int) -> None:
        """Prunes if the schedule says so; `step` is the number of optimizer steps done."""
        if not self.schedule.is_due(step):
            return
        target = self.schedule.sparsity_at(step)
        scores = self._scores(self.model)
        chosen = {name: scores[name].detach() for name in self.masks}
        self.masks = prune_further(chosen, self.masks, target, self.scope)
        attach_masks(self.model, self.masks)
        self.history.append(PruningStep(step, target, self.sparsity()))

    def sparsity(self) -> float:
        """The share of the prunable weights that are zero, counted in the weights the network computes with."""
        weights = weights_of(self.model, self.masks).values()
        return 1.0 - sum(int(w.count_nonzero()) for w in weights) / sum(w.numel() for w in weights)


def prune_and_finetune(
    model: nn.Module,
    train: Dataset,
    recipe: Recipe,
    schedule: Schedule,
    *,
    scores: Scores = magnitude_scores,
    scope: Scope = "global",
    names: Sequence[str] | None = None,
    test: Dataset | None = None,
    progress: bool = True,
) -> tuple[nn.Module, list[PruningStep], History]:
    """A pruned and fine-tuned copy of `model`, what each pruning reached, and what the training measured.

    The same arguments give the same weights bit for bit: everything random comes from `recipe.seed`.

    Args:   model: trained; left as it is. train, recipe, test, progress: as `coursekit.train.fit`.
            schedule, scores, scope, names: as `IterativePruner`.
    Raises: ValueError if the schedule ends after the training does, or as `fit`.
    """
    steps = recipe.epochs * -(-len(train) // recipe.batch_size)
    if schedule.steps()[-1] > steps:
        raise ValueError(
            f"the last pruning is due after step {schedule.steps()[-1]}, but there are {steps} steps"
        )
    pruned = copy.deepcopy(model)
    pruner = IterativePruner(pruned, schedule, scores=scores, scope=scope, names=names)
    history = fit(pruned, train, recipe, test=test, progress=progress, on_step=pruner.on_step)
    finalize(pruned)
    return pruned.eval(), pruner.history, history
