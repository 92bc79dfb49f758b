"""Bytes lent to a student's process: it works on them where they lie, and the harness reads what became of them.

So whether a function changed a tensor that it was given is not for its own process to say.
"""

from __future__ import annotations

import fcntl
import os
from typing import Self

__all__ = ["Lent"]


class Lent:
    """Memory with a descriptor to hand over; use it as a context manager.

    Args: data: what is in it at first. Its length stays.
    """

    def __init__(self, data: bytes) -> None:
        self.n_bytes = len(data)
        self.descriptor = os.memfd_create("lent", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with open(self.descriptor, "wb", closefd=False) as file:
            file.write(data)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, seals)

    def read(self) -> bytes:
        """What is in it now."""
        return os.pread(self.descriptor, self.n_bytes, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)
