"""The public tests of lesson 12: each states a property of a right solution."""

from __future__ import annotations

import heapq
import math

import torch
from torch import Tensor

from coursekit.exercises.expect import (
    MismatchError,
    expect,
    expect_close,
    expect_float,
    expect_int,
    expect_tensor,
)
from coursekit.exercises.spec import Test, TestFunction, as_test
from coursekit.exercises.student import StudentError

__all__ = [
    "MIXED",
    "PUBLIC",
    "bits_of",
    "expect_ints",
    "expect_optimal",
    "expect_positions",
    "expect_refused",
    "least_bits",
    "words_of",
]

MIXED = [40, 21, 9, 9, 0, 7, 7, 4, 2, 1]  # ties, a symbol that does not occur, a long tail


def expect_ints(value: object, n: int, name: str) -> list[int]:
    """The value, if it is a list (or tuple) of n Python ints."""
    if isinstance(value, Tensor):
        raise MismatchError(
            f"{name} are a tensor: return a list of Python ints", value, f"a list of {n} ints"
        )
    expect(isinstance(value, list | tuple), f"{name} are no list", value, f"a list of {n} ints")
    assert isinstance(value, list | tuple)
    expect(len(value) == n, f"number of {name}", len(value), n)
    for each in value:
        expect_int(each, f"one of the {name}")
    return list(value)


def least_bits(counts: list[int]) -> int:
    """What the best prefix code of these symbols takes in all: the sum of the counts of all inner nodes of the "
    "tree."""
    heap = sorted(n for n in counts if n)
    total = 0
    while len(heap) > 1:
        joined = heapq.heappop(heap) + heapq.heappop(heap)
        total += joined
        heapq.heappush(heap, joined)
    return total


def expect_optimal(lengths: list[int], counts: list[int]) -> None:
    """Raises unless a prefix code has these lengths, and none is shorter on average."""
    kraft = sum(2.0**-size for size in lengths if size)
    expect(
        kraft <= 1, f"sum of 2^-length for counts {counts}", kraft, "at most 1, or no prefix code has them"
    )
    for count, size in zip(counts, lengths, strict=True):
        expect(not count or size > 0, f"length of a symbol that occurs, counts {counts}", size, "at least 1")
    total = sum(n * size for n, size in zip(counts, lengths, strict=True))
    expect(total == least_bits(counts), f"bits in all for counts {counts}", total, least_bits(counts))


def words_of(codes: list[int], lengths: list[int]) -> list[str]:
    """The codes that there are, as 0s and 1s."""
    for code, size in zip(codes, lengths, strict=True):
        expect(0 <= code < 1 << size, f"a code of {size} bits", code, f"0 to {(1 << size) - 1}")
    return [f"{code:0{size}b}" for code, size in zip(codes, lengths, strict=True) if size]


def bits_of(text: str) -> Tensor:
    """These 0s and 1s as uint8; blanks are for the eye."""
    return torch.tensor([int(bit) for bit in text if bit != " "], dtype=torch.uint8)


def expect_refused(call: object, what: str) -> None:
    """Raises unless the call raises ValueError."""
    try:
        result = call()  # type: ignore[operator]
    except StudentError as error:
        kind = type(error.error).__name__
        if kind != "ValueError":
            raise
        return
    raise MismatchError(f"{what} must be refused", result, "raise ValueError")


def test_equal_counts_take_log2_of_their_number(student):
    """k symbols that occur equally often take log2 k bits each."""
    for k in (2, 4, 32, 10):
        got = expect_float(student.entropy([7] * k), "the entropy")
        expect_close(got, math.log2(k), f"entropy of {k} equal counts")


def test_entropy_of_halves_and_quarters(student):
    """Symbols with shares of 1/2, 1/4, 1/8 and 1/8 take 1.75 bits on average, however many there are of each."""
    for factor in (1, 5, 1000):
        counts = [8 * factor, 4 * factor, 2 * factor, 2 * factor]
        expect_close(expect_float(student.entropy(counts), "the entropy"), 1.75, f"entropy of {counts}")


def test_a_symbol_that_does_not_occur_changes_nothing(student):
    """A count of 0 adds nothing, though log2 0 is no number."""
    got = expect_float(student.entropy([0, 3, 0, 3, 0]), "the entropy")
    expect_close(got, 1.0, "entropy of [0, 3, 0, 3, 0]")


