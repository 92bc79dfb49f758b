"""An assignment of two lessons, of which students hand in both, one, or something that is neither."""

from __future__ import annotations

import csv
import shutil
import sqlite3
from pathlib import Path

import nbformat
import pytest
from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI
from nbgrader.converters import Autograde
from nbgrader.coursedir import CourseDirectory

from autograde import jobs
from autograde.__main__ import main
from autograde.collect import collect
from autograde.grading import course_config, grade_assignment
from autograde.items import analyse
from autograde.marks import ABSENT
from autograde.progress import marks_table
from autograde.report import render
from autograde.verify import verify
from tests.autograde.tinycourse import ASSIGNMENT, LESSON, SECOND, answered, second_lesson

HALF = "def cube(x):\n    return 8"
# Who hands in what: the file's name and the answers, by lesson.
CLASS: dict[str, dict[str, tuple[str, dict[str, str] | None]]] = {
    "both": {LESSON: (LESSON, {}), SECOND: (SECOND, {})},
    "first-only": {LESSON: (LESSON, {"square": "def square(x): return 4"})},
    "second-only": {SECOND: (SECOND, {"cube": HALF})},
    "second-blank": {LESSON: (LESSON, {}), SECOND: (SECOND, None)},
}
MARKS = {
    "both": ({"square": 2, "negate": 2}, {"cube": 3}),
    "first-only": ({"square": 1, "negate": 2}, {"cube": 0}),
    "second-only": ({"square": 0, "negate": 0}, {"cube": 1}),
    "second-blank": ({"square": 2, "negate": 2}, {"cube": 0}),
}


@pytest.fixture(scope="module")
def template(course_template, tmp_path_factory) -> Path:
    """The tiny course with its second lesson in the same assignment."""
    root = tmp_path_factory.mktemp("two") / "course"
    shutil.copytree(course_template, root)
    (root / "classroom" / "gradebook.db").unlink()
    nbformat.write(second_lesson(), root / "solutions" / ASSIGNMENT / f"{SECOND}.ipynb")
    result = NbGraderAPI(config=course_config(root)).generate_assignment(ASSIGNMENT, force=True)
    assert result["success"], result
    return root


def blank(root: Path, lesson: str) -> nbformat.NotebookNode:
    return nbformat.read(root / "notebooks" / ASSIGNMENT / f"{lesson}.ipynb", as_version=4)


def put(root: Path, student: str, lesson: str, name: str = "", answers: dict[str, str] | None = None) -> None:
    folder = root / "classroom" / "submitted" / student / ASSIGNMENT
    folder.mkdir(parents=True, exist_ok=True)
    release = blank(root, lesson)
    work = release if answers is None else answered(release, **answers)
    nbformat.write(work, folder / f"{name or lesson}.ipynb")


@pytest.fixture
def two(template, tmp_path) -> Path:
    """A course of one's own."""
    return shutil.copytree(template, tmp_path / "course")


@pytest.fixture(scope="module")
def handed_in(template, tmp_path_factory) -> Path:
    root = shutil.copytree(template, tmp_path_factory.mktemp("handed") / "course")
    for student, lessons in CLASS.items():
        for lesson, (name, answers) in lessons.items():
            put(root, student, lesson, name, answers)
    return root


@pytest.fixture(scope="module")
def graded_class(handed_in, walls, tmp_path_factory) -> Path:
    root = shutil.copytree(handed_in, tmp_path_factory.mktemp("graded") / "course")
    outcomes = grade_assignment(ASSIGNMENT, root=root, settings={"executor": "pool", "workers": 2})
    assert {outcome.student: outcome.status for outcome in outcomes} == dict.fromkeys(CLASS, "graded")
    return root


def auto(root: Path, student: str, lesson: str) -> dict[str, float | None]:
    with Gradebook(course_config(root).CourseDirectory.db_url) as gradebook:
        grades = gradebook.find_submission_notebook(lesson, ASSIGNMENT, student).grades
        return {
            grade.name.removeprefix("check-"): grade.auto_score for grade in grades if grade.name != "why"
        }


