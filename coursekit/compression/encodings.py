"""One tensor as a few bytes, and back to the same values: every form that fits is tried, and the smallest kept.

| kind | holds |
| --- | --- |
| raw | the values as they are |
| float16, bfloat16 | float32 values that 16 bits hold exactly |
| constant | one value |
| shared | a codebook, and for each value its index in ceil(log2 k) bits |
| shared-huffman | a codebook, and the indices Huffman-coded |
| grid | for each slice along axis 0 a scale, and Huffman-coded integers: value = scale * integer |
| sparse | the number of zeros before each other value, Huffman-coded; and these values in one of the forms above |

Without Huffman coding the numbers of zeros take a fixed number of bits each, and so do all indices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coursekit.compression.huffman_stream import huffman_decode, huffman_encode
from coursekit.packing import bits_for, pack, unpack

__all__ = ["Encoded", "decode_gaps", "decode_tensor", "encode_gaps", "encode_tensor"]

DTYPES = {
    str(d).removeprefix("torch."): d
    for d in (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.uint8, torch.int16,
              torch.int32, torch.int64, torch.bool)
}  # fmt: skip
MOST_SHARED = 4096  # entries of a codebook
FULL_GAP = 255  # stands for 255 zeros that no value follows yet


@dataclass(frozen=True)
class Encoded:
    """A tensor in one of the forms above.

    Attributes: kind: which. blobs: name to bytes. facts: what else is needed to decode: small JSON values.
    """

    kind: str
    blobs: dict[str, bytes]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """The bytes of all blobs."""
        return sum(map(len, self.blobs.values()))


def encode_tensor(x: Tensor, *, huffman: bool = True) -> Encoded:
    """The smallest of the forms that give back just these values; 0.0 stands for -0.0.

    Args:   x: any shape, of a dtype of `DTYPES`. huffman: False for codes of a fixed number of bits throughout.
    Raises: TypeError for another dtype.
    """
    if x.dtype not in DTYPES.values():
        raise TypeError(f"a tensor of {x.dtype} has no form in a file")
    x = x.detach().cpu().contiguous()
    if not x.is_floating_point():
        return min(_plain(x), key=lambda each: each.size_bytes)
    x = x + 0.0  # -0.0 becomes 0.0
    flat = x.flatten()
    forms = [*_plain(x), *_shared(flat, huffman), *(_grid(x) if huffman else ()), *_sparse(flat, huffman)]
    return min(forms, key=lambda each: each.size_bytes)


def decode_tensor(encoded: Encoded, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """The tensor that `encode_tensor` took.

    Raises: ValueError if the bytes do not fit the shape, or each other.
    """
    decoder = _DECODERS.get(encoded.kind)
    if decoder is None:
        raise ValueError(f"no form of a tensor is called {encoded.kind!r}")
    try:
        values = decoder(encoded, shape, dtype)
    except (KeyError, TypeError, OverflowError, RuntimeError) as error:
        raise ValueError(f"a tensor of kind {encoded.kind} is incomplete: {error}") from error
    if values.numel() != math.prod(shape) or values.dtype != dtype:
        raise ValueError(f"{values.numel()} {values.dtype} values are no {dtype} tensor of shape {shape}")
    return values.reshape(shape)


def _bytes_of(x: Tensor) -> bytes:
    return x.contiguous().view(torch.uint8).numpy().tobytes() if x.numel() else b""


def _from_bytes(data: bytes, dtype: torch.dtype) -> Tensor:
    if len(data) % dtype.itemsize:
        raise ValueError(f"{len(data)} bytes are no whole number of {dtype} values")
    return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)


def _plain(x: Tensor) -> Iterator[Encoded]:
    flat = x.flatten()
    yield Encoded("raw", {"values": _bytes_of(flat)})
    if flat.numel() and bool((flat == flat[0]).all()):
        yield Encoded("constant", {"value": _bytes_of(flat[:1])})
    if x.dtype == torch.float32:
        for name in ("float16", "bfloat16"):
            short = flat.to(DTYPES[name])
            if torch.equal(short.float(), flat):
                yield Encoded(name, {"values": _bytes_of(short)})


def _shared(flat: Tensor, huffman: bool) -> Iterator[Encoded]:
    codebook, indices = flat.unique(return_inverse=True)
    if not 1 < len(codebook) <= min(MOST_SHARED, flat.numel() // 2):
        return
    values, n_bits = _bytes_of(codebook), bits_for(len(codebook))
    yield Encoded("shared", {"codebook": values, "indices": _bytes_of(pack(indices, n_bits))})
    if huffman:
        yield Encoded("shared-huffman", {"codebook": values, "indices": huffman_encode(indices)})


def _grid(x: Tensor) -> Iterator[Encoded]:
    """The values as scale * integer, if each slice's largest value is 127, 63, … or 1 such steps."""
    if x.dtype != torch.float32 or x.dim() < 2 or x.numel() < 16 or not x.isfinite().all():
        return
    rows = x.flatten(1)
    largest = rows.abs().amax(1, keepdim=True)
    for n_bits in (2, 3, 4, 5, 6, 7, 8):
        qmax = 2 ** (n_bits - 1) - 1
        scale = _exact_scale(rows, torch.where(largest > 0, largest / qmax, 1.0))
        if scale is not None:
            codes = torch.round(rows / scale).to(torch.int64) + qmax + 1
            yield Encoded(
                "grid", {"scales": _bytes_of(scale), "codes": huffman_encode(codes)}, {"offset": qmax + 1}
            )
            return


