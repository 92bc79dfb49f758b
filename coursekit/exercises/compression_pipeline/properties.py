"""The public tests of lesson 15, and what the hidden ones share with them."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.expect import expect, expect_close, expect_float, expect_tensor
from coursekit.exercises.spec import Fixture, Test, as_test, worth
from coursekit.exercises.student import StudentError

__all__ = [
    "PUBLIC",
    "box",
    "counted_ratio",
    "expect_bytes",
    "expect_names",
    "expect_parts",
    "expect_refused",
    "expect_stages",
    "front_by_definition",
    "pipeline_case",
    "random_candidates",
    "tensor_of",
]

Args = tuple[Any, ...]
Candidate = tuple[str, int, float]


def expect_refused(call: Callable[[], Any], what: str) -> None:
    """Raises MismatchError unless the call raises ValueError."""
    try:
        result = call()
    except StudentError as error:
        kind, own = type(error.error), isinstance(error.error, ValueError)
        name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
        expect(own, f"{what}: raise ValueError instead of what went wrong by itself", name, "ValueError")
        return
    expect(False, f"{what} must raise ValueError", result, "ValueError")


def pipeline_case(*names: str, weights: dict[str, Tensor] | None = None) -> Args:
    """The arguments of run_pipeline with these steps."""
    start = weights or {"a": torch.tensor([3.0, -0.5, 2.0]), "b": torch.tensor([0.25, 4.0, -1.0, 8.0])}
    return (
        start,
        Fixture("pipeline_steps.steps", names),
        Fixture("pipeline_steps.size_of"),
        Fixture("pipeline_steps.distance"),
    )


def expect_stages(result: Any, expected: list[tuple[str, int, float, float]]) -> dict[str, Tensor]:
    """The weights of a result of run_pipeline whose rows are (stage, bytes, ratio, error)."""
    expect(
        isinstance(result, tuple) and len(result) == 2,
        "return (weights, rows)",
        type(result).__name__,
        "a tuple",
    )
    weights, rows = result
    expect(isinstance(rows, list), "rows is not a list", type(rows).__name__, "a list")
    expect(all(isinstance(row, dict) for row in rows), "a row is no dict", rows, "dicts")
    names = [row.get("stage") for row in rows]
    wanted = [stage for stage, *_ in expected]
    expect(names == wanted, "the stages are wrong", ", ".join(map(str, names)), ", ".join(wanted))
    for row, (stage, size, ratio, error) in zip(rows, expected, strict=True):
        expect(row.get("size_bytes") == size, f"size_bytes of {stage} is wrong", row.get("size_bytes"), size)
        expect_close(expect_float(row.get("ratio"), "ratio"), ratio, f"ratio of {stage}", rtol=1e-6)
        expect_close(
            expect_float(row.get("error"), "error"), error, f"error of {stage}", rtol=1e-6, atol=1e-9
        )
    return weights


@worth(2)
def test_a_row_for_the_original_and_for_each_step(student):
    """There is a row for the original and one for each step, with the bytes that this step left."""
    result = student.run_pipeline(*pipeline_case("prune", "cut"))
    expect_stages(
        result, [("original", 44, 1.0, 0.0), ("prune", 36, 44 / 36, 0.75), ("cut", 32, 44 / 32, 2.75)]
    )


@worth(2)
def test_ratio_and_error_are_against_the_original(student):
    """Ratio and error of every stage compare it with the original, not with the stage before, nor with itself."""
    weights = expect_stages(
        student.run_pipeline(*pipeline_case("cut", "prune", "round")),
        [
            ("original", 44, 1.0, 0.0),
            ("cut", 40, 1.1, 2.0),
            ("prune", 32, 1.375, 2.75),
            ("round", 32, 1.375, 2.75),
        ],
    )
    expect(
        sorted(weights) == ["a", "b"],
        "the weights are not those of the last step",
        sorted(weights),
        ["a", "b"],
    )
    expect_close(weights["a"], [3.0, 0.0], "weights a")


@worth(2)
def test_a_step_may_write_into_its_argument(student):
    """A step that changes its argument in place changes neither the original nor what is measured of it."""
    result = student.run_pipeline(*pipeline_case("halve", "prune"))
    weights = expect_stages(
        result, [("original", 44, 1.0, 0.0), ("halve", 44, 1.0, 9.375), ("prune", 32, 1.375, 10.25)]
    )
    expect_close(weights["b"], [0.0, 2.0, 0.0, 4.0], "weights b")


def expect_bytes(result: Any, expected: dict[str, int]) -> None:
    """Raises MismatchError unless the result is this dict, in any order."""
    expect(isinstance(result, dict), "the result is not a dict", type(result).__name__, "a dict")
    for part, size in expected.items():
        expect(part in result, f"{part!r} is missing", ", ".join(map(str, result)), part)
        expect(result[part] == size, f"the bytes of {part!r} are wrong", result[part], size)
    more = [part for part in result if part not in expected]
    expect(not more, "there are parts that the file does not have", more, sorted(expected))


@worth(2)
def test_parts_of_a_kind_are_added_up(student):
    """The bytes of a kind of part are summed over all tensors."""
    parts = [
        ("fc1", "indices", 700),
        ("fc1", "codebook", 64),
        ("fc2", "indices", 200),
        ("fc2", "codebook", 32),
    ]
    expect_bytes(student.bytes_by_part(parts, 1100), {"indices": 900, "codebook": 96, "header": 104})


@worth(1)
def test_what_is_left_is_the_header(student):
    """All values add up to the file's bytes; "header" is there even if nothing is left."""
    parts = [("fc1", "values", 40), ("fc2", "values", 60)]
    expect_bytes(student.bytes_by_part(parts, 120), {"values": 100, "header": 20})
    expect_bytes(student.bytes_by_part(parts, 100), {"values": 100, "header": 0})


