"""Running a notebook as a function: notebook, assets, limits and a seed in; executed notebook and receipt out.

No database, no course folder, no student's name. What a submission does never raises here: it costs the cell that did
it, and the receipt says so.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import nbformat
from nbformat.notebooknode import NotebookNode

from autograde.guard import close_cell, is_autograded
from autograde.judge import Judged, Verdict, checked_name, course_exercises, judge, text_for
from autograde.kernel import CellRun, Kernel, KernelStartError
from autograde.limits import Limits
from autograde.outputs import CHECK_MIME, error_output
from autograde.pod import Pod, shared_pod
from autograde.rundir import RunDirectory
from autograde.sandbox import Mode
from autograde.suspicion import Flag, look_at, reaching
from autograde.withhold import lessons_of, withheld_build
from coursekit.mending.kinds import is_demo

__all__ = ["CellReceipt", "Receipt", "execute"]

CellStatus = Literal["ok", "error", "timeout", "flood", "died", "not run", "demo"]
KILLERS = ("timeout", "flood", "died")
# Errors of hers that a person should know of: the flag's code and message.
TOLD = {
    "ReferenceWithheld": ("withheld", "calls the course's own function"),
    "CodeReplaced": ("replaced", "replaces functions of torch or of the course"),
}


@dataclass(frozen=True)
class CellReceipt:
    """What happened to one code cell; `ungraded` says why a check of it counts as 0.

    Args: judged: whether the judge outside gave its result, and not the student's own process.
    """

    index: int
    grade_id: str | None
    status: CellStatus
    seconds: float = 0.0
    ungraded: str | None = None
    judged: bool = False


@dataclass(frozen=True)
class Receipt:
    """What was run and how: kept beside the marks as evidence.

    Args: digest: SHA-256 of the notebook as it went in. mode: how it was shut in, see `sandbox.available`; "none" is
          not at all. restarts: how many processes it cost. start: "warm" if they were forked off a process that had
          everything imported. failure: set when the harness itself could not run it. peak_bytes: the most resident
          memory of its main process, what it shares with the warm one included; None for a cold start. flags: what a
          person should look at.
    """

    digest: str
    mode: Mode
    seed: int
    limits: Limits
    cells: tuple[CellReceipt, ...] = ()
    restarts: int = 0
    seconds: float = 0.0
    start: Literal["cold", "warm"] = "cold"
    failure: str | None = None
    peak_bytes: int | None = None
    cpu_seconds: float | None = None
    flags: tuple[Flag, ...] = ()

    @property
    def sandboxed(self) -> bool:
        """Whether there were walls."""
        return self.mode != "none"

    def statuses(self, *wanted: CellStatus) -> tuple[CellReceipt, ...]:
        """The cells that ended in one of these ways."""
        return tuple(cell for cell in self.cells if cell.status in wanted)

    def as_dict(self) -> dict[str, Any]:
        """The receipt as JSON holds it."""
        return {**asdict(self), "sandboxed": self.sandboxed}


def execute(
    notebook: NotebookNode | bytes,
    *,
    mode: Mode,
    assets: Path | None = None,
    limits: Limits | None = None,
    seed: int = 0,
    require_check: bool = True,
    warm: bool = True,
    pod: Pod | None = None,
    exercises: Mapping[str, Judged] | None = None,
) -> tuple[NotebookNode, Receipt]:
    """Runs a notebook's cells in a process of its own, and judges its checks outside of that process.

    A check cell that is `check("name")` and nothing else, of an exercise we have, is never run: the exercise's tests
    are, here, and the cell's outputs are written by us. Every other cell runs as it stands.

    Args:    notebook: a well-formed one, as intake makes it; not changed. mode: `sandbox.available().mode`, or "none"
             to run without walls. assets: a folder whose files stand beside the notebook; notebooks in it are left
             out. limits: see there. seed: of Python's, numpy's and torch's random numbers. require_check: see
             `guard.close_cell`. warm: fork from a warm process where that is possible; marks are the same.
             pod: which warm process; by default one that this process shares. exercises: what can be judged; by
             default the course's.
    Returns: a copy with outputs, in which every auto-graded cell has a valid result or an error; and the receipt.
    Raises:  KernelStartError if no process starts at all: that is the machine's fault and says nothing of the work.
    """
    given = (
        nbformat.reads(notebook.decode("utf-8"), as_version=4) if isinstance(notebook, bytes) else notebook
    )
    executed: NotebookNode = copy.deepcopy(given)
    digest = hashlib.sha256(nbformat.writes(executed).encode("utf-8", "replace")).hexdigest()
    limits = limits or Limits()
    start = time.monotonic()
    wanted = _checks(executed, course_exercises() if exercises is None else exercises)
    place = _place(executed, wanted, mode, warm, pod)
    run = RunDirectory(assets, place.pod.jobs if place.pod is not None else None)
    try:
        with _Session(executed, run, mode, limits, seed, wanted, place) as session:
            session.run_all()
    finally:
        run.close()
    cells = tuple(_closed(executed, cell, require_check) for cell in session.receipts)
    seconds = round(time.monotonic() - start, 3)
    return executed, Receipt(
        digest,
        mode,
        seed,
        limits,
        cells,
        session.restarts,
        seconds,
        "cold" if session.cold_starts else "warm",
        peak_bytes=session.peak_bytes,
        cpu_seconds=session.cpu_seconds,
        flags=tuple(session.flags),
    )


def _checks(notebook: NotebookNode, exercises: Mapping[str, Judged]) -> dict[int, Judged]:
    """The exercises to judge, by the index of their check cells."""
    found = {}
    for index, cell in enumerate(notebook.cells):
        name = checked_name(cell.source) if is_autograded(cell) else None
        if name is not None and name in exercises:
            found[index] = exercises[name]
    return found


@dataclass(frozen=True)
class _Place:
    """Where the processes of a notebook come from: a build of coursekit, and a warm process or what to import first."""

    course: Path | None
    pod: Pod | None
    modules: tuple[str, ...]


def _place(
    notebook: NotebookNode, wanted: Mapping[int, Judged], mode: Mode, warm: bool, pod: Pod | None
) -> _Place:
    course = None
    if mode != "none":
        registry = {each.exercise.name: each.exercise for each in wanted.values()}
        course = withheld_build(lessons_of(registry, registry))
    if warm and pod is None:
        pod = shared_pod(mode, course)
    needs_torch = any(word in cell.source for cell in notebook.cells for word in ("torch", "coursekit"))
    return _Place(course, pod if warm else None, ("numpy", "torch") if needs_torch else ("numpy",))


def _closed(notebook: NotebookNode, receipt: CellReceipt, require_check: bool) -> CellReceipt:
    cell = notebook.cells[receipt.index]
    if not is_autograded(cell):
        return receipt
    return replace(receipt, ungraded=close_cell(cell, require_check))


def _is_hers(cell: NotebookNode) -> bool:
    """Whether it is code that a student may write."""
    return cell.cell_type == "code" and not cell.metadata.get("nbgrader", {}).get("locked")


@dataclass
class _Session:
    """A notebook on its way through one process, or several when they die."""

    notebook: NotebookNode
    run: RunDirectory
    mode: Mode
    limits: Limits
    seed: int
    wanted: Mapping[int, Judged]
    place: _Place
    receipts: list[CellReceipt] = field(default_factory=list)
    flags: list[Flag] = field(default_factory=list)
    restarts: int = 0
    cold_starts: int = 0
    peak_bytes: int | None = None
    cpu_seconds: float | None = None

    def __enter__(self) -> _Session:
        self._kernel: Kernel | None = self._start()
        self._deadline = time.monotonic() + self.limits.notebook_seconds
        self._replay: list[int] = []
        self._doubt = reaching(cell.source for cell in self.notebook.cells if _is_hers(cell))
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()

    def _start(self) -> Kernel:
        pod, course = self.place.pod, self.place.course
        if pod is not None and pod.alive and self.cold_starts == 0:
            try:
                return Kernel(self.run, self.mode, self.limits, self.seed, pod=pod, course=course)
            except KernelStartError:
                pass  # a cold one gives the same marks
        self.cold_starts += 1
        self.run.restore()
        modules = self.place.modules
        return Kernel(self.run, self.mode, self.limits, self.seed, course=course, modules=modules)

    def run_all(self) -> None:
        """Runs every code cell in order, except demonstrations."""
        for index, cell in enumerate(self.notebook.cells):
            if cell.cell_type != "code":
                continue
            cell.outputs, cell.execution_count = [], None
            grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
            if is_demo(cell) and not is_autograded(cell):
                self.receipts.append(CellReceipt(index, grade_id, "demo"))
            elif cell.source.strip() or is_autograded(cell):
                self._look(index, cell, grade_id)
                judged = index in self.wanted
                had_pod = self.cold_starts == 0
                status, seconds = self._judge(index, cell) if judged else self._run_cell(index, cell)
                if status == "died" and had_pod and self.place.pod is not None and not self.place.pod.alive:
                    # The warm process ended, and all its forks with it: no fault of hers.
                    status, seconds = self._judge(index, cell) if judged else self._run_cell(index, cell)
                self.receipts.append(CellReceipt(index, grade_id, status, round(seconds, 3), judged=judged))
                if status in KILLERS:
                    self.flags.append(Flag(status, f"the cell ended like this: {status}", index, grade_id))

    def _look(self, index: int, cell: NotebookNode, grade_id: str | None) -> None:
        """Notes what a person should see in a cell that students may write."""
        if _is_hers(cell):
            self.flags += look_at(cell.source, index, grade_id)

    def _judge(self, index: int, cell: NotebookNode) -> tuple[CellStatus, float]:
        """Has the judge say what her function is worth, and writes the check's outputs."""
        remaining = self._deadline - time.monotonic()
        if not self._ready() or remaining <= 0:
            cell.outputs = [error_output("NotRun", self._why_not_run())]
            return "not run", 0.0
        assert self._kernel is not None
        judged = self.wanted[index]
        source = self._her_text(judged.exercise.name)
        verdict: Verdict = judge(
            judged,
            self._kernel,
            source=source,
            limits=self.limits,
            wall_seconds=remaining,
            doubt=self._doubt,
        )
        cell.outputs = verdict.outputs
        got = {test.got for test in verdict.result.tests} if verdict.result is not None else set()
        for error, (code, what) in TOLD.items():
            if error in got:
                self.flags.append(Flag(code, what, index, judged.exercise.name))
        self._number(cell)
        if not self._kernel.alive:
            self._drop()
        return verdict.status, verdict.seconds

    def _her_text(self, name: str) -> str:
        """What her function is made of: its own cell, and what that uses of her other cells."""
        answer, others = "", []
        for cell in self.notebook.cells:
            meta = cell.metadata.get("nbgrader", {})
            if not _is_hers(cell) or (is_demo(cell) and not meta):
                continue
            if meta.get("solution") and meta.get("grade_id") == name:
                answer = cell.source
            else:
                others.append(cell.source)
        try:
            return text_for(name, answer, others)
        except (RecursionError, MemoryError):
            return answer

    def _number(self, cell: NotebookNode) -> None:
        """Numbers a cell and its result, as a notebook's front end would."""
        cell.execution_count = len(self.receipts) + 1
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = cell.execution_count

    def _run_cell(self, index: int, cell: NotebookNode) -> tuple[CellStatus, float]:
        remaining = self._deadline - time.monotonic()
        if not self._ready() or remaining <= 0:
            cell.outputs = [error_output("NotRun", self._why_not_run())]
            return "not run", 0.0
        assert self._kernel is not None
        result = self._kernel.execute(cell.source, *self._time_for_a_cell(cell, remaining))
        cell.outputs = result.outputs
        self._number(cell)
        if not is_autograded(cell) and any(CHECK_MIME in output.get("data", {}) for output in cell.outputs):
            self.flags.append(Flag("forged", "the cell shows a check's report of its own", index))
            for output in cell.outputs:
                output.get("data", {}).pop(CHECK_MIME, None)
        if result.status in KILLERS:
            cell.outputs.append(error_output(*self._what_happened(result)))
        elif not is_autograded(cell):
            self._replay.append(index)
        if not result.kernel_alive:
            self._drop()
        return result.status, result.seconds

    def _time_for_a_cell(self, cell: NotebookNode, remaining: float) -> tuple[float, float]:
        """Seconds of processor time and of wall time."""
        seconds = self.limits.cell_seconds_of(cell.metadata.get("nbgrader", {}).get("grade_id"))
        return seconds, min(seconds * self.limits.patience, remaining)

    def _what_happened(self, result: CellRun) -> tuple[str, str]:
        if result.status == "timeout":
            return (
                "CellTimeoutError",
                f"The cell was stopped after {result.seconds:.0f} seconds. Does a loop never end?",
            )
        if result.status == "flood":
            return "OutputLimitError", "The cell was stopped because it printed far too much."
        return (
            "DeadKernelError",
            "The cell ended its Python process, by leaving it or by using too much memory.",
        )

    def _why_not_run(self) -> str:
        if self._deadline <= time.monotonic():
            return f"Not run: the notebook had already taken its {self.limits.notebook_seconds:g} seconds."
        return "Not run: Python had died too often in the cells above."

    def _drop(self) -> None:
        """Ends the process, and notes what it leaves behind."""
        kernel, self._kernel = self._kernel, None
        if kernel is None:
            return
        if kernel.alive and self.mode != "none" and kernel.process.left_running():
            self.flags.append(
                Flag("left_running", "processes were still running at the end; they were ended")
            )
        if kernel.odd_frames:
            self.flags.append(
                Flag("forged", f"{kernel.odd_frames} messages to the harness that nobody asked for")
            )
        usage = kernel.close()
        if usage.peak_bytes is not None:
            self.peak_bytes = max(self.peak_bytes or 0, usage.peak_bytes)
        if usage.cpu_seconds is not None:
            self.cpu_seconds = round((self.cpu_seconds or 0.0) + usage.cpu_seconds, 3)

    def _ready(self) -> bool:
        """Whether a kernel is there, started again and brought to the same state if the last one died."""
        while self._kernel is None and self.restarts < self.limits.restarts:
            self.restarts += 1
            try:
                self._kernel = self._start()
            except KernelStartError:
                continue
            self._run_again()
        return self._kernel is not None

    def _run_again(self) -> None:
        """Runs the cells that ended by themselves, without their outputs and without checks."""
        for index in list(self._replay):
            remaining = self._deadline - time.monotonic()
            if remaining <= 0 or self._kernel is None:
                return
            cell = self.notebook.cells[index]
            result = self._kernel.execute(cell.source, *self._time_for_a_cell(cell, remaining))
            if result.status in KILLERS:
                self._replay.remove(index)
            if not result.kernel_alive:
                self._drop()
