"""Hidden tests of lesson 13. Each states a property and checks it by definition, not against the reference."""

from __future__ import annotations

import torch
from torch import nn

from coursekit import zoo
from coursekit.exercises.expect import expect, expect_close, expect_int
from coursekit.exercises.inputs import normal
from coursekit.exercises.low_rank.properties import (
    best_product,
    cost_of,
    expect_ranks,
    expect_split_output,
    factors_of,
    halves_of,
    held_product,
    joined,
    spatial_tail,
    tail,
)
from coursekit.exercises.spec import as_test, worth
from coursekit.measure import macs, n_parameters

__all__ = ["HIDDEN"]


@worth(2)
def test_trained_layer_is_cut_as_well_as_can_be(student):
    """For a trained layer of 100 x 300 the error is the tail of its singular values."""
    matrix = zoo.load("lenet300").get_parameter("fc2.weight").detach()
    for rank in (3, 25):
        left, right = factors_of(student, matrix, rank)
        expect_close(
            (matrix - left @ right).norm().item(), tail(matrix, rank), f"error at rank {rank}", rtol=1e-3
        )


def test_rank_one_matrix_is_met_exactly(student):
    """A column times a row comes back exactly at rank 1."""
    matrix = torch.outer(normal(6, seed=1), normal(9, seed=2))
    left, right = factors_of(student, matrix, 1)
    expect_close(left @ right, matrix, "left @ right", atol=1e-4)


def test_double_and_strided_matrices(student):
    """A float64 matrix has float64 factors, and a transposed view the factors of its copy."""
    for matrix in (normal(6, 4, seed=3).double(), normal(6, 4, seed=4).t()):
        left, right = factors_of(student, matrix, 3)
        expect_close((matrix - left @ right).norm().item(), tail(matrix, 3), "error at rank 3", rtol=1e-3)


def test_break_even_of_long_and_square_layers(student):
    """The last rank that saves, for every square up to 40 and some long layers."""
    sides = [(n, n) for n in range(1, 41)] + [(10, 4096), (4096, 10), (1, 2), (64, 576)]
    for m, n in sides:
        right = max(r for r in range(min(m, n) + 1) if r * (m + n) < m * n)
        rank = expect_int(student.break_even_rank(m, n), "the rank")
        expect(rank == right, f"the last rank that saves for {m} x {n}", rank, right)


def test_break_even_does_not_care_which_side_is_which(student):
    """m x n and n x m break even at the same rank."""
    for m, n in ((7, 30), (120, 11), (1, 9)):
        a, b = student.break_even_rank(m, n), student.break_even_rank(n, m)
        expect(expect_int(a, "the rank") == expect_int(b, "the rank"), f"{m} x {n} and {n} x {m}", a, b)
        expect(a * (m + n) < m * n, f"numbers of the factors of {m} x {n}", a * (m + n), f"below {m * n}")


@worth(2)
def test_rank_for_the_energy_of_a_trained_layer(student):
    """For the singular values of trained layers the rank is the one that adding up gives."""
    for name in ("fc1", "fc2"):
        values = torch.linalg.svdvals(zoo.load("lenet300").get_parameter(f"{name}.weight").detach())
        squares = [v * v for v in values.double().tolist()]
        for energy in (0.3, 0.72, 0.9):
            right, held = 0, 0.0
            while held < energy * sum(squares):
                held, right = held + squares[right], right + 1
            rank = expect_int(student.rank_for_energy(values, energy), "the rank")
            expect(rank == right, f"the rank for {energy:.0%} of {name}", rank, right)


def test_equal_and_single_values(student):
    """Equal values hold equal shares, and a single one everything."""
    for values, energy, right in (
        ([1.0] * 4, 0.5, 2),
        ([1.0] * 4, 0.51, 3),
        ([7.0], 0.9, 1),
        ([2.0] * 8, 0.1, 1),
    ):
        rank = expect_int(student.rank_for_energy(torch.tensor(values), energy), "the rank")
        expect(rank == right, f"the rank for {energy:.0%} of {values}", rank, right)


@worth(2)
def test_split_of_trained_kernels_is_as_good_as_can_be(student):
    """For trained kernels the error is the tail of the singular values of the matrix (C_in K_h, C_out K_w)."""
    network = zoo.load("resnet20")
    for name, rank in (("stage1.0.conv1", 5), ("stage2.0.conv1", 12)):
        weight = network.get_parameter(f"{name}.weight").detach()
        error = (weight - joined(*halves_of(student, weight, rank))).norm().item()
        expect_close(error, spatial_tail(weight, rank), f"error of {name} at rank {rank}", rtol=1e-3)


@worth(2)
def test_split_of_uneven_kernels(student):
    """The same for kernels whose sides all differ, one channel included."""
    for shape, rank in (((5, 2, 4, 3), 3), ((3, 7, 1, 5), 2), ((6, 1, 5, 5), 2), ((1, 4, 3, 2), 1)):
        weight = normal(*shape, seed=sum(shape))
        error = (weight - joined(*halves_of(student, weight, rank))).norm().item()
        expect_close(
            error, spatial_tail(weight, rank), f"error of {shape} at rank {rank}", rtol=1e-3, atol=1e-4
        )


