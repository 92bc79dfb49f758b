"""Where judgements are made: in this process, in a pool of processes here, or on a Dask cluster.

All three take jobs as bytes and give judgements as bytes, and call the same `jobs.run_job`. One worker judges one
submission at a time with one thread, so that over-subscription can change no mark. Jobs are taken from their source as
workers become free, so a class of any size needs the memory of a few submissions.
"""

from __future__ import annotations

import collections
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from autograde.jobs import run_job

__all__ = [
    "ATTEMPTS",
    "DaskExecutor",
    "Executor",
    "ExecutorError",
    "InlineExecutor",
    "Lost",
    "PoolExecutor",
    "cores",
]

ATTEMPTS = 3  # how many workers may die over one job
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class ExecutorError(RuntimeError):
    """The workers are not there, or not as they must be; the message says how to mend it."""


@dataclass(frozen=True)
class Lost:
    """A job over which every worker died."""

    reason: str


class Executor(Protocol):
    """What judges jobs; `name` stands in the record."""

    name: str

    def run(self, jobs: Iterable[bytes]) -> Iterator[tuple[int, bytes | Lost]]:
        """Judges jobs; yields the number of each, from 0 in the order they came, with its judgement, as they end."""
        ...

    def close(self) -> None:
        """Ends the workers that were started here."""
        ...


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class InlineExecutor:
    """Judges in this process, one job after the other."""

    name = "inline"

    def run(self, jobs: Iterable[bytes]) -> Iterator[tuple[int, bytes | Lost]]:
        """See `Executor.run`."""
        for number, job in enumerate(jobs):
            yield number, run_job(job)

    def close(self) -> None:
        """Nothing was started."""


@dataclass
class _Task:
    number: int
    job: bytes
    attempts: int = 0


class _Worker:
    """A process of the pool, and its end of the socket."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            package = str(Path(__file__).resolve().parents[1])
            path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
            self.process = subprocess.Popen(
                [sys.executable, "-m", "autograde.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, **ONE_THREAD, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the process that started it
            )
        self.connection = Connection(ours.detach())
        self.task: _Task | None = None

    def give(self, task: _Task) -> None:
        self.task = task
        task.attempts += 1
        with contextlib.suppress(OSError):  # it is dead: waiting for its answer will tell
            self.connection.send_bytes(task.job)

    def answer(self) -> bytes | None:
        """The judgement, or None if the process has died."""
        try:
            return self.connection.recv_bytes()
        except (EOFError, OSError):
            return None

    def close(self) -> None:
        self.connection.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class PoolExecutor:
    """Judges in processes of this machine, each with one thread.

    Args: workers: how many; 0 for one per core. A worker that dies is replaced and its job run again.
    """

    name = "pool"

    def __init__(self, workers: int = 0) -> None:
        self.workers = workers or cores()
        self.pool: list[_Worker] = []

    def run(self, jobs: Iterable[bytes]) -> Iterator[tuple[int, bytes | Lost]]:
        """See `Executor.run`."""
        source = (_Task(number, job) for number, job in enumerate(jobs))
        prepared: collections.deque[_Task] = collections.deque()
        while True:
            self._hand_out(prepared)
            busy = [worker for worker in self.pool if worker.task is not None]
            more = next(source, None) if len(prepared) + len(busy) < 2 * self.workers else None
            if more is not None:
                prepared.append(more)
                continue  # prepares the next ones while the workers work
            if not busy:
                return
            done = self._answers(busy, prepared)
            self._hand_out(prepared)
            yield from done

    def _hand_out(self, prepared: collections.deque[_Task]) -> None:
        free = [worker for worker in self.pool if worker.task is None]
        while prepared and (free or len(self.pool) < self.workers):
            if not free:
                self.pool.append(_Worker())
                free = [self.pool[-1]]
            free.pop().give(prepared.popleft())

    def _answers(
        self, busy: list[_Worker], prepared: collections.deque[_Task]
    ) -> list[tuple[int, bytes | Lost]]:
        """What workers have finished; the jobs of dead ones go to the front of the queue again, or are lost."""
        ready = wait([worker.connection for worker in busy])
        done: list[tuple[int, bytes | Lost]] = []
        for worker in [worker for worker in busy if worker.connection in ready]:
            task, answer = worker.task, worker.answer()
            assert task is not None
            worker.task = None
            if answer is not None:
                done.append((task.number, answer))
                continue
            self.pool.remove(worker)
            worker.close()
            if task.attempts < ATTEMPTS:
                prepared.appendleft(task)
            else:
                done.append((task.number, Lost(f"{task.attempts} workers died while they judged it")))
        return done

    def close(self) -> None:
        """Ends the pool's processes."""
        for worker in self.pool:
            worker.connection.close()
        for worker in self.pool:
            worker.close()
        self.pool.clear()


