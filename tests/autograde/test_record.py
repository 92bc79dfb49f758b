"""The gradebook holds what stock nbgrader would write, whoever judged it and whatever got in between."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import nbformat
import pytest
from nbgrader.api import Gradebook
from nbgrader.converters import Autograde
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory

from autograde import jobs
from autograde.chain import Chain, read_lines
from autograde.grading import course_config, grade_assignment
from autograde.plugin import COURSE_ID
from autograde.publish import Publication
from autograde.record import OneGradebook, Recorder
from autograde.regrade import changes, score_table
from tests.autograde.tinycourse import ASSIGNMENT, LESSON, answered

HONEST = {
    "right": {},
    "half": {"square": "def square(x):\n    return 4", "why": ""},
    "wrong": {"square": "def square(x):\n    return None", "negate": "def negate(x):\n    return x"},
    "raises": {"negate": "def negate(x):\n    raise ValueError(x)"},
    "broken": {"square": "def square(x) return x"},
    "late": {},
    "late-and-half": {"negate": "def negate(x):\n    return -1"},
    "graded-before": {},
}


def put(root: Path, student: str, notebook: nbformat.NotebookNode, late: bool = False) -> None:
    folder = root / "classroom" / "submitted" / student / ASSIGNMENT
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / f"{LESSON}.ipynb")
    (folder / "data.txt").write_text("hers", encoding="utf-8")
    (folder / "minicheck.py").write_text("raise SystemExit", encoding="utf-8")
    if late or student == "right":
        when = "2026-03-02 10:00:00 UTC" if late else "2026-02-27 10:00:00 UTC"
        (folder / "timestamp.txt").write_text(when, encoding="utf-8")


def settings(root: Path):
    config = course_config(root)
    config.CourseDirectory.assignment_id = ASSIGNMENT
    config.LateSubmissionPlugin.penalty_method = "zero"
    return config


def grade_stock(root: Path, student: str = "*", force: bool = False) -> None:
    config = settings(root)
    config.CourseDirectory.student_id = student
    converter = Autograde(coursedir=CourseDirectory(config=config), config=config)
    converter.force = force
    converter.start()


def grade_ours(root: Path, **options):
    return grade_assignment(ASSIGNMENT, root=root, config=settings(root), **options)


def by_hand(root: Path) -> None:
    """A person gives a mark, a comment and extra credit."""
    with Gradebook(course_config(root).CourseDirectory.db_url, COURSE_ID) as gradebook:
        grade = gradebook.find_grade("check-square", LESSON, ASSIGNMENT, "graded-before")
        grade.manual_score, grade.extra_credit, grade.needs_manual_grade = 0.5, 0.25, False
        gradebook.find_comment("square", LESSON, ASSIGNMENT, "graded-before").manual_comment = "See me."
        gradebook.db.commit()


def rows(root: Path) -> dict[str, list[tuple]]:
    """Every row about submissions, with names in the place of ids."""
    connection = sqlite3.connect(root / "classroom" / "gradebook.db")
    queries = {
        "students": "select id, first_name, last_name, email, lms_user_id from student",
        "enrolled": "select id from course",
        "submissions": "select student_id, timestamp, extension from submitted_assignment",
        "notebooks": """select s.student_id, n.name, sn.flagged, sn.late_submission_penalty
            from submitted_notebook sn join submitted_assignment s on s.id = sn.assignment_id
            join notebook n on n.id = sn.notebook_id""",
        "grades": """select s.student_id, c.name, c.type, g.auto_score, g.manual_score, g.extra_credit,
            g.needs_manual_grade from grade g join submitted_notebook sn on sn.id = g.notebook_id
            join submitted_assignment s on s.id = sn.assignment_id join base_cell c on c.id = g.cell_id""",
        "comments": """select s.student_id, c.name, c.type, m.auto_comment, m.manual_comment
            from comment m join submitted_notebook sn on sn.id = m.notebook_id
            join submitted_assignment s on s.id = sn.assignment_id join base_cell c on c.id = m.cell_id""",
    }
    found = {name: sorted(connection.execute(query).fetchall(), key=str) for name, query in queries.items()}
    connection.close()
    return found


@pytest.fixture(scope="module")
def made(course_template, release, tmp_path_factory) -> Path:
    """A course with a due date and a class of honest submissions."""
    root = tmp_path_factory.mktemp("record") / "course"
    shutil.copytree(course_template, root)
    with Gradebook(course_config(root).CourseDirectory.db_url, COURSE_ID) as gradebook:
        gradebook.find_assignment(ASSIGNMENT).duedate = datetime(2026, 3, 1)
        gradebook.db.commit()
    for student, answers in HONEST.items():
        put(root, student, answered(release, **answers), late=student.startswith("late"))
    put(root, "blank", release)
    return root


@pytest.fixture(scope="module")
def stock(made, tmp_path_factory) -> Path:
    """The course after stock nbgrader, twice for one student with a person's marks in between."""
    root = tmp_path_factory.mktemp("stock") / "course"
    shutil.copytree(made, root)
    grade_stock(root)
    by_hand(root)
    grade_stock(root, "graded-before", force=True)
    return root


