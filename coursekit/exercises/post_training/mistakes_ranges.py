"""Known mistakes in observing ranges and in folding batch norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.spec import Mistake

__all__ = ["FOLD_BATCH_NORM", "MOVING_AVERAGE_RANGE", "fold_probes", "range_probes"]

Args = tuple[Any, ...]
Ends = tuple[float, float]


def range_probes() -> list[Args]:
    """Streams on both sides of 0 and above it, with several momenta."""
    signed = [torch.tensor([-1.0, 0.5, 2.0]), torch.tensor([4.0, -3.0, 0.0]), torch.tensor([0.1, -0.5, 1.5])]
    positive = [torch.tensor([2.0, 3.0]), torch.tensor([1.0, 7.0])]
    return [(signed,), (positive, 0.5), (signed, 0.25), (signed[:1], 0.7)]


def _extremes(batches: list[Tensor]) -> list[Ends]:
    return [(batch.min().item(), batch.max().item()) for batch in batches]


def _averaged(values: list[float], momentum: float, start: float | None = None) -> float:
    average = values[0] if start is None else start
    for value in values[1:] if start is None else values:
        average = momentum * average + (1 - momentum) * value
    return average


def _both(batches: list[Tensor], average: Callable[[list[float]], float]) -> Ends:
    lows, highs = zip(*_extremes(batches), strict=True)
    return average(list(lows)), average(list(highs))


def _one_side(batches: list[Tensor], momentum: float = 0.9) -> Ends:
    lows, highs = zip(*_extremes(batches), strict=True)
    return min(lows), _averaged(list(highs), momentum)


def _of_the_values(batches: list[Tensor], momentum: float = 0.9) -> Ends:
    average = batches[0]
    for batch in batches[1:]:
        average = momentum * average + (1 - momentum) * batch
    return average.min().item(), average.max().item()


def _symmetric(batches: list[Tensor], momentum: float = 0.9) -> Ends:
    top = _averaged([batch.abs().max().item() for batch in batches], momentum)
    return -top, top


def _with_zero(batches: list[Tensor], momentum: float = 0.9) -> Ends:
    lo, hi = _both(batches, lambda v: _averaged(v, momentum))
    return min(lo, 0.0), max(hi, 0.0)


MOVING_AVERAGE_RANGE = (
    Mistake("starts_at_zero", "Your averages start at 0, so the range is too narrow until dozens of batches have "
            "passed. Let the first batch set them.",
            lambda batches, momentum=0.9: _both(batches, lambda v: _averaged(v, momentum, 0.0))),
    Mistake("momentum_on_the_new", "You give the share `momentum` to the new batch. It belongs to the old average: at "
            "0.9 each batch moves it by a tenth.",
            lambda batches, momentum=0.9: _both(batches, lambda v: _averaged(v, 1 - momentum))),
    Mistake("min_max_of_all", "This is the smallest and largest value of all batches: one outlier in one batch sets "
            "it. Average the batches' extremes instead.",
            lambda batches, momentum=0.9: _both(batches, lambda v: v[0]) if len(batches) == 1 else (
                min(lo for lo, _ in _extremes(batches)), max(hi for _, hi in _extremes(batches)))),
    Mistake("plain_mean", "This is the plain mean of the batches' extremes: momentum is not used.",
            lambda batches, momentum=0.9: _both(batches, lambda v: sum(v) / len(v))),
    Mistake("one_side_only", "hi is averaged, but lo is the smallest value of all batches. Both ends need the average.",
            _one_side),
    Mistake("last_batch_only", "Only the last batch counts: what the others said is lost.",
            lambda batches, momentum=0.9: _extremes(batches)[-1]),
    Mistake("averages_the_values", "You average the batches element by element and take the range of that. Averaging "
            "shrinks values towards each other; it also breaks when the last batch is smaller.", _of_the_values),
    Mistake("symmetric_range", "You observe max|x| and return a symmetric range. After a ReLU half of it would be "
            "empty.",
            _symmetric),
    Mistake("widened_to_zero", "You widen the range to include 0. An observer reports the data; `range_qparams` "
            "widens.",
            _with_zero),
    Mistake("ignores_momentum", "Your result is the same whatever momentum is.",
            lambda batches, momentum=0.9: _both(batches, lambda v: _averaged(v, 0.9))),
    Mistake("ends_swapped", "You return (hi, lo).",
            lambda batches, momentum=0.9: _both(batches, lambda v: _averaged(v, momentum))[::-1]),
    Mistake("returns_tensors", "You return tensors: turn both into Python numbers with .item().",
            lambda batches, momentum=0.9: tuple(
                torch.tensor(v) for v in _both(batches, lambda v: _averaged(v, momentum)))),
)  # fmt: skip


def fold_probes() -> list[Args]:
    """A square convolution without a bias, one with a bias, and a linear layer; one channel hardly varies."""
    g = torch.Generator().manual_seed(0)
    square, wide, linear = (
        torch.randn(*shape, generator=g) for shape in ((3, 3, 2, 2), (3, 2, 3, 3), (3, 4))
    )
    mean, gamma, beta, bias = torch.randn(4, 3, generator=g)
    var = torch.tensor([0.5, 2.0, 1e-4])
    return [
        (square, None, mean, var, gamma, beta, 1e-3),
        (wide, bias, mean, var, gamma, beta, 1e-5),
        (linear, bias, mean, 3 * var, gamma, beta, 1e-2),
    ]


def _per_output(gain: Tensor, weight: Tensor) -> Tensor:
    return gain.reshape(-1, *[1] * (weight.dim() - 1))


def _fold_with(
    gain_of: Callable[..., Tensor] = lambda var, gamma, eps: gamma / torch.sqrt(var + eps),
    shift_of: Callable[..., Any] = lambda b, mean, gain, beta: (b - mean) * gain + beta,
) -> Callable[..., Any]:
    """fold_batch_norm with its own gain, of var, gamma and eps, or shift, of the layer's bias, mean, gain and beta."""

    def fold(
        conv_weight: Tensor, conv_bias: Tensor | None, mean: Tensor, var: Tensor,
        weight: Tensor, bias: Tensor, eps: float = 1e-5,
    ) -> tuple[Tensor, Any]:  # fmt: skip
        gain = gain_of(var, weight, eps)
        old = torch.zeros_like(mean) if conv_bias is None else conv_bias
        return conv_weight * _per_output(gain, conv_weight), shift_of(old, mean, gain, bias)

    return fold


