"""nbgrader's own preprocessors, run on a notebook in memory with one gradebook connection for a whole class.

nbgrader runs each list of preprocessors through a notebook exporter; every preprocessor opens the gradebook anew, and
each mark is a transaction. Here the same preprocessors, with the same configuration, are called one after the other.
Those that use the gradebook are given what they look up in it, so that what they decide and write stays theirs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import nbformat
from nbformat.notebooknode import NotebookNode
from nbgrader.api import Comment, Grade, Gradebook, MissingEntry, Notebook, SubmittedAssignment
from nbgrader.preprocessors import (
    AssignLatePenalties,
    CheckCellMetadata,
    OverwriteCells,
    OverwriteKernelspec,
    SaveAutoGrades,
)
from nbgrader.preprocessors.base import NbGraderPreprocessor

from autograde.digests import canonical

__all__ = ["MARKING", "Released", "Submitted", "make_steps", "notebook_of", "run_steps", "text_of"]


@dataclass(frozen=True)
class Released:
    """The gradebook's copy of an assignment's cells, in the form in which the sanitising preprocessors ask for it."""

    notebooks: dict[str, SimpleNamespace]

    @classmethod
    def read(cls, gradebook: Gradebook, assignment: str) -> Released:
        """Reads it once for a class.

        Raises: MissingEntry if the gradebook does not know the assignment.
        """
        return cls({each.name: _plain(each) for each in gradebook.find_assignment(assignment).notebooks})

    def find_notebook(self, notebook: str, assignment: str) -> SimpleNamespace:
        """The notebook with its cells. Raises: MissingEntry."""
        if notebook not in self.notebooks:
            raise MissingEntry(f"No such notebook: {assignment}/{notebook}")
        return self.notebooks[notebook]

    def find_source_cell(self, name: str, notebook: str, assignment: str) -> SimpleNamespace:
        """A cell's source, type and checksum. Raises: MissingEntry."""
        return _named(self.find_notebook(notebook, assignment).source_cells, name)

    def find_graded_cell(self, name: str, notebook: str, assignment: str) -> SimpleNamespace:
        """A cell's most points. Raises: MissingEntry."""
        found = self.find_notebook(notebook, assignment)
        return _named([*found.grade_cells, *found.task_cells], name)


def _plain(notebook: Notebook) -> SimpleNamespace:
    def copies(cells: Iterable[Any], *names: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(**{name: getattr(cell, name) for name in ("name", *names)}) for cell in cells]

    return SimpleNamespace(
        name=notebook.name,
        kernelspec=notebook.kernelspec,
        source_cells=copies(notebook.source_cells, "cell_type", "locked", "source", "checksum"),
        grade_cells=copies(notebook.grade_cells, "max_score", "cell_type"),
        solution_cells=copies(notebook.solution_cells),
        task_cells=copies(notebook.task_cells, "max_score", "cell_type"),
    )


def _named(cells: Iterable[SimpleNamespace], name: str) -> SimpleNamespace:
    for cell in cells:
        if cell.name == name:
            return cell
    raise MissingEntry(f"No such cell: {name}")


def _nothing() -> None:
    """In the place of a commit: the transaction is the submission's, not the cell's."""


@dataclass
class Submitted:
    """One submission's rows, in the form in which the marking preprocessors ask for them."""

    gradebook: Gradebook
    submission: SubmittedAssignment
    grades: dict[tuple[str, str], Grade] = field(default_factory=dict)
    comments: dict[tuple[str, str], Comment] = field(default_factory=dict)
    db: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(commit=_nothing))

    def __post_init__(self) -> None:
        for notebook in self.submission.notebooks:
            self.grades |= {(notebook.name, grade.name): grade for grade in notebook.grades}
            self.comments |= {(notebook.name, comment.name): comment for comment in notebook.comments}

    def find_grade(self, name: str, notebook: str, *_: str) -> Grade:
        """A cell's marks. Raises: MissingEntry."""
        return _of(self.grades, notebook, name)

    def find_comment(self, name: str, notebook: str, *_: str) -> Comment:
        """A cell's comments. Raises: MissingEntry."""
        return _of(self.comments, notebook, name)


def _of(rows: dict[tuple[str, str], Any], notebook: str, name: str) -> Any:
    if (notebook, name) not in rows:
        raise MissingEntry(f"No such cell in the gradebook: {notebook}/{name}")
    return rows[notebook, name]


