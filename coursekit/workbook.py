"""A student's copy of the lessons: made from the release, and merged with every later release without losing a word."""

from __future__ import annotations

import copy
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat

from coursekit.cells import grade_id, is_edited, is_solution, released_hash, source_hash

__all__ = [
    "RELEASE_RECORD",
    "StartReport",
    "WorkbookError",
    "backup",
    "merge",
    "read_notebook",
    "start",
    "write_atomic",
]

Notebook = Any  # a nbformat.NotebookNode
RELEASE_RECORD = ".release"  # in her folder: the released notebooks, for `coursekit doctor` to compare with
REMOVED_HEADING = "## Answers to exercises that this release no longer has"


class WorkbookError(Exception):
    """A file that cannot be read or written; the message names it and the mend."""


@dataclass
class StartReport:
    """What `start` did, in lines to print, and the files it could not do anything with."""

    done: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def merge(release: Notebook, mine: Notebook) -> tuple[Notebook, list[str]]:
    """A new release with a student's work in it.

    Exercises and written answers she touched keep her text. So do prose and demo cells she changed, where the release
    has not changed them too. Her own cells stay behind the cell they stood behind. All else is the release's. What
    has no place any more (answers to removed exercises, her version of a cell that changed) is kept as well.

    Args:    release, mine: nbformat 4 notebooks; neither is changed.
    Returns: the merged notebook; notes, a sentence each on what was kept or is new.
    """
    merged = copy.deepcopy(release)
    merged.metadata = nbformat.from_dict({**mine.metadata, **release.metadata})
    names = _release_names(merged.cells)
    hers, extras, removed = _sort_out(mine.cells, names)
    notes = [_merge_cell(cell, hers[name]) for name, cell in names.items() if name in hers]
    notes += [f"exercise added: {name}" for name in names if is_solution(names[name]) and name not in hers]
    merged.cells = _insert(names, extras)
    if extras:
        notes.append(f"kept {sum(map(len, extras.values()))} cells of your own")
    if removed:
        notes.append(f"the release no longer has {', '.join(removed)}; your answers stand at the end")
        heading = nbformat.v4.new_markdown_cell(REMOVED_HEADING)
        merged.cells += [heading, *map(_without_nbgrader, removed.values())]
    _unique_ids(merged.cells)
    return merged, [note for note in notes if note]


def _name(cell: Any) -> str:
    return grade_id(cell) or cell.get("id", "")


def _release_names(cells: list[Any]) -> dict[str, Any]:
    """Name -> cell of a release, in order."""
    return {_name(cell) or f"cell-{index}": cell for index, cell in enumerate(cells)}


def _sort_out(
    cells: list[Any], names: dict[str, Any]
) -> tuple[dict[str, Any], dict[str | None, list[Any]], dict[str, Any]]:
    """Tells apart the cells of a student's notebook.

    Returns: her version of each cell of the release, by name; her own cells, by the name of the cell they stand
             behind (None at the top); her answers to exercises the release does not have, by name.
    """
    by_hash = {source_hash(cell.source): name for name, cell in names.items() if not grade_id(cell)}
    hers: dict[str, Any] = {}
    extras: dict[str | None, list[Any]] = {}
    removed: dict[str, Any] = {}
    behind: str | None = None
    for cell in cells:
        name, known = _name(cell), grade_id(cell)
        if name not in names and not known:  # a program that rewrites ids leaves the text to go by
            name = by_hash.get(source_hash(cell.source), name)
        if name in names and _is_better(cell, hers.get(name)):
            if name in hers and is_edited(hers[name]):
                extras.setdefault(name, []).append(_without_nbgrader(hers[name]))
            hers[name], behind = cell, name
        elif known and name not in names and name not in removed and is_solution(cell):
            if is_edited(cell):
                removed[name] = cell
        elif _is_hers(cell):
            extras.setdefault(behind, []).append(_without_nbgrader(cell))
    return hers, extras, removed


def _is_better(cell: Any, other: Any | None) -> bool:
    """Whether of two cells with one name (she copied a cell) this one is to be taken for the exercise."""
    return other is None or (is_edited(cell) and not is_edited(other))


def _is_hers(cell: Any) -> bool:
    """Whether a cell the release does not have holds anything a student wrote."""
    if not cell.source.strip():
        return False
    if grade_id(cell):
        return is_solution(cell) and is_edited(cell)
    return released_hash(cell) is None or is_edited(cell)


def _merge_cell(cell: Any, hers: Any) -> str:
    """Puts her text and outputs into a cell of the release where they belong; says so if that is worth a note."""
    cell.metadata = nbformat.from_dict({**hers.metadata, **cell.metadata})
    may_keep = is_solution(cell) or not grade_id(cell)
    kept = may_keep and is_edited(hers) and hers.source != cell.source
    if kept:
        cell.source = hers.source
        if cell.cell_type != "code" and "attachments" in hers:
            cell["attachments"] = hers["attachments"]
    if cell.cell_type == hers.cell_type == "code" and cell.source == hers.source:
        cell.outputs, cell.execution_count = hers.outputs, hers.execution_count
    if not kept:
        return ""
    return f"kept your {'answer to' if is_solution(cell) else 'change in'} {_name(cell)}"


