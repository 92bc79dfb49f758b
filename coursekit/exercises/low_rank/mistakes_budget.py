"""Known mistakes in spending a budget on ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.spec import Mistake

__all__ = ["GREEDY_RANKS", "budget_probes"]

Args = tuple[Any, ...]
Shapes = Mapping[str, tuple[int, int]]


def budget_probes() -> list[Args]:
    """Three layers of different sides, scales and spectra, at budgets from tight to loose."""
    values = {
        "a": 0.1 * torch.tensor([1.0, 0.9, 0.7, 0.5, 0.45, 0.3, 0.2, 0.1]),
        "b": torch.tensor([5.0, 2.0, 1.2, 1.0, 0.8, 0.3]),
        "c": 30 * torch.tensor([1.0, 0.8, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4]),
    }
    shapes = {"a": (8, 20), "b": (6, 9), "c": (9, 9)}
    wide = {"w": torch.tensor([3.0, 0.5, 0.2, 0.1]), "c": values["c"]}
    loose = [(values, shapes, budget) for budget in (104, 130, 158, 185, 210, 400)]
    return [*loose, (wide, {"w": (4, 96), "c": (9, 9)}, 136)]


Price = Callable[[Tensor, int, int], float]


def _held_share(squares: Tensor, rank: int, cost: int) -> float:
    return squares[rank - 1].item() / squares[:rank].sum().item() / cost


def _greedy(
    price: Price = _held_share,
    *,
    power: int = 2,
    least: int = 1,
    start_full: bool = False,
    strictly: bool = False,
    choose: Callable[..., str] = min,
) -> Any:
    """The greedy choice with one thing in it changed."""

    def wrong(values: Mapping[str, Tensor], shapes: Shapes, budget: int) -> dict[str, int]:
        squares = {name: each.double() ** power for name, each in values.items()}
        cost = {name: sum(shape) for name, shape in shapes.items()}
        ranks = {}
        for name, (m, n) in shapes.items():
            ranks[name] = min(m, n) if start_full else (m * n - 1) // (m + n)

        def total() -> int:
            return sum(rank * cost[name] for name, rank in ranks.items())

        while (total() >= budget) if strictly else (total() > budget):
            left = [name for name, rank in ranks.items() if rank > least]
            ranks[choose(left, key=lambda name: price(squares[name], ranks[name], cost[name]))] -= 1
        return ranks

    return wrong


def _all_at_once(values: Mapping[str, Tensor], shapes: Shapes, budget: int) -> dict[str, int]:
    ranks = {name: (m * n - 1) // (m + n) for name, (m, n) in shapes.items()}
    while sum(rank * sum(shapes[name]) for name, rank in ranks.items()) > budget:
        ranks = {name: max(1, rank - 1) for name, rank in ranks.items()}
    return ranks


def _returns_numbers(values: Mapping[str, Tensor], shapes: Shapes, budget: int) -> dict[str, int]:
    ranks = _greedy()(values, shapes, budget)
    return {name: rank * sum(shapes[name]) for name, rank in ranks.items()}


GREEDY_RANKS = (
    Mistake("absolute_squares", "You compare squares of different layers as they are. A layer with ten times the "
            "weights is not a hundred times as important: divide by what the layer holds.",
            _greedy(lambda e, r, cost: e[r - 1].item() / cost)),
    Mistake("share_of_all", "You divide by all squares of the layer, lost ones too. The product of the energies falls "
            "by the share of what is still held.", _greedy(lambda e, r, cost: (e[r - 1] / e.sum()).item() / cost)),
    Mistake("not_per_number", "You forget what a rank costs. One of a wide layer saves more numbers.",
            _greedy(lambda e, r, cost: (e[r - 1] / e[:r].sum()).item())),
    Mistake("values_not_squares", "Energy is the sum of squares, not of singular values.", _greedy(power=1)),
    Mistake("per_weight_of_the_layer", "A rank saves m + n numbers, not m x n.",
            _greedy(lambda e, r, cost: (e[r - 1] / e[:r].sum()).item() / len(e) / (cost - len(e)))),
    Mistake("dearest_first", "You take away where it hurts most.", _greedy(choose=max)),
    Mistake("next_not_last", "You look at the singular value behind the one you would take away.",
            _greedy(lambda e, r, cost: (e[min(r, len(e) - 1)] / e[:r].sum()).item() / cost)),
    Mistake("down_to_zero", "Your layers go down to rank 0, where nothing passes through. Stop at 1.",
            _greedy(least=0)),
    Mistake("starts_at_full_rank", "You start at full rank, where the factors are larger than the matrix. Start at the "
            "break-even rank.", _greedy(start_full=True)),
    Mistake("one_too_far", "You go on where the budget is met exactly.", _greedy(strictly=True)),
    Mistake("all_at_once", "All your layers give up a rank at a time, whatever it costs them.", _all_at_once),
    Mistake("returns_numbers", "You return numbers of weights. Ranks are asked for.", _returns_numbers),
)  # fmt: skip
