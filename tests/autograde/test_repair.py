"""A submitted notebook gets the release's shape back, and keeps the student's work."""

from __future__ import annotations

import copy
import json

import nbformat
import pytest
from nbformat.notebooknode import NotebookNode
from nbformat.v4 import new_code_cell

from coursekit.mending.notebookfile import RawNotebook, parse
from coursekit.mending.repair import repair
from tests.autograde.tinycourse import ANSWERS, LESSON

# The answers of the one lesson that is mended here.
MINE = {name: ANSWERS[name] for name in ("square", "negate", "why")}

ORDER = ["square", "check-square", "negate", "check-negate", "why"]


def raw(notebook: NotebookNode) -> RawNotebook:
    return parse(json.dumps(notebook).encode())


def copied(cell: NotebookNode, **changes: str) -> NotebookNode:
    return nbformat.from_dict({**copy.deepcopy(cell), "id": "copy", **changes})


def mend(notebook: NotebookNode, release: NotebookNode) -> tuple[NotebookNode, list[str]]:
    """The repaired notebook and the codes of what was found; checks what holds of every repaired notebook."""
    mended, findings = repair(raw(notebook), release, LESSON)
    nbformat.validate(mended)
    named = [cell for cell in mended.cells if "nbgrader" in cell.metadata]
    assert [cell.metadata.nbgrader.grade_id for cell in named] == ORDER
    originals = {
        cell.metadata.nbgrader.grade_id: cell for cell in release.cells if "nbgrader" in cell.metadata
    }
    for cell in named:
        original = originals[cell.metadata.nbgrader.grade_id]
        assert (cell.metadata, cell.cell_type, cell.id) == (
            original.metadata,
            original.cell_type,
            original.id,
        )
        if not cell.metadata.nbgrader.solution:
            assert cell.source == original.source
    assert all(not cell.get("outputs") for cell in mended.cells)
    return mended, [finding.code for finding in findings]


def at(notebook: NotebookNode, name: str) -> int:
    return next(
        i
        for i, cell in enumerate(notebook.cells)
        if cell.metadata.get("nbgrader", {}).get("grade_id") == name
    )


def source(notebook: NotebookNode, name: str) -> str:
    return str(notebook.cells[at(notebook, name)].source)


