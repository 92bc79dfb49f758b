"""coursekit.workbook: a new release comes in, and nothing a student wrote goes out."""

from __future__ import annotations

import json
import os
import stat

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit import workbook
from coursekit.cells import assign_ids, grade_id, nbgrader_checksum
from coursekit.workbook import REMOVED_HEADING, WorkbookError, backup, merge, read_notebook, start

STUB = "raise NotImplementedError()"


def text(source):
    return nbformat.v4.new_markdown_cell(source)


def demo(source):
    return nbformat.v4.new_code_cell(source, metadata={"tags": ["demo"]})


def graded(name, source=STUB, *, kind="code", solution=True, grade=False, points=1):
    make = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
    meta = {
        "grade_id": name,
        "solution": solution,
        "grade": grade,
        "locked": not solution,
        "schema_version": 3,
    }
    if grade:
        meta["points"] = points
    return make(source, metadata={"nbgrader": meta})


def check(name, source="check()"):
    return graded(f"check-{name}", source, solution=False, grade=True)


def release(*cells):
    """A notebook as a build releases it: lasting ids, nbgrader's checksums."""
    notebook = nbformat.v4.new_notebook(cells=list(cells))
    assign_ids(notebook.cells)
    for cell in notebook.cells:
        if grade_id(cell):
            cell.metadata.nbgrader.checksum = nbgrader_checksum(cell)
    return nbformat.from_dict(json.loads(json.dumps(notebook)))


def sources(notebook):
    return [cell.source for cell in notebook.cells]


def find(notebook, name):
    return next(cell for cell in notebook.cells if grade_id(cell) == name)


@pytest.fixture
def old():
    return release(
        text("# Title"), graded("a"), check("a"), demo("plot(1)"), graded("why", "?", kind="markdown")
    )


def test_her_answers_stay_and_everything_else_is_the_release(old):
    mine = release(*old.cells)
    mine.cells[1].source, mine.cells[4].source = "return 1", "because"
    mine.cells[2].source = "True  # tampered"
    new = release(text("# Better title"), *old.cells[1:2], check("a", "check(2)"), *old.cells[3:])
    merged, notes = merge(new, mine)
    assert sources(merged) == ["# Better title", "return 1", "check(2)", "plot(1)", "because"]
    assert notes == ["kept your answer to a", "kept your answer to why"]
    assert find(merged, "a").metadata == find(new, "a").metadata


def test_an_exercise_she_has_not_begun_gets_the_new_stub(old):
    new = release(old.cells[0], graded("a", "# a hint\n" + STUB), *old.cells[2:])
    assert sources(merge(new, old)[0]) == sources(new)


def test_her_own_cells_stay_behind_the_cell_they_stood_behind(old):
    mine = release(*old.cells)
    mine.cells[4:4] = [nbformat.v4.new_code_cell("mine 2"), text("mine 3")]
    mine.cells.insert(0, text("mine 0"))
    new = release(old.cells[0], text("inserted by the release"), *old.cells[1:])
    merged, notes = merge(new, mine)
    assert sources(merged)[:1] == ["mine 0"]
    assert sources(merged)[5:9] == ["plot(1)", "mine 2", "mine 3", "?"]
    assert notes == ["kept 3 cells of your own"]


def test_a_demo_she_changed_stays_changed_while_the_release_leaves_it_alone(old):
    mine = release(*old.cells)
    mine.cells[3].source = "plot(7)"
    merged, notes = merge(release(*old.cells), mine)
    assert merged.cells[3].source == "plot(7)"
    assert len(notes) == 1
    assert notes[0].startswith("kept your change in demo-")


def test_a_demo_that_both_changed_is_the_releases_with_hers_behind_it(old):
    mine = release(*old.cells)
    mine.cells[3].source = "plot(7)"
    new = release(*old.cells[:3], demo("plot(2)"), old.cells[4])
    assert {"plot(2)", "plot(7)"} <= set(sources(merge(new, mine)[0]))


