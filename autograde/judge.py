"""The judge: an exercise's tests, public and hidden, run here on functions that stay in the student's process.

A test cannot tell a `RemoteStudent` from the one in a notebook. Student code never enters this process, and what it
answers arrives as plain values (`autograde.values`), so it can be wrong but it cannot act.
"""

from __future__ import annotations

import ast
import builtins
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from nbformat.notebooknode import NotebookNode
from nbformat.v4 import new_output

from autograde.kernel import CallRun, Kernel, Status
from autograde.limits import Limits
from autograde.outputs import error_output, safe_data
from autograde.values import Handle, Unsendable, WireError, arguments_in, digests, pack, unpack
from coursekit.exercises import CheckResult, Exercise, Test, exercises
from coursekit.exercises.runner import forbidden_names, recognise, run
from coursekit.exercises.student import NotAttemptedError, StudentError, changed
from coursekit.render import points_text, result_bundle

__all__ = [
    "Judged",
    "RemoteStudent",
    "Stopped",
    "Verdict",
    "checked_name",
    "course_exercises",
    "judge",
    "text_for",
]

LONGEST = 300


class NotBelieved(Exception):
    """What only her own process can know, said by a process that her text reaches into."""


class Stopped(BaseException):
    """A call did not come back, so nothing more can be said of the exercise; not for a test to catch."""

    def __init__(self, status: Status, seconds: float) -> None:
        super().__init__(status)
        self.status, self.seconds = status, seconds


@dataclass(frozen=True)
class Judged:
    """An exercise and the hidden tests that take part when it is judged."""

    exercise: Exercise
    hidden: tuple[Test, ...] = ()


def course_exercises() -> dict[str, Judged]:
    """All exercises of the course with their hidden tests, by name."""
    from autograde.hidden import HIDDEN

    return {each.name: Judged(each, HIDDEN.get(each.name, ())) for each in exercises()}


