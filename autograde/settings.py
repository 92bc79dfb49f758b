"""`grading.toml` in the course's root: limits and seeds for the course, an assignment, an exercise.

    seed = 0                              # or "per-student": random data of each student's own

    [limits]                              # for every assignment, by the names of autograde.limits.Limits
    notebook_seconds = 180

    [assignments.capstone]
    seed = "per-student"

    [assignments.capstone.limits]
    memory_bytes = 4_294_967_296

    [assignments.capstone.exercises.train_student]
    cell_seconds = 60                     # for the cells of this exercise and its check

The file may be missing, and so may everything in it.
"""

from __future__ import annotations

import difflib
import hashlib
import hmac
import os
import secrets
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from autograde.layout import CourseError
from autograde.limits import Limits

__all__ = [
    "FILE",
    "PER_STUDENT",
    "AssignmentSettings",
    "Settings",
    "course_secret",
    "load_settings",
    "seed_for",
]

FILE = "grading.toml"
SECRET = "classroom/seed-secret.txt"
PER_STUDENT: Literal["per-student"] = "per-student"
NUMBERS = {each.name: each.type for each in fields(Limits) if each.type in ("int", "float")}
MAX_SEED = 2**31  # numpy, torch and Python all take it

Seed = int | Literal["per-student"]


@dataclass(frozen=True)
class AssignmentSettings:
    """What differs from the course's settings in one assignment.

    Attributes: limits: by name. seed: None for the course's. exercises: by name, the processor seconds of its cells.
    """

    limits: Mapping[str, float] = field(default_factory=dict)
    seed: Seed | None = None
    exercises: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """What `grading.toml` says. `root` is the course's."""

    root: Path
    limits: Mapping[str, float] = field(default_factory=dict)
    seed: Seed = 0
    assignments: Mapping[str, AssignmentSettings] = field(default_factory=dict)

    def of(self, assignment: str) -> AssignmentSettings:
        """One assignment's settings; empty ones if the file does not name it."""
        return self.assignments.get(assignment, AssignmentSettings())

    def limits_for(self, assignment: str, override: Mapping[str, Any] | None = None) -> Limits:
        """The limits of an assignment's notebooks; `override` (nbgrader's own configuration) goes before the file."""
        own = self.of(assignment)
        chosen: dict[str, Any] = {**self.limits, **own.limits, **(override or {})}
        return replace(Limits(**chosen), exercise_seconds=dict(own.exercises))

    def seed_for(self, student: str, assignment: str) -> int:
        """The seed of a student's run: the one in the file, or her own."""
        own = self.of(assignment).seed
        seed = self.seed if own is None else own
        if seed != PER_STUDENT:
            return seed
        return seed_for(student, assignment, course_secret(self.root))


def seed_for(student: str, assignment: str, secret: str) -> int:
    """A number from 0 to 2^31 - 1 that only who has the secret can work out, always the same for the same arguments.

    >>> seed_for("ada", "capstone", "s") == seed_for("ada", "capstone", "s") != seed_for("bob", "capstone", "s")
    True
    """
    message = f"{len(assignment)}:{assignment}:{student}".encode("utf-8", "surrogatepass")
    digest = hmac.new(secret.encode("utf-8"), message, hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "big") % MAX_SEED


def course_secret(root: Path) -> str:
    """The course's secret, made at its first use and kept in classroom/, where neither git nor a student sees it.

    Losing it changes later seeds; those used so far stand in the receipts.

    Raises: CourseError if the file is empty or cannot be written.
    """
    path = root / SECRET
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(prefix=".seed-", dir=path.parent)  # of mode 0600
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(secrets.token_hex(32) + "\n")
        try:
            os.link(part, path)  # fails if there is one, also one that another process made just now
        except FileExistsError:
            pass
        finally:
            os.unlink(part)
        found = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise CourseError(f"{path} cannot be written: {error.strerror}; make the folder writable") from error
    if not found:
        raise CourseError(f"{path} is empty; put it back from a backup, or delete it to get other seeds")
    return found


def load_settings(root: Path) -> Settings:
    """The settings of the course in this folder.

    Raises: CourseError naming the file, the place in it and the mend.
    """
    path = root / FILE
    if not path.exists():
        return Settings(root)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CourseError(f"{path} cannot be read: {error}") from error
    _known(path, "", data, ("seed", "limits", "assignments"))
    assignments = _table(path, "assignments", data.get("assignments", {}))
    return Settings(
        root,
        _limits(path, "limits", data.get("limits", {})),
        _seed(path, "seed", data.get("seed", 0)),
        {name: _assignment(path, f"assignments.{name}", value) for name, value in assignments.items()},
    )


def _assignment(path: Path, where: str, data: Any) -> AssignmentSettings:
    _known(path, where, _table(path, where, data), ("seed", "limits", "exercises"))
    exercises = _table(path, f"{where}.exercises", data.get("exercises", {}))
    seconds: dict[str, float] = {}
    for name, value in exercises.items():
        here = f"{where}.exercises.{name}"
        _known(path, here, _table(path, here, value), ("cell_seconds",))
        if "cell_seconds" in value:
            seconds[name] = _limits(path, here, value)["cell_seconds"]
    seed = _seed(path, f"{where}.seed", data["seed"]) if "seed" in data else None
    return AssignmentSettings(_limits(path, f"{where}.limits", data.get("limits", {})), seed, seconds)


def _table(path: Path, where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CourseError(f"{path}: {where} must be a table, written [{where}]; it is {value!r}")
    return value


def _known(path: Path, where: str, table: Mapping[str, Any], names: Iterable[str]) -> None:
    for key in table:
        if key not in names:
            close = difflib.get_close_matches(key, list(names), 1)
            hint = f"did you mean {close[0]}?" if close else f"there is: {', '.join(names)}"
            raise CourseError(f"{path}: {where + '.' if where else ''}{key} is no setting; {hint}")


def _limits(path: Path, where: str, value: Any) -> dict[str, float]:
    """Limits by name, each a number above 0 of the type that Limits has."""
    table = _table(path, where, value)
    _known(path, where, table, NUMBERS)
    for key, number in table.items():
        whole = NUMBERS[key] == "int"
        right = isinstance(number, int if whole else int | float) and not isinstance(number, bool)
        if not right or not 0 < number < float("inf"):
            kind = "a whole number" if whole else "a number"
            raise CourseError(f"{path}: {where}.{key} must be {kind} above 0; it is {number!r}")
    return dict(table)


def _seed(path: Path, where: str, value: Any) -> Seed:
    whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_SEED
    if not whole and value != PER_STUDENT:
        raise CourseError(f'{path}: {where} must be a whole number from 0 to 2^31 - 1, or "{PER_STUDENT}"')
    return value
