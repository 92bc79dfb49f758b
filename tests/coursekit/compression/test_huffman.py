"""Huffman codes against theorems, brute force, another library, and damage."""

from __future__ import annotations

import itertools
import math
import struct
import zlib

import dahuffman
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit import zoo
from coursekit.compression import (
    canonical_codes,
    code_lengths,
    encode_gaps,
    entropy,
    expected_bits,
    huffman_decode,
    huffman_encode,
    huffman_stats,
    kmeans,
    limited_lengths,
)
from coursekit.compression.huffman import roughly_limited_lengths
from coursekit.quantization import quantize, symmetric_scale_per_channel, weight_names

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


def test_pairs_of_a_trained_networks_weights_take_less_than_the_entropy_of_one_by_one(indices):
    """Neighbours know something of each other; header, table and streams take a fiftieth of a bit more."""
    stats, pairs = huffman_stats(indices), torch.bincount(indices[0::2] * 32 + indices[1::2])
    assert stats.per_word == 2
    assert entropy(pairs) / 2 <= stats.expected <= entropy(pairs) / 2 + 0.03
    assert stats.expected <= stats.real <= stats.expected + 0.025 < stats.entropy


def bell(n: int, width: float, seed: int = 0) -> torch.Tensor:
    """Symbols like a layer's codes."""
    values = torch.randn(n, generator=torch.Generator().manual_seed(seed)) * width
    return (values.round() + 4 * width).clamp(0, 8 * width).to(torch.int64)


FORMS = {
    "HUF1": torch.arange(3000) % 11,
    "HUF2": bell(100_001, 4),
    "HUF2, low bits": bell(200_001, 30),
    "HUF3": bell(3001, 30),
}


@pytest.mark.parametrize("form", FORMS)
def test_symbols_come_back_in_each_form(form):
    data = huffman_encode(FORMS[form])
    assert data[:4] == form[:4].encode()
    assert (data[25] > 0) is ("low" in form) or form[:4] != "HUF2"
    assert torch.equal(huffman_decode(data), FORMS[form])


@pytest.mark.parametrize("form", ["HUF1", "HUF2", "HUF3"])
def test_every_damaged_byte_is_noticed(form):
    data = huffman_encode(FORMS[form])
    for position in range(0, len(data), 7):
        broken = bytearray(data)
        broken[position] ^= 1 << position % 8
        with pytest.raises(ValueError, match="Huffman stream"):
            huffman_decode(bytes(broken))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cut", [0, 3, 8, 20, 40, -1])
def test_a_stream_cut_off_is_noticed(cut, form):
    with pytest.raises(ValueError, match="Huffman stream"):
        huffman_decode(huffman_encode(FORMS[form])[:cut])


@pytest.mark.parametrize("form", FORMS)
def test_a_lie_with_a_right_checksum_ends_in_an_error_or_in_symbols(form):
    """Each byte of the head in turn is every bit another, and the checksum is made to fit."""
    data, n = bytearray(huffman_encode(FORMS[form])), len(FORMS[form])
    refused = 0
    for position in range(8, 8 + 21 + 40):
        for bit in range(8):
            lie = bytearray(data)
            lie[position] ^= 1 << bit
            lie[4:8] = struct.pack("<I", zlib.crc32(bytes(lie[8:])))
            try:
                assert len(huffman_decode(bytes(lie), most=2 * n)) <= 2 * n
            except ValueError:
                refused += 1
    assert refused > 200


def test_pairs_are_written_with_the_words_that_a_reader_bit_by_bit_finds():
    """An independent reader: the form's own description, canonical codes, one bit at a time."""
    symbols = bell(60_001, 4)
    data = huffman_encode(symbols)
    n, n_streams, alphabet, least, width, low, size = struct.unpack_from("<IIIIBBH", data, 8)
    assert (data[:4], n, low) == (b"HUF2", 60_001, 0)
    lengths = list(zlib.decompress(data[28 : 28 + size], wbits=-15))
    assert len(lengths) == alphabet**2
    words = {
        f"{c:0{size}b}": pair
        for pair, (c, size) in enumerate(zip(canonical_codes(lengths), lengths, strict=True))
        if size
    }
    text = "".join(f"{byte:08b}" for byte in data[28 + size :])
    sizes = [least + int(text[i * width : (i + 1) * width] or "0", 2) for i in range(n_streams)]
    at = 8 * math.ceil(n_streams * width / 8)
    streams = []
    for size in sizes:
        found, word = [], ""
        for bit in text[at : at + size]:
            word += bit
            if word in words:
                found.append(words[word])
                word = ""
        streams.append(found)
        at += size
        assert word == ""
    pairs = [stream[row] for row in range(len(streams[0])) for stream in streams]
    assert [symbol for pair in pairs for symbol in divmod(pair, alphabet)][:n] == symbols.tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5000), min_size=2, max_size=60), st.integers(7, 16))
def test_rough_lengths_are_near_the_best_and_make_a_whole_code(counts, limit):
    lengths = roughly_limited_lengths(counts, limit)
    assert max(lengths) <= limit
    if sum(n > 0 for n in counts) > 1:
        assert sum(2.0**-size for size in lengths if size) == 1
        best = expected_bits(counts, code_lengths(counts, limit))
        assert best <= expected_bits(counts, lengths) <= 1.1 * best


@pytest.mark.parametrize("name", zoo.available())
def test_words_on_real_weights_take_within_three_hundredths_of_a_bit_of_the_entropy(name):
    """8-bit codes a scale a channel, and 32 shared values; of a pruned network, of what is left, and its gaps."""
    model = zoo.load(name)
    layers = [model.get_parameter(each).detach() for each in weight_names(model)]
    codes = (
        torch.cat([quantize(w, symmetric_scale_per_channel(w)).flatten() for w in layers]).to(torch.int64)
        + 128
    )
    flat = torch.cat([w.flatten() for w in layers])
    kept = flat != 0
    streams = [codes, kmeans(flat, 32).indices]
    if kept.float().mean() < 0.5:
        streams = [codes[kept], kmeans(flat[kept], 32).indices, encode_gaps(kept)]
    for symbols in streams:
        stats = huffman_stats(symbols)
        counts = torch.bincount(symbols)
        p = counts[counts > 0].double() / counts.sum()
        assert stats.entropy == pytest.approx(-(p * p.log2()).sum().item())
        assert stats.expected - stats.entropy < 0.03
        assert stats.expected < stats.real == 8 * len(huffman_encode(symbols)) / len(symbols)


def test_values_and_gaps_apart_take_less_than_the_entropy_of_both_together():
    model = zoo.load("resnet20-sparse90")
    layers = [model.get_parameter(each).detach() for each in weight_names(model)]
    codes = (
        torch.cat([quantize(w, symmetric_scale_per_channel(w)).flatten() for w in layers]).to(torch.int64)
        + 128
    )
    kept = torch.cat([w.flatten() for w in layers]) != 0
    apart = [codes[kept], encode_gaps(kept)]
    assert sum(len(huffman_encode(each)) for each in apart) * 8 / len(codes) < entropy(torch.bincount(codes))


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


def test_without_pairs_every_symbol_has_a_word(indices):
    data = huffman_encode(indices, pairs=False)
    assert torch.equal(huffman_decode(data), indices)
    stats, counts = huffman_stats(indices, pairs=False), torch.bincount(indices)
    assert (stats.per_word, 8 * len(data) / len(indices)) == (1, stats.real)
    assert stats.expected == pytest.approx(expected_bits(counts, code_lengths(counts)))
