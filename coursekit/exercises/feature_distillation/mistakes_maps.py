"""Known mistakes in attention maps, their loss, relative distances, and in pairing layers.

Each `wrong` makes one mistake and no other; a check recognises it by equal results on every probe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.exercises.inputs import normal
from coursekit.exercises.spec import Mistake

__all__ = [
    "ATTENTION_LOSS",
    "ATTENTION_MAP",
    "DISTANCES",
    "PAIR_LAYERS",
    "distance_probes",
    "loss_probes",
    "map_probes",
    "pair_probes",
]

Args = tuple[Any, ...]


def map_probes() -> list[Args]:
    """Maps that are not square, of images that differ in size, with channels of both signs; and a single channel."""
    sizes = torch.tensor([1.0, 3.0, 0.2]).reshape(-1, 1, 1, 1)
    return [(sizes * normal(3, 4, 2, 5, seed=1),), (normal(2, 1, 3, 2, seed=2),)]


def _unit(flat: Tensor) -> Tensor:
    return flat / flat.norm(dim=1, keepdim=True)


def _energy(features: Tensor) -> Tensor:
    return features.square().sum(1).flatten(1)


ATTENTION_MAP = (
    Mistake("softmax", "Mean of magnitudes, then softmax, as one reads it in tutorials: that map is almost even, and "
            "changes when all features double. Sum the squares and divide by the length.",
            lambda x: x.abs().mean(1).flatten(1).softmax(1)),
    Mistake("softmax_of_squares", "A softmax depends on the size of the features. Divide by the map's length instead.",
            lambda x: _energy(x).softmax(1)),
    Mistake("absolute", "You sum magnitudes: that is the map with p = 1. Asked for are squares, which weigh the "
            "strongest places more.", lambda x: _unit(x.abs().sum(1).flatten(1))),
    Mistake("root_of_squares", "You take the root of the sum over the channels. The sum of squares stays as it is.",
            lambda x: _unit(_energy(x).sqrt())),
    Mistake("square_of_sum", "You sum first and square then: channels of opposite signs cancel. Square first.",
            lambda x: _unit(x.sum(1).square().flatten(1))),
    Mistake("plain_sum", "You sum the features as they are, and signs cancel. Square them first.",
            lambda x: _unit(x.sum(1).flatten(1))),
    Mistake("over_the_batch", "You normalise each place over the images of the batch. Each image's map gets length 1 "
            "by itself.", lambda x: F.normalize(_energy(x), dim=0)),
    Mistake("whole_batch", "One length for the whole batch: an image with small features keeps a small map. Each row "
            "has a length of its own.", lambda x: _energy(x) / _energy(x).norm()),
    Mistake("sum_over_places", "You sum over height and width, so one number a channel is left. The map keeps the "
            "places and sums over the channels, dimension 1.", lambda x: _unit(x.square().sum((2, 3)))),
    Mistake("sum_over_images", "You sum over the images, dimension 0. Channels are dimension 1.",
            lambda x: _unit(x.square().sum(0).flatten(1))),
    Mistake("not_normalised", "The squares are right, but the rows have no length 1.", _energy),
    Mistake("sums_to_one", "Your rows sum to 1. Their Euclidean length should be 1: divide by the root of the sum "
            "of squares.", lambda x: _energy(x) / _energy(x).sum(1, keepdim=True)),
    Mistake("largest_is_one", "You divide by the largest value of each map; that is good for drawing. Divide by the "
            "length.", lambda x: _energy(x) / _energy(x).amax(1, keepdim=True)),
    Mistake("not_flattened", "The values are right, but the map still has height and width: flatten it to (N, H * W).",
            lambda x: _unit(_energy(x)).reshape(x.shape[0], *x.shape[2:])),
)  # fmt: skip


def loss_probes() -> list[Args]:
    """Equal sizes with different channels, the student's maps larger, the teacher's larger, and one side each."""
    return [
        (normal(3, 4, 4, 6, seed=1), 5 * normal(3, 2, 4, 6, seed=2)),
        (normal(3, 4, 8, 8, seed=3), normal(3, 5, 4, 4, seed=4)),
        (normal(2, 4, 3, 3, seed=5), normal(2, 5, 6, 6, seed=6)),
        (normal(2, 3, 8, 2, seed=7), normal(2, 3, 4, 4, seed=8)),
    ]


def _smaller(student: Tensor, teacher: Tensor) -> tuple[int, int]:
    return min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])


def _larger(student: Tensor, teacher: Tensor) -> tuple[int, int]:
    return max(student.shape[2], teacher.shape[2]), max(student.shape[3], teacher.shape[3])


def _pooled(features: Tensor, size: tuple[int, int]) -> Tensor:
    return F.adaptive_avg_pool2d(features.square().sum(1, keepdim=True), size).flatten(1)


def _stretched(features: Tensor, size: tuple[int, int]) -> Tensor:
    energy = features.square().sum(1, keepdim=True)
    return F.interpolate(energy, size, mode="bilinear", align_corners=False).flatten(1)


def _loss(
    *,
    size: Callable[[Tensor, Tensor], tuple[int, int]] = _smaller,
    rows: Callable[[Tensor, tuple[int, int]], Tensor] = _pooled,
    unit: Callable[[Tensor], Tensor] = _unit,
    distance: Callable[[Tensor], Any] = lambda d: d.norm(dim=1).mean(),
) -> Callable[..., Any]:
    """Right but for these options."""

    def attention_loss(student: Tensor, teacher: Tensor) -> Any:
        goal = size(student, teacher)
        return distance(unit(rows(student, goal)) - unit(rows(teacher, goal)))

    return attention_loss


def _pools_features(features: Tensor, size: tuple[int, int]) -> Tensor:
    return F.adaptive_avg_pool2d(features, size).square().sum(1).flatten(1)


def _pools_unit_maps(student: Tensor, teacher: Tensor) -> Tensor:
    size = _smaller(student, teacher)

    def small(features: Tensor) -> Tensor:
        maps = _unit(_energy(features)).reshape(len(features), 1, *features.shape[2:])
        return F.adaptive_avg_pool2d(maps, size).flatten(1)

    return (small(student) - small(teacher)).norm(dim=1).mean()


def _takes_corner(features: Tensor, size: tuple[int, int]) -> Tensor:
    return features.square().sum(1)[:, : size[0], : size[1]].flatten(1)


def _max_pools(features: Tensor, size: tuple[int, int]) -> Tensor:
    return F.adaptive_max_pool2d(features.square().sum(1), size).flatten(1)


ATTENTION_LOSS = (
    Mistake("mean_square", "You average the squared differences over everything, as the authors' program does. The "
            "paper's formula, asked for here, is the length of the difference, image by image.",
            _loss(distance=lambda d: d.square().mean())),
    Mistake("squared_length", "You take the squared length of each image's difference. The root is missing.",
            _loss(distance=lambda d: d.square().sum(1).mean())),
    Mistake("one_length", "One length over the whole batch. Take each image's own and average these.",
            _loss(distance=lambda d: d.norm())),
    Mistake("sum_over_images", "You sum over the images: twice the batch, twice the loss. Average them.",
            _loss(distance=lambda d: d.norm(dim=1).sum())),
    Mistake("absolute_differences", "You sum absolute differences. The length is the root of the sum of squares.",
            _loss(distance=lambda d: d.abs().sum(1).mean())),
    Mistake("half", "The factor of one half belongs to beta, and beta to whoever adds the parts up.",
            _loss(distance=lambda d: d.norm(dim=1).mean() / 2)),
    Mistake("not_normalised", "The maps have no length 1, so a network with larger features is always far away.",
            _loss(unit=lambda rows: rows)),
    Mistake("sums_to_one", "Your maps sum to 1. Their Euclidean length should be 1.",
            _loss(unit=lambda rows: rows / rows.sum(1, keepdim=True))),
    Mistake("softmax", "A softmax makes the maps almost even, and unrelated networks almost alike.",
            _loss(unit=lambda rows: rows.softmax(1))),
    Mistake("to_the_larger", "You bring the maps to the larger size and invent what lies between. Average over areas, "
            "to the smaller.", _loss(size=_larger, rows=_stretched)),
    Mistake("to_the_students_size", "You always take the student's size. Each side goes to the smaller of the two.",
            _loss(size=lambda student, teacher: (student.shape[2], student.shape[3]))),
    Mistake("to_the_teachers_size", "You always take the teacher's size. Each side goes to the smaller of the two.",
            _loss(size=lambda student, teacher: (teacher.shape[2], teacher.shape[3]))),
    Mistake("pools_features", "You average the features themselves, where signs cancel. Average the sums of squares.",
            _loss(rows=_pools_features)),
    Mistake("pools_unit_maps", "You normalise before you shrink, and after it the lengths are no longer 1.",
            _pools_unit_maps),
    Mistake("max_pools", "You keep the largest value of each area. Average them.", _loss(rows=_max_pools)),
    Mistake("takes_corner", "You cut a corner out of the larger map. All of it must count: average over areas.",
            _loss(rows=_takes_corner)),
    Mistake("returns_float", "The number is right, but it is a Python float, and nothing can learn from it. Leave "
            "out .item().", _loss(distance=lambda d: d.norm(dim=1).mean().item())),
)  # fmt: skip


def distance_probes() -> list[Args]:
    """Batches smaller and larger than their dimension."""
    return [(normal(4, 6, seed=1) + 0.5,), (3 * normal(6, 3, seed=2),), (normal(2, 5, seed=3),)]


def _distances(points: Tensor) -> Tensor:
    return (points[:, None] - points[None]).norm(dim=2)


def _over_mean(distances: Tensor) -> Tensor:
    """Divided by the mean off the diagonal."""
    n = len(distances)
    return distances / (distances.sum() / (n * (n - 1)))


def _row_by_row(x: Tensor) -> Tensor:
    return _distances(x) / (_distances(x).sum(1, keepdim=True) / (len(x) - 1))


def _pairs_only(x: Tensor) -> Tensor:
    rows, columns = torch.triu_indices(len(x), len(x), 1)
    return _over_mean(_distances(x))[rows, columns]


DISTANCES = (
    Mistake("no_unit", "These are the distances themselves. Divided by their mean they no longer depend on the scale.",
            _distances),
    Mistake("mean_with_diagonal", "You average over all entries, also the zeros of the diagonal. An image has no "
            "distance from itself: divide the sum by N (N - 1).", lambda x: _distances(x) / _distances(x).mean()),
    Mistake("squared", "These are squared distances: the root is missing.",
            lambda x: _over_mean(_distances(x).square())),
    Mistake("largest_is_one", "You divide by the largest distance, which one odd image decides. Use the mean.",
            lambda x: _distances(x) / _distances(x).max()),
    Mistake("sums_to_one", "You divide by the sum, and the result shrinks as the batch grows. Use the mean.",
            lambda x: _distances(x) / _distances(x).sum()),
    Mistake("row_by_row", "You divide each row by a mean of its own. The whole batch has one.", _row_by_row),
    Mistake("absolute", "You sum absolute differences. Asked for is the Euclidean distance.",
            lambda x: _over_mean((x[:, None] - x[None]).abs().sum(2))),
    Mistake("between_features", "You compare the columns. Every row is one image.",
            lambda x: _over_mean(_distances(x.t()))),
    Mistake("unit_embeddings", "You bring each embedding to length 1 first. How far out an image lies is a relation "
            "too.", lambda x: _over_mean(_distances(F.normalize(x, dim=1)))),
    Mistake("cosine", "These are cosines between the embeddings. They depend on where the origin is; distances do not.",
            lambda x: F.cosine_similarity(x[:, None], x[None], dim=2)),
    Mistake("pairs_only", "Right, but only each pair once, in one row. Return the whole (N, N) matrix.", _pairs_only),
)  # fmt: skip


def pair_probes() -> list[Args]:
    """Blocks of several layers, sizes that only one has, vectors, maps that are not square, sizes that come back."""
    student = {"stem": (4, 8, 8), "a": (4, 8, 8), "b": (6, 4, 4), "c": (6, 2, 2), "fc": (10,)}
    teacher = {"stem": (16, 8, 8), "a": (6, 8, 8), "d": (16, 8, 8), "b": (32, 6, 6), "c": (6, 4, 4), "e": (64, 4, 4),
               "hidden": (20,), "fc": (10,)}  # fmt: skip
    oblong = {"a": (2, 8, 4), "b": (2, 8, 2), "c": (2, 4, 4)}
    back = {"x": (3, 4, 4), "y": (3, 2, 8), "z": (3, 8, 2), "w": (3, 8, 4)}
    again = {"a": (1, 8, 8), "b": (1, 4, 4), "c": (1, 8, 8)}
    return [(student, teacher), (oblong, back), (back, oblong), (again, student)]


Shapes = dict[str, tuple[int, ...]]


def _pair(
    *,
    same: Callable[[tuple[int, ...]], Any] = lambda shape: shape[1:],
    maps_only: bool = True,
    last_of_student: bool = True,
    last_of_teacher: bool = True,
    turned: bool = False,
    result: Callable[[list[tuple[str, str]]], Any] = lambda pairs: pairs,
) -> Callable[[Shapes, Shapes], Any]:
    """Right but for these options."""

    def ends(shapes: Shapes, last: bool) -> dict[Any, str]:
        layers = [(name, shape) for name, shape in shapes.items() if len(shape) == 3 or not maps_only]
        return {same(shape): name for name, shape in (layers if last else layers[::-1])}

    def pair_layers(student: Shapes, teacher: Shapes) -> Any:
        mine, theirs = ends(student, last_of_student), ends(teacher, last_of_teacher)
        pairs = [(mine[key], theirs[key]) for key in mine if key in theirs]
        order = list(student)
        pairs.sort(key=lambda pair: order.index(pair[0]))
        return result([(t, s) for s, t in pairs] if turned else pairs)

    return pair_layers


def _all_of_one_size(student: Shapes, teacher: Shapes) -> list[tuple[str, str]]:
    return [
        (s, t)
        for s, a in student.items()
        for t, b in teacher.items()
        if len(a) == len(b) == 3 and a[1:] == b[1:]
    ]


def _teachers_order(student: Shapes, teacher: Shapes) -> list[tuple[str, str]]:
    return sorted(_pair()(student, teacher), key=lambda pair: list(teacher).index(pair[1]))


def _by_first_appearance(student: Shapes, teacher: Shapes) -> list[tuple[str, str]]:
    sizes: list[tuple[int, ...]] = list(
        dict.fromkeys(shape[1:] for shape in student.values() if len(shape) == 3)
    )
    return sorted(_pair()(student, teacher), key=lambda pair: sizes.index(student[pair[0]][1:]))


def _one_after_the_other(student: Shapes, teacher: Shapes) -> list[tuple[str, str]]:
    return list(zip(student, teacher, strict=False))


PAIR_LAYERS = (
    Mistake("first_layers", "You pair the first layers of each size. The last ones have all the work of their size "
            "behind them.", _pair(last_of_student=False, last_of_teacher=False)),
    Mistake("teachers_first", "Of the teacher you take the first layer of each size. Take the last.",
            _pair(last_of_teacher=False)),
    Mistake("students_first", "Of the student you take the first layer of each size. Take the last.",
            _pair(last_of_student=False)),
    Mistake("all_of_one_size", "You return every pair of one size. One pair a size is asked for: the last of each.",
            _all_of_one_size),
    Mistake("same_channels", "You ask for the same number of channels too, and find next to nothing: students are "
            "narrower. Compare height and width.", _pair(same=lambda shape: shape)),
    Mistake("height_only", "You compare the height alone. The width belongs to the size.",
            _pair(same=lambda shape: shape[1])),
    Mistake("area", "You compare the number of places. 2 x 8 and 4 x 4 have as many, but none in common.",
            _pair(same=lambda shape: shape[1] * shape[2])),
    Mistake("vectors_too", "Vectors have no height and width to agree in. Leave out what is not (channels, height, "
            "width).", _pair(maps_only=False)),
    Mistake("same_names", "You pair layers of one name. Names say nothing: compare sizes.",
            lambda student, teacher: [(name, name) for name in student if name in teacher]),
    Mistake("one_after_the_other", "You pair the first with the first, the second with the second. Networks differ in "
            "depth: compare sizes.", _one_after_the_other),
    Mistake("turned", "Each pair is the wrong way round: the student's layer comes first.", _pair(turned=True)),
    Mistake("teachers_order", "The pairs are right, but in the teacher's order. Follow the student's.",
            _teachers_order),
    Mistake("order_of_sizes", "The pairs are right, but in the order in which the sizes first appear. Follow the "
            "student's layers that you return.", _by_first_appearance),
    Mistake("returns_dict", "The pairs are right, but in a dict. Return a list of tuples.", _pair(result=dict)),
)  # fmt: skip
