"""What a person sees while a class is graded, and the table at the end."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from autograde.marks import ABSENT, ClassMarks, Column, StudentMarks, number

__all__ = ["Step", "marks_table", "quiet", "watch"]

Step = Callable[[int, int, str], None]


@contextlib.contextmanager
def watch(title: str, total: int | None = None) -> Iterator[Step]:
    """A progress bar on stderr where a person watches, and a line a step elsewhere.

    Args:   total: how many steps, if known beforehand.
    Yields: a function of the step's number, the number of steps, and what was done.
    """
    if not sys.stderr.isatty():
        yield lambda done, steps, text: print(f"{title} {done}/{steps}: {text}", file=sys.stderr, flush=True)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("{task.fields[last]}"))  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total, last="")

        def step(done: int, steps: int, text: str) -> None:
            progress.update(task, completed=done, total=steps, last=text)

        yield step


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without warnings from nbgrader's own use of its libraries, about which nobody here can do anything."""
    with warnings.catch_warnings():
        # nbgrader's api.py under SQLAlchemy 2.1
        warnings.filterwarnings("ignore", message=r"Object of type <Submitted")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield


def _short(student: StudentMarks, columns: Sequence[Column]) -> str:
    """Points; `?` waits for a person, `–` was not attempted, `!` was stopped, nothing was not handed in."""
    marks = [student.marks[column.key] for column in columns if column.key in student.marks]
    if all(mark.status == ABSENT for mark in marks):
        return ""
    waits = "?" if any(mark.status == "waiting" for mark in marks) else ""
    if all(mark.status in ("not attempted", "waiting") for mark in marks):
        return waits or "–"
    return f"{number(student.points(columns))}{'!' if any(mark.stopped for mark in marks) else ''}{waits}"


def marks_table(marks: ClassMarks, extra: Mapping[str, str] | None = None, extra_title: str = "") -> str:
    """The marks as text for a terminal of 80 columns or more, with a legend for the numbered exercises.

    An assignment of several notebooks has a column for each of them, and none for its exercises.

    Args: extra: one more column, by student.
    """
    shown: dict[str, tuple[Column, ...]] = {column.title: (column,) for column in marks.columns}
    if len(marks.notebooks) > 1:
        shown = marks.notebooks
    legend = [f"{place} {title}" for place, title in enumerate(shown, start=1)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("student", no_wrap=True, overflow="ellipsis", max_width=26)
    for place, columns in enumerate(shown.values(), start=1):
        table.add_column(f"{place}\n/{number(sum(each.max_points for each in columns))}", justify="right")
    table.add_column(f"total\n/{number(marks.max_points)}", justify="right")
    if extra is not None:
        table.add_column(extra_title, justify="right")
    table.add_column("look at", overflow="fold")
    for student in marks.students:
        cells = [_short(student, columns) for columns in shown.values()]
        added = [extra.get(student.student, "")] if extra is not None else []
        table.add_row(_plain(student.student), *cells, number(student.total), *added, _plain(_look(student)))
    console = Console(width=100, color_system=None, markup=False, highlight=False)
    with console.capture() as captured:
        console.print(table)
    text = "\n".join(line.rstrip() for line in captured.get().splitlines())
    return f"{text}\n\n{_wrapped(legend)}\n– not attempted, ? waits for a person, ! stopped or not judged"


def _look(student: StudentMarks) -> str:
    kinds = dict.fromkeys(item.kind for item in student.needs_human)
    return ", ".join(kinds)


def _plain(text: str) -> str:
    """The text without anything that a terminal would take for a command."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _wrapped(parts: list[str], width: int = 98) -> str:
    lines = [""]
    for part in parts:
        if lines[-1] and len(lines[-1]) + len(part) + 3 > width:
            lines.append("")
        lines[-1] += f"{'   ' if lines[-1] else ''}{part}"
    return "\n".join(lines)
