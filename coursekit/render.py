"""A check's result as HTML for JupyterLab and as text for everywhere else. Colour is never the only sign."""

from __future__ import annotations

from html import escape

from coursekit.exercises.spec import CheckResult, Exercise, TestResult

__all__ = [
    "hints_html",
    "hints_text",
    "points_text",
    "printed_html",
    "printed_text",
    "result_html",
    "result_text",
]

PRINTED_CHARACTERS = 2_000

_MARKS = {"passed": "✓ passed", "wrong": "✗ wrong", "raised": "! raised", "not attempted": "– not attempted"}
_COLOURS = {"passed": "#00694a", "wrong": "#a33a00", "raised": "#8a1c6b", "not attempted": "#555"}
_HEADLINES = {
    "passed": "all tests passed",
    "failed": "not right yet",
    "raised": "your function raises an error",
    "not attempted": "not attempted yet",
}


def points_text(points: float) -> str:
    """Points without needless digits: 3, 2.5, 1.33."""
    return f"{points:.2f}".rstrip("0").rstrip(".")


def _headline(result: CheckResult) -> str:
    n_passed = sum(test.passed for test in result.tests)
    scope = "" if result.graded_with_hidden_tests else " (grading adds more tests of the same properties)"
    score = f"{points_text(result.points)} of {points_text(result.max_points)} points"
    counted = f"{n_passed} of {len(result.tests)} tests, {score}"
    return f"{result.exercise}: {_HEADLINES[result.status]}: {counted}{scope if result.passed else ''}"


def result_text(result: CheckResult) -> str:
    """A check's result as plain text: a line a test, then what probably went wrong."""
    lines = [_headline(result)]
    for test in result.tests:
        lines.append(f"  {_MARKS[test.outcome]:<15} {test.property}")
        detail = _detail(test)
        if detail and not test.passed and test.outcome != "not attempted":
            lines.append(f"  {'':<15} {detail}")
    lines += [f"  What probably happened: {mistake.message}" for mistake in result.mistakes]
    if result.status == "not attempted":
        lines.append(f"  Write {result.exercise} in the cell above, run that cell, then run this one.")
    return "\n".join(lines)


def _detail(test: TestResult) -> str:
    parts = [test.message]
    if test.outcome == "wrong" and (test.got or test.expected):
        parts.append(f"got {test.got}, expected {test.expected}")
    return ": ".join(part for part in parts if part)


def result_html(result: CheckResult) -> str:
    """A check's result as an HTML table with inline styles, readable in grey and without any style."""
    rows = "".join(_row(test) for test in result.tests)
    notes = "".join(
        "<p style='border-left:4px solid #e69f00;padding:4px 10px;margin:8px 0'>"
        f"<b>What probably happened.</b> {escape(mistake.message)}</p>"
        for mistake in result.mistakes
    )
    if result.status == "not attempted":
        notes = f"<p>Write <code>{escape(result.exercise)}</code> in the cell above, run that cell, then this one.</p>"
    head = "".join(f"<th style='text-align:left'>{name}</th>" for name in ("", "Property", "Got", "Expected"))
    return (
        f"<p><b>{escape(_headline(result))}</b></p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{notes}"
    )


def _row(test: TestResult) -> str:
    colour = _COLOURS[test.outcome]
    show_message = not test.passed and test.outcome != "not attempted" and test.message
    message = f"<br><i>{escape(test.message)}</i>" if show_message else ""
    cell = "<td style='text-align:left;vertical-align:top;white-space:normal'>{}</td>"
    mark = f"<span style='color:{colour};white-space:nowrap'><b>{escape(_MARKS[test.outcome])}</b></span>"
    texts = (mark, escape(test.property) + message, escape(test.got), escape(test.expected))
    return "<tr>" + "".join(cell.format(text) for text in texts) + "</tr>"


def hints_text(exercise: Exercise, level: int) -> str:
    """The first `level` hints of an exercise."""
    return "\n".join(f"Hint {n} of 3: {text}" for n, text in enumerate(exercise.hints[:level], start=1))


def hints_html(exercise: Exercise) -> str:
    """All three hints, each folded away until it is opened."""
    return "".join(
        f"<details><summary>Hint {n} of 3</summary><p style='margin:4px 16px'>{escape(text)}</p></details>"
        for n, text in enumerate(exercise.hints, start=1)
    )


def _shortened(printed: str) -> str:
    if len(printed) <= PRINTED_CHARACTERS:
        return printed
    return f"{printed[:PRINTED_CHARACTERS]}\n... and {len(printed) - PRINTED_CHARACTERS:,} characters more"


def printed_text(printed: str) -> str:
    """What the student's function printed while it was checked, after the result; empty if it printed nothing."""
    return f"\n  Your function printed:\n{_shortened(printed)}" if printed else ""


def printed_html(printed: str) -> str:
    """The same, folded away."""
    if not printed:
        return ""
    return f"<details><summary>What your function printed</summary><pre>{escape(_shortened(printed))}</pre></details>"
