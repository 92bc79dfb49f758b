"""Where the course's files lie: lessons, the notebooks made from them, and what a running course writes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Course", "CourseError", "Lesson", "atomic_write"]


class CourseError(Exception):
    """Something in the course's files that a person has to mend; the message says what and how."""


@dataclass(frozen=True, order=True)
class Lesson:
    """One lesson: a text in lessons/, and the two notebooks made from it."""

    root: Path
    assignment: str
    name: str

    def __str__(self) -> str:
        return f"{self.assignment}/{self.name}"

    @property
    def text(self) -> Path:
        """The percent script people edit."""
        return self.root / "lessons" / self.assignment / f"{self.name}.py"

    @property
    def solution(self) -> Path:
        """The executed notebook with the answers."""
        return self.root / "solutions" / self.assignment / f"{self.name}.ipynb"

    @property
    def notebook(self) -> Path:
        """The student's notebook."""
        return self.root / "notebooks" / self.assignment / f"{self.name}.ipynb"


@dataclass(frozen=True)
class Course:
    """The repository, by its root folder."""

    root: Path

    @classmethod
    def here(cls) -> Course:
        """The course this package belongs to."""
        return cls(Path(__file__).resolve().parents[1])

    @property
    def gradebook(self) -> Path:
        """The SQLite file nbgrader keeps marks in."""
        return self.root / "classroom" / "gradebook.db"

    @property
    def kept(self) -> Path:
        """Where a build puts what a person wrote into a file it has to replace."""
        return self.root / "my-work" / "kept"

    def lessons(self) -> list[Lesson]:
        """Every lesson there is a text of, in order; names that start with `_` or `.` are left out."""
        texts = sorted((self.root / "lessons").glob("[!_.]*/[!_.]*.py"))
        return [Lesson(self.root, path.parent.name, path.stem) for path in texts]

    def select(self, names: list[str]) -> list[Lesson]:
        """The lessons of the assignments, lessons or files named; all of them for no names.

        Raises: CourseError for a name that stands for nothing.
        """
        every = self.lessons()
        chosen: set[Lesson] = set()
        for name in names:
            plain = name.replace(os.sep, "/").removeprefix("lessons/").removesuffix(".py").rstrip("/")
            found = {lesson for lesson in every if plain in (lesson.assignment, lesson.name, str(lesson))}
            if not found:
                known = ", ".join(map(str, every)) or "none"
                raise CourseError(f"no lesson or assignment is called {name!r}; there are: {known}")
            chosen |= found
        return sorted(chosen) if names else every

    def assets(self, assignment: str) -> list[Path]:
        """The files of an assignment that are not lessons; they are copied to students as they are."""
        folder = self.root / "lessons" / assignment
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        hidden = ("__pycache__", ".ipynb_checkpoints")
        return [
            path
            for path in files
            if not (path.parent == folder and path.suffix == ".py")
            and not any(part in hidden or part.startswith(".") for part in path.relative_to(folder).parts)
        ]


def atomic_write(path: Path, text: str) -> None:
    """Writes a text file so that a reader, or a crash, finds the old text or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8", newline="\n")
    os.replace(part, path)
