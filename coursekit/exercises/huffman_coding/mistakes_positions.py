"""Known mistakes with relative positions.

Each `wrong` makes one mistake and no other; a check recognises it by equal results on every probe.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.spec import Mistake

__all__ = ["FROM_RELATIVE_POSITIONS", "RELATIVE_POSITIONS", "from_probes", "to_probes"]

Args = tuple[Any, ...]
Pair = tuple[Tensor, Tensor]


def to_probes() -> list[Args]:
    """Short and long gaps, a gap that just fits, and zeros at the end."""
    x = torch.tensor([0.0, 0.0, 3.0, 4.0, 0.0, 5.0, 0.0, 0.0])
    return [(x, 4), (torch.tensor([0.0] * 5 + [7.0]), 2), (torch.tensor([0.0] * 3 + [7.0]), 2),
            (torch.tensor([0.0] * 4 + [7.0]), 2), (torch.tensor([9.0] + [0.0] * 7 + [7.0, 0.0, 0.0, 0.0]), 1),
            (torch.tensor([0.0] * 9 + [1.0, 2.0] + [0.0] * 5), 2)]  # fmt: skip


def _pair(gaps: list[int], values: list[float], x: Tensor) -> Pair:
    return torch.tensor(gaps, dtype=torch.int64), torch.tensor(values, dtype=x.dtype)


def _walk(
    x: Tensor, n_bits: int, *, most: int | None = None, filler: int | None = None, keep_run: bool = False,
    once: bool = False, full_at: int = 0, trailing: bool = False, plus: int = 0, reset: bool = True,
) -> Pair:  # fmt: skip
    """From left to right, with one of the options at a time gone wrong."""
    most = 2**n_bits - 1 if most is None else most
    gaps: list[int] = []
    values: list[float] = []
    run = 0
    for value in x.tolist():
        filled = once and bool(values) and values[-1] == 0
        if value != 0:
            gaps.append(run + plus)
            values.append(value)
            run = 0 if reset else run + 1
        elif run == most + full_at and not filled:
            gaps.append(most if filler is None else filler)
            values.append(0.0)
            run = run if keep_run else 0
        else:
            run += 1
    if not trailing:
        while values and values[-1] == 0:
            gaps.pop()
            values.pop()
    return _pair(gaps, values, x)


def _raw(x: Tensor) -> tuple[list[int], list[float]]:
    places = x.nonzero().flatten()
    return (places.diff(prepend=torch.tensor([-1])) - 1).tolist(), x[places].tolist()


def _absolute(x: Tensor, n_bits: int) -> Pair:
    places = x.nonzero().flatten()
    return places, x[places]


def _no_filler(x: Tensor, n_bits: int) -> Pair:
    return _pair(*_raw(x), x)


def _saturates(x: Tensor, n_bits: int) -> Pair:
    gaps, values = _raw(x)
    return _pair([min(gap, 2**n_bits - 1) for gap in gaps], values, x)


def _wraps(x: Tensor, n_bits: int) -> Pair:
    gaps, values = _raw(x)
    return _pair([gap % 2**n_bits for gap in gaps], values, x)


def _filler_stands_for_gap_only(x: Tensor, n_bits: int) -> Pair:
    gaps, values, most = [], [], 2**n_bits - 1
    for gap, value in zip(*_raw(x), strict=True):
        while gap > most:
            gaps.append(most)
            values.append(0.0)
            gap -= most
        gaps.append(gap)
        values.append(value)
    return _pair(gaps, values, x)


def _filler_behind(x: Tensor, n_bits: int) -> Pair:
    gaps, values, span = [], [], 2**n_bits
    for gap, value in zip(*_raw(x), strict=True):
        gaps += [gap % span] + [span - 1] * (gap // span)
        values += [value] + [0.0] * (gap // span)
    return _pair(gaps, values, x)


def _values_without_fillers(x: Tensor, n_bits: int) -> Pair:
    gaps, values = _walk(x, n_bits)
    return gaps, values[values != 0]


def _first_missing(x: Tensor, n_bits: int) -> Pair:
    gaps, values = _walk(x, n_bits)
    return gaps[1:], values[1:]


RELATIVE_POSITIONS = (
    Mistake("absolute", "These are the places themselves. Told is how many zeros lie between one value and the next.",
            _absolute),
    Mistake("no_fillers", "A gap may be at most 2^n_bits - 1, or it does not fit into n_bits: longer ones need "
            "fillers.",
            _no_filler),
    Mistake("saturates", "You cut long gaps off at the largest one. All values after it come back in wrong places.",
            _saturates),
    Mistake("wraps", "You keep a long gap's lowest bits and tell nobody about the rest: it needs fillers.", _wraps),
    Mistake("differences", "You count steps from one value to the next. Told is the number of zeros between: "
            "one less.",
            lambda x, n_bits: _walk(x, n_bits, plus=1)),
    Mistake("filler_one_short", "A filler stands for its gap and for itself: 2^n_bits places. You take one less off.",
            _filler_stands_for_gap_only),
    Mistake("filler_too_early", "A gap of just 2^n_bits - 1 zeros still fits and needs no filler before it.",
            lambda x, n_bits: _walk(x, n_bits, most=2**n_bits - 2)),
    Mistake("filler_too_late", "You let gaps grow to 2^n_bits. In n_bits the largest number is one less.",
            lambda x, n_bits: _walk(x, n_bits, most=2**n_bits)),
    Mistake("filler_behind", "Your fillers come behind the value whose gap they shorten. They come before it.",
            _filler_behind),
    Mistake("filler_without_gap", "Your fillers have a gap of 0. Each must stand for as many zeros as it can: "
            "2^n_bits - 1.",
            lambda x, n_bits: _walk(x, n_bits, filler=0)),
    Mistake("one_filler", "You put in one filler at most. A very long gap needs several.",
            lambda x, n_bits: _walk(x, n_bits, once=True)),
    Mistake("fillers_at_the_end", "You put fillers for the zeros behind the last value. The tensor's size tells "
            "these.",
            lambda x, n_bits: _walk(x, n_bits, trailing=True)),
    Mistake("values_without_fillers", "Your gaps have fillers and your values have none: each gap needs its "
            "value, 0.0 for a filler.",
            _values_without_fillers),
    Mistake("first_missing", "The first value is missing: its gap is the number of zeros before it, from the start.",
            _first_missing),
)  # fmt: skip


def from_probes() -> list[Args]:
    """Gaps with and without fillers, and zeros at the end."""
    return [(torch.tensor([2, 0, 1]), torch.tensor([3.0, 4.0, 5.0]), 8),
            (torch.tensor([3, 3, 1]), torch.tensor([0.0, 0.0, 7.0]), 10),
            (torch.tensor([0, 2]), torch.tensor([1.0, 6.0]), 4),
            (torch.tensor([4]), torch.tensor([2.0]), 9)]  # fmt: skip


def _placed(places: Tensor, values: Tensor, n: int) -> Tensor:
    x = torch.zeros(n, dtype=values.dtype)
    x[places] = values
    return x


def _inserted(gaps: Tensor, values: Tensor, *, fillers: bool = True) -> list[float]:
    out: list[float] = []
    for gap, value in zip(gaps.tolist(), values.tolist(), strict=True):
        out += [0.0] * gap
        if value or fillers:
            out.append(value)
    return out


def _dropped_fillers(gaps: Tensor, values: Tensor, n: int) -> Tensor:
    out = _inserted(gaps, values, fillers=False)
    return torch.tensor(out + [0.0] * (n - len(out)))


def _gap_behind(gaps: Tensor, values: Tensor, n: int) -> Tensor:
    return _placed(torch.cat([torch.tensor([0]), (gaps + 1).cumsum(0)[:-1]]), values, n)


FROM_RELATIVE_POSITIONS = (
    Mistake("gaps_as_places", "You take the gaps for places. A place is the sum of all gaps and values before it.",
            lambda gaps, values, n: _placed(gaps, values, n)),
    Mistake("value_takes_no_place", "You add up the gaps alone. Each value takes a place of its own: one more each.",
            lambda gaps, values, n: _placed(gaps.cumsum(0), values, n)),
    Mistake("one_too_far", "Everything is one place too far: with no zero before it, the first value stands at 0.",
            lambda gaps, values, n: _placed((gaps + 1).cumsum(0), values, n)),
    Mistake("too_short", "Your tensor ends with the last value. It has n places; the rest are zeros.",
            lambda gaps, values, n: torch.tensor(_inserted(gaps, values))),
    Mistake("fillers_dropped", "You leave out values of 0.0. A filler takes a place like any other value.",
            _dropped_fillers),
    Mistake("gap_behind", "You put the gap behind its value. It tells the zeros before.", _gap_behind),
    Mistake("from_the_end", "You fill the tensor from its end. The first gap is counted from the start.",
            lambda gaps, values, n: _placed((gaps + 1).cumsum(0) - 1, values, n).flip(0)),
    Mistake("ones", "You mark the places with 1. The values belong there.",
            lambda gaps, values, n: _placed((gaps + 1).cumsum(0) - 1, torch.ones_like(values), n)),
    Mistake("mask", "You return a mask of the places. The values belong there.",
            lambda gaps, values, n: _placed((gaps + 1).cumsum(0) - 1, values, n) != 0),
)  # fmt: skip