@contextmanager
def dask_cluster() -> Iterator[dict[str, str]]:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", memory_limit=0
    ) as cluster:
        yield {"executor": "dask", "scheduler": cluster.scheduler_address}


@contextmanager
def local(**chosen) -> Iterator[dict[str, object]]:
    yield chosen


EXECUTORS = {
    "inline": lambda: local(executor="inline"),
    "pool_of_2": lambda: local(executor="pool", workers=2),
    "dask_with_2": dask_cluster,
}


@pytest.fixture(scope="module", params=EXECUTORS)
def ours(request, made, walls, tmp_path_factory) -> Path:
    """The same course after the harness, by each executor."""
    root = tmp_path_factory.mktemp("ours") / "course"
    shutil.copytree(made, root)
    with EXECUTORS[request.param]() as chosen:
        outcomes = grade_ours(root, settings=chosen)
        assert {outcome.status for outcome in outcomes} == {"graded"}
        by_hand(root)
        grade_ours(root, student="graded-before", force=True, settings=chosen)
    return root


@pytest.mark.parametrize("table", ["students", "enrolled", "submissions", "notebooks", "grades", "comments"])
def test_every_row_is_the_one_stock_nbgrader_writes(stock, ours, table):
    assert rows(ours)[table] == rows(stock)[table]


def test_the_graded_folder_holds_the_files_stock_nbgrader_puts_there(stock, ours):
    def listing(root: Path) -> dict[str, int]:
        top = root / "classroom" / "autograded"
        found = {
            path.relative_to(top).as_posix(): path.stat().st_mode for path in top.rglob("*") if path.is_file()
        }
        made_by_us = ("submission_secret.txt", "timestamp.txt")
        return {path: mode for path, mode in found.items() if not path.endswith(made_by_us)}

    assert listing(ours) == listing(stock)
    checks = (ours / "classroom" / "autograded").glob(f"*/{ASSIGNMENT}/minicheck.py")
    assert all("CASES" in path.read_text(encoding="utf-8") for path in checks)


def test_nbgrader_reads_marks_from_the_graded_notebook_as_it_recorded_them(ours):
    notebook = nbformat.read(ours / f"classroom/autograded/half/{ASSIGNMENT}/{LESSON}.ipynb", as_version=4)
    cells = {cell.metadata.get("nbgrader", {}).get("grade_id"): cell for cell in notebook.cells}
    assert cells["check-square"].outputs[-1].data["text/plain"] == "1.0"
    assert cells["check-square"].metadata.nbgrader.points == 2


# Interruptions -----------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Ends a run as `kill -9` would, as far as what is on the disk goes."""


def killed_before(method):
    def stop(self, *args, **options):
        raise Killed

    return stop


def killed_after(method):
    def stop(self, *args, **options):
        method(self, *args, **options)
        raise Killed

    return stop


@pytest.fixture
def counted(monkeypatch) -> list[bytes]:
    """The notebooks that were executed, whatever became of them."""
    seen: list[bytes] = []
    real = jobs.execute

    def execute(notebook, **options):
        seen.append(notebook)
        return real(notebook, **options)

    monkeypatch.setattr(jobs, "execute", execute)
    return seen


def chain_path(root: Path) -> Path:
    return root / "classroom" / "record" / f"{ASSIGNMENT}.jsonl"


