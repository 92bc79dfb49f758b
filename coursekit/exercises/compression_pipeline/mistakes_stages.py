"""Known mistakes in running a pipeline and in its books.

Each `wrong` makes one mistake and no other; a check recognises it by equal results on every probe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from coursekit.exercises.compression_pipeline.properties import pipeline_case
from coursekit.exercises.spec import Mistake

__all__ = [
    "BYTES_BY_PART",
    "COMBINED_RATIO",
    "RUN_PIPELINE",
    "bytes_probes",
    "pipeline_probes",
    "ratio_probes",
]

Args = tuple[Any, ...]
Parts = list[tuple[str, str, int]]


def pipeline_probes() -> list[Args]:
    """Steps that return new tensors, steps that write into their argument, and a change of shape."""
    other = {"v": torch.tensor([[0.5, 2.5], [-3.0, 0.75], [6.0, 1.0]]), "w": torch.tensor([9.0, -0.25])}
    return [
        pipeline_case("prune", "cut", "round"),
        pipeline_case("round", "halve", "prune"),
        pipeline_case("cut", "prune", weights=other),
        pipeline_case("halve", weights=other),
    ]


def _copied(weights: Any) -> Any:
    return {name: weight.clone() for name, weight in weights.items()}


def _numbers(weights: Any) -> int:
    return sum(weight.numel() for weight in weights.values())


def _run(
    *, copy: bool = True, ratio: str = "original", error: str = "original", restart: bool = False, first: bool = True,
    early: bool = False, last: bool = False,
) -> Callable[..., Any]:  # fmt: skip
    """A pipeline with one thing wrong."""

    def wrong(weights: Any, steps: Any, size_of: Any, distance: Any) -> Any:
        def row(stage: str, before: Any, now: Any) -> dict[str, Any]:
            start, size = size_of(weights), size_of(now)
            ratios = {
                "original": start / size, "before": size_of(before) / size, "inverted": size / start,
                "saved": 1 - size / start, "parameters": _numbers(weights) / _numbers(now),
            }  # fmt: skip
            errors = {"original": (weights, now), "itself": (now, now), "before": (before, now)}
            return {
                "stage": stage,
                "size_bytes": size,
                "ratio": ratios[ratio],
                "error": distance(*errors[error]),
            }

        current, rows = weights, [row("original", weights, weights)] if first else []
        for name, step in steps.items():
            given = weights if restart else current
            made = step(_copied(given) if copy else dict(given))
            rows.append(row(name, current, current if early else made))
            current = made
        return current, rows[-1:] if last else rows

    return wrong


RUN_PIPELINE = (
    Mistake("compares_with_itself", "Your error is always 0: you compare the network with itself. The original is what "
            "went into the pipeline, and must be kept aside.", _run(error="itself")),
    Mistake("works_on_the_original", "A step that writes into its argument writes into your original, for you hand "
            "it the "
            "same tensors (dict(weights) copies the dict, not what is in it). Give each step clones.",
            _run(copy=False)),
    Mistake("restarts", "Every step starts from the original again. Each takes what the one before it left.",
            _run(restart=True)),
    Mistake("ratio_to_the_stage_before", "Your ratio compares with the stage before. The question is how much "
            "smaller than "
            "the original it is by now.", _run(ratio="before")),
    Mistake("error_to_the_stage_before", "Your error compares with the stage before. Small steps add up: compare "
            "with the "
            "original.", _run(error="before")),
    Mistake("upside_down", "Your ratio is upside down: bytes of the original over bytes now, so above 1 if it shrank.",
            _run(ratio="inverted")),
    Mistake("share_saved", "Your ratio is the share of bytes saved. Asked for is original over now: 4.0 for a quarter.",
            _run(ratio="saved")),
    Mistake("ratio_of_parameters", "You compare numbers of parameters. A pruned network has as many as before, zeros "
            "too: "
            "only the bytes tell. Use size_of.", _run(ratio="parameters")),
    Mistake("no_original", "The row of the original is missing: all others are read against it.", _run(first=False)),
    Mistake("measured_too_early", "Each row shows what was there before its step ran. Run the step first, then "
            "measure.",
            _run(early=True)),
    Mistake("only_the_last_row", "Only the last row is there. One is needed for every stage.", _run(last=True)),
    Mistake("rows_alone", "Return both: (weights, rows).", lambda *args: _run()(*args)[1]),
)  # fmt: skip


def bytes_probes() -> list[Args]:
    """Several tensors with the same parts, a file without a header, and one that is too small."""
    parts = [
        ("a", "indices", 70),
        ("a", "codebook", 16),
        ("b", "indices", 20),
        ("b", "positions", 9),
        ("c", "values", 4),
    ]
    return [(parts, 200), (parts, 119), (parts, 118), (parts[:3], 1000), (parts[:1], 70)]


def _sums(parts: Parts) -> dict[str, int]:
    sums: dict[str, int] = {}
    for _, part, size in parts:
        sums[part] = sums.get(part, 0) + size
    return sums


def _account(
    sums: Callable[[Parts], dict[str, int]] = _sums, *, refuses: Callable[[int], bool] = lambda rest: rest < 0,
    header: Callable[[int, int], int | None] = lambda rest, size: rest,
) -> Callable[[Parts, int], Any]:  # fmt: skip
    def wrong(parts: Parts, file_size: int) -> dict[str, int]:
        rest = file_size - sum(size for *_, size in parts)
        if refuses(rest):
            raise ValueError("the parts have more bytes than the file")
        made, left = sums(parts), header(rest, file_size)
        return made if left is None else {**made, "header": left}

    return wrong


def _by_tensor(parts: Parts) -> dict[str, int]:
    return _sums([(part, tensor, size) for tensor, part, size in parts])


BYTES_BY_PART = (
    Mistake("overwrites", "Only the last tensor's part of each kind is left: an assignment replaces what was there. "
            "Add.",
            _account(lambda parts: {part: size for _, part, size in parts})),
    Mistake("no_header", "The values do not add up to the file: the header is missing. A size that leaves it out is "
            "the "
            "kind of figure this course does not believe.", _account(header=lambda rest, size: None)),
    Mistake("by_tensor", "You add up by tensor. Asked for is the kind of part, over all tensors.",
            _account(_by_tensor)),
    Mistake("counts", "You count the parts. Their bytes are the third entry.",
            _account(lambda parts: _sums([(a, b, 1) for a, b, _ in parts]))),
    Mistake("header_is_the_file", "Your header is the whole file. It is what the parts leave of it.",
            _account(header=lambda rest, size: size)),
    Mistake("negative_header", "More bytes than the file has give a negative header. Such parts cannot be: raise "
            "ValueError.", _account(refuses=lambda rest: False)),
    Mistake("clamped_header", "You cut a negative header off at 0, and the values no longer add up. Raise ValueError.",
            _account(refuses=lambda rest: False, header=lambda rest, size: max(0, rest))),
    Mistake("refuses_an_exact_fit", "Parts that fill the whole file are fine: the header is 0 then.",
            _account(refuses=lambda rest: rest <= 0)),
    Mistake("header_only_if_any", "A header of 0 bytes is missing. It should be there, so that one can rely on it.",
            _account(header=lambda rest, size: rest or None)),
    Mistake("shares", "These are shares of the file. Asked for are bytes.",
            lambda parts, size: {part: n / size for part, n in _account()(parts, size).items()}),
    Mistake("bits", "These are bits. Asked for are bytes.",
            lambda parts, size: {part: 8 * n for part, n in _account()(parts, size).items()}),
)  # fmt: skip


def ratio_probes() -> list[Args]:
    """Sparse and dense, with and without positions, few and many weights; indices of fewer bits than codes would "
    "need."""
    return [(1000, 0.1, 4, 4, 16), (266_200, 0.08, 5, 5, 40), (10_000, 1.0, 8, 0, 200), (300, 0.3, 6, 3, 50),
            (10, 0.26, 4, 4, 2), (10, 0.24, 4, 4, 2)]  # fmt: skip


