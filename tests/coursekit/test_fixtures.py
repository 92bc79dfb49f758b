"""Objects for a student's function: made by name, the same each time."""

from __future__ import annotations

import pytest
import torch

from coursekit import fixtures
from coursekit.fixtures import networks


def test_a_fixture_is_made_by_name():
    made, ours = fixtures.make("networks.mlp", 3, 5, 4, 2), networks.mlp(3, 5, 4, 2)
    x = torch.linspace(-1, 1, 5)[None]
    assert torch.equal(networks.output(made, x), networks.output(ours, x))


@pytest.mark.parametrize(
    "name", ["", "networks", "networks._x", "os.system", "networks.nothing", "networks.mlp.x"]
)
def test_a_name_that_is_no_fixture_is_refused(name):
    with pytest.raises(ValueError, match=r"fixture|form"):
        fixtures.make(name)


def test_making_a_network_leaves_the_global_random_numbers_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    networks.mlp(1, 2, 2)
    assert torch.equal(before, torch.get_rng_state())
