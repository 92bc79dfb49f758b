"""The class of `make demo`: who hands in what, and the marks a person would give for it.

`expected` is worked out by hand, not by the checks: every property of an exercise is worth half a point, so a mistake
costs half a point for each one, counted in `because`, that it breaks. The written answers wait for a person.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat.notebooknode import NotebookNode
from nbformat.v4 import new_code_cell

from autograde.demo_answers import ENDLESS, EXIT, OTHER, WORDS, WRONG

__all__ = ["ASSIGNMENT", "CLASS", "FULL", "NOTEBOOK", "PREFIX", "Made", "files", "solutions", "write"]

ASSIGNMENT = "week1-quantization"
NOTEBOOK = "01-affine-quantization"
QUESTION = "question-symmetric"
PREFIX = "demo-"

FULL = {
    "affine_qparams": 4.0,
    "quantize": 3.0,
    "dequantize": 3.0,
    "sqnr_db": 2.0,
    "symmetric_scale": 2.0,
    "symmetric_scale_per_channel": 3.0,
    "mse_clip": 3.0,
}
OURS = "the course's own solution"

Spoil = Callable[[NotebookNode], NotebookNode]


@dataclass(frozen=True)
class Made:
    """One made submission.

    Attributes: name: the student's id, without the prefix; says what it is. answers: code by exercise, or `OURS`;
                exercises not named stay blank. words: the answer to the written question. lost: by exercise, the points
                a person would take off and why, for answers that are attempted and wrong. mistakes: the known mistakes
                that should be recognised. spoil: what happens to the notebook afterwards. file: its name. cut: hand in
                only this share of the file's bytes. findings: codes that intake should note. kinds: what should be on
                the list of what needs a person, besides written answers.
    """

    name: str
    answers: Mapping[str, str]
    words: str | None = None
    lost: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    mistakes: tuple[str, ...] = ()
    spoil: Spoil | None = None
    file: str = f"{NOTEBOOK}.ipynb"
    cut: float = 1.0
    findings: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    @property
    def student(self) -> str:
        """The id in the gradebook."""
        return f"{PREFIX}{self.name}"

    @property
    def expected(self) -> dict[str, float]:
        """The points by exercise that a person would give."""
        readable = self.cut == 1.0
        return {
            name: (full - self.lost.get(name, (0.0, ""))[0]) if readable and name in self.answers else 0.0
            for name, full in FULL.items()
        }

    @property
    def because(self) -> str:
        """Why points were taken off, in words."""
        return " ".join(f"{name}: {reason}" for name, (_, reason) in self.lost.items())


def _but(answers: Mapping[str, str] | None = None, *without: str) -> dict[str, str]:
    """The course's solutions except for some answers, and without some."""
    return {name: OURS for name in FULL if name not in without} | dict(answers or {})


def _copy_cells(notebook: NotebookNode) -> NotebookNode:
    """An answer and a check stand there twice, as after copying cells: the first answer is an earlier, wrong try."""
    made = copy.deepcopy(notebook)
    answer, check = _place(made, "quantize"), _place(made, "check-quantize")
    first_try, second_check = copy.deepcopy(made.cells[answer]), copy.deepcopy(made.cells[check])
    first_try.update(id="first-try", source=WRONG["quantize"]["no_clamp"].rstrip())
    second_check.update(id="second-check")
    made.cells.insert(check + 1, second_check)
    made.cells.insert(answer, first_try)
    return made


def _delete_check(notebook: NotebookNode) -> NotebookNode:
    made = copy.deepcopy(notebook)
    del made.cells[_place(made, "check-dequantize")]
    return made


def _scratch_cells(notebook: NotebookNode) -> NotebookNode:
    """Cells of her own between the others, one of which raises an error."""
    made = copy.deepcopy(notebook)
    first, second = "quantize(torch.randn(3), 0.1)", "print(a_name_that_is_not_there)"
    made.cells.insert(_place(made, "quantize") + 1, new_code_cell(first, id="scratch-1"))
    made.cells.insert(_place(made, "mse_clip"), new_code_cell(second, id="scratch-2"))
    return made


def _place(notebook: NotebookNode, grade_id: str) -> int:
    names = [cell.metadata.get("nbgrader", {}).get("grade_id") for cell in notebook.cells]
    return names.index(grade_id)


