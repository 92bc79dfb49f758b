"""Fail closed: after this, nbgrader gives a mark only for a check that ran to its end and said how many points.

nbgrader's own rule, `determine_grade`, gives full marks to a cell without output, with a result that is no number, and
with NaN. It stays what decides the mark; this makes sure that it only sees the two things it decides rightly: one
number between 0 and the maximum, or an error.
"""

from __future__ import annotations

import math
from typing import Any

from nbformat.notebooknode import NotebookNode

from autograde.outputs import CHECK_MIME, error_output

__all__ = ["close_cell", "is_autograded", "points_of", "why_not"]


def is_autograded(cell: NotebookNode) -> bool:
    """Whether nbgrader reads this cell's mark from its outputs."""
    meta = cell.get("metadata", {}).get("nbgrader", {})
    return bool(cell.cell_type == "code" and meta.get("grade") and not meta.get("solution"))


def points_of(cell: NotebookNode) -> float:
    """The points the cell is worth."""
    return float(cell.metadata.nbgrader.get("points", 0) or 0)


def close_cell(cell: NotebookNode, require_check: bool = True) -> str | None:
    """Leaves an auto-graded cell with one valid result or with an error, in place.

    Args:    cell: an executed cell that `is_autograded`. require_check: whether a result counts only with the check's
             own report beside it; False for assignments whose cells return a plain number.
    Returns: None, or why the cell gets 0 points. Warnings on stderr become ordinary output: nbgrader gives 0 to any
             cell that has some, and a right answer may warn.
    """
    outputs = list(cell.get("outputs", []))
    if any(output.output_type == "error" for output in outputs):
        cell.outputs = [
            _as_display(output) for output in outputs
        ]  # nbgrader stops at a result before the error
        return "The check ended in an error."
    reason = why_not(outputs, points_of(cell), require_check)
    if reason is not None:
        cell.outputs = [_as_display(output) for output in outputs]
        cell.outputs.append(error_output("NotGraded", reason))
        return reason
    for output in outputs:
        if output.output_type == "stream" and output.name == "stderr":
            output.name = "stdout"
    return None


def why_not(outputs: list[NotebookNode], max_points: float, require_check: bool) -> str | None:
    """Why these outputs are no result of a check; None if they are one."""
    results = [output for output in outputs if output.output_type == "execute_result"]
    if len(results) != 1:
        return "This check did not report its points" + (" exactly once." if results else ".")
    points = _number(results[0].get("data", {}).get("text/plain"))
    if points is None or not 0.0 <= points <= max_points:
        return f"This check's result is no number from 0 to {max_points:g}."
    reports = [output.data[CHECK_MIME] for output in outputs if CHECK_MIME in output.get("data", {})]
    if (require_check and len(reports) != 1) or len(reports) > 1:
        return "This check's report is missing." if not reports else "This check reported more than once."
    if reports and _number(reports[0].get("points")) != points:
        return "This check's report and its result disagree."
    return None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _as_display(output: NotebookNode) -> NotebookNode:
    """The output as something shown, so that it can no longer be taken for a result."""
    if output.output_type == "execute_result":
        return NotebookNode(output_type="display_data", data=output.data, metadata={})
    return output