def recorded(root: Path) -> list[str]:
    records = [line.record or {} for line in read_lines(chain_path(root))]
    return [record["student"] for record in records if record["kind"] == "marks"]


@pytest.mark.parametrize("when", [killed_before, killed_after])
@pytest.mark.parametrize(
    ("owner", "method"),
    [
        (Publication, "prepare"),
        (Publication, "withdraw"),
        (Chain, "append"),
        (Recorder, "record"),
        (Publication, "publish"),
    ],
    ids=["prepare", "withdraw", "append", "record", "publish"],
)
def test_wherever_a_run_is_cut_short_the_next_one_loses_and_repeats_nothing(
    course, hand_in, right, marks, counted, walls, monkeypatch, owner, method, when
):
    hand_in("ada", right())
    hand_in("bob", right(square="def square(x): return 4"))
    grade_ours(course, student="ada", settings={"executor": "inline"})
    hand_in("ada", right(square="def square(x): return 9"))
    real = getattr(owner, method)
    wrapped = when(real)
    monkeypatch.setattr(owner, method, wrapped)
    with pytest.raises(Killed):
        grade_ours(course, settings={"executor": "inline"})
    monkeypatch.setattr(owner, method, real)
    outcomes = grade_ours(course, settings={"executor": "inline"})
    assert marks("ada") == {"check-square": 1, "check-negate": 2, "why": None}
    assert marks("bob") == {"check-square": 1, "check-negate": 2, "why": None}
    assert {outcome.status for outcome in outcomes} <= {"graded", "skipped"}
    assert len(counted) == 3  # ada twice, since she handed in twice, and bob
    assert sorted(recorded(course)) == ["ada", "ada", "bob"]


def test_a_full_disk_stops_the_run_and_the_next_one_goes_on(
    course, hand_in, right, counted, walls, monkeypatch
):
    for student in ("ada", "bob"):
        hand_in(student, right())
    real = Publication.prepare

    def full(self, *args):
        if "bob" in str(self.target):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, *args)

    monkeypatch.setattr(Publication, "prepare", full)
    with pytest.raises(NbGraderException, match="disk is full"):
        grade_assignment(ASSIGNMENT, root=course, student="bob")
    assert [outcome.status for outcome in grade_assignment(ASSIGNMENT, root=course)] == ["graded"]
    monkeypatch.setattr(Publication, "prepare", real)
    assert [outcome.status for outcome in grade_assignment(ASSIGNMENT, root=course)] == ["skipped", "graded"]
    assert len(counted) == 2
    assert recorded(course) == ["ada", "bob"]


def test_a_line_the_disk_has_no_room_for_leaves_the_chain_as_it_was(tmp_path, monkeypatch):
    chain = Chain(tmp_path / "chain.jsonl")
    chain.append({"kind": "marks", "student": "ada"})
    before = chain.path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        chain.append({"kind": "marks", "student": "bob"})
    assert chain.path.read_bytes() == before
    assert chain.latest("bob") is None


@contextmanager
def locked_database(root: Path, seconds: float) -> Iterator[None]:
    """Another program that holds the gradebook's write lock for a while."""
    path = root / "classroom" / "gradebook.db"
    ready = threading.Event()

    def hold() -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")
        ready.set()
        time.sleep(seconds)
        connection.execute("COMMIT")
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait()
    yield
    thread.join()


def test_a_locked_gradebook_is_waited_for(course, hand_in, right, marks, walls):
    hand_in("ada", right())
    with locked_database(course, 1.5):
        grade_assignment(ASSIGNMENT, root=course)
    assert marks("ada")["check-square"] == 2


def test_a_gradebook_that_stays_locked_stops_the_run_with_nothing_written(
    course, hand_in, right, counted, walls
):
    hand_in("ada", right())
    locked_late = locked_database(course, 4)

    def lock_before_recording(*args, **options):
        locked_late.__enter__()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Publication, "withdraw", lock_before_recording)
        with pytest.raises(NbGraderException, match=r"locked.*run the same command again"):
            grade_assignment(ASSIGNMENT, root=course, settings={"lock_seconds": 0.3})
    assert not chain_path(course).exists()
    with pytest.raises(StopIteration):
        next(locked_late.gen)
    grade_assignment(ASSIGNMENT, root=course)
    assert len(counted) == 1
    assert recorded(course) == ["ada"]


