"""What an autograded notebook says about each exercise: the check's own report, or why there is none.

A notebook that student code has run in is not to be trusted: every value is taken for what it should be, or left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograde.outputs import CHECK_MIME

__all__ = ["STOPS", "Evidence", "Mistake", "Stop", "read_evidence"]

STATUSES = ("passed", "failed", "raised", "not attempted")
# The errors that `autograde.execute` and `autograde.guard` write, and the word a report has for each.
STOPS = {
    "CellTimeoutError": "time-out",
    "OutputLimitError": "too much output",
    "DeadKernelError": "kernel died",
    "NotRun": "not run",
    "NotGraded": "no result",
}
ENDLESS = "not run to its end"  # what coursekit's runner says of a call that it stopped
LONGEST = 400


@dataclass(frozen=True)
class Mistake:
    """A known mistake that a check recognised, with what the student was told."""

    id: str
    message: str


@dataclass(frozen=True)
class Stop:
    """A cell that did not end by itself or was not judged: `kind` is one of the values of `STOPS`."""

    kind: str
    message: str


@dataclass(frozen=True)
class Evidence:
    """What one graded or answered cell shows.

    Attributes: status: the check's, or "" where there is no report. mistakes: those recognised.
                failed: the properties that did not hold. stop: why the cell has no result, if so.
    """

    status: str = ""
    mistakes: tuple[Mistake, ...] = ()
    failed: tuple[str, ...] = ()
    stop: Stop | None = None


def read_evidence(path: Path) -> dict[str, Evidence]:
    """The evidence of each cell with a grade_id in an autograded notebook; empty if the file is missing or broken."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cells = notebook["cells"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    found = {}
    for cell in _mappings(cells):
        grade_id = _mapping(_mapping(cell.get("metadata")).get("nbgrader")).get("grade_id")
        if isinstance(grade_id, str):
            found[grade_id] = _of_outputs(list(_mappings(cell.get("outputs"))))
    return found


def _of_outputs(outputs: list[Mapping[str, Any]]) -> Evidence:
    stops = [o for o in outputs if o.get("output_type") == "error" and o.get("ename") in STOPS]
    stop = Stop(STOPS[stops[-1]["ename"]], _text(stops[-1].get("evalue"))) if stops else None
    reports = [data[CHECK_MIME] for o in outputs if CHECK_MIME in (data := _mapping(o.get("data")))]
    if len(reports) != 1 or not isinstance(reports[0], Mapping):
        return Evidence(stop=stop)
    report = reports[0]
    status, tests = report.get("status"), list(_mappings(report.get("tests")))
    endless = [text for test in tests if (text := _text(test.get("message"))).startswith(ENDLESS)]
    if endless and stop is None:
        stop = Stop(STOPS["CellTimeoutError"], endless[0].removeprefix(ENDLESS).lstrip(": "))
    return Evidence(
        status if status in STATUSES else "",
        tuple(
            Mistake(_text(item.get("id")), _text(item.get("message")))
            for item in _mappings(report.get("mistakes"))
        ),
        tuple(_text(test.get("property")) for test in tests if test.get("passed") is not True),
        stop,
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    yield from (item for item in value if isinstance(item, Mapping)) if isinstance(value, list) else ()


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else ""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
