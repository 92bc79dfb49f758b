"""Hidden tests of lesson 09. Each states a property and checks it by definition, not against the reference."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from coursekit import data, zoo
from coursekit.exercises.expect import expect_close, expect_tensor
from coursekit.exercises.feature_distillation.properties import (
    captured,
    descent,
    expect_distances,
    expect_features,
    expect_left_alone,
    expect_loss,
    expect_losses,
    expect_pairs,
    expect_refused,
    map_by_hand,
    parts,
)
from coursekit.exercises.inputs import normal
from coursekit.exercises.spec import as_test, worth

__all__ = ["HIDDEN"]


def test_features_of_other_networks(student):
    """Other modules of other networks are captured just as well, behind an in-place ReLU or not."""
    for seed in (5, 6):
        expect_features(student, seed, ["block.conv", "norm", "fc", "block"])


def test_features_twice_in_a_row(student):
    """A second call gives the second images' features, and neither leaves a hook."""
    network = student.make("features.small", 7)
    first = captured(student, network, normal(3, 1, 6, 6, seed=1), ["fc"])["fc"]
    again = captured(student, network, normal(3, 1, 6, 6, seed=2), ["fc"])["fc"]
    back = captured(student, network, normal(3, 1, 6, 6, seed=1), ["fc"])["fc"]
    expect_close(back, first, "the first images once more", rtol=1e-4, atol=1e-6)
    expect_close(float((again - first).abs().max() > 1e-3), 1.0, "other images, other features")
    expect_refused(student, network, normal(3, 2, 6, 6), ["block", "conv"], "images with two channels")
    expect_left_alone(student, network, "after four calls")


def test_hint_of_other_networks(student):
    """Other networks, step sizes and numbers of steps give the losses worked out by hand."""
    for seed, steps, lr in ((11, 2, 1.0), (12, 7, 0.1)):
        x = normal(5, 1, 7, 7, seed=seed)
        expect_losses(
            student.hint_stage(*parts(student, seed), x, steps, lr), descent(seed, x, steps, lr), f"lr {lr}"
        )


@worth(2)
def test_hint_twice_in_a_row(student):
    """A second call goes on where the first one stopped, and the teacher has still not moved."""
    x, networks = normal(4, 1, 6, 6, seed=13), parts(student, 13)
    losses = [*student.hint_stage(*networks, x, 2, 0.3), *student.hint_stage(*networks, x, 3, 0.3)]
    expect_losses(losses, descent(13, x, 5, 0.3), "two steps, then three")


@functools.cache
def real_features(layer: str) -> Tensor:
    """What a stage of the trained ResNet-20 gives for real images."""
    network: Any = zoo.load("resnet20")
    images = data.fashion_mnist("test", subset=True).images[:4]
    with torch.no_grad():
        x = network.stage1(network.relu(network.bn1(network.conv1(images))))
        x = network.stage2(x)
        return x if layer == "stage2" else network.stage3(x)


@worth(2)
def test_map_of_a_trained_network(student):
    """On the features of a trained network each map is the formula's, and of length 1."""
    x = real_features("stage3")
    got = expect_tensor(student.attention_map(x), torch.float32, (4, 49))
    expect_close(got, map_by_hand(x), "maps of stage 3", rtol=1e-4, atol=1e-6)
    expect_close(got.double().square().sum(1), torch.ones(4), "squared lengths", rtol=1e-4)


def test_map_of_views(student):
    """A view with other strides and a float64 tensor work like any other; one place only gives 1."""
    x = normal(2, 5, 3, 4, seed=5).permute(0, 2, 3, 1)
    got = expect_tensor(student.attention_map(x), torch.float32, (2, 20))
    expect_close(got, map_by_hand(x), "the map of a view", rtol=1e-4, atol=1e-6)
    double = normal(2, 3, 2, 2, seed=6).double()
    got = expect_tensor(student.attention_map(double), torch.float64, (2, 4))
    expect_close(got, map_by_hand(double), "the map in float64", rtol=1e-6, atol=1e-9)
    got = student.attention_map(normal(3, 4, 1, 1, seed=7))
    expect_close(expect_tensor(got, torch.float32, (3, 1)), torch.ones(3, 1), "maps of one place")


def test_loss_between_stages_of_a_network(student):
    """Between two stages of a trained network, of 14 x 14 and 7 x 7, it is what the formula says, either way."""
    wide, deep = real_features("stage2"), real_features("stage3")
    expect_loss(student, wide, deep, "stage 2 against stage 3")
    expect_loss(student, deep, wide, "stage 3 against stage 2")


def test_loss_of_other_sizes(student):
    """Channels, batches and sizes of many kinds."""
    for seed, (n, mine, theirs) in enumerate((
        ((5), (6, 4), (2, 4)),
        (1, (1, 1), (5, 5)),
        (3, (2, 9), (4, 3)),
    )):
        a, b = normal(n, 2, *mine, seed=seed), 0.01 * normal(n, 6, *theirs, seed=seed + 20)
        expect_loss(student, a, b, f"{mine} and {theirs}")


@worth(2)
def test_distances_of_real_embeddings(student):
    """The embeddings of real images by a trained network, 64 numbers each."""
    expect_distances(student, real_features("stage3").mean((2, 3)), "four images")


def test_distances_of_two(student):
    """Two images have one distance, which is its own mean; points on a line keep their proportions."""
    expect_distances(student, normal(2, 3, seed=8), "two points")
    expect_distances(student, torch.tensor([[0.0], [1.0], [10.0], [11.0]]), "four points on a line")


@worth(2)
def test_pairs_of_other_networks(student):
    """Networks of other depths and sizes, with layers after a size has come back."""
    mine = {
        "in": (1, 9, 9),
        "p": (3, 9, 9),
        "q": (3, 5, 9),
        "r": (3, 5, 5),
        "s": (3, 9, 9),
        "t": (3, 3, 3),
        "v": (27,),
    }
    theirs = {"m": (8, 5, 5), "n": (8, 3, 3), "o": (8, 9, 9), "k": (8, 3, 3), "l": (8, 5, 5), "v": (27,)}
    expect_pairs(
        student.pair_layers(mine, theirs), [("r", "l"), ("s", "o"), ("t", "k")], "sizes that come back"
    )
    expect_pairs(
        student.pair_layers(theirs, mine), [("o", "s"), ("k", "t"), ("l", "r")], "the other way round"
    )


def test_pairs_of_nothing(student):
    """No layers, or no size in common, give no pairs; one layer each gives one."""
    expect_pairs(student.pair_layers({}, {"a": (1, 2, 2)}), [], "no layers")
    expect_pairs(student.pair_layers({"a": (1, 2, 2)}, {"b": (1, 3, 3)}), [], "no size in common")
    expect_pairs(student.pair_layers({"a": (1, 2, 2)}, {"b": (5, 2, 2)}), [("a", "b")], "one layer each")


_BY_EXERCISE = {
    "capture_features": (test_features_of_other_networks, test_features_twice_in_a_row),
    "hint_stage": (test_hint_of_other_networks, test_hint_twice_in_a_row),
    "attention_map": (test_map_of_a_trained_network, test_map_of_views),
    "attention_loss": (test_loss_between_stages_of_a_network, test_loss_of_other_sizes),
    "relational_distances": (test_distances_of_real_embeddings, test_distances_of_two),
    "pair_layers": (test_pairs_of_other_networks, test_pairs_of_nothing),
}

HIDDEN = {
    name: tuple(as_test(function, public=False) for function in functions)
    for name, functions in _BY_EXERCISE.items()
}
