"""Canonical Huffman codes: short codes for frequent symbols, told to the decoder by their lengths alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

__all__ = [
    "canonical_codes",
    "code_lengths",
    "entropy",
    "expected_bits",
    "limited_lengths",
    "roughly_limited_lengths",
]

LONGEST = 16  # of any code: a decoder's table has 2**16 rows at most


def entropy(counts: Sequence[int] | Tensor) -> float:
    """The bits a symbol takes at least, on average, in any code that takes symbols one by one: sum of -p log2 p.

    Args:    counts: how often each symbol occurs, 0 or more.
    Returns: bits a symbol; 0.0 if nothing occurs.
    Raises:  ValueError if a count is negative.
    Source:  Shannon 1948, A mathematical theory of communication, section 6. Taught in lesson 12.

    >>> entropy([8, 4, 2, 2])
    1.75
    """
    numbers = _checked(counts)
    total = sum(numbers)
    return -sum(n / total * math.log2(n / total) for n in numbers if n) + 0.0 if total else 0.0


def expected_bits(counts: Sequence[int] | Tensor, lengths: Sequence[int] | Tensor) -> float:
    """The bits a symbol takes with these code lengths, on average over the counts.

    Raises: ValueError if a symbol that occurs among others has no code, or the two differ in length.
    """
    numbers, sizes = _checked(counts), _checked(lengths)
    if len(numbers) != len(sizes):
        raise ValueError(f"{len(numbers)} counts and {len(sizes)} lengths")
    several = sum(n > 0 for n in numbers) > 1
    if several and any(n and not size for n, size in zip(numbers, sizes, strict=True)):
        raise ValueError("a symbol that occurs has no code")
    total = sum(numbers)
    return sum(n * size for n, size in zip(numbers, sizes, strict=True)) / total if total else 0.0


def code_lengths(counts: Sequence[int] | Tensor, max_length: int = LONGEST) -> list[int]:
    """The length of each symbol's code in the best prefix code, none longer than max_length.

    Args:    counts: how often each symbol occurs. max_length: 1 to 16.
    Returns: bits for each symbol; 0 for one that does not occur, and for one that alone occurs: it needs no bits.
    Raises:  ValueError if a count is negative, or max_length bits cannot tell the symbols apart.
    Source:  Huffman 1952, A method for the construction of minimum-redundancy codes. Taught in lesson 12.

    >>> code_lengths([8, 4, 2, 2])
    [1, 2, 3, 3]
    """
    numbers = _checked(counts)
    present = [symbol for symbol, n in enumerate(numbers) if n]
    if not 1 <= max_length <= LONGEST:
        raise ValueError(f"max_length must be 1 to {LONGEST}, got {max_length}")
    if len(present) > 1 << max_length:
        raise ValueError(f"{len(present)} symbols cannot be told apart by {max_length} bits")
    lengths = [0] * len(numbers)
    if len(present) < 2:
        return lengths
    depths = _depths([numbers[symbol] for symbol in present])
    if max(depths) > max_length:
        depths = limited_lengths([numbers[symbol] for symbol in present], max_length)
    for symbol, depth in zip(present, depths, strict=True):
        lengths[symbol] = depth
    return lengths


def _depths(counts: list[int]) -> list[int]:
    """How deep each leaf lies in the tree that joins the two rarest again and again.

    The rarest are always in front, of the sorted leaves or of what was joined; of equals, the leaf.
    """
    n = len(counts)
    order = sorted(range(n), key=counts.__getitem__)
    leaves = [*(counts[leaf] for leaf in order), math.inf]
    joined: list[float] = []
    above = [0] * (2 * n - 1)
    leaf = inner = 0
    for node in range(n, 2 * n - 1):
        total: float = 0
        for _ in range(2):
            if inner < len(joined) and joined[inner] < leaves[leaf]:
                total += joined[inner]
                above[n + inner] = node
                inner += 1
            else:
                total += leaves[leaf]
                above[leaf] = node
                leaf += 1
        joined.append(total)
    found, depths = [0] * (2 * n - 1), [0] * n
    for node in range(2 * n - 3, -1, -1):
        found[node] = found[above[node]] + 1
    for place, symbol in enumerate(order):
        depths[symbol] = found[place]
    return depths


def roughly_limited_lengths(counts: Sequence[int] | Tensor, max_length: int = LONGEST) -> list[int]:
    """As `code_lengths`, near its best for thousands of symbols, in a hundredth of the time.

    No symbol counts as rarer than a share of all, the smallest for which no code gets too long.
    """
    numbers = _checked(counts)
    present = [symbol for symbol, n in enumerate(numbers) if n]
    lengths = [0] * len(numbers)
    if len(present) < 2:
        return lengths
    total = sum(numbers)
    for shift in range(max_length + 3, 0, -1):
        depths = _depths([max(numbers[symbol], total >> shift) for symbol in present])
        if max(depths) <= max_length:
            for symbol, depth in zip(present, depths, strict=True):
                lengths[symbol] = depth
            return lengths
    raise ValueError(f"{len(present)} symbols cannot be told apart by {max_length} bits")


def limited_lengths(counts: Sequence[int], max_length: int) -> list[int]:
    """The best code lengths of at most max_length, by package-merge.

    A code of length l is bought as l coins, one of each worth 1/2, 1/4, … 2^-l, that cost the symbol's count each; all
    coins must be worth n - 1 in total. From the smallest worth up, coins are packed in pairs of the cheapest.

    Args:    counts: of at least two symbols that all occur.
    Raises:  ValueError if max_length bits cannot tell the symbols apart.
    Source:  Larmore and Hirschberg 1990, A fast algorithm for optimal length-limited Huffman codes.
    """
    n = len(counts)
    if n < 2 or n > 1 << max_length:
        raise ValueError(f"{n} symbols do not make a code of at most {max_length} bits")
    coins = sorted((count, (leaf,)) for leaf, count in enumerate(counts))
    packages: list[tuple[int, tuple[int, ...]]] = []
    for _ in range(max_length):
        merged = sorted([*coins, *packages], key=lambda item: item[0])
        packages = [(a[0] + b[0], a[1] + b[1]) for a, b in zip(merged[0::2], merged[1::2], strict=False)]
    lengths = [0] * n
    for _, leaves in packages[: n - 1]:
        for leaf in leaves:
            lengths[leaf] += 1
    return lengths


def canonical_codes(lengths: Sequence[int] | Tensor) -> list[int]:
    """The codes of these lengths, counted up: by length, then by symbol.

    Whoever knows the lengths can make the same codes, so that they need not be stored.

    Args:    lengths: bits of each symbol's code, 0 for a symbol without one.
    Returns: for each symbol its code as an integer, the first bit the highest; 0 where there is none.
    Raises:  ValueError if no prefix code has these lengths (their 2^-l add up to more than 1).
    Source:  Schwartz and Kallick 1964, Generating a canonical prefix encoding. Taught in lesson 12.

    >>> [f"{c:b}".zfill(n) for c, n in zip(canonical_codes([1, 3, 3, 2]), [1, 3, 3, 2])]
    ['0', '110', '111', '10']
    """
    sizes = _checked(lengths)
    codes, code, previous = [0] * len(sizes), 0, 0
    for size, symbol in sorted((size, symbol) for symbol, size in enumerate(sizes) if size):
        code <<= size - previous
        if code >> size:
            raise ValueError("no prefix code has these lengths")
        codes[symbol], previous = code, size
        code += 1
    return codes


def _checked(numbers: Sequence[int] | Tensor) -> list[int]:
    values = numbers.tolist() if isinstance(numbers, Tensor) else [int(n) for n in numbers]
    if any(n < 0 for n in values):
        raise ValueError("a count or length is negative")
    return values
