"""The public tests of lesson 13: each states a property of a right solution."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.exercises.expect import expect, expect_close, expect_int, expect_tensor
from coursekit.exercises.inputs import normal
from coursekit.exercises.spec import Test, TestFunction, as_test, worth

__all__ = [
    "PUBLIC",
    "best_product",
    "cost_of",
    "expect_pair",
    "expect_ranks",
    "expect_split_output",
    "factors_of",
    "halves_of",
    "held_product",
    "joined",
    "spatial_tail",
    "tail",
]


def expect_pair(value: Any, names: tuple[str, str]) -> tuple[Any, Any]:
    """The two parts of a result."""
    two = isinstance(value, tuple | list) and len(value) == 2
    expect(two, f"two things are to be returned: {names[0]} and {names[1]}", value, "a pair")
    return value[0], value[1]


def factors_of(student: Any, matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Her factors of a matrix, of the right shapes and dtype."""
    left, right = expect_pair(student.svd_factors(matrix, rank), ("left", "right"))
    return (
        expect_tensor(left, matrix.dtype, (matrix.shape[0], rank)),
        expect_tensor(right, matrix.dtype, (rank, matrix.shape[1])),
    )


def tail(matrix: Tensor, rank: int) -> float:
    """The smallest error that a matrix of this rank can have: from the eigenvalues of M M^T, not from an SVD."""
    m = matrix.double()
    squares = torch.linalg.eigvalsh(m @ m.T if m.shape[0] <= m.shape[1] else m.T @ m)
    return math.sqrt(squares[: len(squares) - rank].clamp(min=0).sum().item())


def test_full_rank_factors_give_the_matrix_back(student):
    """At full rank the product of the factors is the matrix."""
    for shape in ((6, 4), (4, 6), (5, 5)):
        matrix = normal(*shape, seed=sum(shape))
        left, right = factors_of(student, matrix, min(shape))
        expect_close(left @ right, matrix, f"left @ right for a {shape} matrix", atol=1e-4)


def test_factors_are_as_thin_as_the_rank(student):
    """The factors are (m, rank) and (rank, n), in the matrix's dtype."""
    for rank in (1, 2, 3):
        factors_of(student, normal(7, 4, seed=rank), rank)


@worth(2)
def test_no_matrix_of_the_rank_is_nearer(student):
    """The error of the product is the root of the sum of squares of what is left out: the least that there is."""
    for shape, rank in (((8, 5), 2), ((5, 9), 1), ((6, 6), 4)):
        matrix = normal(*shape, seed=rank)
        left, right = factors_of(student, matrix, rank)
        error = (matrix - left @ right).norm().item()
        expect_close(error, tail(matrix, rank), f"error at rank {rank} of a {shape} matrix", rtol=1e-3)


@worth(2)
def test_break_even_is_the_last_rank_that_saves(student):
    """Two factors of this rank have fewer numbers than the matrix, and of one rank more they do not."""
    for m, n in ((300, 784), (10, 100), (512, 512), (3, 7), (4, 4), (1, 50)):
        rank = expect_int(student.break_even_rank(m, n), "the rank")
        saves, next_saves = rank * (m + n) < m * n, (rank + 1) * (m + n) < m * n
        right = max(r for r in range(min(m, n) + 1) if r * (m + n) < m * n)
        expect(saves and not next_saves, f"the last rank that saves for {m} x {n}", rank, right)


@worth(2)
def test_smallest_rank_that_holds_the_share(student):
    """The squares of the first r singular values are at least this share of all squares, and those of r - 1 are not."""
    spectra = (
        [5.0, 4.0, 3.0, 2.0, 1.0],
        [9.0, 3.0, 2.0, 1.0],
        [0.9, 0.5, 0.2, 0.2, 0.1],
        [4.0, 1.0, 1.0, 1.0],
    )
    for values, energy in itertools.product(spectra, (0.55, 0.7, 0.9, 0.97)):
        squares = [v * v for v in values]
        right = next(r for r in range(1, 9) if sum(squares[:r]) >= energy * sum(squares))
        rank = expect_int(student.rank_for_energy(torch.tensor(values), energy), "the rank")
        expect(rank == right, f"the rank for {energy:.0%} of {values}", rank, right)


def test_exactly_the_share_is_enough(student):
    """For singular values 2, 1, 1, 1, 1 the first holds exactly half of the energy, so half needs rank 1."""
    rank = student.rank_for_energy(torch.tensor([2.0, 1.0, 1.0, 1.0, 1.0]), 0.5)
    expect(expect_int(rank, "the rank") == 1, "the rank for 50 % of (2, 1, 1, 1, 1)", rank, 1)


def joined(vertical: Tensor, horizontal: Tensor) -> Tensor:
    """The kernel (C_out, C_in, K_h, K_w) that a vertical and a horizontal one are together."""
    return torch.einsum("rihx,orxw->oihw", vertical, horizontal)