def _exact_scale(rows: Tensor, guess: Tensor) -> Tensor | None:
    """A scale for each row that gives back its values exactly: the guess or a neighbour of it, or None."""
    chosen = torch.full_like(guess, torch.nan)
    up, down = guess.nextafter(torch.full_like(guess, torch.inf)), guess.nextafter(torch.zeros_like(guess))
    for scale in (guess, up, down):
        fits = (torch.round(rows / scale) * scale == rows).all(1, keepdim=True)
        chosen = torch.where(chosen.isnan() & fits, scale, chosen)
    return None if chosen.isnan().any() else chosen


def _sparse(flat: Tensor, huffman: bool) -> Iterator[Encoded]:
    kept = flat != 0
    n_kept = int(kept.sum())
    if not 0 < n_kept < 0.75 * flat.numel():
        return
    values = flat[kept]
    inner = min([*_plain(values), *_shared(values, huffman)], key=lambda each: each.size_bytes)
    facts = {"inner": inner.kind, "kept": n_kept, **inner.facts}
    if huffman:
        positions = huffman_encode(encode_gaps(kept))
    else:
        n_bits, symbols = min(
            ((b, encode_gaps(kept, 2**b - 1)) for b in range(2, 9)), key=lambda each: each[0] * len(each[1])
        )
        positions, facts = _bytes_of(pack(symbols, n_bits)), {**facts, "gaps": [n_bits, len(symbols)]}
    yield Encoded("sparse", {"positions": positions, **inner.blobs}, facts)


def encode_gaps(kept: Tensor, full: int = FULL_GAP) -> Tensor:
    """How many gaps precede each True, from left to right; `full` of them at a time are told by a symbol of their own.

    Args:    kept: bool, (n,). What follows the last True is not told. full: 1 or more.
    Returns: int64 symbols, 0 to full: as many as there are Trues and full gaps.
    Source:  Han et al. 2016, arXiv:1510.00149, section 2 (there with filler zeros). Taught in lesson 12.

    >>> encode_gaps(torch.tensor([False, True, True, False, False, True]))
    tensor([1, 0, 2])
    """
    places = kept.flatten().nonzero().flatten()
    gaps = places.diff(prepend=torch.tensor([-1])) - 1
    times, rest = gaps // full, gaps % full
    symbols = torch.full((len(gaps) + int(times.sum()),), full)
    symbols[torch.arange(len(gaps)) + times.cumsum(0)] = rest
    return symbols


