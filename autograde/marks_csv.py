"""Marks as CSV files: one row a student for people, and nbgrader's own export."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from nbgrader.api import Gradebook
from nbgrader.coursedir import CourseDirectory
from nbgrader.plugins import CsvExportPlugin
from traitlets.config import Config

from autograde.layout import atomic_write
from autograde.marks import ClassMarks, number

__all__ = ["marks_csv", "safe_text", "write_marks", "write_nbgrader_export"]

FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # the wide ones too: some programs narrow them


def marks_csv(marks: ClassMarks) -> str:
    """The table of marks: student, a column an exercise, late penalty, total, maximum, and what needs a person.

    An assignment of several notebooks has a column for the points of each.

    A mark that a person has yet to give is left empty. Text that a spreadsheet would take for a formula gets a leading
    apostrophe: names of students and files come from outside.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    titles = [safe_text(column.title) for column in marks.columns]
    several = marks.notebooks if len(marks.notebooks) > 1 else {}
    sums = [safe_text(f"{name} (sum)") for name in several]
    writer.writerow([
        "student",
        *titles,
        *sums,
        "late_penalty",
        "total",
        "max",
        "needs_human",
        "needs_human_why",
    ])
    for student in marks.students:
        cells = [student.marks.get(column.key) for column in marks.columns]
        points = [number(mark.points) if mark is not None and mark.counts else "" for mark in cells]
        why = "; ".join(dict.fromkeys(f"{item.kind} {item.about}".strip() for item in student.needs_human))
        totals = [number(student.late_penalty), number(student.total), number(marks.max_points)]
        writer.writerow([
            safe_text(student.student),
            *points,
            *(number(student.points(columns)) for columns in several.values()),
            *totals,
            "yes" if student.needs_human else "no",
            safe_text(why),
        ])
    return text.getvalue()


def safe_text(text: str) -> str:
    """Text from outside as a CSV cell that no spreadsheet takes for a formula, on one line.

    >>> safe_text("=1+2"), safe_text("Ada"), safe_text("a\\nb")
    ("'=1+2", 'Ada', 'a b')
    """
    line = "".join(each if each.isprintable() else " " for each in text)
    return f"'{line}" if line.lstrip().startswith(FORMULA) else line


def write_marks(marks: ClassMarks, path: Path) -> None:
    """Writes `marks_csv` to a file, whole or not at all."""
    atomic_write(path, marks_csv(marks))


def write_nbgrader_export(assignment: str, path: Path, config: Config) -> None:
    """What `nbgrader export --assignment` writes, to this file."""
    where = CourseDirectory(config=config)
    path.parent.mkdir(parents=True, exist_ok=True)
    plugin = CsvExportPlugin(config=config)
    plugin.to, plugin.assignment = str(path), [assignment]
    with Gradebook(where.db_url, where.course_id) as gradebook:
        plugin.export(gradebook)
