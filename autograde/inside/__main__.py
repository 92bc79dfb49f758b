"""`python -m autograde.inside FD warm|cold MODULES`: waits on a socket for jobs and forks one process for each.

Warm: everything is imported once, and each job is a fork in namespaces of its own. Cold: this very process is the job.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import json
import os
import random
import signal
import socket
import sys
from typing import Any

from autograde.inside import jail
from autograde.inside.job import Job
from autograde.inside.shell import Shell, Stream, make_shell
from autograde.inside.wire import Channel

JOBS, HOME, WORK = "/run/jobs", "/home/student", "/home/student/work"
COURSES, COURSE = "/run/courses", "/opt/course/coursekit"
MESSAGE_BYTES = 65_536
N_DESCRIPTORS = 3  # a job's channel, stdout and stderr


def main(control: int, kind: str, modules: str) -> None:
    """Serves jobs until the harness is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if kind == "cold":
        jail.end_with_parent()
    harness = socket.socket(fileno=control)
    harness.set_inheritable(False)
    sys.argv = [""]
    for name in filter(None, modules.split(",")):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
        _warm_up(sys.modules["torch"])
    shell = make_shell()
    shell.run_cell(
        "raise NotImplementedError()  # IPython reads its formatters of errors now, not in every fork"
    )
    shell.execution_count = 1
    streams = (Stream("stdout", 1), Stream("stderr", 2))
    gc.collect()
    gc.freeze()  # so that a job's own collections leave these pages shared
    harness.send(
        json.dumps({
            "ready": True,
            "tasks": len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0,
        }).encode()
    )
    if kind == "warm":
        _fork_jobs(harness, shell, streams)
    else:
        message, descriptors = _receive(harness)
        if message is not None:
            harness.close()
            _run(message, descriptors, shell, streams)


def _warm_up(torch: Any) -> None:
    """Has torch and IPython make their tables once, before the fork; with one thread this starts no other."""
    _make_optimizers(torch)
    x = torch.linspace(-1.0, 1.0, 12).reshape(3, 4)
    str(x.round().clamp(-1, 1).to(torch.int8).float().abs().amax(dim=(1,), keepdim=True) / 2)
    x.square().mean().item()
    torch.manual_seed(0)
    torch.isclose(x.double(), x.double()).all()


def _make_optimizers(torch: Any) -> None:
    """One of each class: the first wraps its class's step, and the first of all imports torch's compiler for seconds
    and puts a torch.manual_seed of its own in place. The seal would take both for the student's doing.
    """
    for kind in vars(torch.optim).values():
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer):
            with contextlib.suppress(Exception):  # the base class, and what wants other arguments
                kind([torch.zeros(1, 1, requires_grad=True)], lr=0.1)


def _receive(harness: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    size = socket.CMSG_SPACE(N_DESCRIPTORS * 4)
    data, ancillary, _, _ = harness.recvmsg(MESSAGE_BYTES, size)
    if not data:
        return None, []
    descriptors = array.array("i")
    for level, kind, body in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(body[: len(body) - len(body) % 4])
    return json.loads(data), list(descriptors)


def _fork_jobs(harness: socket.socket, shell: Shell, streams: tuple[Stream, Stream]) -> None:
    jail.adopt_orphans()
    while True:
        message, descriptors = _receive(harness)
        if message is None:
            return
        if message["op"] == "reap":
            harness.send(json.dumps(_reap(message["pid"])).encode())
            continue
        try:
            pid = jail.fork_apart()
        except OSError as error:
            harness.send(json.dumps({"error": str(error)}).encode())
            continue
        if pid == 0:
            try:
                harness.close()
                _run(message, descriptors, shell, streams)
            finally:
                os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)
        harness.send(json.dumps({"pid": pid}).encode())


def _reap(pid: int) -> dict[str, Any]:
    """Ends a job for certain, and says what it took."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    try:
        _, status, usage = os.wait4(pid, 0)
    except ChildProcessError:
        return {"status": None}
    seconds = usage.ru_utime + usage.ru_stime
    return {"status": status, "peak_bytes": usage.ru_maxrss * 1024, "cpu_seconds": seconds}


def _run(job: dict[str, Any], descriptors: list[int], shell: Shell, streams: tuple[Stream, Stream]) -> None:
    """Shuts itself in and serves the job's channel."""
    channel, out, err = descriptors
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (out, 1), (err, 2)):
        os.dup2(source, target)
        os.close(source)
    connection = socket.socket(fileno=channel)
    connection.set_inheritable(False)
    try:
        if job["apart"]:
            folder = f"{JOBS}/{job['folder']}" if job["folder"] else None
            shown = {COURSE: f"{COURSES}/{job['course']}"}
            jail.mount_apart(folder, JOBS, HOME, WORK, job["scratch_bytes"], shown)
            jail.limit(job["limits"])
            jail.drop_rights(job["uid"])
        filtered = job["walls"] and jail.forbid_calls()
    except OSError as error:
        Channel(connection).send({"type": "hello", "error": str(error)})
        return
    importlib.invalidate_caches()
    _seed(job["seed"])
    sys.path.append("")
    Channel(connection).send({"type": "hello", "filtered": filtered})
    Job(Channel(connection), shell, streams).serve()


def _seed(seed: int) -> None:
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
