"""Codes of a few bits, packed so that none of a byte's bits is wasted."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["bits_for", "pack", "unpack"]

MOST_BITS = 32


def bits_for(n_values: int) -> int:
    """The bits a code needs that tells n_values apart: ceil(log2 n_values), and 0 for a single one.

    Raises: ValueError if n_values is below 1.

    >>> [bits_for(n) for n in (1, 2, 5, 32, 33)]
    [0, 1, 3, 5, 6]
    """
    if n_values < 1:
        raise ValueError(f"n_values must be at least 1, got {n_values}")
    return (n_values - 1).bit_length()


def pack(codes: Tensor, n_bits: int) -> Tensor:
    """The codes as a stream of bits, the first code in the highest bits of the first byte.

    Args:    codes: integers 0 .. 2**n_bits - 1, any shape. n_bits: 0 to 32; with 0 bits nothing is left to store.
    Returns: uint8, ceil(codes.numel() * n_bits / 8) bytes; what is left of the last byte is 0.
    Raises:  TypeError if codes are not integers; ValueError if one does not fit, or n_bits is not 0 to 32.
    Source:  Han et al. 2016, arXiv:1510.00149, section 3 (the index of a shared weight takes log2 k bits). Taught in
             lesson 11.

    >>> pack(torch.tensor([1, 2, 3]), n_bits=2)  # 01 10 11 00
    tensor([108], dtype=torch.uint8)
    """
    _check_bits(n_bits)
    if codes.is_floating_point() or codes.is_complex():
        raise TypeError(f"codes must be integers, got {codes.dtype}")
    flat = codes.detach().flatten().to(torch.int64).numpy()
    if flat.size and (flat.min() < 0 or flat.max() >> n_bits):
        raise ValueError(f"codes {flat.min()}..{flat.max()} do not fit into {n_bits} bits")
    shifts = np.arange(n_bits - 1, -1, -1)
    bits = (flat[:, None] >> shifts) & 1  # (n, n_bits), the highest bit first
    return torch.from_numpy(np.packbits(bits.astype(np.uint8)))


def unpack(packed: Tensor, n_bits: int, n_codes: int) -> Tensor:
    """The n_codes codes that `pack` put into these bytes.

    Args:    packed: uint8. n_bits: as packed. n_codes: how many; the bytes do not say.
    Returns: int64, (n_codes,).
    Raises:  ValueError if the number of bytes is not the one that n_codes take, or a spare bit is not 0.
    Source:  as `pack`.

    >>> unpack(torch.tensor([108], dtype=torch.uint8), n_bits=2, n_codes=3)
    tensor([1, 2, 3])
    """
    _check_bits(n_bits)
    if n_codes < 0 or packed.numel() != -(-n_codes * n_bits // 8):
        raise ValueError(f"{packed.numel()} bytes are not {n_codes} codes of {n_bits} bits")
    bits = np.unpackbits(packed.numpy())
    if bits[n_codes * n_bits :].any():
        raise ValueError("bits behind the last code are set: the bytes are damaged, or of another n_bits")
    rows = bits[: n_codes * n_bits].reshape(n_codes, n_bits).astype(np.int64)
    return torch.from_numpy(rows @ (1 << np.arange(n_bits - 1, -1, -1, dtype=np.int64)))


def _check_bits(n_bits: int) -> None:
    if isinstance(n_bits, bool) or not isinstance(n_bits, int) or not 0 <= n_bits <= MOST_BITS:
        raise ValueError(f"n_bits must be an int from 0 to {MOST_BITS}, got {n_bits!r}")
