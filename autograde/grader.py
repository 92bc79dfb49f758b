"""One submission's way from the student's folder to a recorded mark; who judges it is not decided here."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from nbformat.notebooknode import NotebookNode

from autograde.digests import code_digest, digest, environment_digest, folder_digest, json_digest
from autograde.execute import Receipt
from autograde.intake import Intake, Release, take_in
from autograde.jobs import Job, Judgement
from autograde.judgements import Judgements
from autograde.layout import atomic_write
from autograde.limits import Limits
from autograde.publish import Publication, assets_of
from autograde.record import Entry, Recorder, RecordError
from autograde.settings import Settings
from autograde.steps import Released, notebook_of, run_steps, text_of
from autograde.suspicion import Flag, unusual

__all__ = ["Graded", "Grader", "Outcome", "Stopped"]

Status = Literal["graded", "skipped", "failed"]


class Stopped(RuntimeError):
    """The run cannot go on, for a reason that is no submission's; what was recorded stays."""


@dataclass(frozen=True)
class Outcome:
    """What became of one submission.

    Args: status: "skipped" if it was graded before and has not changed. error: what went wrong in the harness when it
          "failed": then its marks are 0 and wait for a person, and the next run tries it again. judged: how many of its
          notebooks were judged in this run, and not taken from an earlier judgement.
    """

    student: str
    status: Status
    seconds: float
    intake: Intake | None
    receipts: tuple[tuple[str, Receipt], ...] = ()
    error: str | None = None
    judged: int = 0


@dataclass
class Graded:
    """A submission that is being graded. `jobs` are still to be judged; `judgements` are there."""

    student: str
    started: float
    intake: Intake | None = None
    folder: Path = Path()
    jobs: dict[str, Job] = field(default_factory=dict)
    judgements: dict[str, Judgement] = field(default_factory=dict)
    assets: dict[str, Path] = field(default_factory=dict)
    outcome: Outcome | None = None


