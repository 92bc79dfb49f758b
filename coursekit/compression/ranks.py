"""Ranks for a whole network: what each rank of each layer costs, and a rank for each within a budget of bytes."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.compression.lowrank import break_even_rank, factorize_, replace_module_, weight_matrix
from coursekit.data import Dataset
from coursekit.measure import saved_size
from coursekit.train import predict

__all__ = [
    "RankTable",
    "energy_table",
    "factorizable",
    "factorize_ranks",
    "factorize_to_budget",
    "greedy_ranks",
    "rank_scan",
    "ranks_for_budget",
]

Layer = nn.Linear | nn.Conv2d


def greedy_ranks(
    singular_values: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, int]], budget: int
) -> dict[str, int]:
    """A rank for every layer such that all factors together have at most `budget` numbers.

    All start at their break-even rank. While there are too many numbers, one layer gives up its last singular value:
    the one whose square is the smallest share of the squares the layer still holds, per number saved. So the product
    of the energies held falls least. No layer goes below rank 1; of equals the first gives way.

    Args:    singular_values: layer to its singular values, falling, the first above 0. shapes: layer to (m, n); a
             rank costs m + n numbers. budget: numbers for all layers together.
    Returns: layer to rank, in the order of singular_values.
    Raises:  ValueError if the layers differ, one has no rank that saves, or rank 1 everywhere is over the budget.
    Source:  Zhang et al. 2016, arXiv:1505.06798, the greedy rank selection for the whole model. Taught in lesson 13.

    >>> values = {"a": torch.tensor([2.0, 1.0, 1.0]), "b": torch.tensor([2.0, 0.1, 0.1])}
    >>> greedy_ranks(values, {"a": (8, 4), "b": (8, 4)}, budget=40)
    {'a': 2, 'b': 1}
    """
    ranks = _break_even(singular_values, shapes, budget)
    energy = {name: values.detach().double().square() for name, values in singular_values.items()}
    held = {name: energy[name][:rank].sum().item() for name, rank in ranks.items()}

    def price(name: str) -> float:
        return energy[name][ranks[name] - 1].item() / held[name] / sum(shapes[name])

    while sum(rank * sum(shapes[name]) for name, rank in ranks.items()) > budget:
        cheapest = min((name for name, rank in ranks.items() if rank > 1), key=price)
        held[cheapest] -= energy[cheapest][ranks[cheapest] - 1].item()
        ranks[cheapest] -= 1
    return ranks


def _break_even(
    values: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, int]], budget: int
) -> dict[str, int]:
    if not values or values.keys() != shapes.keys():
        raise ValueError("singular_values and shapes must name the same layers, at least one")
    ranks = {name: min(break_even_rank(*shapes[name]), len(values[name])) for name in values}
    if none := [name for name, rank in ranks.items() if rank == 0]:
        raise ValueError(f"no rank of {', '.join(none)} saves numbers: leave out layers that thin")
    if (least := sum(map(sum, shapes.values()))) > budget:
        raise ValueError(f"{budget:,} numbers cannot be met: rank 1 everywhere takes {least:,}")
    return ranks


def factorizable(
    model: nn.Module, names: Iterable[str] | None = None, *, spatial: bool = False
) -> dict[str, Layer]:
    """The layers that some rank would make smaller, by name, in the order of the network.

    Args:   names: only these; by default every linear layer and ungrouped convolution. spatial: as `weight_matrix`.
    Raises: ValueError if one of `names` is no linear layer or convolution of the model, or has groups.
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, Layer)}
    asked = set(layers if names is None else names)
    if unknown := asked - layers.keys():
        raise ValueError(f"no linear layer or convolution is called {', '.join(sorted(unknown))}")
    grouped = {name: m.groups for name, m in layers.items() if isinstance(m, nn.Conv2d) and m.groups != 1}
    if names is not None and (refused := sorted(asked & grouped.keys())):
        told = ", ".join(f"{name} has {grouped[name]} groups" for name in refused)
        raise ValueError(f"{told}: only ungrouped convolutions are factorized")
    return {
        name: layer
        for name, layer in layers.items()
        if name in asked - grouped.keys()
        and break_even_rank(*weight_matrix(layer, spatial=spatial).shape) > 0
    }


