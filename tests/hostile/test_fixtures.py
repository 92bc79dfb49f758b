"""Attacks on networks that stay in the student's process, and on the functions by which they are looked at."""

from __future__ import annotations

import pytest
from nbformat.v4 import new_code_cell, new_notebook

from autograde.execute import execute
from autograde.judge import Judged
from coursekit.render import CHECK_MIME
from tests.autograde.test_judge_fixtures import EXERCISE
from tests.autograde.tinycourse import graded

UNCHANGED = "def doubled(network):\n    return network"  # worth 1 of 2 points, without any trick
LIAR = """
class Liar(torch.nn.Sequential):
    calls = 0
    def state_dict(self, *a, **k):
        Liar.calls += 1
        given = super().state_dict(*a, **k)
        return {{name: {} * value for name, value in given.items()}}
"""
LYING = "def doubled(network):\n    return Liar(*network)"
SHOWN = "{n: 2 * v for n, v in torch.nn.Module.state_dict(self).items()}"
# Name: a cell above the answer, the answer.
ATTACKS = {
    "replaces_make": (
        "import coursekit.fixtures as f\nf.make = lambda *a: 2 * torch.ones(2, 3)",
        UNCHANGED,
    ),
    "replaces_a_fixture": (
        "from coursekit.fixtures import networks\nreal = networks.state\n"
        "networks.state = lambda n: {k: 2 * v for k, v in real(n).items()}",
        UNCHANGED,
    ),
    "replaces_it_by_setattr": (
        "from coursekit.fixtures import networks as n\nreal = n.state\n"
        "setattr(n, 'state', lambda m: {k: 2 * v for k, v in real(m).items()})",
        UNCHANGED,
    ),
    "replaces_forward": ("torch.nn.Linear.forward = lambda self, x: torch.zeros(1, 2)", UNCHANGED),
    "replaces_call": ("torch.nn.Module.__call__ = lambda self, x: torch.zeros(1, 2)", UNCHANGED),
    "replaces_state_dict": (
        "real = torch.nn.Module.state_dict\n"
        "torch.nn.Module.state_dict = lambda s, *a, **k: {n: 2 * v for n, v in real(s, *a, **k).items()}",
        UNCHANGED,
    ),
    "replaces_clone": ("torch.Tensor.clone = lambda self: 2 * self", UNCHANGED),
    "replaces_inside_a_call": (
        "",
        "def doubled(network):\n    torch.Tensor.clone = lambda self: 2 * self\n    return network",
    ),
    "forges_a_handle": (
        "import sys\njob = sys.modules['autograde.inside.job']\n"
        "job.encode = lambda *a, **k: ({'o': {'h': 0, 'n': 'Sequential', 'c': True}}, b'')",
        UNCHANGED,
    ),
    "forges_a_handle_of_nothing": (
        "import sys\njob = sys.modules['autograde.inside.job']\n"
        "job.encode = lambda *a, **k: ({'o': {'h': 999, 'n': 'Sequential', 'c': True}}, b'')",
        UNCHANGED,
    ),
    "returns_a_liar": (LIAR.format("2"), LYING),
    "lies_the_second_time": (LIAR.format("(2 if Liar.calls == 1 else 3)"), LYING),
    "hides_it_in_the_object": (
        "",
        "def doubled(network):\n    real = network.state_dict\n"
        "    network.state_dict = lambda *a, **k: {n: 2 * v for n, v in real().items()}\n    return network",
    ),
    "a_part_lies": (
        "class Part(torch.nn.Linear):\n    def _save_to_state_dict(self, d, prefix, keep):\n"
        "        d.update({prefix + n: 2 * p.detach() for n, p in self._parameters.items()})",
        "def doubled(network):\n    part = Part(3, 2)\n    part.__dict__.update(network[0].__dict__)\n"
        "    network[0] = part\n    return network",
    ),
    "a_hook_lies": (
        "",
        "def doubled(network):\n    network.register_state_dict_post_hook(\n"
        "        lambda m, d, *a: d.update({n: 2 * v for n, v in d.items()}))\n    return network",
    ),
    "no_network_at_all": (
        "class Pretender:\n    def __init__(self, net):\n        self.net = net\n"
        "    def __call__(self, x):\n        return self.net(x)\n"
        "    def state_dict(self):\n        return {n: 2 * v for n, v in self.net.state_dict().items()}",
        "def doubled(network):\n    return Pretender(network)",
    ),
    "answers_to_every_name": (
        "class Everything:\n    def __call__(self, x):\n        return x\n"
        "    def __getattr__(self, name):\n        if name != 'state_dict':\n            raise AttributeError\n"
        "        return lambda *a, **k: {'0.weight': torch.ones(2, 3)}",
        "def doubled(network):\n    return Everything()",
    ),
    "a_tensor_that_lies": (
        "class Twice(torch.nn.Parameter):\n    def detach(self):\n        return 2 * self.data",
        "def doubled(network):\n    network[0]._parameters['weight'] = Twice(network[0].weight.data)\n"
        "    return network",
    ),
    "a_dict_that_lies": (
        "class Twice(dict):\n    def items(self):\n        return [(n, 2 * v) for n, v in super().items()]",
        "def doubled(network):\n    network[0].__dict__['_parameters'] = Twice(network[0]._parameters)\n"
        "    return network",
    ),
    "says_it_is_of_another_class": (
        "class Mask(torch.nn.Sequential):\n    __class__ = torch.nn.Sequential\n"
        "    def __getattribute__(self, name):\n        if name == 'state_dict':\n"
        f"            return lambda: {SHOWN}\n        return object.__getattribute__(self, name)",
        "def doubled(network):\n    return Mask(*network)",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_network_cannot_be_made_to_look_right_unnoticed(attack, walls):
    before, answer = ATTACKS[attack]
    cells = [
        new_code_cell("import torch"),
        new_code_cell(before),
        graded("code", "doubled", answer, solution=True),
        graded("code", "check-doubled", 'check("doubled")', grade=True, locked=True, points=2),
    ]
    executed, receipt = execute(
        new_notebook(cells=cells), mode=walls, exercises={"doubled": Judged(EXERCISE)}
    )
    shown = [
        o.data[CHECK_MIME]["points"] for o in executed.cells[-1].outputs if CHECK_MIME in o.get("data", {})
    ]
    assert receipt.flags
    assert sum(shown) <= 1


TRAINS = "torch.optim.{}(n.parameters(), lr=0.0).step()\n    "


@pytest.mark.parametrize("first", ["", *(TRAINS.format(kind) for kind in ("SGD", "Adam", "Adamax", "NAdam"))])
def test_an_honest_network_is_not_flagged(first, walls):
    answer = f"import copy\ndef doubled(n):\n    {first}m = copy.deepcopy(n)\n    m[0].weight.data *= 2\n    return m"
    cells = [
        new_code_cell("import torch\nfrom torch import nn"),
        new_code_cell(
            "hook = nn.Linear(2, 2).register_forward_hook(lambda *a: None)\nimport torch.fx, torch.ao"
        ),
        graded("code", "doubled", answer, solution=True),
        graded("code", "check-doubled", 'check("doubled")', grade=True, locked=True, points=2),
    ]
    executed, receipt = execute(
        new_notebook(cells=cells), mode=walls, exercises={"doubled": Judged(EXERCISE)}
    )
    shown = [
        o.data[CHECK_MIME]["points"] for o in executed.cells[-1].outputs if CHECK_MIME in o.get("data", {})
    ]
    assert (shown, receipt.flags) == ([2.0], ())
