"""The hidden tests of lesson 05: the properties of the public tests on other data, sizes and layouts."""

from __future__ import annotations

import torch

from coursekit.exercises.expect import expect_close, expect_tensor
from coursekit.exercises.spec import as_test
from coursekit.exercises.weight_pruning.properties_masks import (
    expect_csr,
    expect_groups,
    expect_lowest_go,
    expect_masks,
    scores_like,
    with_zeros,
)
from coursekit.exercises.weight_pruning.properties_weights import adam_case, expect_counts, expect_steps, wave

__all__ = ["HIDDEN"]


def test_coarse_scores_of_every_layout(student):
    """On a coarse grid, in float64 and in a transposed tensor, the number is exact and the lowest go."""
    coarse = (scores_like(20, 31, seed=7) * 8).round()
    for scores in (coarse, coarse.T, coarse.double(), coarse.reshape(4, 5, 31)):
        for sparsity in (0.02, 0.499, 0.9):
            gone = round(sparsity * scores.numel())
            expect_lowest_go(student.topk_mask(scores, sparsity), scores, gone, f"{sparsity} of 620")


def test_equal_scores_in_all_layers(student):
    """Where all scores of all layers are equal the number is exact all the same."""
    scores = {"z": torch.ones(3, 5), "y": torch.ones(7), "x": torch.ones(2, 2, 2)}
    for sparsity in (0.1, 0.5, 0.93):
        expect_masks(
            student.global_masks(scores, sparsity), scores, round(sparsity * 30), f"{sparsity} of 30 equals"
        )


def test_one_layer_can_lose_everything(student):
    """A layer whose scores are all lower than another's goes first, to its last weight."""
    scores = {"large": scores_like(5, 6).abs() + 2, "small": scores_like(5, 6, seed=2).T}
    expect_masks(student.global_masks(scores, 0.5), scores, 30, "half of 60")
    expect_masks(student.global_masks(scores, 0.75), scores, 45, "0.75 of 60")


def test_convolution_with_many_batches(student):
    """For the weight of a convolution and 7 batches each score is the mean of |w g| over the batches."""
    weight, gradients = wave(3, 2, 3, 3), wave(7, 3, 2, 3, 3, phase=2) * 1e-3
    score = expect_tensor(student.taylor_score(weight, gradients), torch.float32, weight.shape)
    expected = torch.tensor([
        sum(abs(w * g) for g in column) / 7
        for w, column in zip(weight.flatten().tolist(), gradients.flatten(1).T.tolist(), strict=True)
    ])
    expect_close(score.flatten(), expected, "score", rtol=1e-4)


def test_long_training_from_other_moments(student):
    """Forty steps from other weights and moments: masked weights and moments are 0, the others are torch's."""
    for case in (adam_case(40, 3, phase=1.5), adam_case(5, 1000, phase=0.7)):
        expect_steps(student.masked_adam(*case), case)


def test_all_or_nothing_masked(student):
    """A mask that keeps everything changes nothing; one that keeps nothing leaves zeros."""
    for keep in (True, False):
        weight, mask, *rest = adam_case(4)
        case = (weight, torch.full_like(mask, keep), *rest)
        expect_steps(student.masked_adam(*case), case)


def test_several_masked_layers(student):
    """Two masked layers and a batch norm's parameters."""
    mask = (scores_like(6, 5) > 0.2).float()
    state = {
        "1.weight_orig": wave(6, 5),
        "1.weight_mask": mask,
        "2.weight": torch.ones(6),
        "2.bias": torch.zeros(6),
        "3.weight_orig": wave(2, 6),
        "3.weight_mask": torch.zeros(2, 6),
    }
    expect_counts(student.nonzero_of_state(state), int(mask.sum()) + 6, 30 + 12 + 12)


def test_masked_bias(student):
    """A bias can have a mask of its own."""
    state = {"w": wave(2, 2), "bias_orig": wave(4), "bias_mask": torch.tensor([1.0, 0.0, 0.0, 1.0])}
    expect_counts(student.nonzero_of_state(state), 6, 8)


def test_rows_of_a_wide_random_matrix(student):
    """A 40 x 500 matrix with nine tenths zero, and its transposed view."""
    weight = with_zeros(40, 500, seed=3) * (scores_like(40, 500, seed=9) > 0.25)
    expect_csr(student.to_csr(weight), weight, "a 40 x 500 matrix")
    expect_csr(student.to_csr(weight.T), weight.T, "its transpose")


def test_nothing_left_and_nothing_gone(student):
    """A matrix of zeros has no values and all its row starts at 0; a full one keeps them all."""
    expect_csr(student.to_csr(torch.zeros(3, 4)), torch.zeros(3, 4), "zeros")
    expect_csr(student.to_csr(wave(3, 4)), wave(3, 4), "a full matrix")


def test_wide_layers_and_views(student):
    """On a wide matrix and on a transposed view of one, groups run along the rows."""
    for scores in (scores_like(10, 64, seed=4), scores_like(64, 12, seed=5).T):
        expect_groups(student.nm_mask(scores, 2, 4), scores, 2, 4, "2 of 4")


def test_extreme_patterns(student):
    """0 of 4 keeps nothing, 4 of 4 everything, 1 of 2 every other at most."""
    for n, m in ((0, 4), (4, 4), (1, 2)):
        expect_groups(
            student.nm_mask(scores_like(3, 8, seed=6), n, m), scores_like(3, 8, seed=6), n, m, f"{n} of {m}"
        )


def _tests(*functions):
    return tuple(as_test(function, public=False) for function in functions)


HIDDEN = {
    "topk_mask": _tests(test_coarse_scores_of_every_layout),
    "global_masks": _tests(test_equal_scores_in_all_layers, test_one_layer_can_lose_everything),
    "taylor_score": _tests(test_convolution_with_many_batches),
    "masked_adam": _tests(test_long_training_from_other_moments, test_all_or_nothing_masked),
    "nonzero_of_state": _tests(test_several_masked_layers, test_masked_bias),
    "to_csr": _tests(test_rows_of_a_wide_random_matrix, test_nothing_left_and_nothing_gone),
    "nm_mask": _tests(test_wide_layers_and_views, test_extreme_patterns),
}
