"""Hidden tests of lesson 03. Each states a property and checks it by definition, not against the reference."""

from __future__ import annotations

import math

import torch

from coursekit.exercises.expect import expect, expect_close, expect_float, expect_tensor
from coursekit.exercises.quantization_aware.properties import by_differences, normal, on_grid, uneven_pair
from coursekit.exercises.spec import as_test, worth

__all__ = ["HIDDEN"]


def test_nearest_point_of_every_grid(student):
    """For 2 to 8 bits and a scale a row no point of the grid is nearer to x than the one that comes back."""
    x = normal(2, 60) * 2
    scale = torch.tensor([[0.3], [0.05]])
    for n_bits in (2, 4, 8):
        codes = torch.arange(-(2 ** (n_bits - 1)), 2 ** (n_bits - 1)).double()
        back = expect_tensor(
            student.fake_quantize_affine(x, scale, 1, n_bits), torch.float32, x.shape
        ).double()
        points = (codes - 1) * scale.double()  # (2, codes)
        nearest = (x.double()[:, :, None] - points[:, None]).abs().amin(-1)
        off = ((back - x.double()).abs() - nearest).abs().max().item()
        expect(off < 1e-5, f"distance to the grid of {n_bits} bits", off, "0: no point nearer")


def test_gradients_of_a_random_tensor(student):
    """For random values, grids and gradients: grad where the value moved by at most half a step, else 0."""
    for n_bits, scale, zero_point in ((2, 0.5, 0), (4, 0.2, 3), (8, 0.01, -60)):
        x, grad = normal(300, seed=n_bits) * 2, normal(300, seed=9)
        ends = [(code - zero_point) * scale for code in (-(2 ** (n_bits - 1)), 2 ** (n_bits - 1) - 1)]
        beyond = torch.maximum(ends[0] - x, x - ends[1])
        got = expect_tensor(student.ste_gradient(grad, x, scale, zero_point, n_bits), torch.float32, x.shape)
        clear = (beyond <= 0) | (beyond > 0.51 * scale)  # in between both conventions are in use
        expected = torch.where(beyond <= 0, grad, 0.0)
        expect_close(got[clear], expected[clear], f"gradient at {n_bits} bits")


def test_a_scale_for_each_row(student):
    """A scale of shape (C, 1) clamps each row at its own ends."""
    x = torch.tensor([[0.5, 3.0, 40.0], [0.5, 3.0, 40.0]])
    scale = torch.tensor([[0.1], [1.0]])
    got = expect_tensor(student.ste_gradient(torch.ones(2, 3), x, scale, 0, 4), torch.float32, (2, 3))
    expect_close(got, [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]], "gradient of each row")


@worth(2)
def test_step_of_other_layers(student):
    """For other shapes, 2 and 3 bits and weights beyond the grid the step is that of the definition."""
    for seed, (n, m, k, n_bits) in enumerate([(5, 2, 3, 3), (9, 4, 2, 2)]):
        weight, x, targets = normal(m, k, seed=seed), normal(n, k, seed=seed + 1), normal(n, m, seed=seed + 2)
        scale = 1.0 / (2 ** (n_bits - 1) - 1)
        quantized = on_grid(weight, scale, n_bits)
        moved = weight.double() - 0.7 * by_differences(quantized, x, targets)
        beyond = weight.double().abs() - 1.0
        expected = torch.where(beyond <= 0, moved, weight.double())
        got = expect_tensor(student.qat_step(weight, x, targets, scale, 0.7, n_bits), torch.float32, (m, k))
        clear = (beyond <= 0) | (beyond > 0.51 * scale)
        expect_close(
            got.double()[clear], expected[clear], f"new weight at {n_bits} bits", rtol=1e-3, atol=1e-4
        )


def test_training_ends_near_a_better_grid_point(student):
    """A hundred steps fit a target that lies on the grid, from a weight that does not."""
    target = torch.tensor([[0.5, -0.25]])
    weight, x = torch.tensor([[0.1, 0.3]]), normal(64, 2)
    for _ in range(100):
        weight = expect_tensor(student.qat_step(weight, x, x @ target.T, 0.25, 0.1, 4), torch.float32, (1, 2))
    expect_close(on_grid(weight, 0.25, 4), target, "quantized weight after training", atol=1e-6)