def run_sources(notebook: NotebookNode) -> list[str]:
    """What would be run, in order."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [cell.source for cell in code if "demo" not in cell.metadata.get("tags", [])]


def test_an_unchanged_notebook_is_left_as_it_is(release):
    mended, codes = mend(release, release)
    assert [(c.id, c.source, c.metadata) for c in mended.cells] == [
        (c.id, c.source, c.metadata) for c in release.cells
    ]
    assert codes == []


def test_answers_are_kept_to_the_letter(release, right):
    mended, codes = mend(right(), release)
    assert {name: source(mended, name) for name in MINE} == MINE
    assert codes == []


def test_a_deleted_check_is_put_back_after_its_answer_and_what_follows_it(release, right):
    notebook = right()
    notebook.cells[at(notebook, "check-square")] = new_code_cell("helper = 1")
    mended, codes = mend(notebook, release)
    assert at(mended, "check-square") == at(mended, "square") + 2
    assert codes == ["check_restored"]


def test_all_cells_deleted_gives_the_release_back(release, right):
    notebook = right()
    notebook.cells = []
    mended, codes = mend(notebook, release)
    assert run_sources(mended) == run_sources(release)
    assert codes.count("check_restored") == 2


def test_an_edited_check_is_the_released_one_again(release, right):
    notebook = right()
    notebook.cells[at(notebook, "check-square")].source = "2.0"
    mended, codes = mend(notebook, release)
    assert source(mended, "check-square") == 'check("square")'
    assert codes == ["check_reset"]


@pytest.mark.parametrize("kind", ["markdown", "raw"])
@pytest.mark.parametrize("name", ["square", "check-square"])
def test_a_retyped_cell_is_code_again(release, right, name, kind):
    notebook = right()
    cell = notebook.cells[at(notebook, name)]
    cell.cell_type = kind
    del cell["outputs"], cell["execution_count"]
    mended, codes = mend(notebook, release)
    assert source(mended, name) == source(right(), name)
    assert codes == ["retyped"]


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 99},
        {"schema_version": None},
        {"points": 100},
        {"grade": True},
        {"solution": True},
        {"locked": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["square", "check-square", "why"])
def test_changed_grading_data_is_restored(release, right, name, change):
    notebook = right()
    before = dict(notebook.cells[at(notebook, name)].metadata.nbgrader)
    notebook.cells[at(notebook, name)].metadata.nbgrader.update(change)
    changed = any(before.get(key) != value for key, value in change.items() if key in before)
    mended, codes = mend(notebook, release)
    assert source(mended, name) == source(right(), name)
    assert codes == (["metadata_reset"] if changed else [])


def test_lost_metadata_is_found_again_by_cell_id(release, right):
    notebook = right()
    for cell in notebook.cells:
        cell.metadata = {}
    mended, codes = mend(notebook, release)
    assert source(mended, "square") == ANSWERS["square"]
    assert set(codes) == {"metadata_reset", "tag_reset"}


def test_a_notebook_without_metadata_and_ids_keeps_its_answers(release, right):
    notebook = right()
    for number, cell in enumerate(notebook.cells):
        cell.metadata, cell.id = {}, f"new{number}"
    mended, codes = mend(notebook, release)
    assert source(mended, "square") == ANSWERS["square"]
    assert "answer_adopted" in codes


def test_a_cell_pointed_at_another_exercise_goes_back_to_its_own(release, right):
    notebook = right()
    notebook.cells[at(notebook, "negate")].metadata.nbgrader.grade_id = "square"
    mended, codes = mend(notebook, release)
    assert {name: source(mended, name) for name in ("square", "negate")} == {
        n: ANSWERS[n] for n in ("square", "negate")
    }
    assert codes == ["metadata_reset"]


def test_a_copied_check_counts_once(release, right):
    notebook = right()
    notebook.cells.insert(1, copied(notebook.cells[at(notebook, "check-square")]))
    mended, codes = mend(notebook, release)
    assert run_sources(mended).count('check("square")') == 1
    assert at(mended, "check-square") > at(mended, "square")
    assert codes == ["duplicated"]


@pytest.mark.parametrize("offset", [0, 1], ids=["copy_above", "copy_below"])
def test_of_a_copied_answer_the_edited_one_counts(release, right, offset):
    notebook = right()
    place = at(notebook, "square")
    notebook.cells.insert(place + offset, copied(release.cells[at(release, "square")]))
    mended, codes = mend(notebook, release)
    assert [text for text in run_sources(mended) if "def square" in text] == [ANSWERS["square"]]
    assert codes == ["duplicated"]


def test_of_two_edited_answers_the_last_before_the_check_counts_and_somebody_looks(release, right):
    notebook = right()
    place = at(notebook, "square")
    for shift, text in ((1, "def square(x):\n    return x ** 2"), (3, "def square(x):\n    return 0")):
        notebook.cells.insert(place + shift, copied(notebook.cells[place], id=f"copy{shift}", source=text))
    mended, findings = repair(raw(notebook), release, LESSON)
    assert [text for text in run_sources(mended) if "def square" in text] == [
        "def square(x):\n    return x ** 2"
    ]
    assert [(finding.code, finding.human) for finding in findings] == [("duplicated", True)]


def test_a_helper_split_off_its_answer_is_still_run(release, right):
    notebook, helper = (
        right(square="def square(x):\n    return helper(x)"),
        "def helper(x):\n    return x * x",
    )
    place = at(notebook, "square")
    notebook.cells.insert(place, copied(notebook.cells[place], source=helper))
    mended, _ = mend(notebook, release)
    assert run_sources(mended).index(helper) < run_sources(mended).index(source(mended, "square"))


def test_an_answer_cut_inside_its_function_is_joined(release, right):
    notebook = right(square="def square(x):")
    place = at(notebook, "square")
    notebook.cells.insert(place + 1, copied(notebook.cells[place], source="    y = x\n    return y * y"))
    mended, codes = mend(notebook, release)
    assert source(mended, "square") == "def square(x):\n    y = x\n    return y * y"
    assert codes == ["duplicated"]


def test_an_answer_in_a_new_cell_is_adopted(release, right):
    notebook = right()
    notebook.cells[at(notebook, "square")] = new_code_cell(ANSWERS["square"])
    mended, codes = mend(notebook, release)
    assert source(mended, "square") == ANSWERS["square"]
    assert codes == ["answer_adopted"]


def test_a_check_moved_before_its_answer_goes_behind_it(release, right):
    notebook = right()
    check = notebook.cells.pop(at(notebook, "check-square"))
    notebook.cells.insert(1, check)
    mended, codes = mend(notebook, release)
    assert at(mended, "check-square") == at(mended, "square") + 1
    assert codes == ["check_moved"]


def test_forged_grading_data_on_a_cell_of_her_own_is_removed(release, right):
    notebook = right()
    forged = {
        "grade_id": "bonus",
        "grade": True,
        "solution": False,
        "locked": True,
        "points": 50,
        "schema_version": 3,
    }
    notebook.cells.append(new_code_cell("50.0", metadata={"nbgrader": forged}))
    mended, codes = mend(notebook, release)
    assert mended.cells[-1].source == "50.0"
    assert mended.cells[-1].metadata == {}
    assert codes == ["foreign_metadata"]


def test_the_release_decides_which_cells_are_demonstrations(release, right):
    notebook = right()
    notebook.cells[at(notebook, "check-square")].metadata.tags = ["demo"]
    notebook.cells[at(notebook, "square")].metadata.tags = ["demo"]
    show = next(cell for cell in notebook.cells if cell.id == "show")
    show.metadata = {}
    mended, codes = mend(notebook, release)
    assert run_sources(mended) == run_sources(right())
    assert codes == ["tag_reset"]


def test_a_function_written_into_a_demonstration_is_pointed_out(release, right):
    notebook = right()
    next(cell for cell in notebook.cells if cell.id == "show").source = "def helper(): pass"
    assert mend(notebook, release)[1] == ["demo_edited"]


def test_a_deleted_setup_cell_is_put_back_first(release, right):
    notebook = right()
    notebook.cells = [cell for cell in notebook.cells if cell.id != "setup"]
    mended, codes = mend(notebook, release)
    assert run_sources(mended)[0].startswith("import math")
    assert codes == ["cell_restored"]


def test_cell_ids_become_valid_and_unique(release, right):
    notebook = right()
    notebook.cells += [
        copied(notebook.cells[1], id="setup" if n % 2 else "<b>", source=str(n)) for n in range(4)
    ]
    mended, _ = mend(notebook, release)
    ids = [cell.id for cell in mended.cells]
    assert len(set(ids)) == len(ids)


def test_raw_cells_of_her_own_become_text_that_cannot_be_a_page(release, right):
    notebook = right()
    notebook.cells.append(nbformat.v4.new_raw_cell("<script>1</script>"))
    mended, _ = mend(notebook, release)
    assert mended.cells[-1].cell_type == "markdown"
    assert mended.cells[-1].source == "    <script>1</script>"