def rows(root: Path) -> list[tuple]:
    query = """select s.student_id, n.name, c.name, g.auto_score, g.needs_manual_grade, sn.late_submission_penalty
        from grade g join submitted_notebook sn on sn.id = g.notebook_id join notebook n on n.id = sn.notebook_id
        join submitted_assignment s on s.id = sn.assignment_id join base_cell c on c.id = g.cell_id"""
    with sqlite3.connect(root / "classroom" / "gradebook.db") as connection:
        return sorted(connection.execute(query).fetchall(), key=str)


def test_every_row_is_the_one_stock_nbgrader_writes(handed_in, graded_class, tmp_path):
    root = shutil.copytree(handed_in, tmp_path / "stock")
    config = course_config(root)
    config.CourseDirectory.assignment_id = ASSIGNMENT
    Autograde(coursedir=CourseDirectory(config=config), config=config).start()
    assert rows(graded_class) == rows(root)


@pytest.mark.parametrize("student", CLASS)
def test_each_lesson_has_its_marks_and_what_was_not_handed_in_is_0(graded_class, student):
    assert (auto(graded_class, student, LESSON), auto(graded_class, student, SECOND)) == MARKS[student]


def test_a_lesson_that_was_not_handed_in_needs_nobody_and_has_no_page(graded_class):
    marks = collect(graded_class, ASSIGNMENT, course_config(graded_class))
    found = {student.student: student for student in marks.students}
    only_words = {item.kind for student in marks.students for item in student.needs_human}
    assert only_words == {"written answer"}
    absent = {key for key, mark in found["first-only"].marks.items() if mark.status == ABSENT}
    assert absent == {(SECOND, "check-cube"), (SECOND, "why")}
    assert found["second-blank"].marks[SECOND, "check-cube"].status != ABSENT
    folder = graded_class / "classroom" / "autograded" / "first-only" / ASSIGNMENT
    assert [path.name for path in folder.glob("*.ipynb")] == [f"{LESSON}.ipynb"]


def test_totals_are_over_all_lessons_and_each_has_its_sum(graded_class, capsys):
    assert main(["report", ASSIGNMENT, "--root", str(graded_class)]) == 0
    path = graded_class / "classroom" / "report" / ASSIGNMENT / "marks.csv"
    with path.open(encoding="utf-8", newline="") as file:
        found = {row["student"]: row for row in csv.DictReader(file)}
    wanted = {
        student: (sum(first.values()), sum(second.values())) for student, (first, second) in MARKS.items()
    }
    for student, (first, second) in wanted.items():
        row = found[student]
        sums = [float(row[name]) for name in (f"{LESSON} (sum)", f"{SECOND} (sum)", "total", "max")]
        assert sums == [first, second, first + second, 9]
    assert main(["export", ASSIGNMENT, "--layout", "moodle", "--root", str(graded_class)]) == 0
    assert "left empty" in capsys.readouterr().out


def test_the_table_and_the_page_show_lessons_beside_each_other(graded_class):
    marks = collect(graded_class, ASSIGNMENT, course_config(graded_class))
    lines = [line.split() for line in marks_table(marks).splitlines()]
    assert ["both", "4?", "3?", "7", "written", "answer"] in lines
    assert ["first-only", "3?", "3", "written", "answer"] in lines
    page = render(marks, graded_class, graded_class / "classroom" / "report" / ASSIGNMENT)
    assert 'colspan="3"' in page
    assert "not handed in: 0 of 3" in page


def test_item_analysis_counts_only_who_handed_the_lesson_in(graded_class):
    items = {
        item.column.cell: item
        for item in analyse(collect(graded_class, ASSIGNMENT, course_config(graded_class)))
    }
    assert items["check-square"].n == 3
    assert (items["check-cube"].n, items["check-cube"].mean) == (3, 4 / 3)


def test_one_lesson_can_be_looked_at_alone(graded_class):
    marks = collect(graded_class, ASSIGNMENT, course_config(graded_class, SECOND))
    assert {column.notebook for column in marks.columns} == {SECOND}
    assert {student.student: student.total for student in marks.students} == {
        student: sum(second.values()) for student, (_, second) in MARKS.items()
    }


def test_the_record_agrees_and_nothing_is_judged_twice(graded_class):
    assert verify(graded_class, ASSIGNMENT, course_config(graded_class)).ok
    again = grade_assignment(ASSIGNMENT, root=graded_class)
    assert {outcome.status for outcome in again} == {"skipped"}


