"""A submitted folder becomes well-formed notebooks, whatever is in it, and nothing of it is run or followed."""

from __future__ import annotations

import json
import os
import sys

import nbformat
import pytest

from autograde.intake import Caps, normal_name, read_release, take_in
from tests.autograde.tinycourse import ANSWERS, ASSIGNMENT, LESSON


@pytest.fixture
def accept(course_template, tmp_path):
    """Takes in what `fill(folder)` put into a submission."""
    released = read_release(course_template / "notebooks" / ASSIGNMENT)

    def run(fill, **options):
        folder = tmp_path / "submitted" / "ada" / ASSIGNMENT
        folder.mkdir(parents=True, exist_ok=True)
        fill(folder)
        target = tmp_path / "intake" / "ada" / ASSIGNMENT
        return take_in(folder, released, target, student="ada", assignment=ASSIGNMENT, **options)

    return run


def codes(intake) -> list[str]:
    return [finding.code for finding in intake.findings]


def square(intake) -> str:
    notebook = nbformat.read(intake.folder / f"{LESSON}.ipynb", as_version=4)
    nbformat.validate(notebook)
    return next(
        c.source for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == "square"
    )


@pytest.mark.parametrize(
    "name",
    [
        "00-mini (1).ipynb",
        "Copy of 00-mini.ipynb",
        "00-MINI.ipynb",
        "00_mini-Copy2.ipynb",
        "ada lovelace.ipynb",
        "sub/00-mini.ipynb",
    ],
)
def test_a_renamed_notebook_is_recognised(accept, right, name):
    def fill(folder):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(nbformat.writes(right()), encoding="utf-8")

    intake = accept(fill)
    assert intake.sources == {LESSON: name}
    assert square(intake) == ANSWERS["square"]
    assert codes(intake) == ["renamed"]
    assert not intake.needs_human


def test_of_two_files_the_one_she_worked_in_counts_and_somebody_looks(accept, right, release):
    def fill(folder):
        (folder / f"{LESSON}.ipynb").write_text(nbformat.writes(release), encoding="utf-8")
        (folder / f"{LESSON} (1).ipynb").write_text(nbformat.writes(right()), encoding="utf-8")

    intake = accept(fill)
    assert square(intake) == ANSWERS["square"]
    assert codes(intake) == ["renamed", "second_notebook"]
    assert intake.needs_human


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_file"),
        (b"{", "broken_json"),
        (b"\xff", "not_utf8"),
        (b"{\x00}", "nul_bytes"),
        (None, "missing_notebook"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_where_there_is_no_notebook_the_blank_one_stands_in_and_somebody_looks(accept, release, data, code):
    intake = accept(lambda folder: data is None or (folder / f"{LESSON}.ipynb").write_bytes(data))
    blank = next(
        c.source for c in release.cells if c.metadata.get("nbgrader", {}).get("grade_id") == "square"
    )
    assert square(intake) == blank
    assert intake.sources == {LESSON: None}
    assert codes(intake) == [code]
    assert intake.needs_human


def test_the_report_tells_the_student_what_was_mended(accept, right):
    intake = accept(
        lambda folder: (folder / "x (1).ipynb").write_text(nbformat.writes(right()), encoding="utf-8")
    )
    first = nbformat.read(intake.folder / f"{LESSON}.ipynb", as_version=4).cells[0]
    assert "`x (1).ipynb` was taken for `00-mini.ipynb`" in first.source


def test_the_record_lists_what_was_found(accept):
    intake = accept(lambda folder: None)
    record = json.loads((intake.folder / "intake.json").read_text(encoding="utf-8"))
    assert record["needs_human"] is True
    assert record["notebooks"] == {LESSON: None}
    assert set(record["findings"][0]) == {"code", "message", "notebook", "grade_id", "human"}


@pytest.mark.skipif(sys.platform == "win32", reason="needs links and pipes")
def test_links_and_pipes_are_left_out(accept, right, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("the gradebook", encoding="utf-8")

    def fill(folder):
        (folder / "link.txt").symlink_to(secret)
        (folder / "all").symlink_to(tmp_path)
        (folder / f"{LESSON}.ipynb").symlink_to(secret)
        os.mkfifo(folder / "pipe")

    intake = accept(fill)
    kept = {path.name for path in intake.folder.rglob("*")}
    assert kept == {f"{LESSON}.ipynb", "intake.json"}
    assert codes(intake).count("link") == 4
    assert b"the gradebook" not in b"".join(path.read_bytes() for path in intake.folder.iterdir())


def test_files_beyond_the_caps_are_left_out(accept, right):
    def fill(folder):
        (folder / f"{LESSON}.ipynb").write_text(nbformat.writes(right()), encoding="utf-8")
        (folder / "big").write_bytes(b"x" * 200_000)
        deep = folder.joinpath(*"abc")
        deep.mkdir(parents=True)
        (deep / "low").write_bytes(b"x")

    intake = accept(fill, caps=Caps(file_bytes=100_000, depth=3))
    assert sorted(codes(intake)) == ["too_deep", "too_large"]
    assert square(intake) == ANSWERS["square"]


def test_a_file_in_a_place_that_is_not_hers_is_left_out(accept, right):
    def fill(folder):
        (folder / f"{LESSON}.ipynb").write_text(nbformat.writes(right()), encoding="utf-8")
        (folder / "minicheck.py").mkdir()
        (folder / "minicheck.py" / "x").write_text("1", encoding="utf-8")
        (folder / "timestamp.txt").write_text("not a time", encoding="utf-8")
        (folder / "helper.py").write_text("x = 1", encoding="utf-8")

    intake = accept(fill)
    assert {path.name for path in intake.folder.rglob("*")} == {f"{LESSON}.ipynb", "intake.json", "helper.py"}


def test_originals_are_not_touched(accept, right):
    def fill(folder):
        (folder / "x.ipynb").write_text(nbformat.writes(right()), encoding="utf-8")

    intake = accept(fill)
    folder = intake.folder.parents[2] / "submitted" / "ada" / ASSIGNMENT
    assert {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()} == {
        "x.ipynb": nbformat.writes(right())
    }


def test_the_digest_changes_with_a_byte_of_any_file(accept):
    first = accept(lambda folder: (folder / "a").write_bytes(b"1")).digest
    assert accept(lambda folder: None).digest == first
    assert accept(lambda folder: (folder / "a").write_bytes(b"2")).digest != first


def test_a_name_made_of_copy_marks_only_is_kept():
    assert normal_name("copy") == "copy"
    assert normal_name("Copy of copy (2)") == "copy"
