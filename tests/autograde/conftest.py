"""A course with one tiny lesson, made once and copied for each test that grades something."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat.notebooknode import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI

from autograde import sandbox
from autograde.grading import course_config
from tests.autograde.tinycourse import ASSIGNMENT, LESSON, MINICHECK, answered, lesson


@pytest.fixture(scope="session")
def course_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The course after `nbgrader generate_assignment`."""
    root = tmp_path_factory.mktemp("course")
    folder = root / "solutions" / ASSIGNMENT
    folder.mkdir(parents=True)
    nbformat.write(lesson(), folder / f"{LESSON}.ipynb")
    (folder / "minicheck.py").write_text(MINICHECK, encoding="utf-8")
    result = NbGraderAPI(config=course_config(root)).generate_assignment(ASSIGNMENT)
    assert result["success"], result
    return root


@pytest.fixture
def course(course_template: Path, tmp_path: Path) -> Path:
    """A course of one's own to hand in to and grade."""
    root = tmp_path / "course"
    shutil.copytree(course_template, root)
    return root


@pytest.fixture(scope="session")
def release(course_template: Path) -> NotebookNode:
    """The student's notebook of the tiny lesson."""
    return nbformat.read(course_template / "notebooks" / ASSIGNMENT / f"{LESSON}.ipynb", as_version=4)


@pytest.fixture
def right(release: NotebookNode) -> Callable[..., NotebookNode]:
    """Makes a notebook with right answers, or with others: `right(square="...")`."""
    return lambda **answers: answered(release, **answers)


@pytest.fixture
def hand_in(course: Path) -> Callable[..., Path]:
    """Puts a notebook, or bytes, into the course as a student's submission; returns her folder."""

    def put(student: str, work: NotebookNode | bytes, name: str = f"{LESSON}.ipynb") -> Path:
        folder = course / "classroom" / "submitted" / student / ASSIGNMENT
        folder.mkdir(parents=True, exist_ok=True)
        data = work if isinstance(work, bytes) else nbformat.writes(work).encode()
        (folder / name).write_bytes(data)
        return folder

    return put


@pytest.fixture
def marks(course: Path) -> Callable[[str], dict[str, float | None]]:
    """Reads a student's marks from the gradebook, by cell."""

    def read(student: str) -> dict[str, float | None]:
        with Gradebook(course_config(course).CourseDirectory.db_url) as gradebook:
            notebook = gradebook.find_submission_notebook(LESSON, ASSIGNMENT, student)
            return {grade.name: grade.auto_score for grade in notebook.grades}

    return read


@pytest.fixture(scope="session")
def walls() -> sandbox.Mode:
    """The way student code is shut in on this machine; skips where there is none."""
    found = sandbox.available()
    if not found.ok:
        pytest.skip(str(found))
    return found.mode