def test_frequent_symbols_get_short_codes(student):
    """Counts 8, 4, 2, 2 get codes of 1, 2, 3 and 3 bits, in the order of the symbols."""
    lengths = expect_ints(student.code_lengths([8, 4, 2, 2]), 4, "lengths")
    expect(lengths == [1, 2, 3, 3], "lengths for 8, 4, 2, 2", lengths, [1, 2, 3, 3])
    lengths = expect_ints(student.code_lengths([2, 8, 2, 4]), 4, "lengths")
    expect(lengths == [3, 1, 3, 2], "lengths for 2, 8, 2, 4", lengths, [3, 1, 3, 2])


def test_no_prefix_code_is_shorter(student):
    """The codes take as few bits in all as any prefix code can: also where joined symbols are rarer than later "
    "ones."""
    for counts in ([3, 3, 3, 3, 4], [1, 1, 1, 1, 1, 1], [5, 9, 12, 13, 16, 45], [1, 2, 2, 4, 7, 1]):
        expect_optimal(expect_ints(student.code_lengths(counts), len(counts), "lengths"), counts)


def test_two_symbols_take_a_bit_each(student):
    """Two symbols take one bit each, whatever their counts."""
    for counts in ([5, 5], [1000, 1]):
        lengths = expect_ints(student.code_lengths(counts), 2, "lengths")
        expect(lengths == [1, 1], f"lengths for {counts}", lengths, [1, 1])


def test_what_does_not_occur_has_no_code(student):
    """A symbol with count 0 has length 0, and does not make the others' codes longer."""
    for counts in ([0, 5, 0, 3, 2, 0], MIXED):
        lengths = expect_ints(student.code_lengths(counts), len(counts), "lengths")
        absent = [size for size, n in zip(lengths, counts, strict=True) if not n]
        expect(not any(absent), f"lengths of what does not occur in {counts}", absent, "0")
        expect_optimal(lengths, counts)


def test_one_symbol_alone_needs_no_bits(student):
    """Where only one symbol occurs there is nothing to tell apart: length 0; and no symbols have no lengths."""
    for counts in ([9], [0, 4, 0], []):
        lengths = expect_ints(student.code_lengths(counts), len(counts), "lengths")
        expect(not any(lengths), f"lengths for counts {counts}", lengths, [0] * len(counts))


def test_codes_are_counted_up(student):
    """Lengths 2, 1, 3, 3 have the codes 10, 0, 110, 111."""
    codes = expect_ints(student.canonical_codes([2, 1, 3, 3]), 4, "codes")
    expect(codes == [0b10, 0b0, 0b110, 0b111], "codes for lengths 2, 1, 3, 3", codes, [2, 0, 6, 7])


def test_of_equal_lengths_the_lower_symbol_comes_first(student):
    """Among codes of one length the symbols stand in order, and a symbol without a code uses none up."""
    codes = expect_ints(student.canonical_codes([2, 0, 2, 2, 0, 2]), 6, "codes")
    expect(codes == [0, 0, 1, 2, 0, 3], "codes for lengths 2, 0, 2, 2, 0, 2", codes, [0, 0, 1, 2, 0, 3])


def test_codes_may_become_longer_by_several_bits(student):
    """From one length to the next there may be more than one bit: lengths 1, 3, 3, 4, 4, 4, 4 have codes 0 to "
    "1111."""
    lengths = [1, 4, 4, 3, 4, 4, 3]
    codes = expect_ints(student.canonical_codes(lengths), 7, "codes")
    expect(
        codes == [0, 12, 13, 4, 14, 15, 5], f"codes for lengths {lengths}", codes, [0, 12, 13, 4, 14, 15, 5]
    )


def test_no_code_begins_another(student):
    """No code is the beginning of another: otherwise nobody could tell where one ends."""
    for lengths in ([1, 2, 3, 4, 4], [3, 3, 2, 2, 2], [4, 1, 4, 4, 3, 4], [5, 5, 4, 3, 2, 1]):
        codes = expect_ints(student.canonical_codes(lengths), len(lengths), "codes")
        words = words_of(codes, lengths)
        clash = [
            (a, b) for i, a in enumerate(words) for j, b in enumerate(words) if i != j and b.startswith(a)
        ]
        expect(not clash, f"codes for lengths {lengths}", " begins ".join(clash[0]) if clash else "", "none")


