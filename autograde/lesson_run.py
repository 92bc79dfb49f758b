"""Running a lesson from top to bottom: in an empty folder, with a fresh ledger, timed, its memory watched."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from tqdm import tqdm

from autograde.layout import CourseError
from coursekit.cells import is_graded

__all__ = ["RunReport", "lesson_environment", "run_lesson"]

THREADS = "2"


@dataclass
class RunReport:
    """What one run took.

    Attributes: seconds: wall time. cpu_seconds, peak_bytes: processor time and most resident memory of the kernel
                and its children, sampled.
                cells: (seconds, id) of each code cell.
                replace: folders of this run, to be taken out of the outputs.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    cells: list[tuple[float, str]] = field(default_factory=list)
    replace: dict[str, str] = field(default_factory=dict)

    def slowest(self, n: int = 3) -> str:
        """The slowest cells, for a message."""
        return ", ".join(f"{name} {seconds:.1f} s" for seconds, name in sorted(self.cells, reverse=True)[:n])


def lesson_environment(folder: Path) -> dict[str, str]:
    """The environment a lesson is built and tested in; what it writes lies in `folder`.

    A proxy that nothing listens at makes every download fail at once, so that a lesson which needs one is found.
    """
    nowhere = "http://127.0.0.1:9"
    return {
        **{key: value for key, value in os.environ.items() if key not in ("RETRAIN", "NBGRADER_EXECUTION")},
        "COURSEKIT_LEDGER": str(folder / "ledger.json"),
        "OMP_NUM_THREADS": THREADS,
        "MKL_NUM_THREADS": THREADS,
        "PYTHONWARNINGS": "default",
        "PYTHONHASHSEED": "0",
        "PYTHONIOENCODING": "utf-8",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), nowhere),
        **dict.fromkeys(("no_proxy", "NO_PROXY"), "localhost,127.0.0.1"),
    }


def run_lesson(
    notebook: Any, assets: list[tuple[Path, str]], max_seconds: float, label: str = ""
) -> RunReport:
    """Executes the notebook in place, in a temporary folder that holds copies of its assets.

    Args:    assets: (file, its path relative to the notebook). max_seconds: for the whole lesson.
    Raises:  CourseError if a cell raised (unless tagged raises-exception), a graded cell wrote to stderr, the
             kernel died, or the run took longer than max_seconds.
    """
    with tempfile.TemporaryDirectory(prefix="lesson-") as name:
        folder = Path(name).resolve()
        for source, relative in assets:
            target = folder / "run" / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        (folder / "run").mkdir(exist_ok=True)
        report = RunReport(replace=_stand_ins(folder))
        client = _client(notebook, folder / "run", max_seconds, report, label)
        started = time.monotonic()
        with _watched(report):
            _execute(client, lesson_environment(folder), label)
        report.seconds = time.monotonic() - started
    _refuse_stderr(notebook, label)
    if report.seconds > max_seconds:
        raise CourseError(
            f"{label} took {report.seconds:.0f} s ({report.cpu_seconds:.0f} s of processor time), more than "
            f"{max_seconds:.0f}; slowest cells: {report.slowest()}. Load a checkpoint instead of training, or give "
            "a busy machine more time with --max-seconds"
        )
    return report


def _stand_ins(folder: Path) -> dict[str, str]:
    """What to write instead of folders of this machine, the longest first so that none hides another."""
    names = {
        str(folder / "run"): ".",
        str(folder): "<run>",
        str(Path(__file__).resolve().parents[1]): "<course>",
        sys.prefix: "<python>",
        os.path.dirname(os.__file__): "<python>",
        str(Path.home()): "~",
    }
    real = {
        name: stand_in for name, stand_in in names.items() if len(name) > 1
    }  # a container's home may be /
    return dict(sorted(real.items(), key=lambda item: -len(item[0])))


def _client(notebook: Any, folder: Path, max_seconds: float, report: RunReport, label: str) -> NotebookClient:
    """A client that runs in the folder, times each cell, and shows its progress on a terminal."""
    n_code = sum(cell.cell_type == "code" for cell in notebook.cells)
    bar = tqdm(total=n_code, desc=label, unit="cell", leave=False, disable=None)
    began = [time.monotonic()]

    def before(cell: Any, cell_index: int) -> None:
        began[0] = time.monotonic()

    def after(cell: Any, cell_index: int, **_: Any) -> None:
        if cell.cell_type == "code":
            report.cells.append((time.monotonic() - began[0], cell["id"]))
            bar.update()

    return NotebookClient(
        notebook,
        timeout=int(max_seconds) + 30,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
        record_timing=False,
        store_widget_state=True,  # without it nbclient fails on an Output widget; `clean` drops the state
        coalesce_streams=True,
        on_cell_start=before,
        on_cell_executed=after,
        on_notebook_complete=lambda **_: bar.close(),
        on_notebook_error=lambda **_: bar.close(),
    )


def _execute(client: NotebookClient, environment: dict[str, str], label: str) -> None:
    try:
        client.execute(env=environment)
    except CellExecutionError as error:
        raise CourseError(f"a cell of {label} raised:\n{without_colours(str(error))}") from error
    except CellTimeoutError as error:
        raise CourseError(f"a cell of {label} did not end: {error}") from error
    except DeadKernelError as error:
        raise CourseError(f"the kernel of {label} died: {error}; is there enough memory?") from error


def _refuse_stderr(notebook: Any, label: str) -> None:
    """nbgrader gives 0 points to a graded cell that writes to stderr, right or not."""
    for cell in notebook.cells:
        if cell.cell_type != "code" or not is_graded(cell):
            continue
        for output in cell.outputs:
            if output.output_type == "stream" and output.name == "stderr":
                raise CourseError(
                    f"the graded cell {cell['id']!r} of {label} writes to stderr:\n{output.text}"
                )


@contextmanager
def _watched(report: RunReport, every_s: float = 0.1) -> Iterator[None]:
    """Samples memory and processor time of the processes started inside the block."""
    this, done = psutil.Process(), threading.Event()
    before = {child.pid for child in this.children(recursive=True)}

    def watch() -> None:
        while not done.wait(every_s):
            resident, used = 0, 0.0
            for child in this.children(recursive=True):
                if child.pid not in before:
                    try:
                        resident += child.memory_info().rss
                        used += sum(child.cpu_times()[:2])
                    except psutil.Error:  # it ended meanwhile
                        continue
            report.peak_bytes = max(report.peak_bytes, resident)
            report.cpu_seconds = max(report.cpu_seconds, used)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def without_colours(text: str) -> str:
    """The text without a terminal's colour codes."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
