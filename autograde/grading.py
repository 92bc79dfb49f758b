"""Grading an assignment from Python, as `nbgrader autograde` does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config, PyFileConfigLoader

from autograde.converter import HarnessAutograde, Outcome
from autograde.plugin import install

__all__ = ["Outcome", "Progress", "course_config", "grade_assignment"]

Progress = Callable[[int, int, Outcome], None]


def course_config(root: Path, notebook: str | None = None) -> Config:
    """nbgrader's configuration for the course in this folder: its own nbgrader_config.py, or else ours.

    Args: notebook: the name, or a pattern, of the only notebooks to look at.
    """
    if (root / "nbgrader_config.py").exists():
        config = PyFileConfigLoader("nbgrader_config.py", path=str(root)).load_config()
    else:
        config = Config()
        install(config, root)
    if notebook is not None:
        config.CourseDirectory.notebook_id = notebook
    return config


def grade_assignment(
    assignment: str,
    *,
    root: Path,
    student: str = "*",
    force: bool = False,
    sandbox: bool = True,
    progress: Progress | None = None,
    config: Config | None = None,
    settings: Mapping[str, Any] | None = None,
) -> tuple[Outcome, ...]:
    """Grades the submissions of an assignment into the gradebook.

    Args:    assignment: the folder's name. root: of the course. student: a name or a pattern. force: also what was
             graded before and has not changed. sandbox: False runs student code without any protection. progress:
             called after each submission with its number, how many there are, and its Outcome. config: nbgrader's;
             the course's own by default. settings: of `c.Autograde` for this run, such as executor and workers.
    Returns: an Outcome per submission, in the order of the students' names; one that could not be graded says why.
    Raises:  NbGraderException if nothing could be graded at all: no sandbox, no release, no submissions.
    """
    config = Config(config or course_config(root))
    config.CourseDirectory.assignment_id = assignment
    config.CourseDirectory.student_id = student
    if not sandbox:
        config.Autograde.sandbox = False
    config.Autograde.update(settings or {})
    converter = HarnessAutograde(coursedir=CourseDirectory(config=config), config=config)
    converter.force = force
    converter.progress = progress
    try:
        converter.start()
    except NbGraderException:
        if not converter.outcomes:
            raise
    return tuple(converter.outcomes)