def test_symbols_are_read_off_the_bits(student):
    """0 10 110 0 111 are the symbols 1, 0, 2, 1, 3 of the code 10, 0, 110, 111."""
    got = student.decode_symbols(bits_of("0 10 110 0 111"), [2, 0, 6, 7], [2, 1, 3, 3], 5)
    symbols = expect_ints(got, 5, "symbols")
    expect(symbols == [1, 0, 2, 1, 3], "the symbols in 0 10 110 0 111", symbols, [1, 0, 2, 1, 3])


def test_n_symbols_and_no_more(student):
    """Zeros that fill the last byte are no symbols: n says where to stop, also at 0."""
    got = student.decode_symbols(bits_of("10 0 0 00000"), [2, 0, 6, 7], [2, 1, 3, 3], 3)
    symbols = expect_ints(got, 3, "symbols")
    expect(symbols == [0, 1, 1], "the first 3 symbols in 10 0 0, and fillers", symbols, [0, 1, 1])
    expect_ints(student.decode_symbols(bits_of("00"), [2, 0, 6, 7], [2, 1, 3, 3], 0), 0, "symbols")


def test_codes_of_one_value_and_different_lengths(student):
    """0, 10 and 11 are told from 00, 010 and 011: a code is its value and its length, and length 0 is no code."""
    codes, lengths = [0, 0, 4, 3, 5, 3], [2, 0, 3, 2, 3, 3]  # 00, none, 100, 11, 101, 011
    got = student.decode_symbols(bits_of("011 00 11 100 101"), codes, lengths, 5)
    symbols = expect_ints(got, 5, "symbols")
    expect(symbols == [5, 0, 3, 2, 4], "the symbols in 011 00 11 100 101", symbols, [5, 0, 3, 2, 4])


def test_bits_that_end_too_early_are_refused(student):
    """If the bits end before the n-th symbol does, ValueError: half a network is worse than none."""
    for text, n in (("0 10 11", 3), ("0 10 110", 4), ("", 1)):
        expect_refused(
            lambda text=text, n=n: student.decode_symbols(bits_of(text), [2, 0, 6, 7], [2, 1, 3, 3], n),
            f"{n} symbols from the bits '{text}'",
        )


def test_bytes_of_codes_and_table(student):
    """Counts 8, 4, 2, 2 take 28 bits in whole bytes, and the table 4 times 5 bits in whole bytes: 4 + 3."""
    got = expect_int(student.coded_bytes([8, 4, 2, 2], [1, 2, 3, 3]), "the size")
    expect(got == 7, "bytes for counts 8, 4, 2, 2 with lengths 1, 2, 3, 3", got, 7)


def test_what_does_not_occur_is_in_the_table(student):
    """The table holds a length for every symbol of the alphabet, also for one that does not occur."""
    counts, lengths = [0, 30, 0, 20, 10, 0, 0, 0, 0, 0], [0, 1, 0, 2, 2, 0, 0, 0, 0, 0]
    got = expect_int(student.coded_bytes(counts, lengths), "the size")
    expect(got == 12 + 7, "bytes of 90 bits of codes and a table of 10 symbols", got, 19)


def test_relative_positions_count_the_zeros_before(student):
    """[0, 0, 3, 4, 0, 5] has gaps 2, 0, 1 and values 3, 4, 5; what follows the last value is not told."""
    x = torch.tensor([0.0, 0.0, 3.0, 4.0, 0.0, 5.0, 0.0, 0.0])
    expect_positions(student.relative_positions(x, 4), [2, 0, 1], [3.0, 4.0, 5.0], "[0, 0, 3, 4, 0, 5, 0, 0]")


