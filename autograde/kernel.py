"""One Python kernel in the sandbox, reached over Unix sockets in a run directory of its own.

How a kernel starts is in `Kernel._launch` alone: a kernel forked off a warm process takes the place of `Popen` there.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import psutil
import zmq
from jupyter_client.blocking.client import BlockingKernelClient
from nbformat.notebooknode import NotebookNode

from autograde.limits import Limits
from autograde.outputs import OutputBuffer
from autograde.rundir import CONNECTION, SOCKETS, RunDirectory
from autograde.sandbox import ENVIRONMENT, Mode, command, environment

__all__ = ["CellRun", "Kernel", "KernelStartError", "Status"]

Status = Literal["ok", "error", "timeout", "flood", "died"]
MESSAGE_BYTES = 64 * 1024 * 1024  # a longer one ends the connection, and that the cell
OUTPUT_SECONDS = 5.0  # how long after a cell's reply the end of its output is waited for
CHANNELS = ("shell_port", "iopub_port", "stdin_port", "hb_port", "control_port")
PRELUDE = """\
import random as _r, sys as _s
_r.seed({seed})
try:
    import numpy as _n
    _n.random.seed({seed} % 2**32)
    del _n
except ImportError:
    pass
_s.path.append("")
del _r, _s
"""


class KernelStartError(RuntimeError):
    """The kernel did not come up; the harness or the machine is at fault, not the submission."""


@dataclass(frozen=True)
class CellRun:
    """What came of one cell: `timeout` and `flood` were stopped by us, `died` ended its kernel."""

    status: Status
    seconds: float
    outputs: list[NotebookNode] = field(default_factory=list)
    kernel_alive: bool = True


class Kernel:
    """A running kernel; use it as a context manager, or call `close`.

    Args:   run: its directory. mode: how it is shut in, see `sandbox.available`. seed: of Python's and numpy's
            random numbers.
    Raises: KernelStartError if it does not answer within `limits.start_seconds`.
    """

    def __init__(self, run: RunDirectory, mode: Mode, limits: Limits, seed: int = 0) -> None:
        self.limits = limits
        self._run = run
        self._mode = mode
        self._context = zmq.Context()
        self._context.setsockopt(zmq.MAXMSGSIZE, MESSAGE_BYTES)
        self._context.setsockopt(zmq.LINGER, 0)
        self._client = BlockingKernelClient(context=self._context)
        try:
            self._process = self._launch(seed)
            self._connect()
            self.execute(PRELUDE.format(seed=seed), limits.start_seconds)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _launch(self, seed: int) -> subprocess.Popen[bytes]:
        shared = {
            "transport": "ipc",
            "key": uuid.uuid4().hex,
            "signature_scheme": "hmac-sha256",
            "kernel_name": "",
        }
        ports = {channel: number for number, channel in enumerate(CHANNELS, start=1)}
        outside = {**shared, **ports, "ip": str(self._run.sockets / "k")}
        inside = outside if self._mode == "none" else {**outside, "ip": f"{SOCKETS}/k"}
        connection = self._run.path / "connection.json"
        connection.write_text(json.dumps(inside), encoding="utf-8")
        self._client.load_connection_info(cast(Any, outside))
        seen = str(connection) if self._mode == "none" else CONNECTION
        arguments = ["-m", "ipykernel_launcher", "-f", seen, "--HistoryManager.enabled=False"]
        arguments += ["--InteractiveShellApp.ignore_cwd=True", "--InteractiveShell.cache_size=0"]
        mounts = [] if self._mode == "none" else self._run.mounts()
        with open(self._run.path / "log", "ab") as log:
            return subprocess.Popen(
                command(self._mode, self.limits, mounts, arguments),
                env=environment(self._mode, seed),
                cwd=self._run.work if self._mode == "none" else None,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _connect(self) -> None:
        """Waits until the kernel answers on its shell and is heard on its output socket."""
        self._client.start_channels(stdin=False, hb=False)
        self._monitor = self._client.iopub_channel.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        deadline = time.monotonic() + self.limits.start_seconds
        answered = heard = False
        while not (answered and heard):
            if not self.alive or time.monotonic() > deadline:
                raise KernelStartError(f"the kernel did not start: {self._last_words()}")
            self._client.kernel_info()
            for channel, _ in self._messages(0.25):
                answered = answered or channel == "shell"
                heard = heard or channel == "iopub"
        if self._mode == "root":
            self._run.sockets.chmod(0o755)  # from now on the student's user id can put nothing there

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self._run.path / "log").read_text(errors="replace").strip().splitlines()
            return lines[-1][:500] if lines else "it said nothing"
        return "it left no log"

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def execute(self, source: str, seconds: float, wall_seconds: float | None = None) -> CellRun:
        """Runs a cell and waits for its end.

        Args:    seconds: of processor time, then the cell is interrupted, and the kernel killed if that does not help.
                 wall_seconds: of wall time, the same.
        Returns: a CellRun. It never raises for what the cell did.
        """
        start = time.monotonic()
        clock = _Clock(self._process.pid, seconds, seconds if wall_seconds is None else wall_seconds)
        buffer = OutputBuffer(self.limits.output_bytes, self._machine_paths())
        run = _Execution(self._client.execute(source, allow_stdin=False), buffer)
        status = self._wait(run, clock)
        if status in ("timeout", "flood"):
            self._interrupt()
            grace = self.limits.grace_seconds
            ended = self._wait(run, _Clock(self._process.pid, grace, grace), stopping=True)
            if ended not in ("ok", "error"):
                self._kill()
        return CellRun(status, time.monotonic() - start, run.buffer.nodes(), self.alive)

    def _machine_paths(self) -> dict[str, str]:
        """What a traceback would tell of this machine, and what it says instead."""
        return {
            str(self._run.path): "~",
            str(Path(sys.prefix)): ENVIRONMENT,
            str(Path(sys.base_prefix)): "/usr",
        }

    def _wait(self, run: _Execution, clock: _Clock, stopping: bool = False) -> Status:
        """Takes messages until the cell has ended, its reply and its last output received."""
        while not (run.reply and run.idle):
            now = time.monotonic()
            if not self.alive:
                return "died"
            if self._cut_off() or self._run.is_misused():
                return "flood"  # a message was too long, or files were put where only sockets belong
            if run.reply and now > run.replied + OUTPUT_SECONDS:
                return "flood"  # more came than the connection holds
            if run.received_bytes > self.limits.flood_bytes and not stopping:
                return "flood"
            if not run.reply and clock.is_over():
                return "timeout"
            for channel, frames in self._messages(0.25):
                self._take(run, channel, frames)
        return "ok" if run.reply == "ok" else "error"

    def _cut_off(self) -> bool:
        """Whether the kernel lives but its output no longer arrives."""
        if not self._monitor.poll(0):
            return False
        for _ in range(10):
            if not self.alive:
                return False
            time.sleep(0.1)
        return True

    def _messages(self, seconds: float) -> Iterator[tuple[str, list[bytes]]]:
        sockets = {
            self._client.shell_channel.socket: "shell",
            self._client.iopub_channel.socket: "iopub",
        }
        poller = zmq.Poller()
        for socket in sockets:
            poller.register(socket, zmq.POLLIN)
        for socket, _ in poller.poll(int(seconds * 1000)):
            yield sockets[socket], socket.recv_multipart()

    def _take(self, run: _Execution, channel: str, frames: list[bytes]) -> None:
        size = sum(map(len, frames))
        if channel == "iopub":
            run.received_bytes += size
            if size > self.limits.output_bytes:
                run.buffer.truncated = True
                return
        try:
            _, body = self._client.session.feed_identities(frames)
            message: dict[str, Any] = self._client.session.deserialize(body)
            run.take(channel, message, size)
        except Exception:  # whatever the student's process sent in place of a message, it is no message
            return

    def _interrupt(self) -> None:
        message = self._client.session.msg("interrupt_request", {})
        self._client.control_channel.send(message)

    def _kill(self) -> None:
        process = getattr(self, "_process", None)
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def close(self) -> None:
        """Kills the kernel and everything it started."""
        self._kill()
        with contextlib.suppress(Exception):
            self._client.iopub_channel.socket.disable_monitor()
            self._client.stop_channels()
        self._context.destroy(linger=0)
        self._run.clear()


class _Clock:
    """Tells when a cell has used up its time.

    Args: pid: of the kernel's first process. seconds: of processor time, of all its processes together.
          wall_seconds: whatever it was doing.
    """

    def __init__(self, pid: int, seconds: float, wall_seconds: float) -> None:
        self._pid, self._start = pid, time.monotonic()
        self._wall_seconds, self._seconds = wall_seconds, min(seconds, wall_seconds)
        self._used = self._processor_seconds() if self._seconds < wall_seconds else 0.0

    def is_over(self) -> bool:
        """Whether the time is up; processor time is looked at only when as much wall time has passed."""
        wall = time.monotonic() - self._start
        if wall <= self._seconds:
            return False
        return wall > self._wall_seconds or self._processor_seconds() - self._used > self._seconds

    def _processor_seconds(self) -> float:
        total = 0.0
        with contextlib.suppress(psutil.Error):
            first = psutil.Process(self._pid)
            for process in (first, *first.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    times = process.cpu_times()
                    total += times.user + times.system + times.children_user + times.children_system
        return total


@dataclass
class _Execution:
    """A cell on its way."""

    message_id: str
    buffer: OutputBuffer
    reply: str = ""
    replied: float = 0.0
    idle: bool = False
    received_bytes: int = 0

    def take(self, channel: str, message: dict[str, Any], size: int) -> None:
        if message["parent_header"].get("msg_id") != self.message_id:
            return
        kind, content = message["header"]["msg_type"], message["content"]
        if channel == "shell":
            self.reply, self.replied = str(content.get("status", "error")), time.monotonic()
        elif kind == "status":
            self.idle = self.idle or content.get("execution_state") == "idle"
        else:
            self.buffer.add(kind, content, size)
