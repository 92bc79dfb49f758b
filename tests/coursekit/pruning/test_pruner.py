"""The pruner's targets are absolute, and what it reports is counted on the weights."""

from __future__ import annotations

import pytest
import torch

from coursekit import zoo
from coursekit.measure import nonzero
from coursekit.pruning import MagnitudePruner


def test_targets_are_absolute_and_met_to_one_weight():
    model = zoo.load("lenet300")
    pruner = MagnitudePruner(model)
    for sparsity in (0.1, 0.2, 0.5, 0.5, 0.9):
        assert pruner.prune(sparsity) == round(sparsity * 266_200) / 266_200
        assert nonzero(model) - 410 == 266_200 - round(sparsity * 266_200)
    with pytest.raises(ValueError, match="gone already"):
        pruner.prune(0.8)
    assert nonzero(model) == 26_620 + 410


def test_ninety_per_cent_in_steps_keeps_what_ninety_per_cent_at_once_keeps():
    """Without training in between nothing has moved."""
    steps, once = zoo.load("lenet5"), zoo.load("lenet5")
    pruner = MagnitudePruner(steps)
    for sparsity in (0.3, 0.6, 0.9):
        pruner.prune(sparsity)
    MagnitudePruner(once).prune(0.9)
    assert all(torch.equal(a, b) for a, b in zip(steps.parameters(), once.parameters(), strict=True))


def test_a_model_that_is_half_zero_counts_as_half_pruned():
    model = zoo.load("lenet300")
    MagnitudePruner(model).prune(0.5)
    pruner = MagnitudePruner(model)
    pruner.finalize()
    again = MagnitudePruner(model)
    assert sum(again.sparsities()[n] * again.masks[n].numel() for n in again.names) == 133_100
    again.prune(0.6)
    assert nonzero(model) == 266_200 - 159_720 + 410


def test_the_output_layer_can_stay_whole():
    model = zoo.load("resnet20")
    pruner = MagnitudePruner(model, output_layer=False)
    assert pruner.prune(0.9, scope="layer") == pytest.approx(0.9, abs=1e-4)
    assert "fc.weight" not in pruner.masks
    assert (model.fc.weight != 0).all()
    assert all(abs(s - 0.9) <= 0.5 / pruner.masks[n].numel() for n, s in pruner.sparsities().items())
