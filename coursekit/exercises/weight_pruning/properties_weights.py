"""The public tests of lesson 05 on what weights are worth, how they stay gone, and how to count them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from coursekit.exercises.expect import expect, expect_close, expect_int, expect_tensor
from coursekit.exercises.spec import Test, TestFunction, as_test, worth

__all__ = ["PUBLIC", "adam_case", "expect_counts", "expect_steps", "pruned_state", "wave"]


def wave(*shape: int, phase: float = 0.0) -> Tensor:
    """Values of either sign, none zero, the same on every machine to rounding."""
    n = torch.Size(shape).numel()
    return torch.sin(torch.arange(1, n + 1) * 1.7 + phase).reshape(shape)


def test_score_is_weight_times_gradient(student):
    """With a single batch the score is |w| times |gradient|."""
    score = student.taylor_score(torch.tensor([2.0, -3.0, 0.5]), torch.tensor([[0.1, 0.2, -4.0]]))
    expect_close(expect_tensor(score, torch.float32, (3,)), [0.2, 0.6, 2.0], "score")


def test_gradients_of_either_sign_do_not_cancel(student):
    """Two batches that pull in opposite directions both count."""
    score = student.taylor_score(torch.tensor([1.0, 1.0]), torch.tensor([[2.0, 1.0], [-2.0, 3.0]]))
    expect_close(
        expect_tensor(score, torch.float32, (2,)), [2.0, 2.0], "score of gradients 2 and -2, 1 and 3"
    )


def test_the_number_of_batches_does_not_matter(student):
    """Every batch twice gives the same scores, in the shape of the weight."""
    weight, gradients = wave(2, 3), wave(4, 2, 3, phase=1)
    once = expect_tensor(student.taylor_score(weight, gradients), torch.float32, (2, 3))
    twice = student.taylor_score(weight, torch.cat([gradients, gradients]))
    expected = sum(abs(weight * g) for g in gradients) / 4
    expect_close(once, expected, "score of 4 batches", rtol=1e-4)
    expect_close(twice, expected, "score of the same batches twice", rtol=1e-4)


def adam_case(steps: int = 3, step: int = 5, phase: float = 0.0) -> tuple[Any, ...]:
    """Arguments of masked_adam: half of 6 weights are masked, and the moments are full."""
    weight, mask = wave(2, 3, phase=phase), torch.tensor([[True, False, True], [False, False, True]])
    gradients = wave(steps, 2, 3, phase=2 + phase) * 0.5
    return weight, mask, gradients, wave(2, 3, phase=4) * 0.2, wave(2, 3, phase=5).square() * 0.1, step, 0.01


def torch_steps(case: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """Weight and moments after torch's own Adam took the steps, from the same moments, without any mask."""
    weight, _, gradients, exp_avg, exp_avg_sq, step, lr = case
    parameter = nn.Parameter(weight.clone())
    adam = torch.optim.Adam([parameter], lr=lr)
    adam.state[parameter] = {
        "step": torch.tensor(float(step)),
        "exp_avg": exp_avg.clone(),
        "exp_avg_sq": exp_avg_sq.clone(),
    }
    for gradient in gradients:
        parameter.grad = gradient.clone()
        adam.step()
    state = adam.state[parameter]
    return parameter.detach(), state["exp_avg"], state["exp_avg_sq"]


NAMES = ("the weight", "exp_avg", "exp_avg_sq")


def expect_steps(
    result: Any, case: tuple[Any, ...], parts: tuple[str, ...] = NAMES, kept: bool | None = None
) -> None:
    """The parts of the result are as torch's Adam has them where the mask is True, and 0 elsewhere."""
    right = isinstance(result, tuple | list) and len(result) == 3
    expect(right, "the result is not (weight, exp_avg, exp_avg_sq)", result, "three tensors")
    mask = case[1]
    for name, got, theirs in zip(NAMES, result, torch_steps(case), strict=True):
        if name not in parts:
            continue
        got = expect_tensor(got, torch.float32, mask.shape)
        if kept is not False:
            expect_close(got[mask], theirs[mask], f"{name} where the mask is True", rtol=1e-4, atol=1e-6)
        if kept is not True:
            expect_close(got[~mask], torch.zeros(int((~mask).sum())), f"{name} where the mask is False")


