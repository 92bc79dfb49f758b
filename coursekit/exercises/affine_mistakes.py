"""Known mistakes of lesson 01: what students really write, and what to tell them.

Each `wrong` makes one mistake and no other. A check recognises a mistake when the student's function
gives the same results on every probe.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.spec import Mistake
from coursekit.quantization import fake_quantize, int_range

__all__ = [
    "AFFINE_QPARAMS",
    "DEQUANTIZE",
    "MSE_CLIP",
    "PER_CHANNEL",
    "QUANTIZE",
    "SQNR_DB",
    "SYMMETRIC_SCALE",
    "clip_probes",
    "dequantize_probes",
    "per_channel_probes",
    "qparams_probes",
    "quantize_probes",
    "sqnr_probes",
    "symmetric_probes",
]

Args = tuple[Any, ...]

# --- affine_qparams ------------------------------------------------------------------------------


def qparams_probes() -> list[Args]:
    """Ranges that straddle 0, lie on one side of it, are short of bits, and are empty of anything but 0."""
    straddling, positive = torch.linspace(-1.0, 2.0, 31), torch.linspace(5.0, 10.0, 31)
    return [(straddling,), (positive,), (-positive,), (straddling, 4), (torch.zeros(4),), (straddling - 0.3, 3)]


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

# --- quantize ------------------------------------------------------------------------------------


def quantize_probes() -> list[Args]:
    """Values in and out of range, exact halves, a zero point, 4 bits, and a scale a row."""
    x = torch.tensor([-100.0, -30.0, -2.6, -1.3, -0.7, 0.0, 0.26, 0.9, 2.49, 3.7, 17.0, 26.0, 90.0])
    rows = torch.stack([x, x / 10])
    return [(x, 0.25, 3), (x, 0.25, 0), (x, 0.1, -20), (x, 0.5, 1, 4), (rows, torch.tensor([[0.3], [0.03]]), 0)]


def _codes(x: Tensor, scale: Any, zero_point: int, n_bits: int) -> Tensor:
    return torch.clamp(x, *int_range(n_bits)).to(torch.int8)


def _wrap(x: Tensor) -> Tensor:
    """What a cast of a large value to int8 leaves: the lowest 8 bits."""
    return x.to(torch.int64).to(torch.int8)


def _guide_formula(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _codes(torch.round((x - zero_point) / scale), scale, zero_point, n_bits)


def _no_clamp(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _wrap(torch.round(x / scale) + zero_point)


def _clamp_after_cast(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return torch.clamp(_no_clamp(x, scale, zero_point), *int_range(n_bits))


def _truncates(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _codes(torch.trunc(x / scale) + zero_point, scale, zero_point, n_bits)


def _truncates_at_cast(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _codes(x / scale + zero_point, scale, zero_point, n_bits)


def _floors(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _codes(torch.floor(x / scale) + zero_point, scale, zero_point, n_bits)


def _rounds_first(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _codes(torch.round(torch.round(x) / scale) + zero_point, scale, zero_point, n_bits)


def _multiplies(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _codes(torch.round(x * scale) + zero_point, scale, zero_point, n_bits)


def _forgets_zero_point(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _codes(torch.round(x / scale), scale, zero_point, n_bits)


def _subtracts_zero_point(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _codes(torch.round(x / scale) - zero_point, scale, zero_point, n_bits)


def _clamps_first(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _wrap(torch.clamp(torch.round(x / scale), *int_range(n_bits)) + zero_point)


def _always_8(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _codes(torch.round(x / scale) + zero_point, scale, zero_point, 8)


def _stays_float(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return torch.clamp(torch.round(x / scale) + zero_point, *int_range(n_bits))


def _unsigned_codes(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return torch.clamp(torch.round(x / scale) + zero_point, 0, 2**n_bits - 1).to(torch.uint8)


QUANTIZE = (
    Mistake("guide_formula", "This is round((x - zero_point) / scale), a formula found in many texts. The zero point "
            "is a code, not a real value: it is added after the division.", _guide_formula),
    Mistake("no_clamp", "Values outside the range wrap round: without a clamp, casting 200 to int8 gives -56.",
            _no_clamp),
    Mistake("clamp_after_cast", "You clamp after the cast to int8. By then 200 has already become -56.",
            _clamp_after_cast),
    Mistake("truncates", "You cut the fraction off instead of rounding: everything moves towards 0, and the error "
            "reaches a whole step.", _truncates),
    Mistake("no_rounding", "There is no round before the cast, and the cast cuts the fraction off.",
            _truncates_at_cast),
    Mistake("floors", "You round down. Nearest is what halves the largest error: torch.round.", _floors),
    Mistake("rounded_before_dividing", "You rounded x itself before dividing by the scale, so everything between two "
            "whole numbers is lost.", _rounds_first),
    Mistake("multiplies_by_scale", "You multiply by the scale. The scale is units of x per step, so x / scale counts "
            "the steps.", _multiplies),
    Mistake("forgets_zero_point", "The zero point is never added: right only for zero_point = 0.", _forgets_zero_point),
    Mistake("subtracts_zero_point", "You subtract the zero point. The real value 0 must get the code +zero_point.",
            _subtracts_zero_point),
    Mistake("clamps_before_zero_point", "You clamp, then add the zero point, and leave the range again. Clamp last.",
            _clamps_first),
    Mistake("ignores_n_bits", "You always use the 8-bit range. Take qmin and qmax from int_range(n_bits).", _always_8),
    Mistake("stays_float", "The values are right, but the result is not int8: .to(torch.int8) at the end.",
            _stays_float),
    Mistake("unsigned_codes", "Your codes are unsigned, 0..255. In this lesson all codes are signed.", _unsigned_codes),
)  # fmt: skip

# --- dequantize ----------------------------------------------------------------------------------


def dequantize_probes() -> list[Args]:
    """All kinds of codes, with zero points at both ends, and a scale a row."""
    q = torch.tensor([-128, -100, -3, 0, 1, 5, 90, 127], dtype=torch.int8)
    return [(q, 0.5, 3), (q, 0.25, -128), (q, 0.1, 127), (q, 0.3, 0), (q.reshape(2, 4), torch.tensor([[0.5], [2.0]]), 0)]


def _in_int8(q: Tensor, scale: Any, zero_point: int = 0) -> Tensor:
    return (q.to(torch.int64) - zero_point).to(torch.int8).to(torch.float32) * scale


DEQUANTIZE = (
    Mistake("int8_overflow", "q - zero_point is computed in int8, and 127 - (-128) = 255 does not fit: it wraps to -1. "
            "Go to float32 before you subtract.", _in_int8),
    Mistake("adds_zero_point", "You add the zero point, as some texts do. Put q = zero_point into your formula: "
            "it must give 0.", lambda q, scale, zero_point=0: (q.float() + zero_point) * scale),
    Mistake("forgets_zero_point", "The zero point does not appear in your result.",
            lambda q, scale, zero_point=0: q.float() * scale),
    Mistake("subtracts_after_scaling", "scale * q - zero_point takes the zero point away in units of x. It is a code: "
            "subtract first, then scale.", lambda q, scale, zero_point=0: q.float() * scale - zero_point),
    Mistake("divides_by_scale", "You divide by the scale. It is units of x per step: steps times scale is x.",
            lambda q, scale, zero_point=0: (q.float() - zero_point) / scale),
    Mistake("wrong_way_round", "zero_point - q has the wrong sign: larger codes must mean larger values.",
            lambda q, scale, zero_point=0: (zero_point - q.float()) * scale),
    Mistake("float64", "The values are right, but in float64. The network works in float32.",
            lambda q, scale, zero_point=0: (q.double() - zero_point) * scale),
    Mistake("integer_result", "Your result is an integer tensor: the product with the scale lost its fraction.",
            lambda q, scale, zero_point=0: ((q.int() - zero_point) * scale).to(torch.int32)),
    Mistake("unsigned_codes", "You read the codes as unsigned, 0..255. They are signed, -128..127.",
            lambda q, scale, zero_point=0: (q.view(torch.uint8).float() - zero_point) * scale),
)  # fmt: skip

# --- symmetric_scale -----------------------------------------------------------------------------


def symmetric_probes() -> list[Args]:
    """Tensors whose largest magnitude is positive, negative, alone or absent, at 8 and at 4 bits."""
    mostly_negative, only_negative = torch.tensor([-3.0, -1.0, 0.5, 2.0]), torch.tensor([-3.0, -1.0])
    return [(mostly_negative,), (-mostly_negative,), (only_negative,), (mostly_negative, 4), (torch.zeros(3),)]


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
    Mistake("zero_scale", "Right but for a tensor of zeros, which gets scale 0: quantize would divide by it.",
            lambda x, n_bits=8: x.abs().max().item() / int_range(n_bits)[1]),
    Mistake("ignores_n_bits", "Your scale is the same for every n_bits. Take qmax from int_range(n_bits).",
            lambda x, n_bits=8: _or_one(x.abs().max().item() / 127)),
    Mistake("returns_tensor", "The number is right, but it is a tensor: .item() makes it the float the signature promises.",
            lambda x, n_bits=8: torch.tensor(_or_one(x.abs().max().item() / int_range(n_bits)[1]))),
)  # fmt: skip

# --- symmetric_scale_per_channel -----------------------------------------------------------------


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

# --- sqnr_db -------------------------------------------------------------------------------------


def sqnr_probes() -> list[Args]:
    """Errors that grow, that have a mean, and that are none at all."""
    x = torch.tensor([1.0, -2.0, 3.0, -4.0, 0.5])
    return [(x, 0.9 * x), (x, x + 0.25), (x, x + torch.tensor([0.1, -0.2, 0.0, 0.3, 0.1])), (x, x.clone())]


def _powers(x: Tensor, x_hat: Tensor) -> tuple[float, float]:
    return x.square().sum().item(), (x - x_hat).square().sum().item()


def _decibels(signal: float, noise: float) -> float:
    return 10 * math.log10(signal / noise) if noise > 0 else math.inf


def _natural_log(x: Tensor, x_hat: Tensor) -> float:
    return _decibels(*_powers(x, x_hat)) * math.log(10)


def _divides_by_noise(x: Tensor, x_hat: Tensor) -> float:
    signal, noise = _powers(x, x_hat)
    return 10 * math.log10(signal / noise)


def _peak(x: Tensor, x_hat: Tensor) -> float:
    return _decibels(x.abs().max().item() ** 2, (x - x_hat).square().mean().item())


SQNR_DB = (
    Mistake("twenty_log", "20 log10 belongs to a ratio of amplitudes. Your ratio is already squared: use 10 log10.",
            lambda x, x_hat: 2 * _decibels(*_powers(x, x_hat))),
    Mistake("natural_log", "You used the natural logarithm. Decibels are defined with log10.", _natural_log),
    Mistake("inverted", "Noise over signal: your ratio is upside down, and good approximations come out negative.",
            lambda x, x_hat: -_decibels(*_powers(x, x_hat))),
    Mistake("not_squared", "You compare the norms, not their squares: that halves the decibels.",
            lambda x, x_hat: _decibels(*_powers(x, x_hat)) / 2),
    Mistake("bel", "This is in bels: the factor 10 is missing.", lambda x, x_hat: _decibels(*_powers(x, x_hat)) / 10),
    Mistake("variance", "You use variances, so a constant offset of x_hat costs nothing. Sum the squares themselves.",
            lambda x, x_hat: _decibels(x.var().item(), (x - x_hat).var().item() if (x - x_hat).var() > 1e-12 else 0.0)),
    Mistake("peak_signal", "This is the peak signal-to-noise ratio, with max|x| squared on top. Here it is the mean "
            "power of the signal.", _peak),
    Mistake("power_of_x_hat", "The signal is x, not x_hat.",
            lambda x, x_hat: _decibels(x_hat.square().sum().item(), _powers(x, x_hat)[1])),
    Mistake("divides_by_zero", "Right but for a perfect copy: there you divide by zero instead of returning math.inf.",
            _divides_by_noise),
    Mistake("returns_tensor", "The number is right, but it is a tensor: .item() makes it a float.",
            lambda x, x_hat: torch.tensor(_decibels(*_powers(x, x_hat)))),
)  # fmt: skip

# --- mse_clip ------------------------------------------------------------------------------------


def clip_probes() -> list[Args]:
    """Heavy-tailed values with the larger tail on one side, at 4 and at 8 bits, and with few candidates."""
    grid = torch.linspace(-0.999, 0.999, 801)
    x = torch.atanh(grid) ** 3 / 10
    return [(x, 4), (x - 0.5, 4), (-x + 0.5, 8), (x, 3, 20)]


def _candidates(x: Tensor, n: int) -> list[float]:
    return [x.abs().max().item() * k / n for k in range(1, n + 1)]


def _search(x: Tensor, n_bits: int, n: int, error: Any = None, clips: list[float] | None = None) -> float:
    clips = _candidates(x, n) if clips is None else clips
    measure = error or (lambda x, x_hat, c: (x - x_hat).square().mean().item())
    qmax = int_range(n_bits)[1]
    return min(clips, key=lambda c: measure(x, fake_quantize(x, c / qmax, n_bits), c))


def _forgets_abs(x: Tensor, n_bits: int = 8, n_candidates: int = 100) -> float:
    return _search(x, n_bits, n_candidates, clips=[x.max().item() * k / n_candidates for k in range(1, n_candidates + 1)])


MSE_CLIP = (
    Mistake("no_clipping", "You return max|x|: nothing is ever clipped. On heavy tails that wastes most of the codes.",
            lambda x, n_bits=8, n_candidates=100: x.abs().max().item()),
    Mistake("smallest_candidate", "The smallest candidate always wins. Either you compare with the clipped tensor, so "
            "that what you cut off costs nothing, or you keep the largest error instead of the smallest.", lambda x, n_bits=8, n_candidates=100: _search(
                x, n_bits, n_candidates, lambda x, x_hat, c: (x.clamp(-c, c) - x_hat).square().mean().item())),
    Mistake("absolute_error", "You minimise the mean absolute error. Squares weigh the clipped outliers more.",
            lambda x, n_bits=8, n_candidates=100: _search(
                x, n_bits, n_candidates, lambda x, x_hat, c: (x - x_hat).abs().mean().item())),
    Mistake("largest_error", "You minimise the largest error, which one outlier decides alone.",
            lambda x, n_bits=8, n_candidates=100: _search(
                x, n_bits, n_candidates, lambda x, x_hat, c: (x - x_hat).abs().max().item())),
    Mistake("returns_scale", "You return the scale of the best candidate. The threshold is scale * qmax.",
            lambda x, n_bits=8, n_candidates=100: _search(x, n_bits, n_candidates) / int_range(n_bits)[1]),
    Mistake("returns_index", "You return the number of the best candidate, not the threshold itself.",
            lambda x, n_bits=8, n_candidates=100: _candidates(x, n_candidates).index(_search(x, n_bits, n_candidates))),
    Mistake("returns_error", "You return the smallest error, not the threshold that gave it.",
            lambda x, n_bits=8, n_candidates=100: (x - fake_quantize(
                x, _search(x, n_bits, n_candidates) / int_range(n_bits)[1], n_bits)).square().mean().item()),
    Mistake("three_sigma", "Three standard deviations is a rule of thumb for normal data; measure the error instead.",
            lambda x, n_bits=8, n_candidates=100: min(3 * x.std().item(), x.abs().max().item())),
    Mistake("max_without_abs", "Your candidates reach up to max(x), not max|x|: a long negative tail is always cut.",
            _forgets_abs),
    Mistake("ignores_n_bits", "You search with 8 bits whatever n_bits says; with fewer bits clipping pays sooner.",
            lambda x, n_bits=8, n_candidates=100: _search(x, 8, n_candidates)),
)  # fmt: skip
