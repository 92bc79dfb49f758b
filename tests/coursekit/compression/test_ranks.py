"""Ranks for a network: the budget is met, nothing grows, and small cases agree with trying everything."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coursekit import data, zoo
from coursekit.compression import (
    RankTable,
    break_even_rank,
    energy_table,
    factorizable,
    factorize_ranks,
    factorize_to_budget,
    greedy_ranks,
    rank_scan,
    ranks_for_budget,
    truncated_svd,
    weight_matrix,
)
from coursekit.measure import n_parameters, saved_size

both = pytest.mark.parametrize("spatial", [False, True], ids=["channel", "spatial"])


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    return zoo.load("resnet20")


@pytest.fixture(scope="module")
def lenet() -> nn.Module:
    return zoo.load("lenet300")


@pytest.fixture(scope="module")
def few() -> data.Dataset:
    """Training images, as everything that chooses must use."""
    train = data.fashion_mnist("train", subset=True)
    return data.Dataset(
        train.images[-100:], train.labels[-100:], train.classes, "the end of the training images"
    )


def spectra(n_layers: int, seed: int) -> tuple[dict[str, torch.Tensor], dict[str, tuple[int, int]]]:
    """Small random layers and their singular values."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {f"layer{i}": (5 + i, 12 - 2 * i) for i in range(n_layers)}
    matrices = {
        name: torch.randn(m, 3, generator=generator) @ torch.randn(3, n, generator=generator)
        + 0.3 * torch.randn(m, n, generator=generator)
        for name, (m, n) in shapes.items()
    }
    return {name: torch.linalg.svdvals(matrix) for name, matrix in matrices.items()}, shapes


def product_of_energies(values: dict[str, torch.Tensor], ranks: dict[str, int]) -> float:
    return math.prod((v[: ranks[n]].square().sum() / v.square().sum()).item() for n, v in values.items())


@pytest.mark.parametrize("seed", range(5))
def test_greedy_ranks_lose_no_more_energy_than_any_choice_of_their_size(seed):
    """Gains fall from rank to rank, so the greedy choice is the best of all that take no more numbers than it does."""
    values, shapes = spectra(3, seed)
    options = [range(1, break_even_rank(*shapes[name]) + 1) for name in values]
    for budget in (60, 75, 90, 110):
        ranks = greedy_ranks(values, shapes, budget)
        size = sum(rank * sum(shapes[name]) for name, rank in ranks.items())
        assert size <= budget
        best = max(
            product_of_energies(values, dict(zip(values, choice, strict=True)))
            for choice in itertools.product(*options)
            if sum(r * sum(shapes[n]) for n, r in zip(values, choice, strict=True)) <= size
        )
        assert product_of_energies(values, ranks) == pytest.approx(best, rel=1e-6)


def test_greedy_ranks_stop_as_soon_as_the_budget_is_met():
    values, shapes = spectra(3, 0)
    ranks = greedy_ranks(values, shapes, 75)
    size = sum(rank * sum(shapes[name]) for name, rank in ranks.items())
    assert 75 - max(map(sum, shapes.values())) < size <= 75
    most = {name: break_even_rank(*shape) for name, shape in shapes.items()}
    assert greedy_ranks(values, shapes, 10_000) == most


def test_greedy_ranks_refuse_what_cannot_be_met():
    values, shapes = spectra(2, 0)
    with pytest.raises(ValueError, match="rank 1 everywhere takes 33"):
        greedy_ranks(values, shapes, 32)
    with pytest.raises(ValueError, match="same layers"):
        greedy_ranks(values, {"layer0": (5, 12)}, 100)
    with pytest.raises(ValueError, match="no rank of thin saves"):
        greedy_ranks({"thin": torch.ones(1)}, {"thin": (1, 50)}, 100)


@both
def test_energy_table_holds_what_the_definition_says(resnet, spatial):
    table = energy_table(resnet, spatial=spatial)
    name = "stage2.0.conv1"
    matrix = weight_matrix(resnet.get_submodule(name), spatial=spatial)
    total = matrix.double().square().sum().item()
    for rank, size, loss in zip(table.ranks[name], table.sizes[name], table.losses[name], strict=True):
        factors = truncated_svd(matrix, rank)
        if rank < min(matrix.shape):
            assert size == 4 * (factors.left.numel() + factors.right.numel()) < 4 * matrix.numel()
            assert math.exp(-loss) == pytest.approx(1 - factors.error**2 / total, abs=1e-9)
        else:
            assert (size, loss) == (4 * matrix.numel(), 0.0)


@both
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_the_file_meets_the_budget_and_hardly_undercuts_it(resnet, spatial, share):
    budget = int(share * saved_size(resnet))
    made, ranks = factorize_to_budget(resnet, budget, spatial=spatial)
    size = saved_size(made)
    assert size <= budget
    # What is left over is less than a rank of the widest layer, 64 to 64 channels over 3 x 3, and the file's header.
    assert size > budget - 4 * (64 + 64 * 9) - 4000
    for name, rank in ranks.items():
        assert n_parameters(made.get_submodule(name)) < n_parameters(resnet.get_submodule(name))
        assert rank <= break_even_rank(*weight_matrix(resnet.get_submodule(name), spatial=spatial).shape)


