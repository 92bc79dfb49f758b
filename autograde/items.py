"""Item analysis: how hard each exercise was, and how well it tells stronger students from weaker ones."""

from __future__ import annotations

import itertools
import math
import statistics
from dataclasses import dataclass

from autograde.marks import ABSENT, ClassMarks, Column

__all__ = ["FEWEST", "Item", "analyse", "point_biserial", "totals_histogram"]

FEWEST = 8  # with fewer students a correlation says nothing


@dataclass(frozen=True)
class Item:
    """One column's statistics, over the marks that count.

    Attributes: n: how many marks. mean: points. full: the share with full marks. difficulty: 1 - mean / maximum, from
                0, everybody had all points, to 1. discrimination: the point-biserial correlation of having full marks
                with the points in all other columns; None with fewer than 8 marks, or where everybody had the same.
    """

    column: Column
    n: int
    mean: float
    full: float
    difficulty: float
    discrimination: float | None


def analyse(marks: ClassMarks) -> list[Item]:
    """The statistics of each column, in order; left out is one without a mark, or with one that waits for a person.

    A lesson that somebody did not hand in says nothing about its exercises, so it is not counted.
    Of a written question only the blank answers would be marked before a person has been there: all zeros.
    """
    return [
        _item(marks, column)
        for column in marks.columns
        if _scored(marks, column) and not _waits(marks, column)
    ]


def _waits(marks: ClassMarks, column: Column) -> bool:
    return any(
        student.marks[column.key].status == "waiting"
        for student in marks.students
        if column.key in student.marks
    )


def _scored(marks: ClassMarks, column: Column) -> list[tuple[float, float]]:
    """Each student's points in a column, and in all others."""
    found = []
    for student in marks.students:
        mark = student.marks.get(column.key)
        if mark is not None and mark.counts and mark.status != ABSENT:
            rest = sum(other.points for key, other in student.marks.items() if key != column.key)
            found.append((mark.points, rest))
    return found


def _item(marks: ClassMarks, column: Column) -> Item:
    scored = _scored(marks, column)
    points, rest = [pair[0] for pair in scored], [pair[1] for pair in scored]
    full = [value >= column.max_points - 1e-9 for value in points]
    mean = statistics.fmean(points)
    return Item(
        column,
        len(scored),
        mean,
        sum(full) / len(full),
        1 - mean / column.max_points if column.max_points else 0.0,
        point_biserial(full, rest) if len(scored) >= FEWEST else None,
    )


def point_biserial(full: list[bool], rest: list[float]) -> float | None:
    """Pearson's correlation of a yes or no with a number; None where one of the two never varies.

    >>> point_biserial([True, True, False, False], [3.0, 3.0, 1.0, 1.0])
    1.0
    >>> point_biserial([True, True], [1.0, 2.0]) is None
    True
    """
    if len(set(full)) < 2 or len(set(rest)) < 2:
        return None
    return round(statistics.correlation([float(value) for value in full], rest), 6)


def totals_histogram(marks: ClassMarks, most_bins: int = 12) -> list[tuple[float, float, int]]:
    """(from, to, how many) for bins of a round width over 0 to the maximum; the last one includes the maximum."""
    width = _round_width(marks.max_points, most_bins)
    n_bins = max(1, math.ceil(marks.max_points / width - 1e-9))
    counts = [0] * n_bins
    for student in marks.students:
        counts[min(n_bins - 1, int(student.total / width + 1e-9))] += 1
    return [
        (index * width, min((index + 1) * width, marks.max_points or width), count)
        for index, count in enumerate(counts)
    ]


def _round_width(maximum: float, most_bins: int) -> float:
    """The smallest of 0.5, 1, 2, 5, 10, 20, 50, … that needs no more bins than allowed."""
    width = 0.5
    for factor in itertools.cycle((2.0, 2.0, 2.5)):
        if maximum <= width * most_bins:
            break
        width *= factor
    return width
