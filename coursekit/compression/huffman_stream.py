"""Huffman-coded bytes: many streams side by side, so that each step of the decoder is one look-up for all of them.

The form, all numbers little-endian:

    magic "HUF1" | crc32 of all that follows, u32 |
    symbols n, u32 | streams s, u32 | alphabet a, u32 | least bits of a stream, u32 | bits of a difference d, u8 |
    code lengths, a of 5 bits | bits of each stream beyond the least, s of d bits | the streams, bit behind bit

Symbols are dealt out one by one: the first to stream 0, the next to stream 1, and so on round and round; the last round
is filled up with the symbol of the shortest code. A stream costs about a byte, and a thousand symbols pay for it.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coursekit.compression.huffman import LONGEST, canonical_codes, code_lengths, entropy, expected_bits
from coursekit.packing import bits_for, pack, unpack

__all__ = ["HuffmanStats", "huffman_decode", "huffman_encode", "huffman_stats"]

MAGIC = b"HUF1"
HEAD = struct.Struct("<4sI")
BODY = struct.Struct("<IIIIB")
STREAM_SYMBOLS = 1024
MOST_STREAMS = 4096
MOST_SYMBOLS = 1 << 16
LENGTH_BITS = 5
ALONE = 31  # stands, among the lengths, for the empty code of a symbol that alone occurs
FILL_BITS = 49  # that are sure to be in a stream's buffer after it was filled
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class HuffmanStats:
    """What a code costs, in bits a symbol.

    Attributes: entropy: the least. expected: of the code words. real: of everything that is stored, header included.
    """

    entropy: float
    expected: float
    real: float


def huffman_stats(symbols: Tensor) -> HuffmanStats:
    """Entropy, expected and real bits of these symbols, the real ones counted in the encoded bytes.

    Raises: as `huffman_encode`; ValueError for no symbols.
    """
    if symbols.numel() == 0:
        raise ValueError("there are no symbols")
    real = 8 * len(huffman_encode(symbols)) / symbols.numel()
    counts = torch.bincount(symbols.flatten().to(torch.int64))
    return HuffmanStats(entropy(counts), expected_bits(counts, code_lengths(counts)), real)


def huffman_encode(symbols: Tensor) -> bytes:
    """The symbols as Huffman-coded bytes, with all that is needed to decode them.

    Args:    symbols: integers from 0 to 65,535, any shape.
    Raises:  TypeError if they are not integers; ValueError if one is out of range.
    Source:  Han et al. 2016, arXiv:1510.00149, section 4. Taught in lesson 12.
    """
    if symbols.is_floating_point() or symbols.is_complex():
        raise TypeError(f"symbols must be integers, got {symbols.dtype}")
    flat = symbols.detach().flatten().to(torch.int64)
    if flat.numel() and not 0 <= int(flat.min()) <= int(flat.max()) < MOST_SYMBOLS:
        raise ValueError(f"symbols must be 0 to {MOST_SYMBOLS - 1}, got {flat.min()}..{flat.max()}")
    counts = torch.bincount(flat)
    lengths = code_lengths(counts)
    stored, bits, payload = list(lengths), np.zeros(0, dtype=np.int64), b""
    if any(lengths):
        bits, payload = _streams(flat.numpy(), np.array(lengths))
    elif lengths:
        stored[int(counts.argmax())] = ALONE
    least = int(bits.min()) if len(bits) else 0
    width = bits_for(int(bits.max()) - least + 1) if len(bits) else 0
    rest = b"".join([
        BODY.pack(len(flat), len(bits), len(lengths), least, width),
        _packed(torch.tensor(stored, dtype=torch.int64), LENGTH_BITS),
        _packed(torch.from_numpy(bits - least), width),
        payload,
    ])
    return HEAD.pack(MAGIC, zlib.crc32(rest)) + rest


def _packed(codes: Tensor, n_bits: int) -> bytes:
    return pack(codes, n_bits).numpy().tobytes()


def _streams(symbols: Ints, lengths: Ints) -> tuple[Ints, bytes]:
    """The number of bits of each stream, and all streams one behind the other."""
    codes = np.array(canonical_codes(lengths.tolist()))
    n_streams = min(MOST_STREAMS, max(1, len(symbols) // STREAM_SYMBOLS))
    rows = -(-len(symbols) // n_streams)
    dealt = np.full(rows * n_streams, np.where(lengths > 0, lengths, LONGEST + 1).argmin())
    dealt[: len(symbols)] = symbols
    by_stream = dealt.reshape(rows, n_streams).T
    bits = lengths[by_stream].sum(1)
    return bits, _written(codes[by_stream].ravel(), lengths[by_stream].ravel()).tobytes()


def _written(codes: Ints, sizes: Ints) -> NDArray[np.uint8]:
    """The codes one behind the other, the highest bit first, filled up to a whole byte."""
    ends = np.cumsum(sizes)
    place = np.repeat(ends, sizes) - 1 - np.arange(ends[-1])  # of each bit within its code, from the right
    return np.packbits(((np.repeat(codes, sizes) >> place) & 1).astype(np.uint8))


def huffman_decode(data: bytes, *, most: int | None = None) -> Tensor:
    """The symbols that `huffman_encode` made these bytes of.

    Args:    most: how many symbols there may be; a stream of one repeated symbol says any number in a few bytes.
    Returns: int64, one dimension.
    Raises:  ValueError if the bytes are damaged, cut off, or of another kind, or there are more than `most` symbols.
    Source:  as `huffman_encode`.
    """
    if len(data) < HEAD.size + BODY.size or data[:4] != MAGIC:
        raise ValueError("these bytes are no Huffman stream, or cut off")
    rest = np.frombuffer(data, dtype=np.uint8, offset=HEAD.size)
    if zlib.crc32(rest.tobytes()) != HEAD.unpack_from(data)[1]:
        raise ValueError("the Huffman stream is damaged or cut off: its checksum does not fit")
    n, n_streams, alphabet, least, width = BODY.unpack_from(data, HEAD.size)
    if most is not None and n > most:
        raise ValueError(f"the Huffman stream claims {n:,} symbols; at most {most:,} are wanted")
    middle = BODY.size + -(-alphabet * LENGTH_BITS // 8)
    start = middle + -(-n_streams * width // 8)
    if alphabet > MOST_SYMBOLS or n_streams > n or start > len(rest):
        raise ValueError("the Huffman stream contradicts itself")
    lengths = _unpacked(rest[BODY.size : middle], LENGTH_BITS, alphabet)
    bits = _unpacked(rest[middle:start], width, n_streams) + least
    if -(-int(bits.sum()) // 8) != len(rest) - start:
        raise ValueError("the Huffman stream contradicts itself")
    if not n_streams:
        return _without_bits(n, lengths)
    return torch.from_numpy(_decoded(rest[start:], bits, lengths, n).astype(np.int64))


def _unpacked(packed: NDArray[np.uint8], n_bits: int, n_codes: int) -> Ints:
    return unpack(torch.from_numpy(packed.copy()), n_bits, n_codes).numpy()


def _without_bits(n: int, lengths: Ints) -> Tensor:
    only = np.flatnonzero(lengths)
    if (n == 0 and len(lengths)) or (n and (len(only) != 1 or lengths[only[0]] != ALONE)):
        raise ValueError("the Huffman stream has symbols but no codes")
    return torch.full((n,), int(only[0]) if n else 0)


def _decoded(payload: NDArray[np.uint8], bits: Ints, lengths: Ints, n: int) -> NDArray[np.uint16]:
    symbols, advance, window = _table(lengths)
    ends = np.cumsum(bits)
    position = ends - bits
    out = np.empty((-(-n // len(bits)), len(bits)), dtype=np.uint16)
    if (bits < len(out)).any():
        raise ValueError("the Huffman stream is too short for its symbols")
    _run(out, position, _words(payload), symbols, advance, window)
    if not np.array_equal(position, ends):
        raise ValueError("the Huffman stream does not end where it should")
    return out.reshape(-1)[:n]


def _table(lengths: Ints) -> tuple[NDArray[np.uint16], Ints, int]:
    """For every value of the next bits: the symbol that begins there, the bits it takes, and how many are looked at."""
    window = int(lengths.max())
    if window > LONGEST:
        raise ValueError("the Huffman stream has codes that are too long")
    codes = canonical_codes(lengths.tolist())
    symbols, advance = np.zeros(1 << window, dtype=np.uint16), np.zeros(1 << window, dtype=np.int64)
    for symbol in np.flatnonzero(lengths):
        spare = window - int(lengths[symbol])
        span = slice(codes[symbol] << spare, (codes[symbol] + 1) << spare)
        symbols[span], advance[span] = symbol, lengths[symbol]
    if not advance.all():
        raise ValueError("the Huffman stream's code has gaps")
    return symbols, advance, window


def _words(payload: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The eight bytes from every second one on, as one number: any 49 bits lie in one of them."""
    n = len(payload) // 2 + 1
    padded = np.zeros(2 * n + 8, dtype=np.uint8)
    padded[: len(payload)] = payload
    return np.ndarray((n,), dtype=">u8", buffer=padded, strides=(2,)).astype(np.uint64)


def _run(
    out: NDArray[np.uint16],
    position: Ints,
    words: NDArray[np.uint64],
    symbols: NDArray[np.uint16],
    advance: Ints,
    window: int,
) -> None:
    """Decodes all streams in step, a row of `out` at a time; `position` is left behind the last bit read."""
    buffer = np.empty(len(position), dtype=np.uint64)  # the next bits of each stream, the first one highest
    at, key, step = (np.empty_like(position) for _ in range(3))
    at_bits, key_bits, step_bits = (x.view(np.uint64) for x in (at, key, step))
    down, per_fill = np.array(64 - window, dtype=np.uint64), FILL_BITS // window
    for start in range(0, len(out), per_fill):
        np.right_shift(position, 4, out=at)
        words.take(at, out=buffer, mode="clip")  # a damaged stream may run over its end
        np.bitwise_and(position, 15, out=at)
        np.left_shift(buffer, at_bits, out=buffer)
        for row in out[start : start + per_fill]:
            np.right_shift(buffer, down, out=key_bits)
            symbols.take(key, out=row, mode="clip")
            advance.take(key, out=step, mode="clip")
            np.left_shift(buffer, step_bits, out=buffer)
            np.add(position, step, out=position)