@dataclass(frozen=True)
class RankTable:
    """The ranks that each layer may have, with what they take and what they cost.

    Attributes: ranks: layer to ranks, rising; the last is the full rank and means the layer as it is.
                sizes: layer to bytes of its weight at each, rising. losses: layer to what each costs; 0 at the last.
                spatial: whether convolutions are split into K x 1 and 1 x K.
    """

    ranks: Mapping[str, tuple[int, ...]]
    sizes: Mapping[str, tuple[int, ...]]
    losses: Mapping[str, tuple[float, ...]]
    spatial: bool = False


def energy_table(model: nn.Module, names: Iterable[str] | None = None, *, spatial: bool = False) -> RankTable:
    """Every rank that saves, each at minus the logarithm of the energy it holds.

    The sum over layers is then minus the logarithm of the product of their energies, which nobody has to measure.

    Args, Raises: as `factorizable`.
    Source:       Zhang et al. 2016, arXiv:1505.06798, rank selection for the whole model. Taught in lesson 13.
    """
    ranks, sizes, losses = {}, {}, {}
    for name, layer in factorizable(model, names, spatial=spatial).items():
        matrix = weight_matrix(layer, spatial=spatial)
        energy = torch.linalg.svdvals(matrix.double()).square()
        held = energy.cumsum(0) / energy.sum() if energy.any() else torch.ones_like(energy)
        saving = range(1, break_even_rank(*matrix.shape) + 1)
        ranks[name] = (*saving, min(matrix.shape))
        sizes[name] = _sizes(matrix, saving)
        losses[name] = (*(-math.log(held[rank - 1].item()) for rank in saving), 0.0)
    return RankTable(ranks, sizes, losses, spatial)


def _sizes(matrix: Tensor, saving: Iterable[int]) -> tuple[int, ...]:
    """Bytes of the factors at each rank, and of the matrix itself."""
    each = matrix.element_size()
    return (*(rank * sum(matrix.shape) * each for rank in saving), matrix.numel() * each)


def rank_scan(
    model: nn.Module,
    data: Dataset,
    shares: Sequence[float] = (0.125, 0.25, 0.5, 0.75, 1.0),
    names: Iterable[str] | None = None,
    *,
    spatial: bool = False,
) -> RankTable:
    """By how much the model's cross-entropy rises when one layer alone is cut to a rank, for each layer and rank.

    Args:    model: left as it is. data: training images that are kept for choosing, never the test set.
             shares: ranks to try, as shares of each layer's break-even rank, rising, above 0 and at most 1.
             names, spatial: as `factorizable`.
    Returns: losses in nats, below 0 where the cut helped.
    Raises:  ValueError if shares is empty, does not rise or leaves (0, 1], or data is empty; as `factorizable`.
    Source:  Taught in lesson 13.
    """
    levels = tuple(shares)
    if not levels or levels[0] <= 0 or levels[-1] > 1 or any(a >= b for a, b in pairwise(levels)):
        raise ValueError(f"shares must rise within (0, 1] and not be empty, got {levels}")
    if len(data) == 0:
        raise ValueError("data is empty: there is nothing to measure on")
    before, trial = _loss(model, data), copy.deepcopy(model)
    ranks, sizes, losses = {}, {}, {}
    for name, layer in factorizable(trial, names, spatial=spatial).items():
        matrix = weight_matrix(layer, spatial=spatial)
        most = break_even_rank(*matrix.shape)
        saving = sorted({max(1, round(share * most)) for share in levels})
        rises = []
        for rank in saving:
            factorize_(trial, name, rank, spatial=spatial)
            rises.append(_loss(trial, data) - before)
            replace_module_(trial, name, layer)
        ranks[name], sizes[name] = (*saving, min(matrix.shape)), _sizes(matrix, saving)
        losses[name] = (*rises, 0.0)
    return RankTable(ranks, sizes, losses, spatial)


