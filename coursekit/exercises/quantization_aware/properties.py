"""The public tests of lesson 03: each states a property of a right solution."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from coursekit.exercises.expect import expect, expect_close, expect_float, expect_tensor
from coursekit.exercises.inputs import normal
from coursekit.exercises.spec import Test, TestFunction, as_test, worth

__all__ = ["PUBLIC", "by_differences", "normal", "on_grid", "uneven_pair"]


def on_grid(weight: Tensor, scale: float, n_bits: int) -> Tensor:
    """The nearest point of the symmetric grid, found by trying all of them; float64."""
    qmax = 2 ** (n_bits - 1) - 1
    points = torch.arange(-qmax, qmax + 1).double() * scale
    return points[(weight.double()[..., None] - points).abs().argmin(-1)]


def by_differences(weight: Tensor, x: Tensor, targets: Tensor) -> Tensor:
    """The gradient of the mean squared error of a linear layer, by central differences in float64."""
    gradient = torch.zeros_like(weight, dtype=torch.float64)
    for index in range(weight.numel()):
        losses = []
        for sign in (1, -1):
            moved = weight.double().clone()
            moved.view(-1)[index] += sign * 1e-4
            losses.append((x.double() @ moved.T - targets.double()).square().mean())
        gradient.view(-1)[index] = (losses[0] - losses[1]) / 2e-4
    return gradient


def test_values_lie_on_the_grid(student):
    """Inside the range every value comes back as the nearest multiple of the scale."""
    x = torch.tensor([-1.0, -0.63, -0.26, 0.0, 0.01, 0.3, 0.9])
    back = expect_tensor(student.fake_quantize_affine(x, 0.25, 3), torch.float32, x.shape)
    expect_close(back, [-1.0, -0.75, -0.25, 0.0, 0.0, 0.25, 1.0], "value at scale 0.25", atol=1e-6)


def test_the_ends_of_an_affine_grid(student):
    """At 4 bits, scale 0.5 and zero point -8 (a ReLU's output) the grid runs from 0 to 7.5."""
    x = torch.tensor([-3.0, -0.2, 0.6, 7.4, 7.6, 100.0])
    back = expect_tensor(student.fake_quantize_affine(x, 0.5, -8, 4), torch.float32, x.shape)
    expect_close(back, [0.0, 0.0, 0.5, 7.5, 7.5, 7.5], "value on the grid 0..7.5", atol=1e-6)


def test_zero_stays_zero(student):
    """0.0 comes back as exactly 0.0 at every zero point, and both ends are zero point and scale away."""
    for zero_point in (-128, -20, 0, 127):
        back = student.fake_quantize_affine(torch.tensor([0.0, -1e6, 1e6]), 0.1, zero_point)
        back = expect_tensor(back, torch.float32, (3,))
        expected = [0.0, 0.1 * (-128 - zero_point), 0.1 * (127 - zero_point)]
        expect_close(back, expected, f"0 and both ends at zero point {zero_point}", atol=1e-4)
        expect(back[0].item() == 0.0, f"0.0 at zero point {zero_point}", back[0].item(), 0.0)


@worth(2)
def test_gradient_passes_inside(student):
    """Where x lies inside the range the gradient comes through unchanged, whatever the scale."""
    x, grad = torch.linspace(-1.9, 1.6, 8), normal(8)
    for scale in (0.25, 0.5):
        got = expect_tensor(student.ste_gradient(grad, x, scale, 0, 4), torch.float32, x.shape)
        inside = (x / scale).round().clamp(-8, 7) == (x / scale).round()
        expect_close(got[inside], grad[inside], f"gradient inside at scale {scale}")
        expect(bool(inside.any()), "some values lie inside")


def test_gradient_stops_outside(student):
    """Where x is clamped, more than a step beyond either end, the gradient is 0."""
    x = torch.tensor([-99.0, -5.1, -3.9, 0.0, 3.4, 5.2, 99.0])  # the 4-bit grid of scale 0.5: -4..3.5
    got = expect_tensor(student.ste_gradient(torch.full((7,), 2.0), x, 0.5, 0, 4), torch.float32, x.shape)
    expect_close(got, [0.0, 0.0, 2.0, 2.0, 2.0, 0.0, 0.0], "gradient inside and beyond -4..3.5")


def test_zero_point_moves_the_range(student):
    """At zero point -8 the 4-bit grid is 0..7.5: gradients of negative values stop, of those up to 7.5 pass."""
    x = torch.tensor([-4.0, -1.1, 0.2, 3.0, 7.4, 9.0])
    got = expect_tensor(student.ste_gradient(torch.ones(6), x, 0.5, -8, 4), torch.float32, x.shape)
    expect_close(got, [0.0, 0.0, 1.0, 1.0, 1.0, 0.0], "gradient inside and beyond 0..7.5")


@worth(2)
def test_step_descends_the_quantized_loss(student):
    """The step is minus lr times the gradient of the loss at the quantized weight, taken from the latent weight."""
    weight, x, targets = normal(3, 4) * 0.2, normal(6, 4, seed=1), normal(6, 3, seed=2)
    got = expect_tensor(student.qat_step(weight, x, targets, 0.1, 0.5, 4), torch.float32, weight.shape)
    expected = weight - 0.5 * by_differences(on_grid(weight, 0.1, 4), x, targets)
    expect_close(got, expected, "new weight (all weights inside the grid)", rtol=1e-3, atol=1e-4)


@worth(2)
def test_small_steps_are_not_lost(student):
    """Twenty small steps move a weight to another code that one step does not reach."""
    weight, x, targets = torch.tensor([[0.98]]), torch.ones(4, 1), torch.full((4, 1), 0.5)
    once = expect_tensor(student.qat_step(weight, x, targets, 0.5, 0.02, 4), torch.float32, (1, 1))
    expect_close(once, [[0.96]], "after one step", rtol=1e-4)
    for _ in range(20):
        weight = expect_tensor(student.qat_step(weight, x, targets, 0.5, 0.02, 4), torch.float32, (1, 1))
    expect(0.6 < weight.item() < 0.75, "after twenty steps", weight.item(), "below 0.75, the end of code 2")


def test_clamped_weights_rest(student):
    """Weights beyond the end of the grid stay where they are; the others move."""
    weight = torch.tensor([[5.0, 0.3], [-4.0, -0.2]])
    x, targets = normal(8, 2), normal(8, 2, seed=1)
    got = expect_tensor(student.qat_step(weight, x, targets, 0.25, 0.5, 4), torch.float32, (2, 2))
    expect_close(got[:, 0], [5.0, -4.0], "weights beyond 1.75")
    expect(bool((got[:, 1] != weight[:, 1]).all()), "weights inside have moved", got[:, 1], "other values")


def test_learned_step_by_hand(student):
    """3 bits, step 1: x = 0.3 has slope -0.3, 1.8 has 0.2, 5 has 3, -9 has -3; divided by sqrt(4 * 3)."""
    x = torch.tensor([0.3, 1.8, 5.0, -9.0])
    for name, grad in (("1, 2, 0.5, 1", [1.0, 2.0, 0.5, 1.0]), ("0, 0, 1, 0", [0.0, 0.0, 1.0, 0.0])):
        slopes = (-0.3, 0.2, 3.0, -3.0)
        expected = sum(g * s for g, s in zip(grad, slopes, strict=True)) / math.sqrt(12)
        got = expect_float(student.lsq_step_gradient(torch.tensor(grad), x, 1.0, 3), "the gradient")
        expect_close(got, expected, f"gradient for grad = {name}", rtol=1e-4, atol=1e-6)


def test_learned_step_leaves_perfect_values_alone(student):
    """Where every x lies on the grid, rounding moves nothing: the gradient is 0."""
    x = torch.tensor([-1.0, 0.0, 0.5, 1.5])
    got = expect_float(
        student.lsq_step_gradient(torch.tensor([1.0, 2.0, 3.0, 4.0]), x, 0.5, 4), "the gradient"
    )
    expect_close(got, 0.0, "gradient on the grid", atol=1e-6)


def test_learned_step_wants_to_grow_where_much_is_clamped(student):
    """For the error of the quantizer itself the gradient is negative at far too small a step: it shall grow."""
    x = normal(500)
    for n_bits in (2, 4):
        qmax = 2 ** (n_bits - 1) - 1
        scale = 0.1 / qmax
        grad = 2 * (x.div(scale).round().clamp(-qmax, qmax) * scale - x)
        got = expect_float(student.lsq_step_gradient(grad, x, scale, n_bits), "the gradient")
        # Nearly every value is clamped, so nearly every term is -2 (|x| - 0.1) * qmax.
        lowest = -2 * ((x.abs() - 0.1).clamp(min=0) * qmax).sum().item() / math.sqrt(500 * qmax)
        expect(1.05 * lowest < got < 0.95 * lowest, f"gradient at {n_bits} bits", got, f"about {lowest:.2f}")


def uneven_pair(seed: int = 0) -> tuple[Tensor, Tensor]:
    """A layer whose channels are a factor of 1,000 apart and the convolution after it."""
    first = normal(4, 5, seed=seed) * torch.tensor([0.02, 1.0, 3.0, 20.0])[:, None]
    return first, normal(6, 4, 3, 3, seed=seed + 1)


@worth(2)
def test_both_ranges_become_equal(student):
    """After dividing the first layer by s and multiplying the second with it, each channel has one range in both."""
    first, second = uneven_pair()
    s = expect_tensor(student.equalization_scale(first, second), torch.float32, (4,))
    for i in range(4):
        r1, r2 = (first[i] / s[i]).abs().max().item(), (second[:, i] * s[i]).abs().max().item()
        expect_close(r1, r2, f"range of channel {i} in the first layer against the second", rtol=1e-4)


def test_two_channels_by_hand(student):
    """Ranges 8 and 2 give 2, ranges 0.5 and 2 give 0.5; the largest magnitude counts, of either sign."""
    first, second = (
        torch.tensor([[-8.0, 1.0], [0.5, 0.1]]),
        torch.tensor([[1.0, -2.0], [-2.0, 1.0], [0.3, 0.1]]),
    )
    s = expect_tensor(student.equalization_scale(first, second), torch.float32, (2,))
    expect_close(s, [2.0, 0.5], "s", rtol=1e-5)


def test_dead_channel_is_left_alone(student):
    """A channel of zeros, in either layer, gets 1."""
    first, second = torch.tensor([[0.0], [2.0], [2.0]]), torch.tensor([[1.0, 0.0, 0.5]])
    s = expect_tensor(student.equalization_scale(first, second), torch.float32, (3,))
    expect_close(s, [1.0, 1.0, 2.0], "s with two dead channels")


def test_mean_output_comes_back(student):
    """With the new bias the quantized layer has, on average over its inputs, the outputs of the layer before."""
    weight, x, bias = normal(3, 5), normal(200, 5, seed=1) + 0.7, normal(3, seed=2)
    quantized = weight + 0.2 * normal(3, 5, seed=3)
    got = expect_tensor(student.bias_correction(weight, quantized, bias, x.mean(0)), torch.float32, (3,))
    expect_close(
        (x @ quantized.T + got).mean(0), (x @ weight.T + bias).mean(0), "mean output", rtol=1e-3, atol=1e-4
    )


def test_one_weight_by_hand(student):
    """A weight rounded from 0.4 to 0.5 on inputs of mean 2 shifts the output by 0.2: the bias 1 becomes 0.8."""
    one = torch.ones(1)
    got = student.bias_correction(torch.tensor([[0.4]]), torch.tensor([[0.5]]), one, 2 * one)
    expect_close(expect_tensor(got, torch.float32, (1,)), [0.8], "the new bias")


def _tests(*functions: TestFunction) -> tuple[Test, ...]:
    return tuple(as_test(function, public=True) for function in functions)


PUBLIC = {
    "fake_quantize_affine": _tests(
        test_values_lie_on_the_grid, test_the_ends_of_an_affine_grid, test_zero_stays_zero
    ),
    "ste_gradient": _tests(
        test_gradient_passes_inside, test_gradient_stops_outside, test_zero_point_moves_the_range
    ),
    "qat_step": _tests(
        test_step_descends_the_quantized_loss, test_small_steps_are_not_lost, test_clamped_weights_rest
    ),
    "lsq_step_gradient": _tests(
        test_learned_step_by_hand,
        test_learned_step_leaves_perfect_values_alone,
        test_learned_step_wants_to_grow_where_much_is_clamped,
    ),
    "equalization_scale": _tests(
        test_both_ranges_become_equal, test_two_channels_by_hand, test_dead_channel_is_left_alone
    ),
    "bias_correction": _tests(test_mean_output_comes_back, test_one_weight_by_hand),
}
