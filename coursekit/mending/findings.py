"""What intake found in a submission and did about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["CODES", "Finding"]

CODES = {
    "renamed": "a notebook had another name",
    "second_notebook": "more than one file could be the notebook",
    "unknown_notebook": "a notebook that belongs to no lesson of the assignment",
    "missing_notebook": "no file could be the notebook",
    "empty_file": "a notebook without a byte",
    "not_utf8": "a notebook that is no text",
    "nul_bytes": "a notebook with NUL bytes",
    "broken_json": "a notebook that is no JSON",
    "not_a_notebook": "JSON that is no notebook",
    "foreign_version": "a notebook format nobody can read",
    "upgraded": "an old notebook format, brought up to date",
    "odd_cells": "cells that were no cells, or too many",
    "link": "a link, a device or a pipe in place of a file",
    "too_large": "a file or a submission beyond the size limit",
    "too_deep": "folders beyond the depth limit",
    "unreadable": "a file that could not be read",
    "bad_name": "a file name that cannot be kept",
    "duplicated": "several copies of one cell",
    "check_restored": "a check that was deleted",
    "check_reset": "a check that was edited",
    "check_moved": "a check that stood before its exercise",
    "cell_restored": "a cell that was deleted",
    "answer_adopted": "an answer in a new cell instead of its own",
    "retyped": "a cell of another type",
    "metadata_reset": "a cell whose grading metadata was changed",
    "foreign_metadata": "grading metadata on a cell that is not graded",
    "tag_reset": "a cell whose `demo` tag was changed",
    "demo_edited": "a demonstration that was edited, and is not run",
}


@dataclass(frozen=True)
class Finding:
    """One thing intake found.

    Args: code: one of `CODES`. message: a sentence for the student. notebook: its name, if it concerns one.
          grade_id: the cell's, if it concerns one. human: whether somebody should look.
    """

    code: str
    message: str
    notebook: str | None = None
    grade_id: str | None = None
    human: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The finding as JSON holds it."""
        return asdict(self)
