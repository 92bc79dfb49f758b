"""Known mistakes in unfolding a tensor, in multiplying along a mode, and in adding up products of vectors.

Each `wrong` makes one mistake and no other; a check recognises it by equal results on every probe.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.spec import Mistake

__all__ = ["CP_KERNEL", "MODE_PRODUCT", "UNFOLD", "cp_probes", "product_probes", "unfold_probes"]

Args = tuple[Any, ...]


def _numbers(*shape: int, step: int = 5) -> Tensor:
    """Small whole numbers, so that sums are exact in whatever order."""
    count = torch.Size(shape).numel()
    return ((torch.arange(count) * step) % 11 - 4).float().reshape(shape)


def unfold_probes() -> list[Args]:
    """A kernel and a tensor of three modes, whose sides all differ, in every mode; and a cube."""
    kernel, three = torch.arange(120.0).reshape(2, 3, 4, 5), torch.arange(24.0).reshape(4, 2, 3)
    cube = torch.arange(27.0).reshape(3, 3, 3)
    return [(each, mode) for each in (kernel, three, cube) for mode in range(each.dim())]


def _fastest_first(x: Tensor, mode: int) -> Tensor:
    others = [i for i in range(x.dim()) if i != mode]
    return x.permute(mode, *reversed(others)).reshape(x.shape[mode], -1)


def _cyclic(x: Tensor, mode: int) -> Tensor:
    return x.permute(*[(mode + i) % x.dim() for i in range(x.dim())]).reshape(x.shape[mode], -1)


UNFOLD = (
    Mistake("reshape_only", "You reshape without moving the mode to the front first. The shape is right, but each row "
            "holds whatever lies next in memory.", lambda x, mode: x.reshape(x.shape[mode], -1)),
    Mistake("transposed", "Your matrix is the other way round: the mode is the rows.",
            lambda x, mode: x.movedim(mode, 0).flatten(1).t()),
    Mistake("first_index_fastest", "In your columns the first of the other indices runs fastest. That is Kolda and "
            "Bader's order; here it is the last one.", _fastest_first),
    Mistake("swapped_not_moved", "You swap the mode with mode 0. Then mode 0 stands where the mode was, and the others "
            "are no longer in their order: move it instead.", lambda x, mode: x.transpose(0, mode).flatten(1)),
    Mistake("moved_to_the_end", "You move the mode to the end, then reshape as if it were in front.",
            lambda x, mode: x.movedim(mode, -1).reshape(x.shape[mode], -1)),
    Mistake("cyclic_order", "Your columns begin with the mode behind this one and go round. The others keep their "
            "order.", _cyclic),
    Mistake("counted_from_one", "You take the mode before the one asked for. Modes count from 0.",
            lambda x, mode: x.movedim(mode - 1, 0).flatten(1)),
    Mistake("not_a_matrix", "The mode is in front, but the rest is not joined into one side.",
            lambda x, mode: x.movedim(mode, 0)),
    Mistake("mode_ignored", "You always unfold mode 0.", lambda x, mode: x.flatten(1)),
)  # fmt: skip


def product_probes() -> list[Args]:
    """A tensor whose sides all differ, and cubes with square matrices, on which most wrong orders run too."""
    uneven, cube, four = _numbers(2, 3, 4), _numbers(3, 3, 3), _numbers(2, 2, 2, 2)
    probes: list[Args] = [(uneven, _numbers(5, uneven.shape[mode], step=3), mode) for mode in range(3)]
    probes += [(cube, _numbers(3, 3, step=4), mode) for mode in range(3)]
    return probes + [(four, _numbers(2, 2, step=3), mode) for mode in range(4)]


def _dot(x: Tensor, matrix: Tensor, mode: int) -> Tensor:
    return torch.tensordot(x, matrix, dims=([mode], [1]))  # the new side is last


def _folded_flat(x: Tensor, matrix: Tensor, mode: int) -> Tensor:
    shape = list(x.shape)
    shape[mode] = matrix.shape[0]
    return (matrix @ x.movedim(mode, 0).flatten(1)).reshape(shape)


def _reshaped_flat(x: Tensor, matrix: Tensor, mode: int) -> Tensor:
    shape = list(x.shape)
    shape[mode] = matrix.shape[0]
    return (matrix @ x.reshape(x.shape[mode], -1)).reshape(shape)


MODE_PRODUCT = (
    Mistake("matrix_transposed", "You multiply by the transposed matrix: its columns belong to the tensor's mode, its "
            "rows are new.", lambda x, m, mode: _dot(x, m.t(), mode).movedim(-1, mode)),
    Mistake("left_at_the_end", "The new side is left at the end. It belongs where the old one was.", _dot),
    Mistake("left_in_front", "The new side is left in front. It belongs where the old one was.",
            lambda x, m, mode: _dot(x, m, mode).movedim(-1, 0)),
    Mistake("folded_by_reshape", "You fold back by reshape alone. The mode is in front after the product: give the "
            "sides in that order, then move it back.", _folded_flat),
    Mistake("unfolded_by_reshape", "You reshape to (side of the mode, rest) without moving the mode to the front "
            "first.", _reshaped_flat),
    Mistake("swapped_back", "You swap the new side with the one in its place. The sides between lose their order: move "
            "it.", lambda x, m, mode: _dot(x, m, mode).transpose(-1, mode)),
    Mistake("always_the_last_mode", "You multiply along the last mode, whichever is asked for.",
            lambda x, m, mode: x @ m.t()),
    Mistake("always_the_first_mode", "You multiply along mode 0, whichever is asked for.",
            lambda x, m, mode: _dot(x, m, 0).movedim(-1, 0)),
    Mistake("counted_from_one", "You take the mode before the one asked for. Modes count from 0.",
            lambda x, m, mode: _dot(x, m, mode - 1).movedim(-1, mode - 1)),
    Mistake("not_folded_back", "You return the unfolded product, a matrix. Fold it back.",
            lambda x, m, mode: m @ x.movedim(mode, 0).flatten(1)),
)  # fmt: skip


def cp_probes() -> list[Args]:
    """Factors of whole numbers, of sides that all differ, of equal sides, and of rank 1."""
    return [
        tuple(_numbers(n, rank, step=step) for n, step in zip(sides, (5, 3, 7, 4), strict=True))
        for sides, rank in (((4, 3, 2, 5), 3), ((3, 3, 3, 3), 2), ((2, 4, 3, 2), 1))
    ]


def _cp(o: Tensor, i: Tensor, h: Tensor, w: Tensor) -> Tensor:
    return torch.einsum("or,ir,hr,wr->oihw", o, i, h, w)


def _all_pairs(*factors: Tensor) -> Tensor:
    return _cp(*(factor.sum(1, keepdim=True) for factor in factors))


def _added(o: Tensor, i: Tensor, h: Tensor, w: Tensor) -> Tensor:
    return (o[:, None, None, None] + i[:, None, None] + h[:, None] + w).sum(-1)


CP_KERNEL = (
    Mistake("not_summed", "You return the products one by one, with the rank as a fifth side. Add them up.",
            lambda o, i, h, w: torch.einsum("or,ir,hr,wr->oihwr", o, i, h, w)),
    Mistake("first_product_only", "You use the first column of each factor only.",
            lambda *f: _cp(*(factor[:, :1] for factor in f))),
    Mistake("every_rank_with_every_other", "You multiply every column with every column of the others: that is the "
            "product of the sums. Column r goes with column r alone.", _all_pairs),
    Mistake("mean_over_the_rank", "You take the mean of the products: it is their sum.",
            lambda o, *f: _cp(o / o.shape[1], *f)),
    Mistake("height_and_width_swapped", "Your kernel is (C_out, C_in, K_w, K_h): height comes before width.",
            lambda *f: _cp(*f).transpose(2, 3)),
    Mistake("channels_swapped", "Your kernel is (C_in, C_out, K_h, K_w): outputs come first.",
            lambda *f: _cp(*f).transpose(0, 1)),
    Mistake("space_first", "Your kernel is (K_h, K_w, C_out, C_in): PyTorch wants the channels first.",
            lambda *f: _cp(*f).permute(2, 3, 0, 1)),
    Mistake("rows_left_out", "The last factor is not in your product.",
            lambda o, i, h, w: _cp(o, i, h, torch.ones_like(w))),
    Mistake("columns_left_out", "The third factor is not in your product.",
            lambda o, i, h, w: _cp(o, i, torch.ones_like(h), w)),
    Mistake("added_not_multiplied", "You add the four numbers of each rank: they are multiplied.", _added),
    Mistake("matrix", "You return a matrix, as lesson 13 would. The kernel has four sides.",
            lambda *f: _cp(*f).flatten(1)),
)  # fmt: skip
