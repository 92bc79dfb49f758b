"""Judgements kept on disk by their key, so that nothing is judged twice that did not change."""

from __future__ import annotations

import contextlib
import gzip
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

from autograde.jobs import Judgement

__all__ = ["Judgements"]


@dataclass(frozen=True)
class Judgements:
    """A folder of judgements, one file each: `<student>/<assignment>/<notebook>-<key>.json.gz`."""

    folder: Path

    def path(self, student: str, assignment: str, notebook: str, key: str) -> Path:
        """Where a judgement is kept."""
        return self.folder / student / assignment / f"{notebook}-{key[:32]}.json.gz"

    def get(self, student: str, assignment: str, notebook: str, key: str) -> Judgement | None:
        """The judgement of this key; None if there is none, or only a damaged one."""
        try:
            data = gzip.decompress(self.path(student, assignment, notebook, key).read_bytes())
            found = Judgement.from_bytes(data)
        except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError):
            return None
        return found if found.key == key and found.failure is None else None

    def put(self, student: str, assignment: str, notebook: str, judgement: Judgement) -> None:
        """Keeps a judgement, whole or not at all.

        Raises: OSError if the disk is full or cannot be written.
        """
        path = self.path(student, assignment, notebook, judgement.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        try:
            part.write_bytes(gzip.compress(judgement.to_bytes(), compresslevel=1, mtime=0))
            os.replace(part, path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink()
            raise