def decode_gaps(symbols: Tensor, n: int, full: int = FULL_GAP) -> Tensor:
    """The mask of n places that `encode_gaps` took.

    Raises: ValueError if a symbol is no gap, the last is a full one, or a place lies beyond n.

    >>> decode_gaps(torch.tensor([1, 0, 2]), 7)
    tensor([False,  True,  True, False, False,  True, False])
    """
    if symbols.numel() and not 0 <= int(symbols.min()) <= int(symbols.max()) <= full:
        raise ValueError(f"a gap must be 0 to {full}")
    if symbols.numel() and int(symbols[-1]) == full:
        raise ValueError("the gaps end with a full one: a value is missing")
    ends = symbols != full
    places = (symbols + ends.to(torch.int64)).cumsum(0)[ends] - 1
    if places.numel() and int(places[-1]) >= n:
        raise ValueError(f"a value's place, {int(places[-1])}, is beyond the {n} there are")
    kept = torch.zeros(n, dtype=torch.bool)
    kept[places] = True
    return kept


def _decode_raw(encoded: Encoded, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return _from_bytes(encoded.blobs["values"], dtype)


def _decode_short(encoded: Encoded, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return _from_bytes(encoded.blobs["values"], DTYPES[encoded.kind]).to(dtype)


def _decode_constant(encoded: Encoded, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return _from_bytes(encoded.blobs["value"], dtype).expand(math.prod(shape)).clone()


def _decode_shared(encoded: Encoded, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    codebook = _from_bytes(encoded.blobs["codebook"], dtype)
    packed = np.frombuffer(encoded.blobs["indices"], dtype=np.uint8)
    indices = unpack(torch.from_numpy(packed.copy()), bits_for(max(1, len(codebook))), math.prod(shape))
    return _looked_up(codebook, indices)


def _decode_huffman(encoded: Encoded, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return _looked_up(
        _from_bytes(encoded.blobs["codebook"], dtype),
        huffman_decode(encoded.blobs["indices"], most=math.prod(shape)),
    )


def _looked_up(codebook: Tensor, indices: Tensor) -> Tensor:
    if indices.numel() and int(indices.max()) >= len(codebook):
        raise ValueError(f"index {int(indices.max())} is not in a codebook of {len(codebook)}")
    return codebook[indices]


def _decode_grid(encoded: Encoded, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    scales = _from_bytes(encoded.blobs["scales"], torch.float32)
    if len(scales) != shape[0]:
        raise ValueError(f"{len(scales)} scales for {shape[0]} rows")
    codes = huffman_decode(encoded.blobs["codes"], most=math.prod(shape))
    return (codes.reshape(len(scales), -1) - int(encoded.facts["offset"])).float() * scales[:, None]


def _decode_sparse(encoded: Encoded, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    if encoded.facts["inner"] == "sparse":
        raise ValueError("a sparse tensor's values are not themselves sparse")
    inner = Encoded(encoded.facts["inner"], encoded.blobs, encoded.facts)
    kept = _decode_positions(encoded.blobs["positions"], encoded.facts.get("gaps"), math.prod(shape))
    values = decode_tensor(inner, (int(kept.sum()),), dtype)
    flat = torch.zeros(len(kept), dtype=dtype)
    flat[kept] = values
    return flat


def _decode_positions(blob: bytes, gaps: Any, n: int) -> Tensor:
    """The mask of what is not zero, from gaps Huffman-coded or, if facts say so, in a fixed number of bits."""
    if gaps is None:
        return decode_gaps(huffman_decode(blob, most=n), n)  # a symbol takes a place at least
    n_bits, n_symbols = gaps
    if type(n_bits) is not int or type(n_symbols) is not int or not (0 < n_bits < 9 and 0 <= n_symbols <= n):
        raise ValueError(f"no positions are {n_symbols!r} gaps of {n_bits!r} bits")
    packed = torch.from_numpy(np.frombuffer(blob, dtype=np.uint8).copy())
    return decode_gaps(unpack(packed, n_bits, n_symbols), n, 2**n_bits - 1)


_DECODERS: dict[str, Callable[[Encoded, tuple[int, ...], torch.dtype], Tensor]] = {
    "raw": _decode_raw,
    "float16": _decode_short,
    "bfloat16": _decode_short,
    "constant": _decode_constant,
    "shared": _decode_shared,
    "shared-huffman": _decode_huffman,
    "grid": _decode_grid,
    "sparse": _decode_sparse,
}
