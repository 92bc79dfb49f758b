"""Codebooks on plain tensors, against slow loops, scikit-learn, autograd and the bytes of packed indices."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from coursekit import zoo
from coursekit.compression import (
    codebook_gradient,
    initial_centroids,
    kmeans_step,
    share_with_zeros,
    sharing_rate,
)
from coursekit.packing import bits_for, pack

quarters = st.integers(-12, 12).map(lambda n: n / 4)


def slow_step(values: list[float], centroids: list[float]) -> list[float]:
    """One round, value by value."""
    nearest = [min(range(len(centroids)), key=lambda j: (abs(v - centroids[j]), j)) for v in values]
    # Far values first; sorted() keeps the order of equals.
    far = sorted(range(len(values)), key=lambda i: -abs(values[i] - centroids[nearest[i]]))
    moved, n_empty = [], 0
    for j in range(len(centroids)):
        mine = [v for v, own in zip(values, nearest, strict=True) if own == j]
        moved.append(math.fsum(mine) / len(mine) if mine else values[far[n_empty]])
        n_empty += not mine
    return sorted(moved)


@settings(max_examples=200, deadline=None)
@given(st.lists(quarters, min_size=4, max_size=12), st.lists(quarters, min_size=1, max_size=4, unique=True))
def test_a_round_is_the_one_made_value_by_value(values, centroids):
    moved = kmeans_step(torch.tensor(values), torch.tensor(sorted(centroids)))
    assert moved.tolist() == pytest.approx(slow_step(values, sorted(centroids)), abs=1e-12)


def test_rounds_end_where_scikit_learns_do():
    weight = zoo.load("lenet5").conv2.weight.detach()[:5].flatten()  # 2,500 weights
    centroids = initial_centroids(weight, 8, "density")
    theirs = KMeans(8, init=centroids.numpy()[:, None], n_init=1, tol=0, max_iter=1000).fit(
        weight.double().numpy()[:, None]
    )
    for _ in range(1000):
        moved = kmeans_step(weight, centroids)
        if torch.equal(moved, centroids):
            break
        centroids = moved
    assert np.allclose(np.sort(theirs.cluster_centers_[:, 0]), centroids, atol=1e-9)


@pytest.mark.parametrize(
    "centroids, why", [([], "clusters"), ([2.0, 1.0], "ascending"), ([0.0] * 4, "clusters")]
)
def test_a_round_refuses_what_makes_no_clusters(centroids, why):
    with pytest.raises(ValueError, match=why):
        kmeans_step(torch.ones(3), torch.tensor(centroids))


@settings(max_examples=100, deadline=None)
@given(st.lists(quarters, max_size=12), st.lists(quarters, min_size=1, max_size=4, unique=True))
def test_zeros_keep_the_zero_and_others_never_get_it(values, centroids):
    weight, centroids = torch.tensor(values), torch.tensor(sorted(centroids))
    codebook, indices = share_with_zeros(weight, centroids)
    assert codebook.tolist() == [0.0, *centroids.tolist()]
    assert torch.equal(indices == 0, weight == 0)
    distances = (weight[:, None] - centroids).abs()
    kept = indices > 0
    chosen = distances[kept].gather(1, indices[kept][:, None] - 1).squeeze(1)
    assert torch.equal(chosen, distances[kept].amin(1))


def test_the_gradient_of_a_codebook_is_autograds():
    generator = torch.Generator().manual_seed(0)
    indices = torch.randint(5, (7, 9), generator=generator)
    target = torch.randn(7, 9, generator=generator, dtype=torch.float64)
    codebook = torch.tensor([0.0, -1.0, 0.5, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    weight = codebook[indices]
    weight.retain_grad()
    (weight - target).pow(3).sum().backward()
    ours = codebook_gradient(weight.grad, indices, 5)
    assert torch.allclose(ours[1:], codebook.grad[1:], rtol=1e-12) and ours[0] == 0


def test_gradients_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="gradients and"):
        codebook_gradient(torch.ones(3), torch.zeros(4, dtype=torch.int64), 2)
    with pytest.raises(ValueError, match="0 to 1"):
        codebook_gradient(torch.ones(2), torch.tensor([0, 2]), 2)


@pytest.mark.parametrize("n, k", [(8, 1), (64, 5), (1000, 16), (1000, 17), (8, 8)])
def test_the_rate_is_that_of_the_bytes(n, k):
    """With n a multiple of 8 no bit of the packed indices is left over."""
    packed = pack(torch.arange(n) % k, bits_for(k)).numel()
    assert sharing_rate(n, k) == pytest.approx(4 * n / (packed + 4 * k))


def test_the_rate_refuses_nothing_to_share():
    for arguments in ((0, 4), (4, 0), (4, 4, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            sharing_rate(*arguments)