@dataclass
class Grader:
    """What is the same for all submissions of a run. `converter` has nbgrader's settings."""

    converter: Any
    release: Release
    cells: Released
    notebooks: tuple[str, ...]
    sanitise: Sequence[Any]
    tidy: Sequence[Any]
    recorder: Recorder
    judgements: Judgements
    settings: Settings
    executor: str

    def __post_init__(self) -> None:
        where = self.converter.coursedir
        self.assignment: str = where.assignment_id
        self._solutions: dict[str, list[str]] = {}
        self.limits: Limits = self.settings.limits_for(self.assignment, self.converter.limits)
        # What a judgement depends on besides the submission.
        self.basis = {
            "assignment": self.assignment,
            "release": folder_digest(Path(where.format_path(where.release_directory, ".", self.assignment))),
            "code": code_digest(),
            "environment": environment_digest(),
            "limits": asdict(self.limits),
            "sandbox": self.converter.sandbox,
            "require_check": self.converter.require_check,
        }

    def flags_of(self, name: str, judged: Judgement) -> tuple[Flag, ...]:
        """What a person should look at in a judged notebook; what the course's own solution does too is nothing."""
        if name not in self._solutions:
            where = self.converter.coursedir
            folder = Path(where.format_path(where.source_directory, ".", self.assignment))
            paths = [folder / f"{name}.ipynb"] if (folder / f"{name}.ipynb").exists() else []
            cells = [cell for path in paths for cell in notebook_of(path.read_text(encoding="utf-8")).cells]
            self._solutions[name] = [cell.source for cell in cells if cell.cell_type == "code"]
        return unusual(judged.receipt.flags if judged.receipt else (), self._solutions[name])

    def begin(self, student: str, submitted: Path) -> Graded:
        """Takes a submission in and says what is to be judged; nothing if it is done, or cannot be."""
        graded = Graded(
            student, time.monotonic(), folder=self._path(self.converter.intake_directory, student)
        )
        try:
            graded.intake = take_in(
                submitted, self.release, graded.folder, student=student, assignment=self.assignment
            )
            for finding in graded.intake.findings:
                self.converter.log.warning("%s: %s", student, finding.message)
            if self._is_done(graded):
                graded.outcome = self._outcome(graded, "skipped")
                return graded
            self._prepare(graded)
        except Exception as error:  # her submission's, or the disk's: the others go on
            _stop_if_unwritable(error)
            graded.jobs.clear()
            graded.outcome = self._outcome(graded, "failed", f"{type(error).__name__}: {error}")
            self.converter.log.error("%s: %s", student, graded.outcome.error)
        return graded

    def _path(self, directory: str, student: str) -> Path:
        return Path(self.converter.coursedir.format_path(directory, student, self.assignment))

    def _seed(self, student: str) -> int:
        """What grading.toml says; nbgrader's own configuration goes before it."""
        return self.converter.seed or self.settings.seed_for(student, self.assignment)

    def _keys(self, graded: Graded) -> dict[str, str]:
        assert graded.intake is not None
        about = {
            **self.basis,
            "student": graded.student,
            "submission": graded.intake.digest,
            "seed": self._seed(graded.student),
        }
        wanted = (name for name in self.notebooks if name not in graded.intake.absent)
        return {name: json_digest({**about, "notebook": name}) for name in wanted}

    def _is_done(self, graded: Graded) -> bool:
        """Whether the submission is recorded and its result in place, and neither has a reason to change."""
        latest = self.recorder.chain.latest(graded.student)
        if self.converter.force or latest is None or latest.get("failure") or graded.intake is None:
            return False
        keys = self._keys(graded)
        if not self._publication(graded.student).there(keys) or latest.get("kind") != "marks":
            return False
        recorded = latest.get("judgements", {})
        if not set(self.notebooks) <= {*recorded, *latest.get("absent", ())} or not set(keys) <= set(
            recorded
        ):
            return False
        if self.converter.regrade:
            return all(recorded[name].get("key") == key for name, key in keys.items())
        was = (recorded[name].get("submission", latest.get("submission")) for name in keys)
        return all(each == graded.intake.digest for each in (*was, latest.get("submission")))

    def _prepare(self, graded: Graded) -> None:
        where = self.converter.coursedir
        source = Path(where.format_path(where.source_directory, ".", self.assignment))
        kept = self.converter.exclude_overwriting.get(self.assignment, [])
        graded.assets = assets_of(graded.folder, source, where.ignore, kept)
        data = {path: origin.read_bytes() for path, origin in graded.assets.items()}
        keys = self._keys(graded)
        self.converter.notebooks = [str(graded.folder / f"{name}.ipynb") for name in keys]
        self.converter.run_pre_convert_hook()
        for name, key in keys.items():
            kept_one = self._kept(graded.student, name, key)
            if kept_one is not None:
                graded.judgements[name] = kept_one
                continue
            notebook = notebook_of((graded.folder / f"{name}.ipynb").read_text(encoding="utf-8"))
            about = {"student": graded.student, "assignment": self.assignment, "notebook": name}
            clean = run_steps(self.sanitise, notebook, {"nbgrader": about, "released": self.cells})
            graded.jobs[name] = self._job(graded.student, key, clean, data)

    def _kept(self, student: str, name: str, key: str) -> Judgement | None:
        """An earlier judgement of the same; with --force only one that was never recorded would be, so none."""
        if self.converter.force:
            return None
        return self.judgements.get(student, self.assignment, name, key)

    def _job(self, student: str, key: str, notebook: NotebookNode, assets: dict[str, bytes]) -> Job:
        settings = self.converter
        return Job(
            key,
            text_of(notebook),
            assets,
            settings.sandbox,
            self.limits,
            self._seed(student),
            settings.require_check,
            str(self.basis["code"]),
            str(self.basis["environment"]),
        )

    def take(self, graded: Graded, name: str, judgement: Judgement) -> bool:
        """Keeps a judgement; True if it was the submission's last."""
        if judgement.key != graded.jobs[name].key:
            judgement = replace(judgement, failure="a worker answered another job", executed=None)
        graded.judgements[name] = judgement
        if judgement.failure is None:
            try:
                self.judgements.put(graded.student, self.assignment, name, judgement)
            except OSError as error:
                _stop_if_unwritable(error)
                self.converter.log.warning("%s: the judgement could not be kept: %s", graded.student, error)
        return all(wanted in graded.judgements for wanted in graded.jobs)

    def finish(self, graded: Graded) -> Outcome:
        """Records a submission whose judgements are all there.

        Raises: Stopped if the disk is full, or the gradebook cannot be written.
        """
        if graded.outcome is not None and graded.outcome.status == "skipped":
            return graded.outcome
        failures = [judged.failure for judged in graded.judgements.values() if judged.failure]
        error = graded.outcome.error if graded.outcome else "; ".join(failures) or None
        if failures:
            self.converter.log.error("%s: %s", graded.student, error)
        for attempt in (self._record, self._record_failure) if error is None else (self._record_failure,):
            try:
                attempt(graded, error)
                break
            except Exception as problem:
                _stop_if_unwritable(problem)
                error = error or f"{type(problem).__name__}: {problem}"
                self.converter.log.error("%s: %s", graded.student, problem)
        return self._outcome(graded, "failed" if error else "graded", error)

    def _record(self, graded: Graded, _: str | None) -> None:
        executed = {name: notebook_of(judged.executed or "") for name, judged in graded.judgements.items()}
        for name, notebook in executed.items():
            about = {"student": graded.student, "assignment": self.assignment, "notebook": name}
            executed[name] = run_steps(self.tidy, notebook, {"nbgrader": about, "released": self.cells})
        target = self._publication(graded.student)
        target.prepare(graded.assets, {name: text_of(notebook) for name, notebook in executed.items()})
        self._write_receipts(graded)
        target.withdraw()
        timestamp = self.converter.coursedir.get_existing_timestamp(str(graded.folder))
        self.recorder.record(
            Entry(graded.student, timestamp, executed, self._evidence(graded), self._absent(graded))
        )
        target.publish()
        if self.converter.coursedir.groupshared:
            self.converter.set_permissions(self.assignment, graded.student)
        self.converter.run_post_convert_hook()

    def _record_failure(self, graded: Graded, error: str | None) -> None:
        """No mark without a judgement: 0 points, and a person is asked; the next run tries again."""
        self._publication(graded.student).withdraw()
        self.recorder.record(
            Entry(graded.student, None, {}, self._evidence(graded), self.notebooks, failure=error)
        )

    def _publication(self, student: str) -> Publication:
        where = self.converter.coursedir
        return Publication(
            self._path(where.autograded_directory, student),
            self.notebooks,
            where.notebook_id == "*",
            int(str(self.converter.permissions), 8),
        )

    def _absent(self, graded: Graded) -> tuple[str, ...]:
        """The notebooks that were not handed in, also those that this run does not look at: as nbgrader does it."""
        absent = graded.intake.absent if graded.intake else ()
        return tuple(name for name in sorted(self.cells.notebooks) if name in absent)

    def _earlier(self, graded: Graded) -> dict[str, Any]:
        """What is recorded of notebooks that are there and not graded in this run."""
        latest = self.recorder.chain.latest(graded.student) or {}
        others = set(self.cells.notebooks) - set(self.notebooks) - set(self._absent(graded))
        recorded = latest.get("judgements", {}) if latest.get("kind") == "marks" else {}
        return {
            name: {"submission": latest.get("submission"), **said}
            for name, said in recorded.items()
            if name in others
        }

    def _evidence(self, graded: Graded) -> dict[str, Any]:
        findings = graded.intake.findings if graded.intake else ()
        return {
            **self.basis,
            "seed": self._seed(graded.student),
            "submission": graded.intake.digest if graded.intake else None,
            "repairs": [[item.code, item.notebook, item.grade_id] for item in findings],
            "executor": self.executor,
            "absent": self._absent(graded),
            "judgements": self._earlier(graded)
            | {
                name: {
                    "key": judged.key,
                    "id": judged.id,
                    "submission": graded.intake.digest if graded.intake else None,
                    "executed": digest((judged.executed or "").encode("utf-8")),
                    "start": judged.receipt.start if judged.receipt else None,
                    "mode": judged.receipt.mode if judged.receipt else None,
                    "seconds": judged.receipt.seconds if judged.receipt else None,
                    "worker": judged.worker,
                    "flags": [
                        [flag.code, flag.grade_id, flag.message] for flag in self.flags_of(name, judged)
                    ],
                }
                for name, judged in graded.judgements.items()
            },
        }

    def _write_receipts(self, graded: Graded) -> None:
        folder = self._path(self.converter.receipts_directory, graded.student)
        for name, judged in graded.judgements.items():
            assert judged.receipt is not None
            receipt = replace(judged.receipt, flags=self.flags_of(name, judged))
            text = json.dumps({**receipt.as_dict(), "key": judged.key, "worker": judged.worker}, indent=1)
            atomic_write(folder / f"{name}.json", text + "\n")

    def _outcome(self, graded: Graded, status: Status, error: str | None = None) -> Outcome:
        receipts = tuple(
            (name, j.receipt) for name, j in sorted(graded.judgements.items()) if j.receipt is not None
        )
        seconds = round(time.monotonic() - graded.started, 3)
        return Outcome(graded.student, status, seconds, graded.intake, receipts, error, len(graded.jobs))


def _stop_if_unwritable(error: BaseException | None) -> None:
    """A full disk or a locked gradebook is no submission's failure: the run stops, and later goes on where it was."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Stopped("the disk is full: make room and run the same command again") from error
        if isinstance(error, RecordError):
            raise Stopped(f"{error}; nothing is lost: run the same command again") from error
        error = error.__cause__
