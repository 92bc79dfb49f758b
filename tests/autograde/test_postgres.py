"""PostgreSQL as the gradebook: a real server, started here from Debian's package, holds what SQLite would."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI
from sqlalchemy import create_engine, text

from autograde.collect import collect
from autograde.grading import course_config, grade_assignment
from autograde.plugin import COURSE_ID
from autograde.verify import verify
from tests.autograde.tinycourse import ASSIGNMENT, LESSON


def program(name: str) -> str:
    """Where one of PostgreSQL's programs is; skips if it is not installed."""
    found = shutil.which(name) or next(
        map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None
    )
    if found is None:
        pytest.skip(f"PostgreSQL's {name} is not installed: apt-get install postgresql")
    return found


@dataclass
class Server:
    """A PostgreSQL server of its own in a folder, reached over a socket there."""

    folder: Path
    user: str | None

    def run(self, *command: str) -> None:
        done = subprocess.run(
            command, user=self.user, cwd=self.folder, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    def control(self, action: str) -> None:
        options = ["-o", f"-k {self.folder} -c listen_addresses='' -c fsync=off"] if action != "stop" else []
        log = str(self.folder / "log")
        self.run(
            program("pg_ctl"),
            "-D",
            str(self.folder / "data"),
            "-w",
            "-m",
            "fast",
            "-l",
            log,
            *options,
            action,
        )

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://teacher@/{name}?host={self.folder}"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A running server; as root it runs as another user, since PostgreSQL refuses to run as root."""
    pytest.importorskip("psycopg")
    user = None
    if os.geteuid() == 0:
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = "postgres" if "postgres" in names else "nobody"
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path must be short
    made = Server(folder, user)
    initdb = program("initdb")
    try:
        if user is not None:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        folder.chmod(0o755)
        made.run(
            initdb, "-D", str(folder / "data"), "-U", "teacher", "-A", "trust", "--no-sync", "-E", "UTF8"
        )
        made.control("start")
        yield made
        made.control("stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def config(server, course):
    """The course's configuration with a database of its own on the server, that knows the assignment."""
    name = f"gradebook_{os.urandom(4).hex()}"
    engine = create_engine(server.url("postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    (course / "classroom" / "gradebook.db").unlink()
    found = course_config(course)
    found.CourseDirectory.db_url = server.url(name)
    result = NbGraderAPI(config=found).generate_assignment(ASSIGNMENT, force=True)
    assert result["success"], result
    return found


def points(config, student: str) -> dict[str, float | None]:
    with Gradebook(config.CourseDirectory.db_url, COURSE_ID) as gradebook:
        notebook = gradebook.find_submission_notebook(LESSON, ASSIGNMENT, student)
        return {grade.name: grade.auto_score for grade in notebook.grades}


def test_marks_are_recorded_collected_and_verified(course, config, hand_in, right, walls):
    hand_in("ada", right())
    hand_in("bob", right(square="def square(x): return 4"))
    outcomes = grade_assignment(ASSIGNMENT, root=course, config=config)
    assert [outcome.status for outcome in outcomes] == ["graded", "graded"]
    assert not (course / "classroom" / "gradebook.db").exists()
    assert points(config, "ada") == {"check-square": 2, "check-negate": 2, "why": None}
    assert points(config, "bob") == {"check-square": 1, "check-negate": 2, "why": None}
    assert {each.student: each.total for each in collect(course, ASSIGNMENT, config).students} == {
        "ada": 4,
        "bob": 3,
    }
    assert verify(course, ASSIGNMENT, config).ok


def test_a_mark_changed_in_the_database_is_named(course, config, hand_in, right, walls):
    hand_in("ada", right(square="def square(x): return 4"))
    grade_assignment(ASSIGNMENT, root=course, config=config)
    engine = create_engine(config.CourseDirectory.db_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE grade SET auto_score = 2 WHERE auto_score = 1"))
    engine.dispose()
    (row,) = verify(course, ASSIGNMENT, config).rows
    assert str(row) == f"ada / {LESSON} / check-square: recorded 1, found 2"


def test_a_manual_mark_survives_a_regrade(course, config, hand_in, right, walls):
    hand_in("ada", right())
    grade_assignment(ASSIGNMENT, root=course, config=config)
    with Gradebook(config.CourseDirectory.db_url, COURSE_ID) as gradebook:
        gradebook.find_grade("why", LESSON, ASSIGNMENT, "ada").manual_score = 0.5
        gradebook.db.commit()
    grade_assignment(ASSIGNMENT, root=course, config=config, force=True)
    with Gradebook(config.CourseDirectory.db_url, COURSE_ID) as gradebook:
        assert gradebook.find_grade("why", LESSON, ASSIGNMENT, "ada").manual_score == 0.5


def test_a_server_that_restarts_in_the_middle_costs_nothing(course, config, server, hand_in, right, walls):
    for student in ("ada", "bob"):
        hand_in(student, right())
    restarted = []

    def restart(done: int, *_: object) -> None:
        if done == 1:
            server.control("restart")
            restarted.append(True)

    outcomes = grade_assignment(
        ASSIGNMENT, root=course, config=config, progress=restart, settings={"executor": "inline"}
    )
    assert restarted == [True]
    assert [outcome.status for outcome in outcomes] == ["graded", "graded"]
    assert points(config, "bob") == {"check-square": 2, "check-negate": 2, "why": None}