def test_a_lesson_handed_in_later_is_graded_then(two, walls):
    put(two, "ada", LESSON, answers={})
    grade_assignment(ASSIGNMENT, root=two)
    put(two, "ada", SECOND, answers={})
    (outcome,) = grade_assignment(ASSIGNMENT, root=two)
    assert outcome.status == "graded"
    assert (auto(two, "ada", LESSON), auto(two, "ada", SECOND)) == MARKS["both"]
    (two / "classroom" / "submitted" / "ada" / ASSIGNMENT / f"{SECOND}.ipynb").unlink()
    grade_assignment(ASSIGNMENT, root=two)
    assert auto(two, "ada", SECOND) == {"cube": 0}
    assert verify(two, ASSIGNMENT, course_config(two)).ok


def test_one_lesson_is_graded_and_the_other_left_alone_even_by_a_failure(two, walls, monkeypatch):
    put(two, "ada", LESSON, answers={})
    put(two, "ada", SECOND, answers={})

    def graded(lesson: str) -> str:
        (outcome,) = grade_assignment(ASSIGNMENT, root=two, config=course_config(two, lesson))
        return outcome.status

    assert graded(LESSON) == "graded"
    assert auto(two, "ada", SECOND) == {"cube": None}
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "execute", lambda *_, **__: 1 / 0)
        assert graded(SECOND) == "failed"
    assert auto(two, "ada", LESSON) == {"square": 2, "negate": 2}
    assert graded(SECOND) == "graded"
    assert (auto(two, "ada", LESSON), auto(two, "ada", SECOND)) == MARKS["both"]
    assert (graded(LESSON), graded(SECOND), graded("*")) == ("skipped",) * 3
    assert verify(two, ASSIGNMENT, course_config(two)).ok


@pytest.mark.parametrize("name", ["notes", "old/homework"])
def test_a_notebook_that_may_be_the_missing_one_makes_somebody_look(two, walls, name):
    put(two, "ada", LESSON, answers={})
    path = two / "classroom" / "submitted" / "ada" / ASSIGNMENT / f"{name}.ipynb"
    path.parent.mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 1")]), path)
    (outcome,) = grade_assignment(ASSIGNMENT, root=two)
    assert outcome.intake is not None
    assert outcome.intake.absent == ()
    assert outcome.intake.needs_human
    assert auto(two, "ada", SECOND) == {"cube": 0}


def graft(root: Path, into: str, cells_of: str, answers: dict[str, str]) -> nbformat.NotebookNode:
    """A lesson's notebook with the cells of another one put behind its own."""
    notebook = answered(blank(root, into), **answers)
    taken = {cell.id for cell in notebook.cells}
    other = answered(blank(root, cells_of), **answers)
    notebook.cells += [cell for cell in other.cells if cell.id not in taken]
    return notebook


# What a folder holds besides nothing, and the points of both lessons: nobody gains by putting work where it does not
# belong, and nobody loses what is where it does.
ODD = {
    "the second lesson's cells in the first": ({LESSON: "graft"}, 4, 0),
    "the first lesson's cells in the second": ({SECOND: "graft"}, 0, 3),
    "the first lesson under the second's name too": ({LESSON: LESSON, SECOND: LESSON}, 4, 0),
    "both lessons under each other's names": ({LESSON: SECOND, SECOND: LESSON}, 4, 3),
    "wide digits": ({"\uff10\uff10-mini": LESSON}, 4, 0),
    "a name that runs backwards, left out and told to a person": (
        {"00-mini\u202e": LESSON, SECOND: SECOND},
        0,
        3,
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_work_in_the_wrong_place_gains_nothing_and_harms_nothing(two, walls, case):
    files, first, second = ODD[case]
    for name, lesson in files.items():
        put(two, "ada", LESSON if lesson == "graft" else lesson, name, {})
        if lesson == "graft":
            other = SECOND if name == LESSON else LESSON
            folder = two / "classroom" / "submitted" / "ada" / ASSIGNMENT
            nbformat.write(graft(two, name, other, {}), folder / f"{name}.ipynb")
    (outcome,) = grade_assignment(ASSIGNMENT, root=two)
    assert outcome.status == "graded"
    got = (sum(auto(two, "ada", LESSON).values()), sum(auto(two, "ada", SECOND).values()))
    assert got == (first, second)
    assert verify(two, ASSIGNMENT, course_config(two)).ok
