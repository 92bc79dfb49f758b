"""A Huffman code in the open: a table that encodes, decodes bit by bit, and says what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from coursekit.compression.huffman import canonical_codes, code_lengths

__all__ = ["HuffmanCoding", "coded_bytes", "decode_symbols"]

LENGTH_BITS = 5  # that tell the length of a code


def decode_symbols(bits: Tensor, codes: Sequence[int], lengths: Sequence[int], n: int) -> list[int]:
    """The first n symbols of these bits, one bit after the other until what was read is a code.

    Args:    bits: 0 and 1, one dimension, the first bit of a code first; what follows the last code is not looked at.
             codes, lengths: for each symbol its code as an integer, and the code's bits; 0 bits for a symbol that has
             none.
    Returns: n symbols.
    Raises:  ValueError if the bits end before the last symbol does, or no code begins with them.
    Source:  Taught in lesson 12.

    >>> decode_symbols(torch.tensor([0, 1, 1, 0, 1, 0]), codes=[0, 6, 7, 2], lengths=[1, 3, 3, 2], n=3)
    [0, 1, 3]
    """
    symbol_of = {
        (size, code): symbol for symbol, (code, size) in enumerate(zip(codes, lengths, strict=True)) if size
    }
    symbols: list[int] = []
    code = size = 0
    stream = iter(bits.tolist())
    while len(symbols) < n:
        bit = next(stream, None)
        if bit is None:
            raise ValueError(f"the bits end after {len(symbols)} of {n} symbols")
        code, size = 2 * code + bit, size + 1
        if (size, code) in symbol_of:
            symbols.append(symbol_of[size, code])
            code = size = 0
    return symbols


def coded_bytes(counts: Sequence[int] | Tensor, lengths: Sequence[int]) -> int:
    """The bytes of a Huffman-coded tensor: its codes, and the table without which nobody can read them.

    Args:    counts: how often each symbol occurs. lengths: the bits of each symbol's code.
    Returns: the codes in whole bytes, and in whole bytes the length of every symbol of the alphabet, 5 bits each.
    Source:  Taught in lesson 12.

    >>> coded_bytes([8, 4, 2, 2], [1, 2, 3, 3])  # 28 bits and 20 bits
    7
    """
    payload = sum(int(count) * size for count, size in zip(counts, lengths, strict=True))
    table = LENGTH_BITS * len(lengths)
    return -(-payload // 8) + -(-table // 8)


@dataclass(frozen=True)
class HuffmanCoding:
    """A Huffman code for the symbols of one tensor, made by `HuffmanCoding.of(symbols)`.

    A new code is a new object, so no code of an earlier tensor can be left behind in it. A symbol that alone occurs
    gets one bit.

    Attributes: lengths: the bits of each symbol's code, 0 for one without.
    Source:     Huffman 1952, A method for the construction of minimum-redundancy codes. Taught in lesson 12.

    >>> coding = HuffmanCoding.of(torch.tensor([0, 0, 1, 0, 2]))
    >>> coding.words
    {0: '0', 1: '10', 2: '11'}
    >>> coding.encode(torch.tensor([0, 1, 2]))  # 0 10 11, and three bits to fill the byte
    tensor([88], dtype=torch.uint8)
    >>> coding.decode(torch.tensor([88], dtype=torch.uint8), 3)
    tensor([0, 1, 2])
    """

    lengths: tuple[int, ...]

    @classmethod
    def of(cls, symbols: Tensor) -> HuffmanCoding:
        """The code that is best for these symbols: integers from 0 up, any shape."""
        counts = torch.bincount(symbols.flatten().to(torch.int64))
        lengths = code_lengths(counts)
        if len(lengths) and not any(lengths):
            lengths[int(counts.argmax())] = 1
        return cls(tuple(lengths))

    @property
    def words(self) -> dict[int, str]:
        """Each symbol's code, as 0s and 1s."""
        codes = canonical_codes(self.lengths)
        return {k: f"{codes[k]:0{size}b}" for k, size in enumerate(self.lengths) if size}

    def encode(self, symbols: Tensor) -> Tensor:
        """The codes of these symbols, eight bits a byte, uint8.

        Raises: ValueError naming a symbol without a code.
        """
        words = self.words
        unknown = sorted(set(symbols.flatten().tolist()) - set(words))
        if unknown:
            raise ValueError(f"no code for {unknown[0]}: it did not occur when the code was made")
        text = "".join(words[symbol] for symbol in symbols.flatten().tolist())
        return torch.from_numpy(np.packbits(np.frombuffer(text.encode(), dtype=np.uint8) - ord("0")))

    def decode(self, packed: Tensor, n: int) -> Tensor:
        """The n symbols in these bytes, int64.

        Raises: ValueError if the bytes end before the n-th symbol does, or go on behind it.
        """
        bits = torch.from_numpy(np.unpackbits(packed.numpy()))
        symbols = decode_symbols(bits, canonical_codes(self.lengths), self.lengths, n)
        used = sum(self.lengths[symbol] for symbol in symbols)
        if -(-used // 8) != packed.numel():
            raise ValueError(f"{n} symbols take {-(-used // 8)} bytes, and there are {packed.numel()}")
        return torch.tensor(symbols, dtype=torch.int64)
