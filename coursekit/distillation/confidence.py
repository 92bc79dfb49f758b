"""Is a network as often right as it says? Calibration error, reliability, and the temperature that mends it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "Reliability",
    "best_temperature",
    "confidences",
    "entropy",
    "expected_calibration_error",
    "fit_temperature",
    "reliability",
]


def confidences(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """How sure the network is of its first choice, and whether that is right.

    Args:    logits: (N, classes). labels: (N,). temperature: the logits are divided by it first.
    Returns: the largest probability (N,), and (N,) bool.
    Taught in: lesson 10.

    >>> confidences(torch.tensor([[0.0, 0.0], [0.0, 100.0]]), torch.tensor([1, 1]))[0].tolist()
    [0.5, 1.0]
    """
    sure, choice = (logits / temperature).softmax(1).max(1)
    return sure, choice == labels


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """The entropy of each row's probabilities at a temperature, in nats: 0 for a hard label, log(classes) at most.

    Taught in: lesson 10.

    >>> round(entropy(torch.zeros(1, 10)).item(), 4)  # log 10
    2.3026
    """
    logs = (logits / temperature).log_softmax(-1)
    return -(logs.exp() * logs).sum(-1)


@dataclass(frozen=True)
class Reliability:
    """What bins of equally sure answers hold. An empty bin has NaN for both means.

    Attributes: count: images in each bin. confidence, accuracy: their mean confidence and the share of right ones.
    """

    count: Tensor
    confidence: Tensor
    accuracy: Tensor

    @property
    def error(self) -> float:
        """The expected calibration error: the bins' gaps, each weighted by the share of images in it."""
        gaps = (self.accuracy - self.confidence).abs().nan_to_num(0.0)
        return (gaps * self.count / self.count.sum()).sum().item()


def reliability(confidence: Tensor, correct: Tensor, n_bins: int = 10) -> Reliability:
    """The answers sorted into bins of equal width by confidence, with the share of right ones in each.

    Args:    confidence: (N,), 0 to 1. correct: (N,) bool. n_bins: (0, 1/n], (1/n, 2/n], …;
             exactly 0 is in the first.
    Raises:  ValueError if there are no answers, lengths differ, n_bins is below 1, or a confidence is not in 0..1.
    Source:  Guo et al. 2017, arXiv:1706.04599, section 2. Taught in lesson 10.

    >>> reliability(torch.tensor([0.9, 0.9, 0.1]), torch.tensor([True, False, False]), n_bins=2).count.tolist()
    [1, 2]
    """
    if confidence.dim() != 1 or confidence.shape != correct.shape or not len(confidence) or n_bins < 1:
        shapes = f"{tuple(confidence.shape)} and {tuple(correct.shape)}"
        raise ValueError(f"needs two (N,) tensors, N and n_bins of at least 1, got {shapes}, n_bins={n_bins}")
    if not bool(((confidence >= 0) & (confidence <= 1)).all()):
        raise ValueError("a confidence is not in 0..1: pass probabilities, not logits")
    sure = confidence.double()
    index = (sure * n_bins).ceil().long().sub(1).clamp(0, n_bins - 1)
    count = torch.bincount(index, minlength=n_bins)
    mean = [torch.bincount(index, each, n_bins) / count for each in (sure, correct.double())]  # 0/0 is NaN
    return Reliability(count, *mean)


def expected_calibration_error(confidence: Tensor, correct: Tensor, n_bins: int = 10) -> float:
    """How far confidence and accuracy are apart: Σ n_b / N · |accuracy_b - confidence_b| over the bins, 0 to 1.

    Args:    confidence: (N,), 0 to 1. correct: (N,) bool. n_bins: of equal width.
    Raises:  ValueError as `reliability`.
    Source:  Guo et al. 2017, arXiv:1706.04599, equation 3. Taught in lesson 10.

    >>> round(expected_calibration_error(torch.tensor([0.95, 0.95, 0.65]), torch.tensor([True, False, True])), 4)
    0.4167
    """
    return reliability(confidence, correct, n_bins).error


def best_temperature(logits: Tensor, labels: Tensor, candidates: Sequence[float]) -> float:
    """The candidate T with the lowest mean cross-entropy of softmax(logits / T) against the labels.

    Args:    logits: (N, classes) of images that the network was not trained on. labels: (N,). candidates: above 0.
    Raises:  ValueError if there are no candidates, or one is not above 0.
    Source:  Guo et al. 2017, arXiv:1706.04599, section 4.2. Taught in lesson 10.

    >>> best_temperature(torch.tensor([[4.0, 0.0], [4.0, 0.0]]), torch.tensor([0, 1]), [1.0, 100.0])
    100.0
    """
    if not candidates or not all(t > 0 for t in candidates):
        raise ValueError(f"candidates must be temperatures above 0, got {list(candidates)}")
    return min(candidates, key=lambda t: F.cross_entropy(logits / t, labels).item())


def fit_temperature(logits: Tensor, labels: Tensor, *, lowest: float = 0.01, highest: float = 100.0) -> float:
    """The temperature with the lowest cross-entropy on held-out images; the answers stay the same ones.

    The cross-entropy is convex in 1/T, so its slope, mean(Σ p z - z_label), changes sign once: halve the interval that
    holds the change. If it lies outside lowest..highest (no errors at all, or answers that only guess), the nearer
    end comes back.

    Args:    logits: (N, classes) of images that neither training nor a report uses. labels: (N,).
    Raises:  ValueError if there are no images, or logits that are not finite.
    Source:  Guo et al. 2017, arXiv:1706.04599, section 4.2. Taught in lesson 10.

    >>> round(fit_temperature(torch.tensor([[2.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])), 3)  # 2 / log 3: then p = 3/4
    1.82
    """
    if logits.dim() != 2 or not len(logits) or not logits.isfinite().all():
        raise ValueError(f"logits must be (N, classes), finite and not empty, got {tuple(logits.shape)}")
    z = logits.detach().double()
    wanted = z.gather(1, labels[:, None]).mean()

    def too_sure(temperature: float) -> bool:
        return bool(((z / temperature).softmax(1) * z).sum(1).mean() > wanted)

    low, high = math.log(lowest), math.log(highest)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if too_sure(math.exp(middle)) else (low, middle)
    return math.exp((low + high) / 2)
