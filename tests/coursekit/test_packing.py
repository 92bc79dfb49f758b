"""Bit packing: against Python's own big integers, and there and back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.packing import bits_for, pack, unpack


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 17).flatmap(
        lambda b: st.tuples(st.just(b), st.lists(st.integers(0, 2**b - 1), max_size=40))
    )
)
def test_the_bytes_are_those_of_one_long_number(case):
    n_bits, codes = case
    number = 0
    for code in codes:
        number = number << n_bits | code
    n_bytes = -(-len(codes) * n_bits // 8)
    number <<= 8 * n_bytes - len(codes) * n_bits
    packed = pack(torch.tensor(codes, dtype=torch.int64), n_bits)
    assert bytes(packed.tolist()) == number.to_bytes(n_bytes, "big")
    assert unpack(packed, n_bits, len(codes)).tolist() == codes


@pytest.mark.parametrize("n_values", range(1, 70))
def test_bits_are_just_enough(n_values):
    bits = bits_for(n_values)
    assert 2**bits >= n_values
    assert bits == 0 or 2 ** (bits - 1) < n_values


@pytest.mark.parametrize("codes, n_bits", [([4], 2), ([-1], 3), ([1], 0)])
def test_a_code_that_does_not_fit_is_refused(codes, n_bits):
    with pytest.raises(ValueError, match="do not fit"):
        pack(torch.tensor(codes), n_bits)


def test_real_numbers_are_no_codes():
    with pytest.raises(TypeError, match="integers"):
        pack(torch.ones(2), 2)


@pytest.mark.parametrize("n_bytes, n_codes", [(1, 5), (3, 5), (0, 1), (1, -1)])
def test_bytes_too_many_or_too_few_are_refused(n_bytes, n_codes):
    with pytest.raises(ValueError, match="are not"):
        unpack(torch.zeros(n_bytes, dtype=torch.uint8), 3, n_codes)


def test_set_bits_behind_the_last_code_are_refused():
    with pytest.raises(ValueError, match="damaged"):
        unpack(torch.tensor([0b10100001], dtype=torch.uint8), 3, 2)
