"""The hidden tests of lesson 15: the properties of the public tests on other data and sizes."""

from __future__ import annotations

from functools import partial

import torch

from coursekit import fixtures
from coursekit.exercises.compression_pipeline.properties import (
    box,
    counted_ratio,
    expect_bytes,
    expect_names,
    expect_parts,
    expect_refused,
    expect_stages,
    front_by_definition,
    pipeline_case,
    random_candidates,
    tensor_of,
)
from coursekit.exercises.expect import expect, expect_close
from coursekit.exercises.spec import as_test, worth

__all__ = ["HIDDEN"]


@worth(1)
def test_stages_of_other_weights_in_another_order(student):
    """Four steps in two orders on other weights, each row as if its steps had been run from the start."""
    weights = {
        "v": torch.tensor([[0.5, 2.5], [-3.0, 0.75], [6.0, 1.0]]),
        "w": torch.tensor([9.0, -0.25, 1.5]),
    }
    size_of, distance = fixtures.make("pipeline_steps.size_of"), fixtures.make("pipeline_steps.distance")
    for names in (("halve", "cut", "prune", "round"), ("round", "prune", "halve", "cut")):
        expected = []
        for n in range(len(names) + 1):
            made = {name: weight.clone() for name, weight in weights.items()}
            for step in fixtures.make("pipeline_steps.steps", *names[:n]).values():
                made = step(made)
            stage = names[n - 1] if n else "original"
            expected.append((stage, size_of(made), size_of(weights) / size_of(made), distance(weights, made)))
        expect_stages(student.run_pipeline(*pipeline_case(*names, weights=weights)), expected)


@worth(1)
def test_no_steps_leave_the_original(student):
    """Without steps there is one row, and the weights are what they were."""
    weights = expect_stages(student.run_pipeline(*pipeline_case()), [("original", 44, 1.0, 0.0)])
    expect_close(weights["a"], [3.0, -0.5, 2.0], "weights a")


@worth(1)
def test_many_parts_add_up(student):
    """A hundred parts of five kinds add up to the file."""
    kinds = ("positions", "codebook", "indices", "scales", "values")
    parts = [(f"layer{i % 20}", kinds[i * 7 % 5], i * i % 91) for i in range(100)]
    sums = {kind: sum(size for _, part, size in parts if part == kind) for kind in kinds}
    expect_bytes(student.bytes_by_part(parts, sum(sums.values()) + 321), {**sums, "header": 321})


@worth(1)
def test_a_file_that_is_all_header(student):
    """Without parts, or with parts of no bytes, the whole file is its header."""
    expect_bytes(student.bytes_by_part([], 14), {"header": 14})
    expect_bytes(student.bytes_by_part([("x", "values", 0)], 14), {"values": 0, "header": 14})
    expect_refused(
        lambda: student.bytes_by_part([("x", "a", 9), ("y", "b", 9)], 17), "18 bytes in a file of 17"
    )


@worth(1)
def test_small_layers_may_grow(student):
    """A layer so small that its codebook outweighs it has a ratio below 1."""
    for case in ((16, 1.0, 4, 0, 16), (20, 0.5, 6, 8, 64), (7, 0.5, 2, 2, 4)):
        expect_close(student.combined_ratio(*case), counted_ratio(*case), f"ratio for {case}", rtol=1e-9)


@worth(1)
def test_deep_compressions_numbers(student):
    """LeNet-300-100 at 8 % density with 6-bit indices, 5-bit positions and 64 codes: about 36 times."""
    case = (266_200, 0.08, 6, 5, 64)
    expect_close(student.combined_ratio(*case), counted_ratio(*case), "ratio", rtol=1e-9)


@worth(2)
def test_front_of_many_candidates(student):
    """On random candidates with many ties the front is that of the definition, all pairs compared."""
    for seed in range(8):
        candidates = random_candidates(seed, 4 + 3 * seed)
        expect_names(student.accuracy_front(candidates), front_by_definition(candidates))
    expect_names(student.accuracy_front([("only", 5, 0.5)]), ["only"])


@worth(1)
def test_choices_among_many(student):
    """On random candidates the choice is the last of the front of what fits."""
    for seed in range(6):
        candidates = random_candidates(seed, 15)
        for budget in (40, 75, 110):
            fits = [each for each in candidates if each[1] <= budget]
            if fits:
                expected = front_by_definition(fits)[-1]
                name = student.choose_candidate(candidates, budget)
                expect(name == expected, f"the choice for {budget} bytes is wrong", name, expected)


@worth(1)
def test_no_candidates_are_refused(student):
    """If nothing fits, be it that there is nothing at all, ValueError is raised."""
    expect_refused(lambda: student.choose_candidate([("a", 10, 0.9)], 9), "a budget one byte too small")
    expect_refused(lambda: student.choose_candidate([], 100), "no candidates")


@worth(1)
def test_every_bit_of_a_container_counts(student):
    """Whichever bit is turned over and wherever the end is cut off, ValueError is raised."""
    raw = box({"codes": bytes(range(9)), "scale": b"\x00\x00\x80\x3f"})
    for at in range(len(raw)):
        flipped = tensor_of(raw[:at] + bytes([raw[at] ^ (1 << at % 8)]) + raw[at + 1 :])
        expect_refused(partial(student.unpack_container, flipped), f"byte {at} damaged")
        expect_refused(partial(student.unpack_container, tensor_of(raw[:at])), f"cut off after {at} bytes")


@worth(1)
def test_containers_of_other_sizes(student):
    """No parts, a name of 255 bytes, 300 parts and 70,000 bytes all come back; lies about them are refused."""
    for parts in (
        {},
        {"n" * 255: b"abc"},
        {f"p{i}": bytes([i % 256]) for i in range(300)},
        {"big": bytes(70_000)},
    ):
        expect_parts(student.unpack_container(tensor_of(box(parts))), parts)
    lie = tensor_of(box({"a": b"xy", "b": b"z"}, sizes={"a": 3}))
    expect_refused(lambda: student.unpack_container(lie), "sizes of one byte more than there are")


HIDDEN = {
    name: tuple(as_test(function, public=False) for function in functions)
    for name, functions in {
        "run_pipeline": (test_stages_of_other_weights_in_another_order, test_no_steps_leave_the_original),
        "bytes_by_part": (test_many_parts_add_up, test_a_file_that_is_all_header),
        "combined_ratio": (test_small_layers_may_grow, test_deep_compressions_numbers),
        "accuracy_front": (test_front_of_many_candidates,),
        "choose_candidate": (test_choices_among_many, test_no_candidates_are_refused),
        "unpack_container": (test_every_bit_of_a_container_counts, test_containers_of_other_sizes),
    }.items()
}
