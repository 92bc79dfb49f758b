"""Huffman-coded bytes: many streams side by side, so that each step of the decoder is one look-up for all of them.

The form, all numbers little-endian:

    magic "HUF1" | crc32 of all that follows, u32 |
    symbols n, u32 | streams s, u32 | alphabet a, u32 | least bits of a stream, u32 | bits of a difference d, u8 |
    code lengths, a of 5 bits | bits of each stream beyond the least, s of d bits | the streams, bit behind bit

Symbols are dealt out one by one: the first to stream 0, the next to stream 1, and so on round and round; the last round
is filled up with the symbol of the shortest code. A stream costs about a byte, and a thousand symbols pay for it.

Where it takes less, the code lengths are deflated, a byte each: magic "HUF3", and their size, u16, before them.

Words for pairs of symbols waste half as much as words for symbols, and use what neighbours know of each other. Symbols
of 8 bits would make too many pairs: their lowest bits, nearly equally frequent, may stay behind. Where all that makes
the whole smaller, the form is

    magic "HUF2" | crc32, n, s, a, least, d as above | low bits b, u8 | bytes of the next part, u16 |
    code lengths of the pairs, a * a, deflated | sizes and streams as above | low bits, n of b bits

with an alphabet of what is left of the symbols without their b low bits; an odd last symbol is paired with itself.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coursekit.compression.huffman import LONGEST, code_lengths, entropy, roughly_limited_lengths
from coursekit.packing import bits_for, pack, unpack

__all__ = ["HuffmanStats", "huffman_decode", "huffman_encode", "huffman_stats"]

MAGIC, MAGIC_OF_PAIRS, MAGIC_DEFLATED = b"HUF1", b"HUF2", b"HUF3"
HEAD = struct.Struct("<4sI")
BODY = struct.Struct("<IIIIB")
DEFLATED = struct.Struct("<H")
STREAM_SYMBOLS = 1024
MOST_STREAMS = 4096
MOST_SYMBOLS = 1 << 16
LENGTH_BITS = 5
ALONE = 31  # stands, among the lengths, for the empty code of a symbol that alone occurs
FILL_BITS = 49  # that are sure to be in a stream's buffer after it was filled
LOW_BITS = (0, 2, 3, 4)  # that may stay behind when symbols are paired
MOST_PAIRED, MOST_IN_PAIRS = 64, 256  # symbols that occur in pairs, and their alphabet
WORTH_PAIRING = 4096  # symbols: fewer would not pay for the pairs' table
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class HuffmanStats:
    """What a code costs, in bits a symbol.

    Attributes: entropy: the least, symbol by symbol. expected: of the code words. real: of everything that is stored,
                header included. per_word: how many symbols a word stands for, 1 or 2.
    """

    entropy: float
    expected: float
    real: float
    per_word: int = 1


@dataclass(frozen=True)
class _Plan:
    """How symbols become words: their code's lengths, what a decoder is told of it, and what stays behind the streams.

    Attributes: magic: of the form. words: a number for each word. told: the part of the form between BODY and the
                streams' sizes. alphabet: what BODY says of it. per_word: symbols. behind: bytes.
    """

    magic: bytes
    words: Ints
    lengths: Ints
    told: bytes
    alphabet: int
    per_word: int = 1
    behind: bytes = b""

    @property
    def n_bits(self) -> int:
        """Of all words."""
        return int(self.lengths[self.words].sum())

    @property
    def n_bytes(self) -> int:
        """Of all that depends on the plan, to compare plans by."""
        return -(-self.n_bits // 8) + len(self.told) + len(self.behind)


def huffman_stats(symbols: Tensor, *, pairs: bool = True) -> HuffmanStats:
    """Entropy, expected and real bits of these symbols, the real ones counted in the encoded bytes.

    Raises: as `huffman_encode`; ValueError for no symbols.
    """
    if symbols.numel() == 0:
        raise ValueError("there are no symbols")
    flat = _checked(symbols)
    plan = _best_plan(flat, pairs)
    n = len(flat)
    expected = (plan.n_bits + 8 * len(plan.behind)) / n
    return HuffmanStats(entropy(torch.bincount(flat)), expected, 8 * len(_stored(plan, n)) / n, plan.per_word)


def huffman_encode(symbols: Tensor, *, pairs: bool = True) -> bytes:
    """The symbols as Huffman-coded bytes, with all that is needed to decode them.

    A word stands for a symbol, or for two where that makes the whole smaller.

    Args:    symbols: integers from 0 to 65,535, any shape. pairs: False for a word for each symbol in any case.
    Raises:  TypeError if they are not integers; ValueError if one is out of range.
    Source:  Han et al. 2016, arXiv:1510.00149, section 4. Taught in lesson 12.
    """
    flat = _checked(symbols)
    return _stored(_best_plan(flat, pairs), len(flat))


def _checked(symbols: Tensor) -> Tensor:
    if symbols.is_floating_point() or symbols.is_complex():
        raise TypeError(f"symbols must be integers, got {symbols.dtype}")
    flat = symbols.detach().flatten().to(torch.int64)
    if flat.numel() and not 0 <= int(flat.min()) <= int(flat.max()) < MOST_SYMBOLS:
        raise ValueError(f"symbols must be 0 to {MOST_SYMBOLS - 1}, got {flat.min()}..{flat.max()}")
    return flat


def _best_plan(flat: Tensor, pairs: bool) -> _Plan:
    """The plan whose file is the smallest."""
    plans = [_plan_of_symbols(flat)]
    if pairs and len(flat) >= WORTH_PAIRING and plans[0].lengths.any():
        plans += [plan for n_low in LOW_BITS if (plan := _plan_of_pairs(flat, n_low)) is not None]
    return min(plans, key=lambda plan: plan.n_bytes)


def _plan_of_symbols(flat: Tensor) -> _Plan:
    counts = torch.bincount(flat)
    lengths = code_lengths(counts)
    stored = list(lengths)
    if lengths and not any(lengths):
        stored[int(counts.argmax())] = ALONE
    told = _packed(torch.tensor(stored, dtype=torch.int64), LENGTH_BITS)
    magic, deflated = MAGIC, _deflated(stored)
    if deflated is not None and len(deflated) < len(told):
        magic, told = MAGIC_DEFLATED, deflated
    return _Plan(magic, flat.numpy(), np.array(lengths, dtype=np.int64), told, len(lengths))


def _plan_of_pairs(flat: Tensor, n_low: int) -> _Plan | None:
    """The plan with words for pairs and n_low bits of each symbol left behind; None if there are too many pairs."""
    high = (flat >> n_low).numpy()
    counts = np.bincount(high)
    if len(counts) > MOST_IN_PAIRS or not 1 < np.count_nonzero(counts) <= MOST_PAIRED:
        return None
    even = np.append(high, high[-1:]) if len(high) % 2 else high
    words = even[0::2] * len(counts) + even[1::2]
    lengths = roughly_limited_lengths(np.bincount(words, minlength=len(counts) ** 2).tolist())
    deflated = _deflated(lengths)
    if deflated is None:
        return None
    behind = _packed(flat & ((1 << n_low) - 1), n_low)
    told = bytes([n_low]) + deflated
    return _Plan(MAGIC_OF_PAIRS, words, np.array(lengths, dtype=np.int64), told, len(counts), 2, behind)


def _deflated(lengths: list[int]) -> bytes | None:
    """Their size and the lengths, a byte each, deflated; None if that is longer than the form can say."""
    deflated = zlib.compress(bytes(lengths), 9, wbits=-15)
    return DEFLATED.pack(len(deflated)) + deflated if len(deflated) < 1 << 16 else None


def _stored(plan: _Plan, n: int) -> bytes:
    """The form's bytes for n symbols."""
    bits, payload = np.zeros(0, dtype=np.int64), b""
    if plan.lengths.any():
        bits, payload = _streams(plan.words, plan.lengths, STREAM_SYMBOLS // plan.per_word)
    least = int(bits.min()) if len(bits) else 0
    width = bits_for(int(bits.max()) - least + 1) if len(bits) else 0
    body = BODY.pack(n, len(bits), plan.alphabet, least, width)
    rest = body + plan.told + _packed(torch.from_numpy(bits - least), width) + payload + plan.behind
    return HEAD.pack(plan.magic, zlib.crc32(rest)) + rest


def _packed(codes: Tensor, n_bits: int) -> bytes:
    return pack(codes, n_bits).numpy().tobytes()


def _streams(words: Ints, lengths: Ints, per_stream: int) -> tuple[Ints, bytes]:
    """The number of bits of each stream, and all streams one behind the other."""
    codes = _canonical(lengths)[1]
    n_streams = min(MOST_STREAMS, max(1, len(words) // per_stream))
    rows = -(-len(words) // n_streams)
    dealt = np.full(rows * n_streams, np.where(lengths > 0, lengths, LONGEST + 1).argmin())
    dealt[: len(words)] = words
    by_stream = dealt.reshape(rows, n_streams).T
    bits = lengths[by_stream].sum(1)
    return bits, _written(codes[by_stream].ravel(), lengths[by_stream].ravel()).tobytes()


def _canonical(lengths: Ints) -> tuple[Ints, Ints, int]:
    """As `canonical_codes`, in one go: the words in the order of their codes, the code of each, and the longest length.

    Raises: ValueError if the codes do not fill their tree exactly, or are longer than 16 bits.
    """
    window = int(lengths.max())
    if window > LONGEST:
        raise ValueError("the Huffman stream has codes that are too long")
    order = np.lexsort((np.arange(len(lengths)), lengths))
    order = order[lengths[order] > 0]
    spans = 1 << (window - lengths[order])
    ends = np.cumsum(spans)
    if ends[-1] != 1 << window:
        raise ValueError("the Huffman stream's code has gaps, or too many words")
    codes = np.zeros(len(lengths), dtype=np.int64)
    codes[order] = (ends - spans) >> (window - lengths[order])
    return order, codes, window


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
    magic = data[:4]
    if len(data) < HEAD.size + BODY.size or magic not in (MAGIC, MAGIC_OF_PAIRS, MAGIC_DEFLATED):
        raise ValueError("these bytes are no Huffman stream, or cut off")
    rest = np.frombuffer(data, dtype=np.uint8, offset=HEAD.size)
    if zlib.crc32(rest.tobytes()) != HEAD.unpack_from(data)[1]:
        raise ValueError("the Huffman stream is damaged or cut off: its checksum does not fit")
    n, n_streams, alphabet, least, width = BODY.unpack_from(data, HEAD.size)
    if most is not None and n > most:
        raise ValueError(f"the Huffman stream claims {n:,} symbols; at most {most:,} are wanted")
    if magic == MAGIC_OF_PAIRS:
        return _decode_pairs(rest, n, n_streams, alphabet, least, width)
    if alphabet > MOST_SYMBOLS or n_streams > n:
        raise ValueError("the Huffman stream contradicts itself")
    if magic == MAGIC_DEFLATED:
        lengths, middle = _deflated_lengths(rest, BODY.size, alphabet)
    else:
        lengths, middle = _packed_lengths(rest, alphabet)
    if not n_streams:
        if len(rest) != middle:
            raise ValueError("the Huffman stream contradicts itself")
        return _without_bits(n, lengths)
    words = _words_in(rest[middle:], n_streams, least, width, lengths, n)
    return torch.from_numpy(words.astype(np.int64))


def _packed_lengths(rest: NDArray[np.uint8], alphabet: int) -> tuple[Ints, int]:
    """The code lengths, and where they end."""
    end = BODY.size + -(-alphabet * LENGTH_BITS // 8)
    if end > len(rest):
        raise ValueError("the Huffman stream contradicts itself")
    return _unpacked(rest[BODY.size : end], LENGTH_BITS, alphabet), end


def _deflated_lengths(rest: NDArray[np.uint8], at: int, alphabet: int) -> tuple[Ints, int]:
    begin = at + DEFLATED.size
    if begin > len(rest):
        raise ValueError("the Huffman stream contradicts itself")
    end = begin + int(DEFLATED.unpack(rest[at:begin].tobytes())[0])
    inflater = zlib.decompressobj(wbits=-15)
    try:
        lengths = inflater.decompress(rest[begin:end].tobytes(), alphabet + 1)
    except zlib.error as error:
        raise ValueError("the Huffman stream is damaged") from error
    if len(lengths) != alphabet or not inflater.eof or inflater.unused_data or end > len(rest):
        raise ValueError("the Huffman stream contradicts itself")
    return np.frombuffer(lengths, dtype=np.uint8).astype(np.int64), end


def _decode_pairs(
    rest: NDArray[np.uint8], n: int, n_streams: int, alphabet: int, least: int, width: int
) -> Tensor:
    n_pairs, n_low = -(-n // 2), int(rest[BODY.size]) if len(rest) > BODY.size else -1
    if not 1 < alphabet <= MOST_IN_PAIRS or not 0 < n_streams <= n_pairs or n_low not in LOW_BITS:
        raise ValueError("the Huffman stream contradicts itself")
    lengths, start = _deflated_lengths(rest, BODY.size + 1, alphabet**2)
    end = len(rest) - -(-n * n_low // 8)
    if start > end or not lengths.any():
        raise ValueError("the Huffman stream contradicts itself")
    words = _words_in(rest[start:end], n_streams, least, width, lengths, n_pairs)
    pairs = np.stack(np.divmod(np.arange(alphabet**2), alphabet), axis=1)  # the two symbols of each word
    symbols = torch.from_numpy(pairs.take(words, axis=0).reshape(-1)[:n])
    return (symbols << n_low) | torch.from_numpy(_unpacked(rest[end:], n_low, n)) if n_low else symbols


def _words_in(
    rest: NDArray[np.uint8], n_streams: int, least: int, width: int, lengths: Ints, n: int
) -> NDArray[np.uint16]:
    """The n words in these bytes: the streams' sizes, then the streams."""
    start = -(-n_streams * width // 8)
    if start > len(rest):
        raise ValueError("the Huffman stream contradicts itself")
    bits = _unpacked(rest[:start], width, n_streams) + least
    if -(-int(bits.sum()) // 8) != len(rest) - start:
        raise ValueError("the Huffman stream contradicts itself")
    return _decoded(rest[start:], bits, lengths, n)


def _unpacked(packed: NDArray[np.uint8], n_bits: int, n_codes: int) -> Ints:
    return unpack(torch.from_numpy(packed.copy()), n_bits, n_codes).numpy()


def _without_bits(n: int, lengths: Ints) -> Tensor:
    only = np.flatnonzero(lengths)
    if (n == 0 and len(lengths)) or (n and (len(only) != 1 or lengths[only[0]] != ALONE)):
        raise ValueError("the Huffman stream has symbols but no codes")
    return torch.full((n,), int(only[0]) if n else 0)


def _decoded(payload: NDArray[np.uint8], bits: Ints, lengths: Ints, n: int) -> NDArray[np.uint16]:
    words, advance, window = _table(lengths)
    ends = np.cumsum(bits)
    position = ends - bits
    out = np.empty((-(-n // len(bits)), len(bits)), dtype=np.uint16)
    if (bits < len(out)).any():
        raise ValueError("the Huffman stream is too short for its symbols")
    _run(out, position, _words(payload), words, advance, window)
    if not np.array_equal(position, ends):
        raise ValueError("the Huffman stream does not end where it should")
    return out.reshape(-1)[:n]


def _table(lengths: Ints) -> tuple[NDArray[np.uint16], Ints, int]:
    """For every value of the next bits: the word that begins there, the bits it takes, and how many are looked at."""
    order, _, window = _canonical(lengths)
    sizes = lengths[order]
    spans = 1 << (window - sizes)
    return np.repeat(order, spans).astype(np.uint16), np.repeat(sizes, spans), window


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
