"""Known mistakes in the learned step's gradient, in equalization and in bias correction.

Each `wrong` makes one mistake and no other; a check recognises it by equal results on every probe.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.spec import Mistake
from coursekit.quantization import int_range

__all__ = ["BIAS_CORRECTION", "EQUALIZATION", "LSQ", "correction_probes", "equalization_probes", "lsq_probes"]

Args = tuple[Any, ...]


def lsq_probes() -> list[Args]:
    """Gradients that do not cancel; values inside and outside on both sides; several bits."""
    probes = []
    for seed, (n_bits, scale) in enumerate([(3, 0.4), (4, 0.15), (2, 0.9)]):
        g = torch.Generator().manual_seed(seed)
        x, grad = torch.randn(3, 8, generator=g) + 0.2, torch.rand(3, 8, generator=g) * (seed + 1)
        probes.append((grad, x, scale, n_bits))
    return probes


def _slope(x: Tensor, scale: float, n_bits: int) -> Tensor:
    _, qmax = int_range(n_bits)
    v = x / scale
    return torch.where(v.abs() < qmax, torch.round(v) - v, v.sign() * qmax)


def _factor(x: Tensor, n_bits: int) -> float:
    return math.sqrt(x.numel() * int_range(n_bits)[1])


def _lsq(total: Callable[[Tensor, Tensor, float, int], float]) -> Callable[..., Any]:
    """A gradient of the right factor and another sum."""

    def wrong(grad: Tensor, x: Tensor, scale: float, n_bits: int = 8) -> float:
        return total(grad, x, scale, n_bits) / _factor(x, n_bits)

    return wrong


def _ends_replaced(
    inside: Callable[[Tensor], Tensor], outside: Callable[[Tensor, int], Tensor]
) -> Callable[..., Any]:
    """A gradient whose slopes inside and outside are given by two functions of v."""

    def total(grad: Tensor, x: Tensor, scale: float, n_bits: int) -> float:
        _, qmax = int_range(n_bits)
        v = x / scale
        return (grad * torch.where(v.abs() < qmax, inside(v), outside(v, qmax))).sum().item()

    return _lsq(total)


def _rounding(v: Tensor) -> Tensor:
    return torch.round(v) - v


def _end(v: Tensor, qmax: int) -> Tensor:
    return v.sign() * qmax


def _scaled_by(factor: Callable[[Tensor, int], float]) -> Callable[..., Any]:
    def wrong(grad: Tensor, x: Tensor, scale: float, n_bits: int = 8) -> float:
        return (grad * _slope(x, scale, n_bits)).sum().item() * factor(x, int_range(n_bits)[1])

    return wrong


def _lsq_tensor(grad: Tensor, x: Tensor, scale: float, n_bits: int = 8) -> Tensor:
    return (grad * _slope(x, scale, n_bits)).sum() / _factor(x, n_bits)


LSQ = (
    Mistake("no_factor", "The sum is right, but it is not divided by sqrt(x.numel() * qmax).",
            _scaled_by(lambda x, qmax: 1.0)),
    Mistake("sign_inside", "Inside the range the slope is round(v) - v, not v - round(v): where rounding goes up, a "
            "larger step carries the output up.", _ends_replaced(lambda v: v - torch.round(v), _end)),
    Mistake("nothing_outside", "Clamped values count too, and most of all: their output is the end of the range times "
            "the step.", _ends_replaced(_rounding, lambda v, qmax: torch.zeros_like(v))),
    Mistake("holds_codes_still", "Inside you use round(v), as if the code did not change with the step. v = x / scale "
            "changes with it, which takes v away again.", _ends_replaced(torch.round, _end)),
    Mistake("same_end", "Below the range the slope is -qmax: the output there is -qmax steps.",
            _ends_replaced(_rounding, lambda v, qmax: torch.full_like(v, qmax))),
    Mistake("lowest_code", "This grid is symmetric: it ends at -qmax, not at -qmax - 1.",
            _ends_replaced(_rounding, lambda v, qmax: torch.where(v < 0, -qmax - 1.0, float(qmax)))),
    Mistake("forgets_grad", "The slopes are summed without grad. The chain rule weights each with its gradient.",
            _lsq(lambda grad, x, scale, n_bits: _slope(x, scale, n_bits).sum().item())),
    Mistake("mean", "You take the mean over the elements. The step feeds all of them: their contributions add up.",
            _scaled_by(lambda x, qmax: 1 / (x.numel() * math.sqrt(x.numel() * qmax)))),
    Mistake("no_root", "The factor has a square root: 1 / sqrt(x.numel() * qmax).",
            _scaled_by(lambda x, qmax: 1 / (x.numel() * qmax))),
    Mistake("only_numel", "The factor is 1 / sqrt(x.numel() * qmax): qmax is missing.",
            _scaled_by(lambda x, qmax: 1 / math.sqrt(x.numel()))),
    Mistake("returns_tensor", "The number is right, but it is a tensor: .item() makes it a float.", _lsq_tensor),
)  # fmt: skip


def equalization_probes() -> list[Args]:
    """Square second layers, so that a maximum over the wrong dimension still fits; both signs; channels
    far apart, and dead ones."""
    probes = []
    for seed, extra in enumerate([(), (3, 3), (1, 1)]):
        g = torch.Generator().manual_seed(seed)
        first = torch.randn(4, 6, generator=g) * torch.tensor([0.02, 1.0, 5.0, 40.0])[:, None] - 0.01
        second = torch.randn(4, 4, *extra, generator=g) - 0.3
        probes.append((first, second))
    dead = first.clone(), second.clone()
    dead[0][1], dead[1][:, 2] = 0, 0
    return [*probes, dead]


def _ranges(
    first: Tensor, second: Tensor, of: Callable[[Tensor], Tensor] = lambda rows: rows.abs().amax(1)
) -> tuple[Tensor, Tensor]:
    return of(first.flatten(1)), of(second.transpose(0, 1).flatten(1))


def _by_ranges(combine: Callable[[Tensor, Tensor], Tensor], **options: Any) -> Callable[..., Tensor]:
    """A factor made of the two ranges, 1 where either is 0."""

    def wrong(weight1: Tensor, weight2: Tensor) -> Tensor:
        r1, r2 = _ranges(weight1, weight2, **options)
        return torch.where((r1 > 0) & (r2 > 0), combine(r1, r2), 1.0)

    return wrong


def _root(r1: Tensor, r2: Tensor) -> Tensor:
    return torch.sqrt(r1 / r2)


def _unguarded(weight1: Tensor, weight2: Tensor) -> Tensor:
    return _root(*_ranges(weight1, weight2))


def _rows_of_second(weight1: Tensor, weight2: Tensor) -> Tensor:
    r1, r2 = weight1.abs().flatten(1).amax(1), weight2.abs().flatten(1).amax(1)
    return torch.where((r1 > 0) & (r2 > 0), _root(r1, r2), 1.0)


def _one_factor(weight1: Tensor, weight2: Tensor) -> Tensor:
    return torch.sqrt(weight1.abs().max() / weight2.abs().max()).expand(len(weight1)).clone()


EQUALIZATION = (
    Mistake("divides_by_zero", "A channel of zeros gives 0, inf or nan. Nothing can be equalized there: take 1.",
            _unguarded),
    Mistake("inverse", "This is 1 / s: the first layer is divided by s, so s must be large where its range is.",
            _by_ranges(lambda r1, r2: torch.sqrt(r2 / r1))),
    Mistake("geometric_mean", "sqrt(r1 * r2) is the range both shall have. The first is divided by s: "
            "r1 / s must be that.", _by_ranges(lambda r1, r2: torch.sqrt(r1 * r2))),
    Mistake("no_root", "With r1 / r2 the two ranges change places. Half way, in factors, is the square root.",
            _by_ranges(lambda r1, r2: r1 / r2)),
    Mistake("only_the_first", "Dividing by r1 makes the first layer's ranges equal and moves all the trouble into the "
            "second.", _by_ranges(lambda r1, r2: r1)),
    Mistake("rows_of_second", "For the second layer you took the range of each output channel. Channel i is an input "
            "there: weight2[:, i].", _rows_of_second),
    Mistake("without_abs", "You take the largest weight, not the largest magnitude: a filter of -5 and 1 has range 5.",
            _by_ranges(_root, of=lambda rows: rows.amax(1))),
    Mistake("whole_width", "You use max - min. The grid is symmetric: only the largest magnitude counts.",
            _by_ranges(_root, of=lambda rows: rows.amax(1) - rows.amin(1))),
    Mistake("mean_size", "You compare mean magnitudes. The scale of a quantizer is set by the largest.",
            _by_ranges(_root, of=lambda rows: rows.abs().mean(1))),
    Mistake("one_factor", "There is one factor for all channels. Each channel needs its own.", _one_factor),
)  # fmt: skip


def correction_probes() -> list[Args]:
    """Layers of several shapes with errors and input means of both signs."""
    probes = []
    for seed, (m, k) in enumerate([(3, 4), (2, 6), (5, 5)]):
        g = torch.Generator().manual_seed(seed)
        weight, bias, mean = (torch.randn(*size, generator=g) for size in ((m, k), (m,), (k,)))
        probes.append((weight, weight + 0.2 * torch.randn(m, k, generator=g) + 0.05, bias, mean + 0.4))
    return probes


def _correction(shift: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """A correction that subtracts shift(error of the weight, quantized weight, input mean)."""

    def wrong(weight: Tensor, quantized: Tensor, bias: Tensor, input_mean: Tensor) -> Tensor:
        return bias - shift(quantized - weight, quantized, input_mean)

    return wrong


def _only_the_shift(weight: Tensor, quantized: Tensor, bias: Tensor, input_mean: Tensor) -> Tensor:
    return -((quantized - weight) @ input_mean)


def _rescales(weight: Tensor, quantized: Tensor, bias: Tensor, input_mean: Tensor) -> Tensor:
    return bias * (weight @ input_mean) / (quantized @ input_mean)


BIAS_CORRECTION = (
    Mistake("doubles_the_error", "The sign is wrong: this adds the mean error a second time.",
            _correction(lambda e, q, mean: -(e @ mean))),
    Mistake("ignores_inputs", "The inputs do not appear. An error in a weight matters as much as its input is large.",
            _correction(lambda e, q, mean: e.sum(1))),
    Mistake("mean_weight_error", "You subtract the mean error of the weights. What shifts is the output: weight errors "
            "times mean inputs, summed.", _correction(lambda e, q, mean: e.mean(1))),
    Mistake("subtracts_everything", "You subtract the whole mean output. Only what quantization added must go.",
            _correction(lambda e, q, mean: q @ mean)),
    Mistake("only_the_shift", "This is the change of the bias. Return the new bias.", _only_the_shift),
    Mistake("one_input_mean", "Every input has a mean of its own: do not average them first.",
            _correction(lambda e, q, mean: e.sum(1) * mean.mean())),
    Mistake("averages_over_inputs", "The errors of all inputs add up in the output: sum over K, do not average.",
            _correction(lambda e, q, mean: (e * mean).mean(1))),
    Mistake("one_shift", "Every output channel has a shift of its own: do not average them.",
            _correction(lambda e, q, mean: (e @ mean).mean())),
    Mistake("absolute_errors", "Errors of opposite sign cancel in a sum, and should: no abs.",
            _correction(lambda e, q, mean: (e * mean).abs().sum(1))),
    Mistake("rescales_bias", "A bias is added, so what it must make up for is a difference, not a ratio.", _rescales),
)  # fmt: skip
