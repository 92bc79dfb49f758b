"""What nbgrader's own rule says of a cell after the guard: a mark for one valid result, and 0 for all else."""

from __future__ import annotations

import pytest
from nbformat.v4 import new_code_cell, new_output
from nbgrader.utils import determine_grade

from autograde.guard import close_cell
from autograde.outputs import CHECK_MIME

MAXIMUM = 3.0


def result(text: str):
    return new_output("execute_result", data={"text/plain": text})


def report(points: object):
    return new_output("display_data", data={CHECK_MIME: {"points": points}})


def mark(*outputs, require_check: bool = True) -> float:
    nbgrader = {"grade": True, "solution": False, "locked": True, "grade_id": "c", "points": MAXIMUM}
    cell = new_code_cell("check()", outputs=list(outputs), metadata={"nbgrader": nbgrader})
    reason = close_cell(cell, require_check)
    points, _ = determine_grade(cell)
    assert points == 0 or reason is None
    return points


@pytest.mark.parametrize("points", [0.0, 0.5, 3.0])
def test_a_reported_number_in_range_is_the_mark(points):
    assert mark(report(points), result(str(points))) == points


def test_a_warning_costs_nothing():
    assert mark(new_output("stream", name="stderr", text="careful"), report(2.0), result("2.0")) == 2.0


def test_without_a_report_a_number_counts_only_where_none_is_asked_for():
    assert mark(result("2.0")) == 0
    assert mark(result("2.0"), require_check=False) == 2.0


@pytest.mark.parametrize(
    "outputs",
    [
        [],
        [report(3.0)],
        [report(3.0), result("nan")],
        [report(3.0), result("inf")],
        [report(3.0), result("-1")],
        [report(4.0), result("4.0")],
        [report(3.0), result("full marks")],
        [report(3.0), result("")],
        [report(3.0), result("2.0")],
        [report("x"), result("2.0")],
        [report(True), result("1.0")],
        [report(3.0), report(3.0), result("3.0")],
        [report(3.0), result("3.0"), result("3.0")],
        [report(3.0), result("3.0"), new_output("error", ename="E", evalue="", traceback=[])],
        [new_output("execute_result", data={}), report(3.0)],
        [new_output("stream", name="stdout", text="3.0")],
    ],
    ids=lambda outputs: "+".join(o.output_type + str(o.get("data", "")) for o in outputs) or "nothing",
)
@pytest.mark.parametrize("require_check", [True, False])
def test_everything_else_is_worth_nothing(outputs, require_check):
    assert mark(*outputs, require_check=require_check) == 0
