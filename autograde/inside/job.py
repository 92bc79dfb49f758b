"""One submission's process: runs its cells and calls its functions as the harness asks, until the harness is gone."""

from __future__ import annotations

import functools
import os
import signal
import sys
import warnings
from mmap import mmap
from typing import Any

from autograde.inside.codec import Unsendable, decode, digests, encode
from autograde.inside.seal import Seal
from autograde.inside.shell import SENDER, Shell, Stream
from autograde.inside.wire import Channel

__all__ = ["Job"]

LONGEST_MESSAGE = 2000


class Job:
    """Serves one channel.

    Args: shell: a fresh one. streams: its stdout and stderr.
    """

    def __init__(self, channel: Channel, shell: Shell, streams: tuple[Stream, Stream]) -> None:
        self.channel, self.shell, self.streams = channel, shell, streams
        self._handles: list[Any] = []
        self._seal = Seal()
        self._busy = False
        SENDER.channel = channel
        for stream in streams:
            stream.connect(channel)
        sys.stdout, sys.stderr = streams
        signal.signal(signal.SIGINT, self._interrupted)

    def _interrupted(self, *_: Any) -> None:
        if self._busy:
            raise KeyboardInterrupt

    def serve(self) -> None:
        """Answers requests until the connection ends."""
        while True:
            try:
                message, payload = self.channel.receive()
            except (EOFError, OSError):
                return
            try:
                reply, data = self._answer(message, payload)
            except KeyboardInterrupt:
                reply, data = {"outcome": "raised", "error": "KeyboardInterrupt", "message": ""}, b""
            if not self.channel.is_ours:  # forked by a cell, and come back here
                os._exit(0)
            for stream in self.streams:
                stream.flush()
            self.channel.send({"type": "reply", "id": message.get("id"), **reply}, data)

    def _answer(self, message: dict[str, Any], payload: mmap | bytes) -> tuple[dict[str, Any], bytes]:
        self._busy = True
        try:
            if message["op"] == "cell":
                return self._cell(message["source"]), b""
            return self._quietly(message, payload)
        finally:
            self._busy = False

    def _cell(self, source: str) -> dict[str, Any]:
        sys.stdout, sys.stderr = self.streams
        result = self.shell.run_cell(source, store_history=True)
        return {"outcome": "ok" if result.success else "error"}

    def _quietly(self, message: dict[str, Any], payload: mmap | bytes) -> tuple[dict[str, Any], bytes]:
        """A call; what her function prints while it is tested is shown to nobody, since it could show the tests."""
        for stream in self.streams:
            stream.muted = True
        try:
            return self._call(message, payload)
        finally:
            for stream in self.streams:
                stream.flush()
                stream.muted = False

    def _call(self, message: dict[str, Any], payload: mmap | bytes) -> tuple[dict[str, Any], bytes]:
        tree = message["arguments"]
        try:
            if message.get("fixture") is not None:
                self._seal.check()
            function = self._target(message)
            handle = self._handle if message.get("fixture") is None else self._looked_at
            arguments, named = decode(tree, payload, opaque=handle, make=_fixture, shared=True)
            if message["op"] == "get":
                return self._result(function, [])
            if not callable(function):
                return {"outcome": "no function", "error": type(function).__name__}, b""
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a warning is no mistake
                result = function(*arguments, **named)
            return self._result(result, digests(arguments))
        except _Missing:
            return {"outcome": "missing"}, b""
        except NotImplementedError:
            return {"outcome": "not written"}, b""
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return {"outcome": "raised", "error": type(error).__name__, "message": _text(error)}, b""

    def _target(self, message: dict[str, Any]) -> Any:
        """What is called: a name of the notebook or an object handed out before, then down a path of attributes."""
        if message.get("handle") is not None:
            target = self._handles[message["handle"]]
        elif message.get("fixture") is not None:
            target = functools.partial(_fixture, message["fixture"])
        else:
            target = self.shell.user_ns.get(message["name"])
            if target is None:
                raise _Missing
        for attribute in message.get("path", ()):
            target = getattr(target, attribute)
        return target

    def _handle(self, body: Any) -> Any:
        return self._handles[body["h"]]

    def _looked_at(self, body: Any) -> Any:
        """An object that a fixture will look at."""
        value = self._handles[body["h"]]
        self._seal.check_object(value)
        return value

    def _keep(self, value: Any, name: str) -> dict[str, Any]:
        """Hands out a number for an object that stays here."""
        self._handles.append(value)
        return {"h": len(self._handles) - 1, "n": name, "c": callable(value)}

    def _result(self, value: Any, after: list[Any]) -> tuple[dict[str, Any], bytes]:
        try:
            tree, data = encode(value, opaque=self._keep)
        except Unsendable as reason:
            tree, data = {"o": {"h": None, "n": str(reason), "c": False}}, b""
        return {"outcome": "value", "value": tree, "digests": after}, data


def _fixture(name: str, *args: Any) -> Any:
    from coursekit.fixtures import make  # only where a test wants one

    return make(name, *args)


class _Missing(Exception):
    """There is no such name."""


def _text(error: BaseException) -> str:
    try:
        return str(error)[:LONGEST_MESSAGE]
    except BaseException:
        return ""
