"""`python -m autograde grade`: what it prints, whom it grades, and its exit codes."""

from __future__ import annotations

import json

import pytest

from autograde import grade, jobs
from autograde.__main__ import main
from autograde.sandbox import Availability
from tests.autograde.tinycourse import ASSIGNMENT


def run(course, *arguments):
    return main(["grade", ASSIGNMENT, "--root", str(course), *arguments])


@pytest.mark.usefixtures("walls")
def test_all_judged_is_0_and_a_waiting_answer_is_2(course, hand_in, right, release, capsys):
    hand_in("ada", right(why="YOUR ANSWER HERE"))
    assert run(course) == 0
    hand_in("bob", right(square="def square(x):\n    return 4"))
    assert run(course) == 2
    printed = capsys.readouterr()
    assert "grading 1/2: ada has not changed" in printed.err
    table = [line.split() for line in printed.out.splitlines()]
    assert ["ada", "2", "2", "–", "4"] in table
    assert ["bob", "1", "2", "?", "3", "written", "answer"] in table


@pytest.mark.usefixtures("walls")
def test_only_the_named_students_are_graded_and_json_is_for_programs(course, hand_in, right, capsys):
    for student in ("ada", "bob", "cy"):
        hand_in(student, right())
    assert run(course, "--student", "ada", "c*", "--json") == 2
    printed = capsys.readouterr()
    assert [line.split(":")[0] for line in printed.err.splitlines()] == ["grading 1/2", "grading 2/2"]
    said = json.loads(printed.out)
    assert (said["assignment"], said["max"]) == (ASSIGNMENT, 5)
    assert [(each["student"], each["status"], each["total"]) for each in said["students"]] == [
        ("ada", "graded", 4),
        ("cy", "graded", 4),
    ]
    assert said["students"][0]["marks"]["square"] == {"points": 2, "status": "", "manual": None}
    assert said["students"][0]["needs_human"][0]["kind"] == "written answer"


@pytest.mark.usefixtures("walls")
def test_force_grades_again_what_has_not_changed(course, hand_in, right, capsys):
    hand_in("ada", right())
    run(course)
    run(course, "--force")
    assert "ada graded in" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.usefixtures("walls")
def test_what_the_harness_could_not_grade_is_said_and_the_others_are_graded(
    course, hand_in, right, monkeypatch, capsys
):
    hand_in("ada", right(why="YOUR ANSWER HERE"))
    hand_in("bob", right(why="YOUR ANSWER HERE", square="def square(x): return x**2"))
    real = jobs.execute

    def failing(notebook, **options):
        if b"return x * x" in notebook:
            raise RuntimeError("out of processes")
        return real(notebook, **options)

    monkeypatch.setattr(jobs, "execute", failing)
    assert run(course) == 2
    printed = capsys.readouterr()
    assert "ada failed" in printed.err
    assert "out of processes" in printed.err
    assert "not judged" in printed.out
    assert "bob graded" in printed.err


def test_an_unknown_student_and_a_missing_sandbox_are_errors(course, hand_in, right, monkeypatch, capsys):
    hand_in("ada", right())
    found = Availability(False, "none", "bwrap is not on PATH", "install it with apt-get")
    monkeypatch.setattr(grade, "available", lambda: found)
    assert run(course) == 1
    said = capsys.readouterr().err
    assert "No student code was run" in said
    assert "apt-get" in said
    assert run(course, "--student", "zoe", "--no-sandbox") == 1
    assert "nothing was handed in: there is no classroom/submitted/zoe/" in capsys.readouterr().err
