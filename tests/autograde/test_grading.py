"""The whole way from submitted folders to marks and feedback, with a class of every kind."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI
from nbgrader.apps.autogradeapp import AutogradeApp
from nbgrader.converters.base import NbGraderException

from autograde import converter, jobs
from autograde.grading import course_config, grade_assignment
from autograde.sandbox import Availability
from tests.autograde.tinycourse import ASSIGNMENT, LESSON, answered

HACK = """
from IPython.display import HTML, display
display(HTML("<script>alert('out')</script><b onclick='alert(1)'>shown</b>"))
import os, sqlite3
for top in ("..", "../..", "{root}", "/"):
    for path in (f"{{top}}/classroom/gradebook.db", f"{{top}}/gradebook.db"):
        if os.path.exists(path):
            sqlite3.connect(path).execute("update grade set manual_score = 100")
print(open("{root}/solutions/{assignment}/{lesson}.ipynb").read())
"""


def config(root: Path):
    settings = course_config(root)
    settings.Autograde.limits = {"cell_seconds": 2.0, "grace_seconds": 1.0}
    return settings


def put(root: Path, student: str, work, name: str = f"{LESSON}.ipynb") -> Path:
    folder = root / "classroom" / "submitted" / student / ASSIGNMENT
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(work if isinstance(work, bytes) else json.dumps(work).encode())
    return folder


def schema_99(notebook):
    for cell in notebook.cells:
        if "nbgrader" in cell.metadata:
            cell.metadata.nbgrader.schema_version = 99
    return notebook


def twice(notebook):
    notebook.cells += [nbformat.from_dict({**cell, "id": f"copy-{cell.id}"}) for cell in notebook.cells]
    return notebook


@pytest.fixture(scope="module")
def graded_class(course_template, release, walls, tmp_path_factory):
    """A course after one run over a class, the outcomes by student, and the calls of the progress callback."""
    root = tmp_path_factory.mktemp("class") / "course"
    shutil.copytree(course_template, root)
    put(root, "all-right", answered(release))
    put(root, "blank", release)
    put(root, "half-right", answered(release, square="def square(x):\n    return 4"))
    put(root, "renamed", answered(release), "My Copy (1).ipynb")
    put(root, "copied", twice(answered(release)))
    put(root, "schema", schema_99(answered(release)))
    put(root, "broken", json.dumps(answered(release)).encode()[:-200])
    put(root, "endless", answered(release, square="def square(x):\n    while True: pass"))
    put(root, "dying", answered(release, square="def square(x):\n    import os; os._exit(1)"))
    hack = HACK.format(root=root, assignment=ASSIGNMENT, lesson=LESSON)
    why = "<script>alert('md')</script><img src=x onerror=alert(2)>\n\nso **bold**"
    put(root, "hacking", answered(release, square=hack, why=why))
    put(root, "linking", answered(release)).joinpath("stolen.db").symlink_to(
        root / "classroom" / "gradebook.db"
    )
    (root / "classroom" / "submitted" / "empty" / ASSIGNMENT).mkdir(parents=True)
    calls: list[tuple[int, int, str]] = []
    outcomes = grade_assignment(
        ASSIGNMENT,
        root=root,
        config=config(root),
        progress=lambda n, of, it: calls.append((n, of, it.student)),
    )
    return root, {outcome.student: outcome for outcome in outcomes}, calls


def marks(root: Path, student: str) -> tuple[float | None, ...]:
    with Gradebook(course_config(root).CourseDirectory.db_url) as gradebook:
        grades = gradebook.find_submission_notebook(LESSON, ASSIGNMENT, student).grades
        found = {grade.name: grade.auto_score for grade in grades}
        assert all(grade.manual_score is None for grade in grades)
    return tuple(found[name] for name in ("check-square", "check-negate"))


@pytest.mark.parametrize(
    ("student", "expected"),
    [
        ("all-right", (2, 2)),
        ("blank", (0, 0)),
        ("half-right", (1, 2)),
        ("renamed", (2, 2)),
        ("copied", (2, 2)),
        ("schema", (2, 2)),
        ("broken", (0, 0)),
        ("endless", (0, 2)),
        ("dying", (0, 2)),
        ("hacking", (0, 2)),
        ("linking", (2, 2)),
        ("empty", (0, 0)),
    ],
)
def test_each_submission_gets_the_mark_one_would_give_by_hand(graded_class, student, expected):
    assert marks(graded_class[0], student) == expected


def test_no_submission_stops_another(graded_class):
    assert {outcome.status for outcome in graded_class[1].values()} == {"graded"}


def test_progress_is_told_after_each_submission(graded_class):
    _, outcomes, calls = graded_class
    assert [call[:2] for call in calls] == [(n, len(outcomes)) for n in range(1, len(outcomes) + 1)]
    assert sorted(call[2] for call in calls) == sorted(outcomes)


def test_a_person_is_asked_only_where_something_could_not_be_graded_or_is_suspect(graded_class):
    asked = {student for student, outcome in graded_class[1].items() if outcome.intake.needs_human}
    assert asked == {"broken", "empty", "linking"}


def test_receipts_and_records_are_on_disk(graded_class):
    root, _, _ = graded_class
    receipt = json.loads(
        (root / "classroom" / "receipts" / "dying" / ASSIGNMENT / f"{LESSON}.json").read_text()
    )
    assert receipt["sandboxed"]
    assert [cell["grade_id"] for cell in receipt["cells"] if cell["status"] == "died"] == ["check-square"]
    record = json.loads((root / "classroom" / "intake" / "renamed" / ASSIGNMENT / "intake.json").read_text())
    assert [finding["code"] for finding in record["findings"]] == ["renamed"]


def test_no_link_is_followed_into_what_is_graded(graded_class):
    root, _, _ = graded_class
    found = [
        path.name
        for step in ("intake", "autograded")
        for path in (root / "classroom" / step).rglob("stolen*")
    ]
    assert found == []


def test_only_what_changed_is_graded_again(graded_class):
    root, _, _ = graded_class
    again = grade_assignment(ASSIGNMENT, root=root, student="*a*ing", config=config(root))
    assert [(outcome.student, outcome.status) for outcome in again] == [("hacking", "skipped")]
    forced = grade_assignment(ASSIGNMENT, root=root, student="copied", force=True, config=config(root))
    assert [outcome.status for outcome in forced] == ["graded"]
    assert marks(root, "copied") == (2, 2)


@pytest.fixture(scope="module")
def feedback(graded_class):
    """The text of the feedback pages by student."""
    root, _, _ = graded_class
    result = NbGraderAPI(config=course_config(root)).generate_feedback(ASSIGNMENT)
    assert result["success"], result
    pages = (root / "classroom" / "feedback").glob(f"*/{ASSIGNMENT}/{LESSON}.html")
    return {page.parts[-3]: page.read_text(encoding="utf-8") for page in pages}


def test_everybody_gets_a_feedback_page(graded_class, feedback):
    assert set(feedback) == set(graded_class[1])


def test_nothing_a_student_wrote_is_active_in_feedback(feedback):
    page = feedback["hacking"]
    body = page[page.index("<body") :]
    in_tags = "".join(re.findall(r"<[^>]*>", body))
    assert "<b>shown</b>" in body
    assert "<strong>bold</strong>" in body
    assert "onclick" not in in_tags
    assert "onerror" not in in_tags
    assert "<script" not in in_tags


def test_check_tables_and_repairs_are_shown_in_feedback(feedback):
    assert 'class="name">square' in feedback["all-right"]
    assert "was taken for" in feedback["renamed"]
    assert "Does a loop never end?" in feedback["endless"]
    assert "ended its Python process" in feedback["dying"]


def test_feedback_tells_no_name_and_no_path(graded_class, feedback):
    root, _, _ = graded_class
    for student in ("dying", "hacking"):
        text = feedback[student].replace(str(root / "solutions"), "")  # she wrote that one into her own cell
        assert str(root.parent) not in text.replace(str(root), "")
        assert str(Path(converter.__file__).parents[1]) not in text


@pytest.fixture
def refusing(monkeypatch):
    found = Availability(False, "none", "bwrap is not on PATH", "install it with apt-get")
    monkeypatch.setattr(converter, "available", lambda: found)


def test_without_bubblewrap_no_student_code_is_run(course, hand_in, right, refusing, caplog):
    hand_in("ada", right(square="open('ran', 'w')"))
    with pytest.raises(NbGraderException, match=r"No student code was run.*bwrap.*apt-get"):
        grade_assignment(ASSIGNMENT, root=course)
    assert not (course / "classroom" / "autograded").exists()


def test_without_bubblewrap_grading_needs_to_be_told_so(course, hand_in, right, marks, refusing):
    hand_in("ada", right())
    (outcome,) = grade_assignment(ASSIGNMENT, root=course, sandbox=False)
    assert not outcome.receipts[0][1].sandboxed
    assert marks("ada") == {"check-square": 2, "check-negate": 2, "why": None}


def test_outputs_a_student_saved_are_never_believed(course, hand_in, right):
    hand_in("ada", right())
    settings = config(course)
    settings.Execute.enabled = False
    with pytest.raises(NbGraderException, match="--no-execute"):
        grade_assignment(ASSIGNMENT, root=course, config=settings)


def test_a_harness_failure_leaves_no_mark_and_is_tried_again(
    course, hand_in, right, marks, monkeypatch, walls
):
    hand_in("ada", right())
    hand_in("bob", right(square="def square(x): return x**2"))
    real = jobs.execute

    def failing(notebook, **options):
        if b"return x * x" in notebook:
            raise RuntimeError("out of processes")
        return real(notebook, **options)

    monkeypatch.setattr(jobs, "execute", failing)
    ada, bob = grade_assignment(ASSIGNMENT, root=course)
    assert (ada.status, ada.error) == ("failed", "RuntimeError: out of processes")
    assert bob.status == "graded"
    assert marks("ada") == {"check-square": 0, "check-negate": 0, "why": 0}
    monkeypatch.setattr(jobs, "execute", real)
    assert [outcome.status for outcome in grade_assignment(ASSIGNMENT, root=course)] == ["graded", "skipped"]
    assert marks("ada") == {"check-square": 2, "check-negate": 2, "why": None}


def test_a_manual_mark_survives_a_regrade(course, hand_in, right, walls):
    hand_in("ada", right())
    grade_assignment(ASSIGNMENT, root=course)
    with Gradebook(course_config(course).CourseDirectory.db_url) as gradebook:
        gradebook.find_grade("why", LESSON, ASSIGNMENT, "ada").manual_score = 0.5
        gradebook.db.commit()
    grade_assignment(ASSIGNMENT, root=course, force=True)
    with Gradebook(course_config(course).CourseDirectory.db_url) as gradebook:
        assert gradebook.find_grade("why", LESSON, ASSIGNMENT, "ada").manual_score == 0.5


def test_the_no_sandbox_flag_is_the_applications_own():
    app = AutogradeApp()
    app.parse_command_line([ASSIGNMENT, "--no-sandbox"])
    assert converter.HarnessAutograde(config=app.config).sandbox is False


@pytest.mark.classcycle
def test_stock_commands_work_from_the_course_folder(course, hand_in, right, walls):
    """With no environment activated: nbgrader must find `alembic` all the same."""
    repository = Path(converter.__file__).resolve().parents[1]
    (course / "nbgrader_config.py").write_text(
        "from pathlib import Path\nfrom autograde.plugin import install\n"
        "c = get_config()\ninstall(c, Path(__file__).parent)\n",
        encoding="utf-8",
    )
    hand_in("ada", right())
    shutil.rmtree(course / "notebooks")
    (course / "classroom" / "gradebook.db").unlink()
    environment = {**os.environ, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(repository)}

    def run(*arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=course,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    commands = [
        ["generate_feedback", ASSIGNMENT],
        ["release_feedback", ASSIGNMENT],
        ["release_assignment", ASSIGNMENT],
    ]
    commands += [["export"], ["list"], ["collect", ASSIGNMENT]]
    several = "from nbgrader.apps import NbGraderApp\nfor command in {}:\n"
    several += "    NbGraderApp.launch_instance(argv=command)\n    NbGraderApp.clear_instance()\n"
    run("-c", several.format([["generate_assignment", ASSIGNMENT]]))
    run("-m", "nbgrader", "autograde", ASSIGNMENT)
    run("-c", several.format(commands))
    assert "ada" in (course / "classroom" / "grades.csv").read_text(encoding="utf-8")
    exchange = course / "classroom" / "exchange" / "model-optimization"
    assert len(list((exchange / "feedback").glob("*.html"))) == 1
    assert (exchange / "outbound" / ASSIGNMENT / f"{LESSON}.ipynb").exists()
