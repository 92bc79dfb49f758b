"""The public tests of lesson 14: each states a property of a right solution."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.exercises.expect import expect, expect_close, expect_tensor
from coursekit.exercises.inputs import normal
from coursekit.exercises.spec import Test, TestFunction, as_test, worth

__all__ = [
    "PUBLIC",
    "expect_cp",
    "expect_kernels_run",
    "expect_three",
    "expect_unfolding",
    "factors_of",
    "low_rank_kernel",
    "rebuilt",
    "tucker_error",
    "unfolded",
]


def unfolded(tensor: Tensor, mode: int) -> Tensor:
    """The unfolding by definition: an index at a time, the last of the others fastest."""
    others = [range(n) for i, n in enumerate(tensor.shape) if i != mode]
    rows = []
    for index in range(tensor.shape[mode]):
        places = itertools.product(*others)
        rows.append(torch.stack([tensor[(*place[:mode], index, *place[mode:])] for place in places]))
    return torch.stack(rows)


def expect_unfolding(student: Any, tensor: Tensor, mode: int) -> None:
    """Her unfolding has the elements where the definition has them."""
    right = unfolded(tensor, mode)
    got = expect_tensor(student.unfold(tensor, mode), tensor.dtype, right.shape)
    expect_close(got, right, f"mode {mode} of shape {tuple(tensor.shape)}")


def test_first_mode_is_a_reshape(student):
    """Mode 0 of a kernel (2, 3, 2, 2) is one filter a row."""
    expect_unfolding(student, torch.arange(24.0).reshape(2, 3, 2, 2), 0)


@worth(2)
def test_each_mode_becomes_the_rows(student):
    """Row i of mode n holds all elements whose index n is i, the last of the other indices running fastest."""
    for mode in range(4):
        expect_unfolding(student, torch.arange(120.0).reshape(2, 3, 4, 5), mode)


def test_matrix_product_is_two_mode_products(student):
    """For a matrix X, mode 0 gives A X, and mode 1 gives X A transposed."""
    x, a, b = normal(3, 4), normal(2, 3, seed=1), normal(5, 4, seed=2)
    for matrix, mode, right in ((a, 0, a @ x), (b, 1, x @ b.t())):
        got = expect_tensor(student.mode_product(x, matrix, mode), torch.float32, right.shape)
        expect_close(got, right, f"mode {mode} of a matrix", atol=1e-5)


@worth(2)
def test_every_vector_along_the_mode_is_multiplied(student):
    """In a tensor (2, 3, 4, 5) each vector along the mode is multiplied by the matrix, where it stands."""
    x = normal(2, 3, 4, 5)
    for mode in range(4):
        matrix = normal(6, x.shape[mode], seed=mode + 1)
        pieces = [sum(matrix[j, i] * x.select(mode, i) for i in range(x.shape[mode])) for j in range(6)]
        right = torch.stack([torch.as_tensor(piece) for piece in pieces], dim=mode)
        got = expect_tensor(student.mode_product(x, matrix, mode), torch.float32, right.shape)
        expect_close(got, right, f"mode {mode}", atol=1e-5)


def expect_three(value: Any, names: tuple[str, str, str]) -> tuple[Any, Any, Any]:
    """The three parts of a result."""
    three = isinstance(value, tuple | list) and len(value) == 3
    expect(three, f"three things are to be returned: {', '.join(names)}", value, "three tensors")
    return value[0], value[1], value[2]


def factors_of(student: Any, weight: Tensor, rank_out: int, rank_in: int) -> tuple[Tensor, Tensor, Tensor]:
    """Her core and bases, of the right shapes and dtype."""
    n_out, n_in, *kernel = weight.shape
    core, outputs, inputs = expect_three(
        student.tucker2_factors(weight, rank_out, rank_in), ("core", "outputs", "inputs")
    )
    return (
        expect_tensor(core, weight.dtype, (rank_out, rank_in, *kernel)),
        expect_tensor(outputs, weight.dtype, (n_out, rank_out)),
        expect_tensor(inputs, weight.dtype, (n_in, rank_in)),
    )


def rebuilt(core: Tensor, outputs: Tensor, inputs: Tensor) -> Tensor:
    """The kernel that core and bases are."""
    n_out, n_in, height, width = outputs.shape[0], inputs.shape[0], core.shape[2], core.shape[3]
    flat = torch.stack([(outputs @ c @ inputs.t()).flatten() for c in core.flatten(2).unbind(-1)], dim=-1)
    return flat.reshape(n_out, n_in, height, width)


def tucker_error(student: Any, weight: Tensor, rank_out: int, rank_in: int) -> tuple[float, float, float]:
    """Her squared error, the larger of what the two cuts lose alone, and their sum: the error lies between."""
    error = (weight - rebuilt(*factors_of(student, weight, rank_out, rank_in))).square().sum().item()
    lost = []
    for mode, rank in ((0, rank_out), (1, rank_in)):
        matrix = weight.movedim(mode, 0).flatten(1).double()
        squares = torch.linalg.eigvalsh(matrix @ matrix.t())
        lost.append(squares[: len(squares) - rank].clamp(min=0).sum().item())
    return error, max(lost), sum(lost)


def low_rank_kernel(n_out: int, n_in: int, rank_out: int, rank_in: int, seed: int = 0) -> Tensor:
    """A kernel 3 x 2 whose filters span rank_out directions, and whose input channels span rank_in."""
    core = normal(rank_out, rank_in, 3, 2, seed=seed)
    bases = normal(n_out, rank_out, seed=seed + 1), normal(n_in, rank_in, seed=seed + 2)
    return rebuilt(core, *bases)


@worth(2)
def test_tucker_at_full_ranks_is_the_kernel(student):
    """At full ranks core and bases give the kernel back."""
    for shape in ((4, 3, 2, 3), (3, 5, 3, 3)):
        weight = normal(*shape)
        expect_close(
            rebuilt(*factors_of(student, weight, *shape[:2])), weight, f"a kernel {shape}", atol=1e-4
        )


def test_kernel_of_low_ranks_comes_back(student):
    """A kernel (6, 4, 3, 2) whose channel modes have ranks 2 and 3 is met exactly at these ranks."""
    weight = low_rank_kernel(6, 4, 2, 3)
    expect_close(rebuilt(*factors_of(student, weight, 2, 3)), weight, "the kernel", atol=1e-4)


@worth(3)
def test_error_lies_between_what_the_two_cuts_lose(student):
    """The squared error is at least what the worse cut loses alone, and at most what both lose."""
    for shape, ranks in (((6, 4, 3, 2), (3, 2)), ((4, 5, 3, 3), (1, 3)), ((5, 5, 2, 2), (4, 1))):
        error, least, most = tucker_error(student, normal(*shape, seed=sum(ranks)), *ranks)
        expect(
            least * 0.999 <= error <= most * 1.001,
            f"squared error of {shape} at {ranks}", error, f"{least:.3f} to {most:.3f}",
        )  # fmt: skip


def expect_kernels_run(
    student: Any, sizes: tuple[int, ...], settings: tuple[Any, ...] = (), bias: bool = False
) -> None:
    """Her three kernels, one after the other, compute what the kernel of core and bases does."""
    n_out, n_in, rank_out, rank_in, height, width = sizes
    core = normal(rank_out, rank_in, height, width)
    outputs, inputs = normal(n_out, rank_out, seed=1), normal(n_in, rank_in, seed=2)
    x, b = normal(2, n_in, 9, 8, seed=3), normal(n_out, seed=4) if bias else None
    kernels = expect_three(student.tucker2_kernels(core, outputs, inputs), ("first", "middle", "last"))
    shapes = ((rank_in, n_in, 1, 1), (rank_out, rank_in, height, width), (n_out, rank_out, 1, 1))
    first, middle, last = (
        expect_tensor(kernel, torch.float32, shape) for kernel, shape in zip(kernels, shapes, strict=True)
    )
    y = F.conv2d(F.conv2d(F.conv2d(x, first), middle, None, *settings), last, b)
    right = F.conv2d(x, rebuilt(core, outputs, inputs), b, *settings)
    expect_close(y, right, "the output of the three convolutions", atol=1e-3)


def test_three_kernels_have_the_shapes_of_convolutions(student):
    """5 to 6 channels at ranks 3 and 2: kernels (2, 5, 1, 1), (3, 2, 3, 4) and (6, 3, 1, 1)."""
    core, outputs, inputs = normal(3, 2, 3, 4), normal(6, 3, seed=1), normal(5, 2, seed=2)
    kernels = expect_three(student.tucker2_kernels(core, outputs, inputs), ("first", "middle", "last"))
    for kernel, shape in zip(kernels, ((2, 5, 1, 1), (3, 2, 3, 4), (6, 3, 1, 1)), strict=True):
        expect_tensor(kernel, torch.float32, shape)


@worth(2)
def test_three_convolutions_compute_what_the_kernel_does(student):
    """The three convolutions give the output of the kernel, whatever the ranks."""
    for sizes in ((6, 5, 3, 2, 3, 4), (4, 4, 4, 4, 3, 3), (3, 5, 1, 4, 2, 2)):
        expect_kernels_run(student, sizes)


def by_hand(factors: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """The sum of products of four vectors, one rank after the other."""
    total = torch.zeros([len(factor) for factor in factors], dtype=factors[0].dtype)
    for o, i, h, w in zip(*(factor.unbind(1) for factor in factors), strict=True):
        total = total + torch.outer(torch.outer(torch.outer(o, i).flatten(), h).flatten(), w).reshape(
            total.shape
        )
    return total


def expect_cp(student: Any, sides: tuple[int, int, int, int], rank: int) -> None:
    """Her kernel is the sum of the products."""
    factors = tuple(normal(n, rank, seed=10 * rank + i) for i, n in enumerate(sides))
    right = by_hand(factors)  # type: ignore[arg-type]
    got = expect_tensor(student.cp_kernel(*factors), torch.float32, right.shape)
    expect_close(got, right, f"the kernel {sides} of rank {rank}", atol=1e-4 * math.sqrt(rank))


def test_rank_one_kernel_is_a_product_of_four_numbers(student):
    """At rank 1 element (o, i, h, w) is the product of the four vectors' elements."""
    expect_cp(student, (4, 3, 2, 5), 1)


@worth(2)
def test_kernel_is_the_sum_over_the_rank(student):
    """At higher ranks the products are added."""
    expect_cp(student, (4, 3, 2, 5), 3)
    expect_cp(student, (3, 3, 3, 3), 2)


def _tests(*functions: TestFunction) -> tuple[Test, ...]:
    return tuple(as_test(function, public=True) for function in functions)


PUBLIC: dict[str, tuple[Test, ...]] = {
    "unfold": _tests(test_first_mode_is_a_reshape, test_each_mode_becomes_the_rows),
    "mode_product": _tests(
        test_matrix_product_is_two_mode_products, test_every_vector_along_the_mode_is_multiplied
    ),
    "tucker2_factors": _tests(
        test_tucker_at_full_ranks_is_the_kernel,
        test_kernel_of_low_ranks_comes_back,
        test_error_lies_between_what_the_two_cuts_lose,
    ),
    "tucker2_kernels": _tests(
        test_three_kernels_have_the_shapes_of_convolutions,
        test_three_convolutions_compute_what_the_kernel_does,
    ),
    "cp_kernel": _tests(
        test_rank_one_kernel_is_a_product_of_four_numbers, test_kernel_is_the_sum_over_the_rank
    ),
}
