"""What a student gets: all she needs, nothing that is secret, and it works in an empty folder."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest

from autograde.bundle import asked_for, bundle, student_lock
from autograde.layout import CourseError
from autograde.leaks import Secret, find_leaks, secrets_of
from autograde.student_copy import withheld_copy
from coursekit.exercises import exercise

ROOT = Path(__file__).resolve().parents[2]
WEEK, LESSON = "week1-quantization", "01-affine-quantization"
SOLUTION = ROOT / "solutions" / WEEK / f"{LESSON}.ipynb"
ASKED = {
    "affine_qparams",
    "quantize",
    "dequantize",
    "sqnr_db",
    "symmetric_scale",
    "symmetric_scale_per_channel",
    "mse_clip",
}
# Runs in the bundle with nothing else of the course in reach: the setup cell, then each check on three answers.
PROBE = """
import importlib.util, inspect, json, sys
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
assert importlib.util.find_spec("autograde") is None, "the harness is in reach"
import coursekit, nbformat
from coursekit.exercises import exercises
answers = json.load(sys.stdin)
cells = [c for c in nbformat.read(sys.argv[1], as_version=4).cells if c.cell_type == "code"]
names = {}
exec(cells[0].source, names)
stubs = {c.metadata.nbgrader.grade_id: c.source for c in cells if c.metadata.get("nbgrader", {}).get("solution")}
found = {"from": coursekit.__file__, "blank": {}, "right": {}, "called": {}}
for kind, sources in (("blank", stubs), ("right", answers)):
    for name, source in sources.items():
        exec(source, names)
        result = names["check"](name, {k: v for k, v in names.items()})
        found[kind][name] = float(result)
for each in exercises():
    try:
        needed = [p for p in inspect.signature(each.reference).parameters.values() if p.default is p.empty]
        each.reference(*[names["torch"].ones(3)] * len(needed))
    except Exception as error:
        found["called"][each.name] = type(error).__name__
print("FOUND" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of each kind of bundle, moved to where nothing else is."""

    def make(withhold):
        output = tmp_path_factory.mktemp("out")
        return bundle(ROOT, WEEK, output, withhold=withhold, notebook=LESSON)

    return {withhold: make(withhold) for withhold in (False, True)}


@pytest.fixture(params=[False, True], ids=["whole", "withheld"])
def either(request, made):
    return request.param, made[request.param]


def answers():
    cells = nbformat.read(SOLUTION, as_version=4).cells
    return {
        c.metadata.nbgrader.grade_id: c.source
        for c in cells
        if c.cell_type == "code" and c.metadata.get("nbgrader", {}).get("solution")
    }


def probe(folder, place):
    """What a program finds that sees the bundle only."""
    shutil.copytree(folder, place / "bundle")
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("NBGRADER", "PYTHON", "COURSEKIT"))
    }
    environment |= {"PYTHONPATH": str(place / "bundle"), "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, f"bundle/notebooks/{WEEK}/{LESSON}.ipynb"],
        cwd=place,
        env=environment,
        input=json.dumps(answers()),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.rpartition("FOUND")[2])


def test_in_an_empty_folder_the_setup_runs_and_checks_tell_blank_from_right(either, tmp_path):
    withheld, folder = either
    found = probe(folder, tmp_path)
    assert found["from"] == str(tmp_path / "bundle" / "coursekit" / "__init__.py")
    assert set(found["blank"]) == ASKED and not any(found["blank"].values())
    assert found["right"] == {
        "affine_qparams": 4.0,
        "quantize": 3.0,
        "dequantize": 3.0,
        "sqnr_db": 2.0,
        "symmetric_scale": 2.0,
        "symmetric_scale_per_channel": 3.0,
        "mse_clip": 3.0,
    }
    raised = {name for name, error in found["called"].items() if error == "ReferenceWithheld"}
    assert raised == (ASKED if withheld else set())


def test_nothing_secret_is_in_it(either):
    """Every answer, hidden test and marker; with --withhold also every reference and known mistake."""
    withheld, folder = either
    secrets = secrets_of(ROOT, ASKED if withheld else set())
    kinds = {"answer", "hidden"} | ({"reference", "known"} if withheld else set())
    assert {each.about.split()[0] for each in secrets} == kinds
    assert {each.about for each in secrets} >= {f"answer to {name}" for name in ASKED}
    assert find_leaks(folder, secrets, withheld=withheld) == []
    names = {path.relative_to(folder).parts[0] for path in folder.rglob("*")}
    assert names == {
        "Makefile",
        "README.md",
        "bundle.json",
        "coursekit",
        "environment.yml",
        "notebooks",
        "pyproject.toml",
        "requirements.lock",
    }
    words = "\n".join(
        path.read_text(encoding="utf-8")
        for path in folder.rglob("*")
        if path.suffix in (".md", ".ipynb", ".toml", ".json") and path.name != "bundle.json"
    )
    assert "BEGIN SOLUTION" not in words and "HIDDEN TESTS" not in words


@pytest.mark.parametrize("name", sorted(ASKED))
def test_no_file_of_the_withheld_one_has_a_line_only_the_reference_has(name, made):
    """A second look, by lines: those of the reference's own body that no other place of coursekit has."""
    source = inspect.getsource(exercise(name).reference)
    body = source.split('"""')[-1].splitlines()
    lines = {line.strip() for line in body if len(line.strip()) > 30 and "ValueError" not in line}
    whole = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "coursekit").rglob("*.py"))
    mine = {line for line in lines if whole.count(line) == 1}
    withheld = "\n".join(p.read_text(encoding="utf-8") for p in (made[True] / "coursekit").rglob("*.py"))
    assert not {line for line in mine if line in withheld}
    assert f"raise ReferenceWithheld('{name}')" in withheld


