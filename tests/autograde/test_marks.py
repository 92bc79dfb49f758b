"""Marks as they are collected from a gradebook made by hand, and the CSV file and statistics made of them."""

from __future__ import annotations

import csv
import io
import itertools
import math
import statistics
from types import SimpleNamespace

import pytest
from nbgrader.api import Gradebook

from autograde.collect import collect
from autograde.evidence import ENDLESS, read_evidence
from autograde.grading import course_config
from autograde.items import analyse, point_biserial, totals_histogram
from autograde.layout import CourseError
from autograde.marks import ClassMarks, Column, Mark, StudentMarks, number
from autograde.marks_csv import marks_csv, write_nbgrader_export
from autograde.progress import marks_table
from coursekit.exercises.runner import run
from coursekit.exercises.spec import Test
from coursekit.exercises.student import LocalStudent
from tests.autograde.madebook import SQUARE, collected, enter, find, report, write
from tests.autograde.tinycourse import ASSIGNMENT, LESSON


def rows(marks):
    return list(csv.DictReader(io.StringIO(marks_csv(marks))))


def made(*points, max_points=2.0):
    """Marks of two exercises, a pair of points a student."""
    columns = tuple(Column("01", name, name, max_points, False) for name in ("a", "b"))
    students = tuple(
        StudentMarks(
            f"s{place}",
            {c.key: Mark(p, p, None, "passed") for c, p in zip(columns, pair, strict=True)},
            0.0,
            (),
        )
        for place, pair in enumerate(points)
    )
    return ClassMarks("made", columns, students)


def test_columns_stand_in_the_order_of_the_notebook_and_know_who_marks_them(course):
    columns = collected(course).columns
    assert [(c.title, c.max_points, c.by_hand) for c in columns] == [
        ("square", 2.0, False),
        ("negate", 2.0, False),
        ("why", 1.0, True),
    ]


def test_points_and_totals_are_the_gradebooks(course):
    enter(course, "ada", 2, 1.5, why=0)
    enter(course, "bob", 0, 2, why=0, manual={"why": 0.5}, penalty=1)
    marks = collected(course)
    assert [(s.student, s.total) for s in marks.students] == [("ada", 3.5), ("bob", 1.5)]
    assert marks.max_points == 5


def test_a_penalty_never_takes_a_total_below_zero(course):
    enter(course, "ada", 0.5, 0, penalty=3)
    assert find(collected(course), "ada").total == 0


def test_a_manual_mark_goes_before_an_automatic_one_and_both_are_known(course):
    enter(course, "ada", 0, manual={"check-square": 1.5})
    mark = find(collected(course), "ada").marks[SQUARE]
    assert (mark.points, mark.auto, mark.manual, mark.status) == (1.5, 0, 1.5, "by hand")


def test_a_written_answer_waits_until_a_person_has_marked_it(course):
    enter(course, "ada", why=None)
    enter(course, "bob", why=None, manual={"why": 1})
    marks = collected(course)
    assert [item.kind for item in find(marks, "ada").needs_human] == ["written answer"]
    assert find(marks, "bob").needs_human == ()
    assert rows(marks)[0]["needs_human_why"] == "written answer why"


def test_a_blank_written_answer_waits_for_nobody(course):
    enter(course, "ada", why=0)
    ada = find(collected(course), "ada")
    assert ada.marks[LESSON, "why"].status == "not attempted"
    assert ada.needs_human == ()


def test_the_runner_says_what_a_report_looks_for_when_a_call_does_not_end():
    def square(x):
        while True:
            pass

    spec = SimpleNamespace(
        name="square",
        points=1,
        tests=(Test("t", "squares", lambda student: student.square(1), 1, True),),
        forbidden={},
    )
    found = run(spec, LocalStudent({"square": square}, seconds=0.05)).to_json()
    assert found["tests"][0]["message"].startswith(ENDLESS)