def test_prose_of_an_older_release_goes(old):
    new = release(text("# Other"), *old.cells[1:])
    assert "# Title" not in sources(merge(new, old)[0])


def test_answers_to_removed_exercises_stand_at_the_end_under_a_heading(old):
    mine = release(*old.cells)
    mine.cells[1].source = "return 1"
    merged, notes = merge(release(old.cells[0], old.cells[3]), mine)
    assert sources(merged)[-2:] == [REMOVED_HEADING, "return 1"]
    assert "nbgrader" not in merged.cells[-1].metadata
    assert notes == ["the release no longer has a; your answers stand at the end"]


def test_of_a_copied_exercise_the_one_she_worked_in_counts_and_no_text_is_lost(old):
    mine = release(*old.cells)
    copied = nbformat.from_dict({**mine.cells[1], "id": "another", "source": "return 2"})
    again = nbformat.from_dict({**mine.cells[1], "id": "athird", "source": "return 3"})
    mine.cells[2:2] = [copied, again]
    merged, _ = merge(old, mine)
    assert find(merged, "a").source == "return 2"
    assert [grade_id(cell) for cell in merged.cells].count("a") == 1
    assert "return 3" in sources(merged)


def test_a_deleted_exercise_comes_back(old):
    mine = release(*old.cells)
    del mine.cells[1:3]
    merged, notes = merge(old, mine)
    assert sources(merged) == sources(old)
    assert notes == ["exercise added: a"]


def test_a_program_that_rewrites_ids_does_not_double_the_prose(old):
    mine = release(*old.cells)
    for number, cell in enumerate(mine.cells):
        cell["id"] = f"cell{number}"
    assert sources(merge(old, mine)[0]) == sources(old)


def test_outputs_stay_with_a_text_that_did_not_change(old):
    mine = release(*old.cells)
    output = nbformat.v4.new_output("stream", text="1\n")
    mine.cells[3].outputs = [output]
    merged, _ = merge(old, mine)
    assert merged.cells[3].outputs == [output]


words = st.text(alphabet="xyz", min_size=1, max_size=6).map(lambda word: f"her {word}")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_line_she_wrote_is_in_the_merged_notebook(data):
    names = ["a", "b", "c"]
    old = release(
        text("# T"), *(cell for name in names for cell in (graded(name), check(name), demo(f"d{name}")))
    )
    mine, written = release(*old.cells), set()
    for index in data.draw(st.sets(st.integers(1, len(mine.cells) - 1))):
        if not mine.cells[index].metadata.get("nbgrader", {}).get("locked"):
            mine.cells[index].source = data.draw(words)
            written.add(mine.cells[index].source)
    for _ in range(data.draw(st.integers(0, 3))):
        own = nbformat.v4.new_code_cell(data.draw(words))
        mine.cells.insert(data.draw(st.integers(0, len(mine.cells))), own)
        written.add(own.source)
    keep = data.draw(st.permutations([cell for cell in old.cells if data.draw(st.booleans())]))
    merged, _ = merge(release(*keep, text("new")), mine)
    assert written <= set(sources(merged))
    assert len({cell["id"] for cell in merged.cells}) == len(merged.cells)
    nbformat.validate(merged)
    assert sources(merge(release(*keep, text("new")), merged)[0]) == sources(merged)


@pytest.fixture
def folders(tmp_path, old):
    """A release folder with one assignment, and a student's folder that is not there yet."""
    folder = tmp_path / "notebooks" / "week1"
    folder.mkdir(parents=True)
    nbformat.write(old, folder / "01-x.ipynb")
    (folder / "data.csv").write_text("1\n", encoding="utf-8")
    return tmp_path / "notebooks", tmp_path / "my-work"


