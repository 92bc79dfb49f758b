"""The public tests of lesson 09: each states a property of a right solution."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.exercises.expect import expect, expect_close, expect_tensor, show
from coursekit.exercises.inputs import normal
from coursekit.exercises.spec import Test, TestFunction, as_test, worth
from coursekit.exercises.student import StudentError

__all__ = [
    "PUBLIC",
    "captured",
    "descent",
    "expect_left_alone",
    "expect_losses",
    "expect_pairs",
    "expect_refused",
    "loss_by_hand",
    "map_by_hand",
    "relative_distances",
]

IMAGES = normal(3, 1, 6, 6)


def captured(student: Any, network: Any, images: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """The student's features, if they are a dict of tensors with these names."""
    result = student.capture_features(network, images, list(names))
    expect(isinstance(result, dict), "the result is not a dict", result, "a dict from name to tensor")
    expect(set(result) == set(names), "the names in the dict", sorted(result), sorted(names))
    for name, value in result.items():
        expect(isinstance(value, Tensor), f"the feature of {name} is not a tensor", value, "a tensor")
    return result


@functools.cache
def by_hand(seed: int) -> dict[str, Tensor]:
    """What the modules of `features.small(seed)` give for IMAGES, called one after the other."""
    from coursekit.fixtures import features  # here, as importing it loads torch's compiler

    network: Any = features.small(seed)
    with torch.no_grad():
        conv = network.conv(IMAGES)
        norm = network.norm(conv)
        block_conv = network.block.conv(norm.relu())
        block_norm = network.block.norm(block_conv)
        fc = network.fc(block_norm.relu().mean((2, 3)))
    return {"conv": conv, "norm": norm, "block.conv": block_conv, "block.norm": block_norm,
            "block": block_norm.relu(), "fc": fc}  # fmt: skip


def expect_features(student: Any, seed: int, names: Sequence[str]) -> None:
    """These modules' outputs, to rounding."""
    got = captured(student, student.make("features.small", seed), IMAGES, names)
    for name in names:
        wanted = by_hand(seed)[name]
        expect_tensor(got[name], torch.float32, wanted.shape)
        expect_close(got[name], wanted, f"the output of {name}", rtol=1e-4, atol=1e-5)


def test_features_of_two_levels(student):
    """Each name gets what that module returned, also where it lies inside another one."""
    expect_features(student, 0, ["conv", "block.conv", "fc"])
    expect_features(student, 3, ["block.conv"])


def test_features_are_kept_from_in_place_changes(student):
    """A ReLU that works in place behind a module does not change the feature."""
    expect_features(student, 1, ["norm", "block.norm", "conv"])


def expect_left_alone(student: Any, network: Any, what: str) -> None:
    """No hook is left in the network."""
    count = student.make("features.hook_count", network)
    expect(count == 0, f"hooks are left in the network {what}", count, 0)


@worth(2)
def test_features_leave_no_hook(student):
    """After the call the network has no hook, also when it raised on the way."""
    network = student.make("features.small", 2)
    captured(student, network, IMAGES, ["conv", "block", "fc"])
    expect_left_alone(student, network, "after the call")
    expect_refused(student, network, IMAGES.repeat(1, 2, 1, 1), ["conv", "fc"], "images with two channels")
    expect_left_alone(student, network, "after an error in its forward pass")


def expect_refused(student: Any, network: Any, images: Tensor, names: Sequence[str], what: str) -> None:
    """The call raises."""
    try:
        result = student.capture_features(network, images, list(names))
    except StudentError:
        return
    expect(False, f"{what} should raise an error", show(result), "an error")


def test_features_refuse_unknown_names(student):
    """A name that no module has raises an error."""
    for names in (["convolution"], ["conv", "block.fc"], ["norm", "block.co"]):
        expect_refused(student, student.make("features.small", 2), IMAGES, names, f"the names {show(names)}")


def test_features_take_one_pass(student):
    """The network runs once, in the mode it was in and with gradients as the caller has them."""
    for training in (True, False):
        network = student.make("features.small", 4, training)
        captured(student, network, IMAGES, ["conv", "norm", "block"])
        seen = student.make("features.seen", 0)
        expect(seen["passes"] == 1, "forward passes of the network", seen["passes"], 1)
        expect(
            seen["training"] is training, "the network's training flag changed", seen["training"], training
        )
        expect(seen["gradients"] is True, "the pass recorded no gradients", seen["gradients"], True)