def test_two_runs_at_a_time_are_refused(course, hand_in, right, walls):
    hand_in("ada", right())
    refusals = []

    def second(*_):
        with pytest.raises(NbGraderException, match="another grading run"):
            grade_assignment(ASSIGNMENT, root=course)
        refusals.append(True)

    grade_assignment(ASSIGNMENT, root=course, progress=second)
    assert refusals == [True]


def test_a_transaction_that_fails_leaves_no_row(course):
    gradebook = OneGradebook(course_config(course).CourseDirectory.db_url, COURSE_ID)

    def half() -> None:
        gradebook.update_or_create_student("ada")
        gradebook.update_or_create_submission(ASSIGNMENT, "ada")
        raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        gradebook.transaction(half)
    gradebook.close()
    assert rows(course)["students"] == []


# Regrading ---------------------------------------------------------------------------------------------------------


def test_grading_again_judges_only_who_changed(course, hand_in, right, counted, walls):
    for student in ("ada", "bob"):
        hand_in(student, right())
    grade_ours(course)
    hand_in("bob", right(negate="def negate(x): return x"))
    outcomes = grade_ours(course)
    assert [(outcome.status, outcome.judged) for outcome in outcomes] == [("skipped", 0), ("graded", 1)]
    assert len(counted) == 3


@pytest.mark.parametrize("changed", ["code", "environment", "limits", "seed", "release"])
def test_a_regrade_judges_again_when_what_a_mark_depends_on_has_changed(
    course, hand_in, right, counted, walls, monkeypatch, changed
):
    hand_in("ada", right())
    grade_ours(course)
    options: dict[str, object] = {"regrade": True}
    if changed in ("code", "environment"):
        for module in ("autograde.grader", "autograde.jobs"):
            monkeypatch.setattr(f"{module}.{changed}_digest", lambda: "another")
    elif changed == "release":
        (course / "notebooks" / ASSIGNMENT / "data.csv").write_text("1", encoding="utf-8")
    else:
        options |= {"limits": {"limits": {"cell_seconds": 19.0}}, "seed": {"seed": 1}}[changed]
    plain = {key: value for key, value in options.items() if key != "regrade"}
    assert [outcome.status for outcome in grade_ours(course, settings=plain)] == ["skipped"]
    assert [outcome.judged for outcome in grade_ours(course, settings=options)] == [1]
    assert [outcome.status for outcome in grade_ours(course, settings=options)] == ["skipped"]
    assert len(counted) == 2


def test_a_regrade_says_which_marks_changed_and_keeps_those_given_by_hand(
    course, hand_in, right, marks, walls
):
    hand_in("ada", right())
    grade_ours(course)
    with Gradebook(course_config(course).CourseDirectory.db_url, COURSE_ID) as gradebook:
        gradebook.find_grade("why", LESSON, ASSIGNMENT, "ada").manual_score = 0.5
        gradebook.db.commit()
    before = score_table(ASSIGNMENT, settings(course))
    hand_in("ada", right(square="def square(x): return 4"))
    grade_ours(course, settings={"regrade": True})
    found = changes(before, score_table(ASSIGNMENT, settings(course)))
    assert [str(change) for change in found] == [f"ada / {LESSON} / check-square: 2 → 1"]
    with Gradebook(course_config(course).CourseDirectory.db_url, COURSE_ID) as gradebook:
        grade = gradebook.find_grade("why", LESSON, ASSIGNMENT, "ada")
        assert (grade.manual_score, grade.needs_manual_grade) == (0.5, True)


def test_a_damaged_judgement_is_made_again(course, hand_in, right, counted, walls):
    hand_in("ada", right())
    grade_ours(course)
    (kept,) = (course / "classroom" / "judgements" / "ada" / ASSIGNMENT).glob("*.gz")
    kept.write_bytes(kept.read_bytes()[:-20])
    shutil.rmtree(course / "classroom" / "autograded" / "ada")
    assert [outcome.judged for outcome in grade_ours(course)] == [1]
    assert len(counted) == 2
