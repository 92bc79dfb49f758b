"""nbgrader's autograde with our intake before it and our execution inside it.

nbgrader keeps what it does well: the gradebook, the sanitising pass, `SaveAutoGrades`, late penalties and every other
command. `HarnessAutograde` reads what intake made of a submission instead of the submission, runs it in the sandbox,
and goes on with the next one whatever happened to this one.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from nbconvert.preprocessors import ClearMetadataPreprocessor
from nbformat.notebooknode import NotebookNode
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters import Autograde
from nbgrader.converters.base import NbGraderException
from nbgrader.preprocessors import (
    AssignLatePenalties,
    CheckCellMetadata,
    IgnorePattern,
    LimitOutput,
    SaveAutoGrades,
)
from nbgrader.preprocessors import Execute as NbgraderExecute
from nbgrader.preprocessors.base import NbGraderPreprocessor
from sqlalchemy.exc import SQLAlchemyError
from traitlets import Bool, Dict, Integer, List, Unicode

from autograde.execute import Receipt, execute
from autograde.intake import Intake, Release, read_release, take_in
from autograde.layout import CourseError
from autograde.limits import Limits
from autograde.sandbox import Mode, available
from autograde.settings import Settings, load_settings

__all__ = ["HarnessAutograde", "Outcome", "SandboxExecute"]

REFUSED = (
    "No student code was run: {reason}\nTo run it with no protection at all, on a machine that has nothing to lose, "
    "set AUTOGRADE_NO_SANDBOX=1 or add --Autograde.sandbox=False."
)


@dataclass(frozen=True)
class Outcome:
    """What became of one submission.

    Args: status: "skipped" if it was graded before and has not changed. error: what went wrong in the harness when it
          "failed": then its marks are 0 and wait for a person, and the next run tries it again.
    """

    student: str
    status: Literal["graded", "skipped", "failed"]
    seconds: float
    intake: Intake | None
    receipts: tuple[tuple[str, Receipt], ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class _Run:
    """How notebooks are run."""

    mode: Mode
    limits: Limits
    seed: int
    require_check: bool


class SandboxExecute(NbGraderPreprocessor):
    """Runs a notebook through `autograde.execute`, in the place of nbgrader's Execute."""

    enabled = Bool(True, help="Always on: without it nbgrader would give full marks to cells that never ran.")

    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
        """The executed notebook, and its receipt among the resources."""
        run: _Run = resources["autograde"]
        executed, receipt = execute(
            nb,
            mode=run.mode,
            assets=Path(resources["metadata"]["path"]),
            limits=run.limits,
            seed=run.seed,
            require_check=run.require_check,
        )
        resources["receipt"] = receipt
        for cell in receipt.statuses("timeout", "flood", "died", "not run"):
            self.log.warning("Cell %s (%s): %s", cell.index, cell.grade_id or "no grade_id", cell.status)
        return executed, resources


