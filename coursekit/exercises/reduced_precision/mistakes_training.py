"""Known mistakes in unscaling, clipping, adapting the loss scale and keeping master weights.

Each `wrong` makes one mistake and no other; a check recognises it by equal results on every probe.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.spec import Mistake

__all__ = [
    "LOSS_SCALE_STEP",
    "MASTER_WEIGHT_UPDATE",
    "UNSCALE_AND_CLIP",
    "clip_probes",
    "master_probes",
    "scale_probes",
]

Args = tuple[Any, ...]
Clipped = tuple[list[Tensor], Any]


def clip_probes() -> list[Args]:
    """Long and short gradients, float16 ones that are tiny, and inf and NaN in different places."""
    a, b = torch.tensor([[3.0, -4.0], [0.5, 0.25]]), torch.tensor([12.0, -1.0, 2.0])
    tiny = [torch.tensor([2.0**-22, -(2.0**-14)]).half(), torch.tensor([2.0**-20]).half()]
    return [
        ([a, b], 4.0, 2.0),
        ([a * 64, b], 64.0, 1.5),
        ([a, b], 8.0, 100.0),
        (tiny, 1024.0, 1.0),
        ([a, torch.tensor([math.inf, 1.0])], 2.0, 1.0),
        ([torch.tensor([-math.inf, 1.0]), b], 2.0, 1.0),
        ([torch.tensor([math.nan, 1.0]), b], 2.0, 1.0),
    ]


def _norm(grads: Sequence[Tensor]) -> float:
    return math.sqrt(sum(g.double().square().sum().item() for g in grads))


def _finish(
    grads: Sequence[Tensor],
    max_norm: float,
    *,
    norm: float | None = None,
    found: Any = None,
    grow: bool = False,
) -> Clipped:
    bad = not all(bool(g.isfinite().all()) for g in grads)
    found = bad if found is None else found
    if found:
        return list(grads), found
    norm = _norm(grads) if norm is None else norm
    factor = max_norm / norm if grow or norm > max_norm else 1.0
    return [g * factor for g in grads], found


def _unscaled(grads: Sequence[Tensor], scale: float) -> list[Tensor]:
    return [g.float() / scale for g in grads]


def _clips_first(grads: Sequence[Tensor], scale: float, max_norm: float) -> Clipped:
    clipped, found = _finish([g.float() for g in grads], max_norm)
    return _unscaled(clipped, scale), found


def _divides_in_half(grads: Sequence[Tensor], scale: float, max_norm: float) -> Clipped:
    return _finish([(g / scale).float() for g in grads], max_norm)


def _each_its_own(grads: Sequence[Tensor], scale: float, max_norm: float) -> Clipped:
    unscaled = _unscaled(grads, scale)
    if not all(bool(g.isfinite().all()) for g in unscaled):
        return unscaled, True
    return [_finish([g], max_norm)[0][0] for g in unscaled], False


def _only_inf(grads: Sequence[Tensor], scale: float, max_norm: float) -> Clipped:
    unscaled = _unscaled(grads, scale)
    return _finish(unscaled, max_norm, found=any(bool(g.isinf().any()) for g in unscaled))


def _only_last(grads: Sequence[Tensor], scale: float, max_norm: float) -> Clipped:
    unscaled = _unscaled(grads, scale)
    return _finish(unscaled, max_norm, found=not bool(unscaled[-1].isfinite().all()))


def _by_value(grads: Sequence[Tensor], scale: float, max_norm: float) -> Clipped:
    unscaled = _unscaled(grads, scale)
    bad = not all(bool(g.isfinite().all()) for g in unscaled)
    return ([g.clamp(-max_norm, max_norm) for g in unscaled], False) if not bad else (unscaled, True)


def _sum_of_norms(grads: Sequence[Tensor], scale: float, max_norm: float) -> Clipped:
    unscaled = _unscaled(grads, scale)
    return _finish(unscaled, max_norm, norm=sum(_norm([g]) for g in unscaled))


def _no_root(grads: Sequence[Tensor], scale: float, max_norm: float) -> Clipped:
    unscaled = _unscaled(grads, scale)
    return _finish(unscaled, max_norm, norm=_norm(unscaled) ** 2)


def _keeps_half(grads: Sequence[Tensor], scale: float, max_norm: float) -> Clipped:
    clipped, found = _finish(_unscaled(grads, scale), max_norm)
    return [c.to(g.dtype) for c, g in zip(clipped, grads, strict=True)], found


def _zeros_bad(grads: Sequence[Tensor], scale: float, max_norm: float) -> Clipped:
    return _finish([g.nan_to_num(0, 0, 0) for g in _unscaled(grads, scale)], max_norm)


def _flag_is_tensor(grads: Sequence[Tensor], scale: float, max_norm: float) -> Clipped:
    clipped, found = _finish(_unscaled(grads, scale), max_norm)
    return clipped, torch.tensor(found)


UNSCALE_AND_CLIP = (
    Mistake("clips_before_unscaling", "You clip the scaled gradients: with a scale of 65,536 nearly every step is then "
            "cut to next to nothing. Divide first.", _clips_first),
    Mistake("divides_in_half_precision", "You divide while the gradient is still float16, and it underflows: just what "
            "the scale was to prevent. Go to float32 first.", _divides_in_half),
    Mistake("clips_each_tensor", "You clip every tensor by itself, which turns the direction of the step. The norm is "
            "that of all gradients together.", _each_its_own),
    Mistake("never_finds_inf", "found_inf is always False, so a broken gradient reaches the weights.",
            lambda g, s, n: _finish(_unscaled(g, s), n, found=False)),
    Mistake("nan_passes", "You look for inf only; NaN passes. isfinite is False for both.", _only_inf),
    Mistake("looks_at_the_last", "Only the last tensor decides about found_inf: an earlier overflow is forgotten.",
            _only_last),
    Mistake("multiplies", "You multiply by the scale. The loss was multiplied, so the gradients must be divided.",
            lambda g, s, n: _finish([x.float() * s for x in g], n)),
    Mistake("never_clips", "Long gradients stay as long as they are.",
            lambda g, s, n: _finish(_unscaled(g, s), math.inf)),
    Mistake("always_at_the_norm", "You bring short gradients up to max_norm too. Only longer ones are shortened.",
            lambda g, s, n: _finish(_unscaled(g, s), n, grow=True)),
    Mistake("clips_values", "You clamp each value to max_norm. Asked for is the length of the whole gradient.",
            _by_value),
    Mistake("sum_of_norms", "You add up the tensors' norms. The norm of all is the root of the sum of all squares.",
            _sum_of_norms),
    Mistake("norm_squared", "You compare the square of the norm with max_norm: the root is missing.", _no_root),
    Mistake("back_to_half", "You give the gradients back in their own dtype; in float16 the unscaled ones underflow.",
            _keeps_half),
    Mistake("zeroes_what_overflowed", "You replace inf and NaN by 0 and go on. Such a step points nowhere: report it.",
            _zeros_bad),
    Mistake("flag_is_a_tensor", "found_inf is a tensor; bool(…) makes it True or False.", _flag_is_tensor),
)  # fmt: skip


def scale_probes() -> list[Args]:
    """Good and bad steps, just before and at the interval, with the usual constants and with others."""
    return [
        (1024.0, 0, False), (1024.0, 7, False), (1024.0, 1998, False), (1024.0, 1999, False),
        (1024.0, 0, True), (1024.0, 1999, True), (8.0, 5, True),
        (96.0, 2, False, 3.0, 0.25, 3), (96.0, 1, False, 3.0, 0.25, 3), (96.0, 2, True, 3.0, 0.25, 3),
    ]  # fmt: skip


def _scale(
    scale: float, good: int, bad: bool, growth: float = 2.0, backoff: float = 0.5, interval: int = 2000, *,
    after_bad: Any = lambda good: 0, after_growth: Any = lambda good: 0,
) -> tuple[float, int]:  # fmt: skip
    if bad:
        return scale * backoff, after_bad(good)
    if good + 1 == interval:
        return scale * growth, after_growth(good)
    return scale, good + 1


def _no_growth(
    s: float, good: int, bad: bool, g: float = 2.0, b: float = 0.5, n: int = 2000
) -> tuple[float, int]:
    return (s * b, 0) if bad else (s, good + 1)


def _no_backoff(
    s: float, good: int, bad: bool, g: float = 2.0, b: float = 0.5, n: int = 2000
) -> tuple[float, int]:
    return (s, 0) if bad else _scale(s, good, bad, g, b, n)


def _adds(s: float, good: int, bad: bool, g: float = 2.0, b: float = 0.5, n: int = 2000) -> tuple[float, int]:
    return (s + g, 0) if not bad and good + 1 == n else _scale(s, good, bad, g, b, n)


def _restarts(
    s: float, good: int, bad: bool, g: float = 2.0, b: float = 0.5, n: int = 2000
) -> tuple[float, int]:
    return (1.0, 0) if bad else _scale(s, good, bad, g, b, n)


def _at_least_one(
    s: float, good: int, bad: bool, g: float = 2.0, b: float = 0.5, n: int = 2000
) -> tuple[float, int]:
    return (s * g, good + 1) if not bad else (s * b, 0)


LOSS_SCALE_STEP = (
    Mistake("never_grows", "At the interval your scale stays as it is: it grows one step late, or never. After an "
            "overflow it then stays small for ever, and gradients underflow again.", _no_growth),
    Mistake("grows_every_step", "Your scale grows with every good step. It overflows at once, and every other step is "
            "lost.", _at_least_one),
    Mistake("keeps_count_after_overflow", "An overflow leaves your count as it was, so the scale may grow again in the "
            "very next step. Start from 0.", lambda *a: _scale(*a, after_bad=lambda good: good)),
    Mistake("counts_the_overflow", "You count the step that overflowed as a good one.",
            lambda *a: _scale(*a, after_bad=lambda good: good + 1)),
    Mistake("no_reset_after_growth", "The count goes on after the scale has grown, so it never reaches the interval "
            "again. Start from 0.", lambda *a: _scale(*a, after_growth=lambda good: good + 1)),
    Mistake("starts_at_one", "After growing, your count starts at 1: the interval is then one step short.",
            lambda *a: _scale(*a, after_growth=lambda good: 1)),
    Mistake("no_backoff", "An overflow does not lower your scale: the next step overflows too, and so on for ever.",
            _no_backoff),
    Mistake("the_wrong_way_round", "Overflow and good step are swapped: found_inf means that the scale is too large.",
            lambda s, good, bad, *rest: _scale(s, good, not bad, *rest)),
    Mistake("divides_by_backoff", "You divide by backoff_factor, which is below 1: an overflow makes the scale larger.",
            lambda s, good, bad, g=2.0, b=0.5, n=2000: _scale(s, good, bad, g, 1 / b, n)),
    Mistake("adds_the_factor", "You add growth_factor. The scale grows by a factor, so that it can find its order of "
            "magnitude.", _adds),
    Mistake("restarts_at_one", "After an overflow you start again at 1. One factor is enough, and loses less.",
            _restarts),
    Mistake("constants_built_in", "You use 2, 0.5 and 2000 whatever the arguments say.",
            lambda s, good, bad, *rest: _scale(s, good, bad)),
)  # fmt: skip


def master_probes() -> list[Args]:
    """Steps too small for 16 bits and large ones, in both 16-bit formats, with gradients of several dtypes."""
    master = torch.tensor([1.0, -0.7334, 3.0e-5, 0.25, -2.0001])
    grad = torch.tensor([0.5, -0.0003, 2.0, 1.0e-6, -3.0])
    return [
        (master, master.half(), grad, 2.0**-10),
        (master, master.bfloat16(), grad, 0.1),
        (master, master.half(), (grad * 1e-3).half(), 1e-3),
        (master, master.bfloat16(), grad.bfloat16(), 0.003),
    ]


def _step(master: Tensor, grad: Tensor, lr: float) -> Tensor:
    return master - lr * grad.float()


def _no_master(master: Tensor, weight: Tensor, grad: Tensor, lr: float) -> Any:
    new = (weight - lr * grad.to(weight.dtype)).to(weight.dtype)
    return new.float(), new


def _from_copy(master: Tensor, weight: Tensor, grad: Tensor, lr: float) -> Any:
    new = _step(weight.float(), grad, lr)
    return new, new.to(weight.dtype)


def _half_product(master: Tensor, weight: Tensor, grad: Tensor, lr: float) -> Any:
    new = master - (lr * grad.to(weight.dtype)).float()
    return new, new.to(weight.dtype)


def _rounds_master(master: Tensor, weight: Tensor, grad: Tensor, lr: float) -> Any:
    new = _step(master, grad, lr).to(weight.dtype)
    return new.float(), new


def _separate(master: Tensor, weight: Tensor, grad: Tensor, lr: float) -> Any:
    return _step(master, grad, lr), (weight - lr * grad.to(weight.dtype)).to(weight.dtype)


def _decays(master: Tensor, weight: Tensor, grad: Tensor, lr: float) -> Any:
    new = master * (1 - lr * grad.float())
    return new, new.to(weight.dtype)


def _both(change: Any, cast: Any = lambda new, weight: new.to(weight.dtype)) -> Any:
    """A mistake in the new master, or in the cast to the copy."""

    def wrong(master: Tensor, weight: Tensor, grad: Tensor, lr: float) -> Any:
        new = change(master, grad.float(), lr)
        return new, cast(new, weight)

    return wrong


MASTER_WEIGHT_UPDATE = (
    Mistake("updates_the_copy", "You update the 16-bit weight in 16 bits, and the master only follows: small steps are "
            "lost, and nothing remembers them.", _no_master),
    Mistake("starts_from_the_copy", "You start from the 16-bit weight. What the master had beyond its digits is lost "
            "in every step: start from the master.", _from_copy),
    Mistake("product_in_half", "lr * grad is computed in 16 bits and may underflow before it reaches the master: go to "
            "float32 first.", _half_product),
    Mistake("rounds_the_master", "You round the new master to 16 bits. Only the copy is rounded.", _rounds_master),
    Mistake("two_separate_updates", "You update master and copy separately; the copy then stands still where steps are "
            "small. Round the new master instead.", _separate),
    Mistake("climbs", "You add the gradient: that is uphill.", _both(lambda m, g, lr: m + lr * g)),
    Mistake("forgets_lr", "The learning rate is not used.", _both(lambda m, g, lr: m - g)),
    Mistake("old_copy", "Your copy is that of the master before the step.",
            lambda m, w, g, lr: (_step(m, g, lr), m.to(w.dtype))),
    Mistake("copy_not_rounded", "Your copy is still float32: cast it to the dtype of weight.",
            _both(lambda m, g, lr: m - lr * g, lambda new, weight: new)),
    Mistake("always_float16", "Your copy is always float16; it should have the dtype of weight.",
            _both(lambda m, g, lr: m - lr * g, lambda new, weight: new.half())),
    Mistake("relative_step", "You multiply the weight by 1 - lr * grad: that is weight decay. Subtract lr * grad.",
            _decays),
    Mistake("swapped", "The results are swapped: first the master, then the copy.",
            lambda m, w, g, lr: (_step(m, g, lr).to(w.dtype), _step(m, g, lr))),
)  # fmt: skip