@worth(2)
def test_split_convolution_with_uneven_kernels(student):
    """Kernels that are no squares, without a bias, at settings that all differ."""
    for settings in (((3, 2), (1, 4), (2, 1)), ((2, 3), (3, 0), (1, 2)), ((1, 1), (0, 0), (2, 2))):
        expect_split_output(student, ((14, 13), 3, 2, 5, 5, 2), settings, bias=False)


def test_split_convolution_of_a_batch_of_one_channel(student):
    """One channel in, one between, one out."""
    expect_split_output(student, ((9, 9), 1, 1, 1, 3, 3), ((2, 2), (1, 1)))


@worth(2)
def test_cost_is_what_real_layers_count(student):
    """Weights and MACs are those of two convolutions that really run."""
    for n_in, n_out, (high, wide), rank, size, stride in (
        (16, 32, (3, 3), 10, (28, 28), 2), (5, 4, (5, 3), 7, (15, 11), 3), (1, 8, (3, 7), 2, (9, 20), 1),
    ):  # fmt: skip
        first = nn.Conv2d(n_in, rank, (high, 1), (stride, 1), (high // 2, 0), bias=False)
        second = nn.Conv2d(rank, n_out, (1, wide), (1, stride), (0, wide // 2), bias=False)
        both = nn.Sequential(first, second)
        got = cost_of(student, n_in, n_out, (high, wide), rank, size, stride)
        expect_close(list(got), [n_parameters(both), macs(both, (n_in, *size))], "weights and MACs", rtol=0)


def test_cost_grows_in_a_line_with_the_rank(student):
    """Twice the rank is twice the weights and twice the MACs."""
    one, two = (cost_of(student, 6, 10, (3, 5), rank, (12, 17), 2) for rank in (4, 8))
    expect_close(list(two), [2 * n for n in one], "the cost at twice the rank", rtol=0)
    expect(min(one) > 0, "the cost", str(one), "above 0")


@worth(2)
def test_greedy_choice_holds_as_much_as_any(student):
    """No other choice of so many numbers holds a larger product of energies."""
    for seed in range(3):
        shapes = {"a": (6, 14), "b": (9, 5), "c": (8, 8)}
        values = {name: torch.linalg.svdvals(normal(*shape, seed=seed)) for name, shape in shapes.items()}
        for budget in (75, 100, 125):
            ranks = expect_ranks(student.greedy_ranks(values, shapes, budget), shapes)
            size = sum(rank * sum(shapes[name]) for name, rank in ranks.items())
            expect(size <= budget, "the numbers", size, f"at most {budget}")
            expect(size > budget - 20, "the numbers", size, f"more than {budget} - 20, the price of one rank")
            best = best_product(values, shapes, size)
            expect_close(held_product(values, ranks), best, "the product of energies", rtol=1e-4)


@worth(2)
def test_scale_of_a_layer_does_not_matter(student):
    """A layer with a hundred times the weights keeps its rank, and none falls below 1."""
    shapes = {"a": (6, 14), "b": (9, 5), "c": (8, 8)}
    values = {name: torch.linalg.svdvals(normal(*shape, seed=7)) for name, shape in shapes.items()}
    for name in shapes:
        scaled = {**values, name: 100 * values[name]}
        for budget in (50, 80, 110):
            ranks = expect_ranks(student.greedy_ranks(values, shapes, budget), shapes)
            again = student.greedy_ranks(scaled, shapes, budget)
            expect(ranks == again, f"the ranks with {name} a hundred times as large", str(again), str(ranks))


def _tests(*functions):
    return tuple(as_test(function, public=False) for function in functions)


HIDDEN = {
    "svd_factors": _tests(
        test_trained_layer_is_cut_as_well_as_can_be,
        test_rank_one_matrix_is_met_exactly,
        test_double_and_strided_matrices,
    ),
    "break_even_rank": _tests(
        test_break_even_of_long_and_square_layers, test_break_even_does_not_care_which_side_is_which
    ),
    "rank_for_energy": _tests(test_rank_for_the_energy_of_a_trained_layer, test_equal_and_single_values),
    "spatial_factors": _tests(
        test_split_of_trained_kernels_is_as_good_as_can_be, test_split_of_uneven_kernels
    ),
    "separable_conv2d": _tests(
        test_split_convolution_with_uneven_kernels, test_split_convolution_of_a_batch_of_one_channel
    ),
    "split_cost": _tests(test_cost_is_what_real_layers_count, test_cost_grows_in_a_line_with_the_rank),
    "greedy_ranks": _tests(test_greedy_choice_holds_as_much_as_any, test_scale_of_a_layer_does_not_matter),
}
