"""nbgrader's autograde with our intake before it, our execution inside it, and one writer behind it.

nbgrader keeps what it does well: the gradebook, what its preprocessors decide about cells and marks, late penalties and
every other command. `HarnessAutograde` takes its place in `nbgrader autograde` and in the API: it reads what intake
made of a submission, has it judged by an executor, and records it; whatever happens to one, it goes on with the next.
"""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nbconvert.preprocessors import ClearMetadataPreprocessor
from nbgrader.api import MissingEntry
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
from traitlets import Bool, Dict, Enum, Float, Integer, List, Unicode

from autograde.chain import Chain
from autograde.executors import (
    DaskExecutor,
    Executor,
    ExecutorError,
    InlineExecutor,
    Lost,
    PoolExecutor,
    cores,
)
from autograde.grader import Graded, Grader, Outcome, Stopped
from autograde.intake import Release, read_release
from autograde.jobs import Judgement
from autograde.judgements import Judgements
from autograde.layout import CourseError
from autograde.record import OneGradebook, Recorder, RecordError, locked
from autograde.sandbox import available
from autograde.settings import Settings, load_settings
from autograde.steps import MARKING, Released, make_steps

__all__ = ["REFUSED", "HarnessAutograde", "Outcome"]

REFUSED = (
    "No student code was run: {reason}\nTo run it with no protection at all, on a machine that has nothing to lose, "
    "set AUTOGRADE_NO_SANDBOX=1 or add --Autograde.sandbox=False."
)
FEW = 4  # fewer submissions than this are not worth starting processes for


