"""Running a notebook as a function: notebook, assets, limits and a seed in; executed notebook and receipt out.

No database, no course folder, no student's name. What a submission does never raises here: it costs the cell that did
it, and the receipt says so.
"""

from __future__ import annotations

import copy
import hashlib
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import nbformat
from nbformat.notebooknode import NotebookNode

from autograde.guard import close_cell, is_autograded
from autograde.kernel import CellRun, Kernel, KernelStartError
from autograde.limits import Limits
from autograde.outputs import error_output
from autograde.rundir import RunDirectory
from autograde.sandbox import Mode
from coursekit.mending.kinds import is_demo

__all__ = ["CellReceipt", "Receipt", "execute"]

CellStatus = Literal["ok", "error", "timeout", "flood", "died", "not run", "demo"]
KILLERS = ("timeout", "flood", "died")


@dataclass(frozen=True)
class CellReceipt:
    """What happened to one code cell; `ungraded` says why a check of it counts as 0."""

    index: int
    grade_id: str | None
    status: CellStatus
    seconds: float = 0.0
    ungraded: str | None = None


@dataclass(frozen=True)
class Receipt:
    """What was run and how: kept beside the marks as evidence.

    Args: digest: SHA-256 of the notebook as it went in. mode: how it was shut in, see `sandbox.available`; "none" is
          not at all. restarts: how many kernels it cost. failure: set when the harness itself could not run it.
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
) -> tuple[NotebookNode, Receipt]:
    """Runs a notebook's cells in a kernel of its own.

    Args:    notebook: a well-formed one, as intake makes it; not changed. mode: `sandbox.available().mode`, or "none"
             to run without walls. assets: a folder whose files stand beside the notebook; notebooks in it are left
             out. limits: see there. seed: of Python's and numpy's random numbers. require_check: see
             `guard.close_cell`.
    Returns: a copy with outputs, in which every auto-graded cell has a valid result or an error; and the receipt.
    Raises:  KernelStartError if no kernel starts at all: that is the machine's fault and says nothing of the work.
    """
    given = (
        nbformat.reads(notebook.decode("utf-8"), as_version=4) if isinstance(notebook, bytes) else notebook
    )
    executed: NotebookNode = copy.deepcopy(given)
    digest = hashlib.sha256(nbformat.writes(executed).encode("utf-8", "replace")).hexdigest()
    limits = limits or Limits()
    start = time.monotonic()
    run = RunDirectory(assets)
    try:
        with _Session(executed, run, mode, limits, seed) as session:
            session.run_all()
    finally:
        run.close()
    cells = tuple(_closed(executed, cell, require_check) for cell in session.receipts)
    seconds = round(time.monotonic() - start, 3)
    return executed, Receipt(digest, mode, seed, limits, cells, session.restarts, seconds)


def _closed(notebook: NotebookNode, receipt: CellReceipt, require_check: bool) -> CellReceipt:
    cell = notebook.cells[receipt.index]
    if not is_autograded(cell):
        return receipt
    return replace(receipt, ungraded=close_cell(cell, require_check))


@dataclass
class _Session:
    """A notebook on its way through one kernel, or several when they die."""

    notebook: NotebookNode
    run: RunDirectory
    mode: Mode
    limits: Limits
    seed: int
    receipts: list[CellReceipt] = field(default_factory=list)
    restarts: int = 0

    def __enter__(self) -> _Session:
        self._kernel: Kernel | None = self._start()
        self._deadline = time.monotonic() + self.limits.notebook_seconds
        self._replay: list[int] = []
        return self

    def __exit__(self, *_: object) -> None:
        if self._kernel is not None:
            self._kernel.close()

    def _start(self) -> Kernel:
        return Kernel(self.run, self.mode, self.limits, self.seed)

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
                status, seconds = self._run_cell(index, cell)
                self.receipts.append(CellReceipt(index, grade_id, status, round(seconds, 3)))

    def _run_cell(self, index: int, cell: NotebookNode) -> tuple[CellStatus, float]:
        remaining = self._deadline - time.monotonic()
        if not self._ready() or remaining <= 0:
            cell.outputs = [error_output("NotRun", self._why_not_run())]
            return "not run", 0.0
        assert self._kernel is not None
        result = self._kernel.execute(cell.source, *self._time_for_a_cell(cell, remaining))
        cell.outputs = result.outputs
        cell.execution_count = len(self.receipts) + 1
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = cell.execution_count
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
        if self._kernel is not None:
            self._kernel.close()
        self._kernel = None

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
