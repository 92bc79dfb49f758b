"""Student processes: forked off a warm one, or started cold, inside the walls either way.

A pod is one sandbox with one process in it that has imported torch, IPython and what else coursekit imports. For each
submission it forks; the fork takes the build of coursekit that is withheld for its notebook, shuts itself in
(`autograde.inside.jail`) and then is what a cold process is, so that marks cannot depend on which it was. One pod
serves the notebooks of all lessons.
"""

from __future__ import annotations

import array
import ast
import atexit
import contextlib
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograde.limits import Limits
from autograde.rundir import PASSWD, RunDirectory
from autograde.sandbox import COURSE, Mode, Mount, command, environment, limited, nobody, warm_command
from autograde.withhold import withheld_build

__all__ = ["Pod", "PodError", "Process", "Usage", "close_pods", "shared_pod", "start_cold"]

JOBS, COURSES = "/run/jobs", "/run/courses"
PRELOAD = ("numpy", "torch", "matplotlib.pyplot")
REAP_SECONDS = 10.0
KEPT = 2  # pods a process keeps warm


class PodError(RuntimeError):
    """A process did not come up; the harness or the machine is at fault, not the submission."""


@dataclass(frozen=True)
class Usage:
    """What a process took in all; None where nobody measured it."""

    peak_bytes: int | None = None
    cpu_seconds: float | None = None


@dataclass
class Process:
    """A student's process, running: its sockets and how to end it.

    Attributes: pid: on this machine. pidfd: readable once it has ended, or None where there is no such thing.
    """

    channel: socket.socket
    out: int
    err: int
    pid: int
    pidfd: int | None
    popen: subprocess.Popen[bytes] | None = None
    pod: Pod | None = None
    inner_pid: int = 0

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        if self.popen is not None:
            return self.popen.poll() is None
        assert self.pidfd is not None
        return not select.select([self.pidfd], [], [], 0)[0]

    def interrupt(self) -> None:
        """Sends it what Ctrl-C sends."""
        self._signal(signal.SIGINT)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self.pidfd is not None:
                signal.pidfd_send_signal(self.pidfd, number)
            else:
                os.kill(self.pid, number)

    def left_running(self) -> list[int]:
        """Its children; the processes it started and did not wait for."""
        try:
            text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii")
        except OSError:
            return []
        return [int(pid) for pid in text.split() if not _is_zombie(pid)]

    def kill(self) -> None:
        """Kills it and everything it started: it is the first process of its own pid namespace."""
        if self.popen is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.popen.pid, signal.SIGKILL)
            self.popen.wait()
        else:
            self._signal(signal.SIGKILL)
        if self.pidfd is not None:
            select.select([self.pidfd], [], [], REAP_SECONDS)

    def close(self) -> Usage:
        """Kills it, frees what it held, and says what it took."""
        self.kill()
        usage = self.pod.reap(self.inner_pid) if self.pod is not None else Usage()
        self.channel.close()
        for descriptor in (self.out, self.err, self.pidfd):
            if descriptor is not None:
                os.close(descriptor)
        return usage


def _is_zombie(pid: str) -> bool:
    with contextlib.suppress(OSError, IndexError):
        return (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(")")[2]
            .split()[0]
            == "Z"
        )
    return True


