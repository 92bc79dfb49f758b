"""Whatever a file holds, it becomes plain cells or a reason."""

from __future__ import annotations

import json

import nbformat
import pytest

from coursekit.mending.notebookfile import BrokenNotebook, parse


def as_bytes(**parts: object) -> bytes:
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []} | parts).encode()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_file"),
        (b" \n", "empty_file"),
        (b"\xff\xfe{", "not_utf8"),
        (b'{"cells": [], \x00', "nul_bytes"),
        (b'{"cells": [', "broken_json"),
        (b"[" * 200_000, "broken_json"),
        (b"[1, 2]", "not_a_notebook"),
        (as_bytes(cells="none"), "not_a_notebook"),
        (as_bytes(nbformat=5), "foreign_version"),
        (as_bytes(nbformat=True), "foreign_version"),
        (as_bytes(nbformat=None), "foreign_version"),
        (as_bytes(nbformat=3, worksheets=7), "foreign_version"),
        (b'{"nbformat": ' + b"9" * 10_000 + b"}", "broken_json"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_is_no_notebook_is_refused_with_its_kind(data, code):
    with pytest.raises(BrokenNotebook) as refusal:
        parse(data)
    assert refusal.value.code == code


def test_a_byte_order_mark_is_no_fault():
    assert parse(b"\xef\xbb\xbf" + as_bytes()).cells == []


def test_a_version_3_notebook_is_brought_up_to_date():
    cell = {
        "cell_type": "code",
        "input": ["a = 1\n", "b"],
        "outputs": [],
        "language": "python",
        "metadata": {},
    }
    old = as_bytes(nbformat=3, nbformat_minor=0, worksheets=[{"cells": [cell]}])
    notebook = parse(old)
    assert [(c.kind, c.source) for c in notebook.cells] == [("code", "a = 1\nb")]
    assert notebook.notes == ("upgraded",)


def test_a_later_minor_version_is_read():
    assert parse(as_bytes(nbformat_minor=99)).notes == ()


def test_cells_of_every_wrong_kind_become_plain_cells():
    cells = [
        {"cell_type": "code", "source": ["a", 1, "b"], "metadata": []},
        {"cell_type": "widget", "source": None, "id": 7},
        {"cell_type": "markdown", "source": "x\x00\ud800y", "metadata": {"nbgrader": "yes", "tags": "demo"}},
        {"metadata": {"nbgrader": {"grade_id": ["a"]}, "tags": ["ok", 3]}},
        "no cell",
    ]
    notebook = parse(as_bytes(cells=cells))
    assert [(c.kind, c.source) for c in notebook.cells] == [
        ("code", "ab"),
        ("markdown", ""),
        ("markdown", "x?y"),
        ("markdown", ""),
    ]
    assert [c.grade_id for c in notebook.cells] == [None] * 4
    assert [c.tags for c in notebook.cells] == [(), (), (), ("ok",)]
    assert notebook.notes == ("odd_cells",)


def test_only_pictures_stay_attached():
    attachments = {
        "a.png": {"image/png": "AAAA"},
        "b": {"text/html": "x"},
        '"><b>': {"image/png": "AAAA"},
        "c": {"image/png": '"'},
    }
    cell = nbformat.v4.new_markdown_cell("![](attachment:a.png)") | {"attachments": attachments}
    assert parse(as_bytes(cells=[cell])).cells[0].attachments == {"a.png": {"image/png": "AAAA"}}
