"""Known mistakes in schedules: how sparse, when, and how many weights that is.

Each `wrong` makes one mistake and no other; a check recognises it by equal results on every probe.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from coursekit.exercises.spec import Mistake

__all__ = [
    "CUBIC_SPARSITY",
    "PRUNING_STEPS",
    "WEIGHTS_TO_PRUNE",
    "count_probes",
    "cubic_probes",
    "steps_probes",
]

Args = tuple[Any, ...]


def cubic_probes() -> list[Args]:
    """Before, at, between and after both ends, with and without an initial sparsity."""
    return [
        *((step, 0.2, 0.9, 100, 500) for step in (0, 50, 100, 180, 300, 460, 500, 501, 700)),
        *((step, 0.0, 0.8, 0, 40) for step in (0, 10, 39, 40)),
    ]


def _clamped(step: int, begin: int, end: int) -> float:
    return min(max((step - begin) / (end - begin), 0.0), 1.0)


def _curve(formula: Callable[[float, float, float], float]) -> Callable[..., float]:
    def wrong(step: int, initial: float, final: float, begin: int, end: int) -> float:
        return formula(_clamped(step, begin, end), initial, final)

    return wrong


def _of_progress(progress: Callable[[int, int, int], float]) -> Callable[..., float]:
    def wrong(step: int, initial: float, final: float, begin: int, end: int) -> float:
        return final + (initial - final) * (1.0 - progress(step, begin, end)) ** 3

    return wrong


def _zero_before(step: int, initial: float, final: float, begin: int, end: int) -> float:
    return 0.0 if step < begin else final + (initial - final) * (1.0 - _clamped(step, begin, end)) ** 3


CUBIC_SPARSITY = (
    Mistake("initial_only_in_max", "You take the curve from 0 to final and lift it to initial where it lies below. So "
            "the schedule stands still at first. In the formula, initial is where the curve itself begins.",
            _curve(lambda p, s_i, s_f: max(s_i, s_f * (1 - (1 - p) ** 3)))),
    Mistake("forgets_initial", "Your curve begins at 0. At step begin it should be initial.",
            _curve(lambda p, s_i, s_f: s_f * (1 - (1 - p) ** 3))),
    Mistake("adds_initial", "You add initial to a curve that already reaches final: the end is initial too high.",
            _curve(lambda p, s_i, s_f: s_i + s_f * (1 - (1 - p) ** 3))),
    Mistake("linear", "This is the straight line. The cubic one multiplies the difference by (1 - progress)³.",
            _curve(lambda p, s_i, s_f: s_i + (s_f - s_i) * p)),
    Mistake("squared", "The power is 2; it should be 3.", _curve(lambda p, s_i, s_f: s_f + (s_i - s_f) * (1 - p) ** 2)),
    Mistake("slow_first", "You cube the progress, so almost everything is pruned at the end. It is what is LEFT of the "
            "way, 1 - progress, that is cubed.", _curve(lambda p, s_i, s_f: s_i + (s_f - s_i) * p**3)),
    Mistake("ends_swapped", "Your curve runs from final down to initial.",
            _curve(lambda p, s_i, s_f: s_i + (s_f - s_i) * (1 - p) ** 3)),
    Mistake("runs_on_after_end", "After end your curve runs on: (1 - progress) becomes negative, and so does its cube. "
            "From end on the result is final.", _of_progress(lambda t, b, e: max((t - b) / (e - b), 0.0))),
    Mistake("runs_on_before_begin", "Before begin your curve runs on downwards, below initial. Progress is at least 0.",
            _of_progress(lambda t, b, e: min((t - b) / (e - b), 1.0))),
    Mistake("zero_before_begin", "Before begin you return 0. Return initial there: this function is the formula; "
            "whether to prune yet is not its business.", _zero_before),
    Mistake("counts_from_zero", "Your progress is step / end: it must be 0 at step begin.",
            _of_progress(lambda t, b, e: min(max(t / e, 0.0), 1.0))),
    Mistake("length_without_begin", "Your progress divides by end - begin, but does not subtract begin from step.",
            _of_progress(lambda t, b, e: min(max(t / (e - b), 0.0), 1.0))),
    Mistake("one_step_late", "At step end there is still a little missing: the way from begin to end has end - begin "
            "steps, not one more.", _of_progress(lambda t, b, e: min(max((t - b) / (e - b + 1), 0.0), 1.0))),
    Mistake("per_cent", "Your result is in per cent. A sparsity is a share, 0 to 1.",
            _curve(lambda p, s_i, s_f: 100 * (s_f + (s_i - s_f) * (1 - p) ** 3))),
)  # fmt: skip


def steps_probes() -> list[Args]:
    """Intervals that fit, that do not, and that are longer than the whole."""
    return [(0, 100, 25), (0, 100, 30), (10, 50, 15), (20, 60, 10), (5, 20, 700), (3, 9, 1), (7, 11, 4)]


def _unique(steps: list[int]) -> list[int]:
    return sorted(set(steps))


PRUNING_STEPS = (
    Mistake("misses_the_end", "The end is not among your steps, so the last pruning stops short of the target. "
            "range(begin, end, every) leaves end out.", lambda b, e, every: list(range(b, e, every))),
    Mistake("end_only_if_it_fits", "The end is there only if the interval divides the length. It belongs to the steps "
            "in any case.", lambda b, e, every: list(range(b, e + 1, every))),
    Mistake("end_twice", "If the interval divides the length, the end is in your list twice.",
            lambda b, e, every: [*range(b, e + 1, every), e]),
    Mistake("multiples_of_every", "You prune at the multiples of every, wherever begin is. Count from begin on.",
            lambda b, e, every: _unique([*(t for t in range(b, e + 1) if t % every == 0), e])),
    Mistake("skips_begin", "The first pruning is at begin itself; yours comes one interval later.",
            lambda b, e, every: [*range(b + every, e, every), e]),
    Mistake("stretches_the_last", "You replace the last step by the end, so the last interval is longer than every.",
            lambda b, e, every: [*list(range(b, e + 1, every))[:-1], e]),
    Mistake("runs_past_the_end", "Your last step lies after end.",
            lambda b, e, every: list(range(b, e + every, every))),
    Mistake("every_step", "You prune at every single step from begin to end.",
            lambda b, e, every: list(range(b, e + 1))),
    Mistake("counts_the_prunings", "You return how many prunings there are, not when they are.",
            lambda b, e, every: len([*range(b, e, every), e])),
    Mistake("both_ends_only", "Only the two ends: what about the steps between?", lambda b, e, every: [b, e]),
)  # fmt: skip


def count_probes() -> list[Args]:
    """Nothing pruned yet, half, more than the target, everything; no share of them falls on a half."""
    return [(1000, 0, 0.9), (1000, 500, 0.9), (1000, 500, 0.3), (1000, 896, 0.9), (337, 100, 0.5012), (200, 200, 1.0),
            (777, 333, 0.711), (10, 4, 0.4), (12, 3, 0.49)]  # fmt: skip


WEIGHTS_TO_PRUNE = (
    Mistake("share_of_the_survivors", "You take the target of the weights that are left. It is a share of ALL weights: "
            "with 900 of 1,000 gone, 90 % of the last 100 would be 90 too many.",
            lambda n, gone, s: round(s * (n - gone))),
    Mistake("forgets_the_pruned", "You count those that are gone already once more: they help to meet the target.",
            lambda n, gone, s: round(s * n)),
    Mistake("difference_of_shares", "You take the difference of the two shares of the survivors only. Both are shares "
            "of all weights.", lambda n, gone, s: max(round((s - gone / n) * (n - gone)), 0)),
    Mistake("negative", "More may be gone already than the target asks for. Then nothing is to be done: 0, not a "
            "negative number.", lambda n, gone, s: round(s * n) - gone),
    Mistake("rounds_down", "You cut the fraction off: the nearest whole number is round.",
            lambda n, gone, s: max(int(s * n) - gone, 0)),
    Mistake("rounds_up", "You round up: the nearest whole number is round.",
            lambda n, gone, s: max(math.ceil(s * n) - gone, 0)),
    Mistake("counts_what_stays", "You count the weights that stay. How many go?",
            lambda n, gone, s: n - max(round(s * n), gone)),
    Mistake("counts_all_pruned", "You count all that is zero after the step, not what goes now.",
            lambda n, gone, s: max(round(s * n), gone)),
    Mistake("returns_float", "Your result is not a whole number: an int, please.",
            lambda n, gone, s: max(s * n - gone, 0.0)),
    Mistake("at_least_one", "You always prune at least one. If the target is met, 0 are to go.",
            lambda n, gone, s: max(round(s * n) - gone, 1)),
)  # fmt: skip
