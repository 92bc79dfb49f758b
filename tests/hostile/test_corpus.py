"""No attack gains a point, costs an honest answer anything, reads or writes outside, or leaves anything running."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from nbgrader.utils import determine_grade

from autograde import sandbox
from autograde.execute import execute
from autograde.limits import Limits
from autograde.pod import close_pods
from tests.autograde.tinycourse import graded
from tests.hostile.corpus import ATTACKS, CANARY, HONEST, SETUP, Attack

REPOSITORY = Path(sandbox.__file__).resolve().parents[1]
LIMITS = Limits(
    cell_seconds=2.0,
    call_seconds=1.0,
    grace_seconds=1.0,
    notebook_seconds=60,
    memory_bytes=1_500_000_000,
    scratch_bytes=64_000_000,
    processes=40,
)


@pytest.fixture(scope="session")
def walls():
    found = sandbox.available()
    if not found.ok:
        pytest.skip(str(found))
    return found.mode


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """A folder of the machine with a secret and a gradebook in it."""
    folder = tmp_path_factory.mktemp("host")
    (folder / "secret.txt").write_text(CANARY, encoding="utf-8")
    (folder / "gradebook.db").write_bytes(CANARY.encode())
    return folder


@pytest.fixture(scope="module")
def callers():
    """A server of the machine, its port, and who called it."""
    found: list[object] = []
    with socket.create_server(("0.0.0.0", 0)) as server:

        def listen() -> None:
            while True:
                try:
                    found.append(server.accept()[1])
                except OSError:
                    return

        threading.Thread(target=listen, daemon=True).start()
        yield server.getsockname()[1], found
        server.shutdown(socket.SHUT_RDWR)


def notebook(attack: Attack, host: Path, port: int):
    def filled(text: str) -> str:
        for name, value in (("host", host), ("repository", REPOSITORY), ("port", port), ("canary", CANARY)):
            text = text.replace("{" + name + "}", str(value))
        return text

    def exercise(name: str, answer: str, points: int):
        yield graded("code", name, answer, solution=True)
        yield graded("code", f"check-{name}", f'check("{name}")', grade=True, locked=True, points=points)

    return new_notebook(
        cells=[
            new_code_cell(SETUP),
            *exercise("dequantize", HONEST["dequantize"], 3),
            new_code_cell(filled(attack.before)),
            *exercise("symmetric_scale", filled(attack.answer), 2),
            *exercise("sqnr_db", HONEST["sqnr_db"], 2),
        ]
    )


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_nothing_is_gained_and_nothing_else_is_lost(attack, walls, host, callers):
    port, found = callers
    before = sorted(path.name for path in host.iterdir())
    executed, receipt = execute(notebook(attack, host, port), mode=walls, limits=LIMITS)
    cells = {cell.metadata.nbgrader.grade_id: cell for cell in executed.cells if "nbgrader" in cell.metadata}
    marks = {
        name: determine_grade(cells[f"check-{name}"])[0]
        for name in ("dequantize", "symmetric_scale", "sqnr_db")
    }

    assert marks["symmetric_scale"] == attack.points
    assert marks["dequantize"] == 3
    assert attack.after <= marks["sqnr_db"] <= 2
    outputs = "".join(
        nbformat.writes(new_notebook(cells=[new_code_cell("", outputs=cell.get("outputs", []))]))
        for cell in executed.cells
    )
    assert CANARY not in outputs.replace(f"alert('{CANARY}')", "")
    pages = [
        o.get("data", {}).get("text/html", "") for cell in executed.cells for o in cell.get("outputs", [])
    ]
    assert not any(
        "<script" in page or "onerror" in page.replace("&", "<") for page in pages if "Property" not in page
    )
    assert not any("<script" in page for page in pages)
    assert "test_scale" not in "".join(
        str(cell.outputs) for cell in executed.cells if "nbgrader" not in cell.metadata
    )
    assert len(outputs) < 4_000_000
    assert sorted(path.name for path in host.iterdir()) == before
    assert (host / "gradebook.db").read_bytes() == CANARY.encode()
    assert found == []
    asked = bool(receipt.flags) or any(cell.ungraded for cell in receipt.cells)
    assert asked or not attack.flagged


def test_nothing_is_left_running_afterwards(walls):
    close_pods()
    assert [
        each for each in psutil.Process().children(recursive=True) if each.uids().real >= 200_000_000
    ] == []


def test_there_are_enough_attacks():
    rows = {attack.row for attack in ATTACKS if attack.row}
    assert len(rows) >= 18
    assert sum(not attack.row for attack in ATTACKS) >= 15
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
