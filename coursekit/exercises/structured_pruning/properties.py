"""The public tests of lesson 06: each states a property of a right solution."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit import zoo
from coursekit.exercises.expect import expect, expect_close, expect_int, expect_tensor, show
from coursekit.exercises.inputs import normal as random
from coursekit.exercises.spec import Test, TestFunction, as_test, worth

__all__ = ["PUBLIC", "chain", "chain_output", "expect_groups", "expect_keep", "greedy", "macs_of", "random"]


def test_importance_is_the_sum_of_magnitudes(student):
    """With p = 1 a channel's importance is the sum of the magnitudes of all its weights."""
    weight = torch.tensor([
        [[[1.0, -2.0]], [[3.0, 0.0]]],
        [[[-1.0, -1.0]], [[-1.0, -1.0]]],
        [[[0.0, 0.0]], [[0.5, 0.0]]],
    ])
    got = expect_tensor(student.channel_importance(weight), torch.float32, (3,))
    expect_close(got, [6.0, 4.0, 0.5], "importance of a (3, 2, 1, 2) weight")


def test_importance_with_p_2_is_the_length(student):
    """With p = 2 it is the Euclidean length: the root of the sum of squares."""
    weight = torch.tensor([[[[3.0, -4.0]]], [[[0.0, 2.0]]], [[[6.0, 8.0]]]])
    got = expect_tensor(student.channel_importance(weight, None, 2), torch.float32, (3,))
    expect_close(got, [5.0, 2.0, 10.0], "importance with p = 2")


def test_importance_of_neurons(student):
    """A linear layer's (C_out, C_in) weight gets one number for each neuron, its row."""
    got = student.channel_importance(torch.tensor([[1.0, 1.0, 1.0, -1.0], [0.0, 2.0, 0.0, 0.0]]))
    expect_close(expect_tensor(got, torch.float32, (2,)), [4.0, 2.0], "importance of two neurons")


def test_importance_sees_batch_norm(student):
    """The importance is multiplied by the magnitude of batch norm's factor; a factor of 0 makes a channel "
    "worthless."""
    scale = torch.tensor([2.0, 0.0, -3.0])
    for p, expected in ((1, [14.0, 0.0, 21.0]), (2, [10.0, 0.0, 15.0])):
        got = student.channel_importance(torch.tensor([[3.0, 4.0]] * 3), scale, p)
        expect_close(expect_tensor(got, torch.float32, (3,)), expected, f"importance with a scale, p = {p}")


@functools.cache
def chain() -> dict[str, Tensor]:
    """The two convolutions of a block of the trained ResNet-20, with biases so that these must be cut too."""
    state = zoo.load("resnet20").state_dict()
    norm = {name: state[f"stage1.1.bn1.{name}"] for name in ("weight", "bias", "running_mean", "running_var")}
    return {
        "conv1.weight": state["stage1.1.conv1.weight"],
        "conv1.bias": 0.1 * random(16, seed=1),
        **{f"bn.{name}": value for name, value in norm.items()},
        "conv2.weight": state["stage1.1.conv2.weight"],
        "conv2.bias": 0.1 * random(16, seed=2),
    }


