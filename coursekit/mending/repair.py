"""Putting a submitted notebook's cells back where the release has them, so that grading finds what it expects.

The release decides what a cell is: its type, its metadata, its tags, and the text of every locked cell. The student
decides what stands in her answers and in cells of her own. Which cell is which is decided in `matching`.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field

from nbformat.notebooknode import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from coursekit.mending.findings import Finding
from coursekit.mending.kinds import is_anchor, is_demo, is_grade, is_locked, is_solution
from coursekit.mending.matching import Matching, defined_names
from coursekit.mending.notebookfile import RawCell, RawNotebook

__all__ = ["REPORT_ID", "repair", "report_cell"]

REPORT_ID = "intake-report"
VALID_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
DECISIVE = ("grade_id", "grade", "solution", "locked", "task", "points", "schema_version")


def repair(submitted: RawNotebook, release: NotebookNode, name: str) -> tuple[NotebookNode, list[Finding]]:
    """The submission in the release's shape.

    Args:    submitted: as `notebookfile.parse` reads it. release: the student's notebook as it was handed out.
             name: the notebook's, for the findings.
    Returns: a valid notebook without outputs, with each of the release's graded, locked and answer cells exactly once;
             and what was found and done.
    """
    work = _Repair(Matching(list(submitted.cells), release, name))
    work.build()
    work.complete()
    work.order_checks()
    notebook = new_notebook(cells=work.finished(), metadata=copy.deepcopy(release.metadata))
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook, work.match.findings


def report_cell(findings: list[Finding]) -> NotebookNode:
    """A cell for the top of the notebook that tells the student what was mended."""
    lines = [f"- {finding.message}" for finding in findings]
    text = "**Before grading, this notebook was mended:**\n\n" + "\n".join(dict.fromkeys(lines))
    return new_markdown_cell(text, id=REPORT_ID)


@dataclass
class _Item:
    """A cell of the result, and which of the release's it is, if any."""

    cell: NotebookNode
    index: int | None


