"""The marks of an assignment as a report or a table needs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from autograde.evidence import STOPS, Mistake

__all__ = [
    "ABSENT",
    "STOPPED",
    "Attention",
    "ClassMarks",
    "Column",
    "Mark",
    "StudentMarks",
    "Summary",
    "number",
]

STOPPED = tuple(STOPS.values())
ABSENT = "not handed in"


@dataclass(frozen=True)
class Column:
    """One graded cell of an assignment. `by_hand` says that a person gives its points."""

    notebook: str
    cell: str
    title: str
    max_points: float
    by_hand: bool

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from every other column."""
        return self.notebook, self.cell


@dataclass(frozen=True)
class Mark:
    """One student's points in one column.

    Attributes: points: what counts now. auto, manual: what the checks and a person gave, if they did.
                status: "passed", "failed", "raised", "not attempted", "not handed in", a kind of stop such as
                "time-out", "waiting" (for a person), "by hand", or "not judged". mistakes, failed: see `Evidence`.
    """

    points: float
    auto: float | None
    manual: float | None
    status: str
    mistakes: tuple[Mistake, ...] = ()
    failed: tuple[str, ...] = ()

    @property
    def stopped(self) -> bool:
        """Whether a cell did not end by itself, or nothing came of it."""
        return self.status in STOPPED or self.status == "not judged"

    @property
    def counts(self) -> bool:
        """Whether the points are more than a stand-in for ones that a person has yet to give."""
        return self.status not in ("waiting", "not judged")


@dataclass(frozen=True)
class Attention:
    """Something about one submission that a person should decide (`decide`) or may want to know."""

    student: str
    kind: str
    about: str
    reason: str
    where: str
    decide: bool


@dataclass(frozen=True)
class StudentMarks:
    """One submission. `feedback` maps a notebook to its feedback page, relative to the course, where there is one."""

    student: str
    marks: dict[tuple[str, str], Mark]
    late_penalty: float
    attention: tuple[Attention, ...]
    feedback: dict[str, str] = field(default_factory=dict)

    def points(self, columns: Sequence[Column]) -> float:
        """The points in these columns together."""
        return sum(self.marks[column.key].points for column in columns if column.key in self.marks)

    @property
    def total(self) -> float:
        """All points, less the penalty for being late; never below 0."""
        return max(0.0, sum(mark.points for mark in self.marks.values()) - self.late_penalty)

    @property
    def needs_human(self) -> tuple[Attention, ...]:
        """What a person should decide."""
        return tuple(item for item in self.attention if item.decide)


@dataclass(frozen=True)
class Summary:
    """A known mistake, or a property that failed without one, and who it was seen with."""

    column: Column
    mistake: Mistake | None
    text: str
    students: tuple[str, ...]


@dataclass(frozen=True)
class ClassMarks:
    """An assignment's marks. `absent` are students in the gradebook who handed nothing in."""

    assignment: str
    columns: tuple[Column, ...]
    students: tuple[StudentMarks, ...]
    absent: tuple[str, ...] = ()

    @property
    def max_points(self) -> float:
        """The most one can get."""
        return sum(column.max_points for column in self.columns)

    @property
    def notebooks(self) -> dict[str, tuple[Column, ...]]:
        """The columns of each notebook."""
        names = dict.fromkeys(column.notebook for column in self.columns)
        return {name: tuple(each for each in self.columns if each.notebook == name) for name in names}

    @property
    def attention(self) -> tuple[Attention, ...]:
        """All students' entries, decisions first."""
        every = [item for student in self.students for item in student.attention]
        return tuple(sorted(every, key=lambda item: not item.decide))

    def mistakes(self) -> list[Summary]:
        """The known mistakes that were seen, the most frequent first."""
        return self._seen(lambda mark: [(mistake, mistake.message) for mistake in mark.mistakes])

    def unexplained(self) -> list[Summary]:
        """The properties that failed where no known mistake was recognised, the most frequent first."""

        def properties(mark: Mark) -> list[tuple[None, str]]:
            wrong = mark.status in ("failed", "raised") and not mark.mistakes
            return [(None, text) for text in mark.failed] if wrong else []

        return self._seen(properties)

    def _seen(self, what: Callable[[Mark], Sequence[tuple[Mistake | None, str]]]) -> list[Summary]:
        seen: dict[tuple[Column, Mistake | None, str], list[str]] = {}
        for column in self.columns:
            for student in self.students:
                for mistake, text in what(student.marks[column.key]) if column.key in student.marks else []:
                    seen.setdefault((column, mistake, text), []).append(student.student)
        found = [Summary(*key, tuple(dict.fromkeys(students))) for key, students in seen.items()]
        return sorted(found, key=lambda summary: -len(summary.students))


def number(points: float) -> str:
    """Points as people write them: 3, 2.5, 1.33."""
    return f"{points:.2f}".rstrip("0").rstrip(".")