class _Ends:
    """The two ends of a process's channel, stdout and stderr."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        out, err = os.pipe(), os.pipe()
        self.out, self.err = out[0], err[0]
        self.handed = [self.theirs.fileno(), out[1], err[1]]
        self.ours.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_PASSCRED", 16), 1)
        for descriptor in (self.out, self.err):
            os.set_blocking(descriptor, False)

    def hand_over(self, control: socket.socket, message: dict[str, Any]) -> None:
        """Sends a job and the inner ends to the process that will serve it."""
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", self.handed))
        try:
            control.sendmsg([json.dumps(message).encode()], [rights])
        finally:
            self._forget()

    def _forget(self) -> None:
        """Closes the inner ends, which are somebody else's now."""
        self.theirs.close()
        while self.handed[1:]:
            os.close(self.handed.pop())

    def greeted(self, seconds: float) -> int:
        """Waits for the first word; the process's pid on this machine, as the system itself states it.

        Raises: PodError if it does not come.
        """
        deadline = time.monotonic() + seconds
        data, pid = b"", 0
        while len(data) < 8 or len(data) < 8 + struct.unpack("!I", data[:4])[0]:
            self.ours.settimeout(max(0.0, deadline - time.monotonic()) or 0.001)
            try:
                part, ancillary, _, _ = self.ours.recvmsg(4096, socket.CMSG_SPACE(12))
            except (TimeoutError, OSError) as error:
                raise PodError("it did not answer in time") from error
            for level, kind, body in ancillary:
                if level == socket.SOL_SOCKET and kind == getattr(socket, "SCM_CREDENTIALS", 2):
                    pid = struct.unpack("3i", body[:12])[0]
            if not part:
                raise PodError("it ended before its first word")
            data += part
        said = json.loads(data[8:])
        if "error" in said:
            raise PodError(said["error"])
        self.ours.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_PASSCRED", 16), 0)
        self.ours.settimeout(None)
        return int(pid)

    def close(self) -> None:
        """Closes all that is open."""
        self._forget()
        self.ours.close()
        os.close(self.out)
        os.close(self.err)


def _arguments(control: int, kind: str, modules: Sequence[str]) -> list[str]:
    return ["-P", "-m", "autograde.inside", str(control), kind, ",".join(modules)]


def _build(course: Path | None) -> Path:
    """The build of coursekit that a sandbox shows; by default one without tests but with every function."""
    return course or withheld_build(frozenset())


def imports_of(package: Path) -> list[str]:
    """What a package's modules import from elsewhere when they are imported."""
    found = set()
    for path in package.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module)
    return sorted(name for name in found if name.split(".")[0] != package.name)