@worth(1)
def test_parts_larger_than_the_file_are_refused(student):
    """Parts of more bytes than the file has raise ValueError."""
    expect_refused(lambda: student.bytes_by_part([("fc1", "values", 101)], 100), "101 bytes in a file of 100")


def counted_ratio(n: int, density: float, n_bits: int, gap_bits: int, n_codes: int) -> float:
    """The same by counting: one weight after the other, one entry of the codebook after the other."""
    before = sum(32 for _ in range(n))
    after = sum(n_bits + gap_bits for _ in range(round(density * n))) + sum(32 for _ in range(n_codes))
    return before / after


@worth(2)
def test_pruned_and_shared_weights(student):
    """What is left costs an index and a position each, and the codebook is counted."""
    for case in ((1000, 0.1, 4, 4, 16), (5000, 0.3, 5, 3, 20), (10, 0.26, 4, 4, 2)):
        ratio = expect_float(student.combined_ratio(*case), "the ratio")
        expect_close(ratio, counted_ratio(*case), f"ratio for {case}", rtol=1e-9)


@worth(2)
def test_without_pruning_only_the_codebook_is_lost(student):
    """With all weights left and no positions it is 32 over the bits of an index, less what the codebook costs."""
    ratio = expect_float(student.combined_ratio(10_000, 1.0, 8, 0, 256), "the ratio")
    expect_close(ratio, 320_000 / (80_000 + 8_192), "ratio", rtol=1e-9)
    expect_close(student.combined_ratio(10_000, 1.0, 8, 0, 0), 4.0, "ratio without a codebook", rtol=1e-9)


def expect_names(result: Any, expected: list[str]) -> None:
    """Raises MismatchError unless the result is a list of these names."""
    expect(isinstance(result, list), "the result is not a list", type(result).__name__, "a list")
    expect(result == expected, "these are not the names", str(result), str(expected))


@worth(2)
def test_beaten_candidates_are_left_out(student):
    """What another beats in bytes without losing accuracy, or in accuracy without more bytes, is left out."""
    candidates = [
        ("float32", 1000, 0.940), ("int8", 260, 0.939), ("int4", 140, 0.90), ("pruned", 300, 0.935), ("tiny", 50, 0.6),
        ("clumsy", 145, 0.8), ("worse", 270, 0.93),
    ]  # fmt: skip
    expect_names(student.accuracy_front(candidates), ["tiny", "int4", "int8", "float32"])


@worth(2)
def test_ties_go_to_what_is_better_in_the_other(student):
    """Of equal accuracy the smaller file stays, of equal bytes the more accurate, of equals in both the first."""
    candidates = [
        ("a", 90, 0.9),
        ("b", 80, 0.9),
        ("c", 80, 0.8),
        ("d", 40, 0.7),
        ("e", 40, 0.7),
        ("f", 40, 0.6),
    ]
    expect_names(student.accuracy_front(candidates), ["d", "b"])


def front_by_definition(candidates: list[Candidate]) -> list[str]:
    """All pairs compared; the names by rising bytes."""

    def beats(i: int, j: int) -> bool:
        (_, size, accuracy), (_, other_size, other_accuracy) = candidates[i], candidates[j]
        equal = (size, accuracy) == (other_size, other_accuracy)
        return size <= other_size and accuracy >= other_accuracy and (not equal or i < j)

    n = len(candidates)
    left = [j for j in range(n) if not any(beats(i, j) for i in range(n) if i != j)]
    return [candidates[j][0] for j in sorted(left, key=lambda j: candidates[j][1])]


def random_candidates(seed: int, n: int) -> list[Candidate]:
    """Candidates on a coarse grid, so that there are ties."""
    chance = random.Random(seed)
    return [(f"n{i}", chance.randrange(1, 12) * 10, chance.randrange(1, 8) / 8) for i in range(n)]


CHOICES: list[Candidate] = [
    ("float32", 1000, 0.94), ("int8", 260, 0.93), ("pruned", 240, 0.92), ("int4", 140, 0.90), ("tiny", 50, 0.60),
    ("odd", 230, 0.85),
]  # fmt: skip


