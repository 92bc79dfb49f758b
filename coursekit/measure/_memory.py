"""Peak memory of a call, as the operating system counts it."""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


def _give_back_free_memory() -> None:
    """Returns what was freed but kept by the C library, so that using it again counts."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc; other C libraries have no such call
        trim(0)


def _status_bytes(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"this kernel does not report {field}; peak_memory cannot measure here")
    return 1024 * int(found.group(1))


def peak_memory(function: Callable[[], Any]) -> int:
    """The bytes by which the process's resident memory rises at its highest while `function` runs.

    Linux keeps the highest resident set of a process (VmHWM). It is reset, the function is called once,
    and what was resident before is subtracted. So it counts everything: tensors, workspaces, code paged in
    on first use (call the function once before, to leave that out), and threads that happen to run at the
    same time. It does not count memory that is asked for but never written to. Exact to about 1 MB.

    Args:    function: called once without arguments, in this process; its result is dropped.
    Returns: bytes, 0 or more.
    Raises:  RuntimeError where the kernel offers no such counter (macOS, Windows).
    """
    try:
        _give_back_free_memory()
        _CLEAR_REFS.write_text("5", encoding="ascii")  # 5 resets VmHWM, see proc_pid_clear_refs(5)
        before = _status_bytes("VmRSS")
    except OSError as error:
        raise RuntimeError(
            f"peak_memory needs Linux with a writable {_CLEAR_REFS} ({error}); run it there or in a container"
        ) from error
    result = function()
    peak = _status_bytes("VmHWM")
    del result
    return max(0, peak - before)
