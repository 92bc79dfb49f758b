"""Relative positions against a walk from left to right, and on a pruned network."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit import zoo
from coursekit.compression import from_relative_positions, relative_positions


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.0, 1.5, -2.0]), max_size=80), st.integers(1, 4))
def test_numbers_come_back_from_gaps_that_fit(numbers, n_bits):
    x = torch.tensor(numbers, dtype=torch.float32)
    gaps, values = relative_positions(x, n_bits)
    assert torch.equal(from_relative_positions(gaps, values, len(x)), x)
    assert ((gaps >= 0) & (gaps < 2**n_bits)).all()
    assert (gaps[values == 0] == 2**n_bits - 1).all()  # no filler stands for less than it can
    assert not len(values) or values[-1] != 0


@pytest.mark.parametrize("zeros, gaps", [(7, [7]), (8, [7, 0]), (9, [7, 1]), (16, [7, 7, 0])])
def test_a_filler_stands_for_its_zeros_and_itself(zeros, gaps):
    found, values = relative_positions(torch.tensor([0.0] * zeros + [2.0]), 3)
    assert found.tolist() == gaps
    assert values.tolist() == [0.0] * (len(gaps) - 1) + [2.0]


def test_a_pruned_network_comes_back_and_wider_gaps_need_fewer_fillers():
    weight = zoo.load("resnet20-sparse90").get_parameter("stage3.0.conv2.weight").detach().flatten()
    lengths = []
    for n_bits in (2, 4, 8):
        gaps, values = relative_positions(weight, n_bits)
        assert torch.equal(from_relative_positions(gaps.to(torch.uint8), values, len(weight)), weight)
        lengths.append(len(gaps))
    assert lengths[0] > lengths[1] > lengths[2] >= int((weight != 0).sum())


@pytest.mark.parametrize("shape, n_bits", [((2, 2), 4), ((4,), 0), ((4,), 17)])
def test_what_has_no_positions_is_refused(shape, n_bits):
    with pytest.raises(ValueError, match="one dimension"):
        relative_positions(torch.ones(shape), n_bits)


def test_gaps_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not go with"):
        from_relative_positions(torch.tensor([1, 2]), torch.ones(1), 9)
    with pytest.raises(ValueError, match="do not go with"):
        from_relative_positions(torch.tensor([-1]), torch.ones(1), 9)
    with pytest.raises(ValueError, match="beyond the 4"):
        from_relative_positions(torch.tensor([1, 2]), torch.ones(2), 4)
