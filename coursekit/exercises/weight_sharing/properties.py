"""The public tests of lesson 11, and what they share with the hidden ones: slow oracles, value by value."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.expect import expect, expect_close, expect_float, expect_tensor
from coursekit.exercises.inputs import normal
from coursekit.exercises.spec import Test, TestFunction, as_test, worth

__all__ = [
    "PUBLIC",
    "expect_density",
    "expect_drawn",
    "expect_linear",
    "expect_packed",
    "expect_round",
    "expect_shared",
    "expect_sums",
    "with_zeros",
]


def with_zeros(*shape: int, seed: int = 0) -> Tensor:
    """Values of which about half are exactly 0."""
    values = normal(*shape, seed=seed)
    return torch.where(values.abs() > 0.6, values, 0.0)


def _one_round(values: list[float], centroids: list[float]) -> list[float]:
    """k-means once, value by value; an empty cluster takes the farthest value that none took before."""
    nearest = [min(range(len(centroids)), key=lambda j: abs(v - centroids[j])) for v in values]
    far = sorted(range(len(values)), key=lambda i: -abs(values[i] - centroids[nearest[i]]))
    moved, n_empty = [], 0
    for j in range(len(centroids)):
        mine = [v for v, own in zip(values, nearest, strict=True) if own == j]
        moved.append(math.fsum(mine) / len(mine) if mine else values[far[n_empty]])
        n_empty += not mine
    return sorted(moved)


def expect_round(student: Any, values: Tensor, centroids: list[float], what: str) -> None:
    """One round from these centroids comes out as value by value."""
    result = student.kmeans_step(values, torch.tensor(centroids, dtype=torch.float64))
    got = expect_tensor(result, torch.float64, (len(centroids),))
    expected = torch.tensor(_one_round(values.flatten().tolist(), centroids), dtype=torch.float64)
    expect_close(got, expected, what, rtol=1e-9, atol=1e-12)


@worth(2)
def test_each_centroid_moves_to_the_mean_of_its_values(student):
    """Each value, in any shape, belongs to the nearest centroid, and each centroid moves to its values' mean."""
    expect_round(
        student,
        torch.tensor([0.0, 1.0, 2.0, 8.0], dtype=torch.float64),
        [1.5, 5.5],
        "centroids of 0, 1, 2, 8",
    )
    expect_round(
        student, normal(5, 40, seed=1).double(), [-1.0, -0.1, 0.2, 1.5], "centroids of a 5 x 40 weight"
    )


@worth(2)
def test_an_empty_cluster_moves_to_the_farthest_value(student):
    """A centroid that is nearest to no value moves to the value that is farthest from its own centroid."""
    values = torch.tensor([0.0, 0.5, 1.0, 4.0], dtype=torch.float64)
    expect_round(student, values, [0.4, 1.1, 90.0], "centroids, where the one at 90 is empty")
    expect_round(student, values, [-70.0, 0.4, 1.1], "centroids, where the one at -70 is empty")


def test_two_empty_clusters_move_to_two_values(student):
    """Of two empty clusters one moves to the farthest value and one to the second farthest; centroids ascend."""
    values = torch.tensor([-3.0, -0.1, 0.0, 0.3, 5.0, 1.0], dtype=torch.float64)
    expect_round(student, values, [0.0, 50.0, 90.0], "centroids, where those at 50 and 90 are empty")


def expect_linear(student: Any, values: Tensor, k: int) -> None:
    """The linear centroids are evenly spaced from the least to the largest value."""
    got = expect_tensor(student.initial_centroids(values, k, "linear"), torch.float64, (k,))
    low, high = values.min().item(), values.max().item()
    expected = [low + (high - low) * i / (k - 1) for i in range(k)]
    expect_close(got, expected, f"{k} linear centroids", rtol=1e-6, atol=1e-7)


def expect_density(student: Any, values: Tensor, k: int) -> None:
    """Below centroid i lie (i + 1/2) n / k of the n values, give or take one."""
    got = expect_tensor(student.initial_centroids(values, k, "density"), torch.float64, (k,))
    for i, centroid in enumerate(got.tolist()):
        below, wanted = int((values.double() < centroid).sum()), (i + 0.5) * values.numel() / k
        expect(
            abs(below - wanted) <= 1,
            f"the number of values below density centroid {i} is wrong",
            below,
            wanted,
        )


