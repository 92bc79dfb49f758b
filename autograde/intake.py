"""From what a student handed in to well-formed notebooks, without running or following anything.

The originals are never touched. The result has every notebook of the release under its right name, with its cells in
order (see `repair`); where there was nothing to work with, the released notebook stands in, which earns nothing, and a
person is asked to look. A lesson of which nothing was handed in, beside others of which something was, is absent: that
needs nobody. `intake.json` beside the notebooks lists all that was found.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import nbformat
from nbformat.notebooknode import NotebookNode
from nbgrader.utils import parse_utc

from autograde.submission import Caps, SubmittedFiles, shown
from coursekit.mending.findings import Finding
from coursekit.mending.matching import edited_answers
from coursekit.mending.naming import normal_name, shared_cells
from coursekit.mending.notebookfile import BrokenNotebook, RawNotebook, parse
from coursekit.mending.repair import repair, report_cell

__all__ = ["Caps", "Intake", "Release", "normal_name", "read_release", "take_in"]

RECORD = "intake.json"
NOTES = {
    "upgraded": "The notebook was of an old format and was brought up to date.",
    "odd_cells": "Some of the notebook's cells were no cells; they were left out.",
}


@dataclass(frozen=True)
class Intake:
    """A submission, taken in.

    Args: folder: where its notebooks are now. sources: for each notebook of the release, the file it came from, or
          None if the blank one stands in. digest: SHA-256 of all files that were read. absent: the notebooks that
          were not handed in, where others were.
    """

    student: str
    assignment: str
    folder: Path
    sources: dict[str, str | None]
    findings: tuple[Finding, ...]
    digest: str
    absent: tuple[str, ...] = ()

    @property
    def needs_human(self) -> bool:
        """Whether somebody should look."""
        return any(finding.human for finding in self.findings)

    def as_dict(self) -> dict[str, object]:
        """The record as `intake.json` holds it."""
        return {
            "student": self.student,
            "assignment": self.assignment,
            "digest": self.digest,
            "notebooks": self.sources,
            "absent": list(self.absent),
            "needs_human": self.needs_human,
            "findings": [finding.as_dict() for finding in self.findings],
        }


@dataclass(frozen=True)
class Release:
    """What students were given: the notebooks by name, and the relative paths of all other files."""

    notebooks: dict[str, NotebookNode]
    assets: frozenset[str] = frozenset()


def read_release(folder: Path) -> Release:
    """An assignment as it was released.

    Raises: FileNotFoundError if it has no notebook.
    """
    found = {path.stem: nbformat.read(path, as_version=4) for path in sorted(folder.glob("*.ipynb"))}
    if not found:
        raise FileNotFoundError(f"no released notebook in {folder}; run `nbgrader generate_assignment` first")
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".ipynb")
    return Release(found, frozenset(path.relative_to(folder).as_posix() for path in files))


def take_in(
    submitted: Path,
    released: Release,
    target: Path,
    *,
    student: str,
    assignment: str,
    caps: Caps | None = None,
) -> Intake:
    """Reads one submission and writes it, well-formed, to another folder.

    Args:    submitted: the student's folder; may hold anything. released: as `read_release` gives it. target: written
             anew, whole or not at all.
    Returns: an Intake. Whatever the submission is, it does not raise.
    """
    files = SubmittedFiles(caps or Caps())
    files.read(submitted)
    findings = files.findings
    notebooks, sources = {}, {}
    assigned, absent = _assign(files.found, released.notebooks, findings)
    for name, (source, raw) in assigned.items():
        notebooks[name], sources[name] = _mended(raw, released.notebooks[name], name, findings), source
    folder = target.with_name(f".{target.name}.part")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _write_others(folder, files.found, released.assets)
    for name, notebook in notebooks.items():
        text = nbformat.v4.writes(notebook)  # which was validated
        (folder / f"{name}.ipynb").write_text(text + "\n", encoding="utf-8", newline="\n")
    intake = Intake(student, assignment, target, sources, tuple(findings), _digest(files.found), absent)
    (folder / RECORD).write_text(
        json.dumps(intake.as_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    shutil.rmtree(target, ignore_errors=True)
    os.replace(folder, target)
    return intake


def _mended(
    raw: RawNotebook | None, release: NotebookNode, name: str, findings: list[Finding]
) -> NotebookNode:
    """The repaired notebook with a report of what was repaired, or the blank one."""
    try:
        notebook, found = repair(raw or RawNotebook([]), release, name)
        nbformat.validate(notebook)
    except Exception:  # nothing a student wrote may stop the class
        text = f"`{name}.ipynb` could not be repaired; the blank one was graded in its place."
        findings.append(Finding("unreadable", text, name, human=True))
        (notebook, _), raw = repair(RawNotebook([]), release, name), None
    if raw is not None:  # that a blank notebook has no cells of hers is not worth a line each
        findings += [Finding(note, NOTES[note], name) for note in raw.notes] + found
    about = [finding for finding in findings if finding.notebook in (name, None)]
    if about:
        notebook.cells.insert(0, report_cell(about))
    return notebook


Assigned = dict[str, tuple[str | None, RawNotebook | None]]


def _assign(
    files: dict[str, bytes], released: dict[str, NotebookNode], findings: list[Finding]
) -> tuple[Assigned, tuple[str, ...]]:
    """For every released notebook, the file that is it and what it holds, or (None, None); and which are absent.

    One that may be among files that could not be read, or belong to no lesson, is missed and not absent.
    """
    parsed: dict[str, RawNotebook] = {}
    broken: dict[str, BrokenNotebook] = {}
    for path in sorted(path for path in files if path.lower().endswith(".ipynb")):
        try:
            parsed[path] = parse(files[path])
        except BrokenNotebook as error:
            broken[path] = error
    assigned: Assigned = {}
    free = dict(parsed)
    for name, release in released.items():
        best = _best(name, release, free, released)
        assigned[name] = (best, free.pop(best)) if best else (None, None)
    unknown = [path for path in (*free, *broken) if not any(_fits(path, name) for name in released)]
    meant = {name for path in (*free, *broken) for name in released if _fits(path, name)}
    handed_in = any(source or name in meant for name, (source, _) in assigned.items())
    absent = []
    for name, (source, _) in assigned.items():
        others = [path for path in (*free, *broken) if _fits(path, name)]
        if source is None and handed_in and name not in meant and not unknown:
            absent.append(name)
        else:
            _note_source(name, source, others or ([] if source else unknown), broken, findings)
    for path in (path for path in unknown if path in free):
        text = f"The notebook `{shown(path)}` belongs to no lesson of this assignment; it was not graded."
        findings.append(Finding("unknown_notebook", text))
    return assigned, tuple(absent)


def _fits(path: str, name: str) -> bool:
    return normal_name(PurePosixPath(path).stem) == normal_name(name)


MOSTLY = 0.5  # of a lesson's graded cells


def _n_graded(release: NotebookNode) -> int:
    names = (cell.metadata.get("nbgrader", {}).get("grade_id") for cell in release.cells)
    return len(set(names) - {None})


def _lesson(path: str, raw: RawNotebook, released: dict[str, NotebookNode]) -> str | None:
    """The lesson that a file is: by its name, unless most of its cells are another lesson's; else by its cells."""
    shared = {name: shared_cells(raw, release) for name, release in released.items()}
    share = {name: shared[name] / max(1, _n_graded(release)) for name, release in released.items()}
    named = next((name for name in released if _fits(path, name)), None)
    if named is not None and (share[named] >= MOSTLY or max(share.values()) < MOSTLY):
        return named
    most = [name for name, cells in shared.items() if cells and cells == max(shared.values())]
    return most[0] if len(most) == 1 else named


