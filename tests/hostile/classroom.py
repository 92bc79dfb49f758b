"""The whole corpus in one class with honest students: made, graded by an executor, and read back."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat.notebooknode import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook
from nbgrader.apps import NbGraderAPI

from autograde import sandbox
from autograde.collect import collect
from autograde.grading import Outcome, course_config, grade_assignment
from autograde.marks import ClassMarks
from tests.autograde.tinycourse import SPEC, graded
from tests.hostile.corpus import ATTACKS, CANARY, HONEST, SETUP, Attack

__all__ = ["ASSIGNMENT", "EXECUTORS", "HONEST_STUDENTS", "LESSON", "Class", "grade_class", "make_course"]

REPOSITORY = Path(sandbox.__file__).resolve().parents[1]
ASSIGNMENT, LESSON = "hostile", "01-hostile"
POINTS = {"dequantize": 3, "symmetric_scale": 2, "sqnr_db": 2}
STUB = "### BEGIN SOLUTION\n{}\n### END SOLUTION"
SCALE = """\
def symmetric_scale(x, n_bits=8):
    largest = x.abs().max().item()
    return largest / (2 ** (n_bits - 1) - 1) if largest else 1.0
"""
RIGHT = {**HONEST, "symmetric_scale": SCALE}
HONEST_STUDENTS = {
    "honest-all": RIGHT,
    "honest-half": {
        **RIGHT,
        "symmetric_scale": "def symmetric_scale(x, n_bits=8):\n    return x.max().item() / 127",
    },
    "honest-blank": {},
}
# An attack costs what it can: little processor time, but patience, since other tests run beside it.
LIMITS = {
    "cell_seconds": 1.5,
    "call_seconds": 1.0,
    "patience": 20.0,
    "grace_seconds": 1.0,
    "notebook_seconds": 300,
    "memory_bytes": 1_500_000_000,
    "scratch_bytes": 64_000_000,
    "processes": 40,
}


@contextmanager
def local(**chosen: Any) -> Iterator[dict[str, Any]]:
    yield chosen


@contextmanager
def dask() -> Iterator[dict[str, Any]]:
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", memory_limit=0) as cluster:
        yield {"executor": "dask", "scheduler": cluster.scheduler_address}


EXECUTORS = {
    "inline": lambda: local(executor="inline"),
    "pool_of_2": lambda: local(executor="pool", workers=2),
    "dask_with_2": dask,
}


def make_course(root: Path) -> Path:
    """A course whose one lesson asks for three functions of lesson 01."""
    cells = [new_code_cell(SETUP, id="setup")]
    for name, points in POINTS.items():
        cells.append(graded("code", name, STUB.format(RIGHT[name]), solution=True))
        cells.append(
            graded("code", f"check-{name}", f'check("{name}")', grade=True, locked=True, points=points)
        )
    folder = root / "solutions" / ASSIGNMENT
    folder.mkdir(parents=True)
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": SPEC}), folder / f"{LESSON}.ipynb")
    result = NbGraderAPI(config=course_config(root)).generate_assignment(ASSIGNMENT)
    assert result["success"], result
    return root


def hand_in(root: Path, student: str, answers: dict[str, str], before: str = "") -> None:
    """Puts a submission into the course; `before` is a cell of hers above the answer to `symmetric_scale`."""
    release = root / "notebooks" / ASSIGNMENT / f"{LESSON}.ipynb"
    notebook: NotebookNode = nbformat.read(release, as_version=4)
    names = [cell.metadata.get("nbgrader", {}).get("grade_id") for cell in notebook.cells]
    for name, text in answers.items():
        notebook.cells[names.index(name)].source = text
    if before:
        notebook.cells.insert(names.index("symmetric_scale"), new_code_cell(before, id="hers"))
    folder = root / "classroom" / "submitted" / student / ASSIGNMENT
    folder.mkdir(parents=True)
    nbformat.write(notebook, folder / f"{LESSON}.ipynb")


def student_of(attack: Attack) -> str:
    """The name of who hands an attack in."""
    return f"x-{attack.name}"


@dataclass(frozen=True)
class Class:
    """A graded class."""

    root: Path
    outcomes: dict[str, Outcome]
    marks: ClassMarks

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of grades, comments and submissions, by student."""
        queries = (
            """select s.student_id, 'grade', c.name, g.auto_score, g.manual_score, g.extra_credit, g.needs_manual_grade
               from grade g join submitted_notebook n on n.id = g.notebook_id
               join submitted_assignment s on s.id = n.assignment_id join base_cell c on c.id = g.cell_id""",
            """select s.student_id, 'comment', c.name, m.auto_comment, m.manual_comment
               from comment m join submitted_notebook n on n.id = m.notebook_id
               join submitted_assignment s on s.id = n.assignment_id join base_cell c on c.id = m.cell_id""",
            """select s.student_id, 'notebook', n.flagged, n.late_submission_penalty, s.timestamp, s.extension
               from submitted_notebook n join submitted_assignment s on s.id = n.assignment_id""",
            "select id, 'student', first_name, last_name, email, lms_user_id from student",
        )
        found: dict[str, list[tuple[Any, ...]]] = {}
        with sqlite3.connect(self.root / "classroom" / "gradebook.db") as connection:
            for row in (row for query in queries for row in connection.execute(query)):
                found.setdefault(row[0], []).append(row[1:])
        return {student: sorted(rows, key=str) for student, rows in found.items()}

    def points(self, student: str) -> dict[str, float | None]:
        """The checks' marks."""
        return {row[1].removeprefix("check-"): row[2] for row in self.rows()[student] if row[0] == "grade"}

    def notebook(self, student: str) -> NotebookNode:
        """The graded notebook."""
        folder = self.root / "classroom" / "autograded" / student / ASSIGNMENT
        return nbformat.read(folder / f"{LESSON}.ipynb", as_version=4)


def grade_class(course: Path, root: Path, executor: str, host: Path, port: int, attackers: bool) -> Class:
    """The class after one run by an executor, in a copy of the course."""
    shutil.copytree(course, root)
    for student, answers in HONEST_STUDENTS.items():
        hand_in(root, student, answers)
    words = {"{host}": host, "{repository}": REPOSITORY, "{port}": port, "{canary}": CANARY}

    def filled(text: str) -> str:
        for name, value in words.items():
            text = text.replace(name, str(value))
        return text

    for attack in ATTACKS if attackers else ():
        answers = {**HONEST, "symmetric_scale": filled(attack.answer)}
        hand_in(root, student_of(attack), answers, filled(attack.before))
    config = course_config(root)
    config.Autograde.limits = LIMITS
    with EXECUTORS[executor]() as settings:
        outcomes = grade_assignment(ASSIGNMENT, root=root, config=config, settings=settings)
    marks = collect(root, ASSIGNMENT, config)
    return Class(root, {outcome.student: outcome for outcome in outcomes}, marks)