def expect_drawn(student: Any, values: Tensor, k: int, seeds: tuple[int, ...]) -> None:
    """Random centroids are k of the values, each drawn once, ascending, and others for another seed."""
    drawn = []
    for seed in seeds:
        got = expect_tensor(student.initial_centroids(values, k, "random", seed), torch.float64, (k,))
        there = all((values.double() == v).any() for v in got.tolist())
        expect(there, "a random centroid is none of the values", got, f"{k} of the values")
        expect(len(set(got.tolist())) == k, "a value was drawn twice", got, f"{k} different values")
        expect(bool((got.diff() >= 0).all()), "the random centroids do not ascend", got, "ascending")
        drawn.append(got.tolist())
    expect(drawn[0] != drawn[1], "two seeds draw the same", drawn[1], "other values")
    again = student.initial_centroids(values, k, "random", seeds[0])
    expect(again.tolist() == drawn[0], "the same seed draws others the second time", again, drawn[0])


def test_linear_runs_from_end_to_end(student):
    """Linear: evenly spaced, the first at the smallest value and the last at the largest."""
    expect_linear(student, torch.tensor([-1.0, 0.0, 0.1, 7.0]), 5)
    expect_linear(student, normal(4, 25), 8)


def test_density_has_as_many_values_between_each_two(student):
    """Density: half a share of the values lies below the first centroid, and a whole share between each two."""
    expect_density(student, torch.arange(100.0).square(), 4)
    expect_density(student, normal(20, 30, seed=2), 16)


@worth(2)
def test_random_draws_values_without_repetition(student):
    """Random: values of the tensor, none twice, ascending, the same for the same seed."""
    expect_drawn(student, normal(3, 8, seed=3), 20, (0, 1, 2))


def expect_shared(student: Any, weight: Tensor, centroids: list[float], what: str) -> None:
    """Codebook and indices: entry 0 is 0.0 and for zeros alone; all others have their nearest centroid."""
    result = student.share_with_zeros(weight, torch.tensor(centroids, dtype=torch.float64))
    expect(
        isinstance(result, tuple | list) and len(result) == 2,
        f"{what}: not (codebook, indices)",
        result,
        "a pair",
    )
    codebook = expect_tensor(result[0], weight.dtype, (len(centroids) + 1,))
    indices = expect_tensor(result[1], torch.int64, weight.shape)
    expect_close(codebook, torch.tensor([0.0, *centroids]), f"{what}: the codebook", rtol=1e-6)
    expected = [
        1 + min(range(len(centroids)), key=lambda j: abs(v - centroids[j])) if v != 0 else 0
        for v in weight.flatten().tolist()
    ]
    expect_close(indices.flatten(), expected, f"{what}: the indices", rtol=0)


def test_what_is_not_zero_gets_its_nearest_centroid(student):
    """A weight that is not 0 gets the index of its nearest centroid, counted from 1."""
    weight = torch.tensor([[-1.2, 0.9], [2.2, -0.8]])
    expect_shared(student, weight, [-1.0, 1.0, 2.0], "a weight without zeros")


def test_zeros_get_index_zero(student):
    """A weight that is exactly 0 gets the index 0, and entry 0 of the codebook is 0.0."""
    expect_shared(student, torch.tensor([0.0, 1.2, 0.0, -0.9]), [-1.0, 1.0], "a weight with two zeros")
    expect_shared(student, with_zeros(6, 5), [-1.5, -0.75, 0.75, 1.5], "a 6 x 5 weight, half of it zeros")


def test_small_weights_are_not_pruned(student):
    """A small weight that is not 0 gets a centroid all the same, even where 0 would be nearer."""
    expect_shared(
        student, torch.tensor([0.0, 1e-5, -0.2, 0.3]), [-1.0, 1.0], "a weight with a value of 0.00001"
    )


def expect_packed(student: Any, codes: Tensor, n_bits: int) -> None:
    """The bytes are those of the codes written as one long binary number, filled up with zeros at the end."""
    text = "".join(format(code, f"0{n_bits}b") for code in codes.flatten().tolist())
    text += "0" * (-len(text) % 8)
    expected = [int(text[i : i + 8], 2) for i in range(0, len(text), 8)]
    got = expect_tensor(student.pack(codes, n_bits), torch.uint8, (len(expected),))
    expect_close(got, expected, f"{codes.numel()} codes of {n_bits} bits", rtol=0)


@worth(2)
def test_codes_fill_bytes_from_the_highest_bit(student):
    """The first code has the highest bits of the first byte, its own highest bit first: 1, 2, 3 are 01 10 11 00."""
    expect_packed(student, torch.tensor([1, 2, 3]), 2)
    expect_packed(student, torch.tensor([6, 1, 5, 0, 3, 7, 2, 4]), 3)


