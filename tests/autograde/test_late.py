"""The late policy, through nbgrader's own preprocessor, with due dates and time stamps in a real gradebook."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from nbformat.v4 import new_notebook
from nbgrader.api import Gradebook
from nbgrader.preprocessors import AssignLatePenalties
from nbgrader.utils import parse_utc
from traitlets import TraitError
from traitlets.config import Config

from autograde.grading import course_config
from autograde.late import LatePolicy
from tests.autograde.madebook import enter
from tests.autograde.tinycourse import ASSIGNMENT, LESSON

DUE = "2027-03-08 17:00:00 Europe/Berlin"
TEN = {"percent_per_day": 10.0, "grace_minutes": 30.0, "floor_percent": 60.0}


@pytest.fixture
def penalty(course):
    """The penalty the gradebook holds after nbgrader's preprocessor has seen a submission of 4 points."""

    numbers = itertools.count()

    def of(handed_in, due=DUE, extension=timedelta(0), score=(2.0, 2.0), **policy):
        config = course_config(course)
        config.LatePolicy = Config(TEN | policy)
        student = f"ada{next(numbers)}"
        enter(course, student, *score)
        url = config.CourseDirectory.db_url
        with Gradebook(url, "model-optimization") as gradebook:
            gradebook.update_or_create_assignment(ASSIGNMENT, duedate=due)
            gradebook.update_or_create_submission(ASSIGNMENT, student, timestamp=handed_in)
            if extension:
                gradebook.grant_extension(ASSIGNMENT, student, minutes=extension.total_seconds() // 60)
        step = AssignLatePenalties(config=config)
        about = {"notebook": LESSON, "assignment": ASSIGNMENT, "student": student, "db_url": url}
        step.preprocess(new_notebook(), {"nbgrader": about})
        assert isinstance(step.plugin_inst, LatePolicy)
        with Gradebook(url, "model-optimization") as gradebook:
            return gradebook.find_submission_notebook(LESSON, ASSIGNMENT, student).late_submission_penalty

    return of


@pytest.mark.parametrize(
    "handed_in, expected",
    [
        ("2027-03-08 15:59:59 UTC", None),
        ("2027-03-08 16:00:00 UTC", None),
        ("2027-03-08 16:30:00 UTC", None),
        ("2027-03-08 16:30:01 UTC", 0.4),
        ("2027-03-09 16:30:00 UTC", 0.4),
        ("2027-03-09 16:30:01 UTC", 0.8),
        ("2027-03-12 10:00:00 UTC", 1.6),
        ("2027-06-01 10:00:00 UTC", 1.6),
    ],
    ids=["early", "in time", "end of grace", "day 1", "end of day 1", "day 2", "floor", "months later"],
)
def test_a_tenth_a_day_after_half_an_hour_of_grace_and_never_below_six_tenths(penalty, handed_in, expected):
    assert penalty(handed_in) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    "handed_in",
    ["2027-03-08 17:29:00 Europe/Berlin", "2027-03-08T21:59:00+05:30", "2027-03-08 08:29:00 US/Pacific"],
)
def test_the_same_moment_costs_the_same_whatever_the_time_zone_it_is_written_in(penalty, handed_in):
    """16:29 in UTC each time, within the half hour of grace; an hour later it is a day."""
    assert penalty(handed_in) is None
    later = str(parse_utc(handed_in) + timedelta(hours=1)) + " UTC"
    assert penalty(later) == pytest.approx(0.4)


def test_a_day_is_24_hours_also_when_the_clocks_change(penalty):
    """On 28 March 2027 Berlin goes from UTC+1 to UTC+2: due at 16:00 UTC, 24 hours later it is 18:00 in Berlin."""
    due = "2027-03-27 17:00:00 Europe/Berlin"
    assert penalty("2027-03-28 18:30:00 Europe/Berlin", due) == pytest.approx(0.4)
    assert penalty("2027-03-28 18:30:01 Europe/Berlin", due) == pytest.approx(0.8)


def test_an_extension_counts_before_the_grace_period(penalty):
    assert penalty("2027-03-10 16:30:00 UTC", extension=timedelta(days=2)) is None
    assert penalty("2027-03-10 16:30:01 UTC", extension=timedelta(days=2)) == pytest.approx(0.4)


def test_without_a_due_date_nothing_is_late(penalty):
    assert penalty("2027-03-12 10:00:00 UTC", due=None) is None


def test_the_share_is_of_what_was_earned(penalty):
    assert penalty("2027-03-08 20:00:00 UTC", score=(1.0, 0.5)) == pytest.approx(0.15)
    assert penalty("2027-03-08 20:00:00 UTC", score=(0.0, 0.0)) == 0


def test_an_assignment_can_have_rules_of_its_own(penalty):
    own = {ASSIGNMENT: {"percent_per_day": 50.0, "floor_percent": 0}, "other": {"percent_per_day": 100}}
    assert penalty("2027-03-08 20:00:00 UTC", assignments=own) == pytest.approx(2.0)
    assert penalty("2027-03-20 20:00:00 UTC", assignments=own) == pytest.approx(4.0)
    assert penalty("2027-03-08 16:30:00 UTC", assignments=own) is None


def test_by_default_nothing_is_taken_off_and_nbgraders_own_method_still_works():
    assert LatePolicy().late_submission_penalty("ada", 4.0, 1e6) is None
    assert LatePolicy(penalty_method="zero").late_submission_penalty("ada", 4.0, 1.0) == 4.0


@pytest.mark.parametrize(
    "settings",
    [
        {"percent_per_day": -1},
        {"floor_percent": 101},
        {"grace_minutes": -5},
        {"assignments": {"capstone": {"percent": 5}}},
        {"assignments": {"capstone": {"floor_percent": 120}}},
        {"assignments": {"capstone": {"percent_per_day": "ten"}}},
        {"assignments": {"capstone": 10}},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(settings):
    with pytest.raises(TraitError):
        LatePolicy(config=Config(LatePolicy=settings))
