"""nbgrader's formgrader in a real browser: it shows the marks, and one typed there survives a regrade."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from nbgrader.api import Gradebook

from autograde.grading import course_config, grade_assignment
from autograde.release import programs_on_path
from tests.autograde.tinycourse import ASSIGNMENT, LESSON
from tests.test_jupyterlab import BROWSER, CHROMIUM_FLAGS, TOKEN, free_port, wait_for

pytestmark = pytest.mark.browser

CONFIG = """\
from pathlib import Path
from autograde.plugin import install
c = get_config()
install(c, Path(__file__).parent)
"""
SAVED = """() => [...document.querySelectorAll('.score-saved')].some((mark) => mark.offsetParent !== null)"""


@pytest.fixture
def served(course: Path, hand_in, right, walls) -> Iterator[str]:
    """The address of formgrader, on a course in which one student is graded."""
    (course / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
    hand_in("ada", right(square="def square(x):\n    return 4"))
    grade_assignment(ASSIGNMENT, root=course)
    address = f"http://127.0.0.1:{(port := free_port())}"
    options = [
        f"--ServerApp.port={port}",
        "--ServerApp.ip=127.0.0.1",
        f"--IdentityProvider.token={TOKEN}",
        f"--ServerApp.root_dir={course}",
        "--ServerApp.allow_root=True",
    ]
    package = str(Path(__file__).resolve().parents[2])
    own = {name: str(course / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")}
    with programs_on_path(), (course / "server.log").open("w", encoding="utf-8") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyter", "lab", "--no-browser", *options],
            cwd=course,
            env={**os.environ, **own, "PYTHONPATH": package},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(f"{address}/api/status?token={TOKEN}", server)
        yield f"{address}/formgrader"
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture
def browser():
    """A headless browser."""
    if BROWSER is None:
        pytest.skip("no chromium or chrome on this machine: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make setup")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=CHROMIUM_FLAGS)
        yield started
        started.close()


def scores(course: Path) -> dict[str, tuple[float | None, float | None, float]]:
    """What the checks gave, what a person gave, and what counts, by cell."""
    with Gradebook(course_config(course).CourseDirectory.db_url) as gradebook:
        grades = gradebook.find_submission_notebook(LESSON, ASSIGNMENT, "ada").grades
        return {grade.name: (grade.auto_score, grade.manual_score, grade.score) for grade in grades}


def test_marks_are_shown_and_one_that_is_typed_survives_a_regrade(served, browser, course):
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(90_000)
    page.goto(f"{served.removesuffix('/formgrader')}/?token={TOKEN}")  # logs in
    page.goto(f"{served}/gradebook/{ASSIGNMENT}/{LESSON}")
    row = page.locator("tbody tr", has_text="Submission #1").first
    row.wait_for()
    assert "3 / 5" in " ".join(row.inner_text().split())
    row.locator("a").first.click()
    answer = page.locator(".nbgrader_cell", has=page.locator(".score")).last
    box = answer.locator(".score")
    box.wait_for()
    for mark in ("1", "2"):  # the page's script fills the marks in after it has drawn their boxes
        page.locator(f'.score[placeholder="{mark}"]').first.wait_for()
    box.fill("0.5")
    box.press("Tab")
    page.wait_for_function(SAVED)
    wanted = {"check-square": (1, None, 1), "check-negate": (2, None, 2), "why": (None, 0.5, 0.5)}
    assert scores(course) == wanted
    (outcome,) = grade_assignment(ASSIGNMENT, root=course, force=True)
    assert outcome.status == "graded"
    assert scores(course) == wanted
    page.goto(f"{served}/gradebook/{ASSIGNMENT}/{LESSON}")
    row.wait_for()
    assert "3.5 / 5" in " ".join(row.inner_text().split())
