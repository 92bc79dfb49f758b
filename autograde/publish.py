"""A graded submission's folder under autograded/, put in place whole: that it is there says that all is done."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nbgrader.utils import find_all_files, rmtree

__all__ = ["Publication", "assets_of"]


def assets_of(submitted: Path, source: Path, ignored: list[str], kept: list[str]) -> dict[str, Path]:
    """The files beside a submission's notebooks by relative path: hers, and over them the assignment's own.

    Args: submitted: as intake wrote it. source: the assignment's source folder. ignored: nbgrader's patterns.
          kept: files that are hers even though the assignment has one of the name.
    """
    found = {}
    for top in (submitted, source):
        for name in find_all_files(str(top), [*ignored, "*.ipynb"]):
            path = Path(name).relative_to(top).as_posix()
            if top != source or path not in kept:
                found[path] = Path(name)
    return found


@dataclass(frozen=True)
class Publication:
    """Where a graded submission goes, and with which permissions.

    Args: notebooks: the names that are graded in this run. whole: whether these are all; otherwise the others stay.
    """

    target: Path
    notebooks: tuple[str, ...]
    whole: bool
    permissions: int

    def there(self, names: Iterable[str]) -> bool:
        """Whether a result is in place, with these notebooks."""
        return self.target.is_dir() and all((self.target / f"{name}.ipynb").exists() for name in names)

    @property
    def part(self) -> Path:
        """Where the result is prepared."""
        return self.target.with_name(f".{self.target.name}.part")

    def prepare(self, assets: Mapping[str, Path], notebooks: Mapping[str, str]) -> None:
        """Writes the result beside its place.

        Args:   notebooks: by name, as text.
        Raises: OSError if the disk is full or cannot be written.
        """
        if self.part.exists():
            rmtree(str(self.part))
        self.part.mkdir(parents=True)
        for path, origin in assets.items():
            place = self.part / path
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(origin, place)
        for name, text in notebooks.items():
            (self.part / f"{name}.ipynb").write_text(text.rstrip("\n") + "\n", encoding="utf-8", newline="\n")
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f UTC")
        # The two files `release_feedback` wants of every submission, also if it was not handed in by `nbgrader submit`.
        for name, text in (("timestamp.txt", now), ("submission_secret.txt", secrets.token_hex(64))):
            if not (self.part / name).exists():
                (self.part / name).write_text(text, encoding="utf-8")
        for file in filter(Path.is_file, self.part.rglob("*")):
            file.chmod(self.permissions)

    def withdraw(self) -> None:
        """Takes the old result away."""
        if self.whole and self.target.exists():
            rmtree(str(self.target))
        for name in self.notebooks:
            (self.target / f"{name}.ipynb").unlink(missing_ok=True)

    def publish(self) -> None:
        """Puts the prepared result in place."""
        if not self.target.exists():
            os.replace(self.part, self.target)
            return
        for path in sorted(self.part.rglob("*"), key=lambda path: path.suffix == ".ipynb"):
            if path.is_file():
                place = self.target / path.relative_to(self.part)
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, place)
        rmtree(str(self.part))