CLASS = (
    Made("01-all-right", _but(), WORDS),
    Made("02-other-ways", OTHER, WORDS, spoil=_scratch_cells),
    Made("03-half-right", dict.fromkeys(("affine_qparams", "quantize", "dequantize"), OURS)),
    Made("04-blank", {}),
    Made(
        "05-old-formula",
        _but({
            "quantize": WRONG["quantize"]["guide_formula"],
            "dequantize": WRONG["dequantize"]["adds_zero_point"],
        }),
        WORDS,
        lost={
            "quantize": (1.5, "wrong for zero points other than 0: three properties of six."),
            "dequantize": (2.0, "wrong for zero points other than 0: four properties of six."),
        },
        mistakes=("guide_formula", "adds_zero_point"),
    ),
    Made(
        "06-range-and-abs",
        _but({
            "affine_qparams": WRONG["affine_qparams"]["range_without_zero"],
            "symmetric_scale": WRONG["symmetric_scale"]["max_without_abs"],
        }),
        lost={
            "affine_qparams": (1.5, "wrong where 0 is outside the data: three properties of eight."),
            "symmetric_scale": (1.5, "wrong where the largest magnitude is negative: three of four."),
        },
        mistakes=("range_without_zero", "max_without_abs"),
    ),
    Made(
        "07-clamp-and-shape",
        _but({
            "quantize": WRONG["quantize"]["no_clamp"],
            "symmetric_scale_per_channel": WRONG["symmetric_scale_per_channel"]["flat_shape"],
            "mse_clip": WRONG["mse_clip"]["no_clipping"],
        }),
        lost={
            "quantize": (1.5, "values out of range wrap round: three properties of six."),
            "symmetric_scale_per_channel": (
                2.0,
                "right numbers in a shape that does not broadcast: four of six.",
            ),
            "mse_clip": (2.0, "never clips: right for flat data and for zeros, two of six."),
        },
        mistakes=("no_clamp", "flat_shape", "no_clipping"),
    ),
    Made(
        "08-decibels",
        _but({
            "dequantize": WRONG["dequantize"]["int8_overflow"],
            "sqnr_db": WRONG["sqnr_db"]["twenty_log"],
            "symmetric_scale": WRONG["symmetric_scale"]["divides_by_128"],
        }),
        lost={
            "dequantize": (1.0, "overflows where code and zero point are far apart: two of six."),
            "sqnr_db": (1.5, "twice the decibels: only a perfect copy is right, one of four."),
            "symmetric_scale": (1.5, "every scale is 127/128 of what it should be: three of four."),
        },
        mistakes=("int8_overflow", "twenty_log", "divides_by_128"),
    ),
    Made("09-renamed-file", _but(), file=f"{NOTEBOOK} (1).ipynb", findings=("renamed",)),
    Made(
        "10-copied-cells",
        _but(),
        spoil=_copy_cells,
        findings=("duplicated",),
        kinds=("intake",),
    ),
    Made("11-deleted-check", _but(), spoil=_delete_check, findings=("check_restored",)),
    Made("12-half-a-file", _but(), WORDS, cut=0.5, findings=("broken_json",), kinds=("intake",)),
    Made(
        "13-endless-loop",
        _but({"mse_clip": ENDLESS}),
        WORDS,
        lost={"mse_clip": (3.0, "never returns.")},
        kinds=("time-out",),
    ),
    Made(
        "14-kernel-dies",
        _but({"sqnr_db": EXIT}),
        lost={"sqnr_db": (2.0, "ends Python itself.")},
        kinds=("kernel died", "suspicious"),
    ),
    Made("15-mostly-words", {"affine_qparams": OURS}, WORDS),
    Made(
        "16-nearly-right",
        _but({
            "quantize": WRONG["quantize"]["guide_formula"],
            "symmetric_scale": WRONG["symmetric_scale"]["zero_scale"],
            "symmetric_scale_per_channel": WRONG["symmetric_scale_per_channel"]["dead_channel_zero"],
        }),
        WORDS,
        lost={
            "quantize": (1.5, "as 05-old-formula."),
            "symmetric_scale": (0.5, "scale 0 for a tensor of zeros: one property of four."),
            "symmetric_scale_per_channel": (0.5, "scale 0 for a channel of zeros: one property of six."),
        },
        mistakes=("guide_formula", "zero_scale", "dead_channel_zero"),
    ),
)


def solutions(notebook: NotebookNode) -> dict[str, str]:
    """The code of each exercise in the course's solution notebook."""
    named = {cell.metadata.get("nbgrader", {}).get("grade_id"): cell.source for cell in notebook.cells}
    return {name: named[name] for name in FULL}


def files(made: Made, release: NotebookNode, ours: Mapping[str, str]) -> dict[str, bytes]:
    """What the student hands in, by file name.

    Args: release: the student's notebook as it was handed out. ours: the course's solutions, as `solutions` gives them.
    """
    notebook = copy.deepcopy(release)
    for name, code in made.answers.items():
        notebook.cells[_place(notebook, name)].source = (ours[name] if code == OURS else code).rstrip()
    if made.words is not None:
        notebook.cells[_place(notebook, QUESTION)].source = made.words
    if made.spoil is not None:
        notebook = made.spoil(notebook)
    data = nbformat.writes(notebook).encode("utf-8")
    return {made.file: data[: int(len(data) * made.cut)]}


def write(folder: Path, handed_in: Mapping[str, bytes]) -> None:
    """Writes a submission's files into a folder, in the place of what is there."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name not in handed_in and path.is_file():
            path.unlink()
    for name, data in handed_in.items():
        (folder / name).write_bytes(data)