class HarnessAutograde(Autograde):
    """nbgrader's Autograde, from `classroom/intake` and in a sandbox; configured as `c.Autograde`."""

    sandbox = Bool(
        True, help="Whether student code is shut in; without it anything a student wrote can be done here."
    ).tag(config=True)
    require_check = Bool(True, help="Whether a mark needs a check's own report beside the number.").tag(
        config=True
    )
    limits = Dict(help="What one notebook may use, by the names of autograde.limits.Limits.").tag(config=True)
    seed = Integer(0, help="Seed of Python's and numpy's random numbers in every kernel.").tag(config=True)
    intake_directory = Unicode("classroom/intake", help="Where submissions are taken in to.").tag(config=True)
    receipts_directory = Unicode("classroom/receipts", help="Where it is kept what was run.").tag(config=True)

    autograde_preprocessors = List([
        SandboxExecute,
        IgnorePattern,
        ClearMetadataPreprocessor,
        LimitOutput,
        SaveAutoGrades,
        AssignLatePenalties,
        CheckCellMetadata,
    ]).tag(config=True)

    def __init__(self, coursedir: Any = None, **options: Any) -> None:
        super().__init__(coursedir=coursedir, **options)
        self.assignments: dict[str, list[str]] = {}
        self.outcomes: list[Outcome] = []
        self.progress: Callable[[int, int, Outcome], None] | None = None
        self._taken: dict[str, Intake] = {}
        self._mode: Mode = "none"
        self._receipts: list[tuple[str, Receipt]] = []
        self._skipped = False
        self._error: str | None = None

    def start(self) -> None:
        """Takes in and grades what the course directory's student and assignment patterns name.

        Raises: NbGraderException if there is no sandbox, nothing to grade, or a submission could not be graded; in the
                last case after all the others were.
        """
        self._mode = self._checked_mode()
        self._settings = self._read_settings()
        self._take_in_all()
        submitted = self.coursedir.submitted_directory
        self.coursedir.submitted_directory = self.intake_directory
        try:
            super().start()
        finally:
            self.coursedir.submitted_directory = submitted

    def _checked_mode(self) -> Mode:
        if not any(issubclass(self._class(item), SandboxExecute) for item in self.autograde_preprocessors):
            self._refuse("Autograde.autograde_preprocessors has no SandboxExecute, so nothing would be run.")
        if any(issubclass(self._class(item), NbgraderExecute) for item in self.autograde_preprocessors):
            self._refuse(
                "Autograde.autograde_preprocessors has nbgrader's Execute, which runs without a sandbox."
            )
        if self.config.get("Execute", {}).get("enabled") is False:
            self._refuse(
                "--no-execute would believe the outputs that students saved; submissions are always run."
            )
        if not self.sandbox:
            self.log.warning("Student code runs WITHOUT A SANDBOX, as your user and with the network.")
            return "none"
        found = available()
        if not found.ok:
            self._refuse(REFUSED.format(reason=found))
        return found.mode

    def _read_settings(self) -> Settings:
        try:
            return load_settings(Path(self.coursedir.root))
        except CourseError as error:
            self._refuse(str(error))
            raise

    def _class(self, item: Any) -> type:
        return item if isinstance(item, type) else _import(str(item))

    def _refuse(self, reason: str) -> None:
        self.log.error("%s", reason)
        raise NbGraderException(reason)

    def _take_in_all(self) -> None:
        where = self.coursedir
        assignment = where.assignment_id
        try:
            released = read_release(Path(where.format_path(where.release_directory, ".", assignment)))
        except FileNotFoundError as error:
            self._refuse(str(error))
        pattern = where.format_path(where.submitted_directory, where.student_id, assignment)
        for found in sorted(map(Path, glob.glob(pattern))):
            self._take_in(found, found.parent.name, released)
        self.log.info("Took in %d submissions", len(self._taken))

    def _take_in(self, found: Path, student: str, released: Release) -> None:
        assignment = self.coursedir.assignment_id
        target = Path(self.coursedir.format_path(self.intake_directory, student, assignment))
        try:
            intake = take_in(found, released, target, student=student, assignment=assignment)
        except OSError as error:  # the disk's fault, not hers
            self.log.error("%s: could not be taken in: %s", student, error)
            self.outcomes.append(Outcome(student, "failed", 0.0, None, error=str(error)))
            return
        self._taken[student] = intake
        for finding in intake.findings:
            self.log.warning("%s: %s", student, finding.message)

    def init_notebooks(self) -> None:
        """nbgrader's list of what to grade, without what an earlier intake left of submissions that are gone."""
        super().init_notebooks()
        folders = {os.path.normpath(taken.folder) for taken in self._taken.values()}
        self.assignments = {
            path: found for path, found in self.assignments.items() if os.path.normpath(path) in folders
        }
        if not self.assignments:
            self._refuse(f"No submissions were found for '{self.coursedir.assignment_id}'.")

    def convert_notebooks(self) -> None:
        """Grades the submissions one by one, so that what goes wrong with one touches no other."""
        waiting = dict(sorted(self.assignments.items()))
        for number, (folder, notebooks) in enumerate(waiting.items(), start=1):
            self.assignments = {folder: notebooks}
            outcome = self._convert_one(Path(folder).parent.name)
            self.outcomes.append(outcome)
            if self.progress is not None:
                self.progress(number, len(waiting), outcome)
        failed = [outcome.student for outcome in self.outcomes if outcome.status == "failed"]
        if failed:
            self._refuse(
                f"{len(failed)} of {len(waiting)} submissions could not be graded: {', '.join(failed)}."
            )

    def _convert_one(self, student: str) -> Outcome:
        start = time.monotonic()
        self._receipts, self._skipped, self._error = [], False, None
        try:
            super().convert_notebooks()
        except NbGraderException as error:
            self._error = self._error or str(error)
            self._mark_unjudged(student)
        status: Literal["graded", "skipped", "failed"] = "skipped" if self._skipped else "graded"
        self._write_receipts(student)
        return Outcome(
            student,
            "failed" if self._error else status,
            round(time.monotonic() - start, 3),
            self._taken.get(student),
            tuple(self._receipts),
            self._error,
        )

    def init_destination(self, assignment_id: str, student_id: str) -> bool:
        """Whether the submission is to be graded at all."""
        wanted = bool(super().init_destination(assignment_id, student_id))
        self._skipped = not wanted
        return wanted

    def init_single_notebook_resources(self, notebook_filename: str) -> dict[str, Any]:
        """nbgrader's resources, and how to run the notebook."""
        resources: dict[str, Any] = super().init_single_notebook_resources(notebook_filename)
        run = _Run(self._mode, *self._limits_and_seed(resources["nbgrader"]["student"]), self.require_check)
        return {**resources, "autograde": run}

    def _limits_and_seed(self, student: str) -> tuple[Limits, int]:
        """What grading.toml says; what nbgrader's own configuration says goes before it."""
        assignment = self.coursedir.assignment_id
        seed = self.seed or self._settings.seed_for(student, assignment)
        return self._settings.limits_for(assignment, self.limits), seed

    def write_single_notebook(self, output: str, resources: dict[str, Any]) -> None:
        """nbgrader's writing; the receipt of an executed notebook is kept."""
        super().write_single_notebook(output, resources)
        if "receipt" in resources:
            self._receipts.append((resources["nbgrader"]["notebook"], resources["receipt"]))

    def convert_single_notebook(self, notebook_filename: str) -> None:
        """Sanitises and grades one notebook; keeps what went wrong for the outcome."""
        try:
            super().convert_single_notebook(notebook_filename)
        except Exception as error:
            self._error = f"{type(error).__name__}: {error}"
            raise

    def set_permissions(self, assignment_id: str, student_id: str) -> None:
        """nbgrader's permissions, after the two files `release_feedback` wants of every submission are there."""
        folder = Path(self._format_dest(assignment_id, student_id))
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f UTC")
        for name, text in (("timestamp.txt", now), ("submission_secret.txt", secrets.token_hex(64))):
            if not (folder / name).exists():  # it was not handed in with `nbgrader submit`
                (folder / name).write_text(text, encoding="utf-8")
        super().set_permissions(assignment_id, student_id)

    def _mark_unjudged(self, student: str) -> None:
        """No mark without a judgement: 0 points, and a person is asked."""
        where = self.coursedir
        with (
            contextlib.suppress(MissingEntry, SQLAlchemyError),
            Gradebook(where.db_url, where.course_id) as gradebook,
        ):
            for notebook in gradebook.find_submission(where.assignment_id, student).notebooks:
                for grade in notebook.grades:
                    grade.auto_score, grade.needs_manual_grade = 0, True
            gradebook.db.commit()

    def _write_receipts(self, student: str) -> None:
        for name, receipt in self._receipts:
            folder = self.coursedir.format_path(
                self.receipts_directory, student, self.coursedir.assignment_id
            )
            path = Path(folder) / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(receipt.as_dict(), indent=1) + "\n", encoding="utf-8")


def _import(name: str) -> type:
    module, _, attribute = name.rpartition(".")
    found: type = getattr(__import__(module, fromlist=[attribute]), attribute)
    return found
