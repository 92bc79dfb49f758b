"""What must not be in a student's bundle, and whether it is."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat.notebooknode import NotebookNode

from coursekit.exercises import exercises
from coursekit.mending.kinds import is_solution

__all__ = ["Secret", "find_leaks", "secrets_of"]

MARKER = re.compile(r"^\s*### (BEGIN|END) (SOLUTION|HIDDEN TESTS)\s*$", re.M)
BETWEEN = re.compile(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", re.S)
FORBIDDEN_PARTS = ("autograde", "hidden", "solutions", "lessons", "tests", "classroom", "my-work", ".git")
FORBIDDEN_NAMES = ("gradebook.db", "nbgrader_config.py", "grading.toml", "seed-secret.txt")
SHORTEST = 25  # characters without blanks; what is shorter says nothing


@dataclass(frozen=True)
class Secret:
    """Text that may not reach a student: what it is, and its statements or words without their layout.

    Args: in_coursekit: whether the student's coursekit may hold it all the same, as it holds the functions that other
          lessons ask for.
    """

    about: str
    text: str
    in_coursekit: bool = False


def secrets_of(root: Path, names: set[str] = frozenset()) -> list[Secret]:  # type: ignore[assignment]
    """The secrets of the course in this folder.

    Args:    names: functions that are withheld, whose implementations and known mistakes in coursekit count too.
    Returns: every answer in solutions/, every hidden test, and what `names` adds.
    """
    found = [
        *_answers(root, names),
        *_functions(sorted((root / "autograde" / "hidden").glob("*.py")), "hidden test"),
    ]
    if names:
        asked = [each for each in exercises() if each.name in names]
        modules = {_place(root, function) for each in asked for function in (each.reference, *each.withheld)}
        found += [
            each for each in _functions(sorted(modules), "reference") if each.about.split()[-1] in names
        ]
        packages = {_place(root, each.tests[0].function).parent for each in asked}
        found += _wrongs(sorted(path for package in packages for path in package.rglob("*.py")))
    return [each for each in dict.fromkeys(found) if len(each.text) >= SHORTEST]


def _place(root: Path, function: Callable[..., Any]) -> Path:
    """The file of the course in this folder that defines one of coursekit's functions."""
    return root.joinpath(*function.__module__.split(".")).with_suffix(".py")


def find_leaks(folder: Path, secrets: list[Secret], *, withheld: bool) -> list[str]:
    """A line for each thing in a folder that should not be there; none if it is fit for a student.

    Args: withheld: whether coursekit is the copy without the functions asked for. In the whole one the reference
          implementations are, and an answer may be equal to one of them.
    """
    problems = []
    for path in sorted(each for each in folder.rglob("*") if each.is_file() or each.is_symlink()):
        name = path.relative_to(folder)
        if path.is_symlink():
            problems.append(f"{name.as_posix()} is a link")
            continue
        if set(name.parts) & set(FORBIDDEN_PARTS) or name.name in FORBIDDEN_NAMES:
            problems.append(f"{name.as_posix()} is not for students")
        ours = name.parts[0] == "coursekit"
        for part in _parts(path):
            if MARKER.search(part):
                problems.append(f"{name.as_posix()} has a line BEGIN or END SOLUTION, or HIDDEN TESTS")
            plain = _plain(part)
            problems += [
                f"{name.as_posix()} holds the {each.about}"
                for each in secrets
                if each.text in plain
                and not (ours and (each.in_coursekit or (not withheld and each.about.startswith("answer"))))
            ]
    return list(dict.fromkeys(problems))


def _plain(text: str) -> str:
    """Text without layout and comments, if it is Python, as Python itself writes it."""
    try:
        text = ast.unparse(ast.parse(text))
    except (SyntaxError, ValueError):
        text = text.replace("%", " ")
    return re.sub(r"\s+", "", text)


def _parts(path: Path) -> Iterator[str]:
    """The texts of a file: of a notebook, its cells and outputs; of a binary file, what of it is text."""
    if path.suffix == ".ipynb":
        for cell in nbformat.read(path, as_version=4).cells:
            yield cell.source
            yield from (str(output) for output in cell.get("outputs", []))
    else:
        yield path.read_bytes().decode("utf-8", "ignore")


def _answers(root: Path, names: set[str]) -> Iterator[Secret]:
    for path in sorted((root / "solutions").rglob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if is_solution(cell):
                name = cell.metadata.nbgrader.grade_id
                elsewhere = cell.cell_type == "code" and name not in names
                yield from (Secret(f"answer to {name}", text, elsewhere) for text in _answer_texts(cell))


def _answer_texts(cell: NotebookNode) -> Iterator[str]:
    if cell.cell_type != "code":
        yield _plain(cell.source)
    for body in BETWEEN.findall(cell.source):
        lines = [line for line in body.splitlines() if line.strip()]
        margin = min((len(line) - len(line.lstrip()) for line in lines), default=0)
        text = "\n".join(line[margin:] for line in lines)
        try:
            ast.parse(f"def f():\n{_indented(text)}")
        except SyntaxError:
            yield re.sub(r"\s+", "", text)
        else:
            yield re.sub(r"\s+", "", ast.unparse(ast.parse(f"def f():\n{_indented(text)}").body[0].body))  # type: ignore[attr-defined]


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _functions(paths: list[Path], what: str) -> Iterator[Secret]:
    """The bodies of the top-level functions and of the methods in files, without their docstrings."""
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                text = "".join(ast.unparse(statement) for statement in body)
                yield Secret(f"{what} {node.name}", re.sub(r"\s+", "", text))


def _wrongs(paths: list[Path]) -> Iterator[Secret]:
    """The implementations of known mistakes that stand in a table as a lambda."""
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Mistake":
                for part in node.args:
                    if isinstance(part, ast.Lambda):
                        yield Secret("known mistake", re.sub(r"\s+", "", ast.unparse(part.body)))
