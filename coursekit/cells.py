"""What can be told about one notebook cell: its name, what it was when released, whether a student worked in it.

A cell that nbgrader knows is named by its grade_id. Every other cell of a lesson gets an id that ends in a hash of its
own source. So ids do not change when another cell does, and a cell that was edited later can be told from its id alone.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from typing import Any

__all__ = [
    "assign_ids",
    "grade_id",
    "is_edited",
    "is_graded",
    "is_solution",
    "nbgrader_checksum",
    "released_hash",
    "source_hash",
]

Cell = Any  # a nbformat.NotebookNode

_MAX_ID = 64  # nbformat's limit
_HASHED_ID = re.compile(r"-([0-9a-f]{8})(?:-\d+)?$")


def _nbgrader(cell: Cell) -> dict[str, Any]:
    found = cell.metadata.get("nbgrader", {})
    return found if isinstance(found, dict) else {}


def grade_id(cell: Cell) -> str | None:
    """The name nbgrader knows a cell by, or None for a cell it does not care about."""
    meta = _nbgrader(cell)
    wanted = any(meta.get(key) for key in ("grade", "solution", "locked", "task"))
    name = meta.get("grade_id")
    return name if wanted and isinstance(name, str) and name else None


def is_solution(cell: Cell) -> bool:
    """Whether a student is meant to write in the cell: an exercise, or a written answer."""
    return grade_id(cell) is not None and bool(_nbgrader(cell).get("solution"))


def is_graded(cell: Cell) -> bool:
    """Whether nbgrader gives points for the cell."""
    return grade_id(cell) is not None and bool(_nbgrader(cell).get("grade"))


def source_hash(source: str) -> str:
    """Eight hexadecimal digits that stand for a cell's source.

    >>> source_hash("print(1)")
    'd287bb7f'
    """
    return hashlib.sha256(source.strip().encode("utf-8")).hexdigest()[:8]


def slug(text: str, length: int = 32) -> str:
    """The text in lower-case ASCII letters, digits and hyphens, cut at a hyphen to at most `length`.

    >>> slug("## 3. Where the 256 levels lie")
    '3-where-the-256-levels-lie'
    """
    words = re.findall(r"[a-z0-9]+", text.lower())
    while words and len("-".join(words)) > length:
        words.pop()
    return "-".join(words)


def _described(cell: Cell) -> str:
    """A readable word or two for a cell without grade_id: its heading, its first tag, or its kind."""
    first = cell.source.strip().partition("\n")[0]
    if cell.cell_type == "markdown":
        return (slug(first) if first.startswith("#") else "") or "text"
    tags = cell.metadata.get("tags", [])
    return slug(tags[0]) if tags and slug(tags[0]) else cell.cell_type


def assign_ids(cells: list[Cell]) -> None:
    """Gives every cell an id that depends on that cell only; a cell repeated word for word gets a number.

    Raises: ValueError if two cells have the same grade_id.
    """
    taken: Counter[str] = Counter()
    named = [name for name in map(grade_id, cells) if name]
    for name, count in Counter(named).items():
        if count > 1:
            raise ValueError(f"grade_id {name!r} stands on {count} cells; give each its own")
    for cell in cells:
        known = grade_id(cell)
        if known:
            base = re.sub(r"[^A-Za-z0-9_-]", "-", known)[:_MAX_ID]
        else:
            base = f"{_described(cell)}-{source_hash(cell.source)}"
        taken[base] += 1
        cell["id"] = base if taken[base] == 1 else f"{base}-{taken[base]}"


def nbgrader_checksum(cell: Cell) -> str:
    """The checksum nbgrader writes into a cell's metadata when it releases it."""
    from nbgrader.utils import compute_checksum

    return compute_checksum(cell)


def released_hash(cell: Cell) -> str | None:
    """The hash of the text a cell without grade_id was released with; None for a cell that came from no lesson."""
    match = None if grade_id(cell) else _HASHED_ID.search(cell.get("id", ""))
    return match.group(1) if match else None


def is_edited(cell: Cell) -> bool:
    """Whether somebody changed the cell after it was released; False where the cell does not tell.

    A cell nbgrader knows carries a checksum of its released text, any other a hash of it in its id.
    """
    recorded = _nbgrader(cell).get("checksum")
    if recorded and grade_id(cell):
        try:
            return nbgrader_checksum(cell) != recorded
        except (KeyError, TypeError, ValueError):  # points missing or no number
            return True
    return released_hash(cell) not in (None, source_hash(cell.source))
