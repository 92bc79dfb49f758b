"""Writes coursekit/assets/course_ledger.json: the rows that the built lessons 01 to 14 show in their ledgers.

Run it after lessons were built and before building lesson 15, which draws these rows beside the student's. Times are
left out: a row has only what another run measures alike.
"""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).resolve().parents[1]
ASSET = ROOT / "coursekit" / "assets" / "course_ledger.json"
LAST = "15-compression-pipeline"
CELL = re.compile(r"<t[hd][^>]*>(.*?)</t[hd]>", re.DOTALL)


def shown_rows(notebook: Path) -> list[dict[str, Any]]:
    """The rows of the ledger that a built notebook shows, as `Entry` takes them."""
    found = []
    for cell in nbformat.read(notebook, as_version=4).cells:
        for output in cell.get("outputs", []):
            table = output.get("data", {}).get("text/html", "")
            head, *body = [
                [unescape(text) for text in CELL.findall(line)] for line in table.split("<tr")[1:]
            ] or [[]]
            if head[:3] == ["lesson", "step", "accuracy"]:
                found += [dict(zip(head, row, strict=True)) for row in body]
    return [_entry(row) for row in found]


def course_rows() -> list[dict[str, Any]]:
    """The rows of all lessons but the last, in their order."""
    notebooks = sorted((ROOT / "solutions").glob("*/*.ipynb"), key=lambda path: path.name)
    return [row for path in notebooks if path.stem < LAST for row in shown_rows(path)]


def _entry(row: dict[str, str]) -> dict[str, Any]:
    counts = {"size_bytes": "bytes", "macs": "MACs", "nonzero": "non-zero"}
    numbers = {
        name: None if row[shown] == "–" else int(row[shown].replace(",", ""))
        for name, shown in counts.items()
    }
    return {
        "lesson": row["lesson"], "step": row["step"], "accuracy": float(row["accuracy"]), **numbers, "by": "reference",
    }  # fmt: skip


if __name__ == "__main__":
    rows = course_rows()
    content = {"format": 1, "rows": rows}
    ASSET.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
    print(f"{ASSET.relative_to(ROOT)}: {len(rows)} rows")
