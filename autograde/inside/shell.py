"""An IPython shell that sends what cells show to the harness: the notebook's Python without a Jupyter kernel.

A kernel takes half a second to start, most of it waiting on sockets; this is ready before the fork.
"""

from __future__ import annotations

import base64
import io
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Type
from traitlets.config import Config

from autograde.inside.wire import Channel

__all__ = ["Shell", "Stream", "make_shell"]

CHUNK = 8_192  # characters of text sent at a time
LONGEST_BUNDLE = 1_500_000  # characters of one rich output


class Stream(io.TextIOBase):
    """sys.stdout or sys.stderr: text goes to the harness in the order in which it was printed."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, name: str, descriptor: int) -> None:
        self.name, self._descriptor = name, descriptor
        self._channel: Channel | None = None
        self._waiting: list[str] = []
        self._size, self._sent = 0, 0.0
        self.muted = False
        self.buffer = _Bytes(self)

    def connect(self, channel: Channel) -> None:
        """Sends to this channel from now on."""
        self._channel = channel

    def writable(self) -> bool:
        """True."""
        return True

    def isatty(self) -> bool:
        """False."""
        return False

    def fileno(self) -> int:
        """The descriptor that processes started by a cell write to."""
        return self._descriptor

    def write(self, text: str) -> int:
        """Takes text."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self._channel is None or not self._channel.is_ours:
            os.write(self._descriptor, text.encode("utf-8", "replace"))
            return len(text)
        for start in range(0, len(text), CHUNK):
            part = text[start : start + CHUNK]
            self._waiting.append(part)
            self._size += len(part)
            if self._size >= CHUNK or (part.endswith("\n") and time.monotonic() > self._sent + 0.2):
                self.flush()
        return len(text)

    def flush(self) -> None:
        """Sends what waits."""
        if self._channel is None or not self._channel.is_ours:
            return
        text, self._waiting, self._size = "".join(self._waiting), [], 0
        self._sent = time.monotonic()
        if text and not self.muted:
            self._channel.send({"type": "stream", "name": self.name, "text": text})


class _Bytes(io.RawIOBase):
    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        raw = bytes(data)
        self._stream.write(raw.decode("utf-8", "replace"))
        return len(raw)


class _Sender:
    """What the display publisher, the display hook and the shell send through."""

    channel: Channel | None = None

    def send(self, message: dict[str, Any]) -> None:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, Stream):
                stream.flush()
        if self.channel is not None:
            self.channel.send(message)


SENDER = _Sender()


def _jsonable(data: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for mime, value in data.items():
        if isinstance(value, bytes):
            value = base64.b64encode(value).decode("ascii")
        size = len(value) if isinstance(value, str) else 0
        kept[str(mime)[:100]] = value if size <= LONGEST_BUNDLE else value[:1000] + " … (cut off)"
    return kept


class _Publisher(DisplayPublisher):
    def publish(  # type: ignore[override]
        self, data: Any, metadata: Any = None, *, transient: Any = None, update: bool = False, **_: Any
    ) -> None:
        kind = "update_display_data" if update else "display_data"
        identity = (transient or {}).get("display_id")
        SENDER.send({"type": kind, "data": _jsonable(data), "transient": {"display_id": identity}})

    def clear_output(self, wait: bool = False) -> None:
        SENDER.send({"type": "clear_output", "wait": bool(wait)})


class _Hook(DisplayHook):
    def write_output_prompt(self) -> None:
        """Nothing: the harness numbers results."""

    def write_format_data(self, format_dict: Any, md_dict: Any = None) -> None:
        SENDER.send({"type": "execute_result", "data": _jsonable(format_dict)})

    def finish_displayhook(self) -> None:
        self._is_active = False


class Shell(InteractiveShell):
    """IPython's shell without terminal, history or colours."""

    display_pub_class = Type(_Publisher)
    displayhook_class = Type(_Hook)

    def _showtraceback(self, etype: Any, evalue: Any, stb: Any) -> None:
        name = getattr(etype, "__name__", str(etype))
        lines = stb if isinstance(stb, list) else str(stb).splitlines()
        SENDER.send({
            "type": "error",
            "ename": name,
            "evalue": str(evalue)[:5000],
            "traceback": [str(x)[:20_000] for x in lines[-200:]],
        })

    def ask_exit(self) -> None:
        """Nothing: exit() in a cell ends no notebook."""


def make_shell() -> Shell:
    """The shell of this process; its namespace is the module __main__."""
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.cache_size = 0
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.autoindent = False
    config.InteractiveShell.xmode = "Context"
    shell: Shell = Shell.instance(config=config, parent=None)
    return shell
