"""Known mistakes in cutting a matrix in two and in choosing its rank.

Each `wrong` makes one mistake and no other; a check recognises it by equal results on every probe.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.inputs import normal
from coursekit.exercises.spec import Mistake

__all__ = [
    "BREAK_EVEN_RANK",
    "RANK_FOR_ENERGY",
    "SVD_FACTORS",
    "break_even_probes",
    "energy_probes",
    "factor_probes",
]

Args = tuple[Any, ...]


def factor_probes() -> list[Args]:
    """A tall, a wide and a square matrix, at rank 1, between, and in full."""
    tall, wide, square = normal(7, 4, seed=1), normal(4, 7, seed=2), normal(5, 5, seed=3)
    return [(tall, 2), (wide, 2), (square, 1), (wide, 4), (square, 3)]


def _svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    u, s, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    return u, s, vh


def _single(*parts: Tensor) -> tuple[Tensor, ...]:
    return tuple(part.float() for part in parts)


def _twice(matrix: Tensor, rank: int) -> Any:
    u, s, vh = _svd(matrix)
    return _single(u[:, :rank] * s[:rank], s[:rank, None] * vh[:rank])


def _none(matrix: Tensor, rank: int) -> Any:
    u, _, vh = _svd(matrix)
    return _single(u[:, :rank], vh[:rank])


def _root_once(matrix: Tensor, rank: int) -> Any:
    u, s, vh = _svd(matrix)
    return _single(u[:, :rank] * s[:rank].sqrt(), vh[:rank])


def _v_by_columns(matrix: Tensor, rank: int) -> Any:
    u, s, vh = _svd(matrix)
    return _single(u[:, :rank] * s[:rank], vh[:, :rank].T)


def _smallest(matrix: Tensor, rank: int) -> Any:
    u, s, vh = _svd(matrix)
    return _single(u[:, -rank:] * s[-rank:], vh[-rank:])


def _all(matrix: Tensor, rank: int) -> Any:
    u, s, vh = _svd(matrix)
    return _single(u * s, vh)


def _right(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    u, s, vh = _svd(matrix)
    return u[:, :rank] * s[:rank], vh[:rank]


def _one_product(matrix: Tensor, rank: int) -> Any:
    left, right = _right(matrix, rank)
    return (left @ right).float()


def _right_transposed(matrix: Tensor, rank: int) -> Any:
    left, right = _right(matrix, rank)
    return _single(left, right.T)


def _other_order(matrix: Tensor, rank: int) -> Any:
    left, right = _right(matrix, rank)
    return _single(right, left)


SVD_FACTORS = (
    Mistake("singular_values_twice", "Both of your factors carry the singular values, so their product carries the "
            "squares. One factor takes them, or each takes the root.", _twice),
    Mistake("no_singular_values", "Neither of your factors carries the singular values: every direction counts as much "
            "as the strongest.", _none),
    Mistake("root_only_once", "One factor takes the root of the singular values and the other none of them: the "
            "product has the root where it needs the whole.", _root_once),
    Mistake("v_by_columns", "torch.linalg.svd returns V already transposed, as Vh: its rows are the right singular "
            "vectors. You took columns.", _v_by_columns),
    Mistake("smallest_kept", "You keep the smallest singular values. They come falling: the first ones matter.",
            _smallest),
    Mistake("not_truncated", "Your factors have full rank, whatever rank is asked for. Cut off columns on the left and "
            "rows on the right.", _all),
    Mistake("returns_product", "You return the approximation itself, as large as the matrix was. What saves numbers is "
            "to keep the two factors apart.", _one_product),
    Mistake("right_transposed", "Your right factor is (n, rank). It must be (rank, n), so that left @ right works.",
            _right_transposed),
    Mistake("order_swapped", "You return the right factor first.", _other_order),
    Mistake("stays_double", "Your factors are right, but float64: twice the bytes. Return them in the matrix's dtype.",
            _right),
)  # fmt: skip


def break_even_probes() -> list[Args]:
    """Sides whose exact break-even is whole, just above and just below a whole number, and none at all."""
    return [(300, 784), (512, 512), (10, 100), (3, 7), (1, 50), (4, 4)]


BREAK_EVEN_RANK = (
    Mistake("equal_is_not_fewer", "At your rank two factors may have exactly as many numbers as the matrix. Try 512 x "
            "512: which rank saves at least one?", lambda m, n: m * n // (m + n)),
    Mistake("first_that_does_not_save", "You return the first rank that no longer saves. The one before it is wanted.",
            lambda m, n: (m * n - 1) // (m + n) + 1),
    Mistake("rounded", "You round to the nearest whole number: where that is upwards the factors are larger than the "
            "matrix.", lambda m, n: round(m * n / (m + n))),
    Mistake("half_the_smaller_side", "Half of the smaller side is right for a square only. Write down what the factors "
            "hold and compare.", lambda m, n: min(m, n) // 2),
    Mistake("smaller_side", "That is the full rank. Two factors of full rank are larger than the matrix.",
            lambda m, n: min(m, n)),
    Mistake("left_factor_only", "You count one of the factors. The other takes rank x n numbers too.",
            lambda m, n: (m * n - 1) // m),
    Mistake("not_a_whole_number", "The formula is right, but a rank is a whole number: an int.",
            lambda m, n: m * n / (m + n)),
    Mistake("at_least_one", "Some layers, such as 1 x 50, have no rank that saves. Say so with 0.",
            lambda m, n: max(1, (m * n - 1) // (m + n))),
    Mistake("counts_singular_values", "You count the singular values as numbers of their own. They are inside the "
            "factors.", lambda m, n: (m * n - 1) // (m + n + 1)),
)  # fmt: skip


def energy_probes() -> list[Args]:
    """Spectra that fall slowly and fast, at shares between and at steps."""
    slow, fast = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0, 0.5]), torch.tensor([9.0, 3.0, 2.0, 1.0, 0.4])
    exact = torch.tensor([2.0, 1.0, 1.0, 1.0, 1.0])
    one_large = torch.tensor([4.0, 1.0, 1.0, 1.0])
    return [
        (slow, 0.8),
        (fast, 0.95),
        (exact, 0.5),
        (slow, 0.93),
        (fast / 10, 0.9),
        (slow, 0.6),
        (one_large, 0.5),
    ]


def _first(held: Tensor, share: float) -> int:
    """1 + the first place at which at least this much is held, or the number of places."""
    enough = held >= share
    return int(enough.nonzero()[0]) + 1 if enough.any() else held.numel()


def _held(values: Tensor) -> Tensor:
    squares = values.double().square()
    return squares.cumsum(0) / squares.sum()


def _small_error(values: Tensor, energy: float) -> int:
    missing = (1 - _held(values)).clamp(min=0).sqrt()
    return _first(-missing, -(1 - energy))


RANK_FOR_ENERGY = (
    Mistake("values_not_squares", "You add up the singular values. Energy is the sum of their squares, as in the error "
            "of a truncation.", lambda s, energy: _first(s.double().cumsum(0) / s.double().sum(), energy)),
    Mistake("index_not_rank", "You return the index of the last singular value kept. Index 0 is rank 1.",
            lambda s, energy: _first(_held(s), energy) - 1),
    Mistake("more_than_the_share", "Exactly the share is enough: you ask for more than it.",
            lambda s, energy: int((_held(s) <= energy).sum()) + 1),
    Mistake("one_too_many", "Your rank is one too high.", lambda s, energy: _first(_held(s), energy) + 1),
    Mistake("error_not_energy", "You compare the error itself, a root of squares, with 1 - energy. Energy is a share "
            "of the squares: leave out the root.", _small_error),
    Mistake("share_of_the_count", "You keep this share of the number of singular values, whatever they are.",
            lambda s, energy: math.ceil(energy * s.numel())),
    Mistake("relative_to_the_largest", "You keep the values above a fraction of the largest one. What counts is how "
            "much all that you keep hold together.", lambda s, energy: int((s >= (1 - energy) * s[0]).sum())),
    Mistake("from_the_smallest", "You add up from the smallest value on. The first, largest ones are kept.",
            lambda s, energy: _first(_held(s.flip(0)), energy)),
    Mistake("sum_not_share", "You compare the sum of squares with the share, without dividing by the sum of all.",
            lambda s, energy: _first(s.double().square().cumsum(0), energy)),
    Mistake("share_squared", "The values are to be squared, not the share.",
            lambda s, energy: _first(_held(s), energy**2)),
    Mistake("returns_tensor", "The number is right, but it is a tensor: a rank is a Python int.",
            lambda s, energy: torch.tensor(_first(_held(s), energy))),
)  # fmt: skip
