"""`coursekit doctor NOTEBOOK`: what grading would trip over in a student's notebook, and its mend.

The mend is the one intake makes before grading. Made by the student herself, before she hands in, she sees what became
of her cells and can object. Nothing is written without a copy of the file before, and no text of hers goes.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat.notebooknode import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from coursekit.mending.findings import Finding
from coursekit.mending.kinds import is_anchor
from coursekit.mending.matching import edited_answers
from coursekit.mending.naming import normal_name, shared_cells
from coursekit.mending.notebookfile import BrokenNotebook, RawNotebook, parse
from coursekit.mending.repair import repair
from coursekit.workbook import RELEASE_RECORD, WorkbookError, backup, write_atomic

__all__ = ["Checkup", "examine_notebook", "find_release", "mend_notebook", "told"]

ROOT = Path(__file__).resolve().parents[1]
KEPT = "# Your text from a cell that only the course may write in. It is not run for a mark.\n"
# What each finding means for her, and what mending does about it.
TELL = {
    "duplicated": "There is more than one copy of this cell. Only one can count; mending keeps the one you worked in, "
    "and other versions of an answer as ordinary cells that are not graded.",
    "check_restored": "This check is gone, and without it the exercise gets no points. Mending puts it back.",
    "check_reset": "This cell is not yours to write in. Mending restores it, and keeps your text in a cell below.",
    "check_moved": "This check stands before the answer it checks. Mending moves it behind.",
    "cell_restored": "A cell the rest depends on is gone. Mending puts it back.",
    "answer_adopted": "Your answer stands in a new cell, where nobody would look for it. Mending moves it home.",
    "retyped": "The cell changed its type (code, text, raw), so it would not be run or read. Mending changes it back.",
    "metadata_reset": "The data that tells grading what this cell is was changed. Mending restores it.",
    "foreign_metadata": "A cell of your own carries grading data. Mending makes it an ordinary cell.",
    "tag_reset": "A demonstration lost, or another cell got, the tag `demo`. Mending sets it as it was.",
    "demo_edited": "You defined something in a demonstration; these are not run for a mark. Move it to your answer.",
    "upgraded": "The notebook is of an old format. Mending brings it up to date.",
    "odd_cells": "Some of its cells are no cells. Mending leaves them out.",
    "invalid": "The file breaks the rules of its format, so other programs may refuse it. Mending writes it properly.",
    "renamed": "Under this name nobody knows which lesson it is. Mending gives it its own name.",
    "second_notebook": "There are two notebooks for this lesson. Decide which is yours, and move the other away.",
}
HER_TURN = ("demo_edited", "second_notebook")  # found, but hers to mend


@dataclass(frozen=True)
class Checkup:
    """What was found in one notebook.

    Attributes: path: of the notebook. target: where the mended one belongs. release: the file it was compared with.
                mended: the notebook as it should be. findings: what differs; those of `HER_TURN` mending cannot change.
    """

    path: Path
    target: Path
    release: Path
    mended: NotebookNode
    findings: tuple[Finding, ...]

    @property
    def mendable(self) -> tuple[Finding, ...]:
        """What `mend_notebook` does something about."""
        return tuple(each for each in self.findings if each.code not in HER_TURN)


def examine_notebook(path: Path, release: Path | None = None) -> Checkup:
    """The findings of one notebook, compared with the release; nothing is written.

    Args:    release: the released notebook or a folder of them; by default looked for, see `find_release`.
    Raises:  WorkbookError if the notebook cannot be read, or there is no release to compare it with.
    """
    data, raw = _read(path)
    found = find_release(path, raw, release)
    released = _load(found)
    mended, findings = _mended(raw, released, found.stem)
    findings = [Finding(note, note, found.stem) for note in raw.notes] + findings
    invalid = _invalid(data)
    if invalid and "upgraded" not in raw.notes:
        findings.insert(0, Finding("invalid", invalid, found.stem))
    _keep_outputs(mended, data)
    mended.metadata = nbformat.from_dict({**_metadata(data), **released.metadata})
    target = path.with_name(f"{found.stem}.ipynb")
    if path.name != target.name:
        taken = target.exists()
        findings.insert(0, Finding("second_notebook" if taken else "renamed", target.name, found.stem))
        target = path if taken else target
    return Checkup(path, target, found, mended, tuple(dict.fromkeys(findings)))


def mend_notebook(checkup: Checkup) -> Path:
    """Writes the mended notebook, after a copy of the file as it was; returns the copy's path.

    Raises: WorkbookError if one of the two cannot be written; the notebook is then as it was.
    """
    kept = backup(checkup.path)
    write_atomic(checkup.target, (nbformat.writes(checkup.mended).rstrip("\n") + "\n").encode("utf-8"))
    if checkup.target != checkup.path:
        checkup.path.unlink()
    return kept


def told(checkup: Checkup) -> list[str]:
    """The findings in lines for the student."""
    lines = [f"{checkup.path}, compared with {checkup.release}"]
    for each in checkup.findings:
        where = f"`{each.grade_id}`: " if each.grade_id else ""
        lines.append(f"  {where}{TELL[each.code]}")
        if each.grade_id is None and each.message != each.code:
            lines.append(f"    ({each.message})")
    return lines if checkup.findings else [*lines, "  nothing to mend"]


def find_release(path: Path, raw: RawNotebook, given: Path | None = None) -> Path:
    """The released notebook that a student's is a copy of.

    Looked for in `notebooks/` of the clone or bundle this program belongs to, then upward from the notebook, then in
    the copy that `coursekit start` leaves beside it.

    Raises: WorkbookError if there is none.
    """
    if given is not None and given.is_file():
        return given
    folders = [given] if given is not None else _release_folders(path)
    for folder in folders:
        candidates = sorted({*folder.glob("*.ipynb"), *folder.glob("[!.]*/*.ipynb")})
        best = max(candidates, key=lambda each: _likeness(path, raw, each), default=None)
        if best is not None and _likeness(path, raw, best)[:2] != (False, 0):
            return best
    looked = ", ".join(map(str, folders)) or "no folder"
    raise WorkbookError(
        f"no released notebook is like {path.name}; looked in {looked}. "
        "Say where it is: coursekit doctor NOTEBOOK --release FILE"
    )


def _release_folders(path: Path) -> list[Path]:
    here = path.resolve().parent
    found = [ROOT / "notebooks", *(parent / "notebooks" for parent in here.parents), here / RELEASE_RECORD]
    return [folder for folder in dict.fromkeys(found) if folder.is_dir()]


def _likeness(path: Path, raw: RawNotebook, release: Path) -> tuple[bool, int, bool, int]:
    """How sure it is that a notebook is a copy of this release; the larger the surer."""
    released = _load(release)
    return (
        normal_name(path.stem) == normal_name(release.stem),
        shared_cells(raw, released),
        path.resolve().parent.name == release.parent.name,
        edited_answers(raw, released),
    )


def _load(path: Path) -> NotebookNode:
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # the release itself is damaged, in one of many ways
        raise WorkbookError(f"{path} cannot be read as a notebook: get it again with git checkout") from error


def _read(path: Path) -> tuple[dict[str, Any], RawNotebook]:
    """The file as JSON and as cells."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WorkbookError(f"{path} cannot be read: {error.strerror}") from error
    try:
        raw = parse(data)
        return json.loads(data.decode("utf-8-sig")), raw
    except (BrokenNotebook, ValueError) as error:
        saved = path.parent / ".ipynb_checkpoints" / f"{path.stem}-checkpoint.ipynb"
        mend = f"JupyterLab saved an earlier state: {saved}" if saved.exists() else "get it from a backup"
        raise WorkbookError(f"{path} cannot be mended. {error} What to do: {mend}") from error


