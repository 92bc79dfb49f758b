"""The coursekit of the sandbox: a copy in which the answers are not hidden but absent.

The functions that a lesson asks for keep their signatures and raise `ReferenceWithheld`; tests, hints, known mistakes
and the solution notebooks' reader are left out. Functions that a lesson gives its students stay as they are.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import inspect
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import platformdirs

from coursekit.exercises import Exercise

__all__ = ["build", "lessons_of", "withheld_build"]

# Nothing in them is of use in a graded notebook, and some of it gives answers or tests away.
LEFT_OUT = ("exercises", "render.py", "cli.py", "doctor.py", "workbook.py", "notebook.py")
VERSION = 1

WITHHELD = '''\
"""What stands in the place of the answers."""

__all__ = ["ReferenceWithheld"]


class ReferenceWithheld(RuntimeError):
    """This function is what the exercise asks for, so the course's own is not here while it is graded."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is what you are asked to write: the course's own is not here while you are graded")
'''

NOTEBOOK = '''\
"""check, hint, solution and use, while a notebook is graded: the judge decides, and it is not in this process."""

from coursekit.withheld import ReferenceWithheld

__all__ = ["CHECK_MIME", "Used", "check", "hint", "solution", "use"]

CHECK_MIME = "application/vnd.coursekit.check+json"


class Used:
    """The function of this name in the notebook."""

    def __init__(self, name, function, by="yours"):
        self.name, self.by, self._function = name, by, function

    def __call__(self, *args, **kwargs):
        return self._function(*args, **kwargs)

    def __repr__(self):
        return f"{self.name}: your own function"


def check(name, namespace=None):
    """Nothing: checks are judged outside."""


def hint(name, level=1):
    """Nothing."""


def solution(name):
    """Nothing."""


def use(name, namespace=None):
    """Your function, whatever it is worth."""
    if namespace is None:
        import __main__

        namespace = vars(__main__)

    def missing(*args, **kwargs):
        raise ReferenceWithheld(name)

    return Used(name, namespace.get(name, missing))
'''


def lessons_of(names: Iterable[str], registry: Mapping[str, Exercise]) -> frozenset[str]:
    """The lessons that these exercises belong to."""
    return frozenset(registry[name].lesson for name in names if name in registry)


@functools.lru_cache(maxsize=32)
def withheld_build(lessons: frozenset[str]) -> Path:
    """The build for a notebook of these lessons, from the cache or made now."""
    from coursekit.exercises import exercises

    return build([each for each in exercises() if each.lesson in lessons])


def build(wanted: Iterable[Exercise], package: Path | None = None, cache: Path | None = None) -> Path:
    """A folder that holds the package without the answers to these exercises.

    Args:    package: coursekit's own by default. cache: where builds are kept, by their content.
    Returns: the folder, to be mounted as `coursekit`.
    """
    import coursekit

    package = package or Path(str(coursekit.__file__)).resolve().parent
    answers = _answers(wanted, package)
    files = sorted(
        path for path in package.rglob("*") if path.is_file() and _belongs(path.relative_to(package))
    )
    digest = hashlib.sha256(repr((VERSION, WITHHELD, NOTEBOOK, sorted(map(str, answers)))).encode())
    for path in files:
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + _content_key(path))
    base = cache or Path(platformdirs.user_cache_dir("autograde")) / "withheld"
    target = base / digest.hexdigest()[:24] / "coursekit"
    if not target.is_dir():
        _make(target, package, files, answers)
    return target


def _belongs(path: Path) -> bool:
    return path.parts[0] not in LEFT_OUT and "__pycache__" not in path.parts


def _content_key(path: Path) -> bytes:
    """What tells whether a file has changed: the text of code, the size and time of data."""
    if path.suffix == ".py":
        return path.read_bytes()
    state = path.stat()
    return f"{state.st_size} {state.st_mtime_ns}".encode()


def _answers(wanted: Iterable[Exercise], package: Path) -> set[tuple[str, str]]:
    """(file within the package, name) of every function that gives an answer."""
    found = set()
    for exercise in wanted:
        for function in (exercise.reference, *exercise.withheld):
            path = Path(inspect.getsourcefile(inspect.unwrap(function)) or "").resolve()
            if path.is_relative_to(package):
                found.add((path.relative_to(package).as_posix(), function.__name__))
    return found


def _make(target: Path, package: Path, files: list[Path], answers: set[tuple[str, str]]) -> None:
    """Writes the copy beside its place and moves it there at once, so that nobody sees half of it."""
    target.parent.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent.parent) as name:
        copy = Path(name) / "build" / "coursekit"
        for path in files:
            place = copy / path.relative_to(package)
            place.parent.mkdir(parents=True, exist_ok=True)
            names = {function for file, function in answers if file == path.relative_to(package).as_posix()}
            if names:
                place.write_text(without(path.read_text(encoding="utf-8"), names), encoding="utf-8")
            else:
                shutil.copyfile(path, place)
        (copy / "withheld.py").write_text(WITHHELD, encoding="utf-8")
        (copy / "notebook.py").write_text(NOTEBOOK, encoding="utf-8")
        for folder, _, inside in os.walk(
            copy.parent
        ):  # readable to the student's user id, whatever our umask
            os.chmod(folder, 0o755)
            for file in inside:
                os.chmod(Path(folder) / file, 0o644)
        with contextlib.suppress(OSError):  # somebody else was faster
            os.rename(copy.parent, target.parent)
    if not target.is_dir():
        raise OSError(f"could not write {target}")


def without(source: str, names: set[str]) -> str:
    """A module's source in which these functions and classes raise `ReferenceWithheld`.

    Private helpers that nothing uses any longer go with them; comments are gone too.

    Raises: ValueError if one of the names is not defined at the top level.
    """
    tree = ast.parse(source)
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    if names - defined:
        raise ValueError(f"not defined at the top level: {', '.join(sorted(names - defined))}")
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names:
            _empty(node)
    while unused := _unused(tree):
        tree.body = [node for node in tree.body if getattr(node, "name", None) not in unused]
    place = next((i for i, node in enumerate(tree.body) if _is_import(node)), 0)
    while place < len(tree.body) and _is_future(tree.body[place]):
        place += 1
    tree.body.insert(place, ast.parse("from coursekit.withheld import ReferenceWithheld").body[0])
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def _is_import(node: ast.stmt) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def _empty(node: ast.FunctionDef | ast.ClassDef) -> None:
    """Leaves the signature and the first line of the docstring."""
    line = (ast.get_docstring(node) or "Withheld.").splitlines()[0]
    raising = ast.parse(f"raise ReferenceWithheld({node.name!r})").body
    if isinstance(node, ast.ClassDef):
        raising = ast.parse(
            f"def __init__(self, *args, **kwargs):\n    raise ReferenceWithheld({node.name!r})"
        ).body
    node.decorator_list = []
    node.body = [ast.Expr(ast.Constant(line)), *raising]


def _unused(tree: ast.Module) -> set[str]:
    private = {n.name for n in tree.body if isinstance(n, ast.FunctionDef) and n.name.startswith("_")}
    used: set[Any] = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    used |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    return private - used


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"
