"""A kernel's folder on this machine: its sockets, its key, and copies of the assignment's assets."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

from autograde.sandbox import WORK, Mount

__all__ = ["CONNECTION", "SOCKETS", "RunDirectory", "copy_assets"]

SOCKETS = "/run/kernel"  # in the sandbox
CONNECTION = "/run/connection.json"


class RunDirectory:
    """A kernel's folder on this machine: its sockets, its key, and copies of the assets; gone when closed."""

    def __init__(self, assets: Path | None) -> None:
        base = (
            None if len(tempfile.gettempdir()) < 60 else "/tmp"
        )  # a socket's path holds 107 characters at most
        self.path = Path(tempfile.mkdtemp(prefix="grade-", dir=base))
        self.sockets = self.path / "sockets"
        self.work = self.path / "work"
        self.sockets.mkdir()
        self.sockets.chmod(0o777)  # only its owner can reach it: the folder above is closed
        self.work.mkdir()
        (self.path / "passwd").write_text(
            "student:x:1000:1000:Student:/home/student:/bin/sh\n", encoding="utf-8"
        )
        if assets is not None and assets.is_dir():
            copy_assets(assets, self.work)

    def mounts(self) -> list[Mount]:
        """The folder's parts as the sandbox shows them."""
        parts = [Mount(path, f"{WORK}/{path.name}") for path in sorted(self.work.iterdir())]
        parts += [Mount(self.sockets, SOCKETS, writable=True), Mount(self.path / "passwd", "/etc/passwd")]
        return [*parts, Mount(self.path / "connection.json", CONNECTION)]

    def is_misused(self) -> bool:
        """Whether the folder of sockets, which a kernel of our own user id can write to, holds more than sockets."""
        entries = list(os.scandir(self.sockets))
        return len(entries) > 8 or any(
            not stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode) for entry in entries
        )

    def clear(self) -> None:
        """Removes what a dead kernel left, before the next one starts."""
        shutil.rmtree(self.sockets, ignore_errors=True)
        self.sockets.mkdir(exist_ok=True)
        self.sockets.chmod(0o777)

    def close(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.path, ignore_errors=True)


def copy_assets(source: Path, target: Path) -> None:
    """Copies regular files and folders, readable to all, without notebooks and without following links."""
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        if entry.is_symlink() or entry.name.endswith(".ipynb"):
            continue
        place = target / entry.name
        if entry.is_dir(follow_symlinks=False):
            place.mkdir()
            copy_assets(Path(entry.path), place)
        elif stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
            shutil.copyfile(entry.path, place, follow_symlinks=False)
            place.chmod(0o644)