class Pod:
    """A warm process in a sandbox, ready to fork.

    Args:   courses: the folder of all builds of coursekit; a fork sees one of them. modules: what to import once.
    Raises: PodError if it does not come up, or may not make namespaces.
    """

    def __init__(
        self, mode: Mode, courses: Path, modules: Sequence[str] = PRELOAD, limits: Limits | None = None
    ) -> None:
        self.mode, self.courses, self._lock = mode, courses, threading.RLock()
        self.owner = os.getpid()
        self.folder = Path(tempfile.mkdtemp(prefix="pod-"))
        self.jobs, empty = self.folder / "jobs", self.folder / "empty"
        self.jobs.mkdir()
        empty.mkdir()
        (self.folder / "passwd").write_text(PASSWD, encoding="utf-8")
        limits = limits or Limits()
        mounts = [
            Mount(self.jobs, JOBS),
            Mount(courses, COURSES),
            Mount(empty, f"{COURSE}/coursekit"),  # the place for a fork's build
            Mount(self.folder / "passwd", "/etc/passwd"),
        ]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with open(self.folder / "log", "wb") as log:
            self._popen = subprocess.Popen(
                warm_command(mode, limits, mounts, _arguments(theirs.fileno(), "warm", modules)),
                env=environment(mode),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        theirs.close()
        self._control = ours
        try:
            self._ask(None, limits.start_seconds)
        except PodError as error:
            last = (self.folder / "log").read_text(errors="replace").strip().splitlines()
            self.close()
            raise PodError(f"no warm process: {(last or [str(error)])[-1][:500]}") from error

    @property
    def alive(self) -> bool:
        """Whether it can fork."""
        return self._popen.poll() is None and self.owner == os.getpid()

    def _ask(self, message: dict[str, Any] | None, seconds: float) -> dict[str, Any]:
        try:
            self._control.settimeout(seconds)
            if message is not None:
                self._control.send(json.dumps(message).encode())
            answer = self._control.recv(65_536)
        except (TimeoutError, OSError) as error:
            raise PodError(f"it did not answer: {error}") from error
        if not answer:
            raise PodError("it has ended")
        reply: dict[str, Any] = json.loads(answer)
        if "error" in reply:
            raise PodError(reply["error"])
        return reply

    def start(self, run: RunDirectory, limits: Limits, seed: int, course: Path | None = None) -> Process:
        """Forks a process for a submission whose run directory lies in `jobs`.

        Args:   course: the withheld build of coursekit, in the pod's folder of builds.
        Raises: PodError if that fails.
        """
        job = {
            "op": "job",
            "apart": True,
            "walls": True,
            "folder": f"{run.path.name}/work" if any(run.work.iterdir()) else None,
            "course": _build(course).relative_to(self.courses).as_posix(),
            "scratch_bytes": limits.scratch_bytes,
            "limits": limited(limits),
            "uid": nobody() if self.mode == "root" else None,
            "seed": seed,
        }
        with self._lock:
            ends = _Ends()
            inner = 0
            try:
                ends.hand_over(self._control, job)
                inner = int(self._ask(None, limits.start_seconds)["pid"])
                pid = ends.greeted(limits.start_seconds)
                pidfd = os.pidfd_open(pid)
            except (PodError, OSError) as error:
                ends.close()
                if inner:
                    self.reap(inner)
                raise PodError(str(error)) from error
        return Process(ends.ours, ends.out, ends.err, pid, pidfd, pod=self, inner_pid=inner)

    def reap(self, pid: int) -> Usage:
        """Makes sure that a fork has ended, and says what it took; a pod that cannot is ended itself."""
        with self._lock:
            try:
                said = self._ask({"op": "reap", "pid": pid}, REAP_SECONDS)
            except PodError:
                self.close()
                return Usage()
        return Usage(said.get("peak_bytes"), said.get("cpu_seconds"))

    def close(self) -> None:
        """Ends it and every fork of it."""
        if self.owner != os.getpid():
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        self._control.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def start_cold(
    mode: Mode, course: Path | None, run: RunDirectory, limits: Limits, seed: int, modules: Sequence[str] = ()
) -> Process:
    """A process of its own for one submission, in a sandbox of its own.

    Raises: PodError if it does not come up.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    mounts = [] if mode == "none" else [*run.mounts(), Mount(_build(course), f"{COURSE}/coursekit")]
    ends = _Ends()
    with open(run.path / "log", "ab") as log:
        popen = subprocess.Popen(
            command(mode, limits, mounts, _arguments(theirs.fileno(), "cold", modules)),
            env=environment(mode),
            cwd=run.work if mode == "none" else None,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    theirs.close()
    try:
        ours.settimeout(limits.start_seconds)
        if not ours.recv(65_536):
            raise PodError("it ended at once")
        ends.hand_over(ours, {"op": "job", "apart": False, "walls": mode != "none", "seed": seed})
        pid = ends.greeted(limits.start_seconds) or popen.pid
    except (PodError, OSError) as error:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(popen.pid, signal.SIGKILL)
        popen.wait()
        ends.close()
        last = (run.path / "log").read_text(errors="replace").strip().splitlines()
        raise PodError(f"the process did not start: {(last or [str(error)])[-1][:500]}") from error
    finally:
        ours.close()
    pidfd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
    return Process(ends.ours, ends.out, ends.err, pid, pidfd, popen=popen)


_pods: OrderedDict[tuple[Any, ...], Pod] = OrderedDict()
_failed: set[tuple[Any, ...]] = set()


def shared_pod(mode: Mode, course: Path | None = None, modules: Sequence[str] | None = None) -> Pod | None:
    """This process's warm pod for a mode, started if need be; None where there can be none.

    Args: course: a build of coursekit, whose folder has those of the other lessons too. modules: what to import once;
          by default PRELOAD and all that coursekit imports.
    """
    if mode == "none" or not sys.platform.startswith("linux"):
        return None
    build = _build(course)
    key = (os.getpid(), mode, build.parents[1], modules)
    if key in _failed:
        return None
    pod = _pods.pop(key, None)
    if pod is None or not pod.alive:
        try:
            pod = Pod(mode, build.parents[1], modules or (*PRELOAD, *imports_of(build)))
            _try_out(pod, build)
        except PodError:
            if pod is not None:
                pod.close()
            _failed.add(key)
            return None
    _pods[key] = pod
    while len(_pods) > KEPT:
        _pods.popitem(last=False)[1].close()
    return pod


def _try_out(pod: Pod, build: Path) -> None:
    """One fork, to learn whether namespaces can be nested here."""
    run = RunDirectory(None, pod.jobs)
    try:
        pod.start(run, Limits(), 0, build).close()
    finally:
        run.close()


@atexit.register
def close_pods() -> None:
    """Ends all warm processes of this process."""
    while _pods:
        _pods.popitem()[1].close()
    _failed.clear()