def test_mistakes_are_counted_with_who_made_them(course):
    mistake = ("doubles", "You double instead of squaring.")
    for student in ("ada", "bob"):
        enter(course, student, 1, shown={"check-square": report("failed", [mistake], ["squares"])})
    enter(course, "cy", 1, shown={"check-square": report("failed", [], ["zero stays zero"])})
    marks = collected(course)
    (seen,) = marks.mistakes()
    assert (seen.column.title, seen.text, seen.students) == ("square", mistake[1], ("ada", "bob"))
    (other,) = marks.unexplained()
    assert (other.text, other.students) == ("zero stays zero", ("cy",))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("CellTimeoutError", "time-out"),
        ("DeadKernelError", "kernel died"),
        ("OutputLimitError", "too much output"),
        ("NotRun", "not run"),
        ("NotGraded", "no result"),
    ],
)
def test_a_stopped_cell_is_shown_to_a_person_with_its_reason_and_page(course, error, kind):
    enter(course, "ada", 0, shown={"check-square": error})
    ada = find(collected(course), "ada")
    (item,) = ada.needs_human
    assert (item.kind, item.about, item.reason) == (kind, "square", f"{error} in check-square")
    assert item.where == f"classroom/feedback/ada/{ASSIGNMENT}/{LESSON}.html"
    assert ada.marks[SQUARE].status == kind


def test_a_call_that_its_check_had_to_stop_is_a_time_out_too(course):
    shown = report("raised", [], ["squares"])
    shown["tests"][0]["message"] = "not run to its end: square did not end within 10 seconds"
    enter(course, "ada", 0, shown={"check-square": shown})
    ada = find(collected(course), "ada")
    assert ada.marks[SQUARE].stopped
    assert [(i.kind, i.reason) for i in ada.needs_human] == [
        ("time-out", "square did not end within 10 seconds")
    ]


def test_an_answer_that_stopped_before_its_check_is_named_too(course):
    enter(course, "ada", 0, shown={"square": "CellTimeoutError", "check-square": report("not attempted")})
    (item,) = find(collected(course), "ada").needs_human
    assert (item.kind, item.about) == ("time-out", "square")


def test_intake_findings_are_listed_and_only_the_ones_for_a_person_ask_for_one(course):
    enter(course, "ada", findings=[{"message": "was renamed", "notebook": LESSON, "human": False}])
    enter(course, "bob", findings=[{"message": "was cut off", "notebook": LESSON, "human": True}])
    marks = collected(course)
    assert [(i.student, i.reason, i.decide) for i in marks.attention] == [
        ("bob", "was cut off", True),
        ("ada", "was renamed", False),
    ]
    assert marks.attention[0].where == f"classroom/submitted/bob/{ASSIGNMENT}/"


def test_what_could_not_be_judged_is_zero_and_asks_for_a_person(course):
    enter(course, "ada", 0, manual={}, why=0)
    with Gradebook(course_config(course).CourseDirectory.db_url, "model-optimization") as gradebook:
        gradebook.find_grade("check-square", LESSON, ASSIGNMENT, "ada").needs_manual_grade = True
        gradebook.db.commit()
    ada = find(collected(course), "ada")
    assert ada.marks[SQUARE].status == "not judged"
    assert [item.kind for item in ada.needs_human] == ["not judged"]
    assert rows(collected(course))[0]["square"] == ""


def test_a_submission_that_was_never_graded_is_not_forgotten(course):
    write(course / "classroom" / "submitted" / "late" / ASSIGNMENT / f"{LESSON}.ipynb", "{}")
    (late,) = collected(course).students
    assert (late.student, late.total, late.needs_human[0].kind) == ("late", 0, "not graded")


def test_students_without_a_submission_are_named(course):
    enter(course, "ada")
    with Gradebook(course_config(course).CourseDirectory.db_url, "model-optimization") as gradebook:
        gradebook.add_student("zoe")
    assert collected(course).absent == ("zoe",)


def test_an_unknown_assignment_and_a_missing_gradebook_say_what_to_do(course, tmp_path):
    with pytest.raises(CourseError, match=r"no assignment 'week9'.*make build"):
        collect(course, "week9", course_config(course))
    with pytest.raises(CourseError, match=r"no gradebook at .*make build"):
        collect(tmp_path / "none", ASSIGNMENT, course_config(tmp_path / "none"))


