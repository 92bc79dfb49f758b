"""A worker process of the local pool: jobs in over a socket, judgements out, nothing else.

Started as `python -m autograde.worker DESCRIPTOR`. When the process that started it is gone, so is it, and its sandbox.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
from multiprocessing.connection import Connection

import psutil

from autograde.jobs import run_job

__all__ = ["main"]


def main(descriptor: int) -> None:
    """Judges what comes over the socket until its other end is closed."""
    connection = Connection(descriptor)
    inbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    busy = threading.Event()

    def read() -> None:
        try:
            while True:
                inbox.put(connection.recv_bytes())
        except (EOFError, OSError):
            inbox.put(None)
            if busy.is_set():  # nobody waits for this judgement any more
                _kill_children()
                os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    while (job := inbox.get()) is not None:
        busy.set()
        connection.send_bytes(run_job(job))
        busy.clear()


def _kill_children() -> None:
    """Ends what this process started; a kernel without a sandbox would go on by itself."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()


if __name__ == "__main__":
    main(int(sys.argv[1]))