def expect_positions(got: object, gaps: list[int], values: list[float], of: str) -> None:
    """Raises unless got is a pair of tensors that hold these gaps and these values."""
    expect(isinstance(got, tuple) and len(got) == 2, "the result is no pair", got, "(gaps, values)")
    assert isinstance(got, tuple)
    found = expect_tensor(got[0], torch.int64, (len(gaps),))
    expect(found.tolist() == gaps, f"gaps of {of}", found.tolist(), gaps)
    kept = expect_tensor(got[1], torch.float32, (len(values),))
    expect(kept.tolist() == values, f"values of {of}", kept.tolist(), values)


def test_a_long_gap_gets_a_filler(student):
    """With 2 bits a gap of 5 is a filler, 3 zeros and a stored 0.0, and then 1; a gap of 3 needs none, 4 needs "
    "one."""
    x = torch.tensor([0.0] * 5 + [7.0])
    expect_positions(student.relative_positions(x, 2), [3, 1], [0.0, 7.0], "five zeros and a 7, 2 bits")
    expect_positions(student.relative_positions(x[2:], 2), [3], [7.0], "three zeros and a 7, 2 bits")
    expect_positions(student.relative_positions(x[1:], 2), [3, 0], [0.0, 7.0], "four zeros and a 7, 2 bits")


def test_very_long_gaps_get_several_fillers(student):
    """With 1 bit, a filler stands for two places: seven zeros are three fillers and a gap of 1."""
    x = torch.tensor([9.0] + [0.0] * 7 + [7.0, 0.0, 0.0, 0.0])
    expect_positions(
        student.relative_positions(x, 1), [0, 1, 1, 1, 1], [9.0, 0.0, 0.0, 0.0, 7.0],
        "9, seven zeros, 7, three zeros; 1 bit",
    )  # fmt: skip


def test_zeros_alone_have_no_positions(student):
    """A tensor of zeros, or of nothing, has no gaps and no values."""
    for n in (5, 0):
        expect_positions(student.relative_positions(torch.zeros(n), 2), [], [], f"{n} zeros")


def test_values_return_to_their_places(student):
    """Gaps 2, 0, 1 with values 3, 4, 5 are [0, 0, 3, 4, 0, 5] and zeros up to n."""
    x = student.from_relative_positions(torch.tensor([2, 0, 1]), torch.tensor([3.0, 4.0, 5.0]), 8)
    expect_close(
        expect_tensor(x, torch.float32, (8,)), [0.0, 0.0, 3.0, 4.0, 0.0, 5.0, 0.0, 0.0], "the tensor"
    )


def test_fillers_leave_zeros(student):
    """A filler is a 0.0 in its place like any other value."""
    x = student.from_relative_positions(torch.tensor([3, 3, 1]), torch.tensor([0.0, 0.0, 7.0]), 10)
    expect_close(expect_tensor(x, torch.float32, (10,)), [0.0] * 9 + [7.0], "the tensor")


def _tests(*functions: TestFunction) -> tuple[Test, ...]:
    return tuple(as_test(function, public=True) for function in functions)


PUBLIC = {
    "entropy": _tests(
        test_equal_counts_take_log2_of_their_number,
        test_entropy_of_halves_and_quarters,
        test_a_symbol_that_does_not_occur_changes_nothing,
    ),
    "code_lengths": _tests(
        test_frequent_symbols_get_short_codes,
        test_no_prefix_code_is_shorter,
        test_two_symbols_take_a_bit_each,
        test_what_does_not_occur_has_no_code,
        test_one_symbol_alone_needs_no_bits,
    ),
    "canonical_codes": _tests(
        test_codes_are_counted_up,
        test_of_equal_lengths_the_lower_symbol_comes_first,
        test_codes_may_become_longer_by_several_bits,
        test_no_code_begins_another,
    ),
    "decode_symbols": _tests(
        test_symbols_are_read_off_the_bits,
        test_n_symbols_and_no_more,
        test_codes_of_one_value_and_different_lengths,
        test_bits_that_end_too_early_are_refused,
    ),
    "coded_bytes": _tests(test_bytes_of_codes_and_table, test_what_does_not_occur_is_in_the_table),
    "relative_positions": _tests(
        test_relative_positions_count_the_zeros_before,
        test_a_long_gap_gets_a_filler,
        test_very_long_gaps_get_several_fillers,
        test_zeros_alone_have_no_positions,
    ),
    "from_relative_positions": _tests(test_values_return_to_their_places, test_fillers_leave_zeros),
}
