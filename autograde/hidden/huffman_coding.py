"""Hidden tests of lesson 12. Each states a property and checks it by definition, not against the reference."""

from __future__ import annotations

import functools
import math

import torch

from coursekit import zoo
from coursekit.exercises.expect import expect, expect_close, expect_float, expect_int, expect_tensor
from coursekit.exercises.huffman_coding.properties import (
    MIXED,
    bits_of,
    expect_ints,
    expect_optimal,
    expect_refused,
    words_of,
)
from coursekit.exercises.spec import as_test, worth

__all__ = ["HIDDEN"]


@functools.lru_cache(maxsize=1)  # the same for every student of a class
def trained_counts() -> tuple[int, ...]:
    """How often each of the codes -15..15 occurs in a layer of a trained network on a grid of 5 bits."""
    weight = zoo.load("lenet300").get_parameter("fc2.weight").detach()
    codes = torch.round(weight / weight.abs().max() * 15).long() + 15
    return tuple(torch.bincount(codes.flatten(), minlength=31).tolist())


def test_entropy_of_a_trained_layer(student):
    """On the weights of a trained layer, and for numbers of any size, the entropy is the sum of -p log2 p."""
    counts = list(trained_counts())
    for numbers in (counts, MIXED, [10**9, 1]):
        shares = [n / sum(numbers) for n in numbers if n]
        expected = math.fsum(-p * math.log(p) / math.log(2) for p in shares)
        expect_close(
            expect_float(student.entropy(numbers), "the entropy"), expected, "the entropy", atol=1e-9
        )


def test_trained_layer_is_within_one_bit_of_its_entropy(student):
    """On the weights of a trained layer no prefix code is shorter."""
    counts = list(trained_counts())
    expect_optimal(expect_ints(student.code_lengths(counts), 31, "lengths"), counts)


def test_fibonacci_counts_make_a_comb(student):
    """Counts 1, 1, 2, 3, 5, 8, … make the deepest tree there is: one symbol at each length."""
    counts = [1, 1, 2, 3, 5, 8, 13, 21]
    lengths = expect_ints(student.code_lengths(counts), 8, "lengths")
    expect(sorted(lengths) == [1, 2, 3, 4, 5, 6, 7, 7], "lengths", lengths, [7, 7, 6, 5, 4, 3, 2, 1])


def test_equal_counts_make_equal_lengths(student):
    """2^b symbols with equal counts take b bits each: Huffman gains nothing."""
    for b in (1, 3, 5):
        lengths = expect_ints(student.code_lengths([4] * 2**b), 2**b, "lengths")
        expect(set(lengths) == {b}, f"lengths of {2**b} equal counts", sorted(set(lengths)), [b])


def test_codes_of_many_symbols(student):
    """For 32 symbols of 3 to 9 bits the codes are prefix-free, and ordered by length, then symbol."""
    lengths = [9, 9, 8, 7, 6, 5, 5, 5, 4, 4, 4, 4, 4, 3, 4, 4, 4, 4, 5, 5, 6, 0, 6]
    codes = expect_ints(student.canonical_codes(lengths), len(lengths), "codes")
    words = words_of(codes, lengths)
    order = sorted(range(len(words)), key=lambda i: words[i])
    sizes = [size for size in lengths if size]
    by_length = sorted(range(len(words)), key=lambda i: (sizes[i], i))
    expect(order == by_length, "the order of the codes", [words[i] for i in order[:4]],
           [words[i] for i in by_length[:4]])  # fmt: skip
    clash = any(b.startswith(a) for a, b in zip(sorted(words), sorted(words)[1:], strict=False))
    expect(not clash, "a code begins another", clash, False)


def test_no_codes_at_all(student):
    """No symbols, or only symbols without a code, have no codes: 0 for each."""
    for lengths in ([], [0, 0, 0]):
        codes = expect_ints(student.canonical_codes(lengths), len(lengths), "codes")
        expect(not any(codes), f"codes for {lengths}", codes, lengths)


