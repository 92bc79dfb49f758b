"""grading.toml: what it may say, what is refused and in which words, and what grading makes of it."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from nbgrader.converters.base import NbGraderException

from autograde.grading import grade_assignment
from autograde.layout import CourseError
from autograde.limits import Limits
from autograde.settings import FILE, SECRET, AssignmentSettings, course_secret, load_settings, seed_for
from tests.autograde.tinycourse import ASSIGNMENT

EXAMPLE = """
seed = 7

[limits]
notebook_seconds = 90
patience = 2.5

[assignments.capstone]
seed = "per-student"

[assignments.capstone.limits]
notebook_seconds = 600

[assignments.capstone.exercises.train_student]
cell_seconds = 60
"""


@pytest.fixture
def loaded(tmp_path):
    """The settings of a course with this grading.toml."""

    def load(text):
        (tmp_path / FILE).write_text(text, encoding="utf-8")
        return load_settings(tmp_path)

    return load


def test_without_the_file_everything_is_as_by_default(tmp_path):
    settings = load_settings(tmp_path)
    assert settings.limits_for("capstone") == Limits()
    assert settings.seed_for("ada", "capstone") == 0
    assert settings.of("capstone") == AssignmentSettings()
    assert not (tmp_path / "classroom").exists()


def test_an_assignments_limits_go_before_the_courses_and_nbgraders_before_both(loaded):
    settings = loaded(EXAMPLE)
    assert settings.limits_for("other") == Limits(notebook_seconds=90, patience=2.5)
    assert settings.limits_for("capstone").notebook_seconds == 600
    assert settings.limits_for("capstone").patience == 2.5
    assert settings.limits_for("capstone", {"notebook_seconds": 5}).notebook_seconds == 5


def test_an_exercises_seconds_hold_for_its_cell_and_its_check_only(loaded):
    limits = loaded(EXAMPLE).limits_for("capstone")
    names = ("train_student", "check-train_student", "check-other", None)
    assert [limits.cell_seconds_of(name) for name in names] == [60, 60, 20, 20]


def test_a_fixed_seed_is_everybodys_and_a_seed_per_student_is_hers(loaded):
    settings = loaded(EXAMPLE)
    assert settings.seed_for("ada", "other") == settings.seed_for("bob", "other") == 7
    seeds = {settings.seed_for(name, "capstone") for name in ("ada", "bob", "eve")}
    assert len(seeds) == 3 and all(0 <= seed < 2**31 for seed in seeds)
    assert settings.seed_for("ada", "capstone") == settings.seed_for("ada", "capstone")


def test_a_seed_depends_on_student_assignment_and_secret_and_on_their_borders():
    seeds = {
        seed_for(student, assignment, secret)
        for student in ("ada", "a", "")
        for assignment in ("week1", "week1a", "week")
        for secret in ("s", "t")
    }
    assert len(seeds) == 18
    assert seed_for("ada", "week1", "s") == 533299756, "marks on record depend on this number"


def test_the_secret_is_made_once_and_only_its_owner_reads_it(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: course_secret(tmp_path), range(8)))
    assert len(found) == 1 and len(found.pop()) == 64
    path = tmp_path / SECRET
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == [path.name]


def test_an_empty_secret_is_refused(tmp_path):
    (tmp_path / "classroom").mkdir()
    (tmp_path / SECRET).write_text("\n", encoding="utf-8")
    with pytest.raises(CourseError, match="is empty"):
        course_secret(tmp_path)


@pytest.mark.parametrize(
    "text, words",
    [
        ("seed = \nx = 1", "cannot be read: .* line 1"),
        ("sed = 1", "sed is no setting; did you mean seed?"),
        ('seed = "each"', 'seed must be a whole number from 0 to 2^31 - 1, or "per-student"'),
        ("seed = -1", "seed must be a whole number"),
        ("seed = true", "seed must be a whole number"),
        ("limits = 3", "limits must be a table, written [limits]; it is 3"),
        ("[limits]\ncell_second = 3", "limits.cell_second is no setting; did you mean cell_seconds?"),
        ("[limits]\ncell_seconds = 0", "limits.cell_seconds must be a number above 0; it is 0"),
        ("[limits]\ncell_seconds = inf", "limits.cell_seconds must be a number above 0; it is inf"),
        ("[limits]\ncell_seconds = nan", "limits.cell_seconds must be a number above 0; it is nan"),
        ("[limits]\nprocesses = 1.5", "limits.processes must be a whole number above 0; it is 1.5"),
        ("[limits]\nexercise_seconds = 1", "limits.exercise_seconds is no setting"),
        ("[assignments]\na = 1", "assignments.a must be a table, written [assignments.a]"),
        ("[assignments.a]\nlimit = 1", "assignments.a.limit is no setting; did you mean limits?"),
        (
            "[assignments.a.exercises.quantize]\nmemory_bytes = 1",
            "assignments.a.exercises.quantize.memory_bytes is no setting; there is: cell_seconds",
        ),
    ],
)
def test_what_is_wrong_is_said_with_file_place_and_mend(text, words, loaded, tmp_path):
    with pytest.raises(CourseError) as caught:
        loaded(text)
    if ".*" in words:
        assert caught.match(words)
    else:
        assert words in str(caught.value)
    assert str(tmp_path / FILE) in str(caught.value)


def test_grading_uses_them_and_the_receipt_has_them_on_record(course, hand_in, right):
    (course / FILE).write_text(
        f'[assignments.{ASSIGNMENT}]\nseed = "per-student"\n[assignments.{ASSIGNMENT}.limits]\nrestarts = 3\n',
        encoding="utf-8",
    )
    for student in ("ada", "bob"):
        hand_in(student, right())
    found = grade_assignment(ASSIGNMENT, root=course, sandbox=False)
    receipts = {outcome.student: outcome.receipts[0][1] for outcome in found}
    expected = {name: seed_for(name, ASSIGNMENT, course_secret(course)) for name in ("ada", "bob")}
    assert {name: receipt.seed for name, receipt in receipts.items()} == expected
    assert all(receipt.limits.restarts == 3 for receipt in receipts.values())


def test_a_mistake_in_the_file_stops_grading_before_anything_is_run(course, hand_in, right):
    (course / FILE).write_text("sed = 1", encoding="utf-8")
    hand_in("ada", right())
    with pytest.raises(NbGraderException, match="did you mean seed"):
        grade_assignment(ASSIGNMENT, root=course, sandbox=False)
    assert not (course / "classroom" / "autograded").exists()
