"""Known mistakes with codebooks and indices: zeros, bits, the rate, the gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coursekit.exercises.inputs import normal
from coursekit.exercises.spec import Mistake
from coursekit.exercises.weight_sharing.properties import with_zeros

__all__ = [
    "CODEBOOK_GRADIENT",
    "PACK",
    "SHARE_WITH_ZEROS",
    "SHARING_RATE",
    "gradient_probes",
    "pack_probes",
    "rate_probes",
    "share_probes",
]

Pair = tuple[Tensor, Tensor]


def share_probes() -> list[tuple[Any, ...]]:
    """Weights with zeros, with small values beside them, and centroids on both sides of 0."""
    centroids = torch.tensor([-1.0, 1.0, 2.5], dtype=torch.float64)
    return [
        (torch.tensor([0.0, 0.2, 1e-5, -0.3, 2.0, -1.4, 1.6]), centroids),
        (with_zeros(5, 4, seed=1), centroids),
    ]


def _middles(centroids: Tensor) -> Tensor:
    return (centroids[1:] + centroids[:-1]) / 2


def _shared(weight: Tensor, centroids: Tensor) -> Pair:
    indices = torch.bucketize(weight.double(), _middles(centroids)) + 1
    codebook = torch.cat([centroids.new_zeros(1), centroids]).to(weight.dtype)
    return codebook, torch.where(weight == 0, 0, indices)


def _no_zero(weight: Tensor, centroids: Tensor) -> Pair:
    return centroids.to(weight.dtype), torch.bucketize(weight.double(), _middles(centroids))


def _zero_joins(weight: Tensor, centroids: Tensor) -> Pair:
    codebook = torch.cat([centroids.new_zeros(1), centroids])
    return codebook.to(weight.dtype), (weight.double()[..., None] - codebook).abs().argmin(-1)


def _in_order(weight: Tensor, centroids: Tensor) -> Pair:
    codebook, order = torch.cat([centroids.new_zeros(1), centroids]).sort()
    return codebook.to(weight.dtype), order.argsort()[_shared(weight, centroids)[1]]


def _unshifted(weight: Tensor, centroids: Tensor) -> Pair:
    codebook, indices = _shared(weight, centroids)
    return codebook, (indices - 1).clamp(min=0)


def _zero_last(weight: Tensor, centroids: Tensor) -> Pair:
    k = len(centroids)
    codebook, indices = _shared(weight, centroids)
    return codebook.roll(-1), torch.where(indices == 0, k, indices - 1)


def _without_entry(weight: Tensor, centroids: Tensor) -> Pair:
    return centroids.to(weight.dtype), _shared(weight, centroids)[1]


def _threshold(weight: Tensor, centroids: Tensor) -> Pair:
    codebook, indices = _shared(weight, centroids)
    return codebook, torch.where(weight.abs() < 1e-3, 0, indices)


def _minus_one(weight: Tensor, centroids: Tensor) -> Pair:
    codebook, indices = _shared(weight, centroids)
    return codebook, indices - 1


def _at_centroids(weight: Tensor, centroids: Tensor) -> Pair:
    codebook, _ = _shared(weight, centroids)
    indices = torch.bucketize(weight.double(), centroids).clamp(max=len(centroids) - 1) + 1
    return codebook, torch.where(weight == 0, 0, indices)


def _flat(weight: Tensor, centroids: Tensor) -> Pair:
    codebook, indices = _shared(weight, centroids)
    return codebook, indices.flatten()


SHARE_WITH_ZEROS = (
    Mistake("zeros_shared_too", "Zeros get a centroid like all others, so nothing is pruned any more.", _no_zero),
    Mistake("zero_is_a_cluster", "0 competes with the centroids, and small weights fall to it: you prune what was not "
            "pruned.", _zero_joins),
    Mistake("codebook_in_order", "You sorted the 0 in among the centroids. It is entry 0, always.", _in_order),
    Mistake("zero_at_the_end", "The 0 stands behind the centroids. It is entry 0.", _zero_last),
    Mistake("not_counted_from_1", "Your indices count the centroids from 0, but entry 0 of the codebook is the 0.0.",
            _unshifted),
    Mistake("no_entry_for_zero", "The indices count from 1, but the codebook has no 0.0 in front.", _without_entry),
    Mistake("threshold", "A small weight is not a pruned one: only what is exactly 0 gets the index 0.", _threshold),
    Mistake("zero_is_minus_one", "Zeros have the index -1, which in Python is the last centroid.", _minus_one),
    Mistake("cut_at_centroids", "You cut at the centroids. The border of two clusters is half-way between them.",
            _at_centroids),
    Mistake("flat_indices", "The indices have lost the shape of the weight.", _flat),
    Mistake("swapped", "You return (indices, codebook).", lambda w, c: _shared(w, c)[::-1]),
)  # fmt: skip


def pack_probes() -> list[tuple[Any, ...]]:
    """Codes of 3, 5 and 2 bits, none a palindrome, with bits left over at the end."""
    return [
        (torch.tensor([6, 1, 4, 3, 1]), 3),
        (torch.tensor([[3, 18, 25, 7, 11], [29, 1, 16, 8, 20]]), 5),
        (torch.tensor([1, 2, 3]), 2),
        (torch.tensor([200, 7]), 8),
    ]


def _bits(codes: Tensor, n_bits: int) -> Tensor:
    """(n, n_bits), the highest bit first."""
    shifts = torch.arange(n_bits - 1, -1, -1)
    return (codes.flatten()[:, None] >> shifts) & 1


def _bytes(bits: Tensor, order: str = "big") -> Tensor:
    return torch.from_numpy(np.packbits(bits.flatten().to(torch.uint8).numpy(), bitorder=order))  # type: ignore[call-overload]


def _not_flattened(codes: Tensor, n_bits: int) -> Tensor:
    if codes.dim() > 1:
        raise TypeError("a row is no code")
    return _bytes(_bits(codes, n_bits))


def _in_front(codes: Tensor, n_bits: int) -> Tensor:
    bits = _bits(codes, n_bits).flatten()
    return _bytes(torch.cat([bits.new_zeros(-len(bits) % 8), bits]))


def _cut_off(codes: Tensor, n_bits: int) -> Tensor:
    return _bytes(_bits(codes, n_bits))[: codes.numel() * n_bits // 8]


def _no_crossing(codes: Tensor, n_bits: int) -> Tensor:
    parts = codes.flatten().split(8 // n_bits)
    return torch.cat([_bytes(_bits(part, n_bits)) for part in parts])


def _halves(codes: Tensor, n_bits: int) -> Tensor:
    width = next(w for w in (1, 2, 4, 8) if w >= n_bits)
    return _bytes(_bits(codes, width))


def _one_more(codes: Tensor, n_bits: int) -> Tensor:
    packed = _bytes(_bits(codes, n_bits))
    return torch.cat([packed, packed.new_zeros(codes.numel() * n_bits // 8 + 1 - len(packed))])


PACK = (
    Mistake("a_byte_each", "Every code takes a whole byte. It needs n_bits.", lambda c, b: c.flatten().to(torch.uint8)),
    Mistake("a_byte_a_bit", "Every bit takes a whole byte: that is eight times as much as it should, and more than "
            "before.", lambda c, b: _bits(c, b).flatten().to(torch.uint8)),
    Mistake("lowest_bit_first", "The bits of each code are the wrong way round: the highest goes first.",
            lambda c, b: _bytes(_bits(c, b).flip(1))),
    Mistake("from_the_low_end", "You fill each byte from its lowest bit. The first code has the highest bits of "
            "a byte.",
            lambda c, b: _bytes(_bits(c, b), "little")),
    Mistake("both_reversed", "Codes and bytes both begin at their lowest bit. Both begin at the highest.",
            lambda c, b: _bytes(_bits(c, b).flip(1), "little")),
    Mistake("zeros_in_front", "The bits that are left over are in front. They come after the last code.", _in_front),
    Mistake("end_cut_off", "The last byte is missing where it is not full.", _cut_off),
    Mistake("no_crossing", "None of your codes crosses the border of a byte, so bits are wasted in each.",
            _no_crossing),
    Mistake("round_widths", "You use 1, 2, 4 or 8 bits a code. 3 and 5 are possible too: that is where packing pays.",
            _halves),
    Mistake("one_byte_more", "There is a byte too many where the bits fill the last one.", _one_more),
    Mistake("int64", "The bytes are right but kept in int64, eight bytes each.",
            lambda c, b: _bytes(_bits(c, b)).to(torch.int64)),
    Mistake("not_flattened", "It is right for a row of codes, but they may have any shape. Flatten them first.",
            _not_flattened),
)  # fmt: skip


def rate_probes() -> list[tuple[Any, ...]]:
    """Clusters that are a power of two, and not; 16-bit weights; one cluster."""
    return [(1000, 16), (1000, 17), (400, 20, 16), (640, 1), (90, 3)]


def _rate(n: int, k: int, b: int, index: float, book: float) -> float:
    return n * b / (n * index + book) if n * index + book else math.inf


def _ceil(k: int) -> int:
    return math.ceil(math.log2(k))


SHARING_RATE = (
    Mistake("no_codebook", "Without the codebook nobody can read the indices: its k b bits count.",
            lambda n, k, b=32: _rate(n, k, b, _ceil(k), 0)),
    Mistake("broken_bits", "An index takes a whole number of bits: 17 centroids need 5, not 4.09.",
            lambda n, k, b=32: _rate(n, k, b, math.log2(k), k * b)),
    Mistake("rounded_down", "4 bits tell 16 centroids apart, not 17: round up.",
            lambda n, k, b=32: _rate(n, k, b, int(math.log2(k)), k * b)),
    Mistake("bit_length_of_k", "You count one bit too many for a power of two: 16 centroids have the indices 0 to 15.",
            lambda n, k, b=32: _rate(n, k, b, k.bit_length(), k * b)),
    Mistake("a_byte_an_index", "You count 8 bits for every index. Packed, it takes ceil(log2 k).",
            lambda n, k, b=32: _rate(n, k, b, 8, k * b)),
    Mistake("codebook_in_bytes", "Your codebook is counted in bytes, the rest in bits.",
            lambda n, k, b=32: _rate(n, k, b, _ceil(k), k * b / 8)),
    Mistake("codebook_of_32_bits", "A centroid takes n_bits like a weight, not always 32.",
            lambda n, k, b=32: _rate(n, k, b, _ceil(k), k * 32)),
    Mistake("small_codebook", "A centroid is a number of n_bits bits; you count those of an index.",
            lambda n, k, b=32: _rate(n, k, b, _ceil(k), k * _ceil(k))),
    Mistake("upside_down", "That is after over before. How many times smaller is before over after.",
            lambda n, k, b=32: 1 / _rate(n, k, b, _ceil(k), k * b)),
    Mistake("share_saved", "That is the share saved. Asked for is how many times smaller.",
            lambda n, k, b=32: 1 - 1 / _rate(n, k, b, _ceil(k), k * b)),
)  # fmt: skip


def gradient_probes() -> list[tuple[Any, ...]]:
    """Gradients of both signs; pruned weights; a code in the middle and the last one in use by nobody."""
    indices = torch.tensor([[0, 1, 4, 2], [2, 4, 0, 1], [1, 1, 4, 0]])
    return [(normal(3, 4, seed=1), indices, 6), (normal(3, 4, seed=2), indices.flip(0), 5)]


def _summed(gradient: Tensor, indices: Tensor, n_codes: int) -> Tensor:
    return gradient.new_zeros(n_codes).index_add_(0, indices.flatten(), gradient.flatten())


def _without_0(summed: Tensor) -> Tensor:
    return torch.cat([summed.new_zeros(1), summed[1:]])


def _mean(gradient: Tensor, indices: Tensor, n_codes: int) -> Tensor:
    counts = torch.bincount(indices.flatten(), minlength=n_codes).clamp(min=1)
    return _without_0(_summed(gradient, indices, n_codes) / counts)


def _overwrites(gradient: Tensor, indices: Tensor, n_codes: int) -> Tensor:
    made = gradient.new_zeros(n_codes)
    for value, index in zip(gradient.flatten(), indices.flatten(), strict=True):
        made[index] = value
    return _without_0(made)


def _used(gradient: Tensor, indices: Tensor, n_codes: int) -> Tensor:
    return _without_0(_summed(gradient, indices, n_codes)[indices.unique()])


def _counts(gradient: Tensor, indices: Tensor, n_codes: int) -> Tensor:
    return _without_0(torch.bincount(indices.flatten(), minlength=n_codes).to(gradient.dtype))


CODEBOOK_GRADIENT = (
    Mistake("averaged", "You average. The loss changes by the sum: all weights of the cluster move at once.", _mean),
    Mistake("overwrites", "Of all weights with one index only the last counts: an assignment to made[indices] keeps "
            "one gradient for each.", _overwrites),
    Mistake("zero_moves", "Entry 0 has a gradient, so pruned weights would come back.", _summed),
    Mistake("no_entry_0", "Entry 0 is missing, so that each gradient belongs to the wrong centroid.",
            lambda g, i, n: _summed(g, i, n)[1:]),
    Mistake("used_only", "Entries that no weight uses are missing, and the others have moved up.", _used),
    Mistake("up_to_the_largest", "The last entries are missing where no weight uses them: there are n_codes.",
            lambda g, i, n: _without_0(_summed(g, i, n))[: int(i.max()) + 1]),
    Mistake("absolute", "You add absolute values. Weights that pull in opposite directions cancel.",
            lambda g, i, n: _without_0(_summed(g.abs(), i, n))),
    Mistake("downhill", "The sign is turned round: that is the direction of the step, not the gradient.",
            lambda g, i, n: _without_0(-_summed(g, i, n))),
    Mistake("divided_by_all", "You divide by the number of weights. The gradient is the plain sum.",
            lambda g, i, n: _without_0(_summed(g, i, n) / g.numel())),
    Mistake("counted", "You count the weights of each entry and leave their gradients out.", _counts),
    Mistake("float64", "The sums are right, but of another dtype than the gradient.",
            lambda g, i, n: _without_0(_summed(g, i, n)).double()),
)  # fmt: skip
