"""The made submissions are what their names say, and the demo notices when a mark is not what it should be."""

from __future__ import annotations

import ast
import dataclasses
import json

import nbformat
import pytest
from nbgrader.api import Gradebook

from autograde import demo, demo_class, grade
from autograde.__main__ import main
from autograde.demo_answers import OTHER, WRONG
from autograde.demo_class import ASSIGNMENT, CLASS, FULL, NOTEBOOK, OURS, PREFIX, files, solutions
from autograde.grading import course_config
from autograde.intake import read_release, take_in
from autograde.layout import Course, CourseError
from autograde.marks import ClassMarks, Column, Mark, StudentMarks
from autograde.sandbox import Availability
from coursekit.exercises import exercise
from coursekit.mending.findings import CODES
from tests.autograde.madebook import enter

each = pytest.mark.parametrize("made", CLASS, ids=[made.name for made in CLASS])
ROOT = Course.here().root


@pytest.fixture(scope="module")
def release():
    path = ROOT / "notebooks" / ASSIGNMENT / f"{NOTEBOOK}.ipynb"
    return nbformat.read(path, as_version=4)


@pytest.fixture(scope="module")
def ours():
    return solutions(nbformat.read(ROOT / "solutions" / ASSIGNMENT / f"{NOTEBOOK}.ipynb", as_version=4))


def by_name(notebook):
    return {cell.metadata.get("nbgrader", {}).get("grade_id"): cell.source for cell in notebook.cells}


def test_the_class_is_large_enough_and_everybody_is_somebody_else():
    assert len(CLASS) >= 12
    assert len({made.student for made in CLASS}) == len(CLASS)
    assert all(made.student.startswith(PREFIX) for made in CLASS)


def test_full_marks_are_those_of_the_exercises():
    assert {name: exercise(name).points for name in FULL} == FULL


@each
def test_marks_by_hand_are_possible_and_every_loss_has_its_reason(made):
    assert all(0 <= points <= FULL[name] for name, points in made.expected.items())
    assert all(lost > 0 and reason for lost, reason in made.lost.values())
    assert set(made.lost) <= set(made.answers) <= set(FULL)
    assert set(made.findings) <= set(CODES)


@each
def test_an_answer_with_a_loss_is_not_the_courses_own(made):
    assert all(made.answers[name] != OURS for name in made.lost)


@each
def test_known_mistakes_are_the_ones_that_are_handed_in(made):
    wrong = {code: mistake for kinds in WRONG.values() for mistake, code in kinds.items()}
    assert sorted(made.mistakes) == sorted(wrong[code] for code in made.answers.values() if code in wrong)


def test_mistakes_are_known_ones_and_several_students_make_different_ones():
    for name, kinds in WRONG.items():
        assert set(kinds) <= {mistake.id for mistake in exercise(name).mistakes}
    assert len([made for made in CLASS if made.mistakes]) >= 3


def test_code_defines_the_function_that_is_asked_for():
    codes = [(name, code) for name, code in OTHER.items()]
    codes += [(name, code) for name, kinds in WRONG.items() for code in kinds.values()]
    for name, code in codes:
        (function,) = ast.parse(code).body
        assert isinstance(function, ast.FunctionDef)
        assert function.name == name


@each
def test_a_submission_is_the_students_notebook_with_answers_filled_in(made, release, ours):
    (name,), (data,) = files(made, release, ours).keys(), files(made, release, ours).values()
    assert name.endswith(".ipynb")
    if made.cut < 1:
        with pytest.raises(json.JSONDecodeError):
            json.loads(data)
        return
    found, blank = by_name(nbformat.reads(data.decode(), as_version=4)), by_name(release)
    changed = {key for key in found if key and found[key] != blank[key]}
    written = {"question-symmetric"} if made.words else set()
    assert changed == set(made.answers) | written


@each
def test_intake_finds_what_was_done_to_the_file_and_nothing_else(made, release, ours, tmp_path):
    demo_class.write(tmp_path / "in", files(made, release, ours))
    taken = take_in(
        tmp_path / "in",
        read_release(ROOT / "notebooks" / ASSIGNMENT),
        tmp_path / "out",
        student="x",
        assignment=ASSIGNMENT,
    )
    assert {finding.code for finding in taken.findings} == set(made.findings)
    assert taken.needs_human == ("intake" in made.kinds)


