"""`python -m autograde verify ASSIGNMENT`: is the record whole, and does the gradebook say what the record says?

The record is checked line by line, the kept judgements against the digests in it, and every mark the harness gave, late
penalty and time of submission against the gradebook. Marks, comments and credit that a person gave are hers: they are
listed, not judged.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from nbgrader.api import Gradebook, MissingEntry
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config

from autograde.chain import START, Damage, Line, check_chain, read_lines
from autograde.digests import digest
from autograde.grading import course_config
from autograde.judgements import Judgements
from autograde.layout import Course, CourseError
from autograde.marks import number
from autograde.progress import quiet
from autograde.record import described

__all__ = ["Found", "Verification", "add_parser", "verify"]

Kind = Literal["changed", "added", "removed", "manual", "judgement"]


@dataclass(frozen=True)
class Found:
    """One row of the gradebook, or one kept judgement, that is not what the record says; or a mark given by hand."""

    kind: Kind
    student: str
    notebook: str
    cell: str
    recorded: Any
    found: Any

    def __str__(self) -> str:
        place = " / ".join(part for part in (self.student, self.notebook, self.cell) if part)
        if self.kind == "manual":
            return f"{place}: {_shown(self.found)} given by hand, {_shown(self.recorded)} by the checks"
        if self.kind == "added":
            return f"{place}: in the gradebook, but never recorded ({_shown(self.found)})"
        if self.kind == "removed":
            return f"{place}: recorded ({_shown(self.recorded)}), but not in the gradebook"
        return f"{place}: recorded {_shown(self.recorded)}, found {_shown(self.found)}"


@dataclass(frozen=True)
class Verification:
    """The result. `records` is how many there are, `head` the hash of the last one."""

    assignment: str
    records: int
    head: str
    damage: tuple[Damage, ...]
    rows: tuple[Found, ...]
    by_hand: tuple[Found, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was changed behind the record."""
        return not self.damage and not self.rows


def verify(root: Path, assignment: str, config: Config, head: str | None = None) -> Verification:
    """Holds the gradebook and the kept judgements against the record.

    Args:   config: nbgrader's, see `grading.course_config`. head: the hash of some record, noted down earlier; it must
            still be there.
    Raises: CourseError if the gradebook does not know the assignment.
    """
    settings = config.get("Autograde", {})
    folder = root / settings.get("record_directory", "classroom/record")
    lines = list(read_lines(folder / f"{assignment}.jsonl"))
    damage = check_chain(lines)
    hashes = [str((line.record or {}).get("hash")) for line in lines]
    if head and head not in (START, *hashes):
        damage.append(
            Damage(len(lines), f"no record has the hash {head} that was noted: the end was cut or rewritten")
        )
    latest = _latest(lines)
    kept = Judgements(root / settings.get("judgements_directory", "classroom/judgements"))
    rows = [*_judgements(kept, assignment, latest)]
    by_hand: list[Found] = []
    where = CourseDirectory(config=config)
    with Gradebook(where.db_url, where.course_id) as gradebook:
        try:
            gradebook.find_assignment(assignment)
        except MissingEntry as error:
            raise CourseError(f"the gradebook knows no assignment {assignment!r}") from error
        submissions = {each.student.id: each for each in gradebook.assignment_submissions(assignment)}
        for student in sorted({*submissions, *latest}):
            rows += _compare(student, submissions.get(student), latest.get(student))
            if student in submissions:
                by_hand += _by_hand(student, submissions[student])
    last = hashes[-1] if hashes else START
    return Verification(assignment, len(lines), last, tuple(damage), tuple(rows), tuple(by_hand))


def _latest(lines: list[Line]) -> dict[str, dict[str, Any]]:
    """The last sound record of marks of each student who was not taken out since."""
    found: dict[str, dict[str, Any]] = {}
    for line in lines:
        record = line.record
        if record is None or not line.sound() or not isinstance(record.get("student"), str):
            continue
        if record.get("kind") == "marks":
            found[record["student"]] = record
        elif record.get("kind") == "removed":
            found.pop(record["student"], None)
    return found


