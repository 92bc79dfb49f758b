"""Hidden tests of lesson 07. Each states a property and checks it by definition, not against the reference."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.expect import expect, expect_close, expect_float, expect_int
from coursekit.exercises.iterative_pruning.properties import expect_masks, expect_state, expect_steps, n_gone
from coursekit.exercises.spec import as_test, worth

__all__ = ["HIDDEN"]


@worth(2)
def test_cubic_never_falls_and_slows_down(student):
    """From begin to end the sparsity never falls, and each step adds no more than the one before."""
    values = [
        expect_float(student.cubic_sparsity(t, 0.1, 0.95, 20, 60), "the sparsity") for t in range(15, 70)
    ]
    steps = [b - a for a, b in itertools.pairwise(values)]
    expect(min(steps) >= -1e-9, "the smallest change from one step to the next", min(steps), "at least 0")
    inside = steps[5:45]
    slower = all(b <= a + 1e-9 for a, b in itertools.pairwise(inside))
    expect(
        slower,
        "changes from begin to end",
        "some are larger than the one before",
        "each at most the one before",
    )


def test_cubic_third_difference(student):
    """A cubic from 0 to s_f in n steps has third differences of 6 s_f / n³ everywhere."""
    n, final = 20, 0.8
    values = [expect_float(student.cubic_sparsity(t, 0.0, final, 0, n), "the sparsity") for t in range(n + 1)]
    third = [
        d - 3 * c + 3 * b - a for a, b, c, d in zip(values, values[1:], values[2:], values[3:], strict=False)
    ]
    expect_close(torch.tensor(third), torch.full((n - 2,), 6 * final / n**3), "third differences", atol=1e-6)


@worth(2)
def test_steps_are_never_far_apart(student):
    """For many schedules: in order, first begin, last end, never further apart than the interval, shorter only last."""
    for begin, length, every in itertools.product((0, 3, 50), (1, 6, 7, 90), (1, 2, 7, 100)):
        steps = expect_steps(student.pruning_steps(begin, begin + length, every))
        gaps = [b - a for a, b in itertools.pairwise(steps)]
        right = (
            (steps[0], steps[-1]) == (begin, begin + length)
            and all(gap == every for gap in gaps[:-1])
            and 0 < gaps[-1] <= every
        )
        expect(right, f"steps of {begin}..{begin + length} every {every}", steps, "as the statement says")


def test_counts_follow_a_whole_schedule(student):
    """Taken along a schedule from 10 to 97 %, the counts add up to the target at every step."""
    gone, n = 0, 4321
    for sparsity in (0.1, 0.333, 0.52, 0.71, 0.85, 0.9, 0.97):
        gone += expect_int(student.weights_to_prune(n, gone, sparsity), "the number")
        expect(
            abs(gone - sparsity * n) <= 0.5001,
            f"weights gone of {n} at {sparsity:.1%}",
            gone,
            round(sparsity * n),
        )


def random_scores(seed: int) -> dict[str, Tensor]:
    """Normal scores of three layers on different scales."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"conv": (4, 3, 3, 3), "fc": (10, 7), "head": (5, 10)}
    return {n: torch.randn(s, generator=generator) * 10.0**i for i, (n, s) in enumerate(shapes.items())}


@worth(3)
def test_many_rounds_reach_every_target(student):
    """Through six rounds with new scores each time: the target exactly, nothing revived, no survivor below a victim."""
    masks = {name: torch.ones_like(score, dtype=torch.bool) for name, score in random_scores(0).items()}
    total = sum(mask.numel() for mask in masks.values())
    for seed, sparsity in enumerate((0.2, 0.45, 0.6, 0.8, 0.9, 0.98)):
        scores = random_scores(seed)
        after = expect_masks(student.prune_further(scores, masks, sparsity), masks)
        expect(n_gone(after) == round(sparsity * total), f"weights gone of {total} at {sparsity:.0%}",
               n_gone(after), round(sparsity * total))  # fmt: skip
        was, now, score = (torch.cat([d[n].flatten() for n in masks]) for d in (masks, after, scores))
        expect(not (now & ~was).any(), "a pruned weight came back", "True again", "False")
        victims, left = score[was & ~now], score[now]
        expect(
            bool(victims.max() <= left.min()),
            "the highest score that went now",
            victims.max(),
            f"<= {left.min():.4g}",
        )
        masks = after


