"""The student's ledger: one row for every step of the two weeks, in one JSON file."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import pandas as pd
import platformdirs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Entry", "Ledger", "course_rows"]

Author = Literal["yours", "reference"]
_FORMAT = 1
_COURSE = Path(__file__).parent / "assets" / "course_ledger.json"
_GROUPS = {"yours": "yours", "reference": "our function, your run"}
_OURS = "ours, not in your ledger yet"


@dataclass(frozen=True)
class Entry:
    """One row of the ledger: what one step of one lesson measured; None where it measured nothing.

    Attributes: lesson, step: name the row, such as "01-affine-quantization" and "int8, per channel".
                accuracy: 0 to 1. size_bytes: of the file. macs: for one input. nonzero: parameters that
                are not zero. latency_ratio: to the unchanged network; below 1 is faster.
                by: "yours" if the student's own function did it, else "reference".
    Raises:     ValueError if a name is empty, a number is out of range or not finite, nothing was
                measured, or by is something else.
    """

    lesson: str
    step: str
    accuracy: float | None = None
    size_bytes: int | None = None
    macs: int | None = None
    nonzero: int | None = None
    latency_ratio: float | None = None
    by: Author = "yours"

    def __post_init__(self) -> None:
        for name in ("lesson", "step"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"{name} must be a name, got {value!r}")
        if self.by not in get_args(Author):
            raise ValueError(f"by must be 'yours' or 'reference', got {self.by!r}")
        numbers = {
            f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("lesson", "step", "by")
        }
        if all(value is None for value in numbers.values()):
            raise ValueError(f"nothing was measured for {self.step!r}; give its accuracy or size_bytes")
        for name, value in numbers.items():
            if value is None:
                continue
            kind = int if name in ("size_bytes", "macs", "nonzero") else (int, float)
            fits = isinstance(value, kind) and not isinstance(value, bool)
            if not fits or not math.isfinite(value) or value < 0:
                wanted = "an int" if kind is int else "a finite float"
                raise ValueError(f"{name} must be {wanted} of at least 0, got {value!r}")
        if self.accuracy is not None and self.accuracy > 1:
            raise ValueError(f"accuracy is a share from 0 to 1, got {self.accuracy}; divide per cent by 100")


class Ledger:
    """The rows of every lesson so far, shown as a table in Jupyter and as text elsewhere.

    Rows are ordered by lesson, then by when a step was first added, so running lessons again or in another
    order gives the same table. Open it with `Ledger.open()`.
    """

    def __init__(self, path: Path, rows: list[Entry], problem: str | None = None) -> None:
        self.path = path
        self.problem = problem
        self._rows = rows

    @classmethod
    def open(cls, path: str | os.PathLike[str] | None = None) -> Ledger:
        """The ledger kept at `path`, by default $COURSEKIT_LEDGER or ledger.json in the user's data folder.

        A file that is not there yet is an empty ledger. A damaged one is moved aside, to a name ending in
        .bak, and said so in print and in `problem`; so is one that cannot be read, which is left alone.
        """
        chosen = path or os.environ.get("COURSEKIT_LEDGER")
        where = Path(chosen) if chosen else platformdirs.user_data_path("coursekit", False) / "ledger.json"
        ledger = cls(where, [])
        ledger._read()
        return ledger

    @property
    def rows(self) -> tuple[Entry, ...]:
        """The rows in their order."""
        return tuple(sorted(self._rows, key=lambda row: row.lesson))

    def add(
        self,
        *,
        step: str,
        lesson: str,
        accuracy: float | None = None,
        size_bytes: int | None = None,
        macs: int | None = None,
        nonzero: int | None = None,
        latency_ratio: float | None = None,
        by: Author = "yours",
    ) -> None:
        """Adds a row, or replaces the one of the same lesson and step, and writes the file.

        If the file cannot be written, the row is kept in memory and the reason printed.

        Args:   as the attributes of `Entry`.
        Raises: ValueError as `Entry`; the ledger is then unchanged.
        """
        row = Entry(lesson, step, accuracy, size_bytes, macs, nonzero, latency_ratio, by)
        if self.problem is None:
            self._read()  # another notebook may have written since
        for i, old in enumerate(self._rows):
            if (old.lesson, old.step) == (lesson, step):
                self._rows[i] = row
                break
        else:
            self._rows.append(row)
        self._write()

    def table(self) -> pd.DataFrame:
        """The rows as a DataFrame of strings to read; "smaller" is against the first row that has bytes."""
        sizes = [row.size_bytes for row in self.rows if row.size_bytes]
        first = sizes[0] if sizes else 0
        shown = [
            {
                "lesson": row.lesson,
                "step": row.step,
                "accuracy": _text(row.accuracy, "{:.4f}"),
                "bytes": _text(row.size_bytes, "{:,}"),
                "smaller": f"{first / row.size_bytes:.1f}×" if row.size_bytes else "–",
                "non-zero": _text(row.nonzero, "{:,}"),
                "MACs": _text(row.macs, "{:,}"),
                "latency ratio": _text(row.latency_ratio, "{:.2f}"),
                "by": row.by,
            }
            for row in self.rows
        ]
        return pd.DataFrame(shown)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return self.table().to_string(index=False) if self._rows else "The ledger is empty."

    def _repr_html_(self) -> str:
        if not self._rows:
            return "<p>The ledger is empty.</p>"
        note = f"<p>Not saved: {escape(self.problem)}</p>" if self.problem else ""
        return self.table().to_html(index=False, border=0) + note

    def plot(
        self, *, title: str = "The network so far", beside: Iterable[Entry] = (), ax: Axes | None = None
    ) -> Axes:
        """The Pareto plot of the rows that have an accuracy and a size; returns the Axes.

        Args:   title: the claim the figure makes. ax: where to draw, a new figure by default.
                beside: rows to draw too, as a group of their own, such as `course_rows()`; not those of a lesson
                and step that the ledger has. All points are then named by their lessons' numbers.
        Raises: ValueError if no row has both.
        """
        from coursekit.plot import pareto  # matplotlib is slow to import and not needed to keep books

        known, extra = {(row.lesson, row.step) for row in self.rows}, tuple(beside)
        drawn = [{**asdict(row), "who": _GROUPS[row.by] if extra else row.by} for row in self.rows]
        drawn += [{**asdict(row), "who": _OURS} for row in extra if (row.lesson, row.step) not in known]
        both = [row for row in drawn if row["accuracy"] is not None and row["size_bytes"] is not None]
        if not both:
            raise ValueError("no row has both accuracy and size_bytes; run a lesson's ledger cell first")
        for row in both if extra else ():
            row["step"] = row["lesson"].split("-")[0]
        return pareto(both, title=title, name="step", group="who", ax=ax)

    def _read(self) -> None:
        """Takes the rows from the file, if there is one."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        except UnicodeDecodeError:
            text = ""
        except OSError as error:
            self._tell(f"{self.path} cannot be read ({error.strerror}).")
            return
        try:
            self._rows = _parse(text)
        except (ValueError, RecursionError) as error:
            kept = _free_name(self.path)
            try:
                os.replace(self.path, kept)
            except OSError as failed:
                self._tell(f"{self.path} is damaged ({error}) and cannot be moved ({failed.strerror}).")
            else:
                print(f"{self.path} was damaged ({error}). It is kept as {kept.name}; a new ledger begins.")

    def _write(self) -> None:
        if self.problem is not None:
            return
        content = {"format": _FORMAT, "rows": [asdict(row) for row in self.rows]}
        temporary: str | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=".ledger-", suffix=".json", dir=self.path.parent)
            with open(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
            os.replace(temporary, self.path)  # whole or not at all
        except OSError as error:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
            self._tell(f"{self.path} cannot be written ({error.strerror}).")

    def _tell(self, reason: str) -> None:
        self.problem = (
            f"{reason} Rows are kept until this notebook's kernel stops. "
            "Set COURSEKIT_LEDGER to a file you may write, and restart the kernel."
        )
        print(self.problem)


def _text(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _parse(text: str) -> list[Entry]:
    """The rows in a ledger file's text.

    Raises: ValueError if it is not one.
    """
    content: Any = json.loads(text)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f"it is not a ledger of format {_FORMAT}")
    try:
        return [Entry(**row) for row in content["rows"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"a row does not fit: {error}") from error


def _free_name(path: Path) -> Path:
    """path.bak, or path.bak2, path.bak3, … whichever does not exist yet."""
    candidates = (path.with_name(f"{path.name}.bak{n if n > 1 else ''}") for n in range(1, 10_000))
    return next(each for each in candidates if not each.exists())


def course_rows() -> tuple[Entry, ...]:
    """The rows of the ledger that lessons 01 to 14 made when the course was built; all by "reference".

    Lesson 15 draws those that are not in a student's ledger yet. Times are not among what they hold.
    """
    return tuple(_parse(_COURSE.read_text(encoding="utf-8")))
