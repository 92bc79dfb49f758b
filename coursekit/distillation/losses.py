"""Losses on a teacher's answers: soft targets, Hinton's loss and its gradient, and the control without a teacher.

One convention throughout: `alpha` is the weight of the teacher's part, 1 - alpha that of the labels', and a part is
reported as it enters the sum, weights and T² included. The loss is the sum of the parts, exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.distillation.checks import (
    check_alpha,
    check_labels,
    check_logits,
    check_pair,
    check_temperature,
    logits_of_teacher,
)
from coursekit.distillation.objective import Batch

__all__ = [
    "DistillationLoss",
    "distillation_kl",
    "kd_gradient",
    "kd_loss",
    "smooth_targets",
    "soften",
]


def soften(logits: Tensor, temperature: float) -> Tensor:
    """The probabilities of each image's classes at a temperature.

    Args:      logits: (n, classes). temperature: above 0; 1 is the plain softmax, more is softer.
    Returns:   (n, classes), each row with the sum 1.
    Raises:    ValueError for another shape, NaN or inf, or a temperature that is not above 0.
    Source:    Hinton, Vinyals, Dean 2015, arXiv:1503.02531, equation 1.
    Taught in: lesson 08.

    >>> soften(torch.tensor([[4.0, 2.0]]), 2.0)
    tensor([[0.7311, 0.2689]])
    """
    check_logits("logits", logits)
    check_temperature(temperature)
    return torch.softmax(logits / temperature, dim=1)


def distillation_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T² times the mean divergence KL(teacher ‖ student) of the probabilities at temperature T.

    The factor keeps the gradient's size from shrinking as 1/T². No gradient is stopped here: give the teacher's
    logits without one.

    Args:      student_logits, teacher_logits: (n, classes). temperature: above 0, for both.
    Returns:   a scalar of at least 0, in nats, averaged over the images.
    Raises:    ValueError for shapes that differ, NaN or inf, or a temperature that is not above 0.
    Source:    Hinton et al. 2015, arXiv:1503.02531, section 2.
    Taught in: lesson 08.

    >>> distillation_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), 2.0).round(decimals=4)
    tensor(0.4438)
    """
    check_pair(student_logits, teacher_logits)
    check_temperature(temperature)
    log_q = F.log_softmax(student_logits / temperature, dim=1)
    log_p = F.log_softmax(teacher_logits / temperature, dim=1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(1).mean()


def kd_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float, alpha: float
) -> dict[str, Tensor]:
    """The two weighted parts of Hinton's loss, whose sum is the loss.

    Args:      student_logits, teacher_logits: (n, classes). labels: (n,) int64.
               temperature: above 0, of the soft part. alpha: the soft part's weight, 0 to 1.
    Returns:   "hard", (1 - alpha) times the cross-entropy with the labels at temperature 1, and "soft", alpha times
               `distillation_kl`: scalars, averaged over the images.
    Raises:    ValueError for shapes that differ, labels out of range, NaN or inf, a temperature not above 0, an
               alpha outside 0..1.
    Source:    Hinton et al. 2015, arXiv:1503.02531, section 2.
    Taught in: lesson 08.

    >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]])
    >>> parts = kd_loss(student, teacher, torch.tensor([0]), temperature=2.0, alpha=0.5)
    >>> {name: round(part.item(), 4) for name, part in parts.items()}
    {'hard': 0.3466, 'soft': 0.2219}
    """
    check_pair(student_logits, teacher_logits)
    check_labels(labels, *student_logits.shape)
    check_temperature(temperature)
    check_alpha(alpha)
    log_q = F.log_softmax(student_logits / temperature, dim=1)
    p = F.softmax(teacher_logits / temperature, dim=1)
    return {
        "hard": (1 - alpha) * F.cross_entropy(student_logits, labels),
        "soft": alpha * temperature**2 * F.kl_div(log_q, p, reduction="batchmean"),
    }


def kd_gradient(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float, alpha: float
) -> Tensor:
    """The derivative of `kd_loss` with respect to the student's logits, by hand.

    For large T the soft part approaches alpha (z - v) / (n classes), z and v being the two logits without their
    means: the student then matches logits.

    Args:      as `kd_loss`.
    Returns:   (n, classes).
    Raises:    ValueError as `kd_loss`.
    Source:    Hinton et al. 2015, arXiv:1503.02531, equations 2 to 4.
    Taught in: lesson 08.

    >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]])
    >>> kd_gradient(student, teacher, torch.tensor([0]), temperature=2.0, alpha=1.0)
    tensor([[-0.4621,  0.4621]])
    """
    check_pair(student_logits, teacher_logits)
    check_labels(labels, *student_logits.shape)
    check_temperature(temperature)
    check_alpha(alpha)
    n, n_classes = student_logits.shape
    hard = torch.softmax(student_logits, 1) - F.one_hot(labels, n_classes)
    soft = torch.softmax(student_logits / temperature, 1) - torch.softmax(teacher_logits / temperature, 1)
    return ((1 - alpha) * hard + alpha * temperature * soft) / n


def smooth_targets(labels: Tensor, n_classes: int, smoothing: float) -> Tensor:
    """Targets of label smoothing: 1 - smoothing on the label, and `smoothing` spread evenly over all classes.

    Args:      labels: (n,) int64. n_classes: at least 2. smoothing: 0 to 1.
    Returns:   (n, n_classes) float32, each row with the sum 1.
    Raises:    ValueError for labels out of range or a smoothing outside 0..1.
    Source:    Szegedy et al. 2016, arXiv:1512.00567, section 7.
    Taught in: lesson 08.

    >>> smooth_targets(torch.tensor([2]), 4, 0.2)
    tensor([[0.0500, 0.0500, 0.8500, 0.0500]])
    """
    if n_classes < 2:
        raise ValueError(f"there must be at least 2 classes, got {n_classes}")
    check_labels(labels, len(labels), n_classes)
    if not 0 <= smoothing <= 1:
        raise ValueError(f"smoothing must be in 0..1, got {smoothing}")
    return (1 - smoothing) * F.one_hot(labels, n_classes).float() + smoothing / n_classes


@dataclass(frozen=True)
class DistillationLoss:
    """Hinton's loss as an objective: parts "hard" and "soft" of `kd_loss`.

    Args:      temperature: above 0. alpha: the soft part's weight, 0 to 1. loss: a function like `kd_loss`.
    Raises:    ValueError as `kd_loss`; when called, for a batch without a teacher.
    Source:    Hinton et al. 2015, arXiv:1503.02531, section 2. Taught in: lesson 08.
    """

    temperature: float = 4.0
    alpha: float = 0.7
    loss: Callable[..., dict[str, Tensor]] = kd_loss
    student_layers: tuple[str, ...] = ()
    teacher_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        check_alpha(self.alpha)

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        teacher_logits = logits_of_teacher(batch)
        return self.loss(batch.student_logits, teacher_logits, batch.labels, self.temperature, self.alpha)

    def parameters(self) -> tuple[nn.Parameter, ...]:
        """None."""
        return ()