def test_handing_in_again_leaves_only_the_new_files(release, ours, tmp_path):
    made = CLASS[0]
    demo_class.write(tmp_path, {"old name.ipynb": b"{}"})
    demo_class.write(tmp_path, files(made, release, ours))
    assert [path.name for path in tmp_path.iterdir()] == [made.file]


def graded(made, **points):
    """Marks as they should be, but for some exercises."""
    columns = tuple(Column(NOTEBOOK, f"check-{name}", name, full, False) for name, full in FULL.items())
    given = made.expected | points
    marks = {c.key: Mark(given[c.title], given[c.title], None, "passed") for c in columns}
    return ClassMarks(ASSIGNMENT, columns, (StudentMarks(made.student, marks, 0.0, ()),))


def test_the_demo_agrees_with_right_marks_and_says_which_is_wrong():
    made = CLASS[0]
    (right,) = demo.compare(graded(made), [], [made])
    assert (right.problems, right.by_hand, right.given) == ((), 20, 20)
    (wrong,) = demo.compare(graded(made, quantize=2.5), [], [made])
    assert wrong.problems == ("quantize: 3 by hand, 2.5 given",)


def test_two_errors_that_cancel_out_are_still_two():
    made = dataclasses.replace(CLASS[0], lost={"quantize": (1.0, "x"), "sqnr_db": (0.0, "y")})
    (wrong,) = demo.compare(graded(made, quantize=3.0, sqnr_db=1.0), [], [made])
    assert wrong.by_hand == wrong.given
    assert len(wrong.problems) == 2


def test_a_missing_mark_mistake_or_person_is_noticed():
    made = next(made for made in CLASS if made.mistakes)
    (wrong,) = demo.compare(
        ClassMarks(ASSIGNMENT, (), ()), [], [dataclasses.replace(made, kinds=("time-out",))]
    )
    assert "quantize: 1.5 by hand, none given" in wrong.problems
    assert f"mistake {made.mistakes[0]} was not recognised" in wrong.problems
    assert "nobody is told of the time-out" in wrong.problems


def test_without_a_sandbox_nothing_is_made_or_run(tmp_path, monkeypatch, capsys):
    found = Availability(False, "none", "bwrap is not on PATH", "install it with apt-get")
    monkeypatch.setattr(grade, "available", lambda: found)
    assert main(["demo", "--root", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "No student code was run" in said
    assert "apt-get" in said
    assert not (tmp_path / "classroom" / "submitted").exists()


def test_removing_the_made_class_leaves_everybody_else(course, capsys):
    for student in ("ada", f"{PREFIX}01-all-right", f"{PREFIX}99-gone"):
        enter(course, student)
    assert main(["demo", "--remove", "--root", str(course)]) == 0
    assert capsys.readouterr().out == "2 made students removed\n"
    with Gradebook(course_config(course).CourseDirectory.db_url, "model-optimization") as gradebook:
        assert [student.id for student in gradebook.students] == ["ada"]
    for step in ("submitted", "intake", "autograded", "feedback"):
        assert [path.name for path in (course / "classroom" / step).iterdir()] == ["ada"]


def test_a_real_student_is_never_removed(course):
    enter(course, "ada")
    with pytest.raises(ValueError, match="'ada' is not a made student"):
        demo.forget(Course(course), course_config(course), "ada")


@pytest.mark.parametrize(("student", "stops"), [("ada", True), (f"{PREFIX}01-all-right", False)])
def test_a_changed_lesson_makes_room_only_where_no_real_student_handed_in(
    course, student, stops, monkeypatch
):
    enter(course, student)
    answers = iter(["the gradebook keeps the old cells", None])
    monkeypatch.setattr(demo, "register", lambda *_: next(answers))
    monkeypatch.setattr(demo, "ASSIGNMENT", "week0-mini")
    if stops:
        with pytest.raises(CourseError, match="keeps the old cells"):
            demo.make_room(Course(course), course_config(course))
    else:
        demo.make_room(Course(course), course_config(course))
    with Gradebook(course_config(course).CourseDirectory.db_url, "model-optimization") as gradebook:
        assert [each.id for each in gradebook.students] == ([student] if stops else [])


@each
def test_the_same_class_is_made_every_time(made, release, ours):
    assert files(made, release, ours) == files(made, release, ours)
