"""`python -m autograde grade ASSIGNMENT`: as `nbgrader autograde`, with progress and a table of marks."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nbgrader.converters.base import NbGraderException
from traitlets.config import Config

from autograde.collect import collect
from autograde.grading import Outcome, course_config, grade_assignment
from autograde.layout import Course, CourseError
from autograde.marks import ClassMarks, StudentMarks
from autograde.progress import Step, marks_table, quiet, watch
from autograde.sandbox import available

__all__ = ["NEEDS_HUMAN", "add_options", "add_parser", "as_json", "chosen", "grade", "require_walls", "said"]

NEEDS_HUMAN = 2


def grade(
    root: Path,
    assignment: str,
    students: Sequence[str] = ("*",),
    *,
    force: bool = False,
    sandbox: bool = True,
    step: Step | None = None,
    config: Config | None = None,
    settings: Mapping[str, Any] | None = None,
) -> tuple[Outcome, ...]:
    """Grades what students handed in, into the gradebook.

    Args:    students: names, or patterns such as `demo-*`. force, sandbox: see `grade_assignment`. step: told of each
             submission. config: nbgrader's; the course's own by default. settings: see `grade_assignment`.
    Returns: an Outcome per submission, each once.
    Raises:  CourseError if there is no sandbox, or nothing to grade for a name.
    """
    config = config or course_config(root)
    require_walls(config, sandbox)
    outcomes: dict[str, Outcome] = {}

    def progress(done: int, total: int, outcome: Outcome) -> None:
        if step is not None:
            before = len(outcomes)
            step(before + done, max(before + total, len(students)), said(outcome))

    for pattern in students:
        try:
            found = grade_assignment(
                assignment,
                root=root,
                student=pattern,
                force=force,
                sandbox=sandbox,
                progress=progress,
                config=config,
                settings=settings,
            )
        except NbGraderException as error:
            if str(error).startswith("No submissions were found"):
                place = f"classroom/submitted/{pattern}/{assignment}/"
                raise CourseError(f"nothing was handed in: there is no {place}") from error
            raise CourseError(str(error)) from error
        outcomes |= {outcome.student: outcome for outcome in found}
    return tuple(outcomes.values())


def require_walls(config: Config, walls: bool) -> None:
    """Raises CourseError, with the mend, if student code is to be shut in and cannot be."""
    found = available()
    if walls and config.Autograde.get("sandbox", True) and not found.ok:
        raise CourseError(
            f"No student code was run: {found}\n--no-sandbox runs it with no protection at all: only for a machine "
            "that has nothing to lose."
        )


def said(outcome: Outcome) -> str:
    """An outcome in one line."""
    if outcome.status == "skipped":
        return f"{outcome.student} has not changed"
    text = f"{outcome.student} {outcome.status} in {outcome.seconds:.1f} s"
    return f"{text}: {outcome.error}" if outcome.error else text


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `grade` to the command line."""
    parser = subparsers.add_parser(
        "grade",
        help="grade submissions into the gradebook",
        epilog=f"Exits with 0 if all was judged, {NEEDS_HUMAN} if something waits for a person, 1 after an error.",
    )
    add_options(parser)
    parser.set_defaults(run=_main)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds what `grade` and `regrade` have in common."""
    parser.add_argument("assignment", metavar="ASSIGNMENT")
    parser.add_argument(
        "--student", nargs="+", action="extend", metavar="ID", help="only these; patterns like 'a*' work too"
    )
    parser.add_argument(
        "--notebook", metavar="NAME", help="only this lesson of the assignment; patterns work too"
    )
    parser.add_argument(
        "--force", action="store_true", help="grade again what has not changed; manual marks stay"
    )
    parser.add_argument("--no-sandbox", action="store_true", help="run student code WITHOUT ANY PROTECTION")
    parser.add_argument(
        "--executor",
        choices=("auto", "inline", "pool", "dask"),
        help="judge in this process, in a pool of processes here (the default for a class), or on a Dask cluster",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes of the pool; one per core by default"
    )
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of Dask, such as tcp://10.0.0.5:8786")
    parser.add_argument("--json", action="store_true", help="print the marks as JSON")
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)


def chosen(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of `c.Autograde` that were given on the command line; --scheduler alone means Dask."""
    given = {name: getattr(args, name) for name in ("executor", "workers", "scheduler")}
    if given["scheduler"] and not given["executor"]:
        given["executor"] = "dask"
    return {name: value for name, value in given.items() if value is not None}


def _main(args: argparse.Namespace) -> int:
    root = (args.root or Course.here().root).resolve()
    config = course_config(root, args.notebook)
    with quiet():
        with watch("grading") as step:
            outcomes = grade(
                root,
                args.assignment,
                args.student or ("*",),
                force=args.force,
                sandbox=not args.no_sandbox,
                step=step,
                config=config,
                settings=chosen(args),
            )
        marks = _only(collect(root, args.assignment, config), outcomes)
    waiting = any(student.needs_human for student in marks.students)
    if args.json:
        print(json.dumps(as_json(marks, outcomes), indent=1, ensure_ascii=False))
    else:
        print(marks_table(marks))
        print(f"\nFor the whole class: python -m autograde report {args.assignment}")
    return NEEDS_HUMAN if waiting or any(outcome.status == "failed" for outcome in outcomes) else 0


def _only(marks: ClassMarks, outcomes: Sequence[Outcome]) -> ClassMarks:
    """The marks of the students who were graded just now."""
    wanted = {outcome.student for outcome in outcomes}
    chosen = tuple(student for student in marks.students if student.student in wanted)
    return ClassMarks(marks.assignment, marks.columns, chosen)


def as_json(marks: ClassMarks, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The marks, and what became of each submission, for another program."""
    became = {outcome.student: outcome for outcome in outcomes}
    return {
        "assignment": marks.assignment,
        "max": marks.max_points,
        "students": [_student_json(student, became[student.student], marks) for student in marks.students],
    }


def _student_json(student: StudentMarks, outcome: Outcome, marks: ClassMarks) -> dict[str, Any]:
    titles = {column.key: column.title for column in marks.columns}
    return {
        "student": student.student,
        "status": outcome.status,
        "seconds": outcome.seconds,
        "total": student.total,
        "marks": {
            titles[key]: {"points": mark.points, "status": mark.status, "manual": mark.manual}
            for key, mark in student.marks.items()
        },
        "needs_human": [
            {"kind": item.kind, "about": item.about, "reason": item.reason, "where": item.where}
            for item in student.needs_human
        ],
    }
