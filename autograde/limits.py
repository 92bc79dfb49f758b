"""What one submission may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Limits"]

MIB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """The most that running one notebook may take; every number is per notebook unless it says otherwise.

    Args:
        cell_seconds: processor time of one cell, after which it is interrupted.
        patience: how many times as much wall time it may take, so that a mark does not depend on how busy the
            machine is.
        notebook_seconds: wall time of all cells together; what is left then does not run.
        start_seconds: how long a kernel may take to answer for the first time.
        grace_seconds: how long an interrupted cell may take to stop before its kernel is killed.
        restarts: how often a kernel that died is started again.
        output_bytes: how much output of one cell is kept; the rest is cut off, and said to be.
        flood_bytes: how much output one cell may send at all before it is stopped.
        memory_bytes: private writable memory of one process (RLIMIT_DATA; torch needs 0.75 GB of it to start).
        file_bytes: size of one written file. scratch_bytes: all files written to the home folder or to /tmp.
        processes: processes and threads at one time.
        exercise_seconds: by exercise, `cell_seconds` for its cell and its check where they differ.
    """

    cell_seconds: float = 20.0
    patience: float = 3.0
    notebook_seconds: float = 180.0
    start_seconds: float = 60.0
    grace_seconds: float = 3.0
    restarts: int = 12
    output_bytes: int = 1 * MIB
    flood_bytes: int = 20 * MIB
    memory_bytes: int = 3072 * MIB
    file_bytes: int = 200 * MIB
    scratch_bytes: int = 512 * MIB
    processes: int = 128
    exercise_seconds: Mapping[str, float] = field(default_factory=dict, hash=False)

    def cell_seconds_of(self, grade_id: str | None) -> float:
        """The processor time of one cell: its exercise's, or that of any cell."""
        return self.exercise_seconds.get((grade_id or "").removeprefix("check-"), self.cell_seconds)