@torch.enable_grad()  # a judge need not record gradients
def descent(seed: int, images: Tensor, steps: int, lr: float) -> list[float]:
    """The losses of stage 1 by definition, each gradient worked out and applied by hand."""
    from coursekit.fixtures import features

    guided, hint, regressor = (
        features.guided(seed).train(),
        features.hint(seed).eval(),
        features.regressor(seed),
    )
    with torch.no_grad():
        target = hint(images)
    parameters = [*guided.parameters(), *regressor.parameters()]
    losses = []
    for _ in range(steps):
        loss = F.mse_loss(regressor(guided(images)), target) / 2
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(lr * gradient)
    return losses


def parts(student: Any, seed: int) -> list[Any]:
    """The student's lower layers, the teacher's, and the regressor, where the student's function runs."""
    return [student.make(f"features.{part}", seed) for part in ("guided", "hint", "regressor")]


def expect_losses(value: Any, expected: Sequence[float], what: str) -> None:
    """The value, if it is a list of these floats."""
    expect(isinstance(value, list | tuple), f"{what}: the result is not a list", value, "a list of floats")
    expect(len(value) == len(expected), f"{what}: how many losses", len(value), len(expected))
    for loss in value:
        expect(isinstance(loss, float), f"{what}: a loss is no float; use .item()", loss, "a float")
    expect_close(torch.tensor(value), torch.tensor(expected), f"{what}: the losses", rtol=1e-3, atol=1e-6)


def test_hint_first_loss(student):
    """The first loss is half the mean squared distance before anything has moved."""
    x = normal(4, 1, 6, 6, seed=1)
    expect_losses(student.hint_stage(*parts(student, 1), x, 1, 0.1), descent(1, x, 1, 0.1), "one step")


@worth(2)
def test_hint_descends_by_hand(student):
    """Every later loss is what gradient descent of student and regressor gives, worked out by hand."""
    x = normal(4, 1, 6, 6, seed=2)
    expect_losses(student.hint_stage(*parts(student, 2), x, 5, 0.5), descent(2, x, 5, 0.5), "five steps")


@worth(2)
def test_hint_moves_both_and_not_the_teacher(student):
    """The student's layers and the regressor have moved; the teacher's weights and statistics have not."""
    before, networks = parts(student, 3), parts(student, 3)
    student.hint_stage(*networks, normal(4, 1, 6, 6, seed=3), 3, 0.5)
    for part, old, new in zip(("student", "teacher", "regressor"), before, networks, strict=True):
        states = [student.make("networks.state", network) for network in (old, new)]
        moved = {name: not torch.equal(states[0][name], states[1][name]) for name in states[0]}
        if part == "teacher":
            names = [name for name, has in moved.items() if has]
            expect(not names, "tensors of the teacher changed", names, "none")
        else:
            names = [name for name, has in moved.items() if not has and name.endswith("weight")]
            expect(not names, f"weights of the {part} that did not move", names, "none")


def map_by_hand(features: Tensor) -> Tensor:
    """The map by its formula, number by number, in float64."""
    rows = []
    for image in features.tolist():
        places = [(y, x) for y in range(len(image[0])) for x in range(len(image[0][0]))]
        energy = [sum(channel[y][x] ** 2 for channel in image) for y, x in places]
        length = math.sqrt(sum(value**2 for value in energy)) or 1.0
        rows.append([value / length for value in energy])
    return torch.tensor(rows, dtype=torch.float64)


def test_map_of_two_places(student):
    """Features (1, 0) and (0, 2) in two places give squares 1 and 4, divided by the root of 17."""
    features = torch.tensor([[[[1.0, 0.0]], [[0.0, 2.0]]]])
    got = expect_tensor(student.attention_map(features), torch.float32, (1, 2))
    expect_close(got, torch.tensor([[1.0, 4.0]]) / math.sqrt(17), "the map of two places")


@worth(2)
def test_map_by_its_formula(student):
    """Each row is the sum of squares over the channels, row by row, over its Euclidean length."""
    features = normal(3, 5, 2, 4, seed=1) * torch.tensor([1.0, 4.0, 0.1]).reshape(-1, 1, 1, 1)
    got = expect_tensor(student.attention_map(features), torch.float32, (3, 8))
    expect_close(got, map_by_hand(features), "the map", rtol=1e-4, atol=1e-6)


