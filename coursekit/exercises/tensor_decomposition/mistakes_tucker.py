"""Known mistakes in finding core and bases of a kernel, and in making three convolutions of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.inputs import normal
from coursekit.exercises.spec import Mistake

__all__ = ["TUCKER2_FACTORS", "TUCKER2_KERNELS", "factor_probes", "kernel_probes"]

Args = tuple[Any, ...]


def factor_probes() -> list[Args]:
    """Kernels whose sides all differ, and one with as many outputs as inputs, in full and cut."""
    return [
        (normal(6, 4, 3, 2, seed=1), 3, 2),
        (normal(5, 5, 3, 3, seed=2), 2, 4),
        (normal(4, 3, 2, 5, seed=3), 4, 3),
        (normal(4, 6, 3, 3, seed=4), 2, 2),
    ]


def _left(matrix: Tensor, rank: int) -> Tensor:
    return torch.linalg.svd(matrix, full_matrices=False).U[:, :rank]


def _bases(weight: Tensor, rank_out: int, rank_in: int) -> tuple[Tensor, Tensor]:
    return _left(weight.flatten(1), rank_out), _left(weight.transpose(0, 1).flatten(1), rank_in)


def _core(weight: Tensor, outputs: Tensor, inputs: Tensor) -> Tensor:
    return torch.einsum("oihw,oa,ib->abhw", weight, outputs, inputs)


def _made(weight: Tensor, rank_out: int, rank_in: int) -> tuple[Tensor, Tensor, Tensor]:
    outputs, inputs = _bases(weight, rank_out, rank_in)
    return _core(weight, outputs, inputs), outputs, inputs


def _reshaped(weight: Tensor, rank_out: int, rank_in: int) -> Any:
    outputs, inputs = _left(weight.flatten(1), rank_out), _left(weight.reshape(weight.shape[1], -1), rank_in)
    return _core(weight, outputs, inputs), outputs, inputs


def _core_cut(weight: Tensor, rank_out: int, rank_in: int) -> Any:
    return weight[:rank_out, :rank_in], *_bases(weight, rank_out, rank_in)


def _smallest(weight: Tensor, rank_out: int, rank_in: int) -> Any:
    full = _bases(weight, *weight.shape[:2])
    outputs, inputs = full[0][:, -rank_out:], full[1][:, -rank_in:]
    return _core(weight, outputs, inputs), outputs, inputs


def _transposed(weight: Tensor, rank_out: int, rank_in: int) -> Any:
    core, outputs, inputs = _made(weight, rank_out, rank_in)
    return core, outputs.t(), inputs.t()


def _inputs_first(weight: Tensor, rank_out: int, rank_in: int) -> Any:
    core, outputs, inputs = _made(weight, rank_out, rank_in)
    return core, inputs, outputs


def _weighted(weight: Tensor, rank_out: int, rank_in: int) -> Any:
    core, outputs, inputs = _made(weight, rank_out, rank_in)
    s_out = torch.linalg.svdvals(weight.flatten(1))[:rank_out]
    return core, outputs * s_out, inputs * torch.linalg.svdvals(weight.transpose(0, 1).flatten(1))[:rank_in]


def _outputs_only(weight: Tensor, rank_out: int, rank_in: int) -> Any:
    outputs, inputs = _bases(weight, rank_out, rank_in)
    return torch.einsum("oihw,oa->aihw", weight, outputs), outputs, inputs


def _space_cut_too(weight: Tensor, rank_out: int, rank_in: int) -> Any:
    core, outputs, inputs = _made(weight, rank_out, rank_in)
    high, wide = (_left(weight.movedim(mode, 0).flatten(1), weight.shape[mode]) for mode in (2, 3))
    return torch.einsum("abhw,hx,wy->abxy", core, high, wide), outputs, inputs


def _doubled(weight: Tensor, rank_out: int, rank_in: int) -> Any:
    return _made(weight.double(), rank_out, rank_in)


def _rebuilt(weight: Tensor, rank_out: int, rank_in: int) -> Any:
    return torch.einsum("abhw,oa,ib->oihw", *_made(weight, rank_out, rank_in))


TUCKER2_FACTORS = (
    Mistake("inputs_by_reshape", "You unfold the input channels by reshape alone. The shape is right, the rows are not "
            "the input channels: move mode 1 to the front first.", _reshaped),
    Mistake("core_is_a_corner", "Your core is a corner of the kernel. It is the kernel seen in both bases: multiply it "
            "by their transposes.", _core_cut),
    Mistake("smallest_kept", "You keep the singular vectors of the smallest singular values.", _smallest),
    Mistake("bases_transposed", "Your bases have a rank a row: they are (C_out, rank_out) and (C_in, rank_in).",
            _transposed),
    Mistake("ranks_swapped", "You cut the outputs to rank_in and the inputs to rank_out.",
            lambda weight, rank_out, rank_in: _made(weight, rank_in, rank_out)),
    Mistake("inputs_before_outputs", "You return the inputs' basis before the outputs'.", _inputs_first),
    Mistake("singular_values_in_the_bases", "Your bases carry the singular values, which are in the core already.",
            _weighted),
    Mistake("core_in_one_basis", "Your core is multiplied by the outputs' basis only.", _outputs_only),
    Mistake("space_decomposed_too", "You decompose height and width too and drop their factors: even at full ranks the "
            "kernel is then another. Leave these two modes alone.", _space_cut_too),
    Mistake("stays_double", "You return float64 for a kernel of float32.", _doubled),
    Mistake("returns_the_kernel", "You return the kernel put together again. The three parts are asked for.", _rebuilt),
)  # fmt: skip


def kernel_probes() -> list[Args]:
    """Parts whose sides all differ, and parts on which swapped and transposed ones run too."""
    return [
        (normal(3, 2, 3, 4), normal(6, 3, seed=1), normal(5, 2, seed=2)),
        (normal(4, 4, 3, 3, seed=3), normal(4, 4, seed=4), normal(4, 4, seed=5)),
        (normal(2, 3, 2, 2, seed=6), normal(5, 2, seed=7), normal(7, 3, seed=8)),
    ]


def _three(core: Tensor, outputs: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return inputs.t()[..., None, None], core, outputs[..., None, None]


def _changed(place: int, change: Any) -> Any:
    """The three kernels with one of them made by `change` from core, outputs and inputs."""

    def wrong(core: Tensor, outputs: Tensor, inputs: Tensor) -> Any:
        kernels = list(_three(core, outputs, inputs))
        kernels[place] = change(core, outputs, inputs)
        return tuple(kernels)

    return wrong


TUCKER2_KERNELS = (
    Mistake("inputs_not_transposed", "The first convolution goes from C_in to rank_in channels, so its kernel is "
            "(rank_in, C_in, 1, 1): transpose the inputs.", _changed(0, lambda c, o, i: i[..., None, None])),
    Mistake("inputs_reshaped", "You reshape the inputs to (rank_in, C_in): that shuffles them. Transpose.",
            _changed(0, lambda c, o, i: i.reshape(i.shape[1], i.shape[0], 1, 1))),
    Mistake("outputs_transposed", "The last convolution goes from rank_out to C_out channels: its kernel is "
            "(C_out, rank_out, 1, 1), as the outputs are.", _changed(2, lambda c, o, i: o.t()[..., None, None])),
    Mistake("order_reversed", "Your first convolution makes the outputs. The inputs come first.",
            lambda c, o, i: _three(c, o, i)[::-1]),
    Mistake("bases_swapped", "The first kernel is made of the inputs' basis, the last one of the outputs'.",
            lambda c, o, i: (o.t()[..., None, None], c, i[..., None, None])),
    Mistake("two_dimensions", "The kernel of a 1 x 1 convolution has four dimensions, the last two of length 1.",
            lambda c, o, i: (i.t(), c, o)),
    Mistake("ones_in_front", "The two sides of length 1 are the last ones, K_h and K_w.",
            lambda c, o, i: (i.t()[None, None], c, o[None, None])),
    Mistake("core_transposed", "The core is (rank_out, rank_in, K_h, K_w) already, which is what a convolution wants.",
            _changed(1, lambda c, o, i: c.transpose(0, 1))),
    Mistake("core_flipped", "PyTorch's convolution does not flip its kernel, so the core must not be flipped.",
            _changed(1, lambda c, o, i: c.flip(2, 3))),
    Mistake("height_and_width_swapped", "Your core has height and width swapped.",
            _changed(1, lambda c, o, i: c.transpose(2, 3))),
    Mistake("middle_is_the_whole_kernel", "Your middle kernel has the bases multiplied in. They are the first and the "
            "last kernel.", _changed(1, lambda c, o, i: torch.einsum("abhw,oa,ib->oihw", c, o, i))),
)  # fmt: skip
