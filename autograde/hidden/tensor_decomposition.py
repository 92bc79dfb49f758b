"""Hidden tests of lesson 14. Each states a property and checks it by definition, not against the reference."""

from __future__ import annotations

import torch

from coursekit import zoo
from coursekit.exercises.expect import expect, expect_close, expect_tensor
from coursekit.exercises.inputs import normal
from coursekit.exercises.spec import as_test, worth
from coursekit.exercises.tensor_decomposition.properties import (
    expect_cp,
    expect_kernels_run,
    expect_unfolding,
    factors_of,
    low_rank_kernel,
    rebuilt,
    tucker_error,
)

__all__ = ["HIDDEN"]


def test_unfolding_of_three_and_two_modes(student):
    """Tensors of three modes and of two, and views that do not lie in order in memory."""
    for tensor in (normal(3, 2, 4), normal(4, 3), normal(2, 3, 4).transpose(0, 2)):
        for mode in range(tensor.dim()):
            expect_unfolding(student, tensor, mode)


@worth(2)
def test_product_of_kernels_and_cubes(student):
    """With a square matrix and equal sides too, each mode is multiplied and stays where it is."""
    for x in (normal(3, 3, 3), normal(4, 2, 3, 3, seed=1).double()):
        for mode in range(x.dim()):
            matrix = normal(x.shape[mode], x.shape[mode], seed=mode + 2).to(x.dtype)
            right = (x.movedim(mode, -1) @ matrix.t()).movedim(-1, mode)
            got = expect_tensor(student.mode_product(x, matrix, mode), x.dtype, right.shape)
            expect_close(got, right, f"mode {mode} of shape {tuple(x.shape)}", atol=1e-5)


def test_products_in_different_modes_commute(student):
    """It does not matter which of two modes is multiplied first."""
    x, a, b = normal(3, 4, 2, seed=5), normal(2, 3, seed=6), normal(5, 4, seed=7)
    one = student.mode_product(student.mode_product(x, a, 0), b, 1)
    two = student.mode_product(student.mode_product(x, b, 1), a, 0)
    expect_tensor(one, torch.float32, (2, 5, 2))
    expect_close(one, two, "the product in both modes", atol=1e-5)
    expect_close(one, torch.einsum("ijk,ai,bj->abk", x, a, b), "the product in both modes", atol=1e-5)


@worth(2)
def test_trained_kernels_are_cut_as_well_as_they_must(student):
    """For kernels of a trained network the squared error lies between what the worse cut and both cuts lose."""
    network = zoo.load("resnet20")
    for name, ranks in (("stage1.0.conv1", (5, 9)), ("stage2.0.conv1", (12, 10))):
        weight = network.get_parameter(f"{name}.weight").detach()
        error, least, most = tucker_error(student, weight, *ranks)
        right = f"{least:.3f} to {most:.3f}"
        expect(least * 0.999 <= error <= most * 1.001, f"squared error of {name} at {ranks}", error, right)


@worth(2)
def test_other_kernels_of_low_ranks_come_back(student):
    """Kernels of low channel ranks are met exactly, rank 1 and double precision included."""
    for n_out, n_in, ranks in ((5, 7, (1, 1)), (8, 3, (4, 2)), (3, 6, (3, 2))):
        weight = low_rank_kernel(n_out, n_in, *ranks, seed=n_out).double()
        got = rebuilt(*factors_of(student, weight, *ranks))
        expect_close(got, weight, f"the kernel of ranks {ranks}", atol=1e-4)


@worth(3)
def test_three_convolutions_keep_stride_padding_and_dilation(student):
    """With the middle one's stride, padding and dilation, and the last one's bias, the output is the layer's."""
    settings = ((2, 1, 1), ((1, 2), (2, 0), (1, 2)), (1, (1, 2), 2))
    for sizes, setting in zip(
        ((6, 5, 3, 2, 3, 2), (2, 3, 2, 1, 3, 3), (5, 5, 5, 5, 2, 3)), settings, strict=True
    ):
        expect_kernels_run(student, sizes, setting, bias=True)


@worth(2)
def test_kernels_of_other_sides_and_ranks(student):
    """The same for a 1 x 1 kernel, one channel, and ranks above all sides."""
    for sides, rank in (((5, 4, 1, 1), 2), ((1, 3, 3, 2), 4), ((6, 1, 5, 5), 7)):
        expect_cp(student, sides, rank)


def test_kernel_grows_with_each_factor(student):
    """Twice one of the factors is twice the kernel."""
    factors = [normal(n, 2, seed=n) for n in (4, 3, 2, 5)]
    whole = expect_tensor(student.cp_kernel(*factors), torch.float32, (4, 3, 2, 5))
    expect(whole.abs().sum().item() > 1e-3, "the kernel", whole, "not zero")
    for i in range(4):
        doubled = [2 * factor if i == j else factor for j, factor in enumerate(factors)]
        expect_close(student.cp_kernel(*doubled), 2 * whole, f"the kernel with factor {i} doubled", atol=1e-4)


def _tests(*functions):
    return tuple(as_test(function, public=False) for function in functions)


HIDDEN = {
    "unfold": _tests(test_unfolding_of_three_and_two_modes),
    "mode_product": _tests(test_product_of_kernels_and_cubes, test_products_in_different_modes_commute),
    "tucker2_factors": _tests(
        test_trained_kernels_are_cut_as_well_as_they_must, test_other_kernels_of_low_ranks_come_back
    ),
    "tucker2_kernels": _tests(test_three_convolutions_keep_stride_padding_and_dilation),
    "cp_kernel": _tests(test_kernels_of_other_sides_and_ranks, test_kernel_grows_with_each_factor),
}