def test_map_of_each_image_alone(student):
    """An image's map does not depend on the scale of its features, nor on the other images of the batch."""
    features = normal(4, 3, 3, 3, seed=2)
    whole = expect_tensor(student.attention_map(features), torch.float32, (4, 9))
    scaled = student.attention_map(features * torch.tensor([1.0, 50.0, 0.02, -3.0]).reshape(-1, 1, 1, 1))
    expect_close(scaled, whole, "the map of scaled features", rtol=1e-4, atol=1e-6)
    expect_close(student.attention_map(features[1:2]), whole[1:2], "an image alone", rtol=1e-4, atol=1e-6)


def test_map_of_nothing(student):
    """An image whose features are all 0 has a map of zeros, not of NaN; the others are as without it."""
    features = normal(3, 2, 2, 3, seed=3)
    features[1] = 0
    got = expect_tensor(student.attention_map(features), torch.float32, (3, 6))
    expect_close(got, map_by_hand(features), "the maps around an empty image", rtol=1e-4, atol=1e-6)


def loss_by_hand(student: Tensor, teacher: Tensor) -> float:
    """The loss of maps of which each side divides the other: areas averaged number by number, then the formula."""
    height = min(student.shape[2], teacher.shape[2])
    width = min(student.shape[3], teacher.shape[3])

    def rows(features: Tensor) -> Tensor:
        energy = features.double().square().sum(1)
        tall, wide = energy.shape[1] // height, energy.shape[2] // width
        energy = energy.reshape(len(energy), height, tall, width, wide).sum((2, 4)).flatten(1)
        return energy / energy.square().sum(1, keepdim=True).sqrt()

    return (rows(student) - rows(teacher)).square().sum(1).sqrt().mean().item()


def expect_loss(student: Any, mine: Tensor, theirs: Tensor, what: str) -> None:
    """The loss of these features, as a scalar tensor."""
    got = expect_tensor(student.attention_loss(mine, theirs), torch.float32, ())
    expect_close(got, loss_by_hand(mine, theirs), what, rtol=1e-4, atol=1e-6)


def test_loss_from_zero_to_the_root_of_two(student):
    """Equal maps have the loss 0, however large the features; maps that do not overlap the root of 2."""
    left, right = torch.tensor([[[[3.0, 0.0]]]]), torch.tensor([[[[0.0, 1.0]], [[0.0, -9.0]]]])
    got = expect_tensor(student.attention_loss(left, right), torch.float32, ())
    expect_close(got, math.sqrt(2), "maps that do not overlap")
    got = expect_tensor(student.attention_loss(7 * left, left), torch.float32, ())
    expect_close(got, 0.0, "the same map twice", atol=1e-6)


@worth(2)
def test_loss_by_its_formula(student):
    """It is the length of the difference of the maps, averaged over the images, whatever the channels."""
    expect_loss(student, normal(4, 3, 3, 5, seed=1), 6 * normal(4, 8, 3, 5, seed=2), "four images")
    expect_loss(student, normal(1, 2, 2, 2, seed=3), normal(1, 2, 2, 2, seed=4), "one image")


def test_loss_at_the_smaller_size(student):
    """Maps of different sizes meet at the smaller height and width: squares averaged over areas, then normalised."""
    for mine, theirs in (((8, 8), (4, 4)), ((3, 3), (6, 6)), ((8, 2), (4, 4))):
        expect_loss(
            student, normal(2, 3, *mine, seed=5), normal(2, 4, *theirs, seed=6), f"{mine} and {theirs}"
        )


