"""k-means in one dimension against brute force over all partitions, and against what must hold of any answer."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from coursekit import zoo
from coursekit.compression import assign, initial_centroids, kmeans, kmeans_exact, lloyd

few_values = st.lists(st.integers(-8, 8).map(lambda n: n / 4), min_size=1, max_size=9)


def least_error(values: list[float], k: int) -> float:
    """The least squared error over every way to cut the sorted values into at most k ranges."""
    x = np.sort(np.array(values))
    errors = []
    for n_cuts in range(min(k, len(x))):
        for cuts in itertools.combinations(range(1, len(x)), n_cuts):
            errors.append(sum(((part - part.mean()) ** 2).sum() for part in np.split(x, cuts)))
    return min(errors)


@settings(max_examples=150, deadline=None)
@given(few_values, st.integers(1, 5))
def test_exact_error_is_the_least_over_all_partitions(values, k):
    found = kmeans_exact(torch.tensor(values, dtype=torch.float64), k)
    assert found.error == pytest.approx(least_error(values, k), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(few_values, st.integers(1, 5))
def test_no_cluster_is_empty_and_centroids_ascend(values, k):
    for function in (kmeans, kmeans_exact):
        found = function(torch.tensor(values), k)
        assert (torch.bincount(found.indices, minlength=len(found.centroids)) > 0).all()
        assert len(found.centroids) == min(k, len(set(values)))
        assert (found.centroids.diff() > 0).all()


@pytest.mark.parametrize("n_clusters", [2, 16, 32])
def test_fast_error_is_within_a_hundredth_of_the_exact_one_on_a_trained_layer(n_clusters):
    weight = zoo.load("resnet20").stage2[1].conv1.weight.detach()
    assert kmeans(weight, n_clusters).error <= 1.01 * kmeans_exact(weight, n_clusters).error


def test_fast_error_is_no_worse_than_scikit_learns_on_many_weights():
    weight = zoo.load("lenet300").fc1.weight.detach()[:120]  # 94,080 weights
    theirs = KMeans(16, n_init=1, random_state=0).fit(weight.reshape(-1, 1).numpy())
    assert kmeans(weight, 16).error <= 1.001 * theirs.inertia_


def test_error_is_that_of_the_indices_and_each_value_has_its_nearest_centroid():
    weight = zoo.load("lenet5").conv2.weight.detach()
    found = kmeans(weight, 8)
    distances = (weight.double().unsqueeze(-1) - found.centroids).abs()
    assert torch.equal(distances.gather(-1, found.indices.unsqueeze(-1)).squeeze(-1), distances.amin(-1))
    assert found.error == pytest.approx(distances.amin(-1).square().sum().item(), rel=1e-9)
    assert found.indices.shape == weight.shape


def test_lloyd_ends_where_every_centroid_is_the_mean_of_its_values():
    weight = zoo.load("lenet5").conv2.weight.detach()
    for init in ("linear", "density", "random"):
        found = lloyd(weight, initial_centroids(weight, 8, init))
        for k in range(8):
            mine = weight[found.indices == k].double()
            assert mine.numel() == 0 or mine.mean().item() == pytest.approx(
                found.centroids[k].item(), abs=1e-9
            )


def test_lloyd_never_makes_the_error_larger():
    weight = zoo.load("lenet5").conv2.weight.detach()
    start = initial_centroids(weight, 8, "random", seed=3)
    errors = [lloyd(weight, start, max_rounds=n).error for n in range(6)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > errors[-1]


def test_one_cluster_is_the_mean():
    x = torch.tensor([1.0, 2.0, 6.0])
    for function in (kmeans, kmeans_exact):
        assert function(x, 1).centroids.tolist() == [3.0]


def test_a_shift_of_a_million_costs_no_accuracy():
    x = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert kmeans_exact(x + 1e6, 3).error == pytest.approx(kmeans_exact(x, 3).error, rel=1e-6)


def test_density_start_has_as_many_values_between_each_two():
    x = torch.arange(800).double().square()
    start = initial_centroids(x, 8, "density")
    assert torch.bincount(torch.bucketize(x, start), minlength=9)[1:-1].tolist() == [100] * 7


@pytest.mark.parametrize(
    "bad", [torch.empty(0), torch.tensor([1.0, float("nan")]), torch.tensor([float("inf")])]
)
def test_values_that_cannot_be_clustered_are_refused(bad):
    for function in (kmeans, kmeans_exact):
        with pytest.raises(ValueError, match=r"no values|nan or infinity"):
            function(bad, 2)


@pytest.mark.parametrize("n_clusters", [0, -1, 2.0, True])
def test_n_clusters_must_be_a_positive_int(n_clusters):
    with pytest.raises(ValueError, match="n_clusters"):
        kmeans(torch.ones(3), n_clusters)


def test_centroids_that_do_not_ascend_are_refused():
    with pytest.raises(ValueError, match="ascending"):
        assign(torch.ones(2), torch.tensor([2.0, 1.0]))