@dataclass
class _Repair:
    match: Matching
    items: list[_Item] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.wanted, self.anchors = self.match.wanted, self.match.anchors
        self.note, self.title = self.match.note, self.match.title

    def build(self) -> None:
        """The submitted cells in their order, each as what it is."""
        for position, (cell, index) in enumerate(zip(self.match.cells, self.match.claims, strict=True)):
            if index is not None and self.match.chosen[index] == position:
                self.items.append(_Item(self._matched(cell, index), index))
            elif index is None or not self.match.is_spare_copy(cell, index):
                self.items.append(_Item(self._own(cell, index), None))

    def _matched(self, cell: RawCell, index: int) -> NotebookNode:
        """A cell with the release's type and metadata, and the student's text if it is hers to write."""
        wanted = self.wanted[index]
        made: NotebookNode = copy.deepcopy(wanted)
        if made.cell_type == "code":
            made.outputs, made.execution_count = [], None
        self._note_changes(cell, index)
        if not is_locked(wanted):
            made.source = cell.source
            if made.cell_type == "markdown" and cell.attachments:
                made.attachments = {**made.get("attachments", {}), **cell.attachments}
        return made

    def _note_changes(self, cell: RawCell, index: int) -> None:
        wanted = self.wanted[index]
        edited = cell.source.strip() != wanted.source.strip()
        if is_anchor(wanted):
            expected = wanted.metadata.nbgrader
            if any(cell.nbgrader.get(key) != expected.get(key) for key in DECISIVE if key in expected):
                self.note(
                    "metadata_reset", f"The grading data of the cell {self.title(index)} was restored.", index
                )
            if cell.kind != wanted.cell_type:
                self.note(
                    "retyped",
                    f"The cell {self.title(index)} was made a {wanted.cell_type} cell again.",
                    index,
                )
            if edited and is_locked(wanted):
                self.note(
                    "check_reset", f"The locked cell {self.title(index)} was edited; it was restored.", index
                )
        elif wanted.cell_type == "code":
            if ("demo" in cell.tags) != is_demo(wanted):
                self.note(
                    "tag_reset", f"The tag `demo` of the cell {self.title(index)} was set as it was released."
                )
            if is_demo(wanted) and defined_names(cell.source) - defined_names(wanted.source):
                text = f"The cell {self.title(index)} is a demonstration and is not run for a mark; "
                self.note("demo_edited", text + "what you defined there is not seen by the checks.")

    def _own(self, cell: RawCell, index: int | None) -> NotebookNode:
        """A cell of the student's own; a second answer to an exercise stays to be read, and is not run."""
        if any(cell.nbgrader.get(key) for key in ("grade", "solution", "locked", "task")) and index is None:
            self.note(
                "foreign_metadata",
                "A cell that is not part of this notebook carried grading data; it was removed.",
            )
        if cell.kind != "code":
            text = (
                cell.source
                if cell.kind == "markdown"
                else "\n".join(f"    {s}" for s in cell.source.splitlines())
            )
            made = new_markdown_cell(text)
            if cell.attachments:
                made.attachments = cell.attachments
            return made
        tags = (
            ["demo"]
            if "demo" in cell.tags or (index is not None and self.match.competes(cell, index))
            else []
        )
        made = new_code_cell(cell.source, metadata={"tags": tags} if tags else {})
        if cell.cell_id and VALID_ID.fullmatch(cell.cell_id):
            made.id = cell.cell_id
        return made

    def complete(self) -> None:
        """Puts back what is missing: answers, locked cells, and the code that the rest depends on."""
        for index, wanted in enumerate(self.wanted):
            needed = wanted.cell_type == "code" and wanted.source.strip() and not is_demo(wanted)
            if index in self.match.chosen or not (is_anchor(wanted) or needed):
                continue
            if is_solution(wanted) and self._adopt(index):
                continue
            code = "check_restored" if is_grade(wanted) and is_locked(wanted) else "cell_restored"
            self.note(
                code, f"The cell {self.title(index)} was missing; it was put back as it was released.", index
            )
            self._insert(index, first=not is_grade(wanted))

    def _adopt(self, index: int) -> bool:
        """Makes a cell of the student's own that defines what a missing answer should the answer."""
        names = defined_names(self.wanted[index].source)
        for item in reversed(self.items):
            mine = item.index is None and item.cell.cell_type == "code" and not is_demo(item.cell)
            if mine and names and names <= defined_names(item.cell.source):
                source = item.cell.source
                item.cell, item.index = copy.deepcopy(self.wanted[index]), index
                item.cell.source, item.cell.outputs, item.cell.execution_count = source, [], None
                text = f"Your answer {self.title(index)} stood in a new cell; it was taken from there."
                self.note("answer_adopted", text, index)
                return True
        return False

    def _insert(self, index: int, first: bool) -> None:
        """Puts a cell of the release between its neighbours: right after the one before, or just before the next."""
        made = copy.deepcopy(self.wanted[index])
        if made.cell_type == "code":
            made.outputs, made.execution_count = [], None
        places = {item.index: place for place, item in enumerate(self.items) if item.index is not None}
        after = max((i for i in places if i < index), default=None)
        before = min((i for i in places if i > index), default=None)
        place = 0 if after is None else places[after] + 1
        if not first and before is not None:
            place = max(place, places[before])
        elif not first:
            place = len(self.items)
        self.items.insert(place, _Item(made, index))

    def order_checks(self) -> None:
        """Moves a check that stands before the answer it checks behind it."""
        for index in sorted(self.anchors.values()):
            answers = [i for i in self.anchors.values() if i < index and is_solution(self.wanted[i])]
            if not is_locked(self.wanted[index]) or not answers:
                continue
            places = {item.index: place for place, item in enumerate(self.items)}
            if places[index] < places[answers[-1]]:
                item = self.items.pop(places[index])
                self.items.insert(places[answers[-1]], item)
                self.note(
                    "check_moved",
                    f"The check {self.title(index)} stood before its answer; it was moved.",
                    index,
                )

    def finished(self) -> list[NotebookNode]:
        """The cells, each with an id of its own."""
        taken = {item.cell.id for item in self.items if item.index is not None} | {REPORT_ID}
        for number, item in enumerate(self.items):
            if item.index is None:
                if item.cell.id in taken:
                    item.cell.id = f"own-{number}"
                while item.cell.id in taken:
                    item.cell.id += "-"
                taken.add(item.cell.id)
        return [item.cell for item in self.items]
