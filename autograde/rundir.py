"""A submission's folder on this machine: copies of the assignment's assets, for the sandbox to show."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

from autograde.sandbox import WORK, Mount

__all__ = ["PASSWD", "RunDirectory", "copy_assets"]

PASSWD = "student:x:1000:1000:Student:/home/student:/bin/sh\n"


class RunDirectory:
    """A folder with copies of the assets; gone when closed.

    Args: assets: a folder; None for none. base: where to make it; by default in the system's folder for such things.
    """

    def __init__(self, assets: Path | None, base: Path | None = None) -> None:
        self._assets = assets
        self._make(base)

    def restore(self) -> None:
        """Makes it elsewhere if it is gone, with the pod that it lay in."""
        if not self.path.exists():
            self._make(None)

    def _make(self, base: Path | None) -> None:
        assets = self._assets
        self.path = Path(tempfile.mkdtemp(prefix="grade-", dir=base))
        self.work = self.path / "work"
        self.work.mkdir()
        (self.path / "passwd").write_text(PASSWD, encoding="utf-8")
        if assets is not None and assets.is_dir():
            copy_assets(assets, self.work)

    def mounts(self) -> list[Mount]:
        """The folder's parts as a sandbox of its own shows them."""
        parts = [Mount(path, f"{WORK}/{path.name}") for path in sorted(self.work.iterdir())]
        return [*parts, Mount(self.path / "passwd", "/etc/passwd")]

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
