"""docs/coverage.md names only what exists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| [A-Z]", line)
]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_symbol_and_lesson_of_each_row_exist(row):
    module, _, name = row[3].strip("`").rpartition(".")
    assert hasattr(importlib.import_module(module), name)
    assert (ROOT / "lessons" / f"{row[4]}.py").is_file()


def test_every_row_is_complete_and_no_id_stands_twice():
    assert all(len(row) == 5 and all(row) for row in ROWS)
    assert len({row[0] for row in ROWS}) == len(ROWS) >= 10
