"""What a student calls in a lesson: check, hint, solution, and use."""

from __future__ import annotations

import contextlib
import inspect
import io
import sys
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import nbformat

from coursekit import render
from coursekit.exercises import CheckResult, exercise
from coursekit.exercises.collect import hidden_tests
from coursekit.exercises.runner import run, source_of
from coursekit.exercises.student import LocalStudent

__all__ = ["CHECK_MIME", "Used", "check", "hint", "solution", "use"]

CHECK_MIME = "application/vnd.coursekit.check+json"


def _notebook_globals(frames_up: int) -> Mapping[str, Any]:
    """The names of the notebook, or of the module that called when there is no notebook."""
    if "IPython" in sys.modules:
        shell = sys.modules["IPython"].get_ipython()
        if shell is not None:
            return shell.user_ns
    return sys._getframe(frames_up + 1).f_globals


def _display(html: str, text: str, extra: Mapping[str, Any] | None = None) -> None:
    """One output of several forms in a notebook; the text on stdout elsewhere."""
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
        from IPython.display import display

        display({"text/html": html, "text/plain": text, **(extra or {})}, raw=True)
    else:
        print(text)


def _result(name: str, namespace: Mapping[str, Any], *, grading: bool) -> CheckResult:
    spec = exercise(name)
    hidden = hidden_tests(name) if grading else ()
    return run(spec, LocalStudent(namespace), hidden=hidden, source=source_of(namespace.get(name)))


class Points(float):
    """A number of points: shows itself as a float, which is nbgrader's form of partial credit."""

    def _repr_html_(self) -> str:
        return f"{render.points_text(self)} points"


def check(name: str, namespace: Mapping[str, Any] | None = None) -> Points:
    """The points that your function `name` earns, after showing a table of what holds and what does not.

    Args:    name: of the exercise, which is the name of the function.
             namespace: where the function is; by default the notebook.
    Returns: points; the public tests count here, and the hidden ones too when the notebook is graded.
    Raises:  ValueError for a name that no exercise has.
    """
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        result = _result(name, _notebook_globals(1) if namespace is None else namespace, grading=True)
    text = printed.getvalue()
    _display(
        render.result_html(result) + render.printed_html(text),
        render.result_text(result) + render.printed_text(text),
        {CHECK_MIME: result.to_json()},
    )
    return Points(result.points)


def hint(name: str, level: int = 1) -> None:
    """Shows the hints of an exercise: folded away in JupyterLab, the first `level` of them as text elsewhere.

    Raises: ValueError for a name that no exercise has, or a level other than 1, 2, 3.
    """
    if level not in (1, 2, 3):
        raise ValueError(f"there are hints 1, 2 and 3, not {level!r}")
    _display(render.hints_html(exercise(name)), render.hints_text(exercise(name), level))


def solution(name: str) -> None:
    """Shows the course's own solution of an exercise, where the solutions folder is at hand.

    Looks for `solutions/` beside coursekit and upward from the working directory.

    Raises: ValueError for a name that no exercise has.
    """
    exercise(name)
    for folder in _solution_folders():
        for path in sorted(folder.glob("*/*.ipynb")):
            for cell in nbformat.read(path, as_version=4).cells:
                if cell.metadata.get("nbgrader", {}).get("grade_id") == name and cell.cell_type == "code":
                    _show_code(cell.source)
                    return
    text = f"The solution of {name} is not on this machine. hint({name!r}, level=3) is the strongest hint."
    _display(f"<p>{text}</p>", text)


def _solution_folders() -> list[Path]:
    here = Path.cwd()
    candidates = [parent / "solutions" for parent in (Path(__file__).parent.parent, here, *here.parents)]
    return [folder for folder in candidates if folder.is_dir()]


def _show_code(source: str) -> None:
    lines = [
        line for line in source.splitlines() if line.strip() not in ("### BEGIN SOLUTION", "### END SOLUTION")
    ]
    text = "\n".join(lines)
    _display(f"<pre>{escape(text)}</pre>", text)


class Used:
    """A function for the rest of the lesson: yours where it passes its check, the reference otherwise.

    Attributes: by: "yours" or "reference". why: why it is the reference, or empty.
    """

    def __init__(self, name: str, function: Callable[..., Any], by: str, why: str = "") -> None:
        self.name, self.by, self.why = name, by, why
        self._function = function
        self.__signature__ = inspect.signature(function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"{self.name}: your own function" if self.by == "yours" else f"{self.name}: ours, {self.why}"


def use(name: str, namespace: Mapping[str, Any] | None = None) -> Used:
    """Your function `name` if it passes the public tests, the course's reference otherwise; says which.

    Args:   name, namespace: as `check`.
    Raises: ValueError for a name that no exercise has.
    """
    names = _notebook_globals(1) if namespace is None else namespace
    with contextlib.redirect_stdout(io.StringIO()):
        result = _result(name, names, grading=False)
    if result.passed:
        used = Used(name, names[name], "yours")
    else:
        attempted = result.status != "not attempted"
        why = "as yours does not pass its check" if attempted else "as yours is not written yet"
        used = Used(name, exercise(name).reference, "reference", why)
    print(used)
    return used
