"""`python -m autograde report ASSIGNMENT`: one HTML page about a class, that needs nothing but itself.

All text on it may come from a student: it is escaped by the template, and the page's own policy forbids scripts and
every connection.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup, escape

from autograde.items import FEWEST, analyse, totals_histogram
from autograde.layout import Course, atomic_write
from autograde.marks import ABSENT, ClassMarks, Column, Mark, StudentMarks, number

__all__ = ["Comparison", "add_parser", "render", "report_path", "write_report"]

WRITTEN = "written answer"
LEVELS = ((0.0, "l0"), (0.25, "l1"), (0.5, "l2"), (0.75, "l3"), (0.999, "l4"), (1.0, "l5"))


@dataclass(frozen=True)
class Comparison:
    """A made submission's points as a person would give them, beside those that were given.

    Attributes: problems: what is not as it should be; none if all agrees.
    """

    student: str
    by_hand: float
    given: float
    because: str
    problems: tuple[str, ...] = ()


def report_path(root: Path, assignment: str) -> Path:
    """Where an assignment's report is."""
    return root / "classroom" / "report" / assignment / "index.html"


def write_report(marks: ClassMarks, root: Path, compared: Sequence[Comparison] = ()) -> Path:
    """Writes the page and returns where it is."""
    path = report_path(root, marks.assignment)
    atomic_write(path, render(marks, root, path.parent, compared))
    return path


def render(marks: ClassMarks, root: Path, folder: Path, compared: Sequence[Comparison] = ()) -> str:
    """The page.

    Args: root: of the course, from which the paths in `marks` count. folder: where the page will lie.
          compared: for a made class, the marks by hand.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "assets"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(number=number, breakable=_breakable, coded=_coded, place=_place, kinds=_kinds)
    environment.globals.update(link=lambda path: _link(root, folder, path), fewest=FEWEST)
    return environment.get_template("report.html.j2").render(
        marks=marks,
        made=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        facts=_facts(marks),
        rows=[(student, [_cell(student, column) for column in marks.columns]) for student in marks.students],
        histogram=_histogram(marks),
        mistakes=marks.mistakes(),
        unexplained=marks.unexplained(),
        mean=statistics.fmean(student.total for student in marks.students) if marks.students else 0.0,
        waiting=_waiting(marks),
        decide=[item for item in marks.attention if item.decide and item.kind != WRITTEN],
        know=[item for item in marks.attention if not item.decide],
        items=analyse(marks),
        compared=compared,
    )


def _breakable(text: str) -> Markup:
    """The text with places where a long name may be broken over lines."""
    return Markup(str(escape(text)).replace("_", "_<wbr>").replace("-", "-<wbr>"))


def _coded(text: str) -> Markup:
    """The text with what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _place(path: str) -> str:
    """What a link to a file of the classroom is called."""
    step = path.split("/")[1] if path.startswith("classroom/") else ""
    return {"feedback": "feedback page", "submitted": "what was handed in"}.get(step, path)


def _kinds(student: StudentMarks) -> str:
    """What a person should look at in a submission, written answers aside: the table shows these by themselves."""
    return ", ".join(dict.fromkeys(item.kind for item in student.needs_human if item.kind != WRITTEN))


def _waiting(marks: ClassMarks) -> dict[str, list[StudentMarks]]:
    """For each written question, the students whose answers wait."""
    found: dict[str, list[StudentMarks]] = {}
    for student in marks.students:
        for item in student.needs_human:
            if item.kind == WRITTEN:
                found.setdefault(item.about, []).append(student)
    return found


def _link(root: Path, folder: Path, path: str) -> str:
    """A relative address: always begins with a dot, so it can be no other protocol."""
    relative = Path(os.path.relpath(root / path, folder)).as_posix()
    text = quote(relative, safe="/")
    return text if text.startswith(".") else f"./{text}"


def _facts(marks: ClassMarks) -> list[tuple[str, str]]:
    totals = [student.total for student in marks.students]
    waiting = sum(bool(student.needs_human) for student in marks.students)
    facts = [("submissions", str(len(totals))), ("points to be had", number(marks.max_points))]
    if totals:
        facts += [
            ("mean", number(statistics.fmean(totals))),
            ("median", number(statistics.median(totals))),
            ("lowest to highest", f"{number(min(totals))} to {number(max(totals))}"),
        ]
    return [*facts, ("need a person", str(waiting))]


def _cell(student: StudentMarks, column: Column) -> dict[str, str]:
    """A heatmap's cell: what it says, in words, and its class."""
    mark = student.marks.get(column.key)
    if mark is None:
        return {"text": "", "note": "", "css": "none", "title": "not graded"}
    of = f"{number(mark.points)} of {number(column.max_points)}"
    if mark.status == ABSENT:
        return {"text": "", "note": "", "css": "none", "title": f"{ABSENT}: {of}"}
    if mark.status == "waiting":
        return {"text": "?", "note": "to mark", "css": "wait", "title": "waits for a person"}
    if mark.status == "not attempted":
        return {"text": "–", "note": "", "css": "blank", "title": f"not attempted: {of}"}
    note = mark.status if mark.stopped or mark.status == "raised" else ""
    note = "by hand" if mark.manual is not None and not column.by_hand else note
    messages = [mistake.message for mistake in mark.mistakes] or list(mark.failed)
    title = f"{of}. {' '.join(messages)}".strip()
    return {"text": number(mark.points), "note": note, "css": _level(mark, column), "title": title}


def _level(mark: Mark, column: Column) -> str:
    lost = 1 - mark.points / column.max_points if column.max_points else 0.0
    return next(css for limit, css in LEVELS if lost <= limit + 1e-9)


def _histogram(marks: ClassMarks) -> dict[str, Any]:
    """Bars as an SVG needs them, in a box of 700 by 200 units."""
    bins = totals_histogram(marks)
    highest = max((count for _, _, count in bins), default=0) or 1
    scale = 680 / (bins[-1][1] or 1)
    bars = [
        {
            "x": round(10 + low * scale, 1),
            "width": round((high - low) * scale - 2, 1),
            "height": round(150 * count / highest, 1),
            "count": count,
            "low": number(low),
        }
        for low, high, count in bins
    ]
    words = ", ".join(f"{number(low)} to {number(high)}: {count}" for low, high, count in bins if count)
    return {"bars": bars, "end": number(bins[-1][1]), "words": words}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `report` to the command line."""
    parser = subparsers.add_parser("report", help="write the class report and the CSV files of an assignment")
    parser.add_argument("assignment", metavar="ASSIGNMENT")
    parser.add_argument(
        "--notebook", metavar="NAME", help="only this lesson of the assignment; patterns work too"
    )
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parser.set_defaults(run=_main)


def _main(args: argparse.Namespace) -> int:
    from autograde.collect import collect
    from autograde.grading import course_config
    from autograde.marks_csv import write_marks, write_nbgrader_export

    root = (args.root or Course.here().root).resolve()
    config = course_config(root, args.notebook)
    marks = collect(root, args.assignment, config)
    page = write_report(marks, root)
    write_marks(marks, page.with_name("marks.csv"))
    write_nbgrader_export(args.assignment, page.with_name("nbgrader.csv"), config)
    for name in ("index.html", "marks.csv", "nbgrader.csv"):
        print(page.with_name(name).relative_to(root).as_posix())
    return 0
