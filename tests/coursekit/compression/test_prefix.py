"""The code in the open against round trips, the fast coder, and damage."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit import zoo
from coursekit.compression import (
    HuffmanCoding,
    canonical_codes,
    code_lengths,
    coded_bytes,
    decode_symbols,
    expected_bits,
    huffman_encode,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=80))
def test_symbols_come_back_and_take_what_was_expected(symbols):
    x = torch.tensor(symbols)
    coding = HuffmanCoding.of(x)
    packed = coding.encode(x)
    assert coding.decode(packed, len(symbols)).tolist() == symbols
    counts = torch.bincount(x)
    n_bits = round(len(symbols) * expected_bits(counts, coding.lengths))
    assert packed.numel() == -(-n_bits // 8)


def test_a_code_made_for_one_tensor_holds_nothing_of_another():
    """Two tensors coded one after the other: in the tutorials' class the second code kept words of the first."""
    HuffmanCoding.of(torch.tensor([5, 6, 7, 8]))
    second = HuffmanCoding.of(torch.tensor([5, 5, 1]))
    assert set(second.words) == {1, 5}
    assert second.decode(second.encode(torch.tensor([5, 1, 5])), 3).tolist() == [5, 1, 5]


def test_a_symbol_without_a_code_is_refused():
    with pytest.raises(ValueError, match="no code for 3"):
        HuffmanCoding.of(torch.tensor([0, 1, 1])).encode(torch.tensor([1, 3]))


def test_bytes_that_are_too_few_or_too_many_are_refused():
    coding = HuffmanCoding.of(torch.arange(64) % 9)
    packed = coding.encode(torch.arange(64) % 9)
    with pytest.raises(ValueError, match="bits end after"):
        coding.decode(packed[:-2], 64)
    with pytest.raises(ValueError, match="there are"):
        coding.decode(torch.cat([packed, packed[:1]]), 64)


def test_one_symbol_and_none():
    assert HuffmanCoding.of(torch.full((9,), 4)).words == {4: "0"}
    nothing = HuffmanCoding.of(torch.empty(0, dtype=torch.int64))
    assert nothing.decode(nothing.encode(torch.empty(0, dtype=torch.int64)), 0).tolist() == []


def test_codes_of_a_prefix_code_that_is_not_complete_can_be_read():
    assert decode_symbols(torch.tensor([0, 1, 0]), [0, 2], [1, 2], 2) == [0, 1]
    with pytest.raises(ValueError, match="bits end after 0 of 1"):
        decode_symbols(torch.tensor([1, 1, 1, 1]), [0, 2], [1, 2], 1)


def test_counted_bytes_of_a_trained_layer_are_nearly_those_of_the_stream():
    """The stream has a header of 25 bytes, and at most two bytes for each of its parts of a thousand symbols."""
    weight = zoo.load("lenet300").get_parameter("fc2.weight").detach().flatten()
    symbols = torch.round(weight / weight.abs().max() * 15).long() + 15
    counts = torch.bincount(symbols).tolist()
    counted = coded_bytes(counts, code_lengths(counts))
    assert counted < len(huffman_encode(symbols)) <= counted + 25 + 2 * (len(symbols) // 1024 + 1)


def test_canonical_words_are_in_order():
    coding = HuffmanCoding.of(torch.tensor([0] * 8 + [1] * 4 + [2, 2, 3, 3]))
    assert list(coding.words.values()) == ["0", "10", "110", "111"]
    assert canonical_codes(coding.lengths) == [0, 2, 6, 7]