def _ratio(count: Callable[[int, int, int, int, int], float]) -> Callable[..., float]:
    """32 bits each, over the bits that `count(n, kept, n_bits, gap_bits, n_codes)` comes to."""

    def wrong(n: int, density: float, n_bits: int, gap_bits: int, n_codes: int) -> float:
        return 32 * n / count(n, round(density * n), n_bits, gap_bits, n_codes)

    return wrong


_RIGHT = _ratio(lambda n, kept, b, g, k: kept * (b + g) + 32 * k)

COMBINED_RATIO = (
    Mistake("multiplies", "You multiply what pruning and sharing would save alone. What is left needs its positions "
            "stored, and the codebook too.", _ratio(lambda n, kept, b, g, k: kept * b if kept < n else n * b)),
    Mistake("no_positions", "The positions are missing: without them nobody knows where the weights belong.",
            _ratio(lambda n, kept, b, g, k: kept * b + 32 * k)),
    Mistake("no_codebook", "The codebook is missing. Without it an index means nothing.",
            _ratio(lambda n, kept, b, g, k: kept * (b + g))),
    Mistake("short_codebook", "You count n_bits for an entry of the codebook. Its entries are 32-bit numbers.",
            _ratio(lambda n, kept, b, g, k: kept * (b + g) + b * k)),
    Mistake("positions_for_all", "You count a position for every weight. Only what is left has one.",
            _ratio(lambda n, kept, b, g, k: kept * b + n * g + 32 * k)),
    Mistake("indices_for_all", "You count an index for every weight. Only what is left has one.",
            _ratio(lambda n, kept, b, g, k: n * b + kept * g + 32 * k)),
    Mistake("sparsity_for_density", "You take density for the share that is gone. It is the share that is left.",
            _ratio(lambda n, kept, b, g, k: (n - kept) * (b + g) + 32 * k)),
    Mistake("codebook_of_all_indices", "You count as many entries as n_bits could tell apart. There are n_codes of "
            "them.",
            _ratio(lambda n, kept, b, g, k: kept * (b + g) + 32 * 2**b)),
    Mistake("upside_down", "Your ratio is upside down: 32 bits each over what is needed now.",
            lambda *args: 1 / _RIGHT(*args)),
    Mistake("share_saved", "This is the share saved. Asked for is how many times smaller: 4.0 for a quarter.",
            lambda *args: 1 - 1 / _RIGHT(*args)),
    Mistake("bits_and_bytes", "You mix bits and bytes: 4 bytes a weight above, bits below. That is a factor of 8.",
            lambda *args: _RIGHT(*args) / 8),
    Mistake("adds", "You add up the two ratios. What they save works on the same weights, one after the other.",
            lambda n, density, b, g, k: 1 / density + 32 / b),
    Mistake("not_rounded", "You count a part of a weight: density * n_weights is no whole number here. Round it.",
            lambda n, density, b, g, k: 32 * n / (density * n * (b + g) + 32 * k)),
    Mistake("rounded_down", "You round the weights that are left down. round goes to the nearest.",
            lambda n, density, b, g, k: 32 * n / (int(density * n) * (b + g) + 32 * k)),
)  # fmt: skip
