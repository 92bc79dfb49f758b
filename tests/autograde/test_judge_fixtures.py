"""Networks as arguments and results: the judge finds in another process what a check in the notebook finds."""

from __future__ import annotations

import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook

from autograde.execute import execute
from autograde.judge import Judged
from coursekit.exercises.expect import expect_close
from coursekit.exercises.runner import run
from coursekit.exercises.spec import Exercise, Fixture, Mistake, as_test
from coursekit.exercises.student import LocalStudent
from coursekit.fixtures import networks
from coursekit.render import CHECK_MIME
from tests.autograde.tinycourse import graded

NET = Fixture("networks.mlp", (0, 3, 2))


def doubled(network):
    import copy

    made = copy.deepcopy(network)
    made[0].weight.data *= 2
    return made


def weights_are_doubled(student):
    """The weights of the returned network are twice those of the given one."""
    state = student.make("networks.state", student.doubled(NET))
    expect_close(state["0.weight"], 2 * networks.mlp(0, 3, 2)[0].weight.detach(), "weight")


def given_network_is_left_alone(student):
    """The network that was given keeps its weights."""
    network = student.make("networks.mlp", 0, 3, 2)
    student.doubled(network)
    x = torch.ones(1, 3)
    given = student.make("networks.output", network, x)
    expect_close(given, networks.output(networks.mlp(0, 3, 2), x), "output of the given network")


EXERCISE = Exercise(
    "doubled", "00", 2, doubled,
    tuple(as_test(each, public=True) for each in (weights_are_doubled, given_network_is_left_alone)),
    ("", "", ""), (Mistake("in_place", "You changed the network.", lambda network: network),), lambda: [(NET,)],
    observe="networks.state",
)  # fmt: skip
CODES = {
    "right": (
        "import copy\ndef doubled(n):\n    m = copy.deepcopy(n)\n    m[0].weight.data *= 2\n    return m",
        2.0,
    ),
    "in_place": ("def doubled(n):\n    n[0].weight.data *= 2\n    return n", 1.0),
    "unchanged": ("def doubled(n):\n    return n", 1.0),
    "no_network": ("def doubled(n):\n    return 3", 1.0),
    "raises": ("def doubled(n):\n    return n.nothing", 0.0),
}


@pytest.mark.parametrize("code", CODES)
def test_judge_and_notebook_agree_on_networks(code, walls):
    text, points = CODES[code]
    namespace: dict[str, object] = {}
    exec(text, namespace)
    here = run(EXERCISE, LocalStudent(namespace))
    cells = [
        new_code_cell("import torch"),
        graded("code", "doubled", text, solution=True),
        graded("code", "check-doubled", 'check("doubled")', grade=True, locked=True, points=2),
    ]
    executed, _ = execute(new_notebook(cells=cells), mode=walls, exercises={"doubled": Judged(EXERCISE)})
    shown = next(o.data[CHECK_MIME] for o in executed.cells[2].outputs if CHECK_MIME in o.get("data", {}))
    assert (here.points, [m.id for m in here.mistakes]) == (
        points,
        ["in_place"] if code == "unchanged" else [],
    )
    assert (shown["points"], [m["id"] for m in shown["mistakes"]]) == (points, [m.id for m in here.mistakes])
