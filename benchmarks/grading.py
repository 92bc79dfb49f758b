"""How many submissions a minute: stock nbgrader and this harness, in one run, on the same cores and submissions.

    python benchmarks/grading.py --sizes 20 200 1000 --workers 1 2 --stock 20

Each run grades lesson 01 for a class made of the demo's honest submissions, in a course of its own, from handed-in
folders to marks in the gradebook, the start of processes included. Stock nbgrader also runs the demonstrations, which
the harness skips; so it is run a second time on the same submissions without them. Every run's rows of the gradebook
are compared cell by cell with stock's, and so are those of the executors that are not timed: in this process, and Dask
with two worker processes. Written are a table and a plot, with the machine's name, to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))

import nbformat  # noqa: E402
from nbgrader.api import Gradebook  # noqa: E402
from nbgrader.apps import NbGraderAPI  # noqa: E402
from nbgrader.converters import Autograde  # noqa: E402
from nbgrader.coursedir import CourseDirectory  # noqa: E402

from autograde.demo_class import ASSIGNMENT, CLASS, NOTEBOOK, files, solutions, write  # noqa: E402
from autograde.grading import course_config, grade_assignment  # noqa: E402
from autograde.guard import is_autograded  # noqa: E402
from autograde.progress import quiet, watch  # noqa: E402
from coursekit.mending.kinds import is_demo  # noqa: E402

# Those whose marks stock nbgrader gives too: it has no repair, and an endless loop costs it minutes.
HONEST = [made for made in CLASS if not (made.findings or made.kinds)]
Row = tuple[float | None, float | None, bool]  # auto_score, manual_score, needs_manual_grade
Marks = dict[str, dict[str, Row]]


@dataclass(frozen=True)
class Run:
    """One measured run. start: how kernels were started, by how many submissions."""

    harness: str
    workers: int
    submissions: int
    seconds: float
    start: dict[str, int]

    @property
    def per_minute(self) -> float:
        """Submissions a minute."""
        return 60 * self.submissions / self.seconds


def without_demos(folder: Path) -> None:
    """Takes the cells that need not run for a mark out of all notebooks below a folder."""
    for path in folder.rglob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        notebook.cells = [cell for cell in notebook.cells if not is_demo(cell) or is_autograded(cell)]
        nbformat.write(notebook, path)


def make_template(folder: Path, demos: bool = True) -> Path:
    """A course with lesson 01 alone, known to its gradebook."""
    for name in ("solutions", "notebooks"):
        (folder / name / ASSIGNMENT).mkdir(parents=True)
        lesson = Path(name) / ASSIGNMENT / f"{NOTEBOOK}.ipynb"
        shutil.copyfile(ROOT / lesson, folder / lesson)
    if not demos:
        without_demos(folder)
    result = NbGraderAPI(config=course_config(folder)).generate_assignment(ASSIGNMENT, force=True)
    assert result["success"], result
    return folder


@contextmanager
def course(template: Path, size: int) -> Iterator[Path]:
    """A course in which so many students have handed in, going round and round the HONEST ones."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        root = Path(name) / "course"
        shutil.copytree(template, root)
        release = nbformat.read(root / "notebooks" / ASSIGNMENT / f"{NOTEBOOK}.ipynb", as_version=4)
        solved = nbformat.read(root / "solutions" / ASSIGNMENT / f"{NOTEBOOK}.ipynb", as_version=4)
        ours = solutions(solved)
        for number in range(size):
            folder = root / "classroom" / "submitted" / f"s{number:04}" / ASSIGNMENT
            write(folder, files(HONEST[number % len(HONEST)], release, ours))
        yield root


def marks(root: Path) -> Marks:
    """The gradebook's marks by student and cell."""
    config = course_config(root)
    with Gradebook(config.CourseDirectory.db_url, config.CourseDirectory.course_id) as gradebook:
        return {
            each.student.id: {
                grade.name: (grade.auto_score, grade.manual_score, bool(grade.needs_manual_grade))
                for notebook in each.notebooks
                for grade in notebook.grades
            }
            for each in gradebook.assignment_submissions(ASSIGNMENT)
        }


def grade_stock(root: Path, size: int, name: str) -> tuple[Run, Marks]:
    """nbgrader's own Autograde with its own preprocessors, one submission after the other, as it always does."""
    config = course_config(root)
    config.CourseDirectory.assignment_id = ASSIGNMENT
    config.Execute.timeout = config.Execute.startup_timeout = (
        600  # 30 s a cell can be too few on a busy machine
    )
    os.environ["PYTHONPATH"] = str(ROOT)
    converter = Autograde(coursedir=CourseDirectory(config=config), config=config)
    converter.log.setLevel(logging.ERROR)
    start = time.perf_counter()
    converter.start()
    return Run(name, 1, size, time.perf_counter() - start, {"cold": size}), marks(root)


def grade_ours(
    root: Path, size: int, workers: int, sandbox: bool, settings: dict[str, Any] | None = None
) -> tuple[Run, Marks]:
    """The harness, with a pool of so many workers, or with other settings."""
    settings = settings or {"executor": "pool", "workers": workers}
    start = time.perf_counter()
    with watch(f"{size} submissions, {workers} workers") as step:
        outcomes = grade_assignment(
            ASSIGNMENT,
            root=root,
            sandbox=sandbox,
            settings=settings,
            progress=lambda n, of, outcome: step(n, of, outcome.student) if n % 20 == 0 else None,
        )
    seconds = time.perf_counter() - start
    assert all(outcome.status == "graded" for outcome in outcomes), "not every submission was graded"
    starts = [receipt.start for outcome in outcomes for _, receipt in outcome.receipts]
    how = {kind: starts.count(kind) for kind in sorted(set(starts))}
    return Run("ours" if sandbox else "ours, no sandbox", workers, size, seconds, how), marks(root)


