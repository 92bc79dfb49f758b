"""Notebooks in, notebooks and receipts out, whatever their cells do."""

from __future__ import annotations

import json
import threading

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from nbgrader.utils import determine_grade

from autograde.execute import execute
from autograde.limits import Limits
from autograde.pod import Pod
from autograde.withhold import withheld_build
from tests.autograde.tinycourse import graded

SETUP = """
from IPython.display import display
def report(points):
    display({"application/vnd.coursekit.check+json": {"points": points}}, raw=True)
    return float(points)
"""
# What each check cell does, and the mark it must get of 2.
HOSTILE = {
    "right": ("report(2)", 2),
    "half": ("report(1)", 1),
    "warns": ("import warnings; warnings.warn('careful'); report(2)", 2),
    "forged_number": ("2.0", 0),
    "nan": ("report(float('nan'))", 0),
    "too_much": ("report(3)", 0),
    "nothing": ("pass", 0),
    "printed_error": ("raise ValueError", 0),
    "exits": ("import sys; sys.exit()", 0),
    "recursion": ("def f(): return f()\nf()", 0),
    "leaves": ("import os; os._exit(0)", 0),
    "after_leaving": ("report(2)", 2),
    "segfault": ("import ctypes; ctypes.string_at(0)", 0),
    "endless": ("while True: pass", 0),
    "reports_then_hangs": ("report(2)\nwhile True: pass", 0),
    "endless_deaf": (
        "while True:\n    try:\n        while True: pass\n    except KeyboardInterrupt: pass",
        0,
    ),
    "floods": ("print('x' * 50_000_000); report(2)", 0),
    "floods_without_end": ("while True: print('x' * 500)", 0),
    "prints_much_and_reports": ("for _ in range(300): print('x' * 10_000)\nreport(2)", 2),
    "files_among_sockets": (
        "open('/run/kernel/x', 'w').write('x'); import time; time.sleep(1); report(2)",
        0,
    ),
    "long_message": ("print('x' * 80_000_000); report(2)", 0),
    "kills_its_parent": ("import os, signal; os.kill(os.getppid(), 9); report(2)", None),
    "still_here": ("report(2)", 2),
}


@pytest.fixture(scope="module")
def survived(walls):
    checks = [
        graded("code", name, code, grade=True, locked=True, points=2) for name, (code, _) in HOSTILE.items()
    ]
    notebook = new_notebook(cells=[new_code_cell(SETUP), *checks])
    limits = Limits(cell_seconds=1.5, grace_seconds=1, notebook_seconds=120)
    executed, receipt = execute(notebook, mode=walls, limits=limits)
    return {cell.metadata.nbgrader.grade_id: cell for cell in executed.cells[1:]}, receipt


@pytest.mark.parametrize("name", [name for name, (_, mark) in HOSTILE.items() if mark is not None])
def test_a_check_costs_no_more_and_gains_no_more_than_itself(survived, name):
    cells, _ = survived
    assert determine_grade(cells[name])[0] == HOSTILE[name][1]


def test_the_receipt_says_how_each_cell_ended(survived):
    _, receipt = survived
    ended = {cell.grade_id: cell.status for cell in receipt.cells}
    assert {
        name: ended[name] for name in ("right", "exits", "leaves", "endless", "endless_deaf", "floods")
    } == {
        "right": "ok",
        "exits": "error",
        "leaves": "died",
        "endless": "timeout",
        "endless_deaf": "timeout",
        "floods": "flood",
    }
    assert receipt.sandboxed
    assert receipt.restarts >= 3
    json.dumps(receipt.as_dict())


def test_a_flood_is_cut_short(survived):
    cells, _ = survived
    assert all(len(nbformat.writes(new_notebook(cells=[cell]))) < 2_000_000 for cell in cells.values())


def run(walls, *sources, assets=None, **limits):
    cells = [new_code_cell(source) for source in sources]
    return execute(new_notebook(cells=cells), mode=walls, assets=assets, limits=Limits(**limits))


