"""Marks in the layouts that Canvas and Moodle read, through nbgrader's own command, and safe in a spreadsheet."""

from __future__ import annotations

import csv
import doctest
import io
import subprocess
import sys
from pathlib import Path

import pytest
from nbgrader.api import Gradebook
from nbgrader.apps.exportapp import ExportApp

from autograde import __main__ as command
from autograde import marks_csv
from autograde.grading import course_config
from autograde.layout import CourseError
from autograde.lms import CanvasExporter, MoodleExporter
from tests.autograde.madebook import enter
from tests.autograde.tinycourse import ASSIGNMENT

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def classroom(course):
    """Ada has 3.5 of 5, Bob 1 after a penalty of 2, Cyd waits for a person, Dan handed nothing in."""
    enter(course, "ada", 2, 1.5, why=0)
    enter(course, "bob", 2, 1, why=0, penalty=2)
    enter(course, "cyd", 2, 2, why=None)
    with gradebook(course) as book:
        book.update_or_create_student(
            "ada", first_name="Ada", last_name="Lovelace", email="ada@x.org", lms_user_id="4711"
        )
        book.update_or_create_student("dan", first_name="Dan", last_name='O"Hara; Jr')
    return course


def gradebook(course):
    return Gradebook(course_config(course).CourseDirectory.db_url, "model-optimization")


def exported(course, kind, **traits):
    plugin = kind(config=course_config(course), **{"to": str(course / "out.csv"), **traits})
    with gradebook(course) as book:
        plugin.export(book)
    return list(csv.reader(io.StringIO((course / "out.csv").read_text(encoding="utf-8"))))


def by_student(rows, column):
    return {row[column]: row[-1] for row in rows[1:]}


def test_canvas_gets_its_five_columns_its_row_of_maxima_and_a_row_a_student(classroom):
    header, maxima, *students = exported(classroom, CanvasExporter)
    assert header == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", ASSIGNMENT]
    assert maxima == ["    Points Possible", "", "", "", "", "5"]
    assert sorted(students) == [
        ["Lovelace, Ada", "4711", "", "ada", "", "3.5"],
        ['O"Hara; Jr, Dan', "", "", "dan", "", ""],
        ["bob", "", "", "bob", "", "1"],
        ["cyd", "", "", "cyd", "", ""],
    ]


def test_moodle_gets_names_id_and_mail_and_a_column_an_assignment(classroom):
    header, *students = exported(classroom, MoodleExporter)
    assert header[:4] == ["First name", "Last name", "ID number", "Email address"]
    assert header[4] == f"Assignment: {ASSIGNMENT} (Real)"
    assert ["Ada", "Lovelace", "4711", "ada@x.org", "3.5"] in students
    assert ["", "", "bob", "", "1"] in students and len(students) == 4


def test_an_unfinished_mark_is_empty_unless_asked_for(classroom):
    assert by_student(exported(classroom, MoodleExporter), 2)["cyd"] == ""
    assert by_student(exported(classroom, MoodleExporter, waiting=True), 2)["cyd"] == "4"


def test_who_handed_nothing_in_is_left_empty_unless_zero_is_asked_for(classroom):
    assert by_student(exported(classroom, CanvasExporter), 3)["dan"] == ""
    assert by_student(exported(classroom, CanvasExporter, missing="zero"), 3)["dan"] == "0"


def test_a_column_can_have_the_name_the_lms_knows_it_by(classroom):
    columns = {ASSIGNMENT: "Week 0 (815)"}
    assert exported(classroom, CanvasExporter, columns=columns)[0][-1] == "Week 0 (815)"
    assert exported(classroom, MoodleExporter, columns=columns)[0][-1] == "Week 0 (815)"


def test_only_the_students_and_assignments_named_are_exported_and_unknown_ones_refused(classroom):
    rows = exported(classroom, MoodleExporter, student=["ada"], assignment=[ASSIGNMENT])
    assert [row[2] for row in rows[1:]] == ["4711"]
    with pytest.raises(CourseError, match="does not know eve"):
        exported(classroom, MoodleExporter, student=["eve"])


EVIL = ["=HYPERLINK(1)", "+1", "-1+2", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n=1", "＝1"]


@pytest.mark.parametrize("kind", [CanvasExporter, MoodleExporter])
@pytest.mark.parametrize("evil", EVIL, ids=repr)
def test_no_cell_is_a_formula_and_every_student_is_one_line(evil, kind, course):
    enter(course, "ada", 2, 2)
    with gradebook(course) as book:
        book.update_or_create_student("ada", first_name=evil, last_name=evil, email=evil, lms_user_id=evil)
    rows = exported(course, kind)
    cells = [cell for row in rows for cell in row]
    assert not [cell for cell in cells if cell.strip().startswith(("=", "+", "-", "@", "＝"))]
    assert sum(evil.strip() in cell for cell in cells) >= 2, "the text itself is still there to read"
    lines = (course / "out.csv").read_bytes().split(b"\r\n")
    assert len(lines) == len(rows) + 1 and not any(b"\n" in line or b"\r" in line for line in lines)


def test_a_name_cannot_pass_for_canvass_row_of_maxima(course):
    enter(course, "ada", 2, 2)
    with gradebook(course) as book:
        book.update_or_create_student("ada", last_name="    Points Possible")
    rows = exported(course, CanvasExporter)
    assert [row for row in rows if "Points Possible" in row[0]] == [rows[1]]


def test_nbgraders_export_command_takes_the_plugin_by_name(classroom):
    app = ExportApp(config=course_config(classroom))
    app.initialize(["--exporter=autograde.lms.CanvasExporter", f"--to={classroom / 'canvas.csv'}"])
    app.update_config(course_config(classroom))
    app.config.ExportPlugin.to = str(classroom / "canvas.csv")
    app.start()
    assert (classroom / "canvas.csv").read_text(encoding="utf-8").startswith("Student,ID,SIS User ID")


@pytest.mark.parametrize(
    "layout, first", [("csv", "student"), ("canvas", "Student"), ("moodle", "First name")]
)
def test_the_command_writes_each_layout_and_names_who_waits(layout, first, classroom, capsys):
    assert command.main(["export", ASSIGNMENT, "--layout", layout, "--root", str(classroom)]) == 0
    name = "marks.csv" if layout == "csv" else f"{layout}.csv"
    path = classroom / "classroom" / "report" / ASSIGNMENT / name
    assert path.read_text(encoding="utf-8").startswith(first)
    assert ("cyd" in capsys.readouterr().out) == (layout != "csv")


def test_an_assignment_nobody_knows_is_an_error_in_a_sentence(classroom, capsys):
    assert command.main(["export", "week9", "--root", str(classroom)]) == 1
    assert "knows no assignment 'week9'" in capsys.readouterr().err


def test_the_examples_run():
    assert doctest.testmod(marks_csv).failed == 0


def test_the_nbgrader_program_itself_exports(classroom):
    """`nbgrader export` from the course's folder, with its own configuration file."""
    config = (ROOT / "nbgrader_config.py").read_text(encoding="utf-8")
    (classroom / "nbgrader_config.py").write_text(config, encoding="utf-8")
    code = "from nbgrader.apps.nbgraderapp import main; main()"
    arguments = ["export", "--exporter=autograde.lms.MoodleExporter", "--to=moodle.csv"]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}", *arguments],
        cwd=classroom,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "3.5" in (classroom / "moodle.csv").read_text(encoding="utf-8")
