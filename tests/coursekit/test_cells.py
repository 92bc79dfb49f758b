"""coursekit.cells: lasting ids, and whether a cell was edited."""

from __future__ import annotations

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coursekit.cells import assign_ids, grade_id, is_edited, nbgrader_checksum, source_hash


def markdown(source):
    return nbformat.v4.new_markdown_cell(source)


def code(source, **metadata):
    return nbformat.v4.new_code_cell(source, metadata=metadata)


def exercise(name, source="pass", **more):
    meta = {"grade_id": name, "solution": True, "grade": False, "locked": False, "schema_version": 3, **more}
    return code(source, nbgrader=meta)


def ids(cells):
    assign_ids(cells)
    return [cell["id"] for cell in cells]


texts = st.lists(st.text(alphabet="ab #\n", max_size=8), min_size=2, max_size=8)


@given(texts, st.data())
def test_an_id_does_not_change_when_another_cell_does(sources, data):
    cells = [markdown(f"{index} {source}") for index, source in enumerate(sources)]
    before = ids(cells)
    changed = data.draw(st.integers(0, len(cells) - 1))
    cells[changed].source += " and more"
    after = ids(cells)
    assert before[:changed] + before[changed + 1 :] == after[:changed] + after[changed + 1 :]
    assert before[changed] != after[changed]


@given(texts)
def test_ids_are_unique_and_valid_in_nbformat(sources):
    notebook = nbformat.v4.new_notebook(cells=[code(source) for source in sources])
    assert len(set(ids(notebook.cells))) == len(sources)
    nbformat.validate(notebook)


def test_an_exercise_is_named_by_its_grade_id_whatever_is_in_it():
    assert ids([exercise("quantize", "a")]) == ids([exercise("quantize", "b")]) == ["quantize"]


def test_an_id_says_what_kind_of_cell_it_is():
    cells = [markdown("## Where the 256 levels lie"), markdown("prose"), code("1", tags=["demo"]), code("2")]
    names = [name.rpartition("-")[0] for name in ids(cells)]
    assert names == ["where-the-256-levels-lie", "text", "demo", "code"]


def test_one_grade_id_on_two_cells_is_refused_by_name():
    with pytest.raises(ValueError, match="'quantize' stands on 2 cells"):
        assign_ids([exercise("quantize"), exercise("quantize")])


def test_a_cell_nbgrader_does_not_care_about_has_no_grade_id():
    assert grade_id(code("1")) is None
    assert grade_id(exercise("a", solution=False)) is None


@pytest.mark.parametrize(
    "cell", [markdown("# Title"), code("x = 1"), code("")], ids=["prose", "code", "empty"]
)
def test_a_released_cell_is_edited_once_its_text_differs(cell):
    cells = [cell]
    assign_ids(cells)
    assert not is_edited(cell)
    cell.source += "!"
    assert is_edited(cell)


def test_an_exercise_is_edited_once_its_text_differs_from_what_nbgrader_released():
    cell = exercise("a", "raise NotImplementedError()")
    cell.metadata.nbgrader.checksum = nbgrader_checksum(cell)
    assert not is_edited(cell)
    cell.source = "return 1"
    assert is_edited(cell)


@pytest.mark.parametrize("name", ["3fa85f64-5717-4562-b3fc-2c963f66afa6", "1a2b3c4d", ""])
def test_a_cell_of_another_program_does_not_tell(name):
    assert not is_edited(nbformat.from_dict({**code("x"), "id": name}))


def test_white_space_around_a_source_is_no_edit():
    assert source_hash("x\n") == source_hash("x")
