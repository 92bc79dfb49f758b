"""Reading a notebook file that may be anything, without trusting or running a part of it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import nbformat

__all__ = ["BrokenNotebook", "RawCell", "RawNotebook", "parse"]

TYPES = ("code", "markdown", "raw")
PICTURES = ("image/png", "image/jpeg", "image/gif")
ATTACHMENT = re.compile(r"[\w][\w .()-]{0,99}")
MAX_CELLS = 2000


class BrokenNotebook(ValueError):
    """A file that is no notebook; `code` names the kind, the message is a sentence for the student."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class RawCell:
    """A cell with every part of the right type, whatever the file held."""

    kind: str
    source: str
    cell_id: str | None = None
    grade_id: str | None = None
    nbgrader: dict[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    attachments: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class RawNotebook:
    """A notebook's cells, and what had to be done to read them (codes `upgraded` and `odd_cells`)."""

    cells: list[RawCell]
    notes: tuple[str, ...] = ()


def parse(data: bytes) -> RawNotebook:
    """The cells of a notebook file.

    Args:    data: the file, at most as long as intake lets in.
    Returns: cells whose parts have the right types and whose text is valid Unicode without NUL; outputs are left out.
    Raises:  BrokenNotebook if it is empty, not UTF-8, not JSON, not a notebook, or of a version nobody can read.
    """
    raw = _load(data)
    notes: list[str] = []
    version = raw.get("nbformat")
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= 4:
        raise BrokenNotebook(
            "foreign_version", f"The file's notebook format, {str(version)[:20]!r}, cannot be read."
        )
    if version < 4:
        raw = _upgrade(raw)
        notes.append("upgraded")
    cells = raw.get("cells")
    if not isinstance(cells, list):
        raise BrokenNotebook("not_a_notebook", "The file has no list of cells.")
    good = [_cell(cell) for cell in cells[:MAX_CELLS] if isinstance(cell, dict)]
    if len(good) != len(cells):
        notes.append("odd_cells")
    return RawNotebook(good, tuple(notes))


def _load(data: bytes) -> dict[str, Any]:
    if not data.strip():
        raise BrokenNotebook("empty_file", "The file is empty.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BrokenNotebook("not_utf8", "The file is not text in UTF-8.") from error
    if "\x00" in text:
        raise BrokenNotebook("nul_bytes", "The file holds NUL bytes; it was damaged on its way.")
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BrokenNotebook(
            "broken_json", "The file is not valid JSON; perhaps only a part of it arrived."
        ) from error
    if not isinstance(raw, dict):
        raise BrokenNotebook("not_a_notebook", "The file is JSON, but no notebook.")
    return raw


def _upgrade(raw: dict[str, Any]) -> dict[str, Any]:
    try:
        return dict(nbformat.convert(nbformat.from_dict(raw), 4))
    except Exception as error:  # the converters of old formats fail in many ways on what is not theirs
        raise BrokenNotebook(
            "foreign_version", "The notebook is of an old format and could not be brought up to date."
        ) from error


def _cell(raw: dict[str, Any]) -> RawCell:
    metadata = raw.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    nbgrader = metadata.get("nbgrader")
    nbgrader = nbgrader if isinstance(nbgrader, dict) else {}
    grade_id, cell_id, tags = nbgrader.get("grade_id"), raw.get("id"), metadata.get("tags")
    kind = raw.get("cell_type")
    return RawCell(
        kind=kind if kind in TYPES else "markdown",
        source=_source(raw.get("source")),
        cell_id=cell_id if isinstance(cell_id, str) else None,
        grade_id=grade_id if isinstance(grade_id, str) else None,
        nbgrader=nbgrader,
        tags=tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else (),
        attachments=_attachments(raw.get("attachments")),
    )


def _source(value: Any) -> str:
    if isinstance(value, list):
        value = "".join(line for line in value if isinstance(line, str))
    text = value if isinstance(value, str) else ""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def _attachments(value: Any) -> dict[str, dict[str, str]]:
    """Pictures pasted into a written answer; anything else, and anything oddly named, is left out."""
    kept: dict[str, dict[str, str]] = {}
    for name, bundle in value.items() if isinstance(value, dict) else ():
        if not ATTACHMENT.fullmatch(str(name)) or not isinstance(bundle, dict):
            continue
        pictures = {mime: data for mime, data in bundle.items() if mime in PICTURES and _is_base64(data)}
        if pictures:
            kept[str(name)] = pictures
    return kept


def _is_base64(data: Any) -> bool:
    return isinstance(data, str) and re.fullmatch(r"[A-Za-z0-9+/=\s]*", data) is not None
