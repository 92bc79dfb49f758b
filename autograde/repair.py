"""Putting a submitted notebook's cells back where the release has them, so that grading finds what it expects.

The release decides what a cell is: its type, its metadata, its tags, and the text of every locked cell. The student
decides what stands in her answers and in cells of her own. A cell is recognised by its grade_id, or else by its cell
id, or else, if nobody was to edit it, by its text.
"""

from __future__ import annotations

import ast
import copy
import re
from collections import defaultdict
from dataclasses import dataclass, field, replace

from nbformat.notebooknode import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from nbgrader import utils

from autograde.findings import Finding
from autograde.notebookfile import RawCell, RawNotebook

__all__ = ["REPORT_ID", "defined_names", "edited_answers", "repair", "report_cell"]

REPORT_ID = "intake-report"
DEFINITION = re.compile(r"^(?:async\s+)?(?:def|class)\s+(\w+)", re.M)
JOIN_CHARACTERS = 20_000
VALID_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
DECISIVE = ("grade_id", "grade", "solution", "locked", "task", "points", "schema_version")


def repair(submitted: RawNotebook, release: NotebookNode, name: str) -> tuple[NotebookNode, list[Finding]]:
    """The submission in the release's shape.

    Args:    submitted: as `notebookfile.parse` reads it. release: the student's notebook as it was handed out.
             name: the notebook's, for the findings.
    Returns: a valid notebook without outputs, with each of the release's graded, locked and answer cells exactly once;
             and what was found and done.
    """
    work = _Repair(submitted.cells, release, name)
    work.claim()
    work.join_halves()
    work.choose()
    work.build()
    work.complete()
    work.order_checks()
    notebook = new_notebook(cells=work.finished(), metadata=copy.deepcopy(release.metadata))
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook, work.findings


def defined_names(source: str) -> set[str]:
    """The functions and classes a cell defines at its top level."""
    return set(DEFINITION.findall(source))


def edited_answers(submitted: RawNotebook, release: NotebookNode) -> int:
    """How many answers differ from the release; -1 if the notebook has none of its cells."""
    known = {cell.metadata.nbgrader.grade_id: cell for cell in release.cells if _is_anchor(cell)}
    present = [cell for cell in submitted.cells if cell.grade_id in known]
    if not present:
        return -1
    answers = [cell for cell in present if utils.is_solution(known[cell.grade_id])]
    return sum(cell.source.strip() != known[cell.grade_id].source.strip() for cell in answers)


def report_cell(findings: list[Finding]) -> NotebookNode:
    """A cell for the top of the notebook that tells the student what was mended."""
    lines = [f"- {finding.message}" for finding in findings]
    text = "**Before grading, this notebook was mended:**\n\n" + "\n".join(dict.fromkeys(lines))
    return new_markdown_cell(text, id=REPORT_ID)


def _parses(source: str) -> bool:
    """Whether this is whole Python; long text is not tried, since deep nesting could take the parser's stack."""
    try:
        return len(source) <= JOIN_CHARACTERS and ast.parse(source) is not None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _is_anchor(cell: NotebookNode) -> bool:
    return any(test(cell) for test in (utils.is_grade, utils.is_solution, utils.is_locked, utils.is_task))


def _is_demo(cell: NotebookNode) -> bool:
    return "demo" in cell.metadata.get("tags", [])


@dataclass
class _Item:
    """A cell of the result, and which of the release's it is, if any."""

    cell: NotebookNode
    index: int | None