def _mended(raw: RawNotebook, released: NotebookNode, name: str) -> tuple[NotebookNode, list[Finding]]:
    """The repaired notebook with all her words in it, and what was found at first.

    Cells with the name of one and the id of another can be mended to what wants mending again; twice is the most seen.
    """
    mended, findings = repair(raw, released, name)
    _keep_words(mended, raw, released)
    for _ in range(3):
        now = parse(nbformat.writes(mended).encode("utf-8"))
        again, more = repair(now, released, name)
        if all(each.code in HER_TURN for each in more):
            break
        mended, findings = again, findings or more
        _keep_words(mended, now, released)
    return mended, findings


def _invalid(data: dict[str, Any]) -> str:
    """How the file breaks nbformat's rules, in half a sentence; empty if it keeps them."""
    cells = [cell for cell in data.get("cells", []) if isinstance(cell, dict)]
    ids = [cell.get("id") for cell in cells if isinstance(cell.get("id"), str)]
    if len(ids) != len(set(ids)):
        return "two cells have the same id"
    try:
        nbformat.validate(nbformat.from_dict(copy.deepcopy(data)), relax_add_props=True)
    except Exception as error:  # ValidationError, KeyError, AttributeError: there are many ways to be broken
        return str(error).strip().partition("\n")[0][:120] or type(error).__name__
    return ""


def _metadata(data: dict[str, Any]) -> dict[str, Any]:
    found = data.get("metadata")
    return found if isinstance(found, dict) else {}


def _keep_outputs(mended: NotebookNode, data: dict[str, Any]) -> None:
    """Gives each code cell whose text did not change the outputs it had, where they are sound."""
    had: dict[str, dict[str, Any]] = {}
    for cell in data.get("cells", []):
        if (
            isinstance(cell, dict)
            and cell.get("cell_type") == "code"
            and isinstance(cell.get("outputs"), list)
        ):
            source = cell.get("source", "")
            text = "".join(map(str, source)) if isinstance(source, list) else str(source)
            had.setdefault(text, cell)
    for cell in mended.cells:
        before = had.get(cell.source) if cell.cell_type == "code" else None
        if before is None:
            continue
        trial = new_code_cell(cell.source, outputs=nbformat.from_dict(before["outputs"]))
        try:
            nbformat.validate(trial, ref="code_cell", version=4, version_minor=5)
        except Exception:  # damaged outputs come back when she runs the cell
            continue
        cell.outputs = trial.outputs
        count = before.get("execution_count")
        cell.execution_count = count if isinstance(count, int) else None


def _keep_words(mended: NotebookNode, raw: RawNotebook, released: NotebookNode) -> None:
    """Puts every text of hers that the repair dropped into a cell of its own, behind the one it stood in."""
    known = {cell.source.strip() for cell in released.cells} | {cell.source.strip() for cell in mended.cells}
    every = "\0".join(f"\n{cell.source}\n" for cell in mended.cells)
    behind: str | None = None
    for cell in raw.cells:
        text = cell.source.strip()
        names = {
            each.metadata.get("nbgrader", {}).get("grade_id") for each in mended.cells if is_anchor(each)
        }
        behind = cell.grade_id if cell.grade_id in names else behind
        if not text or text in known or f"\n{text}\n" in every:
            continue
        ours = new_markdown_cell(cell.source)
        if cell.kind == "code":
            ours = new_code_cell(KEPT + cell.source, metadata={"tags": ["demo"]})
        place = [i for i, each in enumerate(mended.cells) if _name(each) == behind] if behind else []
        mended.cells.insert(place[0] + 1 if place else len(mended.cells), ours)
        known.add(text)


def _name(cell: NotebookNode) -> str | None:
    return cell.metadata.get("nbgrader", {}).get("grade_id")
