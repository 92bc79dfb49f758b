"""`python -m autograde regrade ASSIGNMENT`: grade again where anything changed that marks depend on, and say what did.

Judged again is a submission whose files, or whose tests, code, packages, limits or seed are not those of its recorded
judgement. Marks given by hand stay.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from nbgrader.api import Gradebook, MissingEntry
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config

from autograde.grade import NEEDS_HUMAN, add_options, chosen, grade
from autograde.grading import Outcome, course_config
from autograde.layout import Course
from autograde.marks import number
from autograde.progress import quiet, watch

__all__ = ["Change", "add_parser", "changes", "score_table"]

Scores = dict[tuple[str, str, str], float | None]


@dataclass(frozen=True)
class Change:
    """A mark that is another than before; None is one that was, or is, not given by the checks."""

    student: str
    notebook: str
    cell: str
    before: float | None
    after: float | None

    def __str__(self) -> str:
        shown = ["–" if value is None else number(value) for value in (self.before, self.after)]
        return f"{self.student} / {self.notebook} / {self.cell}: {shown[0]} → {shown[1]}"


def score_table(assignment: str, config: Config) -> Scores:
    """Every mark the checks gave, by student, notebook and cell; none of an assignment the gradebook does not know."""
    where = CourseDirectory(config=config)
    with Gradebook(where.db_url, where.course_id) as gradebook:
        try:
            gradebook.find_assignment(assignment)
        except MissingEntry:
            return {}
        return {
            (submission.student.id, notebook.name, each.name): each.auto_score
            for submission in gradebook.assignment_submissions(assignment)
            for notebook in submission.notebooks
            for each in notebook.grades
        }


def changes(before: Scores, after: Scores) -> list[Change]:
    """The marks that differ, by student; those of students who had none before are left out."""
    return [
        Change(*place, before[place], after[place])
        for place in sorted(before)
        if place in after and before[place] != after[place]
    ]


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `regrade` to the command line."""
    parser = subparsers.add_parser(
        "regrade",
        help="grade again what changed, tests and packages included, and show which marks did",
        epilog=f"Exits with 0 if all was judged, {NEEDS_HUMAN} if a submission could not be, 1 after an error.",
    )
    add_options(parser)
    parser.set_defaults(run=_main)


def _main(args: argparse.Namespace) -> int:
    root = (args.root or Course.here().root).resolve()
    config = course_config(root, args.notebook)
    with quiet():
        before = score_table(args.assignment, config)
        with watch("regrading") as step:
            outcomes = grade(
                root,
                args.assignment,
                args.student or ("*",),
                force=args.force,
                sandbox=not args.no_sandbox,
                step=step,
                config=config,
                settings={**chosen(args), "regrade": True},
            )
        found = changes(before, score_table(args.assignment, config))
    _say(found, outcomes, as_json=args.json)
    return NEEDS_HUMAN if any(outcome.status == "failed" for outcome in outcomes) else 0


def _say(found: Sequence[Change], outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    again = sum(outcome.judged > 0 for outcome in outcomes)
    if as_json:
        print(json.dumps({"judged": again, "changes": [asdict(change) for change in found]}, indent=1))
        return
    for change in found:
        print(change)
    print(f"{again} of {len(outcomes)} submissions were judged again; {len(found)} marks changed.")
