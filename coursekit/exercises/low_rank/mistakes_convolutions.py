"""Known mistakes in splitting a kernel, in running the two halves, and in counting what they cost.

Each `wrong` makes one mistake and no other; a check recognises it by equal results on every probe.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.exercises.inputs import normal
from coursekit.exercises.spec import Mistake

__all__ = [
    "SEPARABLE_CONV2D",
    "SPATIAL_FACTORS",
    "SPLIT_COST",
    "cost_probes",
    "kernel_probes",
    "settings_probes",
]

Args = tuple[Any, ...]


def kernel_probes() -> list[Args]:
    """Kernels whose four sides all differ, and a square one, in full and cut."""
    return [(normal(4, 3, 2, 5, seed=1), 3), (normal(5, 2, 3, 3, seed=2), 2), (normal(4, 3, 2, 5, seed=4), 6)]


def _factors(matrix: Tensor, rank: int, power: float = 0.5) -> tuple[Tensor, Tensor]:
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    return u[:, :rank] * s[:rank] ** power, s[:rank, None] ** power * vh[:rank]


def _folded(weight: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The two kernels from factors whose rows and columns are in the right order."""
    (n_out, n_in, height, width), rank = weight.shape, left.shape[1]
    vertical = left.reshape(n_in, height, rank).permute(2, 0, 1)
    return vertical[..., None], right.reshape(rank, n_out, width).permute(1, 0, 2)[:, :, None]


def _matrix(weight: Tensor, *order: int) -> Tensor:
    n_out, n_in, height, width = weight.shape
    return weight.permute(*order).reshape(n_in * height, n_out * width)


def _ordered(*order: int) -> Any:
    """Splits the kernel with its dimensions in another order than they are folded back."""
    return lambda weight, rank: _folded(weight, *_factors(_matrix(weight, *order), rank))


def _powered(power: float) -> Any:
    return lambda weight, rank: _folded(weight, *_factors(_matrix(weight, 1, 2, 0, 3), rank, power))


def _left_reshaped(weight: Tensor, rank: int) -> Any:
    _, n_in, height, _ = weight.shape
    left, right = _factors(_matrix(weight, 1, 2, 0, 3), rank)
    return left.reshape(rank, n_in, height, 1), _folded(weight, left, right)[1]


def _right_reshaped(weight: Tensor, rank: int) -> Any:
    n_out, _, _, width = weight.shape
    left, right = _factors(_matrix(weight, 1, 2, 0, 3), rank)
    return _folded(weight, left, right)[0], right.reshape(n_out, rank, 1, width)


def _horizontal_first(weight: Tensor, rank: int) -> Any:
    turned = weight.transpose(2, 3)
    vertical, horizontal = _folded(turned, *_factors(_matrix(turned, 1, 2, 0, 3), rank))
    return vertical.transpose(2, 3), horizontal.transpose(2, 3)


def _three_dimensions(weight: Tensor, rank: int) -> Any:
    vertical, horizontal = _folded(weight, *_factors(_matrix(weight, 1, 2, 0, 3), rank))
    return vertical[..., 0], horizontal[:, :, 0]


def _smallest(weight: Tensor, rank: int) -> Any:
    left, right = _factors(_matrix(weight, 1, 2, 0, 3), 10**6)
    return _folded(weight, left[:, -rank:], right[-rank:])


