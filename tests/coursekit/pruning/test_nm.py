"""N:M masks: against a loop over the groups."""

from __future__ import annotations

import pytest
import torch

from coursekit import zoo
from coursekit.pruning import magnitude_scores, nm_mask, nm_masks, sparsity_of


@pytest.mark.parametrize("n, m", [(2, 4), (1, 4), (4, 8), (0, 2), (3, 3)])
def test_each_group_of_inputs_keeps_its_n_highest(n, m):
    scores = magnitude_scores(zoo.load("lenet300"))["fc2.weight"][:20, : 24 * m if m != 8 else 24]
    mask = nm_mask(scores, n, m)
    for row, kept in zip(scores.tolist(), mask.tolist(), strict=True):
        for start in range(0, len(row), m):
            order = sorted(range(start, start + m), key=lambda i: (row[i], i))
            assert {i for i in range(start, start + m) if kept[i]} == set(order[m - n :])


def test_the_groups_of_a_convolution_run_along_its_input_channels():
    scores = magnitude_scores(zoo.load("lenet5"))["conv2.weight"]  # (50, 20, 5, 5)
    mask = nm_mask(scores)
    assert mask.shape == scores.shape
    assert (mask.reshape(50, 5, 4, 5, 5).sum(dim=2) == 2).all()
    assert torch.equal(mask[:, :, 1, 3], nm_mask(scores[:, :, 1, 3]))


def test_equal_scores_lose_the_first():
    assert nm_mask(torch.ones(1, 4)).tolist() == [[False, False, True, True]]


def test_a_layer_that_does_not_divide_is_refused_by_name():
    scores = magnitude_scores(zoo.load("lenet5"))
    with pytest.raises(ValueError, match=r"conv1\.weight: .* do not divide"):
        nm_masks(scores)
    del scores["conv1.weight"]
    assert sparsity_of(nm_masks(scores)) == 0.5


@pytest.mark.parametrize("n, m", [(5, 4), (-1, 4), (0, 0)])
def test_n_outside_the_group_is_refused(n, m):
    with pytest.raises(ValueError, match="0 <= n <= m"):
        nm_mask(torch.ones(1, 4), n, m)


def test_scores_without_an_order_are_refused():
    with pytest.raises(ValueError, match="nan"):
        nm_mask(torch.full((1, 4), torch.nan))
    with pytest.raises(ValueError, match="do not divide"):
        nm_mask(torch.ones(4))
