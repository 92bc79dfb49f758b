"""Known mistakes in choosing scale and zero point.

Each `wrong` makes one mistake and no other; a check recognises it by equal results on every probe.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.spec import Mistake
from coursekit.quantization import int_range

__all__ = [
    "AFFINE_QPARAMS",
    "PER_CHANNEL",
    "SYMMETRIC_SCALE",
    "per_channel_probes",
    "qparams_probes",
    "symmetric_probes",
]

Args = tuple[Any, ...]


def qparams_probes() -> list[Args]:
    """Ranges that straddle 0, lie on one side of it, are short of bits, and are empty of anything but 0."""
    straddling, positive = torch.linspace(-1.0, 2.0, 31), torch.linspace(5.0, 10.0, 31)
    return [
        (straddling,),
        (positive,),
        (-positive,),
        (straddling, 4),
        (torch.zeros(4),),
        (straddling - 0.3, 3),
    ]


def _range_with_zero(x: Tensor) -> tuple[float, float]:
    return min(x.min().item(), 0.0), max(x.max().item(), 0.0)


def _range_without_zero(x: Tensor, n_bits: int = 8) -> tuple[float, int]:
    qmin, qmax = int_range(n_bits)
    lo, hi = x.min().item(), x.max().item()
    scale = (hi - lo) / (qmax - qmin) or 1.0
    return scale, round(qmin - lo / scale)


def _range_without_zero_clamped(x: Tensor, n_bits: int = 8) -> tuple[float, int]:
    qmin, qmax = int_range(n_bits)
    scale, zero_point = _range_without_zero(x, n_bits)
    return scale, max(qmin, min(qmax, zero_point))


def _levels_not_steps(x: Tensor, n_bits: int = 8) -> tuple[float, int]:
    lo, hi = _range_with_zero(x)
    scale = (hi - lo) / 2**n_bits or 1.0
    return scale, round(int_range(n_bits)[0] - lo / scale)


def _wrong_sign(x: Tensor, n_bits: int = 8) -> tuple[float, int]:
    qmin, qmax = int_range(n_bits)
    lo, hi = _range_with_zero(x)
    scale = (hi - lo) / (qmax - qmin) or 1.0
    return scale, round(qmin + lo / scale)


def _unsigned(x: Tensor, n_bits: int = 8) -> tuple[float, int]:
    lo, hi = _range_with_zero(x)
    scale = (hi - lo) / (2**n_bits - 1) or 1.0
    return scale, round(-lo / scale)


def _not_rounded(x: Tensor, n_bits: int = 8) -> tuple[float, float]:
    qmin, qmax = int_range(n_bits)
    lo, hi = _range_with_zero(x)
    scale = (hi - lo) / (qmax - qmin) or 1.0
    return scale, qmin - lo / scale


def _truncated(x: Tensor, n_bits: int = 8) -> tuple[float, int]:
    scale, zero_point = _not_rounded(x, n_bits)
    return scale, int(zero_point)


def _symmetric(x: Tensor, n_bits: int = 8) -> tuple[float, int]:
    return x.abs().max().item() / int_range(n_bits)[1] or 1.0, 0


def _always_8_bits(x: Tensor, n_bits: int = 8) -> tuple[float, int]:
    scale, zero_point = _not_rounded(x, 8)
    return scale, round(zero_point)


def _divides_by_zero(x: Tensor, n_bits: int = 8) -> tuple[float, int]:
    qmin, qmax = int_range(n_bits)
    lo, hi = _range_with_zero(x)
    scale = (hi - lo) / (qmax - qmin)
    return scale, round(qmin - lo / scale)


def _tensors(x: Tensor, n_bits: int = 8) -> tuple[Tensor, Tensor]:
    scale, zero_point = _not_rounded(x, n_bits)
    return torch.tensor(scale), torch.round(torch.tensor(zero_point))


AFFINE_QPARAMS = (
    Mistake("range_without_zero", "Your range is min(x)..max(x) even where that leaves 0 out. Then no code means "
            "0.0, and neither padding nor the output of a ReLU can be stored exactly.", _range_without_zero),
    Mistake("clamped_zero_point", "You clamp the zero point instead of widening the range. That only hides the "
            "problem: for data in 5..10 every value then saturates at one code.", _range_without_zero_clamped),
    Mistake("levels_not_steps", "You divide by the number of codes. Between 256 codes there are 255 steps.",
            _levels_not_steps),
    Mistake("wrong_sign", "The zero point has moved the wrong way. Try it: at q = qmin the real value must be lo, "
            "and 0 lies -lo / scale steps above that.", _wrong_sign),
    Mistake("unsigned_range", "Your zero point counts from 0, as for unsigned codes 0..255. The codes here are "
            "signed and start at qmin.", _unsigned),
    Mistake("zero_point_not_rounded", "Your zero point is not a whole number, so no integer code means exactly 0.0.",
            _not_rounded),
    Mistake("truncated_zero_point", "int() cuts towards 0. Use round(), or the grid is off by up to a whole step.",
            _truncated),
    Mistake("symmetric_instead", "This is the symmetric scheme: largest magnitude over qmax, zero point 0. It comes "
            "later in the lesson; here both ends of the range count.", _symmetric),
    Mistake("ignores_n_bits", "Your result is the same for every n_bits. Take qmin and qmax from int_range(n_bits).",
            _always_8_bits),
    Mistake("divides_by_zero", "Right but for a tensor of zeros: there the scale is 0 and you divide by it.",
            _divides_by_zero),
    Mistake("returns_tensors", "The numbers are right, but you return tensors. .item() and round() give the Python "
            "float and int the signature promises.", _tensors),
)  # fmt: skip


def symmetric_probes() -> list[Args]:
    """Tensors whose largest magnitude is positive, negative, alone or absent, at 8 and at 4 bits."""
    mostly_negative, only_negative = torch.tensor([-3.0, -1.0, 0.5, 2.0]), torch.tensor([-3.0, -1.0])
    return [
        (mostly_negative,),
        (-mostly_negative,),
        (only_negative,),
        (mostly_negative, 4),
        (torch.zeros(3),),
    ]


def _or_one(scale: float) -> float:
    return scale if scale > 0 else 1.0


SYMMETRIC_SCALE = (
    Mistake("max_without_abs", "You take the maximum of x, not of |x|: a large negative weight is then cut off.",
            lambda x, n_bits=8: _or_one(x.max().item() / int_range(n_bits)[1])),
    Mistake("abs_after_max", "|max(x)| is not max|x|: take the absolute values first.",
            lambda x, n_bits=8: _or_one(abs(x.max().item()) / int_range(n_bits)[1])),
    Mistake("whole_range", "This is the affine scale, (max - min) over all steps. Symmetric needs the largest "
            "magnitude only.", lambda x, n_bits=8: _or_one((x.max() - x.min()).item() / (2**n_bits - 1))),
    Mistake("divides_by_128", "You divide by 2^(n_bits - 1), 128 for 8 bits, but the highest code is 127: the largest "
            "value would not fit.", lambda x, n_bits=8: _or_one(x.abs().max().item() / 2 ** (n_bits - 1))),
    Mistake("divides_by_255", "You divide max|x| by all the steps of the range. On one side of 0 there are only qmax.",
            lambda x, n_bits=8: _or_one(x.abs().max().item() / (2**n_bits - 1))),
    Mistake("doubles_the_range", "You divide 2 max|x| by qmax: the steps are twice as wide as they need be.",
            lambda x, n_bits=8: _or_one(2 * x.abs().max().item() / int_range(n_bits)[1])),
    Mistake("uses_all_codes", "You spread -max|x|..max|x| over all the codes. The lowest one stays unused: "
            "there are qmax steps on each side of 0.",
            lambda x, n_bits=8: _or_one(2 * x.abs().max().item() / (2**n_bits - 1))),
    Mistake("zero_scale", "Right but for a tensor of zeros, which gets scale 0: quantize would divide by it.",
            lambda x, n_bits=8: x.abs().max().item() / int_range(n_bits)[1]),
    Mistake("ignores_n_bits", "Your scale is the same for every n_bits. Take qmax from int_range(n_bits).",
            lambda x, n_bits=8: _or_one(x.abs().max().item() / 127)),
    Mistake("returns_tensor", "The number is right, but it is a tensor: .item() makes it a float.",
            lambda x, n_bits=8: torch.tensor(_or_one(x.abs().max().item() / int_range(n_bits)[1]))),
)  # fmt: skip


def per_channel_probes() -> list[Args]:
    """A (3, 2, 4, 3) weight with channels of very different size, one of them dead, along axis 0 and 1."""
    base = torch.linspace(-1.0, 0.9, 24).reshape(2, 4, 3)
    weight = torch.stack([base, base * -0.01, base * 30])
    dead = weight.clone()
    dead[1] = 0.0
    return [(weight,), (weight, 4), (weight, 8, 1), (dead,), (weight[:, :, 0, 0],)]


def _dims(weight: Tensor, axis: int) -> tuple[int, ...]:
    return tuple(d for d in range(weight.dim()) if d != axis)


def _per_channel(weight: Tensor, n_bits: int = 8, axis: int = 0, largest: Tensor | None = None) -> Tensor:
    if largest is None:
        largest = weight.abs().amax(dim=_dims(weight, axis), keepdim=True)
    scale = largest / int_range(n_bits)[1]
    return torch.where(scale > 0, scale, torch.ones_like(scale))


def _dead_zero(weight: Tensor, n_bits: int = 8, axis: int = 0) -> Tensor:
    return weight.abs().amax(dim=_dims(weight, axis), keepdim=True) / int_range(n_bits)[1]


def _one_for_all(weight: Tensor, n_bits: int = 8, axis: int = 0) -> Tensor:
    shape = [weight.shape[axis] if d == axis else 1 for d in range(weight.dim())]
    return _per_channel(weight, n_bits, axis, weight.abs().max()).expand(shape).clone()


def _fixed_dimensions(weight: Tensor, n_bits: int = 8, axis: int = 0) -> Tensor:
    return _per_channel(weight, n_bits, axis, weight.abs().amax(dim=(1, 2, 3), keepdim=True))


def _max_per_channel(weight: Tensor, n_bits: int = 8, axis: int = 0) -> Tensor:
    return _per_channel(weight, n_bits, axis, weight.amax(dim=_dims(weight, axis), keepdim=True))


def _range_per_channel(weight: Tensor, n_bits: int = 8, axis: int = 0) -> Tensor:
    dims = _dims(weight, axis)
    width = weight.amax(dim=dims, keepdim=True) - weight.amin(dim=dims, keepdim=True)
    return _per_channel(weight, n_bits, axis, width * int_range(n_bits)[1] / (2**n_bits - 1))


PER_CHANNEL = (
    Mistake("one_scale_for_all", "All your scales are equal: that is the per-tensor scale, repeated.", _one_for_all),
    Mistake("reduces_the_channels", "You took the maximum over the channel dimension. Reduce over all the others and "
            "keep that one.", lambda weight, n_bits=8, axis=0: _per_channel(
                weight, n_bits, axis, weight.abs().amax(dim=axis, keepdim=True))),
    Mistake("flat_shape", "The scales are right, but their shape is (C,). It would broadcast against the last "
            "dimension of the weight: keepdim=True keeps the others as 1.",
            lambda weight, n_bits=8, axis=0: _per_channel(weight, n_bits, axis).flatten()),
    Mistake("two_dimensions_only", "You flatten to (C, -1) and return (C, 1). A convolution's weight has four "
            "dimensions, and so must the scale.",
            lambda weight, n_bits=8, axis=0: _per_channel(weight, n_bits, axis).reshape(-1, 1)),
    Mistake("ignores_axis", "You always take dimension 0 as the channels, whatever axis says.",
            lambda weight, n_bits=8, axis=0: _per_channel(weight, n_bits, 0)),
    Mistake("fixed_dimensions", "You name the dimensions to reduce over, as for a convolution along axis 0. Make "
            "the tuple from weight.dim() and axis, so that a linear layer's two dimensions work too.",
            _fixed_dimensions),
    Mistake("dead_channel_zero", "A channel of zeros gets scale 0, and 0 / 0 is nan: one dead channel then spoils the "
            "layer.", _dead_zero),
    Mistake("max_without_abs", "You take max(w) of each channel, not max|w|.", _max_per_channel),
    Mistake("divides_by_128", "You divide by 2^(n_bits - 1). The highest code is one less.",
            lambda weight, n_bits=8, axis=0: _per_channel(
                weight, n_bits, axis, weight.abs().amax(dim=_dims(weight, axis), keepdim=True)
                * int_range(n_bits)[1] / 2 ** (n_bits - 1))),
    Mistake("ignores_n_bits", "Your scales are the same for every n_bits.",
            lambda weight, n_bits=8, axis=0: _per_channel(weight, 8, axis)),
    Mistake("whole_range", "You use max - min of each channel. Symmetric scales need the largest magnitude.",
            _range_per_channel),
)  # fmt: skip
