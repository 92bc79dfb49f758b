"""Code words for pairs of symbols: what one word a symbol wastes, because no word is a fraction of a bit, is halved.

Every pair of 32 symbols would need a table of 1,024 lengths. But the shares of pairs are nearly the products of the
symbols' shares, so a price for each symbol is enough: its share's -log2 in eighths of a bit, a byte. Encoder and
decoder make the same code of these prices, in integers. Symbols of 8 bits would make too many pairs: their lowest bits,
which are nearly equally frequent, stay behind as they are.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["ABSENT", "FLOORS", "MOST_PAIRED", "MOST_PRICES", "Ints", "pair_lengths", "prices_of"]

MOST_PRICES = 256
MOST_PAIRED = 64  # symbols that occur: 4,096 pairs
ABSENT = 255  # the price of a symbol that does not occur
FLOORS = range(12, 20)
LONGEST = 16
UNIT = 8  # of prices: eighths of a bit
_SHARES = np.round(2.0 ** (24 - np.arange(UNIT) / UNIT)).astype(np.int64)  # far from .5: the same everywhere
Ints = NDArray[np.int64]


def prices_of(counts: Ints) -> Ints:
    """Bits of each symbol in eighths, rounded; ABSENT for one that does not occur.

    Source: Shannon 1948, A mathematical theory of communication, section 9 (coding blocks of symbols).
    """
    occurs = counts > 0
    bits = -np.log2(np.where(occurs, counts, 1) / counts.sum())
    return np.where(occurs, np.minimum(np.round(UNIT * bits), ABSENT - 1), ABSENT).astype(np.int64)


def pair_lengths(prices: Ints, floor: int) -> Ints:
    """The length of the code of each pair, first * len(prices) + second; 0 for a pair that cannot occur.

    Args:   prices: MOST_PRICES, MOST_PAIRED of them not ABSENT, at most. floor: no pair counts as rarer than
            2**-floor, which keeps its code short.
    Raises: ValueError if a code comes out longer than 16 bits.
    """
    shares = np.where(prices == ABSENT, 0, _SHARES[prices % UNIT] >> (prices // UNIT))
    weights = np.outer(shares, shares).ravel()
    present = np.flatnonzero(np.outer(prices != ABSENT, prices != ABSENT).ravel())
    weights = np.maximum(weights[present], weights.sum() >> floor)
    lengths = np.zeros(len(prices) ** 2, dtype=np.int64)
    lengths[present] = _depths(weights)
    if lengths.max(initial=0) > LONGEST:
        raise ValueError(f"a code of {lengths.max()} bits is longer than {LONGEST}")
    return lengths


def _depths(weights: Ints) -> Ints:
    """How deep each leaf lies in Huffman's tree; the lightest two are the first leaves or the first joined."""
    order = np.argsort(weights, kind="stable")
    leaves = [*weights[order].tolist(), math.inf]  # the last one is never taken
    n = len(weights)
    joined: list[int] = []
    above = [0] * (2 * n - 1)
    leaf = inner = 0
    for node in range(n, 2 * n - 1):
        total = 0
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
    depths = [0] * (2 * n - 1)
    for node in range(2 * n - 3, -1, -1):
        depths[node] = depths[above[node]] + 1
    found = np.zeros(n, dtype=np.int64)
    found[order] = depths[:n]
    return found