BROKEN = {
    "no notebook": "not json",
    "cells are no list": '{"cells": 7}',
    "outputs are no list": '{"cells": [{"metadata": {"nbgrader": {"grade_id": "x"}}, "outputs": {"data": 1}}]}',
    "outputs of wrong kinds": '{"cells": [{"metadata": {"nbgrader": {"grade_id": "x"}},"outputs":[1, {"data": []}]}]}',
    "names of wrong kinds": '{"cells": [{"metadata": {"nbgrader": {"grade_id": []}}}, 3, {"metadata": 4}]}',
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_notebook_that_is_none_gives_no_evidence_and_no_error(tmp_path, text):
    write(tmp_path / "x.ipynb", text)
    assert all(each.status == "" for each in read_evidence(tmp_path / "x.ipynb").values())


def test_a_forged_report_can_say_nothing_but_text(course):
    forged = {"status": 5, "mistakes": [{"id": 1, "message": ["a"]}, "x"], "tests": {"passed": True}}
    enter(course, "ada", shown={"check-square": forged})
    mark = find(collected(course), "ada").marks[SQUARE]
    assert mark.status == ""
    assert [(mistake.id, mistake.message) for mistake in mark.mistakes] == [("", "")]


def test_the_csv_has_a_row_a_student_and_a_column_an_exercise(course):
    enter(course, "ada", 2, 1.5, why=None)
    assert rows(collected(course)) == [
        {
            "student": "ada",
            "square": "2",
            "negate": "1.5",
            "why": "",
            "late_penalty": "0",
            "total": "3.5",
            "max": "5",
            "needs_human": "yes",
            "needs_human_why": "written answer why",
        }
    ]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(1)"])
def test_no_name_becomes_a_formula_in_a_spreadsheet(course, name):
    enter(course, name)
    assert rows(collected(course))[0]["student"] == f"'{name}"


def test_nbgraders_own_export_agrees(course):
    enter(course, "ada", 2, 1.5, penalty=1)
    path = course / "classroom" / "report" / "nbgrader.csv"
    write_nbgrader_export(ASSIGNMENT, path, course_config(course))
    (row,) = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
    assert (float(row["score"]), float(row["max_score"])) == (2.5, 5)
    assert float(row["score"]) == find(collected(course), "ada").total


def test_the_table_for_a_terminal_shows_every_mark_and_no_control_character(course):
    enter(course, "eve\x1b[31m", 1.5, 0, why=None, shown={"check-negate": "DeadKernelError"})
    text = marks_table(collected(course))
    assert "\x1b" not in text
    assert "eve?[31m" in text
    (row,) = [line.split() for line in text.splitlines() if line.startswith("eve")]
    assert row[1:5] == ["1.5", "0!", "?", "1.5"]
    assert "1 square   2 negate   3 why" in text


def test_means_shares_and_difficulty():
    first, second = analyse(made((2, 2), (2, 1), (0, 1), (0, 0)))
    assert (first.n, first.mean, first.full, first.difficulty) == (4, 1.0, 0.5, 0.5)
    assert (second.mean, second.full) == (1.0, 0.25)
    assert first.discrimination is None  # of four marks


def test_discrimination_is_the_point_biserial_correlation_by_its_textbook_formula():
    points = [(2, 2), (2, 1.5), (2, 2), (0, 1), (2, 1), (0, 0), (1, 0.5), (2, 2)]
    full = [b for a, b in points if a == 2]
    other = [b for a, b in points if a != 2]
    p = len(full) / len(points)
    spread = statistics.pstdev(b for _, b in points)
    expected = (statistics.fmean(full) - statistics.fmean(other)) / spread * math.sqrt(p * (1 - p))
    assert analyse(made(*points))[0].discrimination == pytest.approx(expected, abs=1e-6)


def test_discrimination_needs_marks_that_differ():
    assert analyse(made(*[(2, b) for b in (0, 1) * 5]))[0].discrimination is None
    assert point_biserial([True, False], [1.0, 1.0]) is None


def test_a_question_with_answers_that_wait_has_no_statistics_yet(course):
    enter(course, "ada", why=None)
    enter(course, "bob", why=0)
    assert [item.column.title for item in analyse(collected(course))] == ["square", "negate"]


@pytest.mark.parametrize("maximum", [1, 5, 11.5, 23, 100, 1000])
def test_the_histogram_counts_everybody_once(maximum):
    half = maximum / 2
    marks = made((half, half), (0, 0), (half, 0), (half / 3, 0.1), max_points=half)
    bins = totals_histogram(marks)
    assert sum(count for _, _, count in bins) == 4
    assert (bins[0][0], bins[-1][1]) == (0, maximum)
    assert all(left[1] == right[0] for left, right in itertools.pairwise(bins))
    assert bins[-1][2] >= 1
    assert len(bins) <= 12


def test_numbers_are_written_without_needless_digits():
    assert [number(x) for x in (3.0, 2.5, 1 / 3, 0.0)] == ["3", "2.5", "0.33", "0"]