def test_a_first_start_copies_notebooks_and_assets(folders):
    released, work = folders
    report = start("week1", *folders)
    assert report.problems == []
    assert all(line.endswith(": new") for line in report.done)
    for name in ("01-x.ipynb", "data.csv"):
        assert (work / "week1" / name).read_bytes() == (released / "week1" / name).read_bytes()


def test_a_second_start_changes_nothing(folders):
    start("week1", *folders)
    report = start("week1", *folders)
    assert [line.rpartition(": ")[2] for line in report.done] == ["already of this release"]
    assert not list(folders[1].rglob("*.bak"))


def answer(path, source):
    notebook = read_notebook(path)
    find(notebook, "a").source = source
    nbformat.write(notebook, path)


def test_a_new_release_is_merged_and_every_earlier_file_is_kept(folders, old):
    released, work = folders
    start("week1", *folders)
    mine = work / "week1" / "01-x.ipynb"
    answer(mine, "return 1")
    for title in ("# Second", "# Third"):
        nbformat.write(release(text(title), *old.cells[1:]), released / "week1" / "01-x.ipynb")
        (released / "week1" / "data.csv").write_text(title, encoding="utf-8")
        start("week1", *folders)
    assert sources(read_notebook(mine))[:2] == ["# Third", "return 1"]
    kept = [sources(read_notebook(mine.with_name(f"01-x.ipynb{end}")))[0] for end in (".bak", ".2.bak")]
    assert kept == ["# Title", "# Second"]
    assert (mine.parent / "data.csv.bak").read_text(encoding="utf-8") == "1\n"


def test_a_backup_never_overwrites_another(tmp_path):
    path = tmp_path / "x.txt"
    for content in "123":
        path.write_text(content, encoding="utf-8")
        backup(path)
    names = ("x.txt.bak", "x.txt.2.bak", "x.txt.3.bak")
    assert "".join((tmp_path / name).read_text(encoding="utf-8") for name in names) == "123"


BROKEN = {
    "half a file": (b'{"cells": [', "is not a notebook"),
    "no UTF-8": (b"\xff\xfe\x00", "is not a notebook"),
    "a list": (b"[]", "nbformat None"),
    "nbformat 3": (b'{"nbformat": 3, "nbformat_minor": 0, "worksheets": [], "metadata": {}}', "nbformat 3"),
    "nbformat 5": (b'{"nbformat": 5, "nbformat_minor": 0, "cells": [], "metadata": {}}', "nbformat 5"),
    "no cells": (b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}', "damaged"),
    "cells of text": (b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": ["x"]}', "damaged"),
}


@pytest.mark.parametrize(("content", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_copy_is_reported_with_the_mend_and_left_alone(folders, content, said):
    start("week1", *folders)
    mine = folders[1] / "week1" / "01-x.ipynb"
    mine.write_bytes(content)
    (problem,) = start("week1", *folders).problems
    assert said in problem
    assert str(mine) in problem
    assert "coursekit start" in problem
    assert mine.read_bytes() == content


def test_an_unknown_assignment_is_named_with_those_there_are(folders):
    with pytest.raises(WorkbookError, match="no assignment 'week9'; there is: week1"):
        start("week9", *folders)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_named(folders):
    folders[1].mkdir()
    folders[1].chmod(stat.S_IREAD | stat.S_IEXEC)
    with pytest.raises(WorkbookError, match="cannot be written"):
        start("week1", *folders)


def test_a_failed_write_leaves_the_old_file_and_says_what_to_do(folders, old, monkeypatch):
    start("week1", *folders)
    mine = folders[1] / "week1" / "01-x.ipynb"
    answer(mine, "return 1")
    before = mine.read_bytes()
    nbformat.write(release(text("# New"), *old.cells[1:]), folders[0] / "week1" / "01-x.ipynb")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(workbook.os, "replace", refuse)
    with pytest.raises(WorkbookError, match=r"cannot be written: Permission denied\. Make .* writable"):
        start("week1", *folders)
    assert mine.read_bytes() == before
