"""The networks of lesson 09's tests say truly what a call left behind in them."""

from __future__ import annotations

import torch

from coursekit.fixtures import features


def test_a_network_counts_its_passes_and_hooks_and_notes_gradients_and_mode():
    network = features.small(0, True)
    handle = network.block.register_forward_hook(lambda module, inputs, output: None)
    with torch.no_grad():
        network(torch.zeros(2, 1, 6, 6))
    expected = {"returned": 5, "hooks": 1, "training": True, "passes": 1, "gradients": False}
    assert features.seen(5) == expected and features.again() is network
    handle.remove()
    assert features.hook_count(network) == 0 and features.passes(network) == 1


def test_seeds_make_the_networks_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    first, again, other = (features.hint(seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])


def test_the_regressor_takes_the_students_channels_to_the_teachers():
    x = torch.zeros(2, 1, 6, 6)
    assert features.regressor(0)(features.guided(0)(x)).shape == features.hint(0)(x).shape
