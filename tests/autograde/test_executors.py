"""Jobs and judgements as bytes, and executors whose workers may be killed at any time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nbformat
import psutil
import pytest

from autograde.chain import read_lines
from autograde.digests import code_digest, environment_digest
from autograde.executors import (
    ATTEMPTS,
    DaskExecutor,
    Executor,
    ExecutorError,
    InlineExecutor,
    Lost,
    PoolExecutor,
)
from autograde.grading import course_config, grade_assignment
from autograde.jobs import Job, Judgement, run_job
from autograde.limits import Limits
from autograde.verify import verify
from tests.autograde.tinycourse import ASSIGNMENT, MINICHECK, answered

REPOSITORY = Path(__file__).resolve().parents[2]
FATAL = "def square(x):\n    import os, signal; os.kill(os.getppid(), signal.SIGKILL); os._exit(0)"
SLOW = "def square(x):\n    import time; time.sleep(1.5); return x * x"


@pytest.fixture
def job(release):
    """Makes a job: `job(square="...")`; without walls its kernel's parent is the worker."""

    def make(sandbox: bool = False, **answers: str) -> Job:
        source = nbformat.writes(answered(release, **answers))
        assets = {"minicheck.py": MINICHECK.encode()}
        code, environment = code_digest(), environment_digest()
        return Job("k", source, assets, sandbox, Limits(), 0, True, code, environment)

    return make


@pytest.fixture(params=["inline", "pool", "dask"])
def executor(request) -> Iterator:
    """Each executor, with two workers where it has workers."""
    if request.param == "dask":
        distributed = pytest.importorskip("distributed")
        with distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", memory_limit=0
        ) as cluster:
            remote = DaskExecutor(cluster.scheduler_address)
            yield remote
            remote.close()
        return
    made: Executor = PoolExecutor(2) if request.param == "pool" else InlineExecutor()
    yield made
    made.close()


def points(answer: bytes | Lost) -> list[str]:
    """What the checks of a judgement returned."""
    assert isinstance(answer, bytes)
    judgement = Judgement.from_bytes(answer)
    assert judgement.failure is None
    cells = nbformat.reads(judgement.executed or "", as_version=4).cells
    return [
        output.data["text/plain"]
        for cell in cells
        for output in cell.get("outputs", [])
        if output.output_type == "execute_result"
    ]


def test_a_job_and_a_judgement_survive_the_way_over_bytes(job):
    made = job()
    assert Job.from_bytes(made.to_bytes()) == made
    judgement = Judgement.from_bytes(run_job(made.to_bytes()))
    assert Judgement.from_bytes(judgement.to_bytes()) == judgement
    assert judgement.receipt is not None
    assert judgement.receipt.limits == Limits()
    assert judgement.receipt.cells[0].status == "ok"


def test_every_executor_judges_every_job_once(executor, job):
    jobs = [job(), job(square="def square(x): return 4"), job(negate="def negate(x): return x")]
    done = dict(executor.run(each.to_bytes() for each in jobs))
    assert [points(done[number]) for number in range(3)] == [["2.0", "2.0"], ["1.0", "2.0"], ["2.0", "0.0"]]


@pytest.mark.parametrize("field", ["code", "environment"])
def test_a_worker_with_other_code_or_packages_does_not_judge(job, field):
    judgement = Judgement.from_bytes(run_job(replace(job(), **{field: "another"}).to_bytes()))
    assert judgement.executed is None
    assert "install the same on both" in (judgement.failure or "")


def test_the_environment_is_the_same_in_processes_that_imported_different_things():
    program = "import {}\nfrom autograde.digests import environment_digest; print(environment_digest())"
    found = {
        subprocess.run(
            [sys.executable, "-c", program.format(name)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name in ("json", "setuptools", "nbgrader.utils")
    }
    assert found == {environment_digest() + "\n"}


def test_an_asset_cannot_leave_its_folder(job):
    judgement = Judgement.from_bytes(run_job(replace(job(), assets={"../x": b""}).to_bytes()))
    assert "outside" in (judgement.failure or "")


def test_a_killed_worker_is_replaced_and_its_job_judged_by_another(job, walls):
    executor = PoolExecutor(1)
    killed = []

    def kill_the_first() -> None:
        while not (executor.pool and executor.pool[0].task):
            time.sleep(0.01)
        time.sleep(0.5)
        killed.append(executor.pool[0].process.pid)
        os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=kill_the_first)
    thread.start()
    done = dict(executor.run([job(sandbox=True, square=SLOW).to_bytes(), job().to_bytes()]))
    thread.join()
    assert [points(done[0]), points(done[1])] == [["2.0", "2.0"]] * 2
    assert killed[0] != executor.pool[0].process.pid
    executor.close()


def test_a_job_that_kills_every_worker_is_given_up_and_the_others_are_judged(job):
    executor = PoolExecutor(2)
    done = dict(executor.run([job(square=FATAL).to_bytes(), job().to_bytes()]))
    executor.close()
    assert done[0] == Lost(f"{ATTEMPTS} workers died while they judged it")
    assert points(done[1]) == ["2.0", "2.0"]


def test_a_pool_that_is_closed_leaves_no_process(job):
    executor = PoolExecutor(2)
    list(executor.run([job().to_bytes(), job().to_bytes()]))
    processes = [worker.process for worker in executor.pool]
    executor.close()
    assert all(process.poll() is not None for process in processes)


def test_jobs_are_only_taken_as_workers_become_free(job):
    executor = PoolExecutor(1)
    taken = 0

    def source() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(6):
            taken += 1
            yield job().to_bytes()

    running = executor.run(source())
    next(running)
    assert taken <= 3
    executor.close()


@pytest.mark.parametrize(
    ("address", "message"), [("", "--scheduler"), ("tcp://127.0.0.1:1", "no Dask scheduler answers")]
)
def test_a_missing_scheduler_is_a_sentence(address, message, monkeypatch):
    pytest.importorskip("distributed")
    with pytest.raises(ExecutorError, match=message):
        DaskExecutor(address)


def test_a_cluster_without_workers_is_not_waited_for_for_ever(job):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=0, dashboard_address=":0") as cluster:
        executor = DaskExecutor(cluster.scheduler_address, patience_seconds=0.2)
        with pytest.raises(ExecutorError, match="no Dask worker has been there"):
            list(executor.run([job().to_bytes()]))
        executor.close()


