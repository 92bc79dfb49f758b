"""The files a student handed in, read within caps and without following anything."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from coursekit.mending.findings import Finding

__all__ = ["Caps", "SubmittedFiles", "shown"]

IGNORED = (".ipynb_checkpoints", "__pycache__", "__MACOSX", "intake.json")


@dataclass(frozen=True)
class Caps:
    """How much of a submission is read: bytes of one file and of all, folders deep, files."""

    file_bytes: int = 20 * 1000 * 1000
    total_bytes: int = 100 * 1000 * 1000
    depth: int = 8
    files: int = 2000


def shown(path: str) -> str:
    """A student's file name as a message may show it."""
    return re.sub(r"[^\w .()/-]", "?", path)[:120]


@dataclass
class SubmittedFiles:
    """The regular files of a submission, read within the caps."""

    caps: Caps
    found: dict[str, bytes] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    total: int = 0

    def note(self, code: str, path: str, message: str) -> None:
        if len(self.findings) < 50:
            self.findings.append(Finding(code, f"`{shown(path)}` {message}", human=True))

    def read(self, top: Path) -> None:
        """Fills `found` with contents by relative path."""
        if top.is_symlink():
            self.note("link", top.name, "is a link; it was not followed.")
        elif top.is_dir():
            for path, entry in self._walk(top, "", 0):
                self._read_file(path, entry)

    def _walk(self, folder: Path, prefix: str, depth: int) -> Iterator[tuple[str, os.DirEntry[str]]]:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            return self.note("unreadable", prefix or folder.name, "could not be opened.")
        for entry in entries:
            path = f"{prefix}{entry.name}"
            if entry.name in IGNORED or (entry.name.startswith(".") and not entry.name.endswith(".ipynb")):
                continue
            if entry.is_symlink():
                self.note("link", path, "is a link; it was left out.")
            elif entry.is_dir(follow_symlinks=False):
                if depth + 1 >= self.caps.depth:
                    self.note("too_deep", path, "lies too deep in folders; it was left out.")
                else:
                    yield from self._walk(Path(entry.path), f"{path}/", depth + 1)
            else:
                yield path, entry

    def _read_file(self, path: str, entry: os.DirEntry[str]) -> None:
        if not path.isprintable() or len(entry.name.encode("utf-8", "replace")) > 240 or "\\" in path:
            return self.note("bad_name", path, "has a name that cannot be kept; it was left out.")
        if len(self.found) >= self.caps.files:
            return self.note("too_large", path, "is one file too many; it was left out.")
        try:
            data = self._contents(entry)
        except OSError:
            return self.note("link", path, "is not a file that can be read; it was left out.")
        if data is None or self.total + len(data) > self.caps.total_bytes:
            return self.note("too_large", path, "is too large; it was left out.")
        self.total += len(data)
        self.found[path] = data

    def _contents(self, entry: os.DirEntry[str]) -> bytes | None:
        """A regular file's bytes; None if there are too many. Opened so that no link or pipe can get in between."""
        flags = (
            os.O_RDONLY
            | getattr(os, "O_NOFOLLOW", 0)
            | getattr(os, "O_NONBLOCK", 0)
            | getattr(os, "O_BINARY", 0)
        )
        descriptor = os.open(entry.path, flags)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError("not a regular file")
            data = file.read(self.caps.file_bytes + 1)
        return data if len(data) <= self.caps.file_bytes else None