SPATIAL_FACTORS = (
    Mistake("view_not_permute", "You reshape the kernel as it lies in memory, (C_out, C_in, K_h, K_w). The dimensions "
            "that share a side of the matrix must stand side by side first: permute, then reshape.",
            _ordered(0, 1, 2, 3)),
    Mistake("rows_in_other_order", "Your rows run over heights first and channels second, but you fold them back the "
            "other way round.", _ordered(2, 1, 0, 3)),
    Mistake("columns_in_other_order", "Your columns run over widths first and channels second, but you fold them back "
            "the other way round.", _ordered(1, 2, 3, 0)),
    Mistake("left_not_permuted", "The left factor is (C_in * K_h, rank), with the rank last. Reshaping it to "
            "(rank, ...) shuffles its numbers: reshape with the rank last, then permute.", _left_reshaped),
    Mistake("right_not_permuted", "The right factor is (rank, C_out * K_w), with the rank first. Reshaping it to "
            "(C_out, rank, ...) shuffles its numbers: reshape with the rank first, then permute.", _right_reshaped),
    Mistake("singular_values_twice", "Both halves carry the singular values, so together they carry the squares.",
            _powered(1.0)),
    Mistake("no_singular_values", "Neither half carries the singular values.", _powered(0.0)),
    Mistake("horizontal_first", "Your first half is the horizontal one. It is a good split too, but here the vertical "
            "half comes first.", _horizontal_first),
    Mistake("three_dimensions", "A convolution's kernel has four dimensions: K x 1 and 1 x K, with the 1 there.",
            _three_dimensions),
    Mistake("smallest_kept", "You keep the smallest singular values.", _smallest),
)  # fmt: skip


def settings_probes() -> list[Args]:
    """Whole numbers, so that sums are exact; settings that differ between the directions."""
    x = (torch.arange(2 * 2 * 9 * 8) % 7 - 3).float().reshape(2, 2, 9, 8)
    vertical = (torch.arange(3 * 2 * 3) % 5 - 1).float().reshape(3, 2, 3, 1)
    horizontal = (torch.arange(4 * 3 * 2) % 5 - 2).float().reshape(4, 3, 1, 2)
    bias = torch.tensor([1.0, -2.0, 3.0, 5.0])
    return [
        (x, vertical, horizontal, bias),
        (x, vertical, horizontal, bias, (2, 1), (0, 1), (1, 2)),
        (x, vertical, horizontal, None, (1, 2), (2, 1), (2, 1)),
        (x, vertical, horizontal, bias, (3, 2), (1, 3), (1, 1)),
    ]


Pair = tuple[int, int]
ONES, NONE = (1, 1), (0, 0)


def _with(first: str, second: str) -> Any:
    """The two halves with these settings: a word of three letters for stride, padding and dilation of each half.

    d: its vertical part alone, a: its horizontal part alone, b: both, n: none; x and y: one direction's value for the
    other direction.
    """
    neutral = (1, 0, 1)

    def chosen(letters: str, settings: tuple[Pair, Pair, Pair]) -> tuple[Pair, Pair, Pair]:
        picks: list[Pair] = []
        for letter, pair, none in zip(letters, settings, neutral, strict=True):
            options = {"d": (pair[0], none), "a": (none, pair[1]), "b": pair, "n": (none, none)}
            picks.append((options | {"x": (pair[1], none), "y": (none, pair[0])})[letter])
        return picks[0], picks[1], picks[2]

    def wrong(
        x: Tensor,
        v: Tensor,
        h: Tensor,
        bias: Tensor | None = None,
        s: Pair = ONES,
        p: Pair = NONE,
        d: Pair = ONES,
    ) -> Tensor:
        settings = (s, p, d)
        return F.conv2d(F.conv2d(x, v, None, *chosen(first, settings)), h, bias, *chosen(second, settings))

    return wrong


def _bias_lost(x: Tensor, v: Tensor, h: Tensor, bias: Tensor | None = None, *settings: Pair) -> Any:
    return _with("ddd", "aaa")(x, v, h, None, *settings)


def _bias_twice(x: Tensor, v: Tensor, h: Tensor, bias: Tensor | None = None, *settings: Pair) -> Any:
    y = _with("ddd", "aaa")(x, v, h, bias, *settings)
    return y if bias is None else y + bias[:, None, None]


def _bias_first(x: Tensor, v: Tensor, h: Tensor, bias: Tensor | None = None, *settings: Pair) -> Any:
    if bias is not None and len(bias) != len(v):
        raise RuntimeError("the bias has as many numbers as the output has channels")
    return _bias_twice(x, v, h, bias, *settings)


