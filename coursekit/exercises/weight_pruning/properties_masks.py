"""The public tests of lesson 05 on masks: top k, over layers, in groups, and compressed rows."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.expect import expect, expect_close, expect_tensor
from coursekit.exercises.spec import Test, TestFunction, as_test, worth

__all__ = [
    "PUBLIC",
    "expect_csr",
    "expect_groups",
    "expect_lowest_go",
    "expect_masks",
    "scores_like",
    "with_zeros",
]


def scores_like(*shape: int, seed: int = 0) -> Tensor:
    """Scores of either sign, all different."""
    n = torch.Size(shape).numel()
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).float()
    return ((order - 0.42 * n) / n).reshape(shape)


def expect_lowest_go(mask: Any, scores: Tensor, n_pruned: int, what: str) -> None:
    """The mask is bool, of the right shape, prunes exactly so many, and none that scores above one it keeps."""
    mask = expect_tensor(mask, torch.bool, scores.shape)
    gone = int((~mask).sum())
    expect(gone == n_pruned, f"{what}: False in the mask", gone, n_pruned)
    if 0 < n_pruned < mask.numel():
        highest_gone, lowest_kept = scores[~mask].max().item(), scores[mask].min().item()
        expect(
            highest_gone <= lowest_kept,
            f"{what}: a score of {highest_gone:.4g} goes while {lowest_kept:.4g} stays",
            highest_gone,
            f"at most {lowest_kept:.4g}",
        )


def expect_masks(masks: Any, scores: Mapping[str, Tensor], n_pruned: int, what: str) -> None:
    """The same over all layers together, with a mask of the right name and shape for each."""
    expect(isinstance(masks, dict), f"{what}: the result is not a dict", masks, "a dict of masks")
    expect(sorted(masks) == sorted(scores), f"{what}: the names", str(sorted(masks)), str(sorted(scores)))
    for name, score in scores.items():
        expect_tensor(masks[name], torch.bool, score.shape)
    flat = torch.cat([masks[name].flatten() for name in scores])
    expect_lowest_go(flat, torch.cat([score.flatten() for score in scores.values()]), n_pruned, what)


def test_the_lowest_scores_go(student):
    """The mask is False exactly at the lowest scores, negative ones among them, and True at all others."""
    scores = torch.tensor([[0.3, -0.9, 0.1, 0.8], [-0.2, 0.5, 0.7, -0.4]])
    expect_lowest_go(student.topk_mask(scores, 0.5), scores, 4, "half of 8")
    scores = scores_like(6, 7)
    expect_lowest_go(student.topk_mask(scores, 0.75), scores, 32, "0.75 of 42")


def test_the_number_is_rounded(student):
    """Exactly round(sparsity * n) scores go, whether n is 7 or 1,000."""
    for n, sparsity, gone in (
        (7, 0.4, 3),
        (7, 0.1, 1),
        (10, 0.37, 4),
        (10, 0.12, 1),
        (1000, 0.9996, 1000),
        (1000, 0.333, 333),
    ):
        expect_lowest_go(
            student.topk_mask(scores_like(n), sparsity), scores_like(n), gone, f"{sparsity} of {n}"
        )


@worth(2)
def test_equal_scores_are_split(student):
    """Where scores are equal some go and some stay, so that the number comes out right."""
    for scores in (torch.ones(10), torch.zeros(4, 5), torch.tensor([0.0, 0, 0, 0, 0, 1, 1, 2, 2, 2])):
        gone = round(0.2 * scores.numel())
        expect_lowest_go(
            student.topk_mask(scores, 0.2), scores, gone, f"a fifth of {scores.numel()} with equals"
        )


def test_nothing_and_everything(student):
    """Sparsity 0 keeps every score, sparsity 1 none."""
    expect_lowest_go(student.topk_mask(scores_like(3, 4), 0.0), scores_like(3, 4), 0, "sparsity 0")
    expect_lowest_go(student.topk_mask(scores_like(3, 4), 1.0), scores_like(3, 4), 12, "sparsity 1")


def layers() -> dict[str, Tensor]:
    """Three layers of different size and scale, their names not in alphabetical order."""
    return {
        "fc.weight": scores_like(4, 5, seed=1).abs() * 3,
        "conv.weight": scores_like(2, 3, 2, 2, seed=2).abs(),
        "body.weight": scores_like(6, 4, seed=3).abs() * 0.1,
    }


def test_layers_compete(student):
    """No score that goes, in any layer, is above one that stays in another."""
    expect_masks(student.global_masks(layers(), 0.5), layers(), 34, "half of 68")
    expect_masks(student.global_masks(layers(), 0.9), layers(), 61, "0.9 of 68")


def test_each_layer_gets_its_own_mask_back(student):
    """Every mask has the name and the shape of its scores, and is False at that layer's own low scores."""
    scores = {"b": torch.tensor([[5.0, 1.0], [6.0, 7.0]]), "a": torch.tensor([[2.0, 8.0], [9.0, 10.0]])}
    masks = student.global_masks(scores, 0.25)
    expect_masks(masks, scores, 2, "a quarter of 8")
    expect(masks["b"].tolist() == [[True, False], [True, True]], "the mask of b", str(masks["b"].tolist()))


def test_the_whole_counts(student):
    """The number is rounded once, over all layers together."""
    scores = {str(i): scores_like(3, seed=i) + 2 for i in range(5)}
    expect_masks(student.global_masks(scores, 0.12), scores, 2, "0.12 of 5 layers of 3")
    expect_masks(student.global_masks(scores, 0.0), scores, 0, "sparsity 0")
    expect_masks(student.global_masks(scores, 1.0), scores, 15, "sparsity 1")