def chain_output(tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """What conv1 -> batch norm -> ReLU -> conv2 make of x."""
    y = F.conv2d(x, tensors["conv1.weight"], tensors["conv1.bias"], padding=1)
    mean, var, scale, shift = (tensors[f"bn.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
    y = F.relu(F.batch_norm(y, mean, var, scale, shift))
    return F.conv2d(y, tensors["conv2.weight"], tensors["conv2.bias"], padding=1)


KEEP = torch.tensor([1, 4, 5, 11, 14])


def cut(student: Any, keep: Tensor = KEEP) -> dict[str, Tensor]:
    """The student's cut of the chain, if it is a dict of the same tensors."""
    result = student.cut_conv_bn_conv(chain(), keep)
    expect(isinstance(result, dict), "the result is not a dict", result, "a dict of tensors")
    missing = sorted(set(chain()) - set(result))
    expect(not missing, "tensors are missing", missing, "all of the chain's names")
    return result


def test_cut_makes_fewer_outputs(student):
    """conv1 keeps the rows of the kept channels, and its bias the same entries."""
    result = cut(student)
    for name in ("conv1.weight", "conv1.bias"):
        wanted = torch.stack([chain()[name][i] for i in KEEP.tolist()])
        expect_close(expect_tensor(result[name], torch.float32, wanted.shape), wanted, name)


def test_cut_takes_batch_norm_along(student):
    """All four tensors of batch norm keep the entries of the kept channels: scale, shift, mean, variance."""
    result = cut(student)
    for name in ("bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"):
        wanted = torch.tensor([chain()[name][i].item() for i in KEEP.tolist()])
        expect_close(expect_tensor(result[name], torch.float32, wanted.shape), wanted, name)


def test_cut_takes_the_next_inputs_along(student):
    """conv2 keeps only the inputs that still exist, and all of its outputs."""
    result = cut(student)
    wanted = torch.stack([chain()["conv2.weight"].select(1, i) for i in KEEP.tolist()], 1)
    expect_close(expect_tensor(result["conv2.weight"], torch.float32, wanted.shape), wanted, "conv2.weight")
    expect_close(
        expect_tensor(result["conv2.bias"], torch.float32, (16,)), chain()["conv2.bias"], "conv2.bias"
    )


@worth(2)
def test_cut_chain_equals_masked_chain(student):
    """The smaller chain gives what the whole one gives with the other channels set to zero, to rounding."""
    keep, x = KEEP, random(2, 16, 6, 6)
    zero = torch.ones(16)
    zero[keep] = 0
    masked = {k: v * (1 - zero).view(-1, *[1] * (v.dim() - 1)) if k.startswith(("conv1", "bn.weight", "bn.bias")) else v
              for k, v in chain().items()}  # fmt: skip
    got = chain_output(cut(student, keep), x)
    expect_close(got, chain_output(masked, x), "output of the chain", rtol=1e-4, atol=1e-4)


def test_cut_in_the_order_of_keep(student):
    """The kept channels come in the order in which keep names them, in every tensor."""
    keep = torch.tensor([9, 2, 7])
    result = cut(student, keep)
    for name, dim in (("conv1.weight", 0), ("bn.running_var", 0), ("conv2.weight", 1)):
        wanted = torch.stack([chain()[name].select(dim, i) for i in keep.tolist()], dim)
        expect_close(
            expect_tensor(result[name], torch.float32, wanted.shape), wanted, f"{name} for keep 9, 2, 7"
        )


def test_flat_by_hand(student):
    """Channel c of a map with n positions becomes the features c n .. c n + n - 1."""
    got = expect_tensor(student.flat_indices(torch.tensor([0, 2]), 3), torch.int64, (6,))
    expect_close(got, [0, 1, 2, 6, 7, 8], "features of channels 0 and 2 with 3 positions")
    got = expect_tensor(student.flat_indices(torch.tensor([5, 1]), 2), torch.int64, (4,))
    expect_close(got, [10, 11, 2, 3], "features of channels 5 and 1 with 2 positions")


def test_flat_finds_what_flatten_wrote(student):
    """Taking these features of a flattened map is the same as flattening the kept channels of the map."""
    keep = torch.tensor([1, 4, 6])
    x = torch.arange(8 * 4 * 4).reshape(1, 8, 4, 4)
    index = expect_tensor(student.flat_indices(keep, 16), torch.int64, (48,))
    expect(bool((index >= 0).all() and (index < 128).all()), "features outside 0..127", index, "0..127")
    expect_close(x.flatten(1)[0, index], x[0, keep].flatten(), "features of channels 1, 4 and 6 of 8")


def expect_groups(value: Any, expected: Sequence[Sequence[str]], what: str) -> None:
    """The value, if it is this list of lists of names."""
    shaped = isinstance(value, list) and all(isinstance(group, list) for group in value)
    expect(shaped, f"{what}: the result is not a list of lists", value, "a list of lists of names")
    expect(value == [list(group) for group in expected], what, show(value), show(list(expected)))


def test_coupled_without_additions(student):
    """Without an addition every layer is a group of its own, in the network's order."""
    expect_groups(student.coupled_layers(["stem", "a", "b"], []), [["stem"], ["a"], ["b"]], "no edges")


@worth(2)
def test_coupled_through_others(student):
    """Layers that share no addition still go together if a chain of additions connects them."""
    edges = [("b", "c"), ("c", "d"), ("d", "a")]
    expect_groups(student.coupled_layers(list("abcd"), edges), [list("abcd")], "edges bc, cd, da")
    edges = [("a", "b"), ("c", "d"), ("e", "f"), ("b", "c")]
    got = student.coupled_layers(list("abcdef"), edges)
    expect_groups(got, [list("abcd"), list("ef")], "edges ab, cd, ef, bc")


def test_coupled_in_either_direction(student):
    """It does not matter which layer of an addition is named first, nor which addition comes first."""
    for edges in itertools.permutations([("c", "a"), ("c", "e"), ("b", "d")]):
        got = student.coupled_layers(list("abcde"), list(edges))
        expect_groups(got, [["a", "c", "e"], ["b", "d"]], f"edges {show(edges)}")


def test_coupled_in_the_networks_order(student):
    """Groups come in the order of their first layers, and layers in the network's order, not the alphabet's."""
    got = student.coupled_layers(["stem", "conv2", "conv1", "fc"], [("conv1", "conv2")])
    expect_groups(got, [["stem"], ["conv2", "conv1"], ["fc"]], "edge conv1-conv2")


def test_coupled_residual_stage(student):
    """In a stage of three blocks the layer before it and the last layer of each block go together."""
    layers = ["stem", "b0.conv1", "b0.conv2", "b1.conv1", "b1.conv2", "b2.conv1", "b2.conv2"]
    edges = [("stem", "b0.conv2"), ("b0.conv2", "b1.conv2"), ("b1.conv2", "b2.conv2")]
    expected = [["stem", "b0.conv2", "b1.conv2", "b2.conv2"], ["b0.conv1"], ["b1.conv1"], ["b2.conv1"]]
    expect_groups(student.coupled_layers(layers, edges), expected, "a residual stage")


def test_macs_of_a_convolution(student):
    """Every output value costs one MAC for each weight of its filter."""
    got = expect_int(student.conv_macs(3, 8, 5, 4, 7), "the MACs")
    expect_close(
        got, sum(5 * 5 * 3 for _ in range(8 * 4 * 7)), "MACs of 3 -> 8 channels, 5 x 5, output 4 x 7"
    )


def test_macs_of_groups(student):
    """A filter of a grouped convolution reads only its group's share of the input channels."""
    got = expect_int(student.conv_macs(12, 24, 3, 5, 2, 4), "the MACs")
    expect_close(got, 24 * 5 * 2 * (12 // 4) * 9, "MACs of 12 -> 24 channels in 4 groups")
    got = expect_int(student.conv_macs(32, 32, 3, 6, 5, 32), "the MACs")
    expect_close(got, 32 * 6 * 5 * 9, "MACs of a depthwise convolution")


def macs_of(widths: Sequence[int], areas: Sequence[int]) -> int:
    """MACs of a chain: areas[i] times the channels on both sides of layer i."""
    return sum(area * a * b for area, (a, b) in zip(areas, itertools.pairwise(widths), strict=True))


def greedy(
    importance: Sequence[Tensor], areas: Sequence[int], n_in: int, n_out: int, budget: int
) -> list[list[int]]:
    """The choice by definition: every step tries every channel and counts the whole chain anew."""
    left = [list(range(len(scores))) for scores in importance]
    cost = macs_of([n_in, *map(len, left), n_out], areas)
    while cost > budget:
        best: tuple[float, int, int, int] | None = None
        for i, kept in enumerate(left):
            for channel in kept if len(kept) > 1 else []:
                rest = [len(k) - (j == i) for j, k in enumerate(left)]
                after = macs_of([n_in, *rest, n_out], areas)
                price = float(importance[i][channel]) / (cost - after)
                if best is None or price < best[0]:
                    best = (price, i, channel, after)
        assert best is not None
        left[best[1]].remove(best[2])
        cost = best[3]
    return left


def expect_keep(value: Any, expected: Sequence[Sequence[int]], what: str) -> None:
    """The value, if it is this list of int64 tensors."""
    expect(isinstance(value, list | tuple), f"{what}: the result is not a list", value, "a list of tensors")
    expect(len(value) == len(expected), f"{what}: one tensor for each layer", len(value), len(expected))
    for i, (got, wanted) in enumerate(zip(value, expected, strict=True)):
        expect(isinstance(got, Tensor), f"{what}: entry {i} is not a tensor", got, "an int64 tensor")
        expect(got.dtype == torch.int64, f"{what}: the dtype of entry {i}", str(got.dtype), "torch.int64")
        expect(
            got.tolist() == list(wanted), f"{what}: kept channels of layer {i}", got.tolist(), list(wanted)
        )


A = (torch.tensor([0.9, 0.2, 0.5, 0.8]), torch.tensor([0.3, 0.35, 0.6, 0.1, 0.7]))


def test_choose_meets_the_budget(student):
    """The kept channels cost at most the budget, and with the last one put back they would cost more."""
    areas, budget = [40, 10, 3], 200
    keep = student.choose_channels(list(A), areas, 1, 2, budget)
    expect(
        isinstance(keep, list | tuple) and len(keep) == 2, "one tensor for each layer", keep, "two tensors"
    )
    widths = [1, *map(len, keep), 2]
    cost = macs_of(widths, areas)
    expect(cost <= budget, "MACs of the kept channels", cost, f"at most {budget}")
    more = [macs_of([1, widths[1] + a, widths[2] + 1 - a, 2], areas) for a in (0, 1)]
    expect(max(more) > budget, "MACs with one more channel", max(more), f"more than {budget}")


def test_choose_stops_on_the_budget(student):
    """If a step lands exactly on the budget, that is enough; a budget that is met already removes nothing."""
    ones = [torch.tensor([3.0, 1.0, 2.0])]
    expect_keep(student.choose_channels(ones, [10, 10], 1, 1, 40), [[0, 2]], "budget 40 of 60")
    expect_keep(student.choose_channels(ones, [10, 10], 1, 1, 60), [[0, 1, 2]], "budget 60 of 60")


def test_choose_takes_the_dear_layer(student):
    """Of two equally unimportant channels the one goes whose removal saves more."""
    equal = [torch.ones(4) + torch.arange(4) / 1000, torch.ones(4) + torch.arange(4) / 1000]
    for areas in ([100, 10, 1], [1, 10, 100]):
        whole = macs_of([1, 4, 4, 1], areas)
        got = student.choose_channels(equal, areas, 1, 1, whole - 1)
        expect_keep(got, greedy(equal, areas, 1, 1, whole - 1), f"areas {areas}, one channel to remove")


@worth(2)
def test_choose_counts_anew(student):
    """What a channel saves is counted anew after every removal, in its own layer and in the one that reads it."""
    for areas, budget in (([40, 10, 3], 180), ([5, 20, 40], 300), ([20, 30, 10], 150), ([3, 3, 40], 120)):
        got = student.choose_channels(list(A), areas, 1, 2, budget)
        expect_keep(got, greedy(A, areas, 1, 2, budget), f"areas {areas}, budget {budget}")


def test_choose_leaves_one(student):
    """The last channel of a layer stays, however unimportant."""
    low = [torch.tensor([1e-6, 2e-6, 3e-6]), torch.tensor([0.5, 0.6, 0.7, 0.8])]
    got = student.choose_channels(low, [10, 10, 10], 1, 1, 50)
    expect_keep(got, greedy(low, [10, 10, 10], 1, 1, 50), "a layer of tiny importances")


_BY_EXERCISE: dict[str, tuple[TestFunction, ...]] = {
    "channel_importance": (
        test_importance_is_the_sum_of_magnitudes,
        test_importance_with_p_2_is_the_length,
        test_importance_of_neurons,
        test_importance_sees_batch_norm,
    ),
    "cut_conv_bn_conv": (
        test_cut_makes_fewer_outputs,
        test_cut_takes_batch_norm_along,
        test_cut_takes_the_next_inputs_along,
        test_cut_chain_equals_masked_chain,
        test_cut_in_the_order_of_keep,
    ),
    "flat_indices": (test_flat_by_hand, test_flat_finds_what_flatten_wrote),
    "coupled_layers": (
        test_coupled_without_additions,
        test_coupled_through_others,
        test_coupled_in_either_direction,
        test_coupled_in_the_networks_order,
        test_coupled_residual_stage,
    ),
    "conv_macs": (test_macs_of_a_convolution, test_macs_of_groups),
    "choose_channels": (
        test_choose_meets_the_budget,
        test_choose_stops_on_the_budget,
        test_choose_takes_the_dear_layer,
        test_choose_counts_anew,
        test_choose_leaves_one,
    ),
}

PUBLIC: dict[str, tuple[Test, ...]] = {
    name: tuple(as_test(function, public=True) for function in functions)
    for name, functions in _BY_EXERCISE.items()
}
