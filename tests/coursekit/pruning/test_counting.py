"""Counts: of what acts, whichever tool holds the mask."""

from __future__ import annotations

import pytest
import torch
from torch.nn.utils import prune

from coursekit import zoo
from coursekit.measure import n_parameters, nonzero
from coursekit.pruning import (
    attach_masks,
    effective_weights,
    magnitude_scores,
    make_masks,
    nonzero_of_state,
)


def test_a_plain_network_counts_as_measure_does():
    model = zoo.load("lenet300")
    assert nonzero_of_state(dict(model.named_parameters())) == (nonzero(model), n_parameters(model))


def test_torchs_own_pruning_counts_the_same_before_and_after_it_is_made_permanent():
    model = zoo.load("lenet300")
    for layer in (model.fc1, model.fc2, model.fc3):
        prune.l1_unstructured(layer, "weight", amount=0.5)
    state = model.state_dict()
    assert sum(int(torch.count_nonzero(p)) for p in model.parameters()) == 266_610  # what goes wrong
    assert nonzero_of_state(state) == (133_100 + 410, 266_610)
    assert torch.equal(effective_weights(state)["fc1.weight"], model.fc1.weight)
    for layer in (model.fc1, model.fc2, model.fc3):
        prune.remove(layer, "weight")
    assert nonzero_of_state(model.state_dict()) == (nonzero(model), 266_610) == (133_510, 266_610)


def test_attached_masks_are_not_counted():
    model = zoo.load("lenet300")
    attach_masks(model, make_masks(magnitude_scores(model), 0.9))
    assert nonzero_of_state(model.state_dict()) == (26_620 + 410, 266_610)


def test_a_weight_without_its_mask_is_refused():
    with pytest.raises(ValueError, match="w_orig has no w_mask"):
        nonzero_of_state({"w_orig": torch.ones(2)})
    assert nonzero_of_state({}) == (0, 0)
    assert nonzero_of_state({"attention_mask": torch.ones(2)}) == (2, 2)  # a name of its own
