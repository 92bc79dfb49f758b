"""The bookkeeping of a pipeline on plain values: stages, bytes, ratios, and the choice among candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from coursekit.plot import pareto_front

__all__ = ["accuracy_front", "bytes_by_part", "choose_candidate", "combined_ratio", "run_pipeline"]

Tensors = dict[str, Tensor]
Candidate = tuple[str, int, float]


def run_pipeline(
    weights: Tensors,
    steps: Mapping[str, Callable[[Tensors], Tensors]],
    size_of: Callable[[Tensors], int],
    distance: Callable[[Tensors, Tensors], float],
) -> tuple[Tensors, list[dict[str, Any]]]:
    """The weights after all steps, and a row for the original and for what each step left.

    Args:    weights: name to tensor; not changed, although a step may write into what it is given.
             steps: name to function, in their order; each takes what the one before returned.
             size_of: weights to bytes. distance: (original, weights) to how far they are apart.
    Returns: weights; rows, each {"stage": name, "size_bytes": int, "ratio": bytes of the original over these bytes,
             "error": distance from the original}, the first of the stage "original".
    Source:  Taught in lesson 15.
    """
    first = size_of(weights)
    rows = [{"stage": "original", "size_bytes": first, "ratio": 1.0, "error": distance(weights, weights)}]
    current = weights
    for name, step in steps.items():
        current = step({key: tensor.clone() for key, tensor in current.items()})
        size = size_of(current)
        rows.append({
            "stage": name,
            "size_bytes": size,
            "ratio": first / size,
            "error": distance(weights, current),
        })
    return current, rows


def bytes_by_part(parts: Sequence[tuple[str, str, int]], file_size: int) -> dict[str, int]:
    """The bytes of each kind of part over all tensors, and under "header" the rest of the file.

    Args:    parts: (tensor, part, bytes), as many as there are. file_size: bytes of the whole file.
    Returns: part to bytes; the values add up to file_size. "header" is always there.
    Raises:  ValueError if the parts have more bytes than the file.
    Source:  Taught in lesson 15.

    >>> bytes_by_part([("fc1", "indices", 70), ("fc2", "indices", 20), ("fc1", "codebook", 8)], 100)
    {'indices': 90, 'codebook': 8, 'header': 2}
    """
    sums: dict[str, int] = {}
    for _, part, size in parts:
        sums[part] = sums.get(part, 0) + size
    rest = file_size - sum(sums.values())
    if rest < 0:
        raise ValueError(f"the parts have {-rest:,} bytes more than the file")
    return {**sums, "header": rest}


def combined_ratio(n_weights: int, density: float, n_bits: int, gap_bits: int, n_codes: int) -> float:
    """How many times smaller pruned and shared weights are than in 32 bits each, positions and codebook counted.

    Args:    n_weights: all of them. density: the share that is left, above 0 and up to 1, rounded to whole weights.
             n_bits: of an index into the codebook. gap_bits: of a position, the number of zeros before the weight.
             n_codes: 32-bit entries of the codebook.
    Raises:  ValueError if nothing is left, or a number is out of range.
    Source:  Han et al. 2016, arXiv:1510.00149, equation 1 and section 2. Taught in lesson 15.

    >>> combined_ratio(1000, 0.1, n_bits=4, gap_bits=4, n_codes=16)  # 32,000 bits to 100 * (4 + 4) + 16 * 32
    24.390243902439025
    """
    kept = round(density * n_weights)
    if not 0 < kept <= n_weights or min(n_bits, gap_bits, n_codes) < 0:
        raise ValueError("some weights must be left, and no number be negative")
    return 32 * n_weights / (kept * (n_bits + gap_bits) + 32 * n_codes)


def accuracy_front(candidates: Sequence[Candidate]) -> list[str]:
    """The names of the candidates that no other beats, the smallest file first.

    One is beaten by another that is no larger and no less accurate, and better in at least one of the two. Of equals
    the first stays.

    Args:    candidates: (name, bytes, accuracy).
    Source:  Taught in lesson 15.

    >>> accuracy_front([("a", 100, 0.90), ("b", 50, 0.89), ("c", 25, 0.70), ("d", 60, 0.80)])
    ['c', 'b', 'a']
    """
    costs, gains = [size for _, size, _ in candidates], [accuracy for *_, accuracy in candidates]
    return [candidates[i][0] for i in pareto_front(costs, gains)]


def choose_candidate(candidates: Sequence[Candidate], budget: int) -> str:
    """The name of the most accurate candidate of at most `budget` bytes; of equally accurate ones the smallest file's.

    Args:    candidates: (name, bytes, accuracy); of equals in both the first is taken.
    Raises:  ValueError saying what the smallest takes if none is small enough.
    Source:  Taught in lesson 15.

    >>> choose_candidate([("a", 100, 0.90), ("b", 50, 0.89), ("c", 25, 0.70)], budget=60)
    'b'
    """
    fits = [each for each in candidates if each[1] <= budget]
    if not fits:
        smallest = min((each[1] for each in candidates), default=0)
        raise ValueError(f"nothing fits into {budget:,} bytes: the smallest candidate takes {smallest:,}")
    return max(fits, key=lambda each: (each[2], -each[1]))[0]