class HarnessAutograde(Autograde):
    """nbgrader's Autograde, in a sandbox, by several workers and with a record; configured as `c.Autograde`."""

    sandbox = Bool(
        True, help="Whether student code is shut in; without it anything a student wrote can be done here."
    ).tag(config=True)
    require_check = Bool(True, help="Whether a mark needs a check's own report beside the number.").tag(
        config=True
    )
    limits = Dict(help="What one notebook may use, by the names of autograde.limits.Limits.").tag(config=True)
    seed = Integer(0, help="Seed of Python's and numpy's random numbers in every kernel.").tag(config=True)
    executor = Enum(
        ("auto", "inline", "pool", "dask"),
        "auto",
        help="Where submissions are judged: in this process, by a pool of processes here, or by a Dask cluster.",
    ).tag(config=True)
    workers = Integer(0, help="How many processes the pool has; 0 is one per core.").tag(config=True)
    scheduler = Unicode("", help="The address of Dask's scheduler.").tag(config=True)
    regrade = Bool(
        False, help="Whether to grade again also where only tests, code, packages or limits have changed."
    ).tag(config=True)
    lock_seconds = Float(60.0, help="How long another program may keep the gradebook locked.").tag(
        config=True
    )
    intake_directory = Unicode("classroom/intake", help="Where submissions are taken in to.").tag(config=True)
    receipts_directory = Unicode("classroom/receipts", help="Where it is kept what was run.").tag(config=True)
    judgements_directory = Unicode("classroom/judgements", help="Where judgements are kept.").tag(config=True)
    record_directory = Unicode("classroom/record", help="Where the chain of records is.").tag(config=True)

    autograde_preprocessors = List([
        IgnorePattern,
        ClearMetadataPreprocessor,
        LimitOutput,
        SaveAutoGrades,
        AssignLatePenalties,
        CheckCellMetadata,
    ]).tag(config=True)

    def __init__(self, coursedir: Any = None, **options: Any) -> None:
        super().__init__(coursedir=coursedir, **options)
        self.outcomes: list[Outcome] = []
        self.progress: Callable[[int, int, Outcome], None] | None = None
        self.head = ""

    def start(self) -> None:
        """Takes in and grades what the course directory's student and assignment patterns name.

        Raises: NbGraderException if there is no sandbox, nothing to grade, or a submission could not be graded; in the
                last case after all the others were.
        """
        self._check()
        submitted = self._submitted()
        released = self._release()
        executor = self._executor(len(submitted))
        try:
            with locked(self._folder(self.record_directory) / ".lock"):
                self._grade(submitted, released, executor)
        except (RecordError, Stopped, ExecutorError) as error:
            self._refuse(str(error))
        finally:
            executor.close()
        failed = [outcome.student for outcome in self.outcomes if outcome.status == "failed"]
        if failed:
            self._refuse(
                f"{len(failed)} of {len(submitted)} submissions could not be graded: {', '.join(failed)}."
            )

    def _check(self) -> None:
        if any(issubclass(kind, NbgraderExecute) for kind in self._kinds(self.autograde_preprocessors)):
            self._refuse(
                "Autograde.autograde_preprocessors has nbgrader's Execute, which runs without a sandbox."
            )
        if self.config.get("Execute", {}).get("enabled") is False:
            self._refuse(
                "--no-execute would believe the outputs that students saved; submissions are always run."
            )
        if not self.sandbox:
            self.log.warning("Student code runs WITHOUT A SANDBOX, as your user and with the network.")
            return
        found = available()
        if not found.ok:
            self._refuse(REFUSED.format(reason=found))

    def _kinds(self, items: list[Any]) -> list[type]:
        return [item if isinstance(item, type) else _import(str(item)) for item in items]

    def _refuse(self, reason: str) -> None:
        self.log.error("%s", reason)
        raise NbGraderException(reason)

    def _folder(self, name: str) -> Path:
        return Path(self.coursedir.root) / name

    def _release(self) -> Release:
        where = self.coursedir
        folder = Path(where.format_path(where.release_directory, ".", where.assignment_id))
        try:
            return read_release(folder)
        except FileNotFoundError as error:
            self._refuse(str(error))
            raise

    def _settings(self) -> Settings:
        try:
            return load_settings(Path(self.coursedir.root))
        except CourseError as error:
            self._refuse(str(error))
            raise

    def _submitted(self) -> dict[str, Path]:
        """The folders to be graded, by student."""
        where = self.coursedir
        pattern = where.format_path(where.submitted_directory, where.student_id, where.assignment_id)
        excluded = where.student_id_exclude.split(",") if where.student_id_exclude else []
        found = {path.parent.name: path for path in map(Path, sorted(glob.glob(pattern)))}
        found = {student: path for student, path in found.items() if student not in excluded}
        if not found:
            self._refuse(f"No submissions were found for '{where.assignment_id}'.")
        return found

    def _executor(self, submissions: int) -> Executor:
        kind = self.executor
        if kind == "auto":
            several = submissions >= FEW and (self.workers or cores()) > 1
            kind = "pool" if several else "inline"
        try:
            if kind == "dask":
                return DaskExecutor(self.scheduler)
        except ExecutorError as error:
            self._refuse(str(error))
        return PoolExecutor(self.workers) if kind == "pool" else InlineExecutor()

    def _grade(self, submitted: dict[str, Path], released: Release, executor: Executor) -> None:
        where = self.coursedir
        gradebook = OneGradebook(where.db_url, where.course_id, self.lock_seconds)
        chain = Chain(self._folder(self.record_directory) / f"{where.assignment_id}.jsonl")
        try:
            grader = self._grader(gradebook, chain, released, executor.name)
            self._run(grader, submitted, executor)
        finally:
            gradebook.close()
            self.head = chain.head

    def _grader(self, gradebook: OneGradebook, chain: Chain, release: Release, executor: str) -> Grader:
        assignment = self.coursedir.assignment_id
        try:
            cells = gradebook.transaction(lambda: Released.read(gradebook, assignment))
        except MissingEntry:
            self._refuse(
                f"The gradebook knows no assignment '{assignment}': run `nbgrader generate_assignment`."
            )
            raise
        wanted = sorted(
            fnmatch.filter(set(cells.notebooks) & set(release.notebooks), self.coursedir.notebook_id)
        )
        if not wanted:
            self._refuse("No notebooks found, did you forget to run 'nbgrader generate_assignment'?")
        try:
            sanitise = make_steps(self._kinds(self.sanitize_preprocessors), self)
            after = make_steps(self._kinds(self.autograde_preprocessors), self)
        except ValueError as error:
            self._refuse(str(error))
            raise
        marking = [step for step in after if isinstance(step, MARKING)]
        return Grader(
            converter=self,
            release=release,
            cells=cells,
            notebooks=tuple(wanted),
            sanitise=sanitise,
            tidy=[step for step in after if step not in marking],
            recorder=Recorder(gradebook, chain, assignment, marking, self.create_student),
            judgements=Judgements(self._folder(self.judgements_directory)),
            settings=self._settings(),
            executor=executor,
        )

    def _run(self, grader: Grader, submitted: dict[str, Path], executor: Executor) -> None:
        """Jobs go to the executor one by one, as it asks for them; judgements come back in any order."""
        waiting: dict[int, tuple[Graded, str]] = {}

        def jobs() -> Iterator[bytes]:
            for student, folder in submitted.items():
                graded = grader.begin(student, folder)
                for name, job in graded.jobs.items():
                    waiting[len(numbered)] = graded, name
                    numbered.append(name)
                    yield job.to_bytes()
                if not graded.jobs:
                    self._done(grader.finish(graded), len(submitted))

        numbered: list[str] = []
        for number, answer in executor.run(jobs()):
            graded, name = waiting.pop(number)
            key = graded.jobs[name].key
            judged = (
                Judgement(key, None, None, answer.reason)
                if isinstance(answer, Lost)
                else Judgement.from_bytes(answer)
            )
            if grader.take(graded, name, judged):
                self._done(grader.finish(graded), len(submitted))

    def _done(self, outcome: Outcome, total: int) -> None:
        self.outcomes.append(outcome)
        if self.progress is not None:
            self.progress(len(self.outcomes), total, outcome)


def _import(name: str) -> type:
    module, _, attribute = name.rpartition(".")
    found: type = getattr(__import__(module, fromlist=[attribute]), attribute)
    return found