def _along_inputs(
    conv_weight: Tensor, conv_bias: Tensor | None, mean: Tensor, var: Tensor,
    weight: Tensor, bias: Tensor, eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    gain = weight / torch.sqrt(var + eps)
    old = 0.0 if conv_bias is None else conv_bias
    return conv_weight * gain.reshape(1, -1, *[1] * (conv_weight.dim() - 2)), (old - mean) * gain + bias


def _no_bias_for_none(
    conv_weight: Tensor, conv_bias: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor | None]:
    folded, shift = _fold_with()(conv_weight, conv_bias, *rest)
    return folded, None if conv_bias is None else shift


FOLD_BATCH_NORM = (
    Mistake("variance_not_deviation", "You divide by the variance. A batch norm divides by its square root.",
            _fold_with(lambda var, gamma, eps: gamma / (var + eps))),
    Mistake("eps_outside_the_root", "eps belongs under the root, added to the variance: outside it weighs much more "
            "where the variance is small.", _fold_with(lambda var, gamma, eps: gamma / (torch.sqrt(var) + eps))),
    Mistake("no_eps", "You leave eps out. A channel that hardly varies then gets a huge gain.",
            _fold_with(lambda var, gamma, eps: gamma / torch.sqrt(var))),
    Mistake("multiplies_by_deviation", "You multiply by the standard deviation. Normalizing divides by it.",
            _fold_with(lambda var, gamma, eps: gamma * torch.sqrt(var + eps))),
    Mistake("no_gamma", "The batch norm's own weight is missing from the gain.",
            _fold_with(lambda var, gamma, eps: 1 / torch.sqrt(var + eps))),
    Mistake("no_beta", "The batch norm's own bias is missing.",
            _fold_with(shift_of=lambda b, mean, gain, beta: (b - mean) * gain)),
    Mistake("wrong_sign_of_mean", "You add the mean. A batch norm takes it away, before the gain.",
            _fold_with(shift_of=lambda b, mean, gain, beta: (b + mean) * gain + beta)),
    Mistake("mean_without_gain", "The mean is taken away before the gain multiplies, so it is multiplied too.",
            _fold_with(shift_of=lambda b, mean, gain, beta: b * gain - mean + beta)),
    Mistake("convolutions_bias_lost", "The convolution's own bias is gone: it passes through the batch norm as well.",
            _fold_with(shift_of=lambda b, mean, gain, beta: beta - mean * gain)),
    Mistake("convolutions_bias_without_gain", "The convolution's own bias is not multiplied by the gain.",
            _fold_with(shift_of=lambda b, mean, gain, beta: b - mean * gain + beta)),
    Mistake("weight_only", "The weight is folded, but the bias is still the convolution's own.",
            _fold_with(shift_of=lambda b, mean, gain, beta: b)),
    Mistake("gain_along_inputs", "The gain is multiplied along the input channels (dimension 1). A batch norm acts on "
            "the outputs, dimension 0 of the weight.", _along_inputs),
    Mistake("no_bias_for_none", "A convolution without a bias needs one after folding: the mean and the batch norm's "
            "bias have nowhere else to go.", _no_bias_for_none),
)  # fmt: skip