@worth(2)
def test_the_most_accurate_that_fits(student):
    """The most accurate candidate within the budget is chosen; exactly the budget still fits."""
    for budget, expected in ((999, "int8"), (260, "int8"), (259, "pruned"), (235, "int4"), (50, "tiny")):
        name = student.choose_candidate(CHOICES, budget)
        expect(name == expected, f"the choice for {budget} bytes is wrong", name, expected)


@worth(1)
def test_of_equally_accurate_ones_the_smallest(student):
    """Of equally accurate candidates that fit, the smallest file is chosen."""
    name = student.choose_candidate([("a", 90, 0.9), ("b", 70, 0.9), ("c", 80, 0.9), ("d", 10, 0.5)], 100)
    expect(name == "b", "the choice is wrong", name, "b")


@worth(1)
def test_an_impossible_budget_is_refused(student):
    """If nothing fits, ValueError is raised."""
    expect_refused(lambda: student.choose_candidate(CHOICES, 49), "a budget below the smallest file")


def tensor_of(raw: bytes) -> Tensor:
    """The bytes as a uint8 tensor."""
    return torch.tensor(list(raw), dtype=torch.uint8)


def box(
    parts: dict[str, bytes], *, magic: bytes = b"BOX1", sizes: dict[str, int] | None = None, more: bytes = b""
) -> bytes:
    """A container as the lesson describes it, with a right checksum, and lies in it if asked."""
    table = struct.pack("<H", len(parts))
    for name, part in parts.items():
        text = name.encode()
        table += bytes([len(text)]) + text + struct.pack("<I", (sizes or {}).get(name, len(part)))
    body = table + b"".join(parts.values()) + more
    return magic + struct.pack("<I", zlib.crc32(body)) + body


def expect_parts(result: Any, expected: dict[str, bytes]) -> None:
    """Raises MismatchError unless the result holds these parts in this order."""
    expect(isinstance(result, dict), "the result is not a dict", type(result).__name__, "a dict")
    expect(list(result) == list(expected), "the names are wrong", str(list(result)), str(list(expected)))
    for name, part in expected.items():
        found = expect_tensor(result[name], torch.uint8, (len(part),))
        expect_close(found, tensor_of(part), f"part {name!r}")


PARTS = {
    "codebook": b"\x01\x02\x03\x04",
    "indices": bytes(range(200, 230)),
    "empty": b"",
    "ü": b"\xff\x00\x80",
}


@worth(2)
def test_parts_come_back_in_their_order(student):
    """Every part comes back under its name, in its order, as uint8; an empty part too."""
    expect_parts(student.unpack_container(tensor_of(box(PARTS))), PARTS)
    expect_parts(student.unpack_container(tensor_of(box({"x": b"\x07"}))), {"x": b"\x07"})


@worth(2)
def test_damage_is_refused(student):
    """A bit turned over, an end cut off, or another kind of file raises ValueError."""
    raw = box(PARTS)
    for at in (5, 12, 30, len(raw) - 1):
        flipped = raw[:at] + bytes([raw[at] ^ 4]) + raw[at + 1 :]
        expect_refused(partial(student.unpack_container, tensor_of(flipped)), f"byte {at} damaged")
    for n in (0, 3, 9, len(raw) - 3):
        expect_refused(partial(student.unpack_container, tensor_of(raw[:n])), f"cut off after {n} bytes")
    other = tensor_of(box(PARTS, magic=b"ZIP1"))
    expect_refused(lambda: student.unpack_container(other), "another magic")


@worth(2)
def test_sizes_that_do_not_add_up_are_refused(student):
    """With a checksum that fits: sizes of more, or of fewer, bytes than there are raise ValueError."""
    larger, smaller = {"ü": 2**31}, {"indices": 7}
    for what, raw in (
        ("a part of 2 GB", box(PARTS, sizes=larger)),
        ("a size that is too small", box(PARTS, sizes=smaller)),
        ("bytes behind the last part", box(PARTS, more=b"more")),
    ):
        expect_refused(partial(student.unpack_container, tensor_of(raw)), what)


PUBLIC: dict[str, tuple[Test, ...]] = {
    name: tuple(as_test(function, public=True) for function in functions)
    for name, functions in {
        "run_pipeline": (
            test_a_row_for_the_original_and_for_each_step,
            test_ratio_and_error_are_against_the_original,
            test_a_step_may_write_into_its_argument,
        ),
        "bytes_by_part": (
            test_parts_of_a_kind_are_added_up,
            test_what_is_left_is_the_header,
            test_parts_larger_than_the_file_are_refused,
        ),
        "combined_ratio": (test_pruned_and_shared_weights, test_without_pruning_only_the_codebook_is_lost),
        "accuracy_front": (test_beaten_candidates_are_left_out, test_ties_go_to_what_is_better_in_the_other),
        "choose_candidate": (
            test_the_most_accurate_that_fits,
            test_of_equally_accurate_ones_the_smallest,
            test_an_impossible_budget_is_refused,
        ),
        "unpack_container": (
            test_parts_come_back_in_their_order,
            test_damage_is_refused,
            test_sizes_that_do_not_add_up_are_refused,
        ),
    }.items()
}
