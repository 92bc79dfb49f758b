"""A whole class from release to report, by stock nbgrader commands and `make demo`'s, in a copy of the course."""

from __future__ import annotations

import csv
import getpass
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbgrader.api import Gradebook

from autograde.collect import collect
from autograde.demo import run_demo
from autograde.demo_class import ASSIGNMENT, CLASS, FULL, NOTEBOOK, PREFIX, files, solutions
from autograde.grading import course_config
from autograde.layout import Course
from autograde.sandbox import available

pytestmark = pytest.mark.classcycle

COURSE_ID = "model-optimization"
FILE = f"{NOTEBOOK}.ipynb"
REAL = getpass.getuser()  # whom nbgrader's exchange takes a submission to be from
each = pytest.mark.parametrize("made", CLASS, ids=[made.name for made in CLASS])


@dataclass
class Classroom:
    """A copy of the course, the folder a student works in, and what the commands said."""

    root: Path
    desk: Path
    said: dict[str, subprocess.CompletedProcess[str]]

    def run(self, *arguments: str, where: Path | None = None) -> None:
        """Runs a command as a person would, from the course's folder, and keeps what it said by its first word."""
        program = [sys.executable, "-m", *arguments]
        done = subprocess.run(
            program, cwd=where or self.root, capture_output=True, text=True, check=False, encoding="utf-8"
        )
        self.said[arguments[1]] = done
        assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"

    def submitted(self) -> dict[str, bytes]:
        """Every file that was handed in."""
        top = self.root / "classroom" / "submitted"
        return {
            path.relative_to(top).as_posix(): path.read_bytes() for path in top.rglob("*") if path.is_file()
        }

    def gradebook(self) -> Gradebook:
        """The course's."""
        return Gradebook(course_config(self.root).CourseDirectory.db_url, COURSE_ID)


def copy_course(target: Path, packages: bool = True) -> Path:
    """The course as it is in the repository, without what a running one has; with its own code or without."""
    repository = Course.here().root
    junk = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    for folder in ("lessons", "solutions", "notebooks", *(("autograde", "coursekit") if packages else ())):
        shutil.copytree(repository / folder, target / folder, ignore=junk)
    if packages:
        shutil.copyfile(repository / "nbgrader_config.py", target / "nbgrader_config.py")
    return target


def solve(notebook: Path, ours: dict[str, str]) -> None:
    """A student's work: all exercises, and a written answer."""
    work = nbformat.read(notebook, as_version=4)
    for cell in work.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        cell.source = {**ours, "question-symmetric": "It depends on the data."}.get(name, cell.source)
    nbformat.write(work, notebook)


@pytest.fixture(scope="module")
def ours():
    """The course's solutions."""
    path = Course.here().root / "solutions" / ASSIGNMENT / FILE
    return solutions(nbformat.read(path, as_version=4))


@pytest.fixture(scope="module")
def classroom(tmp_path_factory, ours):
    """The classroom after everything: one real student among the made ones."""
    found = available()
    if not found.ok:
        pytest.skip(str(found))
    room = Classroom(
        copy_course(tmp_path_factory.mktemp("cycle") / "course"), tmp_path_factory.mktemp("desk"), {}
    )
    exchange = f"--Exchange.root={room.root / 'classroom' / 'exchange'}"
    student = ("--course", COURSE_ID, exchange)
    room.run("nbgrader", "generate_assignment", ASSIGNMENT, "--force")
    room.run("nbgrader", "release_assignment", ASSIGNMENT)
    room.run("nbgrader", "fetch_assignment", ASSIGNMENT, *student, where=room.desk)
    solve(room.desk / ASSIGNMENT / FILE, ours)
    room.run("nbgrader", "submit", ASSIGNMENT, *student, where=room.desk)
    room.run("nbgrader", "collect", ASSIGNMENT)
    room.run("autograde", "demo")
    room.run("nbgrader", "autograde", ASSIGNMENT)
    room.run("nbgrader", "generate_feedback", ASSIGNMENT)
    room.run("nbgrader", "release_feedback", ASSIGNMENT)
    room.run("nbgrader", "fetch_feedback", ASSIGNMENT, *student, where=room.desk)
    room.run("nbgrader", "export", "--to", "grades.csv")
    room.run("autograde", "report", ASSIGNMENT)
    return room


@pytest.fixture(scope="module")
def rows(classroom):
    """The rows of marks.csv by student."""
    path = classroom.root / "classroom" / "report" / ASSIGNMENT / "marks.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


@each
def test_each_made_student_has_the_marks_a_person_would_give(rows, made):
    row = rows[made.student]
    assert {name: float(row[name]) for name in FULL} == made.expected
    assert float(row["total"]) == sum(made.expected.values())


