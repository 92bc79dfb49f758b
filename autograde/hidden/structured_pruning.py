"""Hidden tests of lesson 06. Each states a property and checks it by definition, not against the reference."""

from __future__ import annotations

import torch
from torch import nn

from coursekit import measure, zoo
from coursekit.exercises.expect import expect, expect_close, expect_int, expect_tensor
from coursekit.exercises.spec import as_test, worth
from coursekit.exercises.structured_pruning.properties import (
    chain,
    chain_output,
    expect_groups,
    expect_keep,
    greedy,
    macs_of,
    random,
)

__all__ = ["HIDDEN"]


def test_importance_is_the_vector_norm(student):
    """For weights of several shapes and both norms each number is the vector norm of one filter."""
    for shape in ((7, 2, 3, 3), (3, 8), (5, 1, 1, 4)):
        weight = random(*shape, seed=len(shape))
        for p in (1, 2):
            wanted = torch.stack([torch.linalg.vector_norm(filter_, p) for filter_ in weight])
            got = expect_tensor(student.channel_importance(weight, None, p), torch.float32, (shape[0],))
            expect_close(got, wanted, f"importance of {shape}, p = {p}")


def test_importance_of_views(student):
    """A transposed view and a float64 weight work like any other."""
    weight = zoo.load("lenet5").state_dict()["conv2.weight"].transpose(0, 1)
    got = expect_tensor(student.channel_importance(weight), torch.float32, (20,))
    expect_close(got, weight.contiguous().abs().sum((1, 2, 3)), "importance of a view")
    double = random(3, 4, seed=5).double()
    got = expect_tensor(student.channel_importance(double, None, 2), torch.float64, (3,))
    expect_close(got, double.square().sum(1).sqrt(), "importance in float64")


def test_cut_of_one_and_of_all(student):
    """Keeping all channels changes nothing; keeping a single one leaves a chain that runs."""
    whole = student.cut_conv_bn_conv(chain(), torch.arange(16))
    for name, value in chain().items():
        expect_close(
            expect_tensor(whole[name], torch.float32, value.shape), value, f"{name}, all channels kept"
        )
    one = student.cut_conv_bn_conv(chain(), torch.tensor([6]))
    expect_tensor(one["conv2.weight"], torch.float32, (16, 1, 3, 3))
    expect_tensor(chain_output(one, random(1, 16, 4, 4)), torch.float32, (1, 16, 4, 4))


def test_cut_of_another_size(student):
    """A chain of other widths and kernels is cut as well, and the one that came in stays whole."""
    given = {
        "conv1.weight": random(5, 9, 1, 1),
        "conv1.bias": random(5, seed=1),
        **{f"bn.{n}": random(5, seed=i).abs() for i, n in enumerate(("weight", "bias", "running_mean", "running_var"))},
        "conv2.weight": random(11, 5, 5, 5, seed=2),
        "conv2.bias": random(11, seed=3),
    }  # fmt: skip
    keep = torch.tensor([4, 0])
    result = student.cut_conv_bn_conv(given, keep)
    for name, value in given.items():
        dim = int(name == "conv2.weight")
        wanted = value if name == "conv2.bias" else torch.stack([value.select(dim, i) for i in (4, 0)], dim)
        expect_close(expect_tensor(result[name], torch.float32, wanted.shape), wanted, name)