class DaskExecutor:
    """Judges on the workers of a Dask cluster, each of which must have one thread.

    Args:   scheduler: its address, such as tcp://10.0.0.5:8786. patience_seconds: how long there may be no worker.
    Raises: ExecutorError if `distributed` is missing, no scheduler answers there, or a worker has several threads.
    """

    name = "dask"

    def __init__(self, scheduler: str, patience_seconds: float = 120.0) -> None:
        self.patience_seconds = patience_seconds
        try:
            from distributed import Client
        except ImportError as error:
            raise ExecutorError("Dask is not installed: pip install distributed") from error
        if not scheduler:
            raise ExecutorError("say where Dask's scheduler is: --scheduler tcp://HOST:8786")
        try:
            self.client: Any = Client(scheduler, timeout=10, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise ExecutorError(f"no Dask scheduler answers at {scheduler}: {error}") from error
        try:
            self._slots()
        except ExecutorError:
            self.close()
            raise

    def _slots(self) -> int:
        workers = self._workers()
        several = [address for address, worker in workers.items() if worker["nthreads"] != 1]
        if several:
            told = "start each with `dask worker ADDRESS --nthreads 1`"
            raise ExecutorError(f"Dask workers with more than one thread, {', '.join(several)}: {told}")
        return max(1, len(workers))

    def _workers(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.scheduler_info(n_workers=-1)["workers"]
        return found

    def run(self, jobs: Iterable[bytes]) -> Iterator[tuple[int, bytes | Lost]]:
        """See `Executor.run`.

        Raises: ExecutorError if there was no worker for longer than the patience.
        """
        source = enumerate(jobs)
        numbers: dict[Any, int] = {}
        while True:
            while len(numbers) < 2 * self._slots() and (item := next(source, None)) is not None:
                future = self.client.submit(run_job, item[1], pure=False, retries=ATTEMPTS - 1)
                numbers[future] = item[0]
            if not numbers:
                return
            for future in self._finished(list(numbers)):
                error = future.exception()
                answer = future.result() if error is None else Lost(f"{type(error).__name__}: {error}")
                yield numbers.pop(future), answer
                future.release()

    def _finished(self, futures: list[Any]) -> list[Any]:
        """Those that are done, at least one; workers that went are waited for a while, since they may come back."""
        from distributed import wait as wait_for

        last_seen = time.monotonic()
        while True:
            try:
                with self.client.as_current():
                    done = wait_for(
                        futures, timeout=min(2.0, self.patience_seconds), return_when="FIRST_COMPLETED"
                    ).done
                return list(done)
            except TimeoutError:
                if self._workers():
                    last_seen = time.monotonic()
                elif time.monotonic() - last_seen > self.patience_seconds:
                    raise ExecutorError(
                        f"no Dask worker has been there for {self.patience_seconds:g} s: start some with `dask worker "
                        "ADDRESS --nthreads 1` and run the same command again; what was judged is kept"
                    ) from None

    def close(self) -> None:
        """Leaves the cluster, which goes on."""
        self.client.close()
