"""Schedules: how sparse the network should be at each step of the training that prunes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["Schedule", "cubic_sparsity", "linear_sparsity", "pruning_steps", "relative_compounding"]

Kind = Literal["one-shot", "linear", "cubic"]


def _progress(step: int, begin: int, end: int) -> float:
    """How much of begin..end is over at `step`, 0 to 1; all of it from begin on if they are the same step.

    Raises: ValueError if end lies before begin.
    """
    if end < begin:
        raise ValueError(f"the schedule must not end before it begins, got begin={begin} and end={end}")
    if begin == end:
        return float(step >= end)
    return min(max((step - begin) / (end - begin), 0.0), 1.0)


def linear_sparsity(step: int, initial: float, final: float, begin: int, end: int) -> float:
    """The sparsity at `step` on a straight line from `initial` at `begin` to `final` at `end`.

    Args:    step: any int; before begin the result is `initial`, from end on exactly `final`.
             initial, final: shares of all weights that are zero, 0 to 1. begin, end: steps.
    Raises:  ValueError if end lies before begin.
    Taught in: lesson 07.

    >>> [round(linear_sparsity(t, 0.0, 0.9, 0, 4), 3) for t in range(6)]
    [0.0, 0.225, 0.45, 0.675, 0.9, 0.9]
    """
    progress = _progress(step, begin, end)
    return final if progress == 1.0 else initial + (final - initial) * progress


def cubic_sparsity(step: int, initial: float, final: float, begin: int, end: int) -> float:
    """The sparsity at `step` of the cubic schedule: fast while there is much to spare, slow at the end.

    Args:    step: any int; before begin the result is `initial`, from end on exactly `final`.
             initial, final: shares of all weights that are zero, 0 to 1. begin, end: steps.
    Returns: final + (initial - final) (1 - progress)³, a share of ALL weights, not of those left.
    Raises:  ValueError if end lies before begin.
    Source:  Zhu and Gupta 2017, arXiv:1710.01878, equation 1. Taught in lesson 07.

    >>> [round(cubic_sparsity(t, 0.5, 0.9, 0, 4), 3) for t in range(6)]
    [0.5, 0.731, 0.85, 0.894, 0.9, 0.9]
    """
    left = 1.0 - _progress(step, begin, end)
    return final + (initial - final) * left**3


def pruning_steps(begin: int, end: int, every: int) -> list[int]:
    """The steps at which a schedule prunes: `begin`, every so many steps after it, and `end` in any case.

    Args:    begin, end: the first and the last of them, 0 <= begin <= end. every: 1 or more; may exceed end - begin.
    Returns: in order, each once. Without the end, the schedule would stop short of its target.
    Raises:  ValueError if a number is out of range.
    Taught in: lesson 07.

    >>> pruning_steps(100, 1000, 400)
    [100, 500, 900, 1000]
    """
    if not 0 <= begin <= end or every < 1:
        raise ValueError(f"needs 0 <= begin <= end and every of at least 1, got {begin}, {end}, {every}")
    return [*range(begin, end, every), end]


def relative_compounding(targets: list[float]) -> list[float]:
    """The sparsity really reached if each target is, by mistake, taken of the weights that are left.

    Args:    targets: the sparsity asked for at each step, 0 to 1.
    Returns: 1 - Π(1 - target) up to each step: for 90 % in nine cubic steps, 99.9998 %.
    Taught in: lesson 07.

    >>> [round(s, 3) for s in relative_compounding([0.1, 0.2, 0.3])]
    [0.1, 0.28, 0.496]
    """
    left, reached = 1.0, []
    for target in targets:
        left *= 1.0 - target
        reached.append(1.0 - left)
    return reached


@dataclass(frozen=True)
class Schedule:
    """When to prune, and how far.

    Attributes: kind: "one-shot" (all at `begin`), "linear" or "cubic".
                final: the sparsity at the end, 0 up to but not including 1: a share of all prunable weights.
                initial: the sparsity at `begin` of the other two, so their first pruning.
                begin, end: the first and the last step at which something is pruned. every: steps between two.
    Raises:     ValueError if a number is out of range, or initial is above final.
    Source:     Zhu and Gupta 2017, arXiv:1710.01878, section 3. Taught in lesson 07.

    >>> schedule = Schedule("cubic", final=0.9, begin=100, end=1000, every=400)
    >>> [(step, round(schedule.sparsity_at(step), 3)) for step in schedule.steps()]
    [(100, 0.0), (500, 0.746), (900, 0.899), (1000, 0.9)]
    """

    kind: Kind
    final: float
    initial: float = 0.0
    begin: int = 0
    end: int = 0
    every: int = 1

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        if not 0.0 <= self.initial <= self.final < 1.0:
            raise ValueError(f"needs 0 <= initial <= final < 1, got {self.initial} and {self.final}")
        if not 0 <= self.begin <= self.end and self.kind != "one-shot":
            raise ValueError(f"needs 0 <= begin <= end, got {self.begin} and {self.end}")
        if self.begin < 0 or self.every < 1:
            raise ValueError(f"begin must be at least 0 and every at least 1, got {self.begin}, {self.every}")

    def sparsity_at(self, step: int) -> float:
        """The share of all prunable weights that should be zero at `step`; 0 before the first pruning."""
        if step < self.begin:
            return 0.0
        if self.kind == "one-shot":
            return self.final
        curve = linear_sparsity if self.kind == "linear" else cubic_sparsity
        return curve(step, self.initial, self.final, self.begin, self.end)

    def is_due(self, step: int) -> bool:
        """Whether to prune at `step`: every so many steps from begin on, and in any case at the end."""
        return step in self.steps()

    def steps(self) -> list[int]:
        """All steps at which something is pruned, in order; the last one reaches `final`."""
        if self.kind == "one-shot":
            return [self.begin]
        return pruning_steps(self.begin, self.end, self.every)
