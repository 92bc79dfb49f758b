"""`python -m autograde build`: solutions and notebooks in step with the lessons, and nobody's work lost."""

from __future__ import annotations

import shutil
import subprocess
import sys

import nbformat
import pytest
from nbgrader.api import Gradebook

from autograde import build as build_module
from autograde import lesson_run
from autograde.__main__ import main
from autograde.build import BuildOptions, build, stale
from autograde.layout import Course, CourseError
from autograde.release import programs_on_path
from coursekit.cells import nbgrader_checksum

LESSON = """\
# %% [markdown]
# # A toy lesson

# %%
print(open("data.csv", encoding="utf-8").read(), object())

# %% nbgrader={"grade_id": "double", "solution": true}
def double(x):
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION


# %% nbgrader={"grade_id": "check-double", "grade": true, "locked": true, "points": 2}
assert double(2) == 4
2.0
"""
NBGRADER_CONFIG = """\
c = get_config()
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "notebooks"
c.CourseDirectory.db_url = "sqlite:///classroom/gradebook.db"
"""


def tree(root):
    """Every file's content, to see that nothing was written; the gradebook aside."""
    files = [path for path in root.rglob("*") if path.is_file() and "classroom" not in path.parts]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def run(course, *names, **options):
    """Builds and returns what it said."""
    said: list[str] = []
    build(course, list(names), BuildOptions(**{"gradebook": False, **options}, say=said.append))
    return said


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """A course of one lesson with one asset, built once with its gradebook."""
    root = tmp_path_factory.mktemp("course")
    folder = root / "lessons" / "week1"
    folder.mkdir(parents=True)
    (folder / "01-toy.py").write_text(LESSON, encoding="utf-8")
    (folder / "data.csv").write_text("1,2", encoding="utf-8")
    (root / "nbgrader_config.py").write_text(NBGRADER_CONFIG, encoding="utf-8")
    run(Course(root), gradebook=True)
    return root


@pytest.fixture
def course(pristine, tmp_path):
    """A copy of the built course, to be changed."""
    shutil.copytree(pristine, tmp_path / "course")
    return Course(tmp_path / "course")


@pytest.fixture
def lesson(course):
    (only,) = course.lessons()
    return only


@pytest.fixture
def no_execution(monkeypatch):
    """Makes a build that executes anything fail."""

    def refuse(*_, **__):
        raise AssertionError("a lesson was executed")

    monkeypatch.setattr(lesson_run, "run_lesson", refuse)


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_the_solution_is_executed_and_names_nothing_of_this_machine(course, lesson):
    notebook = nbformat.read(lesson.solution, as_version=4)
    assert notebook.cells[1].outputs[0].text == "1,2 <object object at 0x0>\n"
    assert notebook.cells[3].outputs[0].data["text/plain"] == "2.0"
    assert str(course.root) not in lesson.solution.read_text(encoding="utf-8")


def test_the_release_has_neither_answers_nor_outputs(lesson):
    notebook = nbformat.read(lesson.notebook, as_version=4)
    text = lesson.notebook.read_text(encoding="utf-8")
    assert "SOLUTION" not in text
    assert "2 * x" not in text
    assert "def double(x):" in text
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in notebook.cells)
    assert notebook.cells[2].metadata.nbgrader.checksum == nbgrader_checksum(notebook.cells[2])


def test_assets_reach_the_students(course):
    for folder in ("solutions", "notebooks"):
        assert (course.root / folder / "week1" / "data.csv").read_text(encoding="utf-8") == "1,2"


def test_the_gradebook_knows_the_points(course):
    with Gradebook(f"sqlite:///{course.gradebook}") as gradebook:
        assert gradebook.find_notebook("01-toy", "week1").max_score == 2


def test_stock_nbgrader_writes_the_same_release(course, lesson):
    ours = lesson.notebook.read_bytes()
    command = [sys.executable, "-m", "nbgrader", "generate_assignment", "week1", "--force"]
    with programs_on_path():
        subprocess.run(command, cwd=course.root, check=True, capture_output=True)
    assert lesson.notebook.read_bytes() == ours


@pytest.mark.usefixtures("no_execution")
def test_an_unchanged_lesson_is_not_executed_again(course):
    before = tree(course.root)
    assert run(course) == ["week1/01-toy: unchanged", "week1: release unchanged"]
    assert tree(course.root) == before