def relative_distances(points: Tensor) -> Tensor:
    """By definition: a loop over pairs in float64, and their mean."""
    rows = points.double().tolist()
    plain = torch.tensor([[math.dist(a, b) for b in rows] for a in rows], dtype=torch.float64)
    n = len(rows)
    mean = sum(plain[i, j].item() for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return plain / mean


def expect_distances(student: Any, points: Tensor, what: str) -> Tensor:
    """The relative distances of these points."""
    got = expect_tensor(student.relational_distances(points), torch.float32, (len(points), len(points)))
    expect_close(got, relative_distances(points), what, rtol=1e-4, atol=1e-5)
    return got


def test_distances_of_a_triangle(student):
    """A triangle of sides 30, 40 and 50 has the relative distances 0.75, 1 and 1.25."""
    got = expect_distances(student, torch.tensor([[0.0, 0.0], [0.0, 30.0], [40.0, 0.0]]), "a triangle")
    expect_close(got[0], torch.tensor([0.0, 0.75, 1.0]), "from the right angle", atol=1e-6)


def test_distances_of_a_batch(student):
    """For any batch they are the Euclidean distances over the mean of all pairs of different images."""
    expect_distances(student, normal(7, 4, seed=1), "seven points")
    expect_distances(student, normal(3, 9, seed=2) + 2, "three points in nine dimensions")


def test_distances_ignore_scale_and_place(student):
    """Rotating, scaling or shifting all embeddings changes nothing."""
    points = normal(5, 3, seed=3)
    rotation = torch.linalg.qr(normal(3, 3, seed=4))[0]
    wanted = expect_distances(student, points, "five points")
    moved = expect_tensor(student.relational_distances(20 * points @ rotation + 3), torch.float32, (5, 5))
    expect_close(moved, wanted, "the same points, moved", rtol=1e-3, atol=1e-4)


def expect_pairs(value: Any, expected: Sequence[tuple[str, str]], what: str) -> None:
    """The value, if it is a list of these pairs."""
    expect(isinstance(value, list | tuple), f"{what}: the result is not a list", value, "a list of pairs")
    expect([tuple(pair) for pair in value] == list(expected), what, show(value), show(list(expected)))


STUDENT = {
    "stem": (8, 28, 28),
    "stage1": (8, 28, 28),
    "stage2": (16, 14, 14),
    "stage3": (32, 7, 7),
    "fc": (10,),
}
TEACHER = {"conv1": (16, 28, 28), "block1": (16, 28, 28), "block2": (16, 28, 28), "block3": (32, 14, 14),
           "block4": (32, 14, 14), "block5": (64, 7, 7), "block6": (64, 7, 7), "fc": (10,)}  # fmt: skip


def test_pairs_of_two_residual_networks(student):
    """A narrow network of three stages is paired with a wide one at the end of each stage."""
    expected = [("stage1", "block2"), ("stage2", "block4"), ("stage3", "block6")]
    expect_pairs(student.pair_layers(STUDENT, TEACHER), expected, "three stages")


def test_pairs_only_of_maps_of_one_size(student):
    """Sizes that only one network has, vectors, and maps that agree in height or area alone are left out."""
    mine = {"a": (4, 8, 8), "b": (4, 8, 4), "c": (4, 2, 8), "fc": (10,)}
    theirs = {"a": (4, 4, 4), "b": (9, 8, 8), "x": (3, 8, 2), "fc": (10,)}
    expect_pairs(student.pair_layers(mine, theirs), [("a", "b")], "sizes of which one agrees")
    expect_pairs(student.pair_layers({"fc": (5,)}, theirs), [], "no maps at all")


def test_pairs_in_the_students_order(student):
    """The pairs come in the order of the student's layers, whatever the teacher's."""
    up = {"a": (1, 8, 8), "b": (1, 4, 4), "c": (1, 8, 8), "d": (1, 2, 2)}
    theirs = {"x": (7, 2, 2), "y": (7, 8, 8), "z": (7, 4, 4)}
    expect_pairs(
        student.pair_layers(up, theirs), [("b", "z"), ("c", "y"), ("d", "x")], "a network that scales up"
    )


_BY_EXERCISE: dict[str, tuple[TestFunction, ...]] = {
    "capture_features": (
        test_features_of_two_levels,
        test_features_are_kept_from_in_place_changes,
        test_features_leave_no_hook,
        test_features_refuse_unknown_names,
        test_features_take_one_pass,
    ),
    "hint_stage": (test_hint_first_loss, test_hint_descends_by_hand, test_hint_moves_both_and_not_the_teacher),
    "attention_map": (
        test_map_of_two_places,
        test_map_by_its_formula,
        test_map_of_each_image_alone,
        test_map_of_nothing,
    ),
    "attention_loss": (test_loss_from_zero_to_the_root_of_two, test_loss_by_its_formula, test_loss_at_the_smaller_size),
    "relational_distances": (
        test_distances_of_a_triangle,
        test_distances_of_a_batch,
        test_distances_ignore_scale_and_place,
    ),
    "pair_layers": (
        test_pairs_of_two_residual_networks,
        test_pairs_only_of_maps_of_one_size,
        test_pairs_in_the_students_order,
    ),
}  # fmt: skip

PUBLIC: dict[str, tuple[Test, ...]] = {
    name: tuple(as_test(function, public=True) for function in functions)
    for name, functions in _BY_EXERCISE.items()
}