def test_a_budget_above_the_file_cuts_nothing_and_one_below_all_ranks_is_refused(lenet):
    made, ranks = factorize_to_budget(lenet, saved_size(lenet))
    assert ranks == {}
    assert torch.equal(made.fc1.weight, lenet.fc1.weight)
    with pytest.raises(ValueError, match="cannot be met: the smallest ranks take"):
        factorize_to_budget(lenet, 4000)


def test_ranks_within_a_budget_are_close_to_the_best_of_all_choices():
    """Within one step's loss of the optimum, found by trying all: the bound of the greedy on convex hulls."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        sizes = {n: tuple(sorted((torch.randperm(60, generator=generator)[:5] + 1).tolist())) for n in "abc"}
        losses = {n: (*sorted(torch.rand(4, generator=generator).tolist(), reverse=True), 0.0) for n in "abc"}
        table = RankTable(dict.fromkeys("abc", (1, 2, 3, 4, 9)), sizes, losses)
        budget = sum(s[0] for s in sizes.values()) + 45
        ranks = ranks_for_budget(table, budget)
        index = {n: (1, 2, 3, 4, 9).index(ranks.get(n, 9)) for n in "abc"}
        assert sum(sizes[n][i] for n, i in index.items()) <= budget
        best = min(
            sum(losses[n][i] for n, i in zip("abc", choice, strict=True))
            for choice in itertools.product(range(5), repeat=3)
            if sum(sizes[n][i] for n, i in zip("abc", choice, strict=True)) <= budget
        )
        largest_step = max(
            loss[i] - loss[j] for loss in losses.values() for i in range(5) for j in range(i, 5)
        )
        assert sum(losses[n][i] for n, i in index.items()) <= best + largest_step


def test_a_step_that_does_not_fit_is_replaced_by_the_best_that_does():
    # The line from rank 1 to the whole layer passes below rank 2, which is all there is room for.
    table = RankTable({"a": (1, 2, 9)}, {"a": (10, 20, 30)}, {"a": (1.0, 0.9, 0.0)})
    assert ranks_for_budget(table, 30) == {}
    assert ranks_for_budget(table, 29) == {"a": 2}
    assert ranks_for_budget(table, 19) == {"a": 1}


def test_a_scan_measures_the_loss_with_one_layer_cut(lenet, few):
    table = rank_scan(lenet, few, (0.1, 1.0))
    assert table.ranks["fc2"] == (7, 74, 100)  # 74 is the last rank that saves
    factors = truncated_svd(lenet.fc2.weight, 7)
    hidden = F.relu(lenet.fc1(few.images.flatten(1)))
    with torch.no_grad():
        cut = lenet.fc3(F.relu(hidden @ (factors.left @ factors.right).T + lenet.fc2.bias))
        rise = F.cross_entropy(cut, few.labels) - F.cross_entropy(lenet(few.images), few.labels)
    assert table.losses["fc2"][0] == pytest.approx(rise.item(), abs=1e-4)
    assert table.losses["fc2"][-1] == 0.0


def test_a_scan_leaves_the_model_as_it_is(lenet, few):
    before = {name: value.clone() for name, value in lenet.state_dict().items()}
    rank_scan(lenet, few.take(10), (0.5,), ["fc1"])
    assert before.keys() == lenet.state_dict().keys()
    assert all(torch.equal(before[name], value) for name, value in lenet.state_dict().items())


def test_a_scan_serves_a_budget(lenet, few):
    table = rank_scan(lenet, few, (0.05, 0.1, 0.25, 0.5))
    budget = saved_size(lenet) // 3
    made, ranks = factorize_to_budget(lenet, budget, table)
    assert saved_size(made) <= budget
    assert "fc1" in ranks


@pytest.mark.parametrize("shares", [(), (0.0, 0.5), (0.5, 0.5), (0.9, 0.1), (0.5, 1.1)], ids=str)
def test_shares_that_do_not_rise_are_refused(lenet, few, shares):
    with pytest.raises(ValueError, match="shares must rise"):
        rank_scan(lenet, few, shares)


def test_grouped_convolutions_are_left_out_and_refused_by_name():
    network = zoo.load("mobilenet")
    found = factorizable(network)
    assert found and all(getattr(layer, "groups", 1) == 1 for layer in found.values())
    with pytest.raises(ValueError, match=r"blocks\.1\.depthwise\.0 has 72 groups"):
        factorizable(network, ["blocks.1.depthwise.0"])
    with pytest.raises(ValueError, match="has 72 groups"):
        factorize_ranks(network, {"blocks.1.depthwise.0": 1})


def test_layers_that_every_rank_would_make_larger_are_left_out():
    network = nn.Sequential(nn.Linear(1, 50), nn.Linear(50, 50), nn.Conv2d(1, 8, 1))
    assert list(factorizable(network)) == ["1"]


def test_a_rank_that_saves_nothing_is_refused_before_anything_is_made(lenet):
    assert break_even_rank(100, 300) == 74
    for rank in (0, 75):
        with pytest.raises(ValueError, match="of fc2 saves nothing: its ranks that do are 1 to 74"):
            factorize_ranks(lenet, {"fc2": rank})
    with pytest.raises(ValueError, match="is called nothing"):
        factorize_ranks(lenet, {"nothing": 3})


def test_a_layer_of_zeros_loses_nothing_at_any_rank():
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))
    nn.init.zeros_(model[0].weight)
    table = energy_table(model)
    assert set(table.losses["0"]) == {0.0}
    assert table.losses["1"][0] > 0