def long_loop(student: Any, targets: list[float]) -> tuple[dict[str, Tensor], dict[str, Tensor], list[float]]:
    """The student's loop on 60 weights: its result, and the distance of each survivor to its goal, by training."""
    generator = torch.Generator().manual_seed(5)
    start = {n: torch.randn(s, generator=generator) for n, s in (("a", (4, 10)), ("b", (20,)))}
    goal = {n: torch.randn(w.shape, generator=generator) for n, w in start.items()}
    train, prune = (
        student.make("pruning_loop.train_towards", goal),
        student.make("pruning_loop.prune_smallest"),
    )
    weights, masks = student.prune_iteratively(start, train, prune, targets)
    weights, masks = expect_state(weights, start), expect_masks(masks, start)
    shares = [(weights[n] - goal[n])[masks[n]] / (start[n] - goal[n])[masks[n]] for n in start]
    return weights, masks, torch.cat(shares).tolist()


def test_each_target_has_one_training(student):
    """After k targets the survivors have gone their way k times, and the last target is met in each layer."""
    for targets in ([0.5], [0.2, 0.5, 0.8], [0.1, 0.2, 0.3, 0.9]):
        weights, masks, left = long_loop(student, targets)
        for name, mask in masks.items():
            wanted = round(targets[-1] * mask.numel())
            expect(int((~mask).sum()) == wanted, f"weights gone of {name}", int((~mask).sum()), wanted)
            expect(not weights[name][~mask].any(), f"pruned weights of {name}", "not all 0", "0.0")
        expect_close(
            torch.tensor(left),
            torch.full((len(left),), 0.5 ** len(targets)),
            "share of the way left",
            rtol=1e-3,
        )


def test_no_target_no_change(student):
    """Without a target the weights come back as they were, with nothing pruned."""
    _, masks, left = long_loop(student, [])
    expect(n_gone(masks) == 0, "weights gone", n_gone(masks), 0)
    expect_close(torch.tensor(left), torch.ones(60), "share of the way left", rtol=1e-4)


def test_rewinding_a_larger_state(student):
    """For random weights of any shape the result is weight times mask, and nothing else changes."""
    snapshot = random_scores(3)
    snapshot["bias"] = torch.linspace(-1, 1, 7)
    masks = {name: snapshot[name] > 0.1 * snapshot[name].abs().max() for name in ("conv", "head")}
    got = expect_state(student.rewind(snapshot, masks), snapshot)
    for name, tensor in snapshot.items():
        wanted = tensor * masks[name].float() if name in masks else tensor
        expect_close(got[name], wanted, name)


def test_no_masks_at_all(student):
    """Without masks the whole snapshot comes back."""
    snapshot = random_scores(4)
    got = expect_state(student.rewind(snapshot, {}), snapshot)
    for name, tensor in snapshot.items():
        expect_close(got[name], tensor, name)


def test_twenty_rounds_of_lenet(student):
    """LeNet-300-100 keeps 51.3, 21.1 and 3.6 % of its weights after 3, 7 and 15 rounds, as in the paper."""
    sizes = {"fc1.weight": 235_200, "fc2.weight": 30_000, "fc3.weight": 1_000}
    for rounds, paper in ((3, 0.513), (7, 0.211), (15, 0.036)):
        got = student.ticket_sparsities([*sizes], rounds, 0.2)
        expect(isinstance(got, dict) and set(got) == set(sizes), "the names", got, [*sizes])
        kept = sum(n * (1 - expect_float(got[name], name)) for name, n in sizes.items()) / 266_200
        expect(abs(kept - paper) < 0.001, f"share kept after {rounds} rounds", kept, paper)


def _tests(*functions):
    return tuple(as_test(function, public=False) for function in functions)


HIDDEN = {
    "cubic_sparsity": _tests(test_cubic_never_falls_and_slows_down, test_cubic_third_difference),
    "pruning_steps": _tests(test_steps_are_never_far_apart),
    "weights_to_prune": _tests(test_counts_follow_a_whole_schedule),
    "prune_further": _tests(test_many_rounds_reach_every_target),
    "prune_iteratively": _tests(test_each_target_has_one_training, test_no_target_no_change),
    "rewind": _tests(test_rewinding_a_larger_state, test_no_masks_at_all),
    "ticket_sparsities": _tests(test_twenty_rounds_of_lenet),
}
