"""Known mistakes in finding what goes together, in counting MACs, and in choosing channels for a budget.

Each `wrong` makes one mistake and no other; a check recognises it by equal results on every probe.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.spec import Mistake

__all__ = ["CHOOSE", "CONV_MACS", "COUPLED", "choose_probes", "coupled_probes", "macs_probes"]

Args = tuple[Any, ...]
Edges = Iterable[tuple[str, str]]


def coupled_probes() -> list[Args]:
    """Chains of additions in awkward orders, layers out of the alphabet's order, and layers alone."""
    return [
        (list("abcde"), [("a", "b"), ("c", "d"), ("b", "c")]),
        (list("zyxwv"), [("v", "x"), ("x", "z")]),
        (list("abcdef"), [("b", "c"), ("d", "c"), ("e", "d"), ("a", "f")]),
        (["stem", "one", "two", "three", "fc"], [("one", "three"), ("three", "stem")]),
        (["a", "b"], []),
    ]


def _groups(layers: Sequence[str], edges: Edges) -> list[list[str]]:
    label = {layer: i for i, layer in enumerate(layers)}
    for a, b in edges:
        old, new = label[b], label[a]
        label = {layer: new if mine == old else mine for layer, mine in label.items()}
    found: dict[int, list[str]] = {}
    for layer in layers:
        found.setdefault(label[layer], []).append(layer)
    return list(found.values())


def _neighbours(layers: Sequence[str], edges: Edges) -> list[list[str]]:
    seen: set[str] = set()
    groups = []
    for layer in layers:
        if layer not in seen:
            near = {layer} | {b for e in edges for b in e if layer in e}
            groups.append([each for each in layers if each in near - seen])
            seen |= near
    return groups


def _one_pass(layers: Sequence[str], edges: Edges) -> list[list[str]]:
    groups: list[set[str]] = []
    for a, b in edges:
        home = next((g for g in groups if a in g or b in g), None)
        if home is None:
            groups.append({a, b})
        else:
            home |= {a, b}
    groups += [{layer} for layer in layers if not any(layer in g for g in groups)]
    found = [[layer for layer in layers if layer in g] for g in groups]
    return sorted(found, key=lambda g: layers.index(g[0]))


def _directed(layers: Sequence[str], edges: Edges) -> list[list[str]]:
    seen: set[str] = set()
    groups = []
    for layer in layers:
        if layer in seen:
            continue
        reach = {layer}
        for _ in layers:
            reach |= {b for a, b in edges if a in reach}
        groups.append([each for each in layers if each in reach - seen])
        seen |= reach
    return groups


def _one_parent(layers: Sequence[str], edges: Edges) -> list[list[str]]:
    parent = {layer: layer for layer in layers}
    for a, b in edges:
        parent[b] = parent[a]
    found: dict[str, list[str]] = {}
    for layer in layers:
        found.setdefault(parent[layer], []).append(layer)
    return list(found.values())


def _all_coupled(layers: Sequence[str], edges: Edges) -> list[list[str]]:
    touched = [layer for layer in layers if any(layer in e for e in edges)]
    alone = [[layer] for layer in layers if layer not in touched]
    return sorted([*([touched] if touched else []), *alone], key=lambda g: layers.index(g[0]))


COUPLED = (
    Mistake("direct_neighbours", "You group a layer with those it is added to, but not with those that *they* are "
            "added to. A chain of additions is one group.", _neighbours),
    Mistake("never_merges", "When an addition joins two groups that exist already, you leave them apart: the result "
            "depends on the order of the edges.", _one_pass),
    Mistake("directed", "You follow an edge from its first layer to its second only. An addition ties both alike.",
            _directed),
    Mistake("one_parent", "You point the second layer to the first one's parent, but not the rest of its group "
            "with it: join the *roots*.", _one_parent),
    Mistake("drops_singles", "Layers without an addition are missing. They are groups of one, and can be pruned "
            "alone.",
            lambda layers, edges: [g for g in _groups(layers, edges) if len(g) > 1]),
    Mistake("all_in_one", "You put every layer that takes part in any addition into one group, connected or not.",
            _all_coupled),
    Mistake("edges_only", "Your groups are the edges themselves: a layer in two of them stands in two groups.",
            lambda layers, edges: [list(e) for e in edges] + [[x] for x in layers if not any(x in e for e in edges)]),
    Mistake("alphabetical", "You sort names. The groups and their layers were to come in the network's order.",
            lambda layers, edges: sorted(sorted(g) for g in _groups(layers, edges))),
    Mistake("largest_first", "The groups are right, but you sort them by size: they were to come in the order of "
            "their first layers.", lambda layers, edges: sorted(_groups(layers, edges), key=len, reverse=True)),
    Mistake("sets", "The groups are right, but they are sets. Lists were asked for, in the network's order.",
            lambda layers, edges: [set(g) for g in _groups(layers, edges)]),
)  # fmt: skip


