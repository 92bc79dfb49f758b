"""autograde.lesson: a lesson's text as a notebook, and an executed notebook in the form that is committed."""

from __future__ import annotations

import json

import nbformat
import pytest

from autograde.layout import CourseError
from autograde.lesson import clean, differences, digest, dump, is_intact, load, read_text

TEXT = """\
# %% [markdown]
# # Title

# %% tags=["demo"]
x = 1

# %% nbgrader={"grade_id": "double", "solution": true}
def double(x):
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION


# %% nbgrader={"grade_id": "check-double", "grade": true, "locked": true, "points": 2}
check("double")
"""


@pytest.fixture
def lesson(tmp_path):
    """Reads a text as a lesson."""

    def read(text=TEXT):
        path = tmp_path / "01-x.py"
        path.write_text(text, encoding="utf-8")
        return read_text(path)

    return read


def test_a_lesson_becomes_cells_with_lasting_ids(lesson):
    notebook = lesson()
    nbformat.validate(notebook)
    assert [cell.cell_type for cell in notebook.cells] == ["markdown", "code", "code", "code"]
    assert [cell["id"] for cell in notebook.cells][2:] == ["double", "check-double"]
    assert dump(notebook) == dump(lesson())


def test_a_header_need_only_say_what_differs_from_nbgraders_defaults(lesson):
    meta = lesson().cells[2].metadata.nbgrader
    expected = {"grade": False, "grade_id": "double", "locked": False, "schema_version": 3}
    assert meta == expected | {"solution": True, "task": False}


def test_blank_lines_between_cells_leave_no_trace(lesson):
    spaced = TEXT.replace("# %%", "\n\n# %%")
    assert dump(lesson(spaced)) == dump(lesson())


WRONG = {
    "no cells": ("", "no code cell"),
    "no grade_id": ('# %% nbgrader={"solution": true}\nx\n', "no grade_id: 'x'"),
    "no points": ('# %% nbgrader={"grade_id": "a", "grade": true}\nx\n', "'a' has no points"),
    "one name twice": (TEXT + TEXT, "'double' stands on 2 cells"),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_lesson_is_refused_by_file_and_reason(lesson, text, said):
    with pytest.raises(CourseError, match=rf"01-x\.py.*{said}"):
        lesson(text)


def test_differences_names_changed_lost_and_added_cells(lesson):
    wanted, built = lesson(), lesson()
    assert differences(wanted, built) == []
    built.cells[2].source = "def double(x): ..."
    del built.cells[3]
    built.cells.append(nbformat.from_dict({"id": "mine", "cell_type": "code", "source": "", "metadata": {}}))
    assert differences(wanted, built) == ["double", "check-double", "mine"]


def test_differences_sees_cells_in_another_order(lesson):
    built = lesson()
    built.cells.reverse()
    assert differences(lesson(), built) == ["the order of the cells"]


@pytest.fixture
def executed(lesson):
    """The lesson with outputs as a kernel would leave them."""
    notebook = lesson()
    notebook.metadata["widgets"] = {"state": {}}
    outputs = [
        nbformat.v4.new_output("stream", text="/run/x <object object at 0x7f0000001234>\n"),
        nbformat.v4.new_output("stream", name="stderr", text="/tmp/ipykernel_12/345.py:3: UserWarning"),
        nbformat.v4.new_output("display_data", {"image/png": "0x7f0000001234", "text/plain": "/run"}),
        nbformat.v4.new_output(
            "display_data", {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "w"}
        ),
        nbformat.v4.new_output("error", ename="E", evalue="at /run", traceback=["/run/y"]),
    ]
    notebook.cells[1].update(outputs=outputs, execution_count=1)
    notebook.cells[1].metadata["execution"] = {"iopub.execute_input": "2026-01-01"}
    return notebook


def test_clean_takes_out_folders_addresses_times_and_widget_states(executed):
    notebook = clean(executed, {"/run": "."})
    text = json.dumps(notebook.cells[1].outputs)
    for gone in ("/run", "0x7f0000001234>", "ipykernel_12", "model_id"):
        assert gone not in text
    assert "widgets" not in notebook.metadata
    assert "execution" not in notebook.cells[1].metadata
    assert notebook.cells[1].outputs[2]["data"]["image/png"] == "0x7f0000001234"  # a picture is not a text
    nbformat.validate(notebook)


def test_a_cleaned_notebook_is_intact_until_anything_in_it_changes(executed, tmp_path):
    path = tmp_path / "x.ipynb"
    path.write_text(dump(clean(executed, {})), encoding="utf-8")
    notebook = load(path)
    assert is_intact(notebook)
    before = digest(notebook)
    notebook.cells[1].outputs.pop()
    assert digest(notebook) != before
    assert not is_intact(notebook)


def test_load_tells_no_file_from_a_broken_one(tmp_path):
    assert load(tmp_path / "none.ipynb") is None
    (tmp_path / "broken.ipynb").write_text("{", encoding="utf-8")
    with pytest.raises(CourseError, match=r"broken\.ipynb cannot be read as a notebook.*make build"):
        load(tmp_path / "broken.ipynb")