@dataclass
class _Repair:
    cells: list[RawCell]
    release: NotebookNode
    name: str
    findings: list[Finding] = field(default_factory=list)
    items: list[_Item] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.wanted = list(self.release.cells)
        self.anchors = {
            cell.metadata.nbgrader.grade_id: i for i, cell in enumerate(self.wanted) if _is_anchor(cell)
        }
        self.by_id = {cell.id: i for i, cell in enumerate(self.wanted) if cell.get("id")}
        self.by_source: dict[str, int] = {}
        for i, cell in enumerate(self.wanted):
            if not utils.is_solution(cell) and cell.source.strip():
                self.by_source.setdefault(cell.source.strip(), i)

    def note(self, code: str, message: str, index: int | None = None, human: bool = False) -> None:
        grade_id = None
        if index is not None and _is_anchor(self.wanted[index]):
            grade_id = self.wanted[index].metadata.nbgrader.grade_id
        self.findings.append(Finding(code, message, self.name, grade_id, human))

    def title(self, index: int) -> str:
        """How a message names a cell of the release."""
        cell = self.wanted[index]
        if _is_anchor(cell):
            return f"`{cell.metadata.nbgrader.grade_id}`"
        first = cell.source.strip().splitlines()[0][:60].replace("`", "'")
        return f"that begins with `{first}`"

    def claim(self) -> None:
        """For every submitted cell, the index of the release's cell it is a form of."""
        ids = {cell.cell_id for cell in self.cells}
        self.claims = [self._claim(cell, ids) for cell in self.cells]

    def _claim(self, cell: RawCell, ids: set[str | None]) -> int | None:
        named, known = self.anchors.get(cell.grade_id or ""), self.by_id.get(cell.cell_id or "")
        if named is None:
            return known if known is not None else self.by_source.get(cell.source.strip())
        if known is not None and known != named and self.wanted[named].get("id") in ids:
            return known  # its metadata says another exercise, whose own cell is here too
        return named

    def join_halves(self) -> None:
        """Makes one answer of two neighbours that a stroke of Ctrl-Shift-Minus cut in the middle of a function."""
        position = 0
        while position + 1 < len(self.cells):
            index, first, second = self.claims[position], self.cells[position], self.cells[position + 1]
            same = (
                index is not None
                and self.claims[position + 1] == index
                and utils.is_solution(self.wanted[index])
            )
            joined = f"{first.source}\n{second.source}"
            if same and not (_parses(first.source) and _parses(second.source)) and _parses(joined):
                self.cells[position] = replace(first, source=joined)
                del self.cells[position + 1], self.claims[position + 1]
                self.note(
                    "duplicated",
                    f"Your answer {self.title(index or 0)} was split in two; it was joined.",
                    index,
                )
            else:
                position += 1

    def choose(self) -> None:
        """Of several forms of one cell, the one that counts; `chosen` maps the release's index to a position."""
        claimants: dict[int, list[int]] = defaultdict(list)
        for position, index in enumerate(self.claims):
            if index is not None:
                claimants[index].append(position)
        self.chosen = {index: self._pick(index, positions) for index, positions in claimants.items()}

    def _pick(self, index: int, positions: list[int]) -> int:
        if len(positions) == 1:
            return positions[0]
        wanted = self.wanted[index]
        if utils.is_solution(wanted):
            return self._pick_answer(index, positions)
        own = [p for p in positions if self.cells[p].cell_id == wanted.get("id")]
        if _is_anchor(wanted):
            self.note(
                "duplicated",
                f"There were {len(positions)} copies of the cell {self.title(index)}; one counts.",
                index,
            )
        return (own or positions)[0]

    def _pick_answer(self, index: int, positions: list[int]) -> int:
        """The edited copy; of several, the last before the check, which is what running the notebook would test."""
        wanted = self.wanted[index]
        right = [p for p in positions if self.cells[p].kind == wanted.cell_type] or positions
        edited = [p for p in right if self.cells[p].source.strip() != wanted.source.strip()]
        complete = [p for p in edited if defined_names(wanted.source) <= defined_names(self.cells[p].source)]
        candidates = complete or edited or right[:1]
        before = [p for p in candidates if p < self._check_position(index)]
        picked = before[-1] if before else candidates[0]
        versions = {self.cells[p].source.strip() for p in edited}
        text = f"There were {len(positions)} copies of your answer {self.title(index)}. "
        if len(versions) > 1:
            text += "The last complete one before its check counts; other versions of it were not run."
        else:
            text += "The one you worked in counts."
        self.note("duplicated", text, index, human=len(versions) > 1)
        return picked

    def _check_position(self, index: int) -> int:
        """Where the check after this answer stands in the submission; the end if it is gone."""
        later = [i for i in self.anchors.values() if i > index and utils.is_grade(self.wanted[i])]
        if not later or later[0] not in self.claims:
            return len(self.cells)
        return max(p for p, claim in enumerate(self.claims) if claim == later[0])

    def build(self) -> None:
        """The submitted cells in their order, each as what it is."""
        for position, (cell, index) in enumerate(zip(self.cells, self.claims, strict=True)):
            if index is not None and self.chosen[index] == position:
                self.items.append(_Item(self._matched(cell, index), index))
            elif index is None or not self._is_spare_copy(cell, index):
                self.items.append(_Item(self._own(cell, index), None))

    def _is_spare_copy(self, cell: RawCell, index: int) -> bool:
        return _is_anchor(self.wanted[index]) and cell.source.strip() == self.wanted[index].source.strip()

    def _matched(self, cell: RawCell, index: int) -> NotebookNode:
        """A cell with the release's type and metadata, and the student's text if it is hers to write."""
        wanted = self.wanted[index]
        made: NotebookNode = copy.deepcopy(wanted)
        if made.cell_type == "code":
            made.outputs, made.execution_count = [], None
        self._note_changes(cell, index)
        if not utils.is_locked(wanted):
            made.source = cell.source
            if made.cell_type == "markdown" and cell.attachments:
                made.attachments = {**made.get("attachments", {}), **cell.attachments}
        return made

    def _note_changes(self, cell: RawCell, index: int) -> None:
        wanted = self.wanted[index]
        edited = cell.source.strip() != wanted.source.strip()
        if _is_anchor(wanted):
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
            if edited and utils.is_locked(wanted):
                self.note(
                    "check_reset", f"The locked cell {self.title(index)} was edited; it was restored.", index
                )
        elif wanted.cell_type == "code":
            if ("demo" in cell.tags) != _is_demo(wanted):
                self.note(
                    "tag_reset", f"The tag `demo` of the cell {self.title(index)} was set as it was released."
                )
            if _is_demo(wanted) and defined_names(cell.source) - defined_names(wanted.source):
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
        tags = ["demo"] if "demo" in cell.tags or (index is not None and self._competes(cell, index)) else []
        made = new_code_cell(cell.source, metadata={"tags": tags} if tags else {})
        if cell.cell_id and VALID_ID.fullmatch(cell.cell_id):
            made.id = cell.cell_id
        return made

    def _competes(self, cell: RawCell, index: int) -> bool:
        """Whether a spare copy is another answer, and not a part of one that was split off, like a helper."""
        if not utils.is_solution(self.wanted[index]):
            return False
        mine, counted = defined_names(cell.source), defined_names(self.cells[self.chosen[index]].source)
        return bool(mine & counted) or not mine

    def complete(self) -> None:
        """Puts back what is missing: answers, locked cells, and the code that the rest depends on."""
        for index, wanted in enumerate(self.wanted):
            needed = wanted.cell_type == "code" and wanted.source.strip() and not _is_demo(wanted)
            if index in self.chosen or not (_is_anchor(wanted) or needed):
                continue
            if utils.is_solution(wanted) and self._adopt(index):
                continue
            code = "check_restored" if utils.is_grade(wanted) and utils.is_locked(wanted) else "cell_restored"
            self.note(
                code, f"The cell {self.title(index)} was missing; it was put back as it was released.", index
            )
            self._insert(index, first=not utils.is_grade(wanted))

    def _adopt(self, index: int) -> bool:
        """Makes a cell of the student's own that defines what a missing answer should the answer."""
        names = defined_names(self.wanted[index].source)
        for item in reversed(self.items):
            mine = item.index is None and item.cell.cell_type == "code" and not _is_demo(item.cell)
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
            answers = [i for i in self.anchors.values() if i < index and utils.is_solution(self.wanted[i])]
            if not utils.is_locked(self.wanted[index]) or not answers:
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
