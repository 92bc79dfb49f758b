"""The record of what was judged and marked: JSON lines, only ever appended to, each holding its predecessor's hash.

A line that was changed, removed, inserted or moved no longer fits its neighbours. What a chain cannot show by itself is
that its end was cut off, or that it was written anew from some line on: keep its head, which `grade` and `verify`
print, somewhere else. See `verify` for how the gradebook is held against it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autograde.digests import digest, json_digest

__all__ = ["START", "Chain", "Damage", "Line", "check_chain", "note_removal", "read_lines"]

START = "0" * 64


@dataclass(frozen=True)
class Line:
    """One line of the file: its number from 1, and the record, or None if it is no JSON object."""

    number: int
    record: dict[str, Any] | None

    def sound(self) -> bool:
        """Whether its hash is that of what it says."""
        if self.record is None:
            return False
        rest = {key: value for key, value in self.record.items() if key != "hash"}
        try:
            return bool(self.record.get("hash") == json_digest(rest))
        except ValueError:
            return False


@dataclass(frozen=True)
class Damage:
    """Something wrong with the file itself."""

    line: int
    what: str


def read_lines(path: Path) -> Iterator[Line]:
    """The file's lines, whatever state it is in; none if it does not exist."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    for number, text in enumerate(data.split(b"\n"), start=1):
        if text.strip():
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                value = None
            yield Line(number, value if isinstance(value, dict) else None)


class Chain:
    """An assignment's record, open for appending. Only one process may hold it; see `lock`.

    What a crash left of a line that was never finished is taken off, and a line says so: nothing had been marked yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.head = START
        self.count = 0
        self._latest: dict[str, dict[str, Any]] = {}
        torn = self._cut_torn_end()
        for line in read_lines(path):
            if line.record is not None:
                self._take(line.record)
        if torn:
            self.append({"kind": "torn", "bytes": len(torn), "digest": digest(torn)})

    def _cut_torn_end(self) -> bytes:
        if not self.path.exists():
            return b""
        data = self.path.read_bytes()
        end = data.rfind(b"\n") + 1
        if end < len(data):
            os.truncate(self.path, end)
        return data[end:]

    def _take(self, record: dict[str, Any]) -> None:
        self.count += 1
        self.head = str(record.get("hash", ""))
        if isinstance(record.get("student"), str):
            self._latest[record["student"]] = record

    def latest(self, student: str) -> dict[str, Any] | None:
        """The last record about a student."""
        return self._latest.get(student)

    def append(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Adds one record and waits until the disk has it.

        Raises: OSError if that fails; then the file is as it was.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        record = {**content, "number": self.count + 1, "time": now, "previous": self.head}
        record["hash"] = json_digest(record)
        text = json.dumps(record, sort_keys=True, ensure_ascii=True).encode("ascii") + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab", buffering=0) as file:
            before = file.seek(0, os.SEEK_END)
            try:
                if file.write(text) != len(text):
                    raise OSError("the disk is full")
                os.fsync(file.fileno())
            except OSError:
                os.ftruncate(file.fileno(), before)
                raise
        self._take(record)
        return record


def note_removal(folder: Path, student: str) -> None:
    """Says in every assignment's chain that has marks of a student that she was taken out of the gradebook."""
    for path in sorted(folder.glob("*.jsonl")):
        chain = Chain(path)
        latest = chain.latest(student)
        if latest is not None and latest.get("kind") == "marks":
            chain.append({"kind": "removed", "student": student})


def check_chain(lines: list[Line]) -> list[Damage]:
    """Where a chain is broken, in the file's order; nothing if it is whole."""
    found: list[Damage] = []
    previous, number = START, 0
    for line in lines:
        record = line.record
        if record is None or not line.sound():
            found.append(
                Damage(line.number, f"record {number + 1} is damaged: it does not have the hash it says")
            )
            number += 1
            claimed = record.get("hash") if record else None
            previous = claimed if isinstance(claimed, str) else ""
            continue
        said = record.get("number")
        if said != number + 1:
            found.append(Damage(line.number, _out_of_step(number, said)))
        elif previous and record.get("previous") != previous:
            found.append(Damage(line.number, f"record {said} does not follow the one before it"))
        previous, number = str(record["hash"]), said if isinstance(said, int) else number + 1
    return found


def _out_of_step(number: int, said: Any) -> str:
    if isinstance(said, int) and said > number + 1:
        missing = (
            f"record {number + 1} is" if said == number + 2 else f"records {number + 1} to {said - 1} are"
        )
        return f"{missing} missing"
    return f"record {said} stands where record {number + 1} should"
