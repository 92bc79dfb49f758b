"""The first lesson in a real JupyterLab: an answer typed in, its check seen, nbgrader's Validate pressed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from autograde.release import programs_on_path
from coursekit.cells import grade_id
from coursekit.workbook import start

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[1]
ASSIGNMENT, NAME, EXERCISE = "week1-quantization", "01-affine-quantization", "affine_qparams"
TOKEN = "only-for-this-test"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# JupyterLab's own objects tell where a cell is; what a person does goes through mouse and keyboard.
SHOW_CELL = """async (name) => {
    const panel = window.jupyterapp.shell.currentWidget;
    await panel.context.ready;
    await panel.sessionContext.ready;
    const cells = [...panel.content.model.cells];
    const index = cells.findIndex((cell) =>
        name ? (cell.metadata.nbgrader || {}).grade_id === name : cell.type === 'code');
    panel.content.activeCellIndex = index;
    await panel.content.scrollToItem(index, 'center');
}"""
CELL_IS_DONE = """() => {
    const panel = window.jupyterapp.shell.currentWidget;
    const kernel = panel.sessionContext.session.kernel;
    return panel.content.activeCell.model.executionCount && kernel && kernel.status === 'idle';
}"""


def answer() -> str:
    """The course's own answer to the exercise, as a student would type it."""
    path = ROOT / "solutions" / ASSIGNMENT / f"{NAME}.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    source = next(cell.source for cell in cells if grade_id(cell) == EXERCISE)
    return "\n".join(line for line in source.splitlines() if "SOLUTION" not in line)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url: str, server: subprocess.Popen, seconds: float = 60) -> None:
    """Returns when the server answers; fails when it ends or takes too long."""
    deadline = time.monotonic() + seconds
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"JupyterLab does not answer (exit code {server.poll()})")


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[str]:
    """The address of the lesson in a JupyterLab that serves a student's fresh copy, with settings of its own."""
    if not (ROOT / "notebooks" / ASSIGNMENT / f"{NAME}.ipynb").exists():
        pytest.fail(f"notebooks/{ASSIGNMENT}/{NAME}.ipynb is not there; run `make build`")
    folder = tmp_path_factory.mktemp("lab")
    start(ASSIGNMENT, ROOT / "notebooks", folder / "work")
    names = (
        "JUPYTER_CONFIG_DIR",
        "JUPYTER_RUNTIME_DIR",
        "JUPYTERLAB_SETTINGS_DIR",
        "JUPYTERLAB_WORKSPACES_DIR",
    )
    own = {name: str(folder / name.lower()) for name in names}
    address = f"http://127.0.0.1:{(port := free_port())}"
    options = [
        f"--ServerApp.port={port}",
        "--ServerApp.ip=127.0.0.1",
        f"--IdentityProvider.token={TOKEN}",
        f"--ServerApp.root_dir={folder / 'work' / ASSIGNMENT}",
        "--ServerApp.allow_root=True",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.news_url=None",
    ]
    with programs_on_path(), (folder / "server.log").open("w", encoding="utf-8") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyter", "lab", "--no-browser", *options],
            env=os.environ | own | {"COURSEKIT_LEDGER": str(folder / "ledger.json")},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(f"{address}/api/status?token={TOKEN}", server)
        yield f"{address}/lab/tree/{NAME}.ipynb?token={TOKEN}&reset"
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture(scope="module")
def page(lab):
    """The lesson, opened in a headless browser."""
    if BROWSER is None:
        pytest.skip("no chromium or chrome on this machine: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make setup")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(90_000)
        page.goto(lab)
        page.wait_for_selector(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook .jp-Cell")
        yield page
        browser.close()


def show(page, name: str | None):
    """Scrolls to the cell with this grade_id, the first code cell for None; returns its place on the page."""
    page.evaluate(SHOW_CELL, name)
    return page.locator(".jp-Notebook .jp-Cell.jp-mod-active").first


def type_into(page, cell, text: str) -> None:
    """Replaces what is in a cell as a person would: click, select all, type."""
    cell.locator(".cm-content").first.click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(text)


def run_cell(page, cell) -> None:
    """Runs the cell with Ctrl+Enter and waits until the kernel is idle again."""
    cell.locator(".cm-content").first.click()
    page.keyboard.press("Control+Enter")
    page.wait_for_function(CELL_IS_DONE)


def test_a_student_answers_an_exercise_and_sees_every_property_pass(page):
    run_cell(page, show(page, None))
    exercise = show(page, EXERCISE)
    assert "NotImplementedError" in exercise.inner_text()
    type_into(page, exercise, answer())
    run_cell(page, exercise)
    check = show(page, f"check-{EXERCISE}")
    run_cell(page, check)
    table = check.locator(".jp-OutputArea table").first
    table.wait_for()
    words = table.inner_text()
    assert "Property" in words
    assert "passed" in words
    assert "wrong" not in words


def test_nbgraders_validate_button_says_which_checks_still_fail(page):
    page.locator(".jp-Toolbar").get_by_text("Validate", exact=True).first.click()
    dialog = page.locator(".jp-Dialog")
    dialog.wait_for(timeout=240_000)
    said = dialog.inner_text()
    assert "failed" in said
    assert 'check("quantize")' in said
    assert f'check("{EXERCISE}")' not in said