@worth(3)
def test_learned_step_against_differences(student):
    """For random values it is the derivative by the step with each value's rounding error held still."""
    for n_bits, scale in ((2, 0.7), (3, 0.4), (8, 0.02)):
        qmax = 2 ** (n_bits - 1) - 1
        x, grad = normal(40, seed=n_bits).double(), normal(40, seed=n_bits + 1).double()
        v = (x / scale).clamp(-qmax, qmax)
        held = v.round() - v

        def total(s, x=x, grad=grad, held=held, qmax=qmax):
            return (grad * s * ((x / s).clamp(-qmax, qmax) + held)).sum().item()

        expected = (total(scale + 1e-6) - total(scale - 1e-6)) / 2e-6 / math.sqrt(40 * qmax)
        got = expect_float(student.lsq_step_gradient(grad.float(), x.float(), scale, n_bits), "the gradient")
        expect_close(got, expected, f"gradient at {n_bits} bits", rtol=1e-3, atol=1e-3)


def test_network_of_two_layers_is_unchanged(student):
    """Rescaled by s, two linear layers with a ReLU between them compute what they did."""
    first, second = uneven_pair(3)
    second = second[:, :, 0, 0]
    s = expect_tensor(student.equalization_scale(first, second), torch.float32, (4,))
    expect(bool((s > 0).all()) and bool(s.isfinite().all()), "s", s, "above 0 and finite")
    x = normal(10, 5, seed=8)
    before = torch.relu(x @ first.T) @ second.T
    after = torch.relu(x @ (first / s[:, None]).T) @ (second * s).T
    expect_close(after, before, "outputs", rtol=1e-3, atol=1e-4)
    expect(float(s.max() / s.min()) > 10, "s differs between channels", s.max() / s.min(), "far apart")


def test_ranges_of_a_convolution_pair(student):
    """For two convolutions each s is the root of the ratio of the two largest magnitudes."""
    first, second = normal(3, 2, 3, 3, seed=4), normal(5, 3, 1, 1, seed=5)
    s = expect_tensor(student.equalization_scale(first, second), torch.float32, (3,))
    for i in range(3):
        r1 = max(abs(v) for v in first[i].flatten().tolist())
        r2 = max(abs(v) for v in second[:, i].flatten().tolist())
        expect_close(s[i].item(), math.sqrt(r1 / r2), f"s of channel {i}", rtol=1e-4)


@worth(2)
def test_shift_of_other_layers(student):
    """For other layers the bias changes by minus the mean of what rounding added; no rounding, no change."""
    weight, bias, mean = normal(4, 7, seed=5), normal(4, seed=6), normal(7, seed=7)
    quantized = (weight * 4).round() / 4
    got = expect_tensor(student.bias_correction(weight, quantized, bias, mean), torch.float32, (4,))
    pairs = [
        sum((q - w) * m for q, w, m in zip(*rows, mean.tolist(), strict=True))
        for rows in zip(quantized.tolist(), weight.tolist(), strict=True)
    ]
    expect_close(
        got, bias.double() - torch.tensor(pairs, dtype=torch.float64), "new bias", rtol=1e-3, atol=1e-4
    )
    same = expect_tensor(student.bias_correction(weight, weight, bias, mean), torch.float32, (4,))
    expect_close(same, bias, "bias where nothing was rounded")


def _tests(*functions):
    return tuple(as_test(function, public=False) for function in functions)


HIDDEN = {
    "fake_quantize_affine": _tests(test_nearest_point_of_every_grid),
    "ste_gradient": _tests(test_gradients_of_a_random_tensor, test_a_scale_for_each_row),
    "qat_step": _tests(test_step_of_other_layers, test_training_ends_near_a_better_grid_point),
    "lsq_step_gradient": _tests(test_learned_step_against_differences),
    "equalization_scale": _tests(test_network_of_two_layers_is_unchanged, test_ranges_of_a_convolution_pair),
    "bias_correction": _tests(test_shift_of_other_layers),
}
