"""`coursekit doctor NOTEBOOK` finds what intake would repair, and its mend loses nothing a student wrote."""

from __future__ import annotations

import copy
import json

import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_output
from nbgrader import utils

from coursekit import checkup, cli
from coursekit.checkup import HER_TURN, TELL, examine_notebook, mend_notebook
from coursekit.mending import CODES, kinds
from coursekit.workbook import WorkbookError, start
from tests.autograde.tinycourse import ANSWERS, ASSIGNMENT, LESSON

# The answers of the one lesson that is mended here.
MINE = {name: ANSWERS[name] for name in ("square", "negate", "why")}


@pytest.fixture
def her(course, tmp_path, monkeypatch):
    """Her folder after `coursekit start`, with no clone of the course in sight."""
    start(ASSIGNMENT, course / "notebooks", tmp_path / "work")
    monkeypatch.setattr(checkup, "ROOT", tmp_path / "nowhere")
    return tmp_path / "work" / ASSIGNMENT


def save(her, notebook, name=f"{LESSON}.ipynb"):
    path = her / name
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return path


def at(notebook, name):
    return next(
        i for i, c in enumerate(notebook.cells) if c.metadata.get("nbgrader", {}).get("grade_id") == name
    )


def cell(notebook, name):
    return notebook.cells[at(notebook, name)]


def copied(original, source=None):
    twin = copy.deepcopy(original)
    twin.source = source or twin.source
    return twin


def codes(path):
    return [finding.code for finding in examine_notebook(path).findings]


def mended(path):
    """The notebook after the mend, which leaves nothing to mend."""
    found = examine_notebook(path)
    mend_notebook(found)
    assert examine_notebook(found.target).mendable == ()
    return nbformat.read(found.target, as_version=4)


def duplicate(nb):
    nb.cells.insert(at(nb, "square") + 1, copied(cell(nb, "square"), "def square(x):\n    return x ** 2"))


def delete(nb):
    del nb.cells[at(nb, "check-negate")]


def retype(nb):
    nb.cells[at(nb, "negate")] = nbformat.from_dict(
        {k: v for k, v in cell(nb, "negate").items() if k not in ("outputs", "execution_count")}
        | {"cell_type": "markdown"}
    )


def repoint(nb):
    cell(nb, "check-square").metadata.nbgrader.grade_id = "check-negate"


def unname(nb):
    answer = cell(nb, "square")
    answer.metadata.pop("nbgrader")
    answer["id"] = "new"


def write_in_check(nb):
    cell(nb, "check-square").source = "def my_own_thoughts():\n    return 42"


def same_ids(nb):
    nb.cells[0]["id"] = nb.cells[1]["id"]


def break_metadata(nb):
    cell(nb, "square").metadata = "broken"


DAMAGE = {
    "duplicated": duplicate,
    "check_restored": delete,
    "retyped": retype,
    "metadata_reset": repoint,
    "answer_adopted": unname,
    "check_reset": write_in_check,
    "invalid": same_ids,
}


@pytest.mark.parametrize("code", DAMAGE)
def test_each_kind_of_damage_is_found_and_mended(code, her, right):
    notebook = right()
    DAMAGE[code](notebook)
    path = save(her, notebook)
    assert code in codes(path)
    again = mended(path)
    assert [cell(again, name).source for name in MINE if name != "square" or code != "duplicated"] == [
        text for name, text in MINE.items() if name != "square" or code != "duplicated"
    ]


def test_metadata_that_is_no_metadata_is_mended(her, right):
    notebook = right()
    break_metadata(notebook)
    path = save(her, notebook)
    assert "invalid" in codes(path)
    assert cell(mended(path), "square").source == ANSWERS["square"]


def test_a_notebook_as_it_was_handed_out_and_answered_has_nothing_to_mend(her, right, capsys):
    path = save(her, right())
    before = path.read_bytes()
    assert cli.main(["doctor", str(path), "--mend"]) == 0
    assert "nothing to mend" in capsys.readouterr().out
    assert path.read_bytes() == before and not list(her.glob("*.bak"))


def test_without_mend_nothing_is_written(her, right, capsys):
    notebook = right()
    delete(notebook)
    path = save(her, notebook)
    before = {each: each.read_bytes() for each in her.rglob("*") if each.is_file()}
    assert cli.main(["doctor", str(path)]) == 1
    assert "This check is gone" in capsys.readouterr().out
    assert {each: each.read_bytes() for each in her.rglob("*") if each.is_file()} == before


def test_the_file_before_is_kept_byte_for_byte(her, right):
    notebook = right()
    delete(notebook)
    path = save(her, notebook)
    before = path.read_bytes()
    assert cli.main(["doctor", str(path), "--mend"]) == 0
    assert (her / f"{LESSON}.ipynb.bak").read_bytes() == before


def test_both_versions_of_an_answer_stay_and_only_one_is_graded(her, right):
    notebook = right()
    duplicate(notebook)
    again = mended(save(her, notebook))
    sources = [each.source for each in again.cells]
    assert "def square(x):\n    return x ** 2" in sources and ANSWERS["square"] in sources
    assert sum(each.metadata.get("nbgrader", {}).get("grade_id") == "square" for each in again.cells) == 1