def _loss(model: nn.Module, data: Dataset) -> float:
    """Mean cross-entropy in nats."""
    return F.cross_entropy(predict(model, data.images), data.labels).item()


def ranks_for_budget(table: RankTable, budget_bytes: int) -> dict[str, int]:
    """A rank for each layer that is to be cut, such that the weights take at most this many bytes.

    All layers start at their smallest option. Bytes go, step by step, where they lower the sum of losses most per byte;
    options that a straight line between two others beats are passed over, so that a layer may go from few ranks to
    none lost at once. What does not fit is replaced by the best option of that layer that does.

    Returns: layer to rank, in the order of the network, without the layers that stay as they are.
    Raises:  ValueError if even the smallest options do not fit.
    Source:  the greedy for the multiple-choice knapsack on each layer's convex hull; Sinha and Zoltners 1979, "The
             multiple-choice knapsack problem". Taught in lesson 13.
    """
    at = dict.fromkeys(table.ranks, 0)
    room = budget_bytes - sum(sizes[0] for sizes in table.sizes.values())
    if room < 0:
        raise ValueError(
            f"{budget_bytes:,} bytes cannot be met: the smallest ranks take {budget_bytes - room:,}"
        )
    steps = [(gain, name, to) for name in at for gain, to in _steps(table.sizes[name], table.losses[name])]
    closed = set()
    for _, name, to in sorted(steps, key=lambda step: -step[0]):
        if name in closed:
            continue
        sizes, losses = table.sizes[name], table.losses[name]
        if sizes[to] - sizes[at[name]] > room:
            fits = [i for i in range(at[name], to) if sizes[i] - sizes[at[name]] <= room]
            to = min(fits, key=losses.__getitem__)
            closed.add(name)
        room -= sizes[to] - sizes[at[name]]
        at[name] = to
    return {name: table.ranks[name][i] for name, i in at.items() if i < len(table.ranks[name]) - 1}


def _steps(sizes: Sequence[int], losses: Sequence[float]) -> list[tuple[float, int]]:
    """The corners of the lower convex hull of loss over size, from the smallest size on: loss saved per byte, index."""
    at, found = 0, []
    while at < len(sizes) - 1:
        gains = [((losses[at] - losses[i]) / (sizes[i] - sizes[at]), i) for i in range(at + 1, len(sizes))]
        gain, at = max(gains)  # of equal slopes the farthest
        if gain <= 0:
            break
        found.append((gain, at))
    return found


def factorize_ranks(model: nn.Module, ranks: Mapping[str, int], *, spatial: bool = False) -> nn.Module:
    """A copy of the model whose layers of these names are factorized to these ranks; the others are as they were.

    Raises: ValueError if a rank would make its layer larger, or is below 1; as `factorizable`.
    """
    layers = factorizable(model, ranks, spatial=spatial)
    for name, rank in ranks.items():
        most = break_even_rank(*weight_matrix(layers[name], spatial=spatial).shape) if name in layers else 0
        if not 1 <= rank <= most:
            raise ValueError(f"rank {rank} of {name} saves nothing: its ranks that do are 1 to {most}")
    made = copy.deepcopy(model)
    for name, rank in ranks.items():
        factorize_(made, name, rank, spatial=spatial)
    return made


def factorize_to_budget(
    model: nn.Module, budget_bytes: int, table: RankTable | None = None, *, spatial: bool = False
) -> tuple[nn.Module, dict[str, int]]:
    """A copy of the model whose file has at most this many bytes, and the ranks that its layers were cut to.

    The file is written and measured, header and all; where it is still too large, the layers get fewer bytes.

    Args:   table: what each rank costs; by default `energy_table`. spatial: for that default; a table has its own.
    Raises: ValueError if the smallest ranks do not meet the budget.
    """
    table = energy_table(model, spatial=spatial) if table is None else table
    room = budget_bytes - saved_size(model) + sum(sizes[-1] for sizes in table.sizes.values())
    while True:
        ranks = ranks_for_budget(table, room)
        made = factorize_ranks(model, ranks, spatial=table.spatial)
        excess = saved_size(made) - budget_bytes
        if excess <= 0:
            return made, ranks
        room -= excess
