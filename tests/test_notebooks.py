"""The lessons as they are committed: in step, without answers where students look, and saying what they compute."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from autograde.build import MAX_BYTES, stale
from autograde.layout import Course
from autograde.lesson_run import lesson_environment
from coursekit.cells import grade_id, is_edited, is_graded, is_solution

COURSE = Course.here()
LESSONS = COURSE.lessons()
CHECK_MIME = "application/vnd.coursekit.check+json"
NBVAL_CONFIG = Path(__file__).with_name("nbval.cfg")
ANSWER = re.compile(r"BEGIN SOLUTION[^\n]*\n(.*?)[^\n]*END SOLUTION", re.DOTALL)
STUB = "raise NotImplementedError()"
# What nbgrader leaves in place of a written answer.
WRITTEN_STUB = "YOUR ANSWER HERE"

each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=str)


def read(path: Path):
    return nbformat.read(path, as_version=4)


def by_grade_id(path: Path) -> dict:
    return {grade_id(cell): cell for cell in read(path).cells if grade_id(cell)}


def test_lessons_solutions_and_notebooks_are_in_step():
    assert LESSONS
    assert stale(COURSE, []) == []


@each_lesson
def test_the_students_notebook_holds_no_answer(lesson):
    solved, released = by_grade_id(lesson.solution), by_grade_id(lesson.notebook)
    assert "BEGIN SOLUTION" not in lesson.notebook.read_text(encoding="utf-8")
    assert solved.keys() == released.keys()
    whole = "\n".join(cell.source for cell in read(lesson.notebook).cells)
    for name, cell in solved.items():
        if not is_solution(cell):
            continue
        for answer in ANSWER.findall(cell.source) or [cell.source]:
            assert answer.strip(), f"{name} has an empty answer"
            assert answer not in whole, f"the answer to {name} is in the student's notebook"


@each_lesson
def test_the_students_notebook_asks_for_an_answer_wherever_one_is_graded(lesson):
    for name, cell in by_grade_id(lesson.notebook).items():
        assert not is_edited(cell)
        if is_solution(cell):
            assert (STUB if cell.cell_type == "code" else WRITTEN_STUB) in cell.source, name


@each_lesson
def test_the_students_notebook_has_no_outputs(lesson):
    cells = [cell for cell in read(lesson.notebook).cells if cell.cell_type == "code"]
    assert cells
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


@each_lesson
def test_the_courses_own_answers_pass_every_check(lesson):
    checks = [cell for cell in read(lesson.solution).cells if is_graded(cell) and not is_solution(cell)]
    assert checks
    for cell in checks:
        shown = [
            output["data"][CHECK_MIME] for output in cell.outputs if CHECK_MIME in output.get("data", {})
        ]
        assert [result["status"] for result in shown] == ["passed"], cell["id"]


@each_lesson
def test_every_cell_whose_output_cannot_be_compared_is_tagged(lesson):
    for cell in read(lesson.solution).cells:
        outputs = cell.get("outputs", [])
        kinds = [kind for output in outputs for kind in output.get("data", {})]
        drawn = any(kind.startswith("image/") for kind in kinds)
        warned = any(output.get("name") == "stderr" for output in outputs)
        if drawn or warned:
            assert "nbval-ignore-output" in cell.metadata.get("tags", []), cell["id"]


@each_lesson
def test_the_solution_notebook_is_small_and_names_no_folder_of_the_machine_it_was_made_on(lesson):
    assert lesson.solution.stat().st_size <= MAX_BYTES
    text = lesson.solution.read_text(encoding="utf-8")
    assert str(COURSE.root) not in text
    assert not re.search(r"/tmp/|/home/|/root/|[A-Z]:\\\\Users", text)


@each_lesson
def test_no_cell_of_the_solution_raises_unless_it_is_meant_to(lesson):
    for cell in read(lesson.solution).cells:
        if any(output.output_type == "error" for output in cell.get("outputs", [])):
            assert "raises-exception" in cell.metadata.get("tags", []), cell["id"]


@pytest.mark.notebook
@each_lesson
def test_the_saved_outputs_are_what_the_lesson_prints_today(lesson, tmp_path):
    folder = tmp_path / lesson.assignment
    shutil.copytree(lesson.solution.parent, folder)
    plugins = ("tests.nbval_nearly", "no:cacheprovider", "no:xdist")
    command = [sys.executable, "-m", "pytest", "-q", "--nbval", f"--nbval-sanitize-with={NBVAL_CONFIG}"]
    command += [*(word for name in plugins for word in ("-p", name)), f"--rootdir={tmp_path}"]
    command += [f"{lesson.name}.ipynb"]
    done = subprocess.run(
        command,
        cwd=folder,
        env=lesson_environment(tmp_path) | {"PYTHONWARNINGS": "", "PYTHONPATH": str(COURSE.root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
