"""Channel pruning by hand: importance, surgery on a small chain, what goes together, what it saves.

All of it on plain tensors and numbers; `graph`, `groups` and `surgery` do the same for whole networks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

__all__ = [
    "channel_importance",
    "choose_channels",
    "conv_macs",
    "coupled_layers",
    "cut_conv_bn_conv",
    "flat_indices",
]


def channel_importance(weight: Tensor, scale: Tensor | None = None, p: int = 1) -> Tensor:
    """The p-norm of each output channel's weights, times the size of what batch norm multiplies it by.

    Args:    weight: (C_out, ...) of a convolution or a linear layer. scale: (C_out,), gamma / sigma of the
             batch norm that follows, or None. p: 1 or 2.
    Returns: (C_out,), at least 0, in the units of the weight.
    Raises:  ValueError if p is neither 1 nor 2.
    Source:  Li et al. 2017, arXiv:1608.08710, section 3.1 (p = 1). Taught in lesson 06.

    >>> channel_importance(torch.tensor([[3.0, -4.0], [1.0, 0.0]]), p=2)
    tensor([5., 1.])
    """
    if p not in (1, 2):
        raise ValueError(f"p must be 1 or 2, got {p}")
    norm = weight.abs().pow(p).flatten(1).sum(1).pow(1 / p)
    return norm if scale is None else norm * scale.abs()


def cut_conv_bn_conv(chain: Mapping[str, Tensor], keep: Tensor) -> dict[str, Tensor]:
    """The tensors of conv1 -> bn -> conv2 without the channels between them that are not in `keep`.

    Args:    chain: "conv1.weight" (C, C_in, K, K), "conv1.bias" (C,), "bn.weight", "bn.bias", "bn.running_mean",
             "bn.running_var" (C,), "conv2.weight" (C_out, C, K, K), "conv2.bias" (C_out,).
             keep: int64 (n,), indices of the channels that stay, in the order they are to have.
    Returns: new tensors under the same names; conv2's outputs and its bias are whole.
    Taught in lesson 06.
    """
    cut = {name: value[keep] for name, value in chain.items() if not name.startswith("conv2.")}
    return {**cut, "conv2.weight": chain["conv2.weight"][:, keep], "conv2.bias": chain["conv2.bias"].clone()}


def flat_indices(keep: Tensor, positions: int) -> Tensor:
    """Which inputs of a linear layer belong to the kept channels, where `flatten(1)` stands before it.

    Args:    keep: int64 (n,), channels that stay. positions: height times width of one channel's map.
    Returns: int64 (n * positions,), channel after channel.
    Raises:  ValueError if positions is below 1.
    Taught in lesson 06.

    >>> flat_indices(torch.tensor([0, 2]), 3)
    tensor([0, 1, 2, 6, 7, 8])
    """
    if positions < 1:
        raise ValueError(f"positions must be at least 1, got {positions}")
    return (keep[:, None] * positions + torch.arange(positions)).flatten()


def coupled_layers(layers: Sequence[str], edges: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The layers sorted into groups that must lose the same channels: the connected parts of a graph.

    Args:    layers: names, in the network's order. edges: pairs whose output channels are added.
    Returns: groups in the order of their first layers, each in the order of `layers`; a layer in no edge alone.
    Raises:  ValueError if an edge names a layer that is not there.
    Source:  union-find: Galler, Fischer 1964. Taught in lesson 06.

    >>> coupled_layers(["a", "b", "c", "d"], [("d", "a")])
    [['a', 'd'], ['b'], ['c']]
    """
    parent = {layer: layer for layer in layers}

    def root(layer: str) -> str:
        while parent[layer] != layer:
            layer = parent[layer]
        return layer

    for a, b in edges:
        if a not in parent or b not in parent:
            raise ValueError(f"the edge ({a}, {b}) names a layer that is not in layers")
        parent[root(b)] = root(a)
    groups: dict[str, list[str]] = {}
    for layer in layers:
        groups.setdefault(root(layer), []).append(layer)
    return list(groups.values())


def conv_macs(c_in: int, c_out: int, kernel: int, height: int, width: int, groups: int = 1) -> int:
    """The multiply-accumulates of one image's way through a convolution with square kernels.

    Args:    c_in, c_out: channels. kernel: side of the kernel. height, width: of the *output*.
             groups: the input channels are split among so many groups of filters.
    Raises:  ValueError if the groups do not divide both channel counts.
    Taught in lesson 06.

    >>> conv_macs(16, 32, 3, 14, 14)
    903168
    """
    if c_in % groups or c_out % groups:
        raise ValueError(f"{groups} groups divide neither {c_in} input nor {c_out} output channels evenly")
    return c_in // groups * c_out * kernel**2 * height * width


def choose_channels(
    importance: Sequence[Tensor], areas: Sequence[int], n_in: int, n_out: int, budget: int
) -> list[Tensor]:
    """Which channels to keep in a chain of convolutions, so that it costs at most `budget` MACs.

    Layer i costs areas[i] * (channels before it) * (channels after it). As long as that is too much, the
    channel goes whose importance is smallest per MAC that its going saves; a layer never loses its last one.

    Args:    importance: a (C_i,) tensor for each of the L hidden widths. areas: L + 1 numbers, kernel size times
             output positions of each layer. n_in, n_out: channels of the input, classes of the output.
             budget: multiply-accumulates allowed.
    Returns: L int64 tensors of indices to keep, ascending.
    Raises:  ValueError if no choice is cheap enough.
    Source:  greedy, first principles; the scores of Molchanov et al. 2017, arXiv:1611.06440, section 2.2, are
             divided by FLOPs to the same end. Taught in lesson 06.
    """
    order = [scores.argsort(descending=True, stable=True).tolist() for scores in importance]
    while True:
        widths = [n_in, *map(len, order), n_out]
        pairs = itertools.pairwise(widths)
        if sum(area * a * b for area, (a, b) in zip(areas, pairs, strict=True)) <= budget:
            return [torch.tensor(sorted(kept)) for kept in order]
        price = {
            i: importance[i][kept[-1]].item() / (areas[i] * widths[i] + areas[i + 1] * widths[i + 2])
            for i, kept in enumerate(order)
            if len(kept) > 1
        }
        if not price:
            raise ValueError(f"one channel a layer already costs more than {budget} MACs")
        order[min(price, key=lambda i: price[i])].pop()
