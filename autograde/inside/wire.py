"""Frames on a Unix socket: 8 bytes of lengths, a JSON object, and raw bytes. Never pickle.

The harness sends no bytes but a descriptor of the memory they are in, and reads there afterwards what became of them.
"""

from __future__ import annotations

import array
import json
import mmap
import os
import socket
import struct
import threading
from typing import Any

__all__ = ["HEADER", "JSON_BYTES", "PAYLOAD_BYTES", "Channel", "frame"]

HEADER = struct.Struct("!II")  # lengths of the JSON text and of the bytes after it
JSON_BYTES = 2 * 1024 * 1024
PAYLOAD_BYTES = 64 * 1024 * 1024
RIGHTS_BYTES = socket.CMSG_SPACE(array.array("i").itemsize)


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

    def receive(self) -> tuple[dict[str, Any], mmap.mmap | bytes]:
        """The next message, and the memory lent with it.

        Raises: EOFError if the harness has gone.
        """
        header, descriptors = self._exactly(HEADER.size)
        n_text, _ = HEADER.unpack(header)
        text, _ = self._exactly(n_text)
        return json.loads(bytes(text)), _mapped(descriptors)

    def _exactly(self, n_bytes: int) -> tuple[bytearray, list[int]]:
        data, descriptors = bytearray(n_bytes), array.array("i")
        view, done = memoryview(data), 0
        while done < n_bytes:
            got, ancillary, _, _ = self._socket.recvmsg_into([view[done:]], RIGHTS_BYTES)
            if got == 0:
                raise EOFError
            for level, kind, rights in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    descriptors.frombytes(rights[: len(rights) - len(rights) % descriptors.itemsize])
            done += got
        return data, list(descriptors)


def _mapped(descriptors: list[int]) -> mmap.mmap | bytes:
    """The memory behind a descriptor; its writes are seen by whoever lent it."""
    if not descriptors:
        return b""
    try:
        return mmap.mmap(descriptors[0], os.fstat(descriptors[0]).st_size)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