def agree(expected: Marks, found: Marks) -> None:
    """Asserts that marks are those stock nbgrader gave for the same submission, where it was asked to."""
    for student, cells in found.items():
        twin = f"s{int(student[1:]) % len(HONEST):04}"
        if twin in expected:
            assert cells == expected[twin], f"{student}: {cells} is not {expected[twin]}"


def agree_elsewhere(template: Path, expected: Marks, sandbox: bool) -> None:
    """Asserts the same of the other executors: in this process, and on Dask with two worker processes."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", memory_limit=0) as cluster:
        dask = {"executor": "dask", "scheduler": cluster.scheduler_address}
        for settings in ({"executor": "inline"}, dask):
            with course(template, len(HONEST)) as root:
                _, found = grade_ours(root, len(HONEST), 0, sandbox, settings)
            agree(expected, found)
            print(f"{settings['executor']}: the rows of {len(found)} submissions are stock's", flush=True)


def machine() -> str:
    """The processor, how many cores of it were used, and the system."""
    model = platform.processor() or platform.machine()
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    used = len(os.sched_getaffinity(0))
    return f"{models[0] if models else model}, {used} cores, {platform.system()}, Python {platform.python_version()}"


def table(runs: list[Run]) -> str:
    """The runs as a Markdown table; ratios to stock nbgrader, and to stock on notebooks without demonstrations."""
    stock, bare = (run.per_minute for run in runs[:2])
    lines = [
        "| harness | workers | submissions | seconds | a minute | times stock | times stock without demos | kernels |",
        "| --- |" + " ---: |" * 6 + " --- |",
    ]
    for run in runs:
        kernels = ", ".join(f"{count} {kind}" for kind, count in run.start.items())
        ratio = run.per_minute / stock
        bare_ratio = run.per_minute / bare
        lines.append(
            f"| {run.harness} | {run.workers} | {run.submissions} | {run.seconds:.1f} | {run.per_minute:.1f} "
            f"| {ratio:.1f} | {bare_ratio:.1f} | {kernels} |"
        )
    return "\n".join(lines)


def plot(runs: list[Run], path: Path) -> None:
    """Submissions a minute over the size of the class, a line for each number of workers."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    stock = runs[0].per_minute
    for run, style in zip(runs[:2], (":", "--"), strict=True):
        axes.axhline(
            run.per_minute, color="0.4", linestyle=style, label=f"{run.harness} ({run.per_minute:.1f})"
        )
    for marker, workers in zip("osD^v", sorted({run.workers for run in runs[2:]}), strict=False):
        points = sorted((run.submissions, run.per_minute) for run in runs[2:] if run.workers == workers)
        axes.plot(
            *zip(*points, strict=True), marker=marker, label=f"ours, {workers} worker{'s' * (workers > 1)}"
        )
    axes.set(xscale="log", yscale="log", xlabel="submissions in the class", ylabel="graded a minute")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    best = max(run.per_minute for run in runs[2:])
    axes.set_title(
        f"Lesson 01: up to {best / stock:.0f} times stock nbgrader's throughput, {best / runs[1].per_minute:.0f} "
        "without demonstrations, at equal marks",
        fontsize=9,
    )
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def save(runs: list[Run], folder: Path) -> None:
    """Writes what was measured so far."""
    folder.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    shown: dict[str, Any] = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "load": load}
    text = f"{shown['machine']}; {shown['date']}; load at the end {load:.1f}.\n\n{table(runs)}\n"
    (folder / "grading.md").write_text(text, encoding="utf-8")
    values = [{**asdict(run), "per_minute": run.per_minute} for run in runs]
    (folder / "grading.json").write_text(
        json.dumps({**shown, "runs": values}, indent=1) + "\n", encoding="utf-8"
    )
    plot(runs, folder / "grading.png")


def benchmark(args: argparse.Namespace) -> None:
    """Stock first, then ours for every size and number of workers."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        template = make_template(Path(name) / "whole")
        with course(template, args.stock) as root:
            whole, expected = grade_stock(root, args.stock, "stock nbgrader")
        with course(make_template(Path(name) / "bare", demos=False), args.stock) as root:
            bare, found = grade_stock(root, args.stock, "stock nbgrader, no demonstrations")
        agree(expected, found)
        runs = [whole, bare]
        print(table(runs), flush=True)
        agree_elsewhere(template, expected, not args.no_sandbox)
        for size in args.sizes:
            for workers in args.workers:
                with course(template, size) as root:
                    run, found = grade_ours(root, size, workers, not args.no_sandbox)
                agree(expected, found)
                runs.append(run)
                print(table(runs).splitlines()[-1], flush=True)
                save(runs, args.out)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stock", type=int, default=len(HONEST), help="submissions graded by stock nbgrader")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 200, 1000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cores", type=int, default=2, help="both harnesses may use these many")
    parser.add_argument("--no-sandbox", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])
    with quiet():
        benchmark(args)
    print(f"written to {args.out}/grading.md, .json and .png; all marks equal")


if __name__ == "__main__":
    main()