def test_a_kernel_without_walls_ends_with_the_worker_that_was_killed(tmp_path):
    program = """
import sys, time
from autograde.kernel import Kernel
from autograde.limits import Limits
from autograde.rundir import RunDirectory
kernel = Kernel(RunDirectory(None), "none", Limits(), modules=())
print(kernel.process.pid, flush=True)
time.sleep(100)"""
    worker = subprocess.Popen(
        [sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    kernel = psutil.Process(int(worker.stdout.readline()))
    worker.kill()
    worker.communicate()
    psutil.wait_procs([kernel], timeout=15)
    assert not kernel.is_running() or kernel.status() == "zombie"


def test_a_dask_worker_with_several_threads_is_refused():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
        ) as cluster,
        pytest.raises(ExecutorError, match="--nthreads 1"),
    ):
        DaskExecutor(cluster.scheduler_address)


def test_a_killed_dask_worker_loses_nothing(job, walls):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", memory_limit=0
    ) as cluster:
        executor = DaskExecutor(cluster.scheduler_address)
        pids = executor.client.run(os.getpid)

        def kill_one() -> None:
            time.sleep(1)
            os.kill(next(iter(pids.values())), signal.SIGKILL)

        thread = threading.Thread(target=kill_one)
        thread.start()
        done = dict(executor.run([job(sandbox=True, square=SLOW).to_bytes()] * 3))
        thread.join()
        executor.close()
    assert [points(done[number]) for number in range(3)] == [["2.0", "2.0"]] * 3


def test_a_submission_over_which_every_worker_dies_gets_0_and_a_person(course, hand_in, right, marks):
    hand_in("ada", right())
    hand_in("eve", right(square=FATAL))
    outcomes = grade_assignment(
        ASSIGNMENT, root=course, sandbox=False, settings={"executor": "pool", "workers": 2}
    )
    assert {outcome.student: outcome.status for outcome in outcomes} == {"ada": "graded", "eve": "failed"}
    assert marks("ada") == {"check-square": 2, "check-negate": 2, "why": None}
    assert marks("eve") == {"check-square": 0, "check-negate": 0, "why": 0}


def grading(course: Path, *options: str) -> subprocess.Popen:
    """`python -m autograde grade` on a course, as a process of its own."""
    command = [sys.executable, "-m", "autograde", "grade", ASSIGNMENT, "--root", str(course), *options]
    command += ["--executor", "pool", "--workers", "2", "--json"]
    return subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def recorded(course: Path) -> list[str]:
    lines = read_lines(course / "classroom" / "record" / f"{ASSIGNMENT}.jsonl")
    return [line.record["student"] for line in lines if line.record and line.record["kind"] == "marks"]


@pytest.mark.parametrize("options", [["--no-sandbox"], []], ids=["no_sandbox", "sandbox"])
def test_a_killed_coordinator_leaves_nothing_running_and_the_next_run_goes_on(
    course, hand_in, right, marks, request, options
):
    if not options:
        request.getfixturevalue("walls")
    students = [f"s{number}" for number in range(6)]
    for student in students:
        hand_in(student, right(square=SLOW))
    first = grading(course, *options)
    deadline = time.monotonic() + 60
    while len(recorded(course)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    children = psutil.Process(first.pid).children(recursive=True)
    first.kill()
    first.communicate()
    done_before = recorded(course)
    psutil.wait_procs(children, timeout=15)
    assert not [child for child in children if child.is_running() and child.status() != "zombie"]
    assert 2 <= len(done_before) < 6
    second = grading(course, *options)
    out, err = second.communicate(timeout=120)
    became = {each["student"]: each["status"] for each in json.loads(out)["students"]}
    assert all(became[student] == "skipped" for student in done_before[:-1]), err
    assert sorted(recorded(course)) == students
    assert [marks(student)["check-square"] for student in students] == [2] * 6
    assert verify(course, ASSIGNMENT, course_config(course)).ok
