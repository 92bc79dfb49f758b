"""Known mistakes in one round of pruning and in the loop around it.

Each `wrong` makes one mistake and no other; a check recognises it by equal results on every probe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.spec import Fixture, Mistake

__all__ = ["PRUNE_FURTHER", "PRUNE_ITERATIVELY", "further_probes", "loop_probes"]

Args = tuple[Any, ...]
Tensors = dict[str, Tensor]


def further_probes() -> list[Args]:
    """Two layers on different scales; pruned weights whose score has grown; ties; scores of either sign."""
    scores = {
        "a": torch.tensor([[0.9, 0.1, 0.4, 0.4], [0.4, 0.7, 0.2, 5.0]]),
        "b": torch.tensor([3.0, 0.3, 0.4, 2.0, 0.05, 4.0]),
    }
    masks = {
        "a": torch.tensor([[True, True, True, True], [True, True, True, False]]),
        "b": torch.tensor([False, True, True, True, False, True]),
    }
    signed = {name: score - 0.6 for name, score in scores.items()}
    whole = {name: torch.ones_like(mask) for name, mask in masks.items()}
    return [
        (scores, masks, 5 / 14),
        (scores, masks, 0.5),
        (scores, masks, 0.64),
        (signed, masks, 0.5),
        (scores, whole, 0.3),
    ]


def _flat(tensors: Tensors) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors.values()])


def _shaped(flat: Tensor, like: Tensors) -> Tensors:
    pieces = flat.split([tensor.numel() for tensor in like.values()])
    return {name: piece.reshape(like[name].shape) for name, piece in zip(like, pieces, strict=True)}


def _without_lowest(ranked: Tensor, n: int) -> Tensor:
    keep = torch.ones(len(ranked), dtype=torch.bool)
    keep[ranked.argsort(stable=True)[:n]] = False
    return keep


def _further(
    count: Callable[[int, int, float], int] = lambda n, gone, s: round(s * n) - gone, sign: float = 1.0
) -> Callable[..., Tensors]:
    """Prunes `count(all, gone, sparsity)` of the survivors, those with the lowest sign * score."""

    def wrong(scores: Tensors, masks: Tensors, sparsity: float) -> Tensors:
        score, kept = sign * _flat(scores), _flat(masks)
        gone = int((~kept).sum())
        ranked = torch.where(kept, score, float(score.min()) - 1)
        return _shaped(_without_lowest(ranked, gone + max(count(len(kept), gone, sparsity), 0)), masks)

    return wrong


def _ignores_masks(scores: Tensors, masks: Tensors, sparsity: float) -> Tensors:
    flat = _flat(scores)
    return _shaped(_without_lowest(flat, round(sparsity * len(flat))), masks)


def _masks_afterwards(scores: Tensors, masks: Tensors, sparsity: float) -> Tensors:
    fresh = _ignores_masks(scores, masks, sparsity)
    return {name: fresh[name] & masks[name] for name in masks}


def _zero_for_pruned(scores: Tensors, masks: Tensors, sparsity: float) -> Tensors:
    return _ignores_masks({name: scores[name] * masks[name] for name in masks}, masks, sparsity)


def _per_layer(scores: Tensors, masks: Tensors, sparsity: float) -> Tensors:
    one = _further()
    return {name: one({name: scores[name]}, {name: masks[name]}, sparsity)[name] for name in masks}


def _threshold(strict: bool) -> Callable[..., Tensors]:
    def wrong(scores: Tensors, masks: Tensors, sparsity: float) -> Tensors:
        score, kept = _flat(scores), _flat(masks)
        n = round(sparsity * len(kept)) - int((~kept).sum())
        if n <= 0:
            return dict(masks)
        limit = score[kept].sort().values[n - 1]
        return _shaped(kept & ((score > limit) if strict else (score >= limit)), masks)

    return wrong


def _as(change: Callable[[Tensor], Tensor]) -> Callable[..., Tensors]:
    right = _further()
    return lambda scores, masks, sparsity: {n: change(m) for n, m in right(scores, masks, sparsity).items()}


PRUNE_FURTHER = (
    Mistake("share_of_the_survivors", "You prune the target's share of the survivors. The target is of ALL weights: "
            "this way 10, 20, 30 % become 10, 28, 50 %, and 90 % in nine steps all but nothing.",
            _further(lambda n, gone, s: round(s * (n - gone)))),
    Mistake("counts_from_scratch", "You prune round(sparsity * n) more, besides what is gone already. Those count too.",
            _further(lambda n, gone, s: round(s * n))),
    Mistake("ignores_masks", "A weight that was pruned came back, for its score has grown. Only survivors compete.",
            _ignores_masks),
    Mistake("masks_only_afterwards", "Pruned weights with high scores take up places among those you keep, and then "
            "the mask removes them: too many are gone. Leave them out before you rank.", _masks_afterwards),
    Mistake("zero_for_pruned", "You give pruned weights the score 0. Scores may be negative, and then 0 is high: give "
            "them something below all others.", _zero_for_pruned),
    Mistake("per_layer", "You meet the target in each layer by itself. Here all weights compete together.", _per_layer),
    Mistake("prunes_the_highest", "You prune the highest scores. A low score is what can go.", _further(sign=-1.0)),
    Mistake("ties_all_go", "Weights of equal score all go at once, more than the target asks for. A threshold cannot "
            "split ties; an order (argsort) can.", _threshold(strict=True)),
    Mistake("ties_all_stay", "The weight at your threshold stays, and so do all of equal score: too few are pruned.",
            _threshold(strict=False)),
    Mistake("changes_nothing", "You return the old masks.", lambda scores, masks, sparsity: dict(masks)),
    Mistake("upside_down", "Your masks are True where pruned. True means kept.", _as(lambda mask: ~mask)),
    Mistake("float_masks", "Your masks are numbers; they should be bool.", _as(lambda mask: mask.float())),
)  # fmt: skip


def loop_probes() -> list[Args]:
    """Goals that make small weights large and large ones small, so that it matters when one looks."""
    start = {
        "w": torch.tensor([1.0, -2.0, 3.0, -4.0, 5.0, 6.0, -7.0, 8.0]),
        "v": torch.tensor([[0.3, -0.1], [0.2, 0.9]]),
    }
    goal = {
        "w": torch.tensor([9.0, 2.0, -1.0, 0.5, 6.0, 0.2, -8.0, 1.0]),
        "v": torch.tensor([[0.1, 2.0], [-0.4, 0.7]]),
    }
    train, prune = Fixture("pruning_loop.train_towards", (goal,)), Fixture("pruning_loop.prune_smallest")
    return [(start, train, prune, targets) for targets in ([0.25, 0.5, 0.75], [0.5, 0.75], [0.75])]


def _masked(weights: Tensors, masks: Tensors) -> Tensors:
    return {name: weight * masks[name] for name, weight in weights.items()}


def _ones(weights: Tensors) -> Tensors:
    return {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}


def _loop(
    *, train_first: bool = False, recover: bool = True, restart: bool = False, apply: bool = True, extra: bool = False,
    last: int | None = None,
) -> Callable[..., Any]:  # fmt: skip
    def wrong(weights: Tensors, train: Any, prune: Any, targets: list[float]) -> tuple[Tensors, Tensors]:
        current, masks = dict(weights), _ones(weights)
        for target in targets[:last]:
            if train_first:
                current = train(current, masks)
            source = dict(weights) if restart else current
            masks = prune(source, masks, target)
            current = _masked(source, masks) if apply else source
            if recover and not train_first:
                current = train(current, masks)
        return (train(current, masks) if extra else current), masks

    return wrong


def _swapped(weights: Tensors, train: Any, prune: Any, targets: list[float]) -> tuple[Tensors, Tensors]:
    current, masks = _loop()(weights, train, prune, targets)
    return masks, current


def _relative(weights: Tensors, train: Any, prune: Any, targets: list[float]) -> tuple[Tensors, Tensors]:
    left, reached = 1.0, []
    for target in targets:
        left *= 1.0 - target
        reached.append(1.0 - left)
    return _loop()(weights, train, prune, reached)


PRUNE_ITERATIVELY = (
    Mistake("only_one_training_counts", "All but one of the trainings are lost: either each round starts again from "
            "the weights you were given, or you train only after the last pruning. The training between two prunings "
            "is the point: it decides which weights are small next.", _loop(restart=True)),
    Mistake("never_trains", "You prune step by step but never train: that is one-shot pruning in slow motion.",
            _loop(recover=False)),
    Mistake("trains_before_pruning", "You train before each pruning, so the last pruning has no training after it.",
            _loop(train_first=True)),
    Mistake("does_not_zero", "The weights you hand to train still hold what the masks say is pruned. Multiply first.",
            _loop(apply=False)),
    Mistake("extra_training", "You train once more at the end: there is one training after each pruning, no more.",
            _loop(extra=True)),
    Mistake("stops_one_early", "The last target is never reached.", _loop(last=-1)),
    Mistake("compounds_the_targets", "You take each target of the weights that are left. prune wants a share of all.",
            _relative),
    Mistake("masks_first", "The result is (weights, masks), in this order.", _swapped),
    Mistake("weights_only", "The masks are missing: return (weights, masks).",
            lambda w, train, prune, targets: _loop()(w, train, prune, targets)[0]),
)  # fmt: skip
