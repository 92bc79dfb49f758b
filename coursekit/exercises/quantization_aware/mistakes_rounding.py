"""Known mistakes in fake quantization, its gradient, and the step that trains through it.

Each `wrong` makes one mistake and no other; a check recognises it by equal results on every probe.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.spec import Mistake
from coursekit.quantization import fake_quantize, int_range

__all__ = ["FAKE_QUANTIZE", "QAT_STEP", "STE_GRADIENT", "fake_probes", "ste_probes", "step_probes"]

Args = tuple[Any, ...]

_X = torch.tensor([-100.0, -30.0, -2.6, -1.3, -0.7, 0.0, 0.26, 0.9, 1.6, 2.4, 3.7, 17.0, 26.0, 90.0])


def fake_probes() -> list[Args]:
    """Values in and out of range, zero points at both ends, 3 and 4 bits, a scale a row."""
    rows = torch.stack([_X, _X / 10])
    return [
        (_X, 0.25, 3),
        (_X, 0.1, -128),
        (_X, 0.5, 1, 4),
        (_X, 0.3, -2, 3),
        (rows, torch.tensor([[0.3], [0.03]]), 0),
    ]


def _codes(x: Tensor, scale: Any, zero_point: Any) -> Tensor:
    return torch.round(x / scale) + zero_point


def _values(codes: Tensor, scale: Any, zero_point: Any) -> Tensor:
    return (codes - zero_point) * scale


def _clamped(x: Tensor, scale: Any, zero_point: Any, n_bits: int) -> Tensor:
    return torch.clamp(_codes(x, scale, zero_point), *int_range(n_bits))


def _stays_in_codes(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _clamped(x, scale, zero_point, n_bits)


def _forgets_zero_point_back(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _clamped(x, scale, zero_point, n_bits) * scale


def _never_clamps(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _values(_codes(x, scale, zero_point), scale, zero_point)


def _clamps_values(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return torch.round(torch.clamp(x, *int_range(n_bits)) / scale) * scale


def _cuts_off(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _values(torch.clamp(torch.trunc(x / scale) + zero_point, *int_range(n_bits)), scale, zero_point)


def _no_zero_point(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return torch.clamp(torch.round(x / scale), *int_range(n_bits)) * scale


def _same_both_sides(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    _, qmax = int_range(n_bits)
    return _values(torch.clamp(_codes(x, scale, zero_point), -qmax, qmax), scale, zero_point)


def _eight_bits(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _values(_clamped(x, scale, zero_point, 8), scale, zero_point)


def _wraps(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    codes = _clamped(x, scale, zero_point, n_bits).to(torch.int64) - zero_point
    return codes.to(torch.int8) * torch.as_tensor(scale)


def _offset_in_x(x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    codes = torch.clamp(torch.round((x - zero_point) / scale), *int_range(n_bits))
    return codes * scale + zero_point


FAKE_QUANTIZE = (
    Mistake("stays_in_codes", "These are the codes. Fake quantization goes back: scale * (code - zero_point), in the "
            "units of x.", _stays_in_codes),
    Mistake("forgets_zero_point_back", "On the way back the zero point is not subtracted: what was 0 comes back as "
            "scale * zero_point.", _forgets_zero_point_back),
    Mistake("never_clamps", "Values far outside come back as they were. The grid ends at the codes qmin and qmax.",
            _never_clamps),
    Mistake("clamps_values", "You clamp x to qmin..qmax, but these are codes, not values: divide, round and add the "
            "zero point first.", _clamps_values),
    Mistake("cuts_off", "You cut the fraction off instead of rounding.", _cuts_off),
    Mistake("no_zero_point", "You clamp before the zero point is added, or leave it out: the range of values is then "
            "the same for every zero point.", _no_zero_point),
    Mistake("same_both_sides", "You clamp to -qmax..qmax. An affine grid uses the lowest code, qmin, too.",
            _same_both_sides),
    Mistake("eight_bits", "You use the 8-bit range whatever n_bits says.", _eight_bits),
    Mistake("wraps", "code - zero_point is computed in int8 and wraps round. There is no need for integers here: stay "
            "in floating point.", _wraps),
    Mistake("offset_in_x", "You subtract the zero point from x. It is a code: it is added after the division.",
            _offset_in_x),
)  # fmt: skip


def ste_probes() -> list[Args]:
    """Gradients of both signs; values well inside, at and well beyond the ends, for several grids."""
    grad = torch.linspace(-1.3, 2.0, len(_X))
    steps = torch.arange(-12.0, 12.0) + 0.1
    return [
        (grad, _X, 0.25, 3),
        (grad, _X, 0.02, -50),
        (torch.linspace(-2.0, 1.0, 24), steps * 0.5, 0.5, 2, 4),
        (torch.linspace(3.0, -1.0, 24), steps * 0.1, 0.1, -1, 3),
        (torch.linspace(3.0, -1.0, 24), steps, 1.0, 0, 4),
    ]


def _inside(x: Tensor, scale: Any, zero_point: int, n_bits: int) -> Tensor:
    qmin, qmax = int_range(n_bits)
    codes = _codes(x, scale, zero_point)
    return (codes >= qmin) & (codes <= qmax)


def _true_gradient(grad: Tensor, x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return torch.zeros_like(grad)


def _passes_everything(grad: Tensor, x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return grad.clone()


def _compares_x(grad: Tensor, x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    qmin, qmax = int_range(n_bits)
    return grad * ((x >= qmin) & (x <= qmax))


def _mask_without_zero_point(
    grad: Tensor, x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8
) -> Tensor:
    return grad * _inside(x, scale, 0, n_bits)


def _times_scale(grad: Tensor, x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return grad * _inside(x, scale, zero_point, n_bits) * scale


def _over_scale(grad: Tensor, x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return grad * _inside(x, scale, zero_point, n_bits) / scale


def _inverted(grad: Tensor, x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return grad * ~_inside(x, scale, zero_point, n_bits)


def _only_the_mask(grad: Tensor, x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return _inside(x, scale, zero_point, n_bits).to(grad.dtype)


def _drops_the_ends(grad: Tensor, x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    qmin, qmax = int_range(n_bits)
    codes = _codes(x, scale, zero_point)
    return grad * ((codes > qmin) & (codes < qmax))


def _mask_of_8_bits(grad: Tensor, x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8) -> Tensor:
    return grad * _inside(x, scale, zero_point, 8)


def _masks_after_clamping(
    grad: Tensor, x: Tensor, scale: Any, zero_point: int = 0, n_bits: int = 8
) -> Tensor:
    return grad * _clamped(x, scale, zero_point, n_bits)


STE_GRADIENT = (
    Mistake("true_gradient", "That is the true derivative of a staircase: 0 almost everywhere, so that nothing would "
            "ever be learned. Straight-through pretends that round is the identity.", _true_gradient),
    Mistake("passes_everything", "The gradient also goes through where x was clamped. There a small change of x "
            "changes nothing, and clamp really has slope 0.", _passes_everything),
    Mistake("compares_x", "You compare x with qmin and qmax. These are codes: compare the code that x would get before "
            "clamping.", _compares_x),
    Mistake("mask_without_zero_point", "The mask ignores the zero point, and so clamps other values than the forward "
            "pass does.", _mask_without_zero_point),
    Mistake("times_scale", "The scale does not belong here: one division by it and one multiplication cancel.",
            _times_scale),
    Mistake("over_scale", "You differentiate x / scale and forget that the result is multiplied by the scale again.",
            _over_scale),
    Mistake("inverted", "The mask is the wrong way round: gradients pass where nothing was clamped.", _inverted),
    Mistake("only_the_mask", "This is the slope of the quantizer. The chain rule multiplies it with grad.",
            _only_the_mask),
    Mistake("drops_the_ends", "Values whose code is exactly qmin or qmax were not clamped: their gradient passes.",
            _drops_the_ends),
    Mistake("mask_of_8_bits", "The mask is that of 8 bits whatever n_bits says.", _mask_of_8_bits),
    Mistake("masks_after_clamping", "You multiply with the clamped codes, not with a mask of 0 and 1.",
            _masks_after_clamping),
)  # fmt: skip


def step_probes() -> list[Args]:
    """Layers with some weights beyond the grid, several shapes, bits and learning rates."""
    probes = []
    for seed, (n, m, k, n_bits, lr) in enumerate([(5, 3, 4, 4, 0.5), (7, 2, 6, 3, 1.0), (4, 4, 5, 2, 0.3)]):
        g = torch.Generator().manual_seed(seed)
        weight, x, targets = (torch.randn(*size, generator=g) for size in ((m, k), (n, k), (n, m)))
        probes.append((weight, x, targets, 1.3 / int_range(n_bits)[1], lr, n_bits))
    return probes


def _gradient(weight: Tensor, x: Tensor, targets: Tensor) -> Tensor:
    error = x @ weight.T - targets
    return 2 * error.T @ x / error.numel()


def _mask(weight: Tensor, scale: Any, n_bits: int) -> Tensor:
    return torch.round(weight / scale).abs() <= int_range(n_bits)[1]


def _updates_quantized(
    weight: Tensor, x: Tensor, targets: Tensor, scale: Any, lr: float, n_bits: int = 4
) -> Tensor:
    q = fake_quantize(weight, scale, n_bits)
    return q - lr * _gradient(q, x, targets) * _mask(weight, scale, n_bits)


def _nothing_comes_through(
    weight: Tensor, x: Tensor, targets: Tensor, scale: Any, lr: float, n_bits: int = 4
) -> Tensor:
    return weight.clone()


def _updates_clamped(
    weight: Tensor, x: Tensor, targets: Tensor, scale: Any, lr: float, n_bits: int = 4
) -> Tensor:
    return weight - lr * _gradient(fake_quantize(weight, scale, n_bits), x, targets)


def _forward_in_float(
    weight: Tensor, x: Tensor, targets: Tensor, scale: Any, lr: float, n_bits: int = 4
) -> Tensor:
    return weight - lr * _gradient(weight, x, targets) * _mask(weight, scale, n_bits)


def _returns_quantized(
    weight: Tensor, x: Tensor, targets: Tensor, scale: Any, lr: float, n_bits: int = 4
) -> Tensor:
    q = fake_quantize(weight, scale, n_bits)
    return fake_quantize(weight - lr * _gradient(q, x, targets) * _mask(weight, scale, n_bits), scale, n_bits)


def _climbs(weight: Tensor, x: Tensor, targets: Tensor, scale: Any, lr: float, n_bits: int = 4) -> Tensor:
    q = fake_quantize(weight, scale, n_bits)
    return weight + lr * _gradient(q, x, targets) * _mask(weight, scale, n_bits)


def _sums(weight: Tensor, x: Tensor, targets: Tensor, scale: Any, lr: float, n_bits: int = 4) -> Tensor:
    q = fake_quantize(weight, scale, n_bits)
    return weight - lr * targets.numel() * _gradient(q, x, targets) * _mask(weight, scale, n_bits)


def _mean_over_images(
    weight: Tensor, x: Tensor, targets: Tensor, scale: Any, lr: float, n_bits: int = 4
) -> Tensor:
    q = fake_quantize(weight, scale, n_bits)
    return weight - lr * targets.shape[1] * _gradient(q, x, targets) * _mask(weight, scale, n_bits)


def _half_the_gradient(
    weight: Tensor, x: Tensor, targets: Tensor, scale: Any, lr: float, n_bits: int = 4
) -> Tensor:
    q = fake_quantize(weight, scale, n_bits)
    return weight - lr * 0.5 * _gradient(q, x, targets) * _mask(weight, scale, n_bits)


def _gradient_times_scale(
    weight: Tensor, x: Tensor, targets: Tensor, scale: Any, lr: float, n_bits: int = 4
) -> Tensor:
    q = fake_quantize(weight, scale, n_bits)
    return weight - lr * scale * _gradient(q, x, targets) * _mask(weight, scale, n_bits)


def _trains_at_8_bits(
    weight: Tensor, x: Tensor, targets: Tensor, scale: Any, lr: float, n_bits: int = 4
) -> Tensor:
    q = fake_quantize(weight, scale, 8)
    return weight - lr * _gradient(q, x, targets) * _mask(weight, scale, 8)


QAT_STEP = (
    Mistake("updates_quantized", "You step from the quantized weight: steps smaller than half a grid step are rounded "
            "away every time. The weight that is kept must be the unquantized one.", _updates_quantized),
    Mistake("nothing_comes_through", "The weight has not moved: differentiating through round gives 0. Take the "
            "gradient by the quantized weight and let it pass straight through.", _nothing_comes_through),
    Mistake("updates_clamped", "Weights beyond the end of the grid move too. The quantizer clamps them, so their "
            "gradient is 0.", _updates_clamped),
    Mistake("forward_in_float", "The forward pass uses the unquantized weight: this is ordinary training, and the "
            "network never feels its grid.", _forward_in_float),
    Mistake("returns_quantized", "You return the weight rounded to its grid, and the small step you took is lost.",
            _returns_quantized),
    Mistake("climbs", "The sign is wrong: the loss goes up.", _climbs),
    Mistake("sums", "This is the gradient of the sum of squares. The loss is their mean over all N * M outputs.",
            _sums),
    Mistake("mean_over_images", "You divide by N only. The mean runs over all N * M outputs.", _mean_over_images),
    Mistake("half_the_gradient", "The derivative of a square has a factor of 2.", _half_the_gradient),
    Mistake("gradient_times_scale", "The gradient is multiplied by the scale. Straight-through leaves it as it is.",
            _gradient_times_scale),
    Mistake("trains_at_8_bits", "You quantize to 8 bits whatever n_bits says.", _trains_at_8_bits),
)  # fmt: skip
