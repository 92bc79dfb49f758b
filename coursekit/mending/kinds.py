"""What nbgrader takes a released cell for, by its metadata alone.

nbgrader has these questions in `nbgrader.utils`, which takes seconds to import; a test holds the answers equal.
"""

from __future__ import annotations

from typing import Any

__all__ = ["is_anchor", "is_demo", "is_grade", "is_locked", "is_solution", "is_task"]

Cell = Any  # a nbformat.NotebookNode


def _says(cell: Cell, key: str) -> bool:
    return bool(cell.metadata.get("nbgrader", {}).get(key, False))


def is_task(cell: Cell) -> bool:
    """Whether a person gives points for what stands below the cell."""
    return _says(cell, "task")


def is_grade(cell: Cell) -> bool:
    """Whether the cell itself earns points."""
    return _says(cell, "grade")


def is_solution(cell: Cell) -> bool:
    """Whether a student is meant to write in the cell."""
    return _says(cell, "solution")


def is_locked(cell: Cell) -> bool:
    """Whether nobody is: the cell's text is the release's."""
    return not is_solution(cell) and (is_grade(cell) or _says(cell, "locked"))


def is_anchor(cell: Cell) -> bool:
    """Whether nbgrader knows the cell: a check, an answer, a locked cell or a task."""
    return any(test(cell) for test in (is_grade, is_solution, is_locked, is_task))


def is_demo(cell: Cell) -> bool:
    """Whether the cell is a demonstration, which is not run for a mark."""
    return "demo" in cell.metadata.get("tags", [])
