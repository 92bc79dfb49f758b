"""The student's notebooks: nbgrader's generate_assignment on the solutions, in a folder of its own.

nbgrader removes the release folder before it writes the new one, and refuses to change an assignment that has
submissions. So the notebooks are generated in a temporary course, where nothing can be lost or refused, and the
course's own gradebook is told about them in a second step.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nbgrader.converters import GenerateAssignment
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import SaveCells
from nbgrader.utils import capture_log
from traitlets.config import Config, PyFileConfigLoader

from autograde.layout import Course, CourseError, Lesson

__all__ = ["nbgrader_config", "programs_on_path", "register", "released"]

IGNORED = (".ipynb_checkpoints", "__pycache__", ".*", "*.pyc", "*.bak", "*.part")


@contextmanager
def programs_on_path() -> Iterator[None]:
    """Puts this Python's programs on PATH: nbgrader starts `alembic` by name, also where no venv is active."""
    before, own = os.environ.get("PATH", ""), str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([own, before])
    try:
        yield
    finally:
        os.environ["PATH"] = before


def nbgrader_config(course: Course) -> Config:
    """The settings of the course's nbgrader_config.py, or none if there is no such file."""
    if not (course.root / "nbgrader_config.py").exists():
        return Config()
    return PyFileConfigLoader("nbgrader_config.py", path=str(course.root)).load_config()


def _converter(course: Course, assignment: str, root: Path, db_url: str | None) -> GenerateAssignment:
    """nbgrader's converter from root/solutions to root/notebooks; it leaves the database alone if db_url is None."""
    config = nbgrader_config(course)
    config.CourseDirectory.root = str(root)
    config.CourseDirectory.source_directory = "solutions"
    config.CourseDirectory.release_directory = "notebooks"
    config.CourseDirectory.assignment_id = assignment
    if db_url is not None:
        config.CourseDirectory.db_url = db_url
    log = logging.getLogger("autograde.release")
    log.propagate = False
    converter = GenerateAssignment(coursedir=CourseDirectory(config=config), config=config, log=log)
    converter.force = True
    if db_url is None:
        converter.no_database = True
        converter.preprocessors = [step for step in converter.preprocessors if step is not SaveCells]
    return converter


def _generate(course: Course, assignment: str, root: Path, db_url: str | None = None) -> dict[str, Any]:
    """Copies the assignment's solutions into the folder root and generates the notebooks there.

    Returns: nbgrader's result, with `success`, and `log` and `error` where there is something to say.
    """
    source = course.root / "solutions" / assignment
    if not any(source.glob("*.ipynb")):
        raise CourseError(f"{source} has no notebook to release")
    shutil.copytree(source, root / "solutions" / assignment, ignore=shutil.ignore_patterns(*IGNORED))
    with programs_on_path():
        return capture_log(_converter(course, assignment, root, db_url))


@contextmanager
def released(course: Course, assignment: str) -> Iterator[Path]:
    """A temporary folder with the assignment as students get it: notebooks without answers, and assets.

    Raises: CourseError with nbgrader's own words if it refuses the solutions.
    """
    with tempfile.TemporaryDirectory(prefix="release-") as name:
        root = Path(name).resolve()
        result = _generate(course, assignment, root)
        if not result["success"]:
            raise CourseError(
                f"nbgrader cannot release {assignment}:\n{result.get('log') or result.get('error')}"
            )
        yield root / "notebooks" / assignment


def _database_url(course: Course) -> str:
    """The course's gradebook: what nbgrader_config.py says, else classroom/gradebook.db."""
    configured = nbgrader_config(course).CourseDirectory.get("db_url")
    if isinstance(configured, str) and not configured.startswith("sqlite:///"):
        return configured
    relative = (
        configured.removeprefix("sqlite:///") if isinstance(configured, str) else "classroom/gradebook.db"
    )
    path = course.root / relative  # an absolute path stays as it is
    path.parent.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{path}"


def register(course: Course, assignment: str) -> str | None:
    """Tells the course's gradebook which cells of the assignment are graded, and for how many points.

    Returns: None if it worked; else why not, when the gradebook keeps an older version because students have
             handed that one in.
    Raises:  CourseError if it failed for any other reason.
    """
    with tempfile.TemporaryDirectory(prefix="register-") as name:
        result = _generate(course, assignment, Path(name).resolve(), _database_url(course))
    if result["success"]:
        return None
    said = result.get("log") or result.get("error") or ""
    if "submissions associated with it" in said:
        return (
            f"the gradebook keeps the cells {assignment} had when submissions came in. To start a new class with "
            "this version, move the folder classroom/ aside and run `make build`"
        )
    raise CourseError(f"the gradebook did not take {assignment}:\n{said}")


def in_order(lessons: list[Lesson]) -> list[str]:
    """The assignments of the lessons, each once, in order."""
    return list(dict.fromkeys(lesson.assignment for lesson in lessons))
