"""Which submitted cell is which of the release's, and which of several copies counts.

A cell is recognised by its grade_id, or else by its cell id, or else, if nobody was to edit it, by its text.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from dataclasses import dataclass, field, replace

from nbformat.notebooknode import NotebookNode

from coursekit.mending.findings import Finding
from coursekit.mending.kinds import is_anchor, is_grade, is_solution
from coursekit.mending.notebookfile import RawCell, RawNotebook

__all__ = ["Matching", "defined_names", "edited_answers"]

DEFINITION = re.compile(r"^(?:async\s+)?(?:def|class)\s+(\w+)", re.M)
JOIN_CHARACTERS = 20_000


def defined_names(source: str) -> set[str]:
    """The functions and classes a cell defines at its top level."""
    return set(DEFINITION.findall(source))


def edited_answers(submitted: RawNotebook, release: NotebookNode) -> int:
    """How many answers differ from the release; -1 if the notebook has none of its cells."""
    known = {cell.metadata.nbgrader.grade_id: cell for cell in release.cells if is_anchor(cell)}
    present = [cell for cell in submitted.cells if cell.grade_id in known]
    if not present:
        return -1
    answers = [cell for cell in present if is_solution(known[cell.grade_id])]
    return sum(cell.source.strip() != known[cell.grade_id].source.strip() for cell in answers)


def _parses(source: str) -> bool:
    """Whether this is whole Python; long text is not tried, since deep nesting could take the parser's stack."""
    try:
        return len(source) <= JOIN_CHARACTERS and ast.parse(source) is not None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


@dataclass
class Matching:
    """A submission's cells laid against a release's.

    Args: cells: as submitted; two halves of an answer become one. release: the student's notebook as it was handed
          out. name: the notebook's, for the findings.

    `wanted` are the release's cells, `anchors` the positions of those nbgrader knows, by grade_id; `claims` has for
    each submitted cell the index of the release's cell it is a form of; `chosen` has for each such index the position
    of the form that counts.
    """

    cells: list[RawCell]
    release: NotebookNode
    name: str
    findings: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.wanted = list(self.release.cells)
        self.anchors = {
            cell.metadata.nbgrader.grade_id: i for i, cell in enumerate(self.wanted) if is_anchor(cell)
        }
        self.by_id = {cell.id: i for i, cell in enumerate(self.wanted) if cell.get("id")}
        self.by_source: dict[str, int] = {}
        for i, cell in enumerate(self.wanted):
            if not is_solution(cell) and cell.source.strip():
                self.by_source.setdefault(cell.source.strip(), i)
        ids = {cell.cell_id for cell in self.cells}
        self.claims = [self._claim(cell, ids) for cell in self.cells]
        self._join_halves()
        self.chosen = self._choose()

    def note(self, code: str, message: str, index: int | None = None, human: bool = False) -> None:
        """Adds a finding, about the release's cell with this index if there is one."""
        grade_id = None
        if index is not None and is_anchor(self.wanted[index]):
            grade_id = self.wanted[index].metadata.nbgrader.grade_id
        self.findings.append(Finding(code, message, self.name, grade_id, human))

    def title(self, index: int) -> str:
        """How a message names a cell of the release."""
        cell = self.wanted[index]
        if is_anchor(cell):
            return f"`{cell.metadata.nbgrader.grade_id}`"
        first = cell.source.strip().splitlines()[0][:60].replace("`", "'")
        return f"that begins with `{first}`"

    def _claim(self, cell: RawCell, ids: set[str | None]) -> int | None:
        named, known = self.anchors.get(cell.grade_id or ""), self.by_id.get(cell.cell_id or "")
        if named is None:
            return known if known is not None else self.by_source.get(cell.source.strip())
        if known is not None and known != named and self.wanted[named].get("id") in ids:
            return known  # its metadata says another exercise, whose own cell is here too
        return named

    def _join_halves(self) -> None:
        """Makes one answer of two neighbours that a stroke of Ctrl-Shift-Minus cut in the middle of a function."""
        position = 0
        while position + 1 < len(self.cells):
            index, first, second = self.claims[position], self.cells[position], self.cells[position + 1]
            same = (
                index is not None and self.claims[position + 1] == index and is_solution(self.wanted[index])
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

    def _choose(self) -> dict[int, int]:
        """Of several forms of one cell, the position of the one that counts, by the release's index."""
        claimants: dict[int, list[int]] = defaultdict(list)
        for position, index in enumerate(self.claims):
            if index is not None:
                claimants[index].append(position)
        return {index: self._pick(index, positions) for index, positions in claimants.items()}

    def _pick(self, index: int, positions: list[int]) -> int:
        if len(positions) == 1:
            return positions[0]
        wanted = self.wanted[index]
        if is_solution(wanted):
            return self._pick_answer(index, positions)
        own = [p for p in positions if self.cells[p].cell_id == wanted.get("id")]
        if is_anchor(wanted):
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
        later = [i for i in self.anchors.values() if i > index and is_grade(self.wanted[i])]
        if not later or later[0] not in self.claims:
            return len(self.cells)
        return max(p for p, claim in enumerate(self.claims) if claim == later[0])

    def is_spare_copy(self, cell: RawCell, index: int) -> bool:
        """Whether a copy of a graded cell says nothing the release does not."""
        return is_anchor(self.wanted[index]) and cell.source.strip() == self.wanted[index].source.strip()

    def competes(self, cell: RawCell, index: int) -> bool:
        """Whether a spare copy is another answer, and not a part of one that was split off, like a helper."""
        if not is_solution(self.wanted[index]):
            return False
        mine, counted = defined_names(cell.source), defined_names(self.cells[self.chosen[index]].source)
        return bool(mine & counted) or not mine