@worth(2)
def test_a_long_message_comes_back(student):
    """400 symbols of six, coded here, come back; the arguments stay what they were."""
    codes, lengths = [0b0, 0b100, 0b101, 0b110, 0b1110, 0b1111], [1, 3, 3, 3, 4, 4]
    message = [(7 * i * i + i // 3) % 6 for i in range(400)]
    bits = bits_of("".join(f"{codes[k]:0{lengths[k]}b}" for k in message))
    symbols = expect_ints(student.decode_symbols(bits, codes, lengths, 400), 400, "symbols")
    wrong = sum(a != b for a, b in zip(symbols, message, strict=True))
    expect(wrong == 0, "symbols that differ", wrong, 0)
    expect_refused(
        lambda: student.decode_symbols(bits[:-1], codes, lengths, 400), "a message without its last bit"
    )


def test_sizes_of_a_trained_layer(student):
    """For any counts and lengths: codes and table, each in whole bytes, as an int; no symbols take none."""
    counts = list(trained_counts())
    lengths = [5] * len(counts)
    got = expect_int(student.coded_bytes(counts, lengths), "the size")
    expect(got == math.ceil(5 * sum(counts) / 8) + 20, "bytes with fixed lengths", got, "")
    expect(expect_int(student.coded_bytes([], []), "the size") == 0, "bytes of nothing", "", 0)


def test_size_grows_with_the_alphabet(student):
    """A single symbol among 256 takes no bits for codes, and 160 bytes for a table that says so."""
    got = expect_int(student.coded_bytes([0] * 255 + [9], [0] * 256), "the size")
    expect(got == 160, "bytes for one symbol of an alphabet of 256", got, 160)


def test_positions_of_a_pruned_layer(student):
    """On a real pruned layer the gaps stay below 2^b and lead back to each weight, with no needless filler."""
    weight = zoo.load("resnet20-sparse90").get_parameter("stage2.2.conv2.weight").detach().flatten()
    for n_bits in (3, 5):
        gaps, values = student.relative_positions(weight, n_bits)
        expect_tensor(gaps, torch.int64, values.shape)
        expect(int(gaps.min()) >= 0 and int(gaps.max()) < 2**n_bits, f"gaps at {n_bits} bits",
               f"{int(gaps.min())}..{int(gaps.max())}", f"0..{2**n_bits - 1}")  # fmt: skip
        places = (gaps + 1).cumsum(0) - 1
        expect(int(places[-1]) == int(weight.nonzero()[-1]), "the last value's place", int(places[-1]), "")
        back = torch.zeros_like(weight)
        back[places] = values
        expect_close(back, weight, f"the layer from gaps of {n_bits} bits")
        fillers, needless = values == 0, gaps != 2**n_bits - 1
        expect(not bool((fillers & needless).any()), "fillers that are not full", "", "none")


def test_dense_values_have_no_gaps(student):
    """Where nothing is zero all gaps are 0, and float64 values stay float64."""
    gaps, values = student.relative_positions(torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64), 3)
    expect(gaps.tolist() == [0, 0, 0], "gaps of three values", gaps.tolist(), [0, 0, 0])
    expect_tensor(values, torch.float64, (3,))
    expect(values.tolist() == [1.0, -2.0, 3.0], "values", values.tolist(), [1.0, -2.0, 3.0])


def test_many_values_return(student):
    """A random sparse tensor returns from gaps and values worked out here, also from uint8 gaps."""
    places = torch.tensor([3, 4, 9, 200, 201, 455, 700])
    gaps = places.diff(prepend=torch.tensor([-1])) - 1
    values = torch.arange(1.0, 8.0)
    x = expect_tensor(
        student.from_relative_positions(gaps.to(torch.uint8), values, 1000), torch.float32, (1000,)
    )
    expect(x.nonzero().flatten().tolist() == places.tolist(), "places", x.nonzero().flatten(), places)
    expect_close(x[places], values, "values in their places")


def test_nothing_returns_as_zeros(student):
    """No gaps and no values are n zeros."""
    x = student.from_relative_positions(torch.empty(0, dtype=torch.int64), torch.empty(0), 4)
    expect_close(expect_tensor(x, torch.float32, (4,)), [0.0] * 4, "the tensor")


def _tests(*functions):
    return tuple(as_test(function, public=False) for function in functions)


HIDDEN = {
    "entropy": _tests(test_entropy_of_a_trained_layer),
    "code_lengths": _tests(
        test_trained_layer_is_within_one_bit_of_its_entropy,
        test_fibonacci_counts_make_a_comb,
        test_equal_counts_make_equal_lengths,
    ),
    "canonical_codes": _tests(test_codes_of_many_symbols, test_no_codes_at_all),
    "decode_symbols": _tests(test_a_long_message_comes_back),
    "coded_bytes": _tests(test_sizes_of_a_trained_layer, test_size_grows_with_the_alphabet),
    "relative_positions": _tests(test_positions_of_a_pruned_layer, test_dense_values_have_no_gaps),
    "from_relative_positions": _tests(test_many_values_return, test_nothing_returns_as_zeros),
}