def _without_nbgrader(cell: Any) -> Any:
    """A copy of a cell that nbgrader will take for an ordinary one, with her outputs."""
    plain = copy.deepcopy(cell)
    plain.metadata.pop("nbgrader", None)
    return plain


def _insert(names: dict[str, Any], extras: dict[str | None, list[Any]]) -> list[Any]:
    cells = list(extras.get(None, []))
    for name, cell in names.items():
        cells += [cell, *extras.get(name, [])]
    return cells


def _unique_ids(cells: list[Any]) -> None:
    """Gives later cells with an id already taken, or none, a new one."""
    taken: set[str] = set()
    for cell in cells:
        if cell.get("id", "") in taken | {""}:
            cell["id"] = nbformat.v4.new_markdown_cell()["id"]
        taken.add(cell["id"])


def read_notebook(path: Path) -> Notebook:
    """The nbformat 4 notebook in a file.

    Raises: WorkbookError if it cannot be read, is no notebook, or one of another nbformat.
    """
    again = f"Rename it and run `coursekit start` again for a fresh copy; {path.name} itself was not changed"
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise WorkbookError(f"{path} cannot be read: {error.strerror}. Check its permissions") from error
    except ValueError as error:
        raise WorkbookError(f"{path} is not a notebook: {error}. {again}") from error
    version = content.get("nbformat") if isinstance(content, dict) else None
    if version != 4:
        raise WorkbookError(
            f"{path} is of nbformat {version!r}, the course needs 4. Open it in JupyterLab, which converts older "
            f"ones, and save it. {again}"
        )
    try:
        notebook = nbformat.v4.upgrade(nbformat.v4.reads(json.dumps(content)))
        _unique_ids(notebook.cells)
        nbformat.validate(notebook)
    except Exception as error:  # AttributeError, KeyError, ValidationError: there are many ways to be broken
        reason = str(error).strip().partition("\n")[0]
        raise WorkbookError(f"{path} is a damaged notebook: {reason}. {again}") from error
    return notebook


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a file so that a crash leaves the old one or the new one.

    Raises: WorkbookError if the folder cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:
        raise WorkbookError(
            f"{path} cannot be written: {error.strerror}. Make {path.parent} writable, or choose another folder "
            "with --work"
        ) from error


def backup(path: Path) -> Path:
    """Copies a file to the first free of name.bak, name.2.bak, …; returns the copy's path."""
    number, target = 1, path.with_name(f"{path.name}.bak")
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.{number}.bak")
    try:
        shutil.copy2(path, target)
    except OSError as error:
        raise WorkbookError(
            f"{target} cannot be written: {error.strerror}; {path.name} is as it was"
        ) from error
    return target


def start(assignment: str, release_root: Path, work_root: Path) -> StartReport:
    """Gives a student her copy of an assignment, or merges the present release into the copy she has.

    Args:    assignment: a folder of release_root. work_root: her folder; the copy goes to work_root/assignment.
    Returns: what was done, file by file; a file that could not be merged is reported and left as it is.
    Raises:  WorkbookError if there is no such assignment, or her folder cannot be written.
    """
    source, target = release_root / assignment, work_root / assignment
    if not assignment or not source.is_dir():
        there = sorted(path.name for path in release_root.glob("[!.]*") if path.is_dir())
        raise WorkbookError(f"there is no assignment {assignment!r}; there is: {', '.join(there) or 'none'}")
    report = StartReport()
    for path in sorted(source.rglob("*")):
        if path.is_file() and not _is_junk(path.relative_to(source)):
            _start_file(path, target / path.relative_to(source), report)
            if path.suffix == ".ipynb":
                write_atomic(target / RELEASE_RECORD / path.relative_to(source), path.read_bytes())
    return report


def _is_junk(path: Path) -> bool:
    return path.suffix == ".bak" or any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def _start_file(source: Path, target: Path, report: StartReport) -> None:
    if not target.exists():
        write_atomic(target, source.read_bytes())
        report.done.append(f"{target}: new")
        return
    if source.suffix != ".ipynb":
        if source.read_bytes() != target.read_bytes():
            kept = backup(target)
            write_atomic(target, source.read_bytes())
            report.done.append(f"{target}: replaced by the release's; yours is {kept.name}")
        return
    try:
        mine = read_notebook(target)
    except WorkbookError as error:
        report.problems.append(str(error))
        return
    merged, notes = merge(read_notebook(source), mine)
    if merged.cells == mine.cells:
        report.done.append(f"{target}: already of this release")
        return
    kept = backup(target)
    write_atomic(target, (nbformat.writes(merged, version=4).rstrip("\n") + "\n").encode("utf-8"))
    report.done.append(f"{target}: merged with this release; the file before is {kept.name}")
    report.done += [f"  {note}" for note in notes]
