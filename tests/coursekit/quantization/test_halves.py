"""Scales on which integers and float32 round alike: by trying every accumulator and every sum that there can be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from coursekit.quantization.grid import QParams
from coursekit.quantization.halves import clear_sum_grid, clear_weight_scales, disagreements

OUTPUT = QParams(0.0625, -128)


def counted(factor: float, low: int, high: int) -> int:
    """The same by trying every accumulator, in exact integers: a float32 number is a fraction over a power of two."""
    top, bottom = np.float32(factor).item().as_integer_ratio()
    reach = range(int(low / factor) - 2, int(high / factor) + 3)
    return sum(
        (2 * acc * top + bottom) // (2 * bottom) != int(np.rint(np.float32(acc) * np.float32(factor)))
        for acc in reach
        if low < acc * factor < high
    )


@pytest.mark.parametrize(("low", "high"), [(0, 255), (-100, 155)])
def test_disagreements_are_those_found_by_trying_every_accumulator(low, high):
    g = torch.Generator().manual_seed(0)
    factors = torch.rand(12, generator=g) * 0.01 + 0.004
    expected = [counted(f, low, high) for f in factors.tolist()]
    assert disagreements(factors, low, high).tolist() == expected
    assert sum(expected) > 0


def test_a_factor_of_a_half_disagrees_where_halves_go_up_and_to_even_apart():
    # 0.5, 2.5, … go up to 1, 3, … and to the even 0, 2, …; of the halves 0.5 to 254.5 that is every other one.
    assert disagreements(torch.tensor([0.5]), 0, 255).tolist() == [128]


def test_cleared_scales_have_no_disagreement_and_are_hardly_larger():
    scales = torch.rand(64, generator=torch.Generator().manual_seed(1)) * 0.01 + 0.002
    before = disagreements(scales * 0.02 / OUTPUT.scale, 0, 255)
    cleared = clear_weight_scales(scales, 0.02, OUTPUT)
    after = disagreements(cleared * 0.02 / OUTPUT.scale, 0, 255)
    assert before.sum() > 0
    assert after.sum() == 0
    assert (cleared >= scales).all()
    assert (cleared / scales - 1).max() < 0.004
    assert torch.equal(cleared[before == 0], scales[before == 0])


def test_a_cleared_sum_rounds_every_pair_of_codes_alike():
    a, b = QParams(0.05, 3), QParams(0.1, -7)  # the ratio of a half: sums on halves in plenty
    codes = torch.arange(-128, 128, dtype=torch.float64)
    sums = (a.scale * (codes - 3))[:, None] + b.scale * (codes + 7)

    def apart(grid: QParams) -> int:
        exact = torch.floor(sums / grid.scale + 0.5).clamp(-128 - grid.zero_point, 127 - grid.zero_point)
        rough = torch.round(sums.float() / grid.scale).clamp(-128 - grid.zero_point, 127 - grid.zero_point)
        return int((exact != rough).sum())

    observed = QParams(0.1, 0)
    assert apart(observed) > 100
    cleared = clear_sum_grid((a, b), observed, None)
    assert apart(cleared) == 0
    assert 1 < cleared.scale / observed.scale < 1.003