class RemoteStudent:
    """The functions of a student's process, called on copies of the tensors: as `LocalStudent`.

    A result is worth what it is, whoever made it, and whether a tensor was changed is seen in our own memory. But what
    became of a network or of a dict she was given is for her process to say, and that is not always believed.

    Args: seconds: processor time of all calls together; `patience` times as much wall time. doubt: what her text does,
          if that is to reach into her process.
    """

    def __init__(
        self, kernel: Kernel, limits: Limits, seconds: float, wall_seconds: float, doubt: str | None = None
    ) -> None:
        self._kernel, self._limits, self._doubt = kernel, limits, doubt
        self._seconds, self._until = seconds, time.monotonic() + wall_seconds
        self._n_calls = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._call({"name": name}, name, args, kwargs)

        return call

    def make(self, name: str, *args: Any) -> Any:
        """An object of `coursekit.fixtures` in her process: a handle, or its value if it is a plain one."""
        made = self._call({"fixture": name}, name, args, {})
        if not isinstance(made, Handle):
            self._believe(name)
        return made

    def _believe(self, name: str) -> None:
        if self._doubt is not None:
            text = (
                f"this notebook {self._doubt}; what it says of its own work waits until a person has looked"
            )
            raise StudentError(name, NotBelieved(text))

    def _on_handle(
        self, number: int, path: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        name = ".".join(("the object", *path))
        return self._call({"handle": number, "path": list(path)}, name, args, kwargs)

    def _call(self, target: dict[str, Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            tree, data = pack((args, kwargs))
        except Unsendable as error:
            raise TypeError(f"a test passed {error}") from error
        wall = self._until - time.monotonic()
        seconds = min(self._limits.call_seconds, self._seconds)
        if wall <= 0 or seconds <= 0:
            raise Stopped("timeout", self._limits.cell_seconds)
        self._n_calls += 1
        run = self._kernel.call(
            {"op": "call", **target, "arguments": tree},
            data,
            seconds,
            min(wall, seconds * self._limits.patience),
        )
        self._seconds -= min(run.seconds, seconds)
        if run.status != "ok":
            raise Stopped(run.status, run.seconds)
        value = self._answered(run, name)
        if run.left != data:  # where her process could not but leave it
            self._compare(name, args, digests(arguments_in(tree, run.left)))
        self._compare(name, args, run.answer.get("digests"))
        if any(isinstance(each, list | dict) for each in args):
            self._believe(name)
        return value

    def _answered(self, run: CallRun, name: str) -> Any:
        """The value of an answer, or the error that a LocalStudent would raise."""
        answer = run.answer
        outcome = answer.get("outcome")
        if outcome == "missing":
            raise NotAttemptedError(f"there is no function named {name} yet: run its cell first")
        if outcome == "not written":
            raise NotAttemptedError(f"{name} is not written yet")
        if outcome == "no function":
            kind = _word(answer.get("error"), "thing")
            raise StudentError(name, TypeError(f"{name} is a {kind}, not a function"))
        if outcome == "raised":
            raise StudentError(name, _error(answer))
        try:
            if outcome != "value":
                raise WireError("no answer")
            return unpack(answer.get("value"), run.payload, self._on_handle)
        except (WireError, RecursionError, TypeError, ValueError, KeyError) as error:
            raise StudentError(name, TypeError("the result could not be read")) from error

    def _compare(self, name: str, args: tuple[Any, ...], after: Any) -> None:
        before = digests(args)
        if not isinstance(after, list) or len(after) != len(before):
            raise StudentError(name, TypeError("the result could not be read"))
        for position, (ours, theirs) in enumerate(zip(before, after, strict=True), start=1):
            if ours is not None and ours != theirs:
                raise changed(name, position)


def _word(text: Any, otherwise: str) -> str:
    return text if isinstance(text, str) and len(text) <= 80 and text.isidentifier() else otherwise


def _error(answer: Mapping[str, Any]) -> Exception:
    """An exception with the name and text of hers; one of ours cannot be forged, since it is of a new class."""
    name = _word(answer.get("error"), "Exception")
    text = answer.get("message")
    text = (
        "".join(c if c.isprintable() or c == "\n" else "?" for c in text[:LONGEST])
        if isinstance(text, str)
        else ""
    )
    kind = getattr(builtins, name, None)
    if (
        isinstance(kind, type)
        and issubclass(kind, Exception)
        and kind not in (UnicodeDecodeError, UnicodeEncodeError, UnicodeTranslateError, KeyError)
    ):
        try:
            return kind(text)
        except TypeError:
            pass
    made: Exception = type(name, (Exception,), {})(text)
    return made


@dataclass(frozen=True)
class Verdict:
    """What the judge found.

    Attributes: result: None if the judgement could not be completed. outputs: the check cell's. status: how it ended.
                why: what stopped it.
    """

    outputs: list[NotebookNode]
    result: CheckResult | None
    status: Status
    seconds: float
    why: str = ""


def judge(
    judged: Judged,
    kernel: Kernel,
    *,
    source: str | None,
    limits: Limits,
    wall_seconds: float,
    doubt: str | None = None,
) -> Verdict:
    """Runs an exercise's tests on the function in a student's process.

    Args:    source: her text, in which forbidden names are looked for. wall_seconds: at most. doubt: see RemoteStudent.
    Returns: a verdict; without a result, and so without a mark, if any call did not come back.
    """
    start = time.monotonic()
    wall = min(limits.cell_seconds * limits.patience, wall_seconds)
    student = RemoteStudent(kernel, limits, limits.cell_seconds, wall, doubt)
    at: list[Test] = []
    watched = replace(
        judged.exercise, tests=tuple(_watched(test, at) for test in judged.exercise.tests), mistakes=()
    )
    hidden = tuple(_watched(test, at) for test in judged.hidden)
    try:
        with _one_thread():
            result = run(watched, student, hidden=hidden, source=source)
    except Stopped as stop:
        seconds = time.monotonic() - start
        why = _what_happened(stop, at[-1] if at else None)
        return Verdict([error_output(*why)], None, stop.status, seconds, why[1])
    if result.status in ("failed", "raised") and not forbidden_names(judged.exercise, source):
        result = _with_mistakes(judged.exercise, student, result)
    return Verdict(outputs_of(result), result, "ok", time.monotonic() - start)


def _watched(test: Test, at: list[Test]) -> Test:
    """The test, leaving word that it has begun."""

    def function(student: Any) -> None:
        at.append(test)
        test.function(student)

    return replace(test, function=function)


def _with_mistakes(exercise: Exercise, student: RemoteStudent, result: CheckResult) -> CheckResult:
    """The result with what she probably did; the points stand without it."""
    try:
        with _one_thread():
            return replace(result, mistakes=recognise(exercise, student))
    except Stopped:
        return result


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for torch, as in the student's process: results must not depend on the machine."""
    import torch

    before = torch.get_num_threads()
    if before != 1:
        torch.set_num_threads(1)
    try:
        with torch.no_grad():
            yield
    finally:
        if before != 1:
            torch.set_num_threads(before)


def _what_happened(stop: Stopped, test: Test | None) -> tuple[str, str]:
    where = f" It was being tested for this: {test.property}" if test is not None else ""
    if stop.status == "timeout":
        return (
            "CellTimeoutError",
            f"The check was stopped after {stop.seconds:.0f} seconds. Does a loop never end?{where}",
        )
    if stop.status == "flood":
        return "OutputLimitError", f"The check was stopped because your function printed far too much.{where}"
    return (
        "DeadKernelError",
        f"Your function ended its Python process, by leaving it or by using too much memory.{where}",
    )


def outputs_of(result: CheckResult) -> list[NotebookNode]:
    """A judged check's outputs: those of `coursekit.notebook.check`, written by us."""
    shown = new_output("display_data", data=safe_data(result_bundle(result)))
    value = {"text/plain": repr(result.points), "text/html": f"{points_text(result.points)} points"}
    return [shown, new_output("execute_result", data=value, execution_count=None)]


def checked_name(source: str) -> str | None:
    """The exercise that a check cell names, if the cell is `check("name")` and nothing else."""
    try:
        body = ast.parse(source.strip()).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if len(body) != 1 or not isinstance(body[0], ast.Expr) or not isinstance(body[0].value, ast.Call):
        return None
    call = body[0].value
    if not isinstance(call.func, ast.Name) or call.func.id != "check" or call.keywords or len(call.args) != 1:
        return None
    value = call.args[0].value if isinstance(call.args[0], ast.Constant) else None
    return value if isinstance(value, str) else None


def text_for(name: str, answer: str, others: Sequence[str]) -> str:
    """Her text that an exercise's function depends on: the answer cell, and what it uses of her other cells.

    Args: answer: the exercise's own cell. others: her other cells, those that only use the course's names included.
    """
    tree = _parsed(answer)
    if tree is None:
        return answer
    bound: dict[str, list[ast.stmt]] = {}
    for statement in (s for text in others if (t := _parsed(text)) is not None for s in t.body):
        for target in _binds(statement):
            bound.setdefault(target, []).append(statement)
    wanted, used, seen = [*_names(tree), name], [], set()
    while wanted:
        each = wanted.pop()
        if each in seen:
            continue
        seen.add(each)
        for statement in bound.get(each, ()):
            if statement not in used and not _is_course_import(statement):
                used.append(statement)
                wanted += _names(statement)
    return "\n".join([*map(ast.unparse, used), ast.unparse(tree)])


def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _binds(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
    return {
        node.id
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def _names(tree: ast.AST) -> list[str]:
    return [
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    ]


def _is_course_import(statement: ast.stmt) -> bool:
    """The course's own imports, which the lesson makes; what must not be used of it is withheld."""
    if isinstance(statement, ast.ImportFrom):
        return (statement.module or "").split(".")[0] == "coursekit"
    return isinstance(statement, ast.Import) and all(
        a.name.split(".")[0] == "coursekit" for a in statement.names
    )
