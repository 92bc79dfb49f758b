"""Runs an exercise's tests on a student and recognises known mistakes. Prints nothing."""

from __future__ import annotations

import ast
import functools
import inspect
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.expect import MismatchError
from coursekit.exercises.spec import CheckResult, Exercise, Mistake, Outcome, Test, TestResult
from coursekit.exercises.student import (
    InputChangedError,
    LocalStudent,
    NotAttemptedError,
    StudentError,
    TooSlowError,
)

__all__ = ["forbidden_names", "recognise", "run", "same_result", "source_of"]

NOT_RUN = "not run"


def run(
    exercise: Exercise, student: Any, *, hidden: Sequence[Test] = (), source: str | None = None
) -> CheckResult:
    """The result of all tests of an exercise on a student's function.

    Args:    student: an object whose attributes are the student's functions.
             hidden: the tests that take part only when grading. source: the text of her function, if known.
    Returns: points in proportion to the weights of the tests that passed; 0 if a forbidden name was used.
    """
    tests = [*exercise.tests, *hidden]
    outcomes = _run_tests(tests, student)
    banned = forbidden_names(exercise, source)
    if banned:
        text = "; ".join(f"{name}: {exercise.forbidden[name]}" for name in banned)
        outcomes = [("wrong", "", "", f"not allowed here: {text}")] * len(tests)
    unit = exercise.points / sum(test.weight for test in tests)
    results = tuple(
        TestResult(
            test.name, test.property, test.public, outcome,
            round(unit * test.weight, 4) if outcome == "passed" else 0.0, round(unit * test.weight, 4),
            got, expected, message,
        )
        for test, (outcome, got, expected, message) in zip(tests, outcomes, strict=True)
    )  # fmt: skip
    weight = sum(test.weight for test, result in zip(tests, results, strict=True) if result.passed)
    status = _status([result.outcome for result in results])
    slow = any(message.startswith(NOT_RUN) for *_, message in outcomes)
    mistakes = (
        recognise(exercise, student) if status in ("failed", "raised") and not banned and not slow else ()
    )
    return CheckResult(
        exercise.name,
        status,
        round(unit * weight, 2),
        float(exercise.points),
        bool(hidden),
        results,
        mistakes,
    )


def _status(outcomes: list[Outcome]) -> Any:
    if all(outcome == "passed" for outcome in outcomes):
        return "passed"
    if all(outcome == "not attempted" for outcome in outcomes):
        return "not attempted"
    return "raised" if all(outcome == "raised" for outcome in outcomes) else "failed"


def _run_tests(tests: list[Test], student: Any) -> list[tuple[Outcome, str, str, str]]:
    """The outcome of each test; after one that does not end the others are not run."""
    outcomes: list[tuple[Outcome, str, str, str]] = []
    for test in tests:
        try:
            outcomes.append(_run_test(test, student))
        except TooSlowError as error:
            outcomes.append(("raised", "", "", f"{NOT_RUN} to its end: {error}"))
            rest = len(tests) - len(outcomes)
            return outcomes + [("raised", "", "", f"{NOT_RUN}, because of the one above")] * rest
    return outcomes


def _run_test(test: Test, student: Any) -> tuple[Outcome, str, str, str]:
    """Outcome, got, expected, message of one test."""
    try:
        test.function(student)
    except NotAttemptedError as error:
        return "not attempted", "", "", str(error)
    except StudentError as error:
        return "raised", type(error.error).__name__, "", str(error)
    except MismatchError as error:
        return "wrong", error.got, error.expected, error.message
    except InputChangedError as error:
        return "wrong", "", "", str(error)
    except TooSlowError:
        raise
    except Exception as error:  # her result was of a kind the test could not work with
        return "wrong", "", "", f"the result could not be used: {type(error).__name__}: {error}"
    return "passed", "", "", ""


def forbidden_names(exercise: Exercise, source: str | None) -> list[str]:
    """The exercise's forbidden names that appear in the source, as names, attributes or imports."""
    if not source or not exercise.forbidden:
        return []
    try:
        tree = ast.parse(textwrap.dedent(source))
    except SyntaxError:
        return []
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            used |= {part for alias in node.names for part in alias.name.split(".")}
        elif isinstance(node, ast.ImportFrom):
            used |= {*(node.module or "").split("."), *(alias.name for alias in node.names)}
    return sorted(used & set(exercise.forbidden))


def recognise(exercise: Exercise, student: Any) -> tuple[Mistake, ...]:
    """The first known mistake whose results on every probe equal the student's; empty if none does."""
    if not exercise.mistakes:
        return ()
    results = list(_results(student, exercise.name, exercise.probes(), exercise.observe))
    expectations = _expected(exercise.name, exercise.mistakes, exercise.probes, exercise.observe)
    for mistake, expected in zip(exercise.mistakes, expectations, strict=True):
        if all(same_result(a, b) for a, b in zip(results, expected, strict=True)):
            return (mistake,)
    return ()


@functools.lru_cache(maxsize=64)
def _expected(
    name: str, mistakes: tuple[Mistake, ...], probes: Callable[[], list[tuple[Any, ...]]], observe: str
) -> list[list[Any]]:
    """What each mistake gives on each probe: worked out once, however many students are judged."""
    students = [LocalStudent({name: mistake.wrong}) for mistake in mistakes]
    return [list(_results(student, name, probes(), observe)) for student in students]


def getattr_or_none(student: Any, name: str) -> Callable[..., Any] | None:
    """The student's function, or None if there is none to call."""
    try:
        return getattr(student, name)
    except (NotAttemptedError, StudentError):
        return None


_RAISED = object()


def _results(student: Any, name: str, probes: list[tuple[Any, ...]], observe: str) -> Iterator[Any]:
    """What the function returns on each probe, in plain values; one and the same marker wherever it raises."""
    function = getattr_or_none(student, name)
    for arguments in probes:
        try:
            result = _RAISED if function is None else function(*arguments)
            yield student.make(observe, result) if observe and result is not _RAISED else result
        except Exception:
            yield _RAISED


def same_result(a: Any, b: Any) -> bool:
    """Whether two results are of one type and, to float32 rounding, of one value; NaN equals NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        return torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-12, equal_nan=True)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(same_result(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_result(a[key], b[key]) for key in a)
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-12)
    return bool(a == b)


def source_of(function: Any) -> str | None:
    """The text of a function defined in a notebook or a file, or None if Python cannot find it."""
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return None
