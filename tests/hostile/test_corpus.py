"""No attack gains a point, changes anybody's row, reads or writes outside, or leaves anything running.

All of them are handed in to one class, beside honest students, and the class is graded by each executor.
"""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from autograde.collect import SUSPICIOUS
from autograde.grading import course_config
from autograde.pod import close_pods
from autograde.verify import verify
from tests.hostile.classroom import (
    ASSIGNMENT,
    EXECUTORS,
    HONEST_STUDENTS,
    grade_class,
    make_course,
    student_of,
)
from tests.hostile.corpus import ATTACKS, CANARY

each_attack = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)


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


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    return make_course(tmp_path_factory.mktemp("hostile") / "course")


@pytest.fixture(scope="module")
def alone(course, walls, host, callers, tmp_path_factory):
    """The honest students without the others."""
    return grade_class(course, tmp_path_factory.mktemp("alone") / "course", "inline", host, callers[0], False)


@pytest.fixture(scope="module", params=EXECUTORS)
def ran(request, course, walls, host, callers, tmp_path_factory):
    """The class with everybody in it."""
    root = tmp_path_factory.mktemp("all") / "course"
    return grade_class(course, root, request.param, host, callers[0], True)


@each_attack
def test_nothing_is_gained_and_nothing_else_is_lost(ran, attack):
    points = ran.points(student_of(attack))
    assert points["symmetric_scale"] == attack.points
    assert points["dequantize"] == 3
    assert attack.after <= points["sqnr_db"] <= 2


@pytest.mark.parametrize("student", HONEST_STUDENTS)
def test_no_row_of_an_honest_student_is_another_than_without_attackers(ran, alone, student):
    assert ran.rows()[student] == alone.rows()[student]


def test_there_is_nobody_else_and_no_mark_given_by_hand(ran):
    rows = ran.rows()
    assert set(rows) == set(HONEST_STUDENTS) | {student_of(attack) for attack in ATTACKS}
    grades = [row for found in rows.values() for row in found if row[0] == "grade"]
    assert all(row[3] is None and row[4] is None for row in grades)
    assert {outcome.status for outcome in ran.outcomes.values()} == {"graded"}
    assert verify(ran.root, ASSIGNMENT, course_config(ran.root)).ok


@each_attack
def test_nothing_of_the_machine_and_nothing_active_is_in_the_graded_notebook(ran, attack):
    cells = ran.notebook(student_of(attack)).cells
    shown = [cell for cell in cells if cell.cell_type == "code"]
    outputs = "".join(
        nbformat.writes(new_notebook(cells=[new_code_cell("", outputs=cell.outputs)])) for cell in shown
    )
    assert CANARY not in outputs.replace(f"alert('{CANARY}')", "")
    pages = [output.get("data", {}).get("text/html", "") for cell in shown for output in cell.outputs]
    assert not any("<script" in page for page in pages)
    assert not any("onerror" in page.replace("&", "<") for page in pages if "Property" not in page)
    hers = [cell for cell in shown if "nbgrader" not in cell.metadata]
    assert "test_scale" not in "".join(str(cell.outputs) for cell in hers)
    assert len(outputs) < 4_000_000


def test_nothing_was_written_outside_and_nobody_called(ran, host, callers):
    assert sorted(path.name for path in host.iterdir()) == ["gradebook.db", "secret.txt"]
    assert (host / "gradebook.db").read_bytes() == CANARY.encode()
    written = [path for path in Path(ran.root).rglob("*") if path.name in ("written.txt", "stolen", "link")]
    assert (written, callers[1]) == ([], [])


def test_every_cheat_is_on_the_list_of_what_needs_a_person_and_no_honest_student_is(ran):
    asked = {student.student: {item.kind for item in student.needs_human} for student in ran.marks.students}
    missed = [attack.name for attack in ATTACKS if attack.flagged and not asked[student_of(attack)]]
    assert missed == []
    assert [student for student in HONEST_STUDENTS if asked[student]] == []
    assert sum(SUSPICIOUS in kinds for kinds in asked.values()) >= 40


def test_every_line_of_that_list_says_why(ran):
    lines = [item for student in ran.marks.students for item in student.needs_human]
    assert all(len(item.reason) > 20 and item.where for item in lines)


def test_the_chain_says_what_the_list_says(ran):
    chain = (ran.root / "classroom" / "record" / f"{ASSIGNMENT}.jsonl").read_text(encoding="utf-8")
    assert '"flags": [["suspicious"' in chain


def test_nothing_is_left_running_afterwards(ran):
    close_pods()
    students = [
        p for p in psutil.process_iter(["uids"]) if p.info["uids"] and p.info["uids"].real >= 200_000_000
    ]
    mine = {child.pid for child in psutil.Process().children(recursive=True)}
    assert [process for process in students if process.pid in mine or process.ppid() in mine | {1}] == []


def test_there_are_enough_attacks():
    rows = {attack.row for attack in ATTACKS if attack.row}
    assert len(rows) >= 18
    assert sum(not attack.row for attack in ATTACKS) >= 15
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
