"""The public tests of lesson 07. Each states a property and checks it by definition, not against the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.expect import expect, expect_close, expect_float, expect_int, expect_tensor
from coursekit.exercises.spec import Test, TestFunction, as_test, worth

__all__ = ["PUBLIC", "expect_masks", "expect_state", "expect_steps", "n_gone"]


def expect_steps(value: Any) -> list[int]:
    """The value, if it is a list of ints."""
    expect(isinstance(value, list | tuple | range), "the result is not a list", value, "a list of ints")
    return [expect_int(step, "a step") for step in value]


def expect_masks(value: Any, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The value, if it is a dict of bool tensors with the names and shapes of `like`."""
    expect(isinstance(value, dict), "the result is not a dict of masks", value, "a dict")
    expect(set(value) == set(like), "the names of the masks", sorted(map(str, value)), sorted(like))
    for name, tensor in like.items():
        expect_tensor(value[name], torch.bool, tensor.shape)
    return value


def expect_state(value: Any, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The value, if it is a dict of float32 tensors with the names and shapes of `like`."""
    expect(isinstance(value, dict), "the result is not a dict of tensors", value, "a dict")
    expect(set(value) == set(like), "the names of the tensors", sorted(map(str, value)), sorted(like))
    for name, tensor in like.items():
        expect_tensor(value[name], torch.float32, tensor.shape)
    return value


def n_gone(masks: Mapping[str, Tensor]) -> int:
    """How many weights the masks remove."""
    return sum(int((~mask).sum()) for mask in masks.values())


@worth(2)
def test_cubic_is_exact_at_both_ends(student):
    """At step begin the sparsity is initial, at step end it is final."""
    for initial, final, begin, end in ((0.0, 0.9, 0, 10), (0.5, 0.9, 100, 500), (0.3, 0.98, 7, 8)):
        for step, wanted in ((begin, initial), (end, final)):
            got = expect_float(student.cubic_sparsity(step, initial, final, begin, end), "the sparsity")
            expect_close(got, wanted, f"sparsity at step {step} of {begin}..{end}", atol=1e-9)


@worth(2)
def test_cubic_in_between(student):
    """Halfway an eighth of the difference to final is left; after a quarter of the way 27/64."""
    for step, left in ((300, 1 / 8), (200, 27 / 64), (400, 1 / 64)):
        got = expect_float(student.cubic_sparsity(step, 0.5, 0.9, 100, 500), "the sparsity")
        expect_close(
            got, 0.9 - 0.4 * left, f"sparsity at step {step} of 100..500, from 0.5 to 0.9", atol=1e-9
        )


def test_cubic_is_held_outside(student):
    """Before begin the result is initial, after end it is final."""
    for step, wanted in ((0, 0.2), (99, 0.2), (501, 0.8), (5000, 0.8)):
        got = expect_float(student.cubic_sparsity(step, 0.2, 0.8, 100, 500), "the sparsity")
        expect_close(got, wanted, f"sparsity at step {step} of 100..500, from 0.2 to 0.8", atol=1e-9)


def test_the_end_is_among_the_steps(student):
    """The last step is end, whether or not the interval fits, and each step is there once."""
    for begin, end, every in ((0, 100, 25), (0, 100, 30), (10, 50, 15)):
        steps = expect_steps(student.pruning_steps(begin, end, every))
        wanted = sorted({*range(begin, end, every), end})
        expect(steps == wanted, f"steps of {begin}..{end} every {every}", steps, wanted)


def test_an_interval_longer_than_the_schedule(student):
    """If the interval is longer than the whole schedule, both ends are left."""
    steps = expect_steps(student.pruning_steps(5, 20, 700))
    expect(steps == [5, 20], "steps of 5..20 every 700", steps, [5, 20])


@worth(2)
def test_what_is_missing_to_the_target(student):
    """What was pruned and what is pruned now make the target's share of all weights."""
    for n, gone, sparsity, wanted in (
        (1000, 500, 0.9, 400),
        (1000, 0, 0.25, 250),
        (777, 333, 0.711, 219),
        (12, 3, 0.49, 3),
    ):
        got = expect_int(student.weights_to_prune(n, gone, sparsity), "the number")
        expect(got == wanted, f"of {n} weights, {gone} of them gone, to {sparsity:.1%}", got, wanted)


def test_nothing_to_do(student):
    """If as many or more are gone already, the result is 0."""
    for n, gone, sparsity in ((1000, 900, 0.9), (1000, 500, 0.3), (50, 50, 1.0)):
        got = expect_int(student.weights_to_prune(n, gone, sparsity), "the number")
        expect(got == 0, f"of {n} weights, {gone} of them gone, to {sparsity:.1%}", got, 0)


def two_layers() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Scores and masks of ten weights, three of them gone: one of these has the highest score of all."""
    scores = {
        "a": torch.tensor([[0.5, 9.0], [0.45, 0.8]]),
        "b": torch.tensor([0.3, 0.7, 0.2, 0.05, 0.6, 0.4]),
    }
    masks = {
        "a": torch.tensor([[True, False], [True, True]]),
        "b": torch.tensor([True, True, False, False, True, True]),
    }
    return scores, masks


@worth(2)
def test_the_target_is_of_all_weights(student):
    """After the round, the target's share of ALL weights is gone, to one weight."""
    scores, masks = two_layers()
    for sparsity in (0.4, 0.5, 0.8):
        got = expect_masks(student.prune_further(scores, masks, sparsity), masks)
        expect(n_gone(got) == round(10 * sparsity), f"weights gone at {sparsity:.0%}, of 10 with 3 gone before",
               n_gone(got), round(10 * sparsity))  # fmt: skip


def test_nothing_comes_back(student):
    """What is pruned stays pruned, whatever its score; of the survivors the lowest go, in whichever layer."""
    scores, masks = two_layers()
    got = expect_masks(student.prune_further(scores, masks, 0.5), masks)
    wanted = [True, False, True, True, False, True, False, False, True, False]
    flat = torch.cat([got["a"].flatten(), got["b"]]).tolist()
    expect(flat == wanted, "masks at 50 %: 0.3 and 0.4 should go next", flat, wanted)


def test_equal_scores_split(student):
    """Of equal scores exactly as many go as the target asks for."""
    scores = {"a": torch.full((3, 4), 0.5), "b": torch.full((8,), 0.5)}
    masks = {name: torch.ones_like(score, dtype=torch.bool) for name, score in scores.items()}
    masks["b"][:4] = False
    got = expect_masks(student.prune_further(scores, masks, 0.45), masks)
    expect(n_gone(got) == 9, "weights gone of 20 equal ones at 45 %", n_gone(got), 9)
    expect(not (got["b"] & ~masks["b"]).any(), "a pruned weight came back", "it is True again", "False")


def test_scores_below_zero(student):
    """Scores may be negative, as those of movement pruning are, and pruned weights still stay pruned."""
    scores, masks = two_layers()
    lower = {name: score - 10.0 for name, score in scores.items()}
    got = expect_masks(student.prune_further(lower, masks, 0.5), masks)
    expect(n_gone(got) == 5, "weights gone of 10 at 50 %, all scores negative", n_gone(got), 5)
    revived = any(bool((got[name] & ~masks[name]).any()) for name in masks)
    expect(not revived, "a pruned weight came back", "True again", "False")


def by_hand(student: Any, targets: list[float]) -> tuple[Any, Any]:
    """The student's loop on four weights whose goals turn their order round."""
    start = {"w": torch.tensor([4.0, -1.0, -5.0, 2.0])}
    goal = {"w": torch.tensor([10.0, -5.0, 0.0, 8.0])}
    train, prune = (
        student.make("pruning_loop.train_towards", goal),
        student.make("pruning_loop.prune_smallest"),
    )
    result = student.prune_iteratively(start, train, prune, targets)
    pair = isinstance(result, list | tuple) and len(result) == 2
    expect(pair, "the result is not (weights, masks)", result, "a pair")
    return expect_state(result[0], start)["w"], expect_masks(result[1], start)["w"]


@worth(2)
def test_one_round_prunes_then_trains(student):
    """With one target: the smallest goes, then the others move half of their way to the goal."""
    weights, masks = by_hand(student, [0.25])
    expect_close(masks, torch.tensor([True, False, True, True]), "masks after one round")
    expect_close(weights, torch.tensor([7.0, 0.0, -2.5, 5.0]), "weights after one round", atol=1e-6)


@worth(2)
def test_the_second_round_sees_what_the_first_trained(student):
    """The second pruning looks at the weights as the first training left them, and trains on from there."""
    weights, masks = by_hand(student, [0.5, 0.75])
    expect_close(
        masks, torch.tensor([True, False, False, False]), "masks after two rounds: -5 had shrunk to -2.5"
    )
    expect_close(weights, torch.tensor([8.5, 0.0, 0.0, 0.0]), "weights after two rounds", atol=1e-6)


def small_snapshot() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state of two layers, and masks for their weights."""
    snapshot = {
        "fc1.weight": torch.tensor([[0.5, -0.25], [2.0, -3.0], [0.125, 1.0]]),
        "fc1.bias": torch.tensor([0.1, -0.2, 0.3]),
        "fc2.weight": torch.tensor([[0.7, -0.9, 0.4]]),
        "fc2.bias": torch.tensor([0.6]),
    }
    masks = {
        "fc1.weight": torch.tensor([[True, False], [False, True], [True, True]]),
        "fc2.weight": torch.tensor([[False, True, True]]),
    }
    return snapshot, masks


@worth(2)
def test_survivors_come_from_the_snapshot(student):
    """Kept weights are exactly the snapshot's, in their places."""
    snapshot, masks = small_snapshot()
    got = student.rewind(snapshot, masks)
    expect(isinstance(got, dict), "the result is not a dict of tensors", got, "a dict")
    for name, mask in masks.items():
        weight = expect_tensor(got.get(name), torch.float32, mask.shape)
        expect_close(weight[mask], snapshot[name][mask], f"survivors of {name}")


def test_pruned_weights_are_zero(student):
    """Where the mask is False, the weight is exactly 0.0."""
    snapshot, masks = small_snapshot()
    got = student.rewind(snapshot, masks)
    expect(isinstance(got, dict), "the result is not a dict of tensors", got, "a dict")
    for name, mask in masks.items():
        weight = expect_tensor(got.get(name), torch.float32, mask.shape)
        expect_close(weight[~mask], torch.zeros(int((~mask).sum())), f"pruned weights of {name}")


def test_the_rest_is_rewound_too(student):
    """What has no mask, such as biases, is there and equals the snapshot."""
    snapshot, masks = small_snapshot()
    got = expect_state(student.rewind(snapshot, masks), snapshot)
    for name in ("fc1.bias", "fc2.bias"):
        expect_close(got[name], snapshot[name], name)


def shares(value: Any, names: list[str]) -> dict[str, float]:
    """The value, if it is a dict of floats with these names."""
    expect(isinstance(value, dict), "the result is not a dict", value, "a dict")
    expect(set(value) == set(names), "the names", sorted(map(str, value)), sorted(names))
    return {name: expect_float(value[name], name) for name in names}


@worth(2)
def test_rounds_multiply_what_is_left(student):
    """After k rounds (1 - rate)^k of a layer is left, and (1 - rate/2)^k of the last."""
    for names, rounds, rate in ((["fc1.weight", "fc2.weight", "fc3.weight"], 3, 0.2), (["a", "b"], 2, 0.5)):
        got = shares(student.ticket_sparsities(names, rounds, rate), names)
        for name in names:
            each = rate / 2 if name == names[-1] else rate
            left = 1.0
            for _ in range(rounds):
                left -= each * left
            expect_close(
                got[name], 1 - left, f"sparsity of {name} after {rounds} rounds of {rate:.0%}", atol=1e-9
            )


def test_no_round_no_sparsity(student):
    """After 0 rounds every layer is dense."""
    got = shares(student.ticket_sparsities(["a", "b", "c"], 0, 0.3), ["a", "b", "c"])
    expect_close(torch.tensor([*got.values()]), torch.zeros(3), "sparsities after 0 rounds", atol=1e-9)


def _tests(*functions: TestFunction) -> tuple[Test, ...]:
    return tuple(as_test(function, public=True) for function in functions)


PUBLIC = {
    "cubic_sparsity": _tests(
        test_cubic_is_exact_at_both_ends, test_cubic_in_between, test_cubic_is_held_outside
    ),
    "pruning_steps": _tests(test_the_end_is_among_the_steps, test_an_interval_longer_than_the_schedule),
    "weights_to_prune": _tests(test_what_is_missing_to_the_target, test_nothing_to_do),
    "prune_further": _tests(
        test_the_target_is_of_all_weights,
        test_nothing_comes_back,
        test_equal_scores_split,
        test_scores_below_zero,
    ),
    "prune_iteratively": _tests(
        test_one_round_prunes_then_trains, test_the_second_round_sees_what_the_first_trained
    ),
    "rewind": _tests(
        test_survivors_come_from_the_snapshot, test_pruned_weights_are_zero, test_the_rest_is_rewound_too
    ),
    "ticket_sparsities": _tests(test_rounds_multiply_what_is_left, test_no_round_no_sparsity),
}
