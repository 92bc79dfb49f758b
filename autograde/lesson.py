"""A lesson's text as a notebook, and an executed notebook in the form that is committed."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import jupytext
import nbformat

from autograde.layout import CourseError
from coursekit.cells import assign_ids

__all__ = ["clean", "differences", "digest", "dump", "is_intact", "load", "read_text"]

Notebook = Any  # a nbformat.NotebookNode

KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE = {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"}
# nbgrader wants all of these; a lesson's cell header need only say what differs.
NBGRADER_DEFAULTS = {"grade": False, "locked": False, "schema_version": 3, "solution": False, "task": False}
PRIVATE_CELL_METADATA = ("execution", "lines_to_next_cell", "lines_to_end_of_cell_marker", "ExecuteTime")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
ADDRESS = re.compile(r"\b0x[0-9a-f]{6,16}\b")


def read_text(path: Path) -> Notebook:
    """The notebook a lesson's percent script stands for: no outputs, every cell with its lasting id.

    Raises: CourseError, naming the file, if it is no percent script or names one exercise twice.
    """
    try:
        notebook = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
    except (OSError, ValueError, SyntaxError) as error:
        raise CourseError(f"{path} is not a percent script: {error}") from error
    if not any(cell.cell_type == "code" for cell in notebook.cells):
        raise CourseError(f"{path} has no code cell; start each cell with a line `# %%`")
    notebook.cells = [cell for cell in notebook.cells if cell.source.strip()]
    for cell in notebook.cells:
        cell.source = cell.source.strip("\n")
        _tidy_metadata(cell, path)
    try:
        assign_ids(notebook.cells)
    except ValueError as error:
        raise CourseError(f"{path}: {error}") from error
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNELSPEC, "language_info": LANGUAGE})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def _tidy_metadata(cell: Any, path: Path) -> None:
    """Drops what belongs to an editor, and completes what nbgrader asks for."""
    for key in PRIVATE_CELL_METADATA:
        cell.metadata.pop(key, None)
    if "nbgrader" not in cell.metadata:
        return
    meta = {**NBGRADER_DEFAULTS, **cell.metadata["nbgrader"]}
    if not meta.get("grade_id"):
        raise CourseError(f"{path}: an nbgrader cell has no grade_id: {cell.source[:60]!r}")
    if meta["grade"] and "points" not in meta:
        raise CourseError(f"{path}: the graded cell {meta['grade_id']!r} has no points")
    cell.metadata["nbgrader"] = nbformat.from_dict(dict(sorted(meta.items())))


def load(path: Path) -> Notebook | None:
    """The notebook in a file, or None if there is no file.

    Raises: CourseError if the file is no notebook.
    """
    if not path.exists():
        return None
    try:
        return nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
    except Exception as error:  # nbformat raises a class of its own for every way to be broken
        raise CourseError(
            f"{path} cannot be read as a notebook ({error}); delete it and run `make build`"
        ) from error


def dump(notebook: Notebook) -> str:
    """The text of a notebook as it is committed: keys in order, one space of indent, a newline at the end."""
    return nbformat.writes(notebook, version=4).rstrip("\n") + "\n"


def _body(cell: Any) -> dict[str, Any]:
    """The part of a cell that its lesson's text decides."""
    return {key: cell.get(key) for key in ("id", "cell_type", "source", "metadata")}


def differences(wanted: Notebook, built: Notebook) -> list[str]:
    """The ids of the cells in which a built notebook is not what the lesson's text says, lost ones included."""
    ours = {cell["id"]: _body(cell) for cell in wanted.cells}
    theirs = {cell["id"]: _body(cell) for cell in built.cells}
    changed = [name for name, body in ours.items() if theirs.get(name) != body]
    extra = [name for name in theirs if name not in ours]
    if not changed and not extra and list(ours) != list(theirs):
        return ["the order of the cells"]
    return changed + extra


def digest(notebook: Notebook) -> str:
    """A hash of a notebook's cells and outputs, to tell whether anything but a build has written to it."""
    cells = [_body(cell) | {"outputs": cell.get("outputs")} for cell in notebook.cells]
    return hashlib.sha256(json.dumps(cells, sort_keys=True).encode("utf-8")).hexdigest()[:16]


def is_intact(notebook: Notebook) -> bool:
    """Whether the notebook is, outputs included, as a build left it."""
    return notebook.metadata.get("coursekit", {}).get("digest") == digest(notebook)


def clean(notebook: Notebook, replace: dict[str, str]) -> Notebook:
    """The executed notebook without what differs from run to run or from machine to machine, signed by a digest.

    Args: replace: texts (folders of this machine) and what stands for them, longest first.
    """
    for cell in notebook.cells:
        for key in PRIVATE_CELL_METADATA:
            cell.metadata.pop(key, None)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET_VIEW, None)
            for key in ("text", "data", "evalue", "traceback"):
                if key in output:
                    output[key] = _clean_value(output[key], replace)
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNELSPEC, "language_info": LANGUAGE})
    notebook = nbformat.reads(dump(notebook), as_version=4)  # as it will be read: line ends, joined texts
    notebook.metadata["coursekit"] = nbformat.from_dict({"digest": digest(notebook)})
    return notebook


def _clean_value(value: Any, replace: dict[str, str]) -> Any:
    """A text without addresses and folders of this machine, also inside lists and MIME bundles."""
    if isinstance(value, dict):
        images = (key for key in value if key.startswith("image/") and key != "image/svg+xml")
        kept = {key: value[key] for key in images}
        return {key: kept.get(key) or _clean_value(item, replace) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean_value(item, replace) for item in value]
    if not isinstance(value, str):
        return value
    for text, stand_in in replace.items():
        value = value.replace(text, stand_in)
    return ADDRESS.sub("0x0", re.sub(r"[^\s\"']*ipykernel_\d+/\d+\.py", "<cell>", value))
