"""Huffman codes against theorems, brute force, another library, and damage."""

from __future__ import annotations

import itertools
import math

import dahuffman
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit import zoo
from coursekit.compression import (
    canonical_codes,
    code_lengths,
    entropy,
    expected_bits,
    huffman_decode,
    huffman_encode,
    huffman_stats,
    kmeans,
    limited_lengths,
)

counts_of = st.lists(st.integers(0, 50), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def indices() -> torch.Tensor:
    """The indices of a trained network's weights into a codebook of 32."""
    weights = [p.detach().flatten() for p in zoo.load("lenet300").parameters() if p.dim() > 1]
    return kmeans(torch.cat(weights), 32).indices


@settings(max_examples=100, deadline=None)
@given(counts_of)
def test_expected_bits_lie_within_one_bit_of_the_entropy(counts):
    """Shannon's bound, from below and from above."""
    bits = expected_bits(counts, code_lengths(counts))
    assert entropy(counts) - 1e-9 <= bits < entropy(counts) + 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=5), st.integers(3, 4))
def test_no_other_lengths_are_cheaper(counts, limit):
    """Over every list of lengths up to the limit that satisfies Kraft's inequality."""
    lists = itertools.product(range(1, limit + 1), repeat=len(counts))
    costs = [
        sum(n * size for n, size in zip(counts, sizes, strict=True))
        for sizes in lists
        if sum(2.0**-size for size in sizes) <= 1
    ]
    for lengths in (code_lengths(counts, limit), limited_lengths(counts, limit)):
        assert sum(n * size for n, size in zip(counts, lengths, strict=True)) == min(costs)
        assert max(lengths) <= limit


def test_fibonacci_counts_make_the_longest_codes_and_a_limit_cuts_them():
    counts = [1, 1, 2, 3, 5, 8, 13, 21, 34, 55]
    assert sorted(code_lengths(counts)) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 9]
    limited = code_lengths(counts, 5)
    assert max(limited) == 5
    assert sum(2.0**-size for size in limited) == 1


@settings(max_examples=60, deadline=None)
@given(counts_of)
def test_no_code_is_the_beginning_of_another(counts):
    lengths = code_lengths(counts)
    words = [f"{c:0{n}b}" for c, n in zip(canonical_codes(lengths), lengths, strict=True) if n]
    assert not any(a != b and b.startswith(a) for a in words for b in words)
    assert len(set(words)) == len(words)


def test_lengths_that_no_prefix_code_has_are_refused():
    with pytest.raises(ValueError, match="no prefix code"):
        canonical_codes([1, 1, 1])


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=200))
def test_symbols_come_back(symbols):
    assert huffman_decode(huffman_encode(torch.tensor(symbols, dtype=torch.int64))).tolist() == symbols


@pytest.mark.parametrize("n", [1, 1023, 1024, 2047, 2048, 5000])
@pytest.mark.parametrize("alphabet", [1, 2, 3, 256, 257, 4000])
def test_symbols_come_back_in_one_stream_and_in_many(n, alphabet):
    symbols = torch.randint(alphabet, (n,), generator=torch.Generator().manual_seed(n))
    symbols[n // 2] = alphabet - 1
    assert torch.equal(huffman_decode(huffman_encode(symbols)), symbols)


def test_one_symbol_takes_no_bits_and_no_symbols_are_possible():
    assert len(huffman_encode(torch.full((100_000,), 7))) == len(huffman_encode(torch.full((1,), 7))) < 40
    assert huffman_decode(huffman_encode(torch.empty(0, dtype=torch.int64))).shape == (0,)


def test_code_words_cost_what_another_librarys_do(indices):
    counts = torch.bincount(indices)
    theirs = dahuffman.HuffmanCodec.from_frequencies(dict(enumerate(counts.tolist()))).get_code_table()
    n_bits = sum(int(n) * theirs[symbol][0] for symbol, n in enumerate(counts))
    ours = expected_bits(counts, code_lengths(counts)) * indices.numel()
    # Theirs has one more symbol, for the end, that occurs once: beside the rarest symbol, whose code grows by a bit.
    assert ours <= n_bits <= ours + counts.min().item() + math.log2(indices.numel())


def test_real_bits_of_a_trained_network_are_close_to_its_entropy(indices):
    """The code words within 0.03 bits; header, table and streams within a hundredth of a bit more."""
    stats = huffman_stats(indices)
    assert stats.entropy <= stats.expected <= stats.entropy + 0.03
    assert stats.expected <= stats.real <= stats.expected + 0.012


def test_every_damaged_byte_is_noticed():
    data = huffman_encode(torch.arange(3000) % 11)
    for position in range(0, len(data), 7):
        broken = bytearray(data)
        broken[position] ^= 1 << position % 8
        with pytest.raises(ValueError, match="Huffman stream"):
            huffman_decode(bytes(broken))


@pytest.mark.parametrize("cut", [0, 3, 8, 20, 40, -1])
def test_a_stream_cut_off_is_noticed(cut):
    with pytest.raises(ValueError, match="Huffman stream"):
        huffman_decode(huffman_encode(torch.arange(3000) % 11)[:cut])


def test_bytes_behind_the_stream_are_noticed():
    with pytest.raises(ValueError, match="damaged"):
        huffman_decode(huffman_encode(torch.arange(9)) + b"\0")


@pytest.mark.parametrize("symbols, error", [([-1], ValueError), ([65_536], ValueError), ([0.5], TypeError)])
def test_what_is_no_symbol_is_refused(symbols, error):
    with pytest.raises(error):
        huffman_encode(torch.tensor(symbols))


def test_too_many_symbols_for_the_limit_are_refused():
    with pytest.raises(ValueError, match="cannot be told apart"):
        code_lengths([1] * 5, 2)
