"""Collecting an assignment's marks from the gradebook, the graded notebooks and what intake found."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nbformat
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config

from autograde.evidence import Evidence, read_evidence
from autograde.layout import CourseError
from autograde.marks import ABSENT, STOPPED, Attention, ClassMarks, Column, Mark, StudentMarks, number

__all__ = ["SUSPICIOUS", "collect"]

SUSPICIOUS = "suspicious"
ENDS = ("timeout", "flood", "died")  # flags of cells that did not end by themselves
MOST_FLAGS = 4


def collect(root: Path, assignment: str, config: Config) -> ClassMarks:
    """The marks of an assignment, or of those of its notebooks that the configuration names.

    Args:   root: of the course. assignment: its name. config: nbgrader's, see `grading.course_config`.
    Raises: CourseError if the gradebook is missing or does not know the assignment.
    """
    where = CourseDirectory(config=config)
    path = Path(where.db_url.removeprefix("sqlite:///"))
    mend = "run `make build`, then `python -m autograde grade`"
    if where.db_url.startswith("sqlite:///") and not path.exists():
        raise CourseError(f"there is no gradebook at {path}; {mend}")
    with Gradebook(where.db_url, where.course_id) as gradebook:
        try:
            entry = gradebook.find_assignment(assignment)
        except MissingEntry as error:
            raise CourseError(f"the gradebook knows no assignment {assignment!r}; {mend}") from error
        places = _Places(root.resolve(), where, assignment)
        columns = _columns(entry, places)
        submissions = sorted(gradebook.assignment_submissions(assignment), key=lambda each: each.student.id)
        students = {each.student.id: _student(each, columns, places) for each in submissions}
        absent = tuple(sorted(each.id for each in gradebook.students if each.id not in students))
    for name in places.submitted():
        if name not in students:
            text = "This submission has not been graded yet: run `python -m autograde grade`."
            here = places.relative(places.folder("submitted", name))
            students[name] = StudentMarks(
                name, {}, 0.0, (Attention(name, "not graded", "", text, here, True),)
            )
    absent = tuple(name for name in absent if name not in students)
    return ClassMarks(assignment, columns, tuple(students[name] for name in sorted(students)), absent)


@dataclass(frozen=True)
class _Places:
    """Where an assignment's files are."""

    root: Path
    where: CourseDirectory
    assignment: str

    def folder(self, step: str, student: str) -> Path:
        name = getattr(self.where, f"{step}_directory")
        return Path(self.where.format_path(name, student, self.assignment))

    def relative(self, path: Path) -> str:
        """From the course's root, with a slash at the end of a folder's."""
        try:
            text = path.relative_to(self.root).as_posix()
        except ValueError:
            text = path.as_posix()
        return f"{text}/" if path.is_dir() else text

    def flags(self, student: str, notebook: str) -> list[dict[str, Any]]:
        """What the harness noticed while it ran a notebook."""
        folder = self.root / "classroom" / "receipts" / student / self.assignment
        try:
            found = json.loads((folder / f"{notebook}.json").read_text(encoding="utf-8"))["flags"]
            return [flag for flag in found if isinstance(flag, dict)]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def wants(self, notebook: str) -> bool:
        """Whether the configuration names a notebook."""
        return fnmatch.fnmatchcase(notebook, self.where.notebook_id)

    def submitted(self) -> list[str]:
        """The students whose submissions are there."""
        top = self.folder("submitted", "x").parent.parent
        return sorted(path.parent.name for path in top.glob(f"*/{self.assignment}") if path.is_dir())

    def intake(self, student: str) -> tuple[list[dict[str, Any]], list[str]]:
        """What intake found in a submission, and which notebooks were not handed in."""
        path = self.root / "classroom" / "intake" / student / self.assignment / "intake.json"
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            found = [item for item in said["findings"] if isinstance(item, dict)]
            return [item for item in found if self.wants(item.get("notebook") or "*")], list(
                said.get("absent", [])
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return [], []


def _columns(entry: Any, places: _Places) -> tuple[Column, ...]:
    """The graded cells in the order in which they stand in the notebooks."""
    found = []
    for notebook in sorted(
        filter(lambda each: places.wants(each.name), entry.notebooks), key=lambda each: each.name
    ):
        answers = {cell.name for cell in notebook.solution_cells}
        order = _order(places.folder("release", ".") / f"{notebook.name}.ipynb")
        cells = [*notebook.grade_cells, *notebook.task_cells]
        tasks = {cell.name for cell in notebook.task_cells}
        for cell in sorted(cells, key=lambda each: (order.get(each.name, len(order)), each.name)):
            title = cell.name.removeprefix("check-")
            by_hand = cell.name in answers or cell.name in tasks
            found.append(Column(notebook.name, cell.name, title, float(cell.max_score or 0), by_hand))
    titles = [column.title for column in found]
    return tuple(
        replace(column, title=f"{column.notebook}:{column.title}")
        if titles.count(column.title) > 1
        else column
        for column in found
    )


def _order(path: Path) -> dict[str, int]:
    try:
        cells = nbformat.read(path, as_version=4).cells
    except Exception:  # missing, or not a notebook: then the order is that of the names
        return {}
    named = (cell.metadata.get("nbgrader", {}).get("grade_id") for cell in cells)
    return {name: place for place, name in enumerate(named) if name}


def _student(submission: Any, columns: tuple[Column, ...], places: _Places) -> StudentMarks:
    name = submission.student.id
    by_key = {column.key: column for column in columns}
    marks: dict[tuple[str, str], Mark] = {}
    findings, absent = places.intake(name)
    attention: list[Attention] = list(_from_intake(name, findings, places))
    feedback = {}
    notebooks = [each for each in submission.notebooks if places.wants(each.name)]
    for notebook in sorted(notebooks, key=lambda each: each.name):
        autograded = places.folder("autograded", name) / f"{notebook.name}.ipynb"
        page = places.folder("feedback", name) / f"{notebook.name}.html"
        if page.exists():
            feedback[notebook.name] = places.relative(page)
        evidence = read_evidence(autograded)
        here = feedback.get(notebook.name) or places.relative(autograded)
        for grade in notebook.grades:
            column = by_key[notebook.name, grade.name]
            mark = _mark(grade, column, evidence.get(grade.name, Evidence()), notebook.name in absent)
            marks[column.key] = mark
            attention += _from_mark(name, column, mark, here)
        attention += _from_cells(name, evidence, here)
        attention += _from_flags(
            name, places.flags(name, notebook.name), evidence, places.relative(autograded)
        )
    ordered = {column.key: marks[column.key] for column in columns if column.key in marks}
    penalty = float(sum(each.late_submission_penalty or 0 for each in notebooks))
    return StudentMarks(name, ordered, penalty, tuple(attention), feedback)


def _mark(grade: Any, column: Column, evidence: Evidence, absent: bool) -> Mark:
    status = ABSENT if absent else evidence.status
    if column.by_hand and not absent:
        status = "not attempted" if grade.auto_score == 0 else "by hand"
    if evidence.stop is not None:
        status = evidence.stop.kind
    if grade.manual_score is not None:
        status = "by hand"
    elif grade.needs_manual_grade:
        status = "waiting" if column.by_hand else "not judged"
    return Mark(
        float(grade.score), grade.auto_score, grade.manual_score, status, evidence.mistakes, evidence.failed
    )


def _from_flags(
    student: str, flags: list[dict[str, Any]], evidence: dict[str, Evidence], where: str
) -> Iterator[Attention]:
    """One line for what looks like an attempt to cheat or to break out; a cell's own end has its line already."""
    told = {name for name, each in evidence.items() if each.stop is not None}
    shown = [flag for flag in flags if flag.get("code") not in ENDS or flag.get("grade_id") not in told]
    texts = list(dict.fromkeys(str(flag.get("message")) for flag in shown))
    if texts:
        about = ", ".join(dict.fromkeys(str(flag["grade_id"]) for flag in shown if flag.get("grade_id")))
        more = f"; and {len(texts) - MOST_FLAGS} more" if len(texts) > MOST_FLAGS else ""
        reason = f"{'; '.join(texts[:MOST_FLAGS])}{more}. It cost no points and gained none: look whether it was meant."
        yield Attention(student, SUSPICIOUS, about, reason[:1].upper() + reason[1:], where, True)


def _from_intake(student: str, findings: list[dict[str, Any]], places: _Places) -> Iterator[Attention]:
    where = places.relative(places.folder("submitted", student))
    for item in findings:
        about, reason = str(item.get("grade_id") or item.get("notebook") or ""), str(item.get("message"))
        yield Attention(student, "intake", about, reason, where, item.get("human") is True)


def _from_mark(student: str, column: Column, mark: Mark, where: str) -> Iterator[Attention]:
    if mark.status == "waiting":
        text = f"A written answer waits for its mark, of {number(column.max_points)} points: give it in formgrader."
        yield Attention(student, "written answer", column.title, text, where, True)
    elif mark.status == "not judged":
        text = "This exercise could not be judged. It counts as 0 until it is graded again or by hand."
        yield Attention(student, "not judged", column.title, text, where, True)


def _from_cells(student: str, evidence: dict[str, Evidence], where: str) -> Iterator[Attention]:
    """A line for each kind of stop, since one endless loop can leave many cells behind it not run."""
    for kind in STOPPED:
        names = [name for name, each in evidence.items() if each.stop is not None and each.stop.kind == kind]
        if names:
            stop = evidence[names[0]].stop
            about = ", ".join(dict.fromkeys(name.removeprefix("check-") for name in names))
            yield Attention(student, kind, about, stop.message if stop else "", where, True)