@worth(2)
def test_masked_weights_are_and_stay_zero(student):
    """After one step and after twenty every masked weight is exactly 0."""
    for steps in (1, 20):
        expect_steps(student.masked_adam(*adam_case(steps)), adam_case(steps), ("the weight",), kept=False)


@worth(2)
def test_the_others_learn_as_ever(student):
    """Where the mask is True the weight moves exactly as under torch's Adam."""
    for steps, step in ((1, 0), (3, 5), (12, 100)):
        case = adam_case(steps, step)
        expect_steps(student.masked_adam(*case), case, ("the weight",), kept=True)


@worth(2)
def test_moments_forget_what_is_gone(student):
    """Both moments are 0 where the mask is False, and torch's elsewhere: nothing is left that could move a weight."""
    expect_steps(student.masked_adam(*adam_case()), adam_case(), NAMES[1:])


def pruned_state() -> dict[str, Tensor]:
    """A state with a weight under torch's mask, a plain one with zeros, and biases."""
    return {
        "fc1.weight_orig": torch.tensor([[0.5, -2.0, 0.0], [3.0, 1e-5, -1.0]]),
        "fc1.weight_mask": torch.tensor([[0.0, 1.0, 1.0], [1.0, 1.0, 0.0]]),
        "fc1.bias": torch.tensor([0.1, 0.0]),
        "fc2.weight": torch.tensor([[0.0, 4.0], [0.0, 0.0], [-1.0, 0.2]]),
        "fc2.bias": torch.tensor([0.0, 0.3, -0.2]),
    }


def expect_counts(result: Any, nonzero: int, total: int) -> None:
    """The result is (nonzero, total) in Python ints."""
    right = isinstance(result, tuple | list) and len(result) == 2
    expect(right, "the result is not (nonzero, total)", result, "two numbers")
    got = expect_int(result[0], "nonzero"), expect_int(result[1], "total")
    expect(got[1] == total, "the total", got[1], total)
    expect(got[0] == nonzero, "the number that is not zero", got[0], nonzero)


def test_plain_weights_are_counted_as_they_are(student):
    """Without masks: all entries, biases too, and exactly 0.0 is the only zero."""
    expect_counts(student.nonzero_of_state({"w": torch.tensor([0.0, 1e-9, -2.0]), "b": torch.zeros(2)}), 2, 5)
    expect_counts(student.nonzero_of_state({"conv.weight": wave(4, 2, 3, 3), "conv.bias": wave(4)}), 76, 76)


@worth(2)
def test_what_a_mask_hides_is_zero(student):
    """x_orig and x_mask are one weight, their product: of 3 weights, two under the mask, one is left."""
    state = {"x_orig": torch.tensor([3.0, 4.0, 5.0]), "x_mask": torch.tensor([0.0, 1.0, 0.0])}
    expect_counts(student.nonzero_of_state(state), 1, 3)


def test_a_kept_weight_may_be_zero_itself(student):
    """A weight of exactly 0 is a zero even where the mask keeps it; with plain layers beside it."""
    expect_counts(student.nonzero_of_state(pruned_state()), 3 + 1 + 3 + 2, 17)


def _tests(*functions: TestFunction) -> tuple[Test, ...]:
    return tuple(as_test(function, public=True) for function in functions)


PUBLIC = {
    "taylor_score": _tests(
        test_score_is_weight_times_gradient,
        test_gradients_of_either_sign_do_not_cancel,
        test_the_number_of_batches_does_not_matter,
    ),
    "masked_adam": _tests(
        test_masked_weights_are_and_stay_zero,
        test_the_others_learn_as_ever,
        test_moments_forget_what_is_gone,
    ),
    "nonzero_of_state": _tests(
        test_plain_weights_are_counted_as_they_are,
        test_what_a_mask_hides_is_zero,
        test_a_kept_weight_may_be_zero_itself,
    ),
}
