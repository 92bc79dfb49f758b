"""How many submissions a minute: stock nbgrader and this harness, in one run, on the same cores and submissions.

    python benchmarks/grading.py --sizes 20 200 1000 --workers 1 2 --stock 20

Each run grades lesson 01 for a class made of the demo's honest submissions, in a course of its own, from handed-in
folders to marks in the gradebook, the start of processes included. Marks are compared cell by cell. Written are a table
and a plot, with the machine's name, to benchmarks/results/.
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
from autograde.progress import quiet, watch  # noqa: E402

# Those whose marks stock nbgrader gives too: it has no repair, and an endless loop costs it minutes.
HONEST = [made for made in CLASS if not (made.findings or made.kinds)]
Marks = dict[str, dict[str, float | None]]


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
            each.student.id: {grade.name: grade.auto_score for grade in each.notebooks[0].grades}
            for each in gradebook.assignment_submissions(ASSIGNMENT)
        }


def grade_stock(root: Path, size: int) -> tuple[Run, Marks]:
    """nbgrader's own Autograde with its own preprocessors, one submission after the other, as it always does."""
    config = course_config(root)
    config.CourseDirectory.assignment_id = ASSIGNMENT
    os.environ["PYTHONPATH"] = str(ROOT)
    converter = Autograde(coursedir=CourseDirectory(config=config), config=config)
    converter.log.setLevel(logging.ERROR)
    start = time.perf_counter()
    converter.start()
    return Run("stock nbgrader", 1, size, time.perf_counter() - start, {"cold": size}), marks(root)


def grade_ours(root: Path, size: int, workers: int, sandbox: bool) -> tuple[Run, Marks]:
    """The harness, with a pool of so many workers."""
    settings = {"executor": "pool", "workers": workers}
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


def machine() -> str:
    """The processor, how many cores of it were used, and the system."""
    model = platform.processor() or platform.machine()
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    used = len(os.sched_getaffinity(0))
    return f"{models[0] if models else model}, {used} cores, {platform.system()}, Python {platform.python_version()}"


def table(runs: list[Run]) -> str:
    """The runs as a Markdown table; the ratio is to stock nbgrader."""
    stock = runs[0].per_minute
    lines = [
        "| harness | workers | submissions | seconds | a minute | times stock | kernels |",
        "| --- |" + " ---: |" * 5 + " --- |",
    ]
    for run in runs:
        kernels = ", ".join(f"{count} {kind}" for kind, count in run.start.items())
        ratio = run.per_minute / stock
        lines.append(
            f"| {run.harness} | {run.workers} | {run.submissions} | {run.seconds:.1f} | {run.per_minute:.1f} "
            f"| {ratio:.1f} | {kernels} |"
        )
    return "\n".join(lines)


def plot(runs: list[Run], path: Path) -> None:
    """Submissions a minute over the size of the class, a line for each number of workers."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    stock = runs[0].per_minute
    axes.axhline(stock, color="0.4", linestyle=":", label=f"stock nbgrader ({stock:.1f} a minute)")
    for marker, workers in zip("osD^v", sorted({run.workers for run in runs[1:]}), strict=False):
        points = sorted((run.submissions, run.per_minute) for run in runs[1:] if run.workers == workers)
        axes.plot(
            *zip(*points, strict=True), marker=marker, label=f"ours, {workers} worker{'s' * (workers > 1)}"
        )
    axes.set(xscale="log", yscale="log", xlabel="submissions in the class", ylabel="graded a minute")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    best = max(run.per_minute for run in runs[1:])
    axes.set_title(
        f"Lesson 01: {best / stock:.1f} times stock nbgrader's throughput at equal marks", fontsize=10
    )
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def benchmark(args: argparse.Namespace) -> list[Run]:
    """Stock first, then ours for every size and number of workers."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        template = Path(name)
        for folder in ("solutions", "notebooks"):
            shutil.copytree(ROOT / folder / ASSIGNMENT, template / folder / ASSIGNMENT)
        result = NbGraderAPI(config=course_config(template)).generate_assignment(ASSIGNMENT, force=True)
        assert result["success"], result
        with course(template, args.stock) as root:
            run, expected = grade_stock(root, args.stock)
        runs = [run]
        print(table(runs), flush=True)
        for size in args.sizes:
            for workers in args.workers:
                with course(template, size) as root:
                    run, found = grade_ours(root, size, workers, not args.no_sandbox)
                agree(expected, found)
                runs.append(run)
                print(table(runs).splitlines()[-1], flush=True)
    return runs


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
        runs = benchmark(args)
    args.out.mkdir(parents=True, exist_ok=True)
    shown: dict[str, Any] = {
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0],
    }
    text = f"{shown['machine']}; {shown['date']}; load at the end {shown['load']:.1f}.\n\n{table(runs)}\n"
    (args.out / "grading.md").write_text(text, encoding="utf-8")
    values = [{**asdict(run), "per_minute": run.per_minute} for run in runs]
    (args.out / "grading.json").write_text(
        json.dumps({**shown, "runs": values}, indent=1) + "\n", encoding="utf-8"
    )
    plot(runs, args.out / "grading.png")
    print(f"\n{text}\nwritten to {args.out}/grading.md, .json and .png; all marks equal")


if __name__ == "__main__":
    main()