@pytest.mark.usefixtures("no_execution")
def test_a_lesson_whose_words_changed_keeps_its_outputs_and_is_not_executed_again(course, lesson):
    before = [cell.get("outputs") for cell in nbformat.read(lesson.solution, as_version=4).cells]
    edit(lesson.text, "# # A toy lesson", "# # A toy lesson, again")
    assert "outputs are kept" in run(course)[0]
    built = nbformat.read(lesson.solution, as_version=4)
    assert "again" in built.cells[0].source
    assert [cell.get("outputs") for cell in built.cells] == before
    assert stale(course, []) == []


def test_a_solution_with_an_output_of_another_hand_is_executed_again(course, lesson):
    edit(lesson.solution, "1,2 <", "9,9 <")
    edit(lesson.text, "# # A toy lesson", "# # A toy lesson, again")
    assert any("executed in" in line for line in run(course))
    assert "9,9 <" not in lesson.solution.read_text(encoding="utf-8")


def test_two_executions_write_the_same_bytes(course):
    before = tree(course.root)
    said = run(course, force=True)
    assert "executed in" in said[0]
    assert "peak memory" in said[0]
    assert tree(course.root) == before


def test_a_changed_cell_changes_its_own_id_only(course, lesson):
    before = [cell["id"] for cell in nbformat.read(lesson.solution, as_version=4).cells]
    edit(lesson.text, "# # A toy lesson", "# # A toy lesson, again")
    run(course)
    after = [cell["id"] for cell in nbformat.read(lesson.solution, as_version=4).cells]
    assert after[0] != before[0]
    assert after[1:] == before[1:]
    assert stale(course, []) == []


STALE = {
    "lesson": ("lessons/week1/01-toy.py", "2 * x", "x + x", "solutions/week1/01-toy.ipynb differs from"),
    "answer": ("solutions/week1/01-toy.ipynb", "2 * x", "3 * x", "solutions/week1/01-toy.ipynb differs from"),
    "output": ("solutions/week1/01-toy.ipynb", "1,2 <", "9,9 <", "01-toy.ipynb has been run or edited"),
    "release": ("notebooks/week1/01-toy.ipynb", "toy", "boy", "notebooks/week1/01-toy.ipynb is not what"),
    "asset": ("lessons/week1/data.csv", "1", "2", "solutions/week1/data.csv is not a copy"),
    "nameless": ("lessons/week1/01-toy.py", '"grade_id": "double", ', "", "an nbgrader cell has no grade_id"),
}


@pytest.mark.usefixtures("no_execution")
@pytest.mark.parametrize(("name", "old", "new", "said"), STALE.values(), ids=STALE)
def test_check_names_what_is_stale_and_writes_nothing(course, name, old, new, said, capsys):
    edit(course.root / name, old, new)
    before = tree(course.root)
    assert main(["build", "--check", "--root", str(course.root)]) == 1
    printed = capsys.readouterr().out
    assert said in printed
    assert "make build" in printed
    assert tree(course.root) == before


@pytest.mark.usefixtures("no_execution")
def test_check_is_content_with_a_built_course_also_with_windows_line_ends(course, lesson, capsys):
    assert main(["build", "--check", "--root", str(course.root)]) == 0
    for path in (lesson.text, lesson.solution, lesson.notebook):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert stale(course, []) == []
    assert "in step" in capsys.readouterr().out


@pytest.mark.parametrize("folder", ["solutions", "notebooks"])
def test_check_names_a_notebook_without_a_lesson(course, folder):
    path = course.root / folder / "week1" / "02-old.ipynb"
    path.write_text("{}", encoding="utf-8")
    assert any(line.startswith(f"{folder}/week1/02-old.ipynb") for line in stale(course, []))


REFUSED = {
    "raises": ("2.0\n", "1 / 0\n", {}, "a cell of week1/01-toy raised.*ZeroDivisionError"),
    "warns where points are given": (
        "2.0\n",
        "import sys; print('x', file=sys.stderr)\n",
        {},
        "writes to stderr",
    ),
    "too slow": ("2.0\n", "3.0\n", {"max_seconds": 0.001}, r"took .* more than .*slowest cells"),
}


