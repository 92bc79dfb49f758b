"""The scan against one network at a time, and bits against all choices there are."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from coursekit import data, zoo
from coursekit.quantization import (
    fake_quantize,
    greedy_bits,
    layer_sensitivity,
    optimal_bits,
    sensitivity_table,
    symmetric_scale_per_channel,
    weight_names,
)
from coursekit.train import predict


@pytest.fixture(scope="module")
def score():
    """Minus the cross-entropy on 200 training images."""
    few = data.fashion_mnist("train", subset=True).take(200)
    return lambda network: -nn.functional.cross_entropy(predict(network, few.images), few.labels).item()


def test_drop_is_that_of_the_network_with_this_layer_alone_quantized(score):
    network = zoo.load("lenet5")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    drops = layer_sensitivity(network, score, n_bits=3)
    assert (
        list(drops) == weight_names(network) == ["conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight"]
    )
    for name, drop in drops.items():
        other = zoo.load("lenet5")
        weight = other.get_parameter(name)
        weight.data = fake_quantize(weight.data, symmetric_scale_per_channel(weight.data, 3), 3)
        assert drop == score(network) - score(other)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_fewer_bits_cost_more_in_sum(score):
    table = sensitivity_table(zoo.load("lenet5"), score, bits=(8, 4, 2))
    totals = [sum(row[i] for row in table.values()) for i in range(3)]
    assert abs(totals[0]) < 0.01 < totals[2]
    assert totals[0] < totals[1] < totals[2]


def test_nothing_to_scan_and_scores_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="nothing to scan"):
        layer_sensitivity(nn.Sequential(nn.ReLU()), lambda network: 1.0)
    with pytest.raises(ValueError, match="score of the model as it is is nan"):
        layer_sensitivity(nn.Linear(1, 1), lambda network: float("nan"))


def tables(
    values: list[list[float]], widths: list[int]
) -> tuple[dict[str, list[float]], dict[str, list[int]]]:
    """Losses as given, and sizes of layers of these many weights at 8, 4 and 2 bits."""
    names = [f"layer{i}" for i in range(len(widths))]
    return dict(zip(names, values, strict=True)), {
        name: [8 * n, 4 * n, 2 * n] for name, n in zip(names, widths, strict=True)
    }


LAYERS = st.integers(1, 5).flatmap(
    lambda n: st.tuples(
        st.lists(st.lists(st.floats(-1, 10), min_size=3, max_size=3), min_size=n, max_size=n),
        st.lists(st.integers(1, 30), min_size=n, max_size=n),
        st.floats(0.25, 1.0),
    )
)


@given(LAYERS)
def test_optimal_bits_have_the_smallest_loss_of_all_choices_that_fit(layers):
    values, widths, share = layers
    losses, sizes = tables(values, widths)
    budget = max(2 * sum(widths), int(share * 8 * sum(widths)))
    options = itertools.product(range(3), repeat=len(widths))
    fitting = [c for c in options if sum(sizes[n][i] for n, i in zip(sizes, c, strict=True)) <= budget]
    best = min(sum(losses[n][i] for n, i in zip(losses, c, strict=True)) for c in fitting)
    bits = optimal_bits(losses, sizes, budget, (8, 4, 2))
    place = {8: 0, 4: 1, 2: 2}
    assert sum(sizes[n][place[b]] for n, b in bits.items()) <= budget
    assert sum(losses[n][place[b]] for n, b in bits.items()) == pytest.approx(best, abs=1e-9)


@given(LAYERS)
def test_greedy_bits_fit_and_their_last_step_was_needed(layers):
    values, widths, share = layers
    losses, sizes = tables(values, widths)
    budget = max(2 * sum(widths), int(share * 8 * sum(widths)))
    place = {8: 0, 4: 1, 2: 2}
    chosen = {name: place[b] for name, b in greedy_bits(losses, sizes, budget, (8, 4, 2)).items()}
    taken = sum(sizes[name][i] for name, i in chosen.items())
    assert taken <= budget
    if any(chosen.values()):  # some layer's last step back would break the budget
        assert any(taken + sizes[name][i - 1] - sizes[name][i] > budget for name, i in chosen.items() if i)


def test_greedy_is_not_always_optimal():
    """The cheap step first leaves the dear one too: 1.1 where 1.0 was to be had."""
    losses, sizes = {"small": [0.0, 0.1], "large": [0.0, 1.0]}, {"small": [2, 1], "large": [12, 6]}
    greedy, best = (f(losses, sizes, 8, (8, 4)) for f in (greedy_bits, optimal_bits))
    assert greedy == {"small": 4, "large": 4}
    assert best == {"small": 8, "large": 4}


@pytest.mark.parametrize("search", [greedy_bits, optimal_bits])
def test_impossible_budgets_and_odd_tables_are_refused(search):
    losses, sizes = {"a": [0.0, 1.0]}, {"a": [8, 4]}
    with pytest.raises(ValueError, match="3 bytes cannot be met"):
        search(losses, sizes, 3, (8, 4))
    with pytest.raises(ValueError, match="same layers"):
        search(losses, {"b": [8, 4]}, 8, (8, 4))
    with pytest.raises(ValueError, match="each of the 4 options"):
        search(losses, sizes, 8)
    with pytest.raises(ValueError, match="must fall"):
        search(losses, {"a": [4, 4]}, 8, (8, 4))
