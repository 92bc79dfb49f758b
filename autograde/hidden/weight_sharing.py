"""The hidden tests of lesson 11: the properties of the public tests on other data, sizes and layouts."""

from __future__ import annotations

import torch

from coursekit.exercises.inputs import normal
from coursekit.exercises.spec import as_test, worth
from coursekit.exercises.weight_sharing.properties import (
    expect_density,
    expect_drawn,
    expect_linear,
    expect_packed,
    expect_rate,
    expect_round,
    expect_shared,
    expect_sums,
    with_zeros,
)

__all__ = ["HIDDEN"]


@worth(2)
def test_rounds_on_weights_of_every_layout(student):
    """A convolution's weight and a transposed view, from centroids of which some, all or none are near the values."""
    for values in (normal(4, 3, 3, 3, seed=5).double(), normal(6, 50, seed=6).double().T):
        expect_round(student, values, [-1.3, -0.4, 0.1, 0.9, 2.0], "centroids among the values")
        expect_round(student, values, [-40.0, -30.0, 0.05, 0.4, 20.0], "centroids far outside")


def test_one_cluster_is_the_mean(student):
    """A single centroid moves to the mean of everything, wherever it was."""
    for at in (-3.0, 0.2, 9.0):
        expect_round(student, normal(31, seed=8).double(), [at], f"one centroid that was at {at}")


def test_linear_and_density_of_a_skewed_tensor(student):
    """Both beginnings on values that are all positive and most of them small, in any layout."""
    skewed = normal(30, 20, seed=4).exp()
    for values in (skewed, skewed.T, skewed.double()):
        expect_linear(student, values, 6)
        expect_density(student, values, 6)


def test_drawing_nearly_all_and_few(student):
    """Drawing most of the values, and two of many, from other seeds."""
    expect_drawn(student, normal(44, seed=9), 40, (3, 4, 5))
    expect_drawn(student, normal(50, 20, seed=9), 2, (7, 8, 9))


@worth(2)
def test_shared_convolution_with_zeros(student):
    """A sparse convolution's weight in float32 and float64, with centroids on both sides or on one."""
    weight = with_zeros(4, 3, 3, 3, seed=2)
    for values in (weight, weight.double(), weight.transpose(0, 1)):
        expect_shared(student, values, [-1.6, -0.9, -0.7, 0.8, 1.1, 2.0], "a sparse convolution")
        expect_shared(student, values, [0.5, 3.0], "centroids above 0 only")


def test_all_zero_and_one_centroid(student):
    """A weight of zeros has indices 0 alone; with one centroid everything else has index 1."""
    expect_shared(student, torch.zeros(3, 4), [-1.0, 1.0], "a weight of zeros")
    expect_shared(student, with_zeros(5, 4, seed=3), [0.7], "one centroid")


def test_many_codes_of_every_width(student):
    """A thousand codes of 2 to 8 bits, in a matrix and in a transposed one."""
    for n_bits in range(2, 9):
        codes = torch.randint(2**n_bits, (25, 40), generator=torch.Generator().manual_seed(n_bits))
        expect_packed(student, codes, n_bits)
        expect_packed(student, codes.T, n_bits)


def test_no_code_and_one(student):
    """No codes are no bytes, and one code of 3 bits is one byte."""
    expect_packed(student, torch.zeros(0, dtype=torch.int64), 4)
    expect_packed(student, torch.tensor([5]), 3)


def test_sixteen_bit_weights(student):
    """Weights and codebook of 16 bits."""
    expect_rate(student, (235_200, 32, 16), 235_200 * 16 / (235_200 * 5 + 32 * 16))
    expect_rate(student, (100, 9, 16), 1600 / (400 + 144))


def test_extremes_of_sharing(student):
    """One centroid needs no index at all; as many centroids as weights make the layer larger."""
    expect_rate(student, (500, 1), 500.0)
    expect_rate(student, (256, 256), 8192 / (2048 + 8192))


def test_sums_on_a_large_sparse_layer(student):
    """Two thousand gradients of a convolution, nine codes, one in use by nobody; and float64."""
    gradient = normal(20, 10, 3, 3, seed=4)
    indices = torch.randint(8, gradient.shape, generator=torch.Generator().manual_seed(1))
    expect_sums(student, gradient, indices, 9, "the gradient of 8 centroids")
    expect_sums(student, gradient.double(), indices, 9, "the same in float64")


def test_everything_pruned(student):
    """Where all weights are pruned the gradient of the codebook is zero."""
    expect_sums(
        student, normal(4, 5), torch.zeros(4, 5, dtype=torch.int64), 3, "the gradient with all pruned"
    )


def _hidden(*functions):
    return tuple(as_test(function, public=False) for function in functions)


HIDDEN = {
    "kmeans_step": _hidden(test_rounds_on_weights_of_every_layout, test_one_cluster_is_the_mean),
    "initial_centroids": _hidden(test_linear_and_density_of_a_skewed_tensor, test_drawing_nearly_all_and_few),
    "share_with_zeros": _hidden(test_shared_convolution_with_zeros, test_all_zero_and_one_centroid),
    "pack": _hidden(test_many_codes_of_every_width, test_no_code_and_one),
    "sharing_rate": _hidden(test_sixteen_bit_weights, test_extremes_of_sharing),
    "codebook_gradient": _hidden(test_sums_on_a_large_sparse_layer, test_everything_pruned),
}