def macs_probes() -> list[Args]:
    """Square and oblong maps, one and several groups."""
    return [(3, 8, 5, 4, 7, 1), (16, 32, 3, 14, 13, 1), (12, 24, 3, 5, 2, 4), (32, 32, 3, 6, 5, 32)]


CONV_MACS = (
    Mistake("counts_twice", "You count multiplication and addition apart. One MAC is both (what is called FLOPs is "
            "twice as many).", lambda a, b, k, h, w, g=1: 2 * a * b * k * k * h * w // g),
    Mistake("ignores_groups", "Groups make no difference in your count, but a filter reads only its group's inputs.",
            lambda a, b, k, h, w, g=1: a * b * k * k * h * w),
    Mistake("multiplies_groups", "More groups cost more in your count. Each filter reads fewer inputs, so they cost "
            "less.", lambda a, b, k, h, w, g=1: a * b * k * k * h * w * g),
    Mistake("divides_twice", "You divide inputs and outputs by the groups. All outputs exist; only what each reads "
            "is less.", lambda a, b, k, h, w, g=1: a * b * k * k * h * w // g**2),
    Mistake("kernel_once", "A square kernel of side K has K times K weights.",
            lambda a, b, k, h, w, g=1: a * b * k * h * w // g),
    Mistake("parameters", "This is the number of weights. Every weight is used once for every output position.",
            lambda a, b, k, h, w, g=1: a * b * k * k // g),
    Mistake("square_map", "You use the height twice. The map need not be square.",
            lambda a, b, k, h, w, g=1: a * b * k * k * h * h // g),
    Mistake("no_inputs", "You leave out the input channels: a filter has a kernel for each of them.",
            lambda a, b, k, h, w, g=1: b * k * k * h * w // g),
    Mistake("adds_bias", "You count the bias. MACs leave it out, as in every paper.",
            lambda a, b, k, h, w, g=1: a * b * k * k * h * w // g + b * h * w),
    Mistake("float", "The number is right, but a float: use // for the groups.",
            lambda a, b, k, h, w, g=1: a * b * k * k * h * w / g),
)  # fmt: skip


def choose_probes() -> list[Args]:
    """Chains in which the price decides, changes as channels go, and would empty a layer."""
    a = [torch.tensor([0.9, 0.2, 0.5, 0.8]), torch.tensor([0.3, 0.35, 0.6, 0.1, 0.7])]
    low = [torch.tensor([1e-6, 2e-6, 3e-6]), torch.tensor([0.5, 0.6, 0.7, 0.8])]
    three = [torch.rand(n, generator=torch.Generator().manual_seed(n)) for n in (6, 8, 5)]
    return [
        (a, [40, 10, 3], 1, 2, 180),
        (a, [5, 20, 40], 1, 2, 300),
        (a, [20, 30, 10], 1, 2, 150),
        (low, [10, 10, 10], 1, 1, 50),
        ([torch.tensor([3.0, 1.0, 2.0])], [10, 10], 1, 1, 40),
        (three, [9, 30, 6, 20], 3, 4, 900),
    ]


def _cost(areas: Sequence[int], widths: Sequence[int]) -> int:
    return sum(area * a * b for area, (a, b) in zip(areas, itertools.pairwise(widths), strict=True))


def _saved(areas: Sequence[int], widths: Sequence[int], i: int) -> int:
    return areas[i] * widths[i] + areas[i + 1] * widths[i + 2]


def _greedy(
    price: Callable[..., float] | None = None,
    last: int = 1,
    strict: bool = False,
    back: int = 0,
    high: bool = False,
) -> Callable[..., list[list[int]]]:
    """A greedy choice with one thing changed; the kept channels, in order of falling importance."""

    def choose(
        importance: Sequence[Tensor], areas: Sequence[int], n_in: int, n_out: int, budget: int
    ) -> list[list[int]]:
        order = [scores.argsort(descending=not high, stable=True).tolist() for scores in importance]
        first = [n_in, *map(len, order), n_out]
        history = [[list(kept) for kept in order]]
        while True:
            widths = [n_in, *map(len, order), n_out]
            cost = _cost(areas, widths)
            if cost < budget or (cost == budget and not strict):
                return history[max(0, len(history) - 1 - back)]
            costs = {
                i: (price or (lambda s, f, w, i, areas: s / max(_saved(areas, w, i), 1)))(
                    importance[i][kept[-1]].item(), first, widths, i, areas
                )
                for i, kept in enumerate(order)
                if len(kept) > last
            }
            order[min(costs, key=lambda i: costs[i])].pop()
            history.append([list(kept) for kept in order])

    return choose


def _tensors(choose: Callable[..., list[list[int]]], *, ordered: bool = True) -> Callable[..., list[Tensor]]:
    def chosen(*args: Any) -> list[Tensor]:
        kept = choose(*args)
        return [torch.tensor(sorted(each) if ordered else each, dtype=torch.int64) for each in kept]

    return chosen


def _removed(importance: Sequence[Tensor], *rest: Any) -> list[Tensor]:
    kept = _greedy()(importance, *rest)
    return [torch.tensor([i for i in range(len(s)) if i not in k], dtype=torch.int64)
            for s, k in zip(importance, kept, strict=True)]  # fmt: skip


def _uniform(
    importance: Sequence[Tensor], areas: Sequence[int], n_in: int, n_out: int, budget: int
) -> list[Tensor]:
    for step in range(100, -1, -1):
        widths = [max(1, len(scores) * step // 100) for scores in importance]
        if _cost(areas, [n_in, *widths, n_out]) <= budget:
            return [
                scores.topk(n).indices.sort().values for scores, n in zip(importance, widths, strict=True)
            ]
    raise ValueError("budget")


CHOOSE = (
    Mistake("ignores_macs", "You remove by importance alone. Divide it by the MACs that removing the channel saves.",
            _tensors(_greedy(lambda s, f, w, i, areas: s))),
    Mistake("multiplies", "You multiply the importance by what removing saves: the more a channel saves, the "
            "*sooner* it should go.", _tensors(_greedy(lambda s, f, w, i, areas: s * _saved(areas, w, i)))),
    Mistake("stale_savings", "You work out once what a channel saves. With every channel that goes, those in the "
            "layers next to it become cheaper: count anew.",
            _tensors(_greedy(lambda s, f, w, i, areas: s / _saved(areas, f, i)))),
    Mistake("own_layer_only", "You count what a channel saves in the layer that makes it. The layer that reads it "
            "gets cheaper, too.", _tensors(_greedy(lambda s, f, w, i, areas: s / (areas[i] * w[i])))),
    Mistake("next_layer_only", "You count what a channel saves in the layer that reads it. The layer that makes it "
            "gets cheaper, too.", _tensors(_greedy(lambda s, f, w, i, areas: s / (areas[i + 1] * w[i + 2])))),
    Mistake("same_area", "You use layer i's area for the layer that reads the channel: that one has an area of its "
            "own, areas[i + 1].", _tensors(_greedy(lambda s, f, w, i, areas: s / (areas[i] * (w[i] + w[i + 2]))))),
    Mistake("one_too_few", "You stop one step before the budget is met.", _tensors(_greedy(back=1))),
    Mistake("one_too_many", "You go on although the budget is met exactly: at most `budget` is allowed.",
            _tensors(_greedy(strict=True))),
    Mistake("empties_a_layer", "A layer of yours loses its last channel, and then nothing gets through.",
            _tensors(_greedy(last=0))),
    Mistake("most_important_first", "You remove the most important channels of a layer first.",
            _tensors(_greedy(high=True))),
    Mistake("returns_removed", "You return the channels that go. Asked for are those that stay.", _removed),
    Mistake("unsorted", "The channels are right, but in the order of their importance. Sort them: the kept "
            "channels are to stay in their old order.", _tensors(_greedy(), ordered=False)),
    Mistake("same_share", "You remove the same share of every layer, whatever it saves and however much it matters.",
            _uniform),
)  # fmt: skip