SEPARABLE_CONV2D = (
    Mistake("stride_on_both", "Both halves take the whole stride, so a stride of 2 becomes one of 4. The vertical half "
            "steps down, the horizontal one across.", _with("bdd", "baa")),
    Mistake("strides_swapped", "Your vertical half steps across and the horizontal one down: rows are then missing "
            "where the first kernel should have looked.", _with("add", "daa")),
    Mistake("no_stride", "The stride is lost: the output is too large.", _with("ndd", "naa")),
    Mistake("padding_on_both", "Both halves pad all four sides: the image grows twice.", _with("dbd", "aba")),
    Mistake("paddings_swapped", "Your vertical half pads left and right, and the horizontal one top and bottom. The "
            "shape is right, the border is not.", _with("dad", "ada")),
    Mistake("no_padding", "The padding is lost: the output is too small.", _with("dnd", "ana")),
    Mistake("no_dilation", "The dilation is lost: the kernel looks at the wrong pixels.", _with("ddn", "aan")),
    Mistake("dilations_swapped", "Each half takes the dilation of the other direction.", _with("ddx", "aay")),
    Mistake("bias_lost", "The bias is lost. The second half adds it.", _bias_lost),
    Mistake("bias_twice", "The bias is added twice.", _bias_twice),
    Mistake("bias_on_the_first", "You give the bias to the first half, whose channels are the rank, not C_out. Only "
            "the second half adds it.", _bias_first),
)  # fmt: skip


def cost_probes() -> list[Args]:
    """Numbers that all differ, with and without a stride, of sizes that a stride does not divide."""
    return [
        (3, 8, (5, 3), 4, (13, 10)),
        (3, 8, (5, 3), 4, (13, 10), 2),
        (16, 32, (3, 3), 10, (28, 28), 2),
        (7, 5, (1, 3), 2, (9, 11), 3),
    ]


def _cost(down: int, across: int, places_down: int, places_across: int) -> tuple[int, int]:
    return down + across, down * places_down + across * places_across


def _part(which: str) -> Any:
    """A split's cost with one thing wrong in it."""

    def wrong(n_in: int, n_out: int, kernel: Pair, rank: int, size: Pair, stride: int = 1) -> Any:
        high, wide = kernel
        rows, columns = (side // stride if which == "floor" else -(-side // stride) for side in size)
        down, across = rank * n_in * high, rank * n_out * wide
        first, second = rows * size[1], rows * columns
        if which == "dense":
            down, across = n_in * n_out * high * wide, 0
            first = second
        if which == "full kernel":
            down *= wide
        if which == "swapped":
            down, across = rank * n_in * wide, rank * n_out * high
        if which == "first only":
            across = 0
        if which == "full size":
            first = size[0] * size[1]
        if which == "output only":
            first = second
        if which == "no stride":
            first = second = size[0] * size[1]
        weights, macs = _cost(down, across, first, second)
        return {"flops": (weights, 2 * macs), "bias": (weights + n_out, macs), "order": (macs, weights)}.get(
            which, (weights, macs)
        )

    return wrong


SPLIT_COST = (
    Mistake("output_places_only", "You multiply all weights by the places of the output. The vertical half has not "
            "taken the stride across yet: it makes every column.", _part("output only")),
    Mistake("first_at_full_size", "Your vertical half makes every row. It takes the stride downwards itself.",
            _part("full size")),
    Mistake("stride_ignored", "You count as if the stride were 1.", _part("no stride")),
    Mistake("full_kernel", "Your first half has K_h x K_w weights for each pair of channels. It is K_h x 1.",
            _part("full kernel")),
    Mistake("kernel_swapped", "Your vertical half is K_w high. It takes the kernel's height, the other one its width.",
            _part("swapped")),
    Mistake("first_half_only", "You count the vertical half only.", _part("first only")),
    Mistake("whole_kernel", "That is the cost of the convolution before it was split: the rank does not occur in it.",
            _part("dense")),
    Mistake("rounded_down", "13 rows at a stride of 2 leave 7: round up.", _part("floor")),
    Mistake("counts_additions", "You count multiplications and additions apart. One MAC is both.", _part("flops")),
    Mistake("bias_counted", "You count the bias. It is asked for the weights alone.", _part("bias")),
    Mistake("order_swapped", "Weights first, MACs second.", _part("order")),
)  # fmt: skip
