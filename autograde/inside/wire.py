"""Frames on a Unix socket: 8 bytes of lengths, a JSON object, and raw bytes. Never pickle."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from typing import Any

__all__ = ["HEADER", "JSON_BYTES", "PAYLOAD_BYTES", "Channel", "frame"]

HEADER = struct.Struct("!II")  # lengths of the JSON text and of the bytes after it
JSON_BYTES = 2 * 1024 * 1024
PAYLOAD_BYTES = 64 * 1024 * 1024


def frame(message: dict[str, Any], payload: bytes = b"") -> bytes:
    """The bytes of one frame.

    Raises: ValueError if it is longer than the other side takes.
    """
    text = json.dumps(message).encode("ascii")
    if len(text) > JSON_BYTES or len(payload) > PAYLOAD_BYTES:
        raise ValueError(f"a frame of {len(text)} + {len(payload)} bytes is too long")
    return HEADER.pack(len(text), len(payload)) + text + payload


class Channel:
    """The inner end of the connection to the harness."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._owner = os.getpid()
        self._lock = threading.RLock()

    @property
    def is_ours(self) -> bool:
        """Whether this is the process that was given the connection, and not one forked off it."""
        return os.getpid() == self._owner

    def send(self, message: dict[str, Any], payload: bytes = b"") -> None:
        """Sends one frame; a forked process sends nothing."""
        if self.is_ours:
            data = frame(message, payload)
            with self._lock:
                self._socket.sendall(data)

    def receive(self) -> tuple[dict[str, Any], bytes]:
        """The next frame.

        Raises: EOFError if the harness has gone.
        """
        n_text, n_payload = HEADER.unpack(self._exactly(HEADER.size))
        text = self._exactly(n_text)
        return json.loads(bytes(text)), bytes(self._exactly(n_payload))

    def _exactly(self, n_bytes: int) -> bytearray:
        data = bytearray(n_bytes)
        view, done = memoryview(data), 0
        while done < n_bytes:
            got = self._socket.recv_into(view[done:])
            if got == 0:
                raise EOFError
            done += got
        return data