def test_after_a_death_the_cells_before_it_are_run_again_but_not_the_fatal_one(walls):
    notebook, receipt = run(walls, "x = 1", "y = 2; import os; os._exit(1)", "print(x, 'y' in globals())")
    assert notebook.cells[2].outputs[0].text == "1 False\n"
    assert [cell.status for cell in receipt.cells] == ["ok", "died", "ok"]


def test_a_warm_process_that_ends_costs_nothing_of_the_notebook_it_was_forked_for(walls, tmp_path):
    (tmp_path / "table.csv").write_text("1,2", encoding="utf-8")
    pod = Pod(walls, withheld_build(frozenset()).parents[1], ("numpy",))
    cells = [
        new_code_cell("x = 1"),
        new_code_cell("import time; time.sleep(2); print(x, open('table.csv').read())"),
    ]
    timer = threading.Timer(1.0, pod._popen.kill)
    timer.start()
    notebook, receipt = execute(new_notebook(cells=cells), mode=walls, assets=tmp_path, pod=pod)
    timer.join()
    assert notebook.cells[1].outputs[0].text == "1 1,2\n"
    assert ([cell.status for cell in receipt.cells], receipt.flags) == (["ok", "ok"], ())
    assert (receipt.start, receipt.restarts) == ("cold", 1)


def test_a_notebook_out_of_time_leaves_its_checks_at_nothing(walls):
    check = graded("code", "late", "2.0", grade=True, locked=True, points=2)
    cells = [new_code_cell("import time; time.sleep(60)"), check, new_markdown_cell("end")]
    limits = Limits(cell_seconds=60, notebook_seconds=1)
    executed, receipt = execute(new_notebook(cells=cells), mode=walls, limits=limits, require_check=False)
    assert [cell.status for cell in receipt.cells] == ["timeout", "not run"]
    assert determine_grade(executed.cells[1])[0] == 0


def test_a_notebook_that_kills_every_kernel_ends(walls):
    notebook, receipt = run(walls, *["import os; os._exit(1)"] * 3, restarts=1)
    assert [cell.status for cell in receipt.cells] == ["died", "died", "not run"]
    assert "Not run" in notebook.cells[2].outputs[0].evalue


def test_demonstrations_are_not_run_but_checks_are_whatever_their_tags(walls):
    demo = new_code_cell("print('shown')", metadata={"tags": ["demo"]})
    check = graded("code", "c", "1.0", grade=True, locked=True, points=2)
    check.metadata.tags = ["demo"]
    executed, receipt = execute(new_notebook(cells=[demo, check]), mode=walls, require_check=False)
    assert executed.cells[0].outputs == []
    assert [cell.status for cell in receipt.cells] == ["demo", "ok"]
    assert determine_grade(executed.cells[1])[0] == 1.0


def test_the_notebook_that_went_in_is_not_changed(walls):
    notebook = new_notebook(cells=[new_code_cell("1 + 1")])
    before = nbformat.writes(notebook)
    executed, _ = execute(before.encode(), mode=walls)
    execute(notebook, mode=walls)
    assert nbformat.writes(notebook) == before
    assert executed.cells[0].outputs[0].data["text/plain"] == "2"


def test_without_a_sandbox_no_path_of_the_machine_is_told(tmp_path):
    (tmp_path / "helper.py").write_text("def fail():\n    raise ValueError\n", encoding="utf-8")
    notebook, receipt = run("none", "import helper, os; print(os.getcwd()); helper.fail()", assets=tmp_path)
    assert not receipt.sandboxed
    assert "/tmp" not in str(notebook.cells[0].outputs)
    assert notebook.cells[0].outputs[-1].ename == "ValueError"


def test_waiting_is_not_counted_as_working_but_has_an_end(walls):
    sleep = "import time; time.sleep({})"
    _, receipt = run(
        walls, sleep.format(1.5), sleep.format(60), "while True: pass", cell_seconds=0.7, patience=4
    )
    assert [cell.status for cell in receipt.cells] == ["ok", "timeout", "timeout"]