@pytest.mark.parametrize(("old", "new", "options", "said"), REFUSED.values(), ids=REFUSED)
def test_a_lesson_that_does_not_run_as_it_should_is_refused_and_nothing_is_written(
    course, lesson, old, new, options, said
):
    edit(lesson.text, old, new)
    before = tree(course.root)
    with pytest.raises(CourseError, match=f"(?s){said}"):
        run(course, **options)
    assert tree(course.root) == before


def test_a_cell_tagged_raises_exception_may_raise(course, lesson):
    edit(lesson.text, "2.0\n", '2.0\n\n# %% tags=["raises-exception"]\n1 / 0\n')
    run(course)
    assert nbformat.read(lesson.solution, as_version=4).cells[-1].outputs[0].ename == "ZeroDivisionError"


def test_a_large_notebook_is_refused(course, monkeypatch):
    monkeypatch.setattr(build_module, "MAX_BYTES", 1000)
    with pytest.raises(CourseError, match=r"week1/01-toy would be \d+ kB, more than 1"):
        run(course, force=True)


def test_answers_written_into_the_release_folder_are_kept(course, lesson):
    for number in range(2):
        edit(lesson.notebook, "raise NotImplementedError()", f"return 2 * x  # try {number}")
        (said,) = [line for line in run(course) if "is kept as" in line]
        assert said.startswith("notebooks/week1/01-toy.ipynb had been edited")
    kept = course.kept / "notebooks" / "week1"
    assert "try 0" in (kept / "01-toy.ipynb.bak").read_text(encoding="utf-8")
    assert "try 1" in (kept / "01-toy.ipynb.2.bak").read_text(encoding="utf-8")
    assert stale(course, []) == []


def test_a_file_added_to_the_release_folder_is_moved_out_and_kept(course):
    (course.root / "notebooks" / "week1" / "notes.txt").write_text("mine", encoding="utf-8")
    run(course)
    assert not (course.root / "notebooks" / "week1" / "notes.txt").exists()
    assert (course.kept / "notebooks" / "week1" / "notes.txt.bak").read_text(encoding="utf-8") == "mine"


def test_a_solution_edited_by_hand_is_kept(course, lesson):
    edit(lesson.solution, "2 * x", "x + x")
    said = run(course)
    assert any("solutions/week1/01-toy.ipynb had been edited" in line for line in said)
    assert "x + x" in (course.kept / "solutions/week1/01-toy.ipynb.bak").read_text(encoding="utf-8")
    assert "2 * x" in lesson.solution.read_text(encoding="utf-8")


def test_a_solution_that_is_no_notebook_is_named_then_kept_and_built_again(course, lesson):
    lesson.solution.write_text("<<<<<<< a merge went wrong", encoding="utf-8")
    assert "solutions/week1/01-toy.ipynb cannot be read as a notebook" in stale(course, [])
    run(course)
    assert "merge went wrong" in (course.kept / "solutions/week1/01-toy.ipynb.bak").read_text(
        encoding="utf-8"
    )
    assert stale(course, []) == []


def test_a_gradebook_with_submissions_keeps_its_cells_and_the_build_goes_on(course, lesson):
    with Gradebook(f"sqlite:///{course.gradebook}") as gradebook:
        gradebook.update_or_create_student("ada")
        gradebook.add_submission("week1", "ada")
    more = '\n# %% nbgrader={"grade_id": "new", "grade": true, "locked": true, "points": 1}\n1.0\n'
    lesson.text.write_text(LESSON + more, encoding="utf-8")
    said = run(course, gradebook=True)
    assert "move the folder classroom/ aside" in said[-1]
    assert stale(course, []) == []


def test_an_unknown_name_is_refused_with_the_known_ones(course, capsys):
    assert main(["build", "week9", "--root", str(course.root)]) == 1
    assert "'week9'; there are: week1/01-toy" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["week1", "01-toy", "week1/01-toy", "lessons/week1/01-toy.py"])
def test_a_lesson_can_be_named_in_every_way_people_name_it(course, lesson, name):
    assert course.select([name]) == [lesson]


def test_a_lesson_runs_without_a_network_and_with_a_ledger_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("RETRAIN", "1")
    environment = lesson_run.lesson_environment(tmp_path)
    assert environment["COURSEKIT_LEDGER"] == str(tmp_path / "ledger.json")
    assert environment["https_proxy"].startswith("http://127.0.0.1")
    assert "RETRAIN" not in environment
