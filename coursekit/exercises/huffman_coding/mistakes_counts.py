"""Known mistakes in counting: the entropy, the lengths of codes, the bytes of a file.

Each `wrong` makes one mistake and no other; a check recognises it by equal results on every probe.
"""

from __future__ import annotations

import heapq
import itertools
import math
from typing import Any

from coursekit.exercises.spec import Mistake

__all__ = ["CODED_BYTES", "CODE_LENGTHS", "ENTROPY", "bytes_probes", "counts_probes", "lengths_probes"]

Args = tuple[Any, ...]


def counts_probes() -> list[Args]:
    """Counts with ties, with nothing, and large ones."""
    return [([8, 4, 2, 2],), ([7, 7, 7],), ([40, 21, 9, 9, 0, 7, 1],), ([1, 0, 1],), ([100, 1],)]


def _shares(counts: list[int]) -> list[float]:
    return [n / sum(counts) for n in counts if n]


def _unguarded(counts: list[int]) -> float:
    return -sum(n / sum(counts) * math.log2(n / sum(counts)) for n in counts)


def _with_counts(counts: list[int]) -> float:
    return -sum(n * math.log2(n) for n in counts if n)


def _smoothed(counts: list[int]) -> float:
    return -sum(p * math.log2(p) for p in _shares([n + 1 for n in counts]))


ENTROPY = (
    Mistake("natural_logarithm", "Your result is in nats: the logarithm is to base 2, since we count bits.",
            lambda counts: -sum(p * math.log(p) for p in _shares(counts))),
    Mistake("decimal_logarithm", "You take the logarithm to base 10. A bit tells two things apart: base 2.",
            lambda counts: -sum(p * math.log10(p) for p in _shares(counts))),
    Mistake("no_minus", "Your result is negative: the logarithm of a share is, and the formula has a minus.",
            lambda counts: sum(p * math.log2(p) for p in _shares(counts))),
    Mistake("zero_count", "A count of 0 gets as far as the logarithm. What has no share adds nothing: leave it out.",
            _unguarded),
    Mistake("counts_for_shares", "You use the counts as they are. p is a share: the count over the sum of all "
            "counts.",
            _with_counts),
    Mistake("in_all", "This is the number of bits for all symbols together. The entropy is per symbol.",
            lambda counts: -sum(counts) * sum(p * math.log2(p) for p in _shares(counts))),
    Mistake("unweighted", "You average -log2 p over the symbols as if each occurred equally often. Weight it with p.",
            lambda counts: -sum(math.log2(p) for p in _shares(counts)) / len(_shares(counts))),
    Mistake("fixed_length", "This is log2 of the number of different symbols: right only if all are equally "
            "frequent.",
            lambda counts: math.log2(len(_shares(counts)))),
    Mistake("relative", "You divide by log2 of the number of symbols: that gives a share from 0 to 1, not bits.",
            lambda counts: -sum(p * math.log2(p) for p in _shares(counts)) / math.log2(len(_shares(counts)))),
    Mistake("rounded_up", "You round each -log2 p up to a whole bit. The entropy is the bound itself: no rounding.",
            lambda counts: float(sum(p * math.ceil(-math.log2(p)) for p in _shares(counts)))),
    Mistake("adds_one", "You add 1 to each count. That is a way to guess shares from few samples; here they are "
            "known.",
            _smoothed),
)  # fmt: skip


def lengths_probes() -> list[Args]:
    """Counts with and without zeros, of a comb and of a bush, few and many."""
    return [([8, 4, 2, 2],), ([2, 8, 2, 4],), ([5, 9, 12, 13, 16, 45],), ([0, 5, 0, 3, 2, 0],), ([6, 6, 6],),
            ([1, 1, 2, 3, 5, 8],), ([1000, 1],), ([0, 4, 0],), ([9],), ([],)]  # fmt: skip


