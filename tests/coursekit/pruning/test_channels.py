"""Channel pruning by hand: each function against a slow specification or the network itself."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from coursekit import measure
from coursekit.pruning import (
    channel_importance,
    choose_channels,
    conv_macs,
    coupled_layers,
    cut_conv_bn_conv,
    flat_indices,
)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("shape", [(5, 3, 3, 3), (4, 7), (6, 1, 5, 5)], ids=str)
def test_importance_is_the_norm_of_each_row(p, shape):
    weight = random(*shape)
    expected = torch.stack([torch.linalg.vector_norm(row, p) for row in weight])
    torch.testing.assert_close(channel_importance(weight, p=p), expected)


def test_importance_of_a_channel_that_batch_norm_zeroes_is_0():
    scale = torch.tensor([1.0, 0.0, -2.0])
    scores = channel_importance(torch.ones(3, 2, 1, 1), scale)
    assert scores.tolist() == [2.0, 0.0, 4.0]


def test_importance_of_a_third_norm_is_refused():
    with pytest.raises(ValueError, match="p must be 1 or 2"):
        channel_importance(torch.ones(2, 2), p=3)


def chain_of(c: int) -> tuple[nn.Sequential, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, c, 3), nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, 4, 3, padding=1)
    ).eval()
    for name, tensor in network[1].state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
            assert name
    names = {"0": "conv1", "1": "bn", "3": "conv2"}
    state = {f"{names[key[0]]}{key[1:]}": value for key, value in network.state_dict().items()}
    return network, {key: value for key, value in state.items() if not key.endswith("tracked")}


def test_cut_chain_gives_what_the_masked_chain_gives():
    network, chain = chain_of(6)
    keep = torch.tensor([0, 2, 5])
    cut = cut_conv_bn_conv(chain, keep)
    small, _ = chain_of(3)
    for key, module in (("conv1", small[0]), ("bn", small[1]), ("conv2", small[3])):
        module.load_state_dict(
            {name.split(".")[1]: t for name, t in cut.items() if name.startswith(f"{key}.")}, strict=False
        )
    gone = [1, 3, 4]
    with torch.no_grad():
        for tensor in (network[0].weight, network[0].bias, network[1].weight, network[1].bias):
            tensor[gone] = 0
        x = random(2, 2, 8, 8)
        # sums of at most 6 * 9 products of size 1: float32 rounding stays far below 1e-5
        torch.testing.assert_close(small(x), network(x), atol=1e-5, rtol=0)


def test_cut_chain_leaves_its_input_alone():
    _, chain = chain_of(4)
    before = {name: tensor.clone() for name, tensor in chain.items()}
    cut_conv_bn_conv(chain, torch.tensor([1]))["conv2.bias"].zero_()
    assert all(torch.equal(chain[name], before[name]) for name in chain)


def test_flat_indices_are_where_flatten_puts_the_channels():
    keep = torch.tensor([4, 1])
    x = random(1, 5, 2, 3)
    assert torch.equal(x.flatten(1)[:, flat_indices(keep, 6)], x[:, keep].flatten(1))
    with pytest.raises(ValueError, match="positions"):
        flat_indices(keep, 0)


def reachable(layers, edges):
    """Groups by the slowest way: whoever can be reached, however far."""
    near = {a: {b for e in edges for b in e if a in e} | {a} for a in layers}
    for _ in layers:
        near = {a: set().union(*(near[b] for b in near[a])) for a in layers}
    return {frozenset(group) for group in near.values()}


def test_coupled_layers_are_the_connected_parts():
    layers = list("abcdefg")
    pairs = list(itertools.combinations(layers, 2))
    for seed in range(20):
        chosen = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))[: seed % 7]
        edges = [pairs[i] if i % 2 else pairs[i][::-1] for i in chosen.tolist()]
        groups = coupled_layers(layers, edges)
        assert {frozenset(group) for group in groups} == reachable(layers, edges)
        assert groups == sorted((sorted(group) for group in groups), key=lambda g: g[0])
    with pytest.raises(ValueError, match="not in layers"):
        coupled_layers(["a"], [("a", "b")])


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_conv_macs_are_what_hooks_count(groups):
    conv = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=groups)
    assert conv_macs(4, 8, 3, 4, 5, groups) == measure.macs(conv, (4, 7, 9))
    with pytest.raises(ValueError, match="groups"):
        conv_macs(4, 6, 3, 1, 1, 4)


def cost(widths, areas):
    return sum(a * x * y for a, (x, y) in zip(areas, itertools.pairwise(widths), strict=True))


def test_chosen_channels_meet_the_budget_and_are_the_best_of_their_layer():
    importance = [random(6, seed=1).abs(), random(5, seed=2).abs()]
    areas = [50, 20, 1]
    whole = cost([1, 6, 5, 3], areas)
    for share in (1.0, 0.7, 0.4):
        keep = choose_channels(importance, areas, 1, 3, int(share * whole))
        widths = [1, *map(len, keep), 3]
        assert cost(widths, areas) <= share * whole
        for scores, kept in zip(importance, keep, strict=True):
            gone = [s for i, s in enumerate(scores.tolist()) if i not in kept.tolist()]
            assert max(gone, default=0) <= scores[kept].min()
            assert kept.tolist() == sorted(kept.tolist())


def test_a_budget_below_one_channel_a_layer_is_refused():
    with pytest.raises(ValueError, match="one channel a layer"):
        choose_channels([torch.ones(3)], [10, 10], 1, 1, 5)
