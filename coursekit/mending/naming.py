"""Which of the released notebooks a file is, by its name or by its cells."""

from __future__ import annotations

import re
import unicodedata

from nbformat.notebooknode import NotebookNode

from coursekit.mending.notebookfile import RawNotebook

__all__ = ["normal_name", "shared_cells"]

COPY_MARKS = re.compile(r"^(copy of|kopie von|copie de|copia de)\s+|(\s*[-_ ]?\s*\(\d+\)|[-_ ]*copy\d*)$")


def normal_name(name: str) -> str:
    """A notebook's name without what browsers and file managers add to a copy's, for comparison only.

    >>> normal_name("Copy of 01-Affine Quantization (1)")
    '01-affine-quantization'
    """
    text = unicodedata.normalize("NFKC", name).strip().casefold()
    while True:
        shorter = COPY_MARKS.sub("", text).strip()
        if shorter == text or not shorter:
            return re.sub(r"[\s_]+", "-", text)
        text = shorter


def shared_cells(raw: RawNotebook, release: NotebookNode) -> int:
    """How many of the release's graded cells a notebook has."""
    known = {cell.metadata.get("nbgrader", {}).get("grade_id") for cell in release.cells} - {None}
    return len(known & {cell.grade_id for cell in raw.cells})
