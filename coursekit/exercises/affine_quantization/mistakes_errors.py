"""Known mistakes in measuring the error and in choosing the clipping range.

Each `wrong` makes one mistake and no other; a check recognises it by equal results on every probe.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.spec import Mistake
from coursekit.quantization import fake_quantize, int_range

__all__ = ["MSE_CLIP", "SQNR_DB", "clip_probes", "sqnr_probes"]

Args = tuple[Any, ...]


def sqnr_probes() -> list[Args]:
    """Errors that grow, that have a mean, and that are none at all."""
    x = torch.tensor([1.0, -2.0, 3.0, -4.0, 0.5])
    return [(x, 0.9 * x), (x, x + 0.25), (x, x + torch.tensor([0.1, -0.2, 0.0, 0.3, 0.1])), (x, x.clone())]


def _powers(x: Tensor, x_hat: Tensor) -> tuple[float, float]:
    return x.square().sum().item(), (x - x_hat).square().sum().item()


def _decibels(signal: float, noise: float) -> float:
    return 10 * math.log10(signal / noise) if noise > 0 else math.inf


def _natural_log(x: Tensor, x_hat: Tensor) -> float:
    return _decibels(*_powers(x, x_hat)) * math.log(10)


def _divides_by_noise(x: Tensor, x_hat: Tensor) -> float:
    signal, noise = _powers(x, x_hat)
    return 10 * math.log10(signal / noise)


def _peak(x: Tensor, x_hat: Tensor) -> float:
    return _decibels(x.abs().max().item() ** 2, (x - x_hat).square().mean().item())


SQNR_DB = (
    Mistake("twenty_log", "20 log10 belongs to a ratio of amplitudes. Your ratio is already squared: use 10 log10.",
            lambda x, x_hat: 2 * _decibels(*_powers(x, x_hat))),
    Mistake("natural_log", "You used the natural logarithm. Decibels are defined with log10.", _natural_log),
    Mistake("inverted", "Noise over signal: your ratio is upside down, and good approximations come out negative.",
            lambda x, x_hat: -_decibels(*_powers(x, x_hat))),
    Mistake("not_squared", "You compare the norms, not their squares: that halves the decibels.",
            lambda x, x_hat: _decibels(*_powers(x, x_hat)) / 2),
    Mistake("bel", "This is in bels: the factor 10 is missing.", lambda x, x_hat: _decibels(*_powers(x, x_hat)) / 10),
    Mistake("variance", "You use variances, so a constant offset of x_hat costs nothing. Sum the squares themselves.",
            lambda x, x_hat: _decibels(x.var().item(), (x - x_hat).var().item() if (x - x_hat).var() > 1e-12 else 0.0)),
    Mistake("peak_signal", "This is the peak signal-to-noise ratio, with max|x| squared on top. Here it is the mean "
            "power of the signal.", _peak),
    Mistake("power_of_x_hat", "The signal is x, not x_hat.",
            lambda x, x_hat: _decibels(x_hat.square().sum().item(), _powers(x, x_hat)[1])),
    Mistake("divides_by_zero", "Right but for a perfect copy: there you divide by zero instead of returning math.inf.",
            _divides_by_noise),
    Mistake("returns_tensor", "The number is right, but it is a tensor: .item() makes it a float.",
            lambda x, x_hat: torch.tensor(_decibels(*_powers(x, x_hat)))),
)  # fmt: skip


def clip_probes() -> list[Args]:
    """Heavy-tailed values with the larger tail on one side, at 4 and at 8 bits, and with few candidates."""
    grid = torch.linspace(-0.999, 0.999, 801)
    x = torch.atanh(grid) ** 3 / 10
    return [(x, 4), (x - 0.5, 4), (-x + 0.5, 8), (x, 3, 20)]


def _candidates(x: Tensor, n: int) -> list[float]:
    return [x.abs().max().item() * k / n for k in range(1, n + 1)]


def _search(x: Tensor, n_bits: int, n: int, error: Any = None, clips: list[float] | None = None) -> float:
    clips = _candidates(x, n) if clips is None else clips
    measure = error or (lambda x, x_hat, c: (x - x_hat).square().mean().item())
    qmax = int_range(n_bits)[1]
    return min(clips, key=lambda c: measure(x, fake_quantize(x, c / qmax, n_bits), c))


def _forgets_abs(x: Tensor, n_bits: int = 8, n_candidates: int = 100) -> float:
    return _search(
        x, n_bits, n_candidates, clips=[x.max().item() * k / n_candidates for k in range(1, n_candidates + 1)]
    )


MSE_CLIP = (
    Mistake("no_clipping", "You return max|x|: nothing is ever clipped. On heavy tails that wastes most of the codes.",
            lambda x, n_bits=8, n_candidates=100: x.abs().max().item()),
    Mistake("smallest_candidate", "The smallest candidate always wins. Either you compare with the clipped tensor, "
            "so that what you cut off costs nothing, or you keep the largest error instead of the smallest.",
            lambda x, n_bits=8, n_candidates=100: _search(
                x, n_bits, n_candidates, lambda x, x_hat, c: (x.clamp(-c, c) - x_hat).square().mean().item())),
    Mistake("absolute_error", "You minimise the mean absolute error. Squares weigh the clipped outliers more.",
            lambda x, n_bits=8, n_candidates=100: _search(
                x, n_bits, n_candidates, lambda x, x_hat, c: (x - x_hat).abs().mean().item())),
    Mistake("largest_error", "You minimise the largest error, which one outlier decides alone.",
            lambda x, n_bits=8, n_candidates=100: _search(
                x, n_bits, n_candidates, lambda x, x_hat, c: (x - x_hat).abs().max().item())),
    Mistake("threshold_as_scale",
            "You pass the threshold itself to fake_quantize; it wants the scale, threshold / qmax.",
            lambda x, n_bits=8, n_candidates=100: min(
                _candidates(x, n_candidates),
                key=lambda c: (x - fake_quantize(x, c, n_bits)).square().mean().item())),
    Mistake("returns_scale", "You return the scale of the best candidate. The threshold is scale * qmax.",
            lambda x, n_bits=8, n_candidates=100: _search(x, n_bits, n_candidates) / int_range(n_bits)[1]),
    Mistake("returns_index", "You return the number of the best candidate, not the threshold itself.",
            lambda x, n_bits=8, n_candidates=100: _candidates(x, n_candidates).index(_search(x, n_bits, n_candidates))),
    Mistake("returns_error", "You return the smallest error, not the threshold that gave it.",
            lambda x, n_bits=8, n_candidates=100: (x - fake_quantize(
                x, _search(x, n_bits, n_candidates) / int_range(n_bits)[1], n_bits)).square().mean().item()),
    Mistake("three_sigma", "Three standard deviations is a rule of thumb for normal data; measure the error instead.",
            lambda x, n_bits=8, n_candidates=100: min(3 * x.std().item(), x.abs().max().item())),
    Mistake("max_without_abs", "Your candidates reach up to max(x), not max|x|: a long negative tail is always cut.",
            _forgets_abs),
    Mistake("ignores_n_bits", "You search with 8 bits whatever n_bits says; with fewer bits clipping pays sooner.",
            lambda x, n_bits=8, n_candidates=100: _search(x, 8, n_candidates)),
)  # fmt: skip
