"""One student's Python, asked to run cells and to call functions; timed, counted and ended from outside.

Nothing it sends is believed further than that it is an output of its own cells or an answer of its own functions.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import select
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil
from nbformat.notebooknode import NotebookNode

from autograde.inside.wire import HEADER, JSON_BYTES, PAYLOAD_BYTES, frame
from autograde.lent import Lent
from autograde.limits import Limits
from autograde.outputs import OutputBuffer
from autograde.pod import Pod, PodError, Process, Usage, start_cold
from autograde.rundir import RunDirectory
from autograde.sandbox import ENVIRONMENT, Mode

__all__ = ["CallRun", "CellRun", "Kernel", "KernelStartError", "Status"]

Status = Literal["ok", "error", "timeout", "flood", "died"]
READ_BYTES = 1 << 18
CLOCK_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class KernelStartError(RuntimeError):
    """The process did not come up; the harness or the machine is at fault, not the submission."""


@dataclass(frozen=True)
class CellRun:
    """What came of one cell: `timeout` and `flood` were stopped by us, `died` ended its process."""

    status: Status
    seconds: float
    outputs: list[NotebookNode] = field(default_factory=list)
    kernel_alive: bool = True


@dataclass(frozen=True)
class CallRun:
    """What came of one call: its answer if the status is "ok", and what is now in the memory that was lent for it."""

    status: Status
    seconds: float
    answer: dict[str, Any] = field(default_factory=dict)
    payload: bytes = b""
    left: bytes = b""


class Kernel:
    """A running process; use it as a context manager, or call `close`.

    Args:   run: its directory; one that lies in the pod's `jobs` if there is a pod. mode: how it is shut in, see
            `sandbox.available`. seed: of Python's, numpy's and torch's random numbers. course: the withheld build of
            coursekit. pod: a warm process to fork from. modules: what a cold one imports first.
    Raises: KernelStartError if it does not answer within `limits.start_seconds`.
    """

    def __init__(
        self,
        run: RunDirectory,
        mode: Mode,
        limits: Limits,
        seed: int = 0,
        *,
        course: Path | None = None,
        pod: Pod | None = None,
        modules: tuple[str, ...] = ("numpy",),
    ) -> None:
        self.limits, self._run = limits, run
        self.usage = Usage()
        self.odd_frames = 0
        self._number = 0
        self._received = bytearray()
        self._broken = False
        self._closed = False
        try:
            if pod is not None:
                self.process: Process = pod.start(run, limits, seed, course)
            else:
                self.process = start_cold(mode, course, run, limits, seed, modules)
        except PodError as error:
            raise KernelStartError(str(error)) from error
        self.process.channel.setblocking(False)
        self._decoders = {
            descriptor: codecs.getincrementaldecoder("utf-8")("replace")
            for descriptor in (self.process.out, self.process.err)
        }

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether the process runs and can be spoken to."""
        return not self._closed and not self._broken and self.process.alive

    def execute(self, source: str, seconds: float, wall_seconds: float | None = None) -> CellRun:
        """Runs a cell and waits for its end.

        Args:    seconds: of processor time, then the cell is interrupted, and the process killed if that does not help.
                 wall_seconds: of wall time, the same.
        Returns: a CellRun. It never raises for what the cell did.
        """
        start = time.monotonic()
        buffer = OutputBuffer(self.limits.output_bytes, self._machine_paths())
        status, answer, _ = self._ask({"op": "cell", "source": source}, seconds, wall_seconds, buffer=buffer)
        if status == "ok" and answer.get("outcome") != "ok":
            status = "error"
        return CellRun(status, time.monotonic() - start, buffer.nodes(), self.alive)

    def call(
        self, message: dict[str, Any], data: bytes, seconds: float, wall_seconds: float | None = None
    ) -> CallRun:
        """Has a function called on values that lie in memory lent to it; what it prints is thrown away."""
        start = time.monotonic()
        if not data:
            status, answer, payload = self._ask(message, seconds, wall_seconds)
            return CallRun(status, time.monotonic() - start, answer, payload)
        with Lent(data) as lent:
            status, answer, payload = self._ask(message, seconds, wall_seconds, lent=lent)
            return CallRun(status, time.monotonic() - start, answer, payload, lent.read())

    def _ask(
        self,
        message: dict[str, Any],
        seconds: float,
        wall_seconds: float | None,
        *,
        buffer: OutputBuffer | None = None,
        lent: Lent | None = None,
    ) -> tuple[Status, dict[str, Any], bytes]:
        self._number += 1
        try:
            data = frame({**message, "id": self._number})
        except ValueError:  # a cell of megabytes
            return "flood", {}, b""
        exchange = _Exchange(self._number, data, buffer, lent)
        status = self._wait(exchange, _Clock(self.process.pid, seconds, wall_seconds or seconds))
        if status in ("timeout", "flood"):
            if not self._broken:
                self.process.interrupt()
                grace = self.limits.grace_seconds
                stopped = self._wait(exchange, _Clock(self.process.pid, grace, grace), stopping=True)
            if self._broken or stopped not in ("ok", "error"):
                self._end()
        elif status == "died":
            self._end()
        return status, exchange.answer, exchange.payload

    def _end(self) -> None:
        self._broken = True
        self.process.kill()

    def _wait(self, exchange: _Exchange, clock: _Clock, stopping: bool = False) -> Status:
        """Takes what comes until the answer has come."""
        process = self.process
        poller = select.poll()
        for descriptor in (process.out, process.err, *([process.pidfd] if process.pidfd is not None else [])):
            poller.register(descriptor, select.POLLIN)
        channel = process.channel.fileno()
        while True:
            self._parse(exchange)
            if self._broken:
                return "flood"
            if exchange.answered:
                self._drain(exchange)
                return "ok"
            if exchange.received_bytes > self.limits.flood_bytes and not stopping:
                return "flood"
            if clock.is_over():
                return "timeout"
            poller.register(channel, select.POLLIN | (select.POLLOUT if exchange.outgoing else 0))
            ready = poller.poll(clock.next_look_ms())
            ended = False
            for descriptor, _ in ready:
                if descriptor == channel:
                    ended = not self._exchange_bytes(exchange) or ended
                elif descriptor == process.pidfd:
                    ended = not select.select([channel], [], [], 0)[0] or ended
                elif not self._read_pipe(descriptor, exchange):
                    poller.unregister(descriptor)
            if ended:
                self._parse(exchange)
                self._drain(exchange)
                return "ok" if exchange.answered and not self._broken else "died"

    def _exchange_bytes(self, exchange: _Exchange) -> bool:
        """Sends and receives what can be at once; whether the connection still stands."""
        with contextlib.suppress(BlockingIOError, InterruptedError):
            try:
                data = self.process.channel.recv(READ_BYTES)
                if not data:
                    return False
                self._received += data
                return True
            except (ConnectionError, OSError) as error:
                if not isinstance(error, BlockingIOError | InterruptedError):
                    return False
        if exchange.outgoing:
            try:
                sent = socket.send_fds(
                    self.process.channel, [exchange.outgoing[:READ_BYTES]], exchange.descriptors
                )
                exchange.outgoing, exchange.descriptors = exchange.outgoing[sent:], []
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:
                return False
        return True

    def _parse(self, exchange: _Exchange) -> None:
        """Takes whole frames off what was received."""
        while len(self._received) >= HEADER.size and not self._broken:
            n_text, n_payload = HEADER.unpack_from(self._received)
            if n_text > JSON_BYTES or n_payload > PAYLOAD_BYTES:
                self._broken = True  # no frame of ours
                return
            size = HEADER.size + n_text + n_payload
            if len(self._received) < size:
                return
            text = bytes(self._received[HEADER.size : HEADER.size + n_text])
            payload = bytes(self._received[HEADER.size + n_text : size])
            del self._received[:size]
            try:
                message = json.loads(text)
            except (ValueError, RecursionError, MemoryError):
                message = None
            if not isinstance(message, dict) or not exchange.take(message, payload, size):
                self.odd_frames += 1

    def _read_pipe(self, descriptor: int, exchange: _Exchange) -> bool:
        """Takes what was written past sys.stdout, by C code or by programs that were started; False at its end."""
        try:
            data = os.read(descriptor, READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        if data:
            name = "stdout" if descriptor == self.process.out else "stderr"
            exchange.add("stream", {"name": name, "text": self._decoders[descriptor].decode(data)}, len(data))
        return bool(data)

    def _drain(self, exchange: _Exchange) -> None:
        for descriptor in (self.process.out, self.process.err):
            for _ in range(64):
                before = exchange.received_bytes
                if not self._read_pipe(descriptor, exchange) or exchange.received_bytes == before:
                    break

    def _machine_paths(self) -> Mapping[str, str]:
        """What a traceback would tell of this machine, and what it says instead."""
        return {
            str(self._run.path): "~",
            str(Path(sys.prefix)): ENVIRONMENT,
            str(Path(sys.base_prefix)): "/usr",
            str(Path(__file__).resolve().parents[1]): "/opt/course",
        }

    def close(self) -> Usage:
        """Kills the process and everything it started; what it took."""
        if not self._closed:
            self._closed = True
            self.usage = self.process.close()
        return self.usage


class _Clock:
    """Tells when time is up.

    Args: pid: of the process. seconds: of processor time, with all its children. wall_seconds: whatever it was doing.
    """

    def __init__(self, pid: int, seconds: float, wall_seconds: float) -> None:
        self._pid, self._start = pid, time.monotonic()
        self._wall_seconds, self._seconds = wall_seconds, min(seconds, wall_seconds)
        self._used = _own_seconds(pid) if self._seconds < wall_seconds else 0.0

    def is_over(self) -> bool:
        """Whether the time is up; processor time is looked at only when as much wall time has passed."""
        wall = time.monotonic() - self._start
        if wall <= self._seconds:
            return False
        return wall > self._wall_seconds or _all_seconds(self._pid) - self._used > self._seconds

    def next_look_ms(self) -> int:
        """How long nothing can be over."""
        wall = time.monotonic() - self._start
        return 1 + int(1000 * max(self._seconds - wall, min(0.25, max(0.0, self._wall_seconds - wall))))


def _own_seconds(pid: int) -> float:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / CLOCK_TICKS


def _all_seconds(pid: int) -> float:
    total = 0.0
    with contextlib.suppress(psutil.Error):
        first = psutil.Process(pid)
        for process in (first, *first.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total


class _Exchange:
    """One request on its way, and what came back for it."""

    def __init__(self, number: int, outgoing: bytes, buffer: OutputBuffer | None, lent: Lent | None) -> None:
        self.number, self.outgoing, self.buffer = number, memoryview(outgoing), buffer
        self.descriptors = [lent.descriptor] if lent is not None else []
        self.answered = False
        self.answer: dict[str, Any] = {}
        self.payload = b""
        self.received_bytes = 0

    def take(self, message: dict[str, Any], payload: bytes, size: int) -> bool:
        """Takes a frame; False if it is none that is waited for."""
        kind = message.get("type")
        if kind == "reply":
            if message.get("id") != self.number or self.answered:
                return False
            self.answered, self.answer, self.payload = True, message, payload
            return True
        if not isinstance(kind, str) or payload:
            return False
        self.add(kind, message, size)
        return True

    def add(self, kind: str, content: Mapping[str, Any], size: int) -> None:
        """Takes an output."""
        self.received_bytes += size
        if self.buffer is not None:
            self.buffer.add(kind, content, size)