PLANTS = {
    "an answer in a notebook": (f"notebooks/{WEEK}/extra.ipynb", None),
    "an answer laid out otherwise": ("notes.txt", None),
    "a hidden test": ("coursekit/more.py", "autograde/hidden/affine_quantization.py"),
    "a solution": ("solutions/a.txt", None),
    "a marker": ("coursekit/a.py", None),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_planted_is_found(plant, made, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(made[True], folder)
    place, source = PLANTS[plant]
    path = folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    text = answers()["mse_clip"]
    if path.suffix == ".ipynb":
        plain = re.sub(r" *### (BEGIN|END) SOLUTION\n?", "", text)
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(plain)])
        nbformat.write(notebook, path)
    elif plant == "an answer laid out otherwise":
        plain = re.sub(r" *### (BEGIN|END) SOLUTION\n?", "", text).replace(" = ", "  =  ")
        path.write_text(plain, encoding="utf-8")
    elif source:
        shutil.copyfile(ROOT / source, path)
    else:
        path.write_text("x = 1\n### BEGIN SOLUTION\n" if plant == "a marker" else "x", encoding="utf-8")
    leaks = find_leaks(folder, secrets_of(ROOT, ASKED), withheld=True)
    assert leaks and all(line.startswith(place) for line in leaks)


def test_a_bundle_that_would_give_something_away_is_not_written(tmp_path):
    root = tmp_path / "course"
    for name in ("coursekit", "notebooks", "solutions", "autograde/hidden"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.lock", "environment.yml"):
        shutil.copyfile(ROOT / name, root / name)
    shutil.copyfile(SOLUTION, root / "notebooks" / WEEK / f"{LESSON}.ipynb")
    with pytest.raises(CourseError, match="holds the answer to quantize"):
        bundle(root, WEEK, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_pin_is_the_locks_and_every_dependency_is_pinned(either):
    _, folder = either
    lines = (folder / "requirements.lock").read_text(encoding="utf-8").splitlines()
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert set(lines) < set(lock)
    assert all("==" in line for line in lines if not line.startswith("#"))
    names = {re.split(r"[=\s]", line)[0].lower() for line in lines}
    assert {"torch", "jupyterlab", "nbformat", "safetensors", "sympy"} <= names
    assert not names & {"ruff", "mypy", "playwright", "hypothesis"}


def test_a_dependency_without_a_pin_is_refused(tmp_path):
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    (tmp_path / "requirements.lock").write_text("torch==2.14.1\n", encoding="utf-8")
    with pytest.raises(CourseError, match=r"does not pin .*jupyterlab.*; run `make lock`"):
        student_lock(tmp_path)


def test_the_zip_holds_the_folder_and_is_the_same_when_made_again(either, tmp_path):
    withheld, folder = either
    archive = folder.with_name(f"{folder.name}.zip")
    again = bundle(ROOT, WEEK, tmp_path, withhold=withheld, notebook=LESSON)
    assert archive.read_bytes() == again.with_name(archive.name).read_bytes()
    with zipfile.ZipFile(archive) as opened:
        names = opened.namelist()
    assert {name.partition("/")[0] for name in names} == {folder.name}
    assert len(names) == sum(path.is_file() for path in folder.rglob("*"))


def test_an_earlier_bundle_is_replaced_and_anything_else_is_left(tmp_path):
    folder = bundle(ROOT, WEEK, tmp_path)
    (folder / "old.txt").write_text("old", encoding="utf-8")
    bundle(ROOT, WEEK, tmp_path)
    assert not (folder / "old.txt").exists()
    (folder / "bundle.json").unlink()
    with pytest.raises(CourseError, match="is not a bundle"):
        bundle(ROOT, WEEK, tmp_path)


def test_an_assignment_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(CourseError, match=r"no assignment 'week9'; there is: .*week1-quantization"):
        bundle(ROOT, "week9", tmp_path)


def test_what_is_withheld_is_what_the_exercises_ask_for_and_what_would_give_it_away():
    also = {each.__name__ for name in ASKED for each in getattr(exercise(name), "withheld", ())}
    assert asked_for(ROOT, WEEK, LESSON) == ASKED | also


def test_a_lesson_can_be_given_out_alone(either):
    _, folder = either
    assert [path.stem for path in (folder / "notebooks" / WEEK).glob("*.ipynb")] == [LESSON]
    assert folder.name.endswith(f"-{WEEK}-{LESSON}")
    with pytest.raises(CourseError, match=rf"has no lesson '99-nothing'; it has: .*{LESSON}"):
        asked_for(ROOT, WEEK, "99-nothing")


def test_classes_methods_and_functions_without_docstring_are_withheld_too(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "module.py").write_text(
        "class Pruner:\n    '''Prunes.'''\n\n    def step(self):\n        return 'secret'\n\n\n"
        "def score(w, p=2):\n    # secret reason\n    return w ** p\n\n\ndef other():  # stays\n    return 1\n",
        encoding="utf-8",
    )
    withheld_copy(package, tmp_path / "copy", {"Pruner", "score"})
    text = (tmp_path / "copy" / "module.py").read_text(encoding="utf-8")
    assert "secret" not in text and "** p" not in text
    assert "Prunes." in text and "def score(w, p=2):" in text and "# stays" in text
    compile(text, "module.py", "exec")


def test_a_link_in_a_bundle_is_a_leak(tmp_path):
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert find_leaks(tmp_path, [Secret("x", "y" * 30)], withheld=True) == ["link is a link"]