def test_flat_of_random_maps(student):
    """For maps of several sizes the features are where flatten(1) put the kept channels."""
    for seed, (channels, positions) in enumerate(((3, 1), (10, 7), (50, 16))):
        keep = torch.randperm(channels, generator=torch.Generator().manual_seed(seed))[: (channels + 1) // 2]
        index = expect_tensor(student.flat_indices(keep, positions), torch.int64, (len(keep) * positions,))
        x = random(2, channels, positions, seed=seed)
        expect_close(
            x.flatten(1)[:, index], x[:, keep].flatten(1), f"{channels} channels, {positions} positions"
        )


def test_flat_between_layers(student):
    """With these columns the linear layer behind LeNet-5's flatten gives what it gives for the zeroed map."""
    fc = zoo.load("lenet5").state_dict()["fc1.weight"]
    keep = torch.tensor([3, 17, 40, 49])
    x = random(1, 50, 4, 4)
    masked = torch.zeros_like(x)
    masked[:, keep] = x[:, keep]
    index = expect_tensor(student.flat_indices(keep, 16), torch.int64, (64,))
    got = x[:, keep].flatten(1) @ fc[:, index].t()
    expect_close(got, masked.flatten(1) @ fc.t(), "what fc1 makes of four channels", rtol=1e-4, atol=1e-4)


def test_coupled_random_graphs(student):
    """For random additions two layers share a group exactly if a path of additions leads from one to the other."""
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        names = [f"layer{i}" for i in torch.randperm(9, generator=generator).tolist()]
        pairs = torch.randint(0, 9, (seed % 8, 2), generator=generator).tolist()
        edges = [(names[a], names[b]) for a, b in pairs if a != b]
        reach = {name: {name} for name in names}
        for _ in names:
            for a, b in edges:
                joined = reach[a] | reach[b]
                for each in joined:
                    reach[each] = reach[each] | joined
        wanted: list[list[str]] = []
        for name in names:
            group = [each for each in names if each in reach[name]]
            if group not in wanted:
                wanted.append(group)
        expect_groups(student.coupled_layers(names, edges), wanted, f"random additions, seed {seed}")


def test_coupled_long_chain(student):
    """A chain of 60 additions, named from its end, is one group."""
    names = [f"block{i}" for i in range(61)]
    edges = [(names[i], names[i - 1]) for i in range(60, 0, -1)]
    expect_groups(student.coupled_layers(names, edges), [names], "60 additions")


def test_macs_are_what_hooks_count(student):
    """The count is that of a real convolution, for several kernels, strides and groups."""
    for c_in, c_out, kernel, stride, groups in (
        (1, 16, 3, 1, 1),
        (16, 32, 1, 2, 1),
        (6, 12, 5, 2, 3),
        (8, 8, 3, 1, 8),
    ):
        conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups)
        height, width = conv(torch.zeros(1, c_in, 11, 8)).shape[2:]
        got = expect_int(student.conv_macs(c_in, c_out, kernel, height, width, groups), "the MACs")
        expect_close(got, measure.macs(conv, (c_in, 11, 8)), f"MACs of {conv}")


def test_macs_fall_by_the_square(student):
    """Half the channels on both sides of a layer is a quarter of its MACs."""
    whole, half = (expect_int(student.conv_macs(n, n, 3, 7, 9), "the MACs") for n in (64, 32))
    expect(whole == 4 * half and half > 0, "MACs of half the channels", half, whole // 4)


@worth(2)
def test_choose_random_chains(student):
    """For random chains the kept channels are those of the definition, step by step."""
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        sizes = torch.randint(2, 9, (3,), generator=generator).tolist()
        importance = [torch.rand(n, generator=generator) + 0.01 for n in sizes]
        areas = torch.randint(1, 50, (4,), generator=generator).tolist()
        budget = int(macs_of([2, *sizes, 5], areas) * (0.9 - 0.12 * seed))
        if budget < macs_of([2, 1, 1, 1, 5], areas):
            continue
        got = student.choose_channels(importance, areas, 2, 5, budget)
        expect_keep(got, greedy(importance, areas, 2, 5, budget), f"chain of {sizes}, seed {seed}")


def test_choose_in_lenet5(student):
    """In LeNet-5 with the norms of its trained filters, half the MACs are met with the channels of the definition."""
    network = zoo.load("lenet5")
    importance = [
        network.state_dict()[f"{name}.weight"].flatten(1).abs().sum(1) for name in ("conv1", "conv2")
    ]
    areas = [25 * 24 * 24, 25 * 8 * 8, 16]
    budget = macs_of([1, 20, 50, 500], areas) // 2
    got = student.choose_channels(importance, areas, 1, 500, budget)
    expect_keep(got, greedy(importance, areas, 1, 500, budget), "LeNet-5 at half its MACs")


def test_choose_one_layer(student):
    """A chain with a single hidden layer works, down to one channel."""
    scores = torch.tensor([0.4, 0.1, 0.3, 0.2])
    for budget, wanted in ((7 * 3, [0, 2, 3]), (7 * 2, [0, 2]), (7, [0])):
        expect_keep(
            student.choose_channels([scores], [4, 3], 1, 1, budget), [wanted], f"budget {budget} of 28"
        )


def _tests(*functions):
    return tuple(as_test(function, public=False) for function in functions)


HIDDEN = {
    "channel_importance": _tests(test_importance_is_the_vector_norm, test_importance_of_views),
    "cut_conv_bn_conv": _tests(test_cut_of_one_and_of_all, test_cut_of_another_size),
    "flat_indices": _tests(test_flat_of_random_maps, test_flat_between_layers),
    "coupled_layers": _tests(test_coupled_random_graphs, test_coupled_long_chain),
    "conv_macs": _tests(test_macs_are_what_hooks_count, test_macs_fall_by_the_square),
    "choose_channels": _tests(test_choose_random_chains, test_choose_in_lenet5, test_choose_one_layer),
}