def test_codes_cross_the_borders_of_bytes(student):
    """Codes of 5 bits lie across the borders of bytes: 8 of them take 5 bytes, and 10, as (2, 5), take 7."""
    expect_packed(student, torch.tensor([31, 1, 17, 9, 22, 4, 30, 12]), 5)
    expect_packed(student, torch.tensor([[3, 18, 25, 7, 11], [29, 1, 16, 8, 21]]), 5)


def test_one_bit_and_eight(student):
    """Codes of 1 bit take an eighth of a byte, codes of 8 bits a byte."""
    expect_packed(student, torch.tensor([1, 0, 0, 1, 1, 1, 0, 1, 0, 1, 1]), 1)
    expect_packed(student, torch.tensor([200, 7, 255]), 8)


def expect_rate(student: Any, arguments: tuple[int, ...], expected: float) -> None:
    """The rate is this number."""
    got = expect_float(student.sharing_rate(*arguments), f"sharing_rate{arguments}")
    expect_close(got, expected, f"sharing_rate{arguments}", rtol=1e-6)


@worth(2)
def test_codebook_and_whole_bits_count(student):
    """The bits before over the bits of all indices, a whole number each, and of the codebook."""
    expect_rate(student, (16, 4), 3.2)  # the paper's example: 512 bits over 32 + 128
    expect_rate(student, (1000, 16), 32000 / (4000 + 512))
    expect_rate(student, (1000, 17), 32000 / (5000 + 544))
    expect_rate(student, (400, 20, 16), 6400 / (2000 + 320))


def expect_sums(student: Any, gradient: Tensor, indices: Tensor, n_codes: int, what: str) -> None:
    """Each entry but the first is the sum over the weights with its index."""
    got = expect_tensor(student.codebook_gradient(gradient, indices, n_codes), gradient.dtype, (n_codes,))
    sums = [0.0] * n_codes
    for value, index in zip(gradient.flatten().tolist(), indices.flatten().tolist(), strict=True):
        sums[index] += value if index else 0.0
    expect_close(got, sums, what, rtol=1e-4, atol=1e-5)


@worth(2)
def test_gradients_of_shared_weights_add_up(student):
    """The gradient of a centroid is the sum of the gradients of all weights with its index."""
    gradient, indices = (
        torch.tensor([[1.0, 2.0, -4.0], [8.0, 16.0, 0.5]]),
        torch.tensor([[1, 2, 1], [3, 2, 1]]),
    )
    expect_sums(student, gradient, indices, 4, "the gradient of 3 centroids")


def test_pruned_weights_pull_at_nothing(student):
    """Index 0 stands for what is pruned: entry 0 of the gradient is 0, whatever arrives there."""
    expect_sums(
        student,
        torch.tensor([5.0, 1.0, -7.0, 2.0]),
        torch.tensor([0, 1, 0, 2]),
        3,
        "the gradient with two pruned",
    )


def test_a_code_that_nobody_uses_has_gradient_zero(student):
    """There is one number for each entry of the codebook, 0 where no weight looks it up."""
    expect_sums(
        student, torch.tensor([3.0, 4.0]), torch.tensor([2, 2]), 5, "the gradient of 5 entries, one in use"
    )


def _public(*functions: TestFunction) -> tuple[Test, ...]:
    return tuple(as_test(function, public=True) for function in functions)


PUBLIC: dict[str, tuple[Test, ...]] = {
    "kmeans_step": _public(
        test_each_centroid_moves_to_the_mean_of_its_values,
        test_an_empty_cluster_moves_to_the_farthest_value,
        test_two_empty_clusters_move_to_two_values,
    ),
    "initial_centroids": _public(
        test_linear_runs_from_end_to_end,
        test_density_has_as_many_values_between_each_two,
        test_random_draws_values_without_repetition,
    ),
    "share_with_zeros": _public(
        test_what_is_not_zero_gets_its_nearest_centroid,
        test_zeros_get_index_zero,
        test_small_weights_are_not_pruned,
    ),
    "pack": _public(
        test_codes_fill_bytes_from_the_highest_bit,
        test_codes_cross_the_borders_of_bytes,
        test_one_bit_and_eight,
    ),
    "sharing_rate": _public(test_codebook_and_whole_bits_count),
    "codebook_gradient": _public(
        test_gradients_of_shared_weights_add_up,
        test_pruned_weights_pull_at_nothing,
        test_a_code_that_nobody_uses_has_gradient_zero,
    ),
}
