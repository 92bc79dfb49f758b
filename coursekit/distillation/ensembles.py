"""Several teachers as one: their probabilities averaged at a temperature, with weights that add up to 1."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["Ensemble", "ensemble_probabilities", "ensemble_weights"]


def ensemble_weights(weights: Sequence[float] | Tensor | None, n_teachers: int) -> list[float]:
    """One weight a teacher, adding up to 1: the given ones divided by their sum, or equal ones.

    Args:    weights: one number a teacher, of any total above 0; None weighs all alike. n_teachers: 1 or more.
    Raises:  ValueError if there are no teachers, if their number is not that of the weights, or if a weight is
             negative, NaN or infinite, or all are 0.
    Taught in: lesson 10.

    >>> ensemble_weights([3, 1], 2)
    [0.75, 0.25]
    """
    if n_teachers < 1:
        raise ValueError(f"an ensemble needs at least one teacher, got {n_teachers}")
    given = [1.0] * n_teachers if weights is None else [float(weight) for weight in weights]
    if len(given) != n_teachers:
        raise ValueError(f"there are {n_teachers} teachers but {len(given)} weights: give one to each")
    if not all(math.isfinite(weight) and weight >= 0 for weight in given) or sum(given) == 0:
        raise ValueError(f"weights must be finite, not negative and not all 0, got {given}")
    return [weight / sum(given) for weight in given]


def _log_average(
    logits: Sequence[Tensor], weights: Sequence[float] | Tensor | None, temperature: float
) -> Tensor:
    """The logarithm of the weighted mean of the teachers' probabilities at a temperature, (N, classes).

    Raises: ValueError as `ensemble_weights`; if shapes differ, or the temperature is not above 0 and finite.
    """
    shares = ensemble_weights(weights, len(logits))
    if len({tuple(each.shape) for each in logits}) > 1:
        raise ValueError(f"the teachers' logits differ in shape: {[tuple(each.shape) for each in logits]}")
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"the temperature must be finite and above 0, got {temperature}")
    logs = [
        (each.float() if each.dtype is not torch.float64 else each).div(temperature).log_softmax(-1)
        + math.log(share)
        for each, share in zip(logits, shares, strict=True)
        if share > 0
    ]
    return torch.logsumexp(torch.stack(logs), dim=0)  # never the log of a probability that has become 0


def ensemble_probabilities(
    logits: Sequence[Tensor], weights: Sequence[float] | Tensor | None = None, temperature: float = 1.0
) -> Tensor:
    """The weighted mean of the teachers' probabilities, each softened at the temperature first.

    Args:    logits: one (N, classes) a teacher. weights: as `ensemble_weights`. temperature: above 0.
    Returns: (N, classes), each row adds up to 1. Not the softmax of averaged logits: there a teacher
             speaks as loud as its logits are large, whatever its weight.
    Raises:  ValueError as `ensemble_weights`; if shapes differ, or the temperature is not above 0 and finite.
    Source:  Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 5 (the arithmetic mean). Taught in lesson 10.

    >>> ensemble_probabilities([torch.zeros(1, 2), torch.tensor([[0.0, 1000.0]])]).tolist()
    [[0.25, 0.75]]
    """
    return _log_average(logits, weights, temperature).exp()


class Ensemble(nn.Module):
    """Teachers of any architectures as one network, to be used wherever a teacher is.

    Its logits are T times the logarithm of the probabilities averaged at T: their softmax at T is that average, and at
    T = 1 they are its logarithm. So a loss that softens the teacher at this T sees the average, exactly.

    Args:    teachers: networks of one input and one set of classes; their parameters and modes are left as they are.
             weights: as `ensemble_weights`. temperature: T, that of the loss.
    Raises:  ValueError as `ensemble_probabilities`, before anything is computed.

    >>> pair = Ensemble([nn.Identity(), nn.Identity()], temperature=2.0)
    >>> (pair(torch.tensor([[1.0, 3.0]])) / 2).softmax(1).allclose((torch.tensor([[1.0, 3.0]]) / 2).softmax(1))
    True
    """

    def __init__(
        self,
        teachers: Sequence[nn.Module],
        weights: Sequence[float] | Tensor | None = None,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.weights = ensemble_weights(weights, len(teachers))
        if not (math.isfinite(temperature) and temperature > 0):
            raise ValueError(f"the temperature must be finite and above 0, got {temperature}")
        self.teachers = nn.ModuleList(teachers)
        self.temperature = temperature

    def forward(self, images: Tensor) -> Tensor:
        """T · log of the average at T, (N, classes)."""
        logits = [teacher(images) for teacher in self.teachers]
        return self.temperature * _log_average(logits, self.weights, self.temperature)
