"""A gradebook made by hand: submissions, marks, outputs and findings, without running anything."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_output
from nbgrader.api import Gradebook

from autograde.collect import collect
from autograde.grading import course_config
from autograde.marks import ClassMarks, StudentMarks
from autograde.outputs import CHECK_MIME, error_output
from tests.autograde.tinycourse import ASSIGNMENT, LESSON

__all__ = ["SQUARE", "collected", "enter", "find", "report"]

SQUARE = (LESSON, "check-square")


def report(
    status: str, mistakes: Sequence[tuple[str, str]] = (), failed: Sequence[str] = ()
) -> dict[str, Any]:
    """A check's result, as a notebook's output holds it."""
    tests = [{"property": text, "passed": False} for text in failed] + [{"property": "holds", "passed": True}]
    found = [{"id": name, "message": message} for name, message in mistakes]
    return {"status": status, "mistakes": found, "tests": tests}


def enter(
    root: Path,
    student: str,
    square: float = 2.0,
    negate: float = 2.0,
    *,
    why: float | None = 0.0,
    manual: Mapping[str, float] | None = None,
    penalty: float = 0.0,
    shown: Mapping[str, Any] | None = None,
    findings: Sequence[Mapping[str, Any]] = (),
    feedback: bool = True,
) -> None:
    """Puts one graded submission into the course.

    Args: why: points of the written answer, or None if it waits for a person. manual: points a person gave, by cell.
          shown: by cell, a check's report or the name of an error; a passed report by default.
    """
    scores = {"check-square": square, "check-negate": negate, "why": why}
    with Gradebook(course_config(root).CourseDirectory.db_url, "model-optimization") as gradebook:
        gradebook.update_or_create_student(student)
        gradebook.add_submission(ASSIGNMENT, student)
        notebook = gradebook.find_submission_notebook(LESSON, ASSIGNMENT, student)
        notebook.late_submission_penalty = penalty
        for grade in notebook.grades:
            grade.auto_score, grade.needs_manual_grade = scores[grade.name], scores[grade.name] is None
            if grade.name in (manual or {}):
                grade.manual_score, grade.needs_manual_grade = (manual or {})[grade.name], False
        gradebook.db.commit()
    classroom = root / "classroom"
    release = nbformat.read(root / "notebooks" / ASSIGNMENT / f"{LESSON}.ipynb", as_version=4)
    for cell in release.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        what = (shown or {}).get(name, report("passed") if name.startswith("check-") else None)
        if isinstance(what, str):
            cell.outputs = [error_output(what, f"{what} in {name}")]
        elif what is not None:
            cell.outputs = [new_output("display_data", data={CHECK_MIME: what, "text/plain": name})]
    write(classroom / "autograded" / student / ASSIGNMENT / f"{LESSON}.ipynb", nbformat.writes(release))
    write(classroom / "submitted" / student / ASSIGNMENT / f"{LESSON}.ipynb", "{}")
    record = json.dumps({"findings": list(findings)})
    write(classroom / "intake" / student / ASSIGNMENT / "intake.json", record)
    if feedback:
        write(classroom / "feedback" / student / ASSIGNMENT / f"{LESSON}.html", "<p>feedback</p>")


def write(path: Path, text: str) -> None:
    """Writes a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def collected(root: Path) -> ClassMarks:
    """The marks of the tiny assignment."""
    return collect(root, ASSIGNMENT, course_config(root))


def find(marks: ClassMarks, student: str) -> StudentMarks:
    """One student's marks."""
    (found,) = [each for each in marks.students if each.student == student]
    return found
