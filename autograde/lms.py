"""Marks in the layouts that Canvas and Moodle import: nbgrader export plugins, and `python -m autograde export`.

    nbgrader export --exporter=autograde.lms.CanvasExporter --to=canvas.csv
    python -m autograde export week1-quantization --layout moodle

Canvas (gradebook_importer.rb) wants the columns Student, ID, SIS User ID, SIS Login ID, Section first, and a row
"Points Possible". It finds a student by ID, else by the SIS ids, else by name, and an assignment by the number in
brackets at the end of its column's name, else by the name. Moodle asks at import which column means what, and by which
it finds a student: choose "ID number" or "Email address".
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbgrader.api import Gradebook, MissingEntry
from nbgrader.coursedir import CourseDirectory
from nbgrader.plugins import ExportPlugin
from traitlets import Bool, Dict, Enum

from autograde.layout import Course, CourseError, atomic_write
from autograde.marks import number
from autograde.marks_csv import safe_text

__all__ = ["CanvasExporter", "LmsExporter", "MoodleExporter", "add_parser"]


class LmsExporter(ExportPlugin):
    """What both layouts share: whose marks, of what, and when a cell stays empty, which changes nothing on import."""

    columns = Dict(help="By assignment, the name of its column in the LMS, such as 'Week 1 (4711)'.").tag(
        config=True
    )
    waiting = Bool(False, help="Whether to export totals to which a person has yet to add something.").tag(
        config=True
    )
    missing = Enum(("blank", "zero"), "blank", help="What a student gets who handed nothing in.").tag(
        config=True
    )

    def export(self, gradebook: Gradebook) -> None:
        """Writes the file `to`, whole or not at all."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\r\n").writerows(self.rows(gradebook))
        path = Path(self.to or "grades.csv")
        self.log.info("Exporting marks to %s", path)
        atomic_write(path, text.getvalue())

    def rows(self, gradebook: Gradebook) -> Iterator[list[str]]:
        """The file's rows, header first."""
        raise NotImplementedError

    def chosen(self, gradebook: Gradebook) -> tuple[list[Any], list[Any]]:
        """The assignments and the students to export.

        Raises: CourseError for a name that the gradebook does not know.
        """
        assignments, students = list(gradebook.assignments), list(gradebook.students)
        wanted, names = set(map(str, self.assignment)), set(map(str, self.student))
        unknown = (wanted - {each.name for each in assignments}) | (names - {each.id for each in students})
        if unknown:
            raise CourseError(f"the gradebook does not know {', '.join(sorted(unknown))}")
        return (
            [each for each in assignments if not wanted or each.name in wanted],
            [each for each in students if not names or each.id in names],
        )

    def title(self, assignment: Any, otherwise: str) -> str:
        """The name of an assignment's column."""
        return safe_text(str(self.columns.get(assignment.name, otherwise)))

    def mark(self, gradebook: Gradebook, assignment: Any, student: Any) -> str:
        """A student's points, late penalty taken off; empty if there are none yet."""
        try:
            submission = gradebook.find_submission(assignment.name, student.id)
        except MissingEntry:
            return "0" if self.missing == "zero" else ""
        if submission.needs_manual_grade and not self.waiting:
            self.log.warning(
                "%s, %s: a person has yet to give points; left empty", student.id, assignment.name
            )
            return ""
        return number(max(0.0, submission.score - (submission.late_submission_penalty or 0.0)))


class CanvasExporter(LmsExporter):
    """The layout of Canvas's gradebook import."""

    def rows(self, gradebook: Gradebook) -> Iterator[list[str]]:
        """Header, points possible, a row a student."""
        assignments, students = self.chosen(gradebook)
        titles = [self.title(each, each.name) for each in assignments]
        yield ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", *titles]
        yield ["    Points Possible", "", "", "", "", *(number(each.max_score) for each in assignments)]
        for student in students:
            marks = [self.mark(gradebook, each, student) for each in assignments]
            yield [
                _canvas_name(student),
                *map(safe_text, (student.lms_user_id or "", "", student.id, "")),
                *marks,
            ]


def _canvas_name(student: Any) -> str:
    """Last name, first name; never what Canvas would take for its row of maxima."""
    parts = (part for part in (student.last_name, student.first_name) if part)
    name = safe_text(", ".join(parts) or student.id)
    return name.replace("Points Possible", "Points-Possible")


class MoodleExporter(LmsExporter):
    """The layout of Moodle's plain text export, which its CSV import reads."""

    def rows(self, gradebook: Gradebook) -> Iterator[list[str]]:
        """Header, a row a student."""
        assignments, students = self.chosen(gradebook)
        titles = [self.title(each, f"Assignment: {each.name} (Real)") for each in assignments]
        yield ["First name", "Last name", "ID number", "Email address", *titles]
        for student in students:
            about = (student.first_name, student.last_name, student.lms_user_id or student.id, student.email)
            marks = [self.mark(gradebook, each, student) for each in assignments]
            yield [*(safe_text(each or "") for each in about), *marks]


LAYOUTS = {"canvas": CanvasExporter, "moodle": MoodleExporter}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `export` to the command line."""
    parser = subparsers.add_parser(
        "export", help="write an assignment's marks for a spreadsheet, Canvas or Moodle"
    )
    parser.add_argument("assignment", metavar="ASSIGNMENT")
    parser.add_argument(
        "--layout", choices=("csv", *LAYOUTS), default="csv", help="csv, canvas or moodle (csv)"
    )
    parser.add_argument("--to", type=Path, metavar="FILE", help="where to (classroom/report/ASSIGNMENT/…)")
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parser.set_defaults(run=_main)


def _main(args: argparse.Namespace) -> int:
    from autograde.collect import collect
    from autograde.grading import course_config
    from autograde.marks_csv import write_marks

    root = (args.root or Course.here().root).resolve()
    config = course_config(root)
    marks = collect(root, args.assignment, config)  # refuses what the gradebook does not know
    name = "marks.csv" if args.layout == "csv" else f"{args.layout}.csv"
    path = args.to or root / "classroom" / "report" / args.assignment / name
    if args.layout == "csv":
        write_marks(marks, path)
    else:
        where = CourseDirectory(config=config)
        plugin = LAYOUTS[args.layout](config=config)
        plugin.to, plugin.assignment = str(path), [args.assignment]
        with Gradebook(where.db_url, where.course_id) as gradebook:
            plugin.export(gradebook)
    waiting = [
        student.student for student in marks.students if not all(m.counts for m in student.marks.values())
    ]
    print(f"{path}: {len(marks.students)} submissions")
    if waiting and args.layout != "csv":
        print(f"left empty, because a person has yet to give points: {', '.join(waiting)}")
    return 0