def test_what_is_zero_already_counts(student):
    """Weights that are gone already, with score 0, count towards the target."""
    scores = {name: score * (score > score.median()) for name, score in layers().items()}
    expect_masks(student.global_masks(scores, 0.7), scores, 48, "0.7 of 68, half of them zero")


def expect_groups(mask: Any, scores: Tensor, n: int, m: int, what: str) -> None:
    """Each group of m neighbours of a row keeps exactly its n highest."""
    mask = expect_tensor(mask, torch.bool, scores.shape)
    for (r, row), start in itertools.product(enumerate(scores), range(0, scores.shape[1], m)):
        group, kept = row[start : start + m], mask[r, start : start + m]
        where = f"{what}: row {r}, columns {start} to {start + m - 1}"
        expect(int(kept.sum()) == n, f"{where}: kept", int(kept.sum()), n)
        if 0 < n < m:
            expect(
                group[kept].min() >= group[~kept].max(),
                f"{where}: a lower score stays while a higher one goes",
                group[kept].min().item(),
                group[~kept].max().item(),
            )


def test_two_of_four(student):
    """Of every four neighbours in a row the two highest are kept."""
    scores = torch.tensor([
        [0.9, 0.8, 0.1, 0.2, 0.3, 0.7, 0.4, 0.6],
        [0.1, 0.2, 0.3, 0.4, 0.8, 0.7, 0.6, 0.5],
    ])
    expect_groups(student.nm_mask(scores, 2, 4), scores, 2, 4, "2 of 4")
    expect_groups(student.nm_mask(scores_like(5, 12), 2, 4), scores_like(5, 12), 2, 4, "2 of 4")


def test_other_patterns(student):
    """1 of 4 keeps one of four, 3 of 8 three of eight."""
    expect_groups(student.nm_mask(scores_like(3, 8), 1, 4), scores_like(3, 8), 1, 4, "1 of 4")
    expect_groups(student.nm_mask(scores_like(3, 16), 3, 8), scores_like(3, 16), 3, 8, "3 of 8")


@worth(2)
def test_groups_with_equal_scores(student):
    """A group of equal scores keeps n of m like any other."""
    scores = torch.tensor([[1.0, 1, 1, 1, 0, 0, 0, 0], [0, 1, 1, 1, 2, 2, 0, 2]])
    expect_groups(student.nm_mask(scores, 2, 4), scores, 2, 4, "2 of 4 with equals")


def expect_csr(result: Any, weight: Tensor, what: str) -> None:
    """values, columns and row_starts say where every non-zero value of the weight is."""
    right = isinstance(result, tuple) and len(result) == 3
    expect(
        right, f"{what}: the result is not a tuple of three tensors", result, "(values, columns, row_starts)"
    )
    rows = [[(j, v) for j, v in enumerate(row) if v != 0] for row in weight.tolist()]
    values, columns = ([pair[i] for row in rows for pair in row] for i in (1, 0))
    starts = [0, *itertools.accumulate(len(row) for row in rows)]
    names = ("values", "columns", "row_starts")
    dtypes = (weight.dtype, torch.int16, torch.int32)
    for name, got, wanted, dtype in zip(names, result, (values, columns, starts), dtypes, strict=True):
        expect_close(
            expect_tensor(got, dtype, (len(wanted),)),
            torch.tensor(wanted, dtype=dtype),
            f"{what}: {name}",
            rtol=0,
        )


def with_zeros(rows: int, columns: int, seed: int = 0) -> Tensor:
    """A matrix of which about 70 % is zero, the first row and one in the middle all of it."""
    weight = scores_like(rows, columns, seed=seed)
    weight = weight * (scores_like(rows, columns, seed=seed + 1) > 0.3)
    weight[0] = weight[rows // 2] = 0
    return weight


@worth(2)
def test_rows_in_order(student):
    """Values, columns and row starts of a small matrix, one of whose rows is empty."""
    weight = torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [3.0, 0.0, -4.0]])
    expect_csr(student.to_csr(weight), weight, "a 3 x 3 matrix")


def test_empty_rows_at_the_start(student):
    """An empty first row starts, and ends, at 0."""
    expect_csr(student.to_csr(with_zeros(7, 9)), with_zeros(7, 9), "a 7 x 9 matrix")


def test_columns_beyond_127(student):
    """Column numbers of wide matrices arrive whole."""
    expect_csr(student.to_csr(with_zeros(4, 300)), with_zeros(4, 300), "a 4 x 300 matrix")


def _tests(*functions: TestFunction) -> tuple[Test, ...]:
    return tuple(as_test(function, public=True) for function in functions)


PUBLIC = {
    "topk_mask": _tests(
        test_the_lowest_scores_go,
        test_the_number_is_rounded,
        test_equal_scores_are_split,
        test_nothing_and_everything,
    ),
    "global_masks": _tests(
        test_layers_compete,
        test_each_layer_gets_its_own_mask_back,
        test_the_whole_counts,
        test_what_is_zero_already_counts,
    ),
    "nm_mask": _tests(test_two_of_four, test_other_patterns, test_groups_with_equal_scores),
    "to_csr": _tests(test_rows_in_order, test_empty_rows_at_the_start, test_columns_beyond_127),
}