def _best(
    name: str, release: NotebookNode, free: dict[str, RawNotebook], released: dict[str, NotebookNode]
) -> str | None:
    """The file that is most likely this notebook: by its name, else by its cells; one she worked in goes first."""

    def rank(path: str) -> tuple[bool, bool, bool, int, int]:
        answers = edited_answers(free[path], release)
        return (answers > 0, path == f"{name}.ipynb", _fits(path, name), answers, -path.count("/"))

    candidates = sorted((path for path in free if _lesson(path, free[path], released) == name), key=rank)
    return candidates[-1] if candidates else None


def _note_source(
    name: str, path: str | None, others: list[str], broken: dict[str, BrokenNotebook], findings: list[Finding]
) -> None:
    if path is None:
        bad = next((p for p in others if p in broken), None)
        if bad is not None:
            text = (
                f"`{shown(bad)}` could not be read: {broken[bad]} The blank notebook was graded in its place."
            )
            findings.append(Finding(broken[bad].code, text, name, human=True))
        else:
            text = f"No notebook `{name}.ipynb` was handed in; the blank one was graded in its place."
            findings.append(Finding("missing_notebook", text, name, human=True))
        return
    if path != f"{name}.ipynb":
        findings.append(Finding("renamed", f"`{shown(path)}` was taken for `{name}.ipynb`.", name))
    if others:
        listed = ", ".join(f"`{shown(other)}`" for other in others)
        text = f"Besides `{shown(path)}`, which was graded, there was {listed}."
        findings.append(Finding("second_notebook", text, name, human=True))


def _digest(files: dict[str, bytes]) -> str:
    total = hashlib.sha256()
    for path in sorted(files):
        total.update(f"{path}\0{hashlib.sha256(files[path]).hexdigest()}\n".encode("utf-8", "replace"))
    return total.hexdigest()


def _write_others(folder: Path, files: dict[str, bytes], assets: frozenset[str]) -> None:
    """Writes the files that are not notebooks and take no place that is not theirs.

    The assignment's own files come from the release later; a damaged time stamp would stop nbgrader.
    """
    for path, data in files.items():
        parents = [str(parent) for parent in PurePosixPath(path).parents][:-1]
        taken = path in assets or any(parent in assets for parent in parents)
        taken = taken or any(asset.startswith(f"{path}/") for asset in assets)
        odd = any(
            part.lower().endswith((".ipynb", "timestamp.txt", "submission_secret.txt")) for part in parents
        )
        if (
            taken
            or odd
            or path.lower().endswith(".ipynb")
            or (path == "timestamp.txt" and not _is_time(data))
        ):
            continue
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


def _is_time(data: bytes) -> bool:
    try:
        return parse_utc(data.decode("utf-8").strip()) is not None
    except Exception:  # dateutil raises many kinds of errors
        return False