def _tree(counts: list[int], *, largest: bool = False, join: Any = None, zeros: bool = False) -> list[int]:
    """Depths of the leaves of the tree that joins two nodes again and again."""
    order = itertools.count()
    sign = -1 if largest else 1
    heap = [(sign * n, next(order), [k]) for k, n in enumerate(counts) if n or zeros]
    heapq.heapify(heap)
    lengths = [0] * len(counts)
    while len(heap) > 1:
        (n, _, left), (m, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        for leaf in left + right:
            lengths[leaf] += 1
        heapq.heappush(heap, ((join or (lambda a, b: a + b))(n, m), next(order), left + right))
    return lengths


def _fixed(counts: list[int]) -> list[int]:
    n = sum(count > 0 for count in counts)
    return [math.ceil(math.log2(n)) if count else 0 for count in counts]


def _shannon(counts: list[int]) -> list[int]:
    return [math.ceil(-math.log2(n / sum(counts))) if n else 0 for n in counts]


def _by_rank(counts: list[int]) -> list[int]:
    order = sorted((k for k, n in enumerate(counts) if n), key=lambda k: -counts[k])
    lengths = [0] * len(counts)
    for rank, k in enumerate(order):
        lengths[k] = min(rank + 1, len(order) - 1)
    return lengths


def _sorted_lengths(counts: list[int]) -> list[int]:
    return sorted(_tree(counts))


def _one_bit_alone(counts: list[int]) -> list[int]:
    lengths = _tree(counts)
    return [1 if n and not any(lengths) else size for n, size in zip(counts, lengths, strict=True)]


def _too_long(counts: list[int]) -> list[int]:
    return [size + 1 if n else 0 for n, size in zip(counts, _tree(counts), strict=True)]


def _one_side(counts: list[int]) -> list[int]:
    order = itertools.count()
    heap = [(n, next(order), [k]) for k, n in enumerate(counts) if n]
    heapq.heapify(heap)
    lengths = [0] * len(counts)
    while len(heap) > 1:
        (n, _, left), (m, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        for leaf in left:
            lengths[leaf] += 1
        heapq.heappush(heap, (n + m, next(order), left + right))
    return lengths


def _needs_one(counts: list[int]) -> list[int]:
    if not counts:
        raise IndexError("list index out of range")
    return _tree(counts)


CODE_LENGTHS = (
    Mistake("fixed_length", "All your codes are equally long. Huffman's point is that frequent symbols get "
            "shorter ones.",
            _fixed),
    Mistake("rounded_shannon", "You round -log2 p up to a whole number. A prefix code has these lengths, but "
            "rarely the "
            "best: build the tree.", _shannon),
    Mistake("comb", "You give each further symbol one bit more, as if joined symbols always were the rarest. A "
            "pair goes "
            "back among the others, at the sum of its counts.", _by_rank),
    Mistake("joins_the_largest", "You join the two most frequent. The rarest go deepest: join the two rarest.",
            lambda counts: _tree(counts, largest=True)),
    Mistake("pair_counts_as_the_larger", "A joined pair goes back with the larger of its counts. It occurs as "
            "often as both together.",
            lambda counts: _tree(counts, join=max)),
    Mistake("absent_symbols_join", "Symbols that do not occur take part in your tree: they get codes and make "
            "the others' longer.",
            lambda counts: _tree(counts, zeros=True)),
    Mistake("one_bit_alone", "A symbol that alone occurs gets a bit from you. Nothing is to be told apart: 0 bits.",
            _one_bit_alone),
    Mistake("one_too_long", "Every code is a bit too long: the root itself is not a step. A leaf's length is "
            "the number of joins above it.",
            _too_long),
    Mistake("one_side_only", "At a join only one of the two sides gets its bit. Both do: a 0 for one, a 1 for "
            "the other.",
            _one_side),
    Mistake("sorted", "Your lengths are in order of size. They belong in the order of the symbols.", _sorted_lengths),
    Mistake("empty", "With no symbols at all your function raises. No symbols have no lengths: [].", _needs_one),
)  # fmt: skip


def bytes_probes() -> list[Args]:
    """Sizes where halves of bytes matter, and symbols that do not occur."""
    return [([8, 4, 2, 2], [1, 2, 3, 3]), ([0, 30, 0, 20, 10, 0, 0, 0, 0, 0], [0, 1, 0, 2, 2, 0, 0, 0, 0, 0]),
            ([9, 8, 7], [1, 2, 2]), ([0] * 7 + [5], [0] * 8)]  # fmt: skip


def _up(n_bits: float) -> int:
    return math.ceil(n_bits / 8)


def _payload(counts: list[int], lengths: list[int]) -> int:
    return sum(n * size for n, size in zip(counts, lengths, strict=True))


CODED_BYTES = (
    Mistake("no_table", "Only the codes are counted. Without the table nobody can read them: it is in the file too.",
            lambda counts, lengths: _up(_payload(counts, lengths))),
    Mistake("bits", "This is a number of bits. Eight of them are a byte.",
            lambda counts, lengths: _payload(counts, lengths) + 5 * len(lengths)),
    Mistake("rounded_down", "You round down. The last bits need a byte as well.",
            lambda counts, lengths: _payload(counts, lengths) // 8 + 5 * len(lengths) // 8),
    Mistake("rounded_together", "You add the bits and round once. Codes and table each begin at a whole byte.",
            lambda counts, lengths: _up(_payload(counts, lengths) + 5 * len(lengths))),
    Mistake("only_what_occurs", "Your table leaves out symbols that do not occur. Then nobody knows which "
            "symbol a length belongs to.",
            lambda counts, lengths: _up(_payload(counts, lengths)) + _up(5 * sum(n > 0 for n in counts))),
    Mistake("byte_a_length", "You give each length a whole byte. It is told in 5 bits.",
            lambda counts, lengths: _up(_payload(counts, lengths)) + len(lengths)),
    Mistake("codes_in_the_table", "Your table holds the codes themselves. Their lengths, 5 bits each, are enough.",
            lambda counts, lengths: _up(_payload(counts, lengths)) + _up(sum(lengths))),
    Mistake("each_code_once", "You count each code once. It stands in the file as often as its symbol occurs.",
            lambda counts, lengths: _up(sum(lengths)) + _up(5 * len(lengths))),
    Mistake("longest_for_all", "You count the longest code for every symbol. Each has its own length.",
            lambda counts, lengths: _up(sum(counts) * max(lengths)) + _up(5 * len(lengths))),
    Mistake("not_rounded", "Your result has a fraction. A file has whole bytes: round up.",
            lambda counts, lengths: (_payload(counts, lengths) + 5 * len(lengths)) / 8),
)  # fmt: skip