class _Kernelspec(OverwriteKernelspec):
    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
        names = resources["nbgrader"]
        kernelspec = resources["released"].find_notebook(names["notebook"], names["assignment"]).kernelspec
        if kernelspec is not None and json.loads(kernelspec):
            nb.metadata["kernelspec"] = json.loads(kernelspec)
        return nb, resources


class _Cells(OverwriteCells):
    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
        self.notebook_id = resources["nbgrader"]["notebook"]
        self.assignment_id = resources["nbgrader"]["assignment"]
        self.gradebook = resources["released"]
        nb, resources = NbGraderPreprocessor.preprocess(self, nb, resources)
        if self.add_missing_cells:
            nb, resources = self.add_missing_grade_cells(nb, resources)
            nb, resources = self.add_missing_task_cells(nb, resources)
        return nb, resources


class _Marks(SaveAutoGrades):
    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
        self.notebook_id = resources["nbgrader"]["notebook"]
        self.assignment_id = resources["nbgrader"]["assignment"]
        self.student_id = resources["nbgrader"]["student"]
        self.gradebook = resources["submitted"]
        return NbGraderPreprocessor.preprocess(self, nb, resources)


class _Penalties(AssignLatePenalties):
    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
        self.notebook_id = resources["nbgrader"]["notebook"]
        self.assignment_id = resources["nbgrader"]["assignment"]
        self.student_id = student = resources["nbgrader"]["student"]
        self.init_plugin()  # a plugin may ask for these names
        rows: Submitted = resources["submitted"]
        rows.gradebook.db.flush()
        rows.gradebook.db.expire_all()  # the scores are computed by the database
        notebook = next(each for each in rows.submission.notebooks if each.name == self.notebook_id)
        notebook.late_submission_penalty = None
        late = rows.submission.total_seconds_late
        if late > 0:
            penalty = self.plugin_inst.late_submission_penalty(student, notebook.score, late)
            self.log.warning("%s is %s seconds late, penalty %s", student, late, penalty)
            if penalty is not None:
                notebook.late_submission_penalty = self._check_late_penalty(notebook, penalty)
        return nb, resources


class _Metadata(CheckCellMetadata):
    """Checks each kind of metadata once: a class has the same in every submission, and a check takes milliseconds."""

    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
        about = [
            [cell.cell_type, cell.metadata["nbgrader"]] for cell in nb.cells if "nbgrader" in cell.metadata
        ]
        key = canonical(about)
        if key not in _sound:
            nb, resources = super().preprocess(nb, resources)
            if len(_sound) < MOST_KINDS:
                _sound.add(key)
        return nb, resources


_sound: set[bytes] = set()
MOST_KINDS = 1000

OURS: dict[type, type] = {
    CheckCellMetadata: _Metadata,
    OverwriteKernelspec: _Kernelspec,
    OverwriteCells: _Cells,
    SaveAutoGrades: _Marks,
    AssignLatePenalties: _Penalties,
}
MARKING = (_Marks, _Penalties)


def make_steps(kinds: Sequence[type], parent: Any) -> list[Any]:
    """The preprocessors of a list, configured as nbgrader would.

    Raises: ValueError for one that would open the gradebook by itself while it is being written to.
    """
    for kind in kinds:
        if kind not in OURS and issubclass(kind, tuple(OURS)):
            base = next(each for each in OURS if issubclass(kind, each))
            raise ValueError(
                f"{kind.__name__} cannot take the place of {base.__name__}, which writes for a whole class"
            )
    return [OURS.get(kind, kind)(parent=parent) for kind in kinds]


def run_steps(steps: Sequence[Any], notebook: NotebookNode, resources: dict[str, Any]) -> NotebookNode:
    """The notebook after each of the steps that are enabled.

    Raises: what a step raises; nbformat.ValidationError if the result is no notebook.
    """
    before = notebook
    for step in steps:
        notebook, resources = step(notebook, resources)
    if notebook is not before or not all(
        isinstance(step, MARKING) for step in steps
    ):  # marking only reads it
        nbformat.validate(notebook)
    return notebook


def text_of(notebook: NotebookNode) -> str:
    """A notebook that was validated already as nbformat writes it, which would validate it again."""
    text: str = nbformat.v4.writes(notebook)
    return text


def notebook_of(text: str) -> NotebookNode:
    """A notebook that we wrote; it is validated after the next steps."""
    return nbformat.v4.reads(text)
