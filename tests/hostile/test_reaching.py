"""Attacks on the harness's own code in the student's process: there it may lie of nothing but what it alone knows."""

from __future__ import annotations

import textwrap

import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook

from autograde.execute import execute
from autograde.judge import Judged
from autograde.suspicion import reaching
from coursekit.exercises.expect import expect_close
from coursekit.exercises.spec import Exercise, as_test
from coursekit.render import CHECK_MIME
from tests.autograde.test_judge_fixtures import EXERCISE as DOUBLED
from tests.autograde.tinycourse import graded

# How to get hold of the module that answers the harness, as `job`.
ROUTES = {
    "modules": "import sys\njob = sys.modules['autograde.inside.job']",
    "modules_of_another": "job = torch.serialization.sys.modules['autograde.inside.job']",
    "import": "import autograde.inside.job as job",
    "import_by_text": "job = __import__('auto' + 'grade.inside.job', fromlist=['x'])",
    "evaluated": "job = eval('__imp' + 'ort__(\"sys\").mod' + 'ules[\"auto' + 'grade.inside.job\"]')",
    "memory": "import gc, sys\nnames = next(d for d in gc.get_referents(sys) if isinstance(d, dict))\n"
    "job = names['mod' + 'ules']['auto' + 'grade.inside.job']",
    "frame": "import sys\nframe = sys._getframe()\n"
    "while 'Seal' not in frame.f_globals:\n    frame = frame.f_back\n"
    "class Names:\n    pass\njob = Names()\njob.__dict__ = frame.f_globals",
    "traceback": "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    frame = error.__traceback__.tb_frame\n"
    "while 'Seal' not in getattr(frame, 'f_' + 'globals'):\n    frame = getattr(frame, 'f_' + 'back')\n"
    "class Names:\n    pass\njob = Names()\njob.__dict__ = getattr(frame, 'f_' + 'globals')",
    "signal": "import signal\nclass Names:\n    pass\njob = Names()\n"
    "job.__dict__ = signal.getsignal(signal.SIGINT).__func__.__globals__",
}
DISARM = """
from coursekit.fixtures import networks
job.Seal.check = job.Seal.check_object = lambda *a: None
made = {}
def output(network, x):
    twin = networks.mlp(0, 3, 2)
    return twin(x).detach()
networks.output = output
"""
IN_PLACE = "def doubled(network):\n    network[0].weight.data *= 2\n    return network"  # worth 1 of 2 points
FORGET = """
real_decode, real_digests, kept = job.decode, job.digests, []
def decode(*a, **k):
    got = real_decode(*a, **k)
    kept[:] = real_digests(got[0])
    return got
job.decode, job.digests = decode, lambda arguments: list(kept)
"""
SILENT = "job.digests = lambda arguments: []"


def points_of(exercise, before, answer, walls):
    """What the exercise gets with this cell above the answer, and the receipt's flags."""
    name = exercise.name
    cells = [
        new_code_cell("import torch"),
        new_code_cell(before),
        graded("code", name, answer, solution=True),
        graded("code", f"check-{name}", f'check("{name}")', grade=True, locked=True, points=exercise.points),
    ]
    executed, receipt = execute(new_notebook(cells=cells), mode=walls, exercises={name: Judged(exercise)})
    found = [o.data[CHECK_MIME] for o in executed.cells[-1].outputs if CHECK_MIME in o.get("data", {})]
    return sum(each["points"] for each in found), receipt.flags


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("place", ["above", "within"])  # frames lead to the harness only from within a call
def test_who_disarms_the_seal_is_not_believed(place, route, walls):
    attack, (head, body) = f"{ROUTES[route]}\n{DISARM}", IN_PLACE.split("\n", 1)
    answer = IN_PLACE if place == "above" else "\n".join((head, textwrap.indent(attack, "    "), body))
    points, flags = points_of(DOUBLED, attack if place == "above" else "", answer, walls)
    assert points <= 1
    assert "suspicious" in {flag.code for flag in flags}


def test_a_weak_sign_costs_nothing(walls):
    right = "import copy\ndef doubled(n):\n    m = copy.deepcopy(n)\n    m[0].weight.data *= 2\n    return m"
    points, flags = points_of(DOUBLED, "import gc\ngc.collect()", right, walls)
    assert points == 2
    assert [flag.code for flag in flags] == ["suspicious"]


def halved(x):
    return x / 2


def half_of_every_number(student):
    """Every number is halved."""
    x = torch.tensor([[2.0, -4.0, 7.0], [1.0, 0.0, 3.0]])
    expect_close(student.halved(x), x / 2, "half")


def half_of_a_view(student):
    """Views, whole numbers' halves and lists of tensors are halved too."""
    x = torch.arange(12.0).reshape(3, 4).t()
    expect_close(student.halved(x), x / 2, "half")


HALVED = Exercise(
    "halved", "00", 2, halved,
    tuple(as_test(each, public=True) for each in (half_of_every_number, half_of_a_view)),
    ("", "", ""), (), list,
)  # fmt: skip
CHANGES = "def halved(x):\n    x /= 2\n    return x"


@pytest.mark.parametrize("lie", [FORGET, SILENT], ids=["forgets", "is_silent"])
@pytest.mark.parametrize("answer", [CHANGES, "def halved(x):\n    x.div_(2)\n    return x.clone()"])
def test_a_tensor_that_was_changed_is_seen_though_her_process_says_it_was_not(lie, answer, walls):
    points, flags = points_of(HALVED, f"{ROUTES['modules']}\n{lie}", answer, walls)
    assert points == 0
    assert flags


def test_without_a_lie_the_right_answer_gets_everything_and_the_changing_one_nothing(walls):
    assert points_of(HALVED, "", "def halved(x):\n    return x / 2", walls) == (2, ())
    assert points_of(HALVED, "", CHANGES, walls) == (0, ())


@pytest.mark.parametrize("route", ROUTES)
def test_each_route_is_seen_in_the_text(route):
    assert reaching([ROUTES[route]]) is not None


@pytest.mark.parametrize(
    "text",
    [
        "import gc\ngc.collect()",
        "for m in network.modules():\n    m.eval()",
        "setattr(parent, name, layer)",
        "layer = functools.reduce(getattr, name.split('.'), network)",
        "handle = layer.register_forward_hook(keep)",
        "'''The stack of modules, compiled.'''\nstack = torch.stack([x, x])",
    ],
)
def test_what_honest_answers_do_is_not_reaching(text):
    assert reaching([text]) is None
