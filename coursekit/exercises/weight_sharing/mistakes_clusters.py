"""Known mistakes in finding centroids: a round of k-means, and where to begin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.inputs import normal
from coursekit.exercises.spec import Mistake

__all__ = ["INITIAL_CENTROIDS", "KMEANS_STEP", "initial_probes", "step_probes"]


def step_probes() -> list[tuple[Any, ...]]:
    """Values and centroids of which none, one, and two are nearest to nothing."""
    values = torch.tensor([-3.0, -0.1, 0.0, 0.3, 5.0, 1.0, 0.9, 1.7], dtype=torch.float64)
    starts = ([-1.0, 0.4, 2.9], [0.1, 1.2, 50.0], [-60.0, 0.1, 1.2], [0.0, 50.0, 90.0], [1.2, 5.0, 60.0])
    cases = [(values, torch.tensor(start, dtype=torch.float64)) for start in starts]
    return [*cases, (normal(5, 20, seed=1).double(), torch.tensor([-1.0, 0.1, 1.5], dtype=torch.float64))]


def _nearest(values: Tensor, centroids: Tensor) -> Tensor:
    return torch.bucketize(values, (centroids[1:] + centroids[:-1]) / 2)


def _step(
    values: Tensor,
    centroids: Tensor,
    *,
    nearest: Callable[[Tensor, Tensor], Tensor] = _nearest,
    centre: Callable[[Tensor], Tensor] = torch.mean,
    in_order: bool = True,
) -> Tensor:
    """A round of k-means with its parts to be replaced."""
    flat = values.flatten()
    own = nearest(flat, centroids)
    far = flat[(flat - centroids[own]).abs().argsort(descending=True)].tolist()
    moved = []
    for j in range(len(centroids)):
        mine = flat[own == j]
        moved.append(float(centre(mine)) if len(mine) else far.pop(0))
    made = torch.tensor(moved, dtype=torch.float64)
    return made.sort().values if in_order else made


def _sums(values: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    own = _nearest(values.flatten(), centroids)
    counts = torch.bincount(own, minlength=len(centroids))
    return torch.zeros_like(centroids).index_add_(0, own, values.flatten()), counts


def _keeps(values: Tensor, centroids: Tensor) -> Tensor:
    sums, counts = _sums(values, centroids)
    return torch.where(counts > 0, sums / counts, centroids)


def _divides(values: Tensor, centroids: Tensor) -> Tensor:
    sums, counts = _sums(values, centroids)
    return sums / counts


def _clamps(values: Tensor, centroids: Tensor) -> Tensor:
    sums, counts = _sums(values, centroids)
    return (sums / counts.clamp(min=1)).sort().values


def _drops(values: Tensor, centroids: Tensor) -> Tensor:
    sums, counts = _sums(values, centroids)
    return sums[counts > 0] / counts[counts > 0]


def _refilled(values: Tensor, centroids: Tensor, at: Tensor) -> Tensor:
    sums, counts = _sums(values, centroids)
    return torch.where(counts > 0, sums / counts, at).sort().values


def _same(values: Tensor, centroids: Tensor) -> Tensor:
    flat = values.flatten()
    far = (flat - centroids[_nearest(flat, centroids)]).abs().argmax()
    return _refilled(values, centroids, flat[far])


def _until_still(values: Tensor, centroids: Tensor) -> Tensor:
    for _ in range(100):
        centroids = _step(values, centroids)
    return centroids


def _between(values: Tensor, centroids: Tensor) -> Tensor:
    return torch.bucketize(values, centroids).clamp(max=len(centroids) - 1)


def _not_flattened(values: Tensor, centroids: Tensor) -> Tensor:
    if values.dim() > 1:
        raise RuntimeError("shapes do not fit")
    return _step(values, centroids)


KMEANS_STEP = (
    Mistake("keeps_empty", "A centroid without values stays where it was. It will never get any: its bits are wasted.",
            _keeps),
    Mistake("divides_by_zero", "A centroid without values becomes nan: you divide by its count, 0.", _divides),
    Mistake("empty_becomes_zero", "A centroid without values becomes 0. It should move to the farthest value.",
            _clamps),
    Mistake("drops_empty", "You return fewer centroids than you got. One without values moves, it does not go.",
            _drops),
    Mistake("all_to_one_value", "All centroids without values move to the same value. The second one takes the second "
            "farthest.", _same),
    Mistake("to_the_largest", "A centroid without values moves to the largest value. The one that is worst served is "
            "the farthest from its own centroid.",
            lambda values, centroids: _refilled(values, centroids, values.max())),
    Mistake("to_the_mean", "A centroid without values moves to the mean of all. It should move to the farthest value.",
            lambda values, centroids: _refilled(values, centroids, values.mean())),
    Mistake("out_of_order", "Your centroids do not ascend where one of them was moved to a far value.",
            lambda values, centroids: _step(values, centroids, in_order=False)),
    Mistake("median", "Each centroid moves to the median of its values; the squared error wants their mean.",
            lambda values, centroids: _step(values, centroids, centre=torch.median)),
    Mistake("between_centroids", "You cut at the centroids themselves. The border of two clusters is half-way between "
            "their centroids.", lambda values, centroids: _step(values, centroids, nearest=_between)),
    Mistake("until_it_stands", "You go on until nothing moves. The function makes one round.", _until_still),
    Mistake("does_not_move", "The centroids come back as they were: assigned, but not moved.",
            lambda values, centroids: centroids),
    Mistake("not_flattened", "It is right for a row of values, but a weight may have any shape. Flatten it first.",
            _not_flattened),
)  # fmt: skip


def initial_probes() -> list[tuple[Any, ...]]:
    """Each of the three ways on skewed values, k above and below; random from several seeds."""
    values = normal(6, 10, seed=2).exp() - 0.5
    ways = [(values, 5, "linear"), (values, 5, "density"), (values, 8, "linear"), (values, 8, "density")]
    return [*ways, *((values, 50, "random", seed) for seed in (0, 3, 4))]


def _ends(values: Tensor, k: int) -> tuple[float, float]:
    return values.min().item(), values.max().item()


def _linear(values: Tensor, k: int) -> Tensor:
    return torch.linspace(*_ends(values, k), k, dtype=torch.float64)


def _density(values: Tensor, k: int, start: float = 0.5, parts: float = 0.0) -> Tensor:
    at = (torch.arange(k, dtype=torch.float64) + start) / (k + parts)
    return torch.quantile(values.double().flatten(), at)


def _random(values: Tensor, k: int, seed: int) -> Tensor:
    order = torch.randperm(values.numel(), generator=torch.Generator().manual_seed(seed))
    return values.double().flatten()[order[:k]].sort().values


def _begin(linear: Any = _linear, density: Any = _density, random: Any = _random) -> Callable[..., Tensor]:
    """initial_centroids with one of its ways replaced."""

    def initial(values: Tensor, n_clusters: int, init: str, seed: int = 0) -> Tensor:
        if init == "random":
            return random(values, n_clusters, seed)
        return (linear if init == "linear" else density)(values, n_clusters)

    return initial


def _inner(values: Tensor, k: int) -> Tensor:
    low, high = _ends(values, k)
    return low + (high - low) * (torch.arange(k, dtype=torch.float64) + 0.5) / k


def _symmetric(values: Tensor, k: int) -> Tensor:
    far = values.abs().max().item()
    return torch.linspace(-far, far, k, dtype=torch.float64)


def _open(values: Tensor, k: int) -> Tensor:
    low, high = _ends(values, k)
    return low + (high - low) * torch.arange(k, dtype=torch.float64) / k


def _uniform(values: Tensor, k: int, seed: int) -> Tensor:
    low, high = _ends(values, k)
    drawn = torch.rand(k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (low + (high - low) * drawn).sort().values


def _repeats(values: Tensor, k: int, seed: int) -> Tensor:
    drawn = torch.randint(values.numel(), (k,), generator=torch.Generator().manual_seed(seed))
    return values.double().flatten()[drawn].sort().values


def _unsorted(values: Tensor, k: int, seed: int) -> Tensor:
    order = torch.randperm(values.numel(), generator=torch.Generator().manual_seed(seed))
    return values.double().flatten()[order[:k]]


INITIAL_CENTROIDS = (
    Mistake("linear_inside", "Your linear centroids are the middles of k bins. The first lies on the smallest value "
            "and the last on the largest.", _begin(linear=_inner)),
    Mistake("linear_symmetric", "Your linear centroids run from -max|x| to max|x|. They run from the smallest to the "
            "largest value.", _begin(linear=_symmetric)),
    Mistake("linear_without_end", "Your linear centroids stop one step before the largest value: k centroids make "
            "k - 1 steps.", _begin(linear=_open)),
    Mistake("density_with_ends", "Your density centroids begin at the smallest value and end at the largest: they "
            "run over ranks 0 to 1. Each should sit in the middle of its share.",
            _begin(density=lambda values, k: _density(values, k, start=0.0, parts=-1.0))),
    Mistake("density_at_borders", "Your density centroids sit at the lower border of their share, i / k. Its middle is "
            "half a share higher.", _begin(density=lambda values, k: _density(values, k, start=0.0))),
    Mistake("density_of_k_plus_1", "You cut the ranks into k + 1 shares. There are k, and a centroid in the middle of "
            "each.",
            _begin(density=lambda values, k: _density(values, k, start=1.0, parts=1.0))),
    Mistake("density_is_linear", "Your density centroids are evenly spaced in value. They should be in rank.",
            _begin(density=_linear)),
    Mistake("random_numbers", "Your random centroids are numbers between the ends. They should be drawn from the "
            "values.",
            _begin(random=_uniform)),
    Mistake("drawn_twice", "Your random draw can take the same value twice, and one of the two clusters would be "
            "empty.",
            _begin(random=_repeats)),
    Mistake("random_out_of_order", "Your random centroids do not ascend.", _begin(random=_unsorted)),
    Mistake("one_seed", "Every seed draws the same.", _begin(random=lambda values, k, seed: _random(values, k, 0))),
    Mistake("the_first_k", "You take the first k values. That is no draw: the first weights of a layer belong to one "
            "output.", _begin(random=lambda values, k, seed: values.double().flatten()[:k].sort().values)),
)  # fmt: skip