@each
def test_a_person_is_asked_where_one_is_needed_and_nowhere_else(rows, made):
    readable = made.cut == 1.0
    wanted = bool(made.kinds) or (made.words is not None and readable)
    assert rows[made.student]["needs_human"] == ("yes" if wanted else "no")


def test_the_real_student_gets_full_marks_through_stock_commands(rows):
    assert {name: float(rows[REAL][name]) for name in FULL} == FULL
    assert rows[REAL]["question-symmetric"] == ""


def test_nobody_is_missing_though_some_submissions_break_everything(classroom, rows):
    assert set(rows) == {made.student for made in CLASS} | {REAL}
    with classroom.gradebook() as gradebook:
        graded = {each.student.id for each in gradebook.assignment_submissions(ASSIGNMENT)}
    assert graded == set(rows)


def test_what_was_handed_in_is_unchanged(classroom, ours):
    release = nbformat.read(classroom.root / "notebooks" / ASSIGNMENT / FILE, as_version=4)
    expected = {
        f"{made.student}/{ASSIGNMENT}/{name}": data
        for made in CLASS
        for name, data in files(made, release, ours).items()
    }
    found = classroom.submitted()
    assert {name: data for name, data in found.items() if name.startswith(PREFIX)} == expected
    handed_in = (classroom.desk / ASSIGNMENT / FILE).read_bytes()
    assert found[f"{REAL}/{ASSIGNMENT}/{FILE}"] == handed_in


def test_the_demo_says_that_all_marks_are_right_and_where_everything_is(classroom):
    said = classroom.said["demo"].stdout
    assert f"All {len(CLASS)} made submissions got the marks a person would give" in said
    for name in ("index.html", "marks.csv", "nbgrader.csv"):
        place = f"classroom/report/{ASSIGNMENT}/{name}"
        assert place in said
        assert (classroom.root / place).exists()
    assert f"grading {len(CLASS)}/{len(CLASS)}" in classroom.said["demo"].stderr


def test_the_demo_grades_no_real_student(classroom):
    graded = [
        line.split(": ")[1].split()[0] for line in classroom.said["demo"].stderr.splitlines() if ": " in line
    ]
    assert set(graded) == {made.student for made in CLASS}


def test_code_ran_behind_walls(classroom):
    receipts = list((classroom.root / "classroom" / "receipts").rglob("*.json"))
    lessons = list((classroom.root / "notebooks" / ASSIGNMENT).glob("*.ipynb"))
    assert len(receipts) == len(CLASS) + len(lessons)  # the real student handed in all she had been given
    assert all(json.loads(path.read_text(encoding="utf-8"))["sandboxed"] for path in receipts)


def test_everybody_has_a_feedback_page_and_the_real_student_fetched_hers(classroom, rows):
    pages = (classroom.root / "classroom" / "feedback").glob(f"*/{ASSIGNMENT}/{NOTEBOOK}.html")
    assert {page.parts[-3] for page in pages} == set(rows)
    fetched = {page.name for page in (classroom.desk / ASSIGNMENT / "feedback").rglob("*.html")}
    assert f"{NOTEBOOK}.html" in fetched


def test_nbgraders_export_has_the_same_totals(classroom, rows):
    with (classroom.root / "grades.csv").open(encoding="utf-8", newline="") as file:
        totals = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
    assert totals == {student: float(row["total"]) for student, row in rows.items()}


def test_a_known_mistake_stands_in_the_report_with_everybody_who_made_it(classroom):
    marks = collect(classroom.root, ASSIGNMENT, course_config(classroom.root))
    seen = {(summary.mistake.id, summary.students) for summary in marks.mistakes()}
    made = {name for each in CLASS for name in each.mistakes}
    assert seen == {(name, tuple(each.student for each in CLASS if name in each.mistakes)) for name in made}


def test_a_manual_mark_survives_a_regrade_and_a_second_demo(tmp_path):
    found = available()
    if not found.ok:
        pytest.skip(str(found))
    course = Course(copy_course(tmp_path / "course", packages=False))
    room = Classroom(course.root, tmp_path, {})
    (words,) = [made for made in CLASS if made.words and len(made.answers) == 1]
    (first,) = run_demo(course, made=[words])
    before = room.submitted()
    with room.gradebook() as gradebook:
        grade = gradebook.find_grade("question-symmetric", NOTEBOOK, ASSIGNMENT, words.student)
        grade.manual_score, grade.needs_manual_grade = 2.5, False
        gradebook.db.commit()
    (second,) = run_demo(course, made=[words])
    assert (first.problems, second.problems) == ((), ())
    assert room.submitted() == before
    (student,) = collect(course.root, ASSIGNMENT, course_config(course.root)).students
    assert student.total == sum(words.expected.values()) + 2.5
    assert student.needs_human == ()