def _judgements(kept: Judgements, assignment: str, latest: dict[str, dict[str, Any]]) -> Iterator[Found]:
    """Kept judgements that are there and do not say what was recorded; one that is gone can be made again."""
    for student, record in sorted(latest.items()):
        for name, said in record.get("judgements", {}).items():
            judged = kept.get(student, assignment, name, said["key"])
            if judged is not None and judged.id == said["id"]:
                now = digest((judged.executed or "").encode("utf-8"))
                if now != said["executed"]:
                    yield Found("judgement", student, name, "", said["executed"], now)


def _compare(student: str, submission: Any, record: dict[str, Any] | None) -> Iterator[Found]:
    if submission is None:
        assert record is not None
        yield Found("removed", student, "", "", _total(record), None)
        return
    now = described(submission)
    if record is None:
        if any(grade.auto_score is not None for each in submission.notebooks for grade in each.grades):
            yield Found("added", student, "", "", None, _total(now))
        return
    if record["timestamp"] != now["timestamp"]:
        yield Found("changed", student, "", "time of submission", record["timestamp"], now["timestamp"])
    for notebook in sorted({*record["marks"], *now["marks"]}):
        was, cells = record["marks"].get(notebook, {}), now["marks"].get(notebook, {})
        for cell in sorted({*was, *cells}):
            kind: Kind = "changed" if cell in was and cell in cells else "removed" if cell in was else "added"
            if kind != "changed" or was[cell] != cells[cell]:
                yield Found(kind, student, notebook, cell, was.get(cell), cells.get(cell))
        penalty, late = record["penalties"].get(notebook), now["penalties"].get(notebook)
        if (penalty or 0) != (late or 0):
            yield Found("changed", student, notebook, "late penalty", penalty, late)


def _by_hand(student: str, submission: Any) -> Iterator[Found]:
    for notebook in submission.notebooks:
        for grade in notebook.grades:
            if grade.manual_score is not None:
                yield Found(
                    "manual", student, notebook.name, grade.name, grade.auto_score, grade.manual_score
                )
            if grade.extra_credit:
                yield Found(
                    "manual", student, notebook.name, f"{grade.name}, extra", None, grade.extra_credit
                )


def _total(record: dict[str, Any]) -> float:
    return float(sum(mark or 0 for cells in record["marks"].values() for mark in cells.values()))


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    return number(value) if isinstance(value, int | float) else str(value)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `verify` to the command line."""
    parser = subparsers.add_parser(
        "verify",
        help="hold the gradebook against the record of what was judged",
        epilog="Exits with 0 if all agrees, 1 if anything was changed behind the record.",
    )
    parser.add_argument("assignment", metavar="ASSIGNMENT")
    parser.add_argument(
        "--head", metavar="HASH", help="a record's hash, noted earlier: it must still be there"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parser.set_defaults(run=_main)


def _main(args: argparse.Namespace) -> int:
    root = (args.root or Course.here().root).resolve()
    with quiet():
        found = verify(root, args.assignment, course_config(root), args.head)
    if args.json:
        print(json.dumps({**asdict(found), "ok": found.ok}, indent=1))
        return 0 if found.ok else 1
    for damage in found.damage:
        print(f"line {damage.line}: {damage.what}")
    for row in found.rows:
        print(row)
    if found.by_hand:
        print(f"{len(found.by_hand)} marks were given by hand, which the record does not cover:")
        for row in found.by_hand:
            print(f"  {row}")
    told = (
        "the gradebook agrees with it"
        if found.ok
        else f"{len(found.damage) + len(found.rows)} things do not agree"
    )
    print(f"{found.records} records, {told}; head {found.head}")
    return 0 if found.ok else 1
