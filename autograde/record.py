"""The single writer: marks into the gradebook, one transaction a submission, each with its line in the chain.

The order makes an interruption harmless at any point: the old result is taken away, the marks are written but not yet
committed, the chain gets its line, the marks are committed, the new result is put in place. Whatever was cut short has
no result on disk, is done again by the next run from the kept judgement, and gets no second line.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from nbformat.notebooknode import NotebookNode
from nbgrader.api import Gradebook
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from autograde.chain import Chain
from autograde.digests import canonical
from autograde.steps import Submitted, run_steps

__all__ = ["Entry", "OneGradebook", "RecordError", "Recorder", "described", "locked"]

T = TypeVar("T")
BUSY = ("locked", "busy", "deadlock", "could not serialize", "connection", "server closed", "terminat")


class RecordError(RuntimeError):
    """The gradebook or the record could not be written; nothing of this submission was."""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock file; the lock goes when the process does, however it ends.

    Raises: RecordError if another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows, where nothing is graded in a sandbox either
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RecordError("another grading run is writing marks; wait for it, or stop it") from error
        yield


def patiently(work: Callable[[], T], patience_seconds: float) -> T:
    """Does the work; again, after a growing pause, while the database is locked or away.

    Raises: RecordError if that lasts longer than the patience, or the database fails otherwise.
    """
    deadline = time.monotonic() + patience_seconds
    pause = 0.02
    while True:
        try:
            return work()
        except OperationalError as error:
            busy = any(word in str(error.orig).lower() for word in BUSY)
            if not busy or time.monotonic() + pause > deadline:
                raise RecordError(f"the gradebook could not be written: {error.orig}") from error
        time.sleep(pause)
        pause = min(2 * pause, 1.0)


class _HeldSession(Session):
    """A session in which nbgrader's many commits are one, while `held`."""

    held = False

    def commit(self) -> None:
        if not self.held:
            super().commit()


class OneGradebook(Gradebook):
    """nbgrader's gradebook with one connection, and with transactions that hold a whole submission.

    Args: patience_seconds: how long another program may keep the database locked.
    """

    def __init__(self, db_url: str, course_id: str, patience_seconds: float = 60.0) -> None:
        patiently(lambda: super(OneGradebook, self).__init__(db_url, course_id), patience_seconds)
        self.close()
        self.patience_seconds = patience_seconds
        if self.engine.dialect.name == "sqlite":
            self._write_lock_at_once()
        self.db = scoped_session(sessionmaker(class_=_HeldSession, bind=self.engine, autoflush=True))

    def _write_lock_at_once(self) -> None:
        """SQLite takes its lock when a transaction begins: what was read in it is still so when it is committed."""

        @event.listens_for(self.engine, "connect")
        def plain(connection: Any, _: Any) -> None:
            connection.isolation_level = None
            connection.execute("PRAGMA busy_timeout = 0")  # `patiently` waits

        @event.listens_for(self.engine, "begin")
        def begin(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    def transaction(self, work: Callable[[], T]) -> T:
        """Does the work in one transaction, from the start again if another program was in the way.

        Raises: RecordError if the database cannot be written; then nothing was.
        """
        return patiently(lambda: self._once(work), self.patience_seconds)

    def _once(self, work: Callable[[], T]) -> T:
        session = self.db()
        session.held = True
        try:
            result = work()
            session.held = False
            session.commit()
        except BaseException:
            session.held = False
            session.rollback()
            raise
        finally:
            self.db.remove()
        return result


@dataclass(frozen=True)
class Entry:
    """A submission as it is to be recorded.

    Args: notebooks: executed, by name. evidence: what the chain is to say besides the marks; `judgements` in it tells
          one recording from another. zero: notebooks whose marks are 0, since they were not handed in.
          failure: why there is no judgement of them; then these marks wait for a person.
    """

    student: str
    timestamp: datetime | None
    notebooks: Mapping[str, NotebookNode]
    evidence: Mapping[str, Any]
    zero: tuple[str, ...] = ()
    failure: str | None = None


@dataclass
class Recorder:
    """Writes an assignment's marks. `steps` are the marking preprocessors; create: whether to add unknown students."""

    gradebook: OneGradebook
    chain: Chain
    assignment: str
    steps: Sequence[Any]
    create: bool = True

    def record(self, entry: Entry) -> None:
        """Puts one submission's marks into the gradebook and its line into the chain: both, or neither.

        Raises: RecordError; OSError if the chain cannot be written.
        """

        def work() -> None:
            rows = self._write(entry)
            self._append(entry, rows)

        self.gradebook.transaction(work)

    def _write(self, entry: Entry) -> dict[str, Any]:
        gradebook, names = self.gradebook, (self.assignment, entry.student)
        if self.create:
            gradebook.update_or_create_student(entry.student)
        else:
            gradebook.find_student(entry.student)
        when = {"timestamp": entry.timestamp} if entry.timestamp else {}
        submission = gradebook.update_or_create_submission(*names, **when)
        gradebook.db.flush()
        rows = Submitted(gradebook, submission)
        for (notebook, _), grade in rows.grades.items():
            if notebook in entry.zero:  # as nbgrader does it, but for failures, which it does not know
                grade.auto_score, grade.needs_manual_grade = 0, entry.failure is not None
        for each in submission.notebooks:
            if each.name in entry.zero:
                each.late_submission_penalty = None
        self._mark(entry, rows)
        gradebook.db.flush()
        return described(submission)

    def _mark(self, entry: Entry, rows: Submitted) -> None:
        for name, notebook in entry.notebooks.items():
            about = {"student": entry.student, "assignment": self.assignment, "notebook": name}
            run_steps(self.steps, notebook, {"nbgrader": about, "submitted": rows})

    def _append(self, entry: Entry, rows: Mapping[str, Any]) -> None:
        """Adds the line, unless it is there already: then an earlier run was cut short after it."""
        said = {"kind": "marks", "student": entry.student, **entry.evidence, **rows, "failure": entry.failure}
        content = json.loads(canonical(said))
        latest = self.chain.latest(entry.student)
        if latest is None or any(latest.get(key) != value for key, value in content.items()):
            self.chain.append(content)


def described(submission: Any) -> dict[str, Any]:
    """A submission's rows as the chain keeps them: marks the harness gave, by notebook and cell, and penalties."""
    notebooks = sorted(submission.notebooks, key=lambda each: each.name)
    return {
        "timestamp": submission.timestamp.isoformat() if submission.timestamp else None,
        "marks": {
            each.name: {
                grade.name: grade.auto_score for grade in sorted(each.grades, key=lambda one: one.name)
            }
            for each in notebooks
        },
        "penalties": {each.name: each.late_submission_penalty for each in notebooks},
    }
