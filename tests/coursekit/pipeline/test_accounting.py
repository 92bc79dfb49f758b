"""The bookkeeping of pipelines and the small container: sums, fronts, choices, and damage refused."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit import zoo
from coursekit.compression import contents, save
from coursekit.pipeline import (
    accuracy_front,
    bytes_by_part,
    choose_candidate,
    combined_ratio,
    pack_container,
    prune,
    run_pipeline,
    share,
    unpack_container,
)


def test_a_step_that_writes_into_its_argument_does_not_change_the_original():
    def halve(weights):
        for tensor in weights.values():
            tensor.mul_(0.5)
        return weights

    start = {"w": torch.tensor([4.0, 2.0])}
    made, rows = run_pipeline(
        start,
        {"halve": halve, "again": halve},
        lambda w: 8,
        lambda a, b: (a["w"] - b["w"]).abs().sum().item(),
    )
    assert torch.equal(start["w"], torch.tensor([4.0, 2.0])) and torch.equal(
        made["w"], torch.tensor([1.0, 0.5])
    )
    assert [row["error"] for row in rows] == [0.0, 3.0, 4.5]


def test_parts_of_a_real_file_add_up_to_it(tmp_path):
    size = save(share(16)(prune(0.8)(zoo.load("lenet300"))), tmp_path / "net")
    parts = [(part.tensor, part.part, part.size_bytes) for part in contents(tmp_path / "net") if part.tensor]
    sums = bytes_by_part(parts, size)
    assert sum(sums.values()) == size == (tmp_path / "net").stat().st_size
    assert sums["header"] == contents(tmp_path / "net")[0].size_bytes
    with pytest.raises(ValueError, match="more than the file"):
        bytes_by_part(parts, 100)


def test_the_ratio_of_a_real_layer_lies_near_the_formula(tmp_path):
    """Huffman beats the fixed lengths, by less than half; the formula with the measured bits is near the file."""
    model = share(16)(prune(0.9)(zoo.load("lenet300")))
    save(model, tmp_path / "net")
    measured = 32 * model.fc1.weight.numel() / 8 / sum(
        part.size_bytes for part in contents(tmp_path / "net") if part.tensor == "fc1.weight"
    )  # fmt: skip
    density = model.fc1.weight.count_nonzero().item() / model.fc1.weight.numel()
    formula = combined_ratio(model.fc1.weight.numel(), density, n_bits=4, gap_bits=5, n_codes=16)
    assert formula < measured < 2 * formula
    for wrong in ((9, 0.0), (9, 1.2), (0, 0.5)):
        with pytest.raises(ValueError, match="left"):
            combined_ratio(*wrong, n_bits=4, gap_bits=4, n_codes=4)


candidates = st.lists(
    st.tuples(st.integers(1, 9), st.sampled_from([0.1, 0.2, 0.3, 0.4])), min_size=1, max_size=9
)


@settings(max_examples=100, deadline=None)
@given(candidates)
def test_the_front_is_what_nothing_beats(points):
    """Against the definition, all pairs compared."""
    named = [(str(i), *point) for i, point in enumerate(points)]

    def beats(a, b):
        return a[1] <= b[1] and a[2] >= b[2] and (a[1:] != b[1:] or int(a[0]) < int(b[0]))

    expected = {b[0] for b in named if not any(beats(a, b) for a in named)}
    front = accuracy_front(named)
    assert set(front) == expected and len(front) == len(expected)
    sizes = {name: size for name, size, _ in named}
    assert all(sizes[a] < sizes[b] for a, b in itertools.pairwise(front))


@settings(max_examples=100, deadline=None)
@given(candidates, st.integers(1, 9))
def test_the_choice_is_on_the_front_of_what_fits(points, budget):
    named = [(str(i), *point) for i, point in enumerate(points)]
    fits = [each for each in named if each[1] <= budget]
    if not fits:
        with pytest.raises(ValueError, match=str(min(size for _, size, _ in named))):
            choose_candidate(named, budget)
    else:
        assert choose_candidate(named, budget) == accuracy_front(fits)[-1]


def test_containers_come_back_and_every_damage_is_refused():
    parts = {"codebook": torch.arange(40, dtype=torch.uint8), "ü": torch.empty(0, dtype=torch.uint8)}
    data = pack_container(parts)
    back = unpack_container(data)
    assert list(back) == list(parts) and all(torch.equal(back[name], part) for name, part in parts.items())
    assert unpack_container(pack_container({})) == {}
    chance = random.Random(0)
    for i in range(len(data)):
        flipped = data.clone()
        flipped[i] ^= 1 << chance.randrange(8)
        for broken in (flipped, data[:i], torch.cat([data, data[: i + 1]])):
            with pytest.raises(ValueError, match="container"):
                unpack_container(broken)


@pytest.mark.parametrize(
    "part", [torch.zeros(3), torch.zeros(2, 2, dtype=torch.uint8)], ids=["float", "matrix"]
)
def test_what_is_no_part_is_refused(part):
    with pytest.raises(ValueError, match="a part is uint8"):
        pack_container({"x": part})
    with pytest.raises(ValueError, match="255 bytes"):
        pack_container({"x" * 256: torch.zeros(1, dtype=torch.uint8)})
