"""Masks: the sparsity asked for to one weight, ties settled, what is gone stays gone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit import zoo
from coursekit.pruning import (
    global_masks,
    magnitude_scores,
    make_masks,
    masks_from_zeros,
    random_scores,
    sparsity_of,
    topk_mask,
)

SPARSITIES = [0.0, 1e-6, 0.1, 0.5, 0.9, 0.98, 0.999999, 1.0]


def gone(masks: dict[str, torch.Tensor]) -> int:
    return sum(int((~mask).sum()) for mask in masks.values())


@pytest.mark.parametrize("name", zoo.available()[:3])
@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_sparsity_is_the_target_to_one_weight_in_every_scope(name, sparsity):
    scores = magnitude_scores(zoo.load(name))
    n = sum(score.numel() for score in scores.values())
    assert abs(gone(make_masks(scores, sparsity)) - sparsity * n) <= 0.5
    for masks in (
        make_masks(scores, sparsity, scope="layer"),
        make_masks(scores, dict.fromkeys(scores, sparsity)),
    ):
        for key, mask in masks.items():
            assert abs(gone({key: mask}) - sparsity * mask.numel()) <= 0.5


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(0, 3), min_size=1, max_size=30),
    cut=st.integers(0, 30),
    sparsity=st.floats(0, 1),
)
def test_masks_equal_those_of_sorting_in_plain_python(values, cut, sparsity):
    """The oracle sorts (score, position): few distinct scores, so nearly all are ties."""
    cut = min(cut, len(values))
    scores = {"a": torch.tensor(values[:cut]).float(), "b": torch.tensor(values[cut:]).float()}
    order = sorted(range(len(values)), key=lambda i: (values[i], i))
    out = set(order[: round(sparsity * len(values))])
    masks = global_masks(scores, sparsity)
    assert masks["a"].tolist() + masks["b"].tolist() == [i not in out for i in range(len(values))]


def test_constant_scores_lose_exactly_a_fifth():
    """With a threshold it would be none of them or all."""
    assert topk_mask(torch.ones(10, 10), 0.2).sum() == 80


def test_the_highest_scores_are_kept_across_layers():
    scores = magnitude_scores(zoo.load("lenet5"))
    masks = make_masks(scores, 0.9)
    lowest_kept = min(scores[name][mask].min() for name, mask in masks.items() if mask.any())
    highest_gone = max(scores[name][~mask].max() for name, mask in masks.items() if not mask.all())
    assert highest_gone <= lowest_kept


def test_shapes_that_are_not_contiguous_keep_their_places():
    scores = torch.arange(12.0).reshape(3, 4).T
    assert torch.equal(topk_mask(scores, 0.5), scores >= 6)


def test_what_is_gone_stays_gone_whatever_its_score():
    model = zoo.load("lenet300")
    first = make_masks(magnitude_scores(model), 0.5)
    second = make_masks(random_scores(model, seed=1), 0.8, within=first)
    assert not any((second[name] & ~first[name]).any() for name in first)
    assert gone(second) == round(0.8 * 266_200)
    negative = {name: score - 2 for name, score in random_scores(model, seed=1).items()}
    third = make_masks(negative, 0.8, within=first)
    assert all(torch.equal(third[name], second[name]) for name in first)


def test_zeros_of_a_sparse_model_count_towards_the_target():
    model = zoo.load("lenet300")
    masks = make_masks(magnitude_scores(model), 0.5)
    for name, mask in masks.items():
        model.get_parameter(name).data *= mask
    again = make_masks(magnitude_scores(model), 0.3)
    assert gone(again) == round(0.3 * 266_200)
    assert all((model.get_parameter(name)[~mask] == 0).all() for name, mask in again.items())
    assert sparsity_of(masks_from_zeros(model)) == 0.5


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_a_target_below_what_is_gone_is_refused(scope):
    scores = {"a": torch.arange(1.0, 11)}
    within = {"a": torch.arange(10) >= 6}
    with pytest.raises(ValueError, match="6 of 10 weights are gone already"):
        make_masks(scores, 0.5, scope, within=within)
    assert gone(make_masks(scores, 0.6, scope, within=within)) == 6


@pytest.mark.parametrize("sparsity", [-0.1, 1.1, float("nan"), True, "half"])
def test_sparsity_outside_zero_to_one_is_refused(sparsity):
    with pytest.raises(ValueError, match="from 0 to 1"):
        make_masks({"a": torch.ones(3)}, sparsity)


def test_other_bad_inputs_are_refused_by_name():
    scores = {"a": torch.ones(3), "b": torch.ones(2)}
    with pytest.raises(ValueError, match="lacks 'b'"):
        make_masks(scores, {"a": 0.5})
    with pytest.raises(ValueError, match="has 'c'"):
        make_masks(scores, {"a": 0.5, "b": 0.5, "c": 0.5})
    with pytest.raises(ValueError, match="score of b is nan"):
        make_masks({"a": torch.ones(1), "b": torch.tensor([torch.nan])}, 0.5)
    with pytest.raises(ValueError, match="scope"):
        make_masks(scores, 0.5, scope="model")
    with pytest.raises(ValueError, match=r"within\['a'\] is \(2,\)"):
        make_masks(scores, 0.5, within={"a": torch.ones(2).bool(), "b": torch.ones(2).bool()})
    with pytest.raises(ValueError, match="no mask"):
        sparsity_of({})