def halves_of(student: Any, weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Her two kernels, of the right shapes."""
    n_out, n_in, height, width = weight.shape
    pair = expect_pair(student.spatial_factors(weight, rank), ("vertical", "horizontal"))
    return (
        expect_tensor(pair[0], weight.dtype, (rank, n_in, height, 1)),
        expect_tensor(pair[1], weight.dtype, (n_out, rank, 1, width)),
    )


def spatial_tail(weight: Tensor, rank: int) -> float:
    """The least error of a split of this rank: `tail` of the kernel with rows (i, h) and columns (o, w)."""
    rows = [
        torch.cat([weight[o, i, h] for o in range(weight.shape[0])])
        for i in range(weight.shape[1])
        for h in range(weight.shape[2])
    ]
    return tail(torch.stack(rows), rank)


@worth(2)
def test_split_of_full_rank_is_the_kernel(student):
    """At full rank the two kernels one after the other compute what the kernel does."""
    x = normal(1, 3, 8, 8)
    for shape in ((4, 3, 3, 3), (2, 3, 3, 3)):
        weight = normal(*shape, seed=shape[0])
        vertical, horizontal = halves_of(student, weight, min(9, 3 * shape[0]))
        expect_close(
            F.conv2d(F.conv2d(x, vertical), horizontal), F.conv2d(x, weight), "the output", atol=1e-3
        )


def test_split_has_the_kernel_s_sides(student):
    """For a kernel (4, 3, 2, 5) the two are (rank, 3, 2, 1) and (4, rank, 1, 5), and together the kernel at rank 6."""
    weight = normal(4, 3, 2, 5)
    expect_close(joined(*halves_of(student, weight, 6)), weight, "the kernel at full rank", atol=1e-4)


def test_split_of_a_separable_kernel_needs_rank_one(student):
    """A kernel that is a column times a row is met exactly at rank 1."""
    column, row = normal(3, 4, seed=1), normal(5, 3, seed=2)  # (C_in, K_h), (C_out, K_w)
    weight = torch.einsum("ih,ow->oihw", column, row)
    expect_close(joined(*halves_of(student, weight, 1)), weight, "the kernel", atol=1e-4)


def expect_split_output(
    student: Any, shapes: tuple[Any, ...], settings: tuple[Any, ...], bias: bool = True
) -> None:
    """Her output for two random kernels is that of the kernel they are together."""
    size, n_in, rank, n_out, height, width = shapes
    x, v = normal(2, n_in, *size), normal(rank, n_in, height, 1, seed=1)
    h, b = normal(n_out, rank, 1, width, seed=2), normal(n_out, seed=3) if bias else None
    y = F.conv2d(x, joined(v, h), b, *settings)
    got = expect_tensor(student.separable_conv2d(x, v, h, b, *settings), torch.float32, y.shape)
    expect_close(got, y, f"the output for stride, padding, dilation {settings}", atol=1e-3)


def test_split_convolution_adds_its_bias_once(student):
    """With no settings but a bias, the two halves compute what the whole kernel does."""
    expect_split_output(student, ((8, 7), 3, 2, 4, 3, 3), ())


@worth(2)
def test_split_convolution_keeps_each_direction_s_settings(student):
    """Stride, padding and dilation that differ between the directions act as in the whole convolution."""
    for settings in (((2, 1), (0, 0)), ((1, 1), (2, 1)), ((1, 2), (0, 2), (2, 1)), ((2, 2), (1, 1), (1, 2))):
        expect_split_output(student, ((12, 11), 2, 3, 4, 3, 3), settings)


def cost_of(student: Any, *arguments: Any) -> tuple[int, int]:
    """Her two numbers."""
    weights, macs = expect_pair(student.split_cost(*arguments), ("weights", "MACs"))
    return expect_int(weights, "the weights"), expect_int(macs, "the MACs")


def test_weights_of_a_split(student):
    """16 to 32 channels over 3 x 5 at rank 10: 10 x 16 x 3 weights and 32 x 10 x 5."""
    weights, _ = cost_of(student, 16, 32, (3, 5), 10, (28, 28))
    expect(weights == 480 + 1600, "the weights", weights, 2080)


def test_macs_of_a_split_without_a_stride(student):
    """At stride 1 each weight is used once at every place of the image."""
    _, macs = cost_of(student, 4, 6, (3, 5), 2, (10, 8))
    expect(macs == 80 * (24 + 60), "the MACs", macs, 80 * 84)


def test_macs_of_a_split_with_a_stride(student):
    """At stride 2 on 13 x 9 the vertical half makes 7 rows of 9 places, the horizontal one 7 rows of 5."""
    _, macs = cost_of(student, 4, 6, (3, 3), 2, (13, 9), 2)
    expect(macs == 24 * 7 * 9 + 36 * 7 * 5, "the MACs", macs, 24 * 63 + 36 * 35)


def expect_ranks(value: Any, shapes: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Her ranks: a whole number for each layer, from 1 to what saves."""
    expect(isinstance(value, dict) and value.keys() == shapes.keys(), "a dict with a rank for each layer",
           sorted(value) if isinstance(value, dict) else value, sorted(shapes))  # fmt: skip
    for name, (m, n) in shapes.items():
        most = (m * n - 1) // (m + n)
        expect(1 <= expect_int(value[name], name) <= most, f"the rank of {name}", value[name], f"1 to {most}")
    return value


def held_product(values: Mapping[str, Tensor], ranks: Mapping[str, int]) -> float:
    """The product of the shares of energy that the ranks hold."""
    return math.prod((v[: ranks[n]].square().sum() / v.square().sum()).item() for n, v in values.items())


@functools.lru_cache(maxsize=32)
def _best(spectra: tuple[tuple[float, ...], ...], shapes: tuple[tuple[int, int], ...], budget: int) -> float:
    values = {str(i): torch.tensor(s) for i, s in enumerate(spectra)}
    options = [range(1, (m * n - 1) // (m + n) + 1) for m, n in shapes]
    return max(
        held_product(values, {str(i): r for i, r in enumerate(choice)})
        for choice in itertools.product(*options)
        if sum(r * sum(shape) for r, shape in zip(choice, shapes, strict=True)) <= budget
    )


def best_product(values: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, int]], budget: int) -> float:
    """The largest product of energies of all choices of ranks within a budget, found by trying them all."""
    return _best(tuple(tuple(v.tolist()) for v in values.values()), tuple(shapes.values()), budget)


@worth(2)
def test_cheapest_singular_value_goes_first(student):
    """Of two layers the one gives way whose last square is the smaller share, of what it holds, per number saved."""
    three = {
        "a": 0.1 * torch.tensor([1.0, 0.9, 0.7, 0.5, 0.45, 0.3, 0.2, 0.1]),
        "b": torch.tensor([5.0, 2.0, 1.2, 1.0, 0.8, 0.3]),
        "c": 30 * torch.tensor([1.0, 0.8, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4]),
    }
    two = {"w": torch.tensor([3.0, 0.5, 0.2, 0.1]), "c": three["c"]}
    shapes = {"a": (8, 20), "b": (6, 9), "c": (9, 9)}
    cases: tuple[tuple[Any, Any, int, Any], ...] = (
        (three, shapes, 104, {"a": 1, "b": 1, "c": 2}),
        (three, shapes, 130, {"a": 2, "b": 1, "c": 3}),
        (three, shapes, 185, {"a": 2, "b": 2, "c": 4}),
        (two, {"w": (4, 96), "c": (9, 9)}, 136, {"w": 1, "c": 2}),
    )
    for values, shapes, budget, right in cases:
        ranks = expect_ranks(student.greedy_ranks(values, shapes, budget), shapes)
        expect(ranks == right, f"the ranks within {budget} numbers", str(ranks), str(right))


def test_budget_is_met_and_no_more_is_given_up(student):
    """The factors fit the budget, and stop there: exactly met is met."""
    values = {"a": torch.tensor([1.0, 0.9, 0.8, 0.7]), "b": torch.tensor([1.0, 0.5, 0.4, 0.3])}
    shapes = {"a": (10, 6), "b": (10, 6)}  # break-even at rank 3: 48 numbers each
    for budget, n_ranks in ((96, 6), (95, 5), (80, 5), (64, 4), (32, 2)):
        ranks = expect_ranks(student.greedy_ranks(values, shapes, budget), shapes)
        expect(sum(ranks.values()) == n_ranks, f"ranks of 16 numbers within {budget}", str(ranks), n_ranks)


def test_loose_budget_leaves_the_break_even_ranks(student):
    """With numbers to spare every layer keeps its break-even rank, and none more."""
    values = {"a": torch.linspace(2, 1, 6), "b": torch.linspace(3, 2, 5)}
    ranks = expect_ranks(
        student.greedy_ranks(values, {"a": (6, 12), "b": (5, 5)}, 1000), {"a": (6, 12), "b": (5, 5)}
    )
    expect(ranks == {"a": 3, "b": 2}, "the ranks", str(ranks), "{'a': 3, 'b': 2}")


def _tests(*functions: TestFunction) -> tuple[Test, ...]:
    return tuple(as_test(function, public=True) for function in functions)


PUBLIC: dict[str, tuple[Test, ...]] = {
    "svd_factors": _tests(
        test_full_rank_factors_give_the_matrix_back,
        test_factors_are_as_thin_as_the_rank,
        test_no_matrix_of_the_rank_is_nearer,
    ),
    "break_even_rank": _tests(test_break_even_is_the_last_rank_that_saves),
    "rank_for_energy": _tests(test_smallest_rank_that_holds_the_share, test_exactly_the_share_is_enough),
    "spatial_factors": _tests(
        test_split_of_full_rank_is_the_kernel,
        test_split_has_the_kernel_s_sides,
        test_split_of_a_separable_kernel_needs_rank_one,
    ),
    "separable_conv2d": _tests(
        test_split_convolution_adds_its_bias_once, test_split_convolution_keeps_each_direction_s_settings
    ),
    "split_cost": _tests(
        test_weights_of_a_split, test_macs_of_a_split_without_a_stride, test_macs_of_a_split_with_a_stride
    ),
    "greedy_ranks": _tests(
        test_cheapest_singular_value_goes_first,
        test_budget_is_met_and_no_more_is_given_up,
        test_loose_budget_leaves_the_break_even_ranks,
    ),
}
