"""Known mistakes in making codes and in reading them.

Each `wrong` makes one mistake and no other; a check recognises it by equal results on every probe.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.spec import Mistake

__all__ = ["CANONICAL_CODES", "DECODE_SYMBOLS", "codes_probes", "decode_probes"]

Args = tuple[Any, ...]


def codes_probes() -> list[Args]:
    """Lengths in and out of order, with a jump, and with symbols that have no code."""
    return [
        ([2, 1, 3, 3],),
        ([2, 0, 2, 2, 0, 2],),
        ([1, 4, 4, 3, 4, 4, 3],),
        ([3, 3, 2, 2, 2],),
        ([1, 2, 3, 4, 4],),
    ]


def _counted_up(
    lengths: list[int], *, key: Any = None, start: int = 0, shift_all: bool = True, skip: bool = True
) -> list[int]:
    """Codes counted up in the order of the key, by default length and then symbol."""
    codes, code, previous = [0] * len(lengths), start, 0
    symbols = [k for k, size in enumerate(lengths) if size or not skip]
    for k in sorted(symbols, key=key or (lambda k: (lengths[k], k))):
        code <<= max(0, lengths[k] - previous) if shift_all else int(lengths[k] > previous)
        codes[k], previous = code, lengths[k]
        code += 1
    return codes


def _never_shifted(lengths: list[int]) -> list[int]:
    codes = [0] * len(lengths)
    order = sorted((size, k) for k, size in enumerate(lengths) if size)
    for code, (size, k) in enumerate(order):
        codes[k] = code & ((1 << size) - 1)
    return codes


def _anew(lengths: list[int]) -> list[int]:
    seen: dict[int, int] = {}
    codes = []
    for size in lengths:
        codes.append(seen.get(size, 0) if size else 0)
        seen[size] = seen.get(size, 0) + 1
    return codes


def _late_increment(lengths: list[int]) -> list[int]:
    codes, code, previous = [0] * len(lengths), 0, 0
    for size, k in sorted((size, k) for k, size in enumerate(lengths) if size):
        if previous:
            code = (code << (size - previous)) + 1
        codes[k], previous = code, size
    return codes


def _mirrored(lengths: list[int]) -> list[int]:
    codes = _counted_up(lengths)
    return [
        int(f"{code:0{size}b}"[::-1], 2) if size else 0 for code, size in zip(codes, lengths, strict=True)
    ]


def _texts(lengths: list[int]) -> list[Any]:
    return [
        f"{code:0{size}b}" if size else "" for code, size in zip(_counted_up(lengths), lengths, strict=True)
    ]


def _counted_down(lengths: list[int]) -> list[int]:
    codes = _counted_up(lengths)
    return [(1 << size) - 1 - code if size else 0 for code, size in zip(codes, lengths, strict=True)]


CANONICAL_CODES = (
    Mistake("in_symbol_order", "You go through the symbols as they come. The short codes come first: by length, "
            "then by symbol.",
            lambda lengths: _counted_up(lengths, key=lambda k: k)),
    Mistake("later_symbol_first", "Among codes of one length you begin with the last symbol. The decoder begins "
            "with the first.",
            lambda lengths: _counted_up(lengths, key=lambda k: (lengths[k], -k))),
    Mistake("longest_first", "You begin with the longest codes. Begin with the shortest.",
            lambda lengths: _counted_up(lengths, key=lambda k: (-lengths[k], k))),
    Mistake("never_shifted", "You count up and never add bits: where codes become longer, zeros must be added "
            "on the right.",
            _never_shifted),
    Mistake("shifted_by_one", "You add one zero wherever codes become longer. Add as many as the codes grow by.",
            lambda lengths: _counted_up(lengths, shift_all=False)),
    Mistake("anew_at_each_length", "Your codes of each length begin at 0 again, so that short codes begin long ones.",
            _anew),
    Mistake("shifted_before_counting", "You add the zeros first and count up afterwards. Count up in the old "
            "length, then add the zeros.",
            _late_increment),
    Mistake("starts_at_one", "Your first code is 1. It is all zeros.", lambda lengths: _counted_up(lengths, start=1)),
    Mistake("absent_symbols_count", "Symbols without a code use codes up. Leave out those of length 0.",
            lambda lengths: _counted_up(lengths, skip=False)),
    Mistake("bits_mirrored", "Your codes have their first bit lowest. Here the first bit is the highest.", _mirrored),
    Mistake("counted_down", "Your codes count down from all ones. It is as good a code, but not the one a "
            "decoder expects.",
            _counted_down),
    Mistake("texts", "The codes are right, but they are texts. Return integers.", _texts),
)  # fmt: skip


def decode_probes() -> list[Args]:
    """A message with fillers, codes of equal value, bits that end too early, and n = 0."""

    def bits(text: str) -> Tensor:
        return torch.tensor([int(bit) for bit in text], dtype=torch.uint8)

    codes, lengths = [2, 0, 6, 7], [2, 1, 3, 3]
    more, sizes = [0, 0, 4, 3, 5, 3], [2, 0, 3, 2, 3, 3]
    return [(bits("010110011100"), codes, lengths, 5), (bits("10"), codes, lengths, 0),
            (bits("110"), codes, lengths, 1), (bits("0110011100101"), more, sizes, 5),
            (bits("01011"), codes, lengths, 3), (bits(""), codes, lengths, 1), (bits("111110"), codes, lengths, 2),
            (bits("11111000"), codes, lengths, 3)]  # fmt: skip


def _decoded(
    bits: Tensor, codes: list[int], lengths: list[int], n: int | None, *, lowest_first: bool = False,
    keep: bool = False, by_value: bool = False, ends: str = "raise", give: str = "symbol", longest: bool = False,
) -> list[int]:  # fmt: skip
    """The symbols, with one of the options at a time gone wrong; n is None to read all bits."""
    table = {(size, code): k for k, (code, size) in enumerate(zip(codes, lengths, strict=True)) if size}
    values = {
        code: k for k, (code, size) in reversed(list(enumerate(zip(codes, lengths, strict=True)))) if size
    }
    found: list[int] = []
    code = size = 0
    for bit in bits.tolist():
        if n is not None and len(found) >= n:
            break
        code, size = (code | bit << size if lowest_first else 2 * code + bit), size + 1
        hit = values.get(code) if by_value else table.get((size, code))
        if longest and hit is not None and size < max(lengths):
            continue
        if hit is not None:
            found.append(hit if give == "symbol" else code)
            code, size = (code if keep else 0), 0
    if n is not None and len(found) < n and ends == "raise":
        raise ValueError("the bits end too early")
    return found + [0] * ((n or 0) - len(found)) if ends == "zeros" else found


def _n_bits(bits: Tensor, codes: list[int], lengths: list[int], n: int) -> list[int]:
    return _decoded(bits[:n], codes, lengths, None)


def _drops_last(bits: Tensor, codes: list[int], lengths: list[int], n: int) -> list[int]:
    return _decoded(bits, codes, lengths, n)[:-1]


DECODE_SYMBOLS = (
    Mistake("reads_all_bits", "You read on to the end of the bits. What fills the last byte is no symbol: stop "
            "after n.",
            lambda bits, codes, lengths, n: _decoded(bits, codes, lengths, None)),
    Mistake("n_bits", "You read n bits. n is the number of symbols, and these have codes of several bits.", _n_bits),
    Mistake("shorter_result", "If the bits end too early you return what there is. A damaged file must be "
            "refused: ValueError.",
            lambda bits, codes, lengths, n: _decoded(bits, codes, lengths, n, ends="stop")),
    Mistake("filled_with_zeros", "If the bits end too early you fill up with zeros, and nobody notices. Raise "
            "ValueError.",
            lambda bits, codes, lengths, n: _decoded(bits, codes, lengths, n, ends="zeros")),
    Mistake("first_bit_lowest", "You put the first bit lowest. The first bit read is the highest: code = 2 * "
            "code + bit.",
            lambda bits, codes, lengths, n: _decoded(bits, codes, lengths, n, lowest_first=True)),
    Mistake("length_ignored", "You look for the code's value alone. 0, 00 and 000 have one value: the number of "
            "bits read must fit too.",
            lambda bits, codes, lengths, n: _decoded(bits, codes, lengths, n, by_value=True)),
    Mistake("not_reset", "After a symbol you go on with the bits of its code. The next code begins from nothing.",
            lambda bits, codes, lengths, n: _decoded(bits, codes, lengths, n, keep=True)),
    Mistake("codes_for_symbols", "You return the codes. Return the symbols: their places in the list of codes.",
            lambda bits, codes, lengths, n: _decoded(bits, codes, lengths, n, give="code")),
    Mistake("last_one_missing", "The last symbol is missing: it is complete with its last bit, and nothing "
            "comes after it.",
            _drops_last),
    Mistake("waits_for_the_longest", "You accept a code only once it is as long as the longest. In a prefix "
            "code the first hit is right.",
            lambda bits, codes, lengths, n: _decoded(bits, codes, lengths, n, longest=True)),
)  # fmt: skip
