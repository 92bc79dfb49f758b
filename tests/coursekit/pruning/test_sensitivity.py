"""The scan leaves the model alone; sparsities from it meet their target and spare the sensitive."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit import data, zoo
from coursekit.pruning import Scan, layer_sparsities, magnitude_scores, sensitivity_scan, topk_mask
from coursekit.train import evaluate

ROBUST = Scan(0.9, (0.5, 0.9), {"a": (0.9, 0.9), "b": (0.8, 0.1)}, {"a": 100, "b": 100})


@pytest.fixture(scope="module")
def images() -> data.Dataset:
    return data.fashion_mnist("train", subset=True).take(200)


def test_each_entry_is_the_accuracy_with_that_layer_pruned(images):
    model = zoo.load("lenet300")
    before = copy.deepcopy(model.state_dict())
    scan = sensitivity_scan(model, images, (0.5, 0.95))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert scan.baseline == evaluate(model, images)
    assert scan.counts == {"fc1.weight": 235_200, "fc2.weight": 30_000, "fc3.weight": 1_000}
    model.fc2.weight.data *= topk_mask(magnitude_scores(model)["fc2.weight"], 0.95)
    assert scan.accuracy["fc2.weight"][1] == evaluate(model, images)


def test_the_model_comes_back_even_when_the_scan_is_broken_off(images):
    model = zoo.load("lenet300")
    before = model.fc1.weight.detach().clone()
    with pytest.raises(ValueError, match="nan"):
        sensitivity_scan(model, images, (0.5,), scores={"fc1.weight": torch.full((300, 784), torch.nan)})
    assert torch.equal(model.fc1.weight, before)


@settings(max_examples=100, deadline=None)
@given(
    losses=st.lists(st.lists(st.floats(-0.05, 0.8), min_size=3, max_size=3), min_size=1, max_size=5),
    sizes=st.lists(st.integers(1, 1000), min_size=5, max_size=5),
    sparsity=st.floats(0, 0.95),
)
def test_the_sparsities_together_are_the_target(losses, sizes, sparsity):
    accuracy = {str(i): tuple(0.9 - loss for loss in row) for i, row in enumerate(losses)}
    counts = {name: sizes[int(name)] for name in accuracy}
    scan = Scan(0.9, (0.5, 0.8, 0.95), accuracy, counts)
    found = layer_sparsities(scan, sparsity)
    assert all(0 <= each <= 0.95 + 1e-9 for each in found.values())
    mean = sum(found[name] * n for name, n in counts.items()) / sum(counts.values())
    assert mean == pytest.approx(sparsity, abs=1e-6)


def test_the_sensitive_layer_is_spared():
    """a loses nothing up to 0.9; so b needs to give only 0.7 x 2 - 0.9 = 0.5 for a mean of 0.7."""
    found = layer_sparsities(ROBUST, 0.7)
    assert found == {"a": pytest.approx(0.9), "b": pytest.approx(0.5)}


def test_alike_layers_get_alike_sparsities():
    scan = Scan(0.9, (0.5, 0.9), {"a": (0.8, 0.4), "b": (0.8, 0.4)}, {"a": 10, "b": 1000})
    found = layer_sparsities(scan, 0.6)
    assert found == {"a": pytest.approx(0.6), "b": pytest.approx(0.6)}


def test_bad_inputs_are_refused(images):
    with pytest.raises(ValueError, match="which was scanned"):
        layer_sparsities(ROBUST, 0.95)
    for bad in ((), (0.5, 0.5), (0.9, 0.1)):
        with pytest.raises(ValueError, match="must rise"):
            sensitivity_scan(zoo.load("lenet300"), images, bad)