def test_what_she_wrote_into_a_check_stays_below_it(her, right):
    notebook = right()
    write_in_check(notebook)
    again = mended(save(her, notebook))
    place = at(again, "check-square")
    assert again.cells[place].source == 'check("square")'
    assert "my_own_thoughts" in again.cells[place + 1].source
    assert "nbgrader" not in again.cells[place + 1].metadata


def test_outputs_of_cells_that_did_not_change_stay(her, right):
    notebook = right()
    cell(notebook, "square").outputs = [new_output("stream", name="stdout", text="seen\n")]
    delete(notebook)
    assert cell(mended(save(her, notebook)), "square").outputs[0].text == "seen\n"


def test_a_copy_under_another_name_gets_its_own_name(her, right):
    (her / f"{LESSON}.ipynb").unlink()
    path = save(her, right(), f"{LESSON} (1).ipynb")
    assert codes(path) == ["renamed"]
    mended(path)
    assert not path.exists() and (her / f"{LESSON}.ipynb").exists() and (her / f"{path.name}.bak").exists()


def test_of_two_notebooks_of_one_lesson_she_chooses_and_neither_is_touched(her, right):
    path = save(her, right(), f"{LESSON} (1).ipynb")
    other = (her / f"{LESSON}.ipynb").read_bytes()
    assert codes(path) == ["second_notebook"]
    assert cli.main(["doctor", str(path), "--mend"]) == 1
    assert path.exists() and (her / f"{LESSON}.ipynb").read_bytes() == other


def test_what_cannot_be_read_is_said_and_left(her, capsys):
    path = her / f"{LESSON}.ipynb"
    path.write_bytes(path.read_bytes()[:100])
    assert cli.main(["doctor", str(path), "--mend"]) == 1
    assert "only a part of it arrived" in capsys.readouterr().err
    assert len(path.read_bytes()) == 100


def test_without_a_release_to_compare_with_it_says_where_it_looked(tmp_path, monkeypatch, right):
    monkeypatch.setattr(checkup, "ROOT", tmp_path / "nowhere")
    path = save(tmp_path, right(), "lonely.ipynb")
    with pytest.raises(WorkbookError, match="--release FILE"):
        examine_notebook(path)


def test_the_release_of_the_clone_goes_before_the_one_that_start_recorded(course, her, right, monkeypatch):
    path = save(her, right())
    assert examine_notebook(path).release == her / ".release" / f"{LESSON}.ipynb"
    monkeypatch.setattr(checkup, "ROOT", course)
    assert examine_notebook(path).release == course / "notebooks" / ASSIGNMENT / f"{LESSON}.ipynb"


def test_every_code_that_a_repair_can_give_has_words_for_the_student():
    given_by_files = {
        "unknown_notebook missing_notebook empty_file not_utf8 nul_bytes broken_json not_a_notebook "
        "foreign_version link too_large too_deep unreadable bad_name"
    }
    assert set(CODES) - set(*map(str.split, given_by_files)) <= set(TELL)
    assert set(HER_TURN) <= set(TELL)


def test_a_cells_kind_is_what_nbgrader_takes_it_for():
    names = ("grade", "solution", "locked", "task")
    for bits in range(16):
        meta = {name: bool(bits >> place & 1) for place, name in enumerate(names)}
        each = new_code_cell("", metadata={"nbgrader": meta})
        for name in names:
            ask = f"is_{name}"
            assert getattr(kinds, ask)(each) == bool(getattr(utils, ask)(each)), meta
    assert not kinds.is_anchor(new_code_cell("x"))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["copy", "delete", "move", "edit", "retype", "strip", "swap_id"]),
        st.integers(0, 20),
        st.integers(0, 20),
    ),
    max_size=8,
)


def disturb(notebook, steps):
    """Her notebook after some strokes of the keyboard; returns the texts that are hers."""
    for number, (what, first, second) in enumerate(steps):
        if not notebook.cells:
            break
        i, j = first % len(notebook.cells), second % len(notebook.cells)
        if what == "copy":
            notebook.cells.insert(j, copy.deepcopy(notebook.cells[i]))
        elif what == "delete":
            del notebook.cells[i]
        elif what == "move":
            notebook.cells.insert(j, notebook.cells.pop(i))
        elif what == "edit":
            notebook.cells[i].source = f"def square(x):\n    return {number}"
        elif what == "retype":
            notebook.cells[i].cell_type = ("code", "markdown", "raw")[j % 3]
        elif what == "strip":
            notebook.cells[i].metadata.pop("nbgrader", None)
        else:
            notebook.cells[i]["id"] = notebook.cells[j]["id"]
    return {each.source for each in notebook.cells}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_happened_the_mend_loses_no_text_and_leaves_nothing_to_mend(her, right, release, steps):
    notebook = right()
    texts = disturb(notebook, steps)
    path = save(her, notebook)
    found = examine_notebook(path)
    mend_notebook(found)
    for each in her.glob("*.bak"):
        each.unlink()
    again = nbformat.read(path, as_version=4)
    nbformat.validate(again)
    whole = "\n".join(each.source for each in again.cells)
    blank = {each.source for each in release.cells}
    assert all(text in whole for text in texts - blank)
    assert examine_notebook(path).mendable == ()
