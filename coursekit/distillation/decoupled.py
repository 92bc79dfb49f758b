"""The divergence between teacher and student in two parts that can be weighted apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.distillation.checks import check_labels, check_pair, check_temperature, logits_of_teacher
from coursekit.distillation.objective import Batch

__all__ = ["DecoupledDistillationLoss", "decoupled_kl"]


def decoupled_kl(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """The two divergences that KL(teacher ‖ student) at temperature T is made of, image by image.

    With p the teacher's probability of the label, KL = target + (1 - p) · others: the surer the teacher, the less
    plain distillation listens to what it says of the other classes.

    Args:      student_logits, teacher_logits: (n, classes). labels: (n,) int64. temperature: above 0.
    Returns:   two (n,): "target", the divergence between label and not label, and "others", the divergence among
               the other classes, made to add up to 1 again. Neither has a factor T².
    Raises:    ValueError as `kd_loss`.
    Source:    Zhao et al. 2022, arXiv:2203.08679, section 3.2 (TCKD and NCKD).
    Taught in: lesson 08.

    >>> student, teacher = torch.zeros(1, 3), torch.tensor([[2.0, 1.0, 0.0]])
    >>> [part.round(decimals=4) for part in decoupled_kl(student, teacher, torch.tensor([0]), 1.0)]
    [tensor([0.2291]), tensor([0.1109])]
    """
    check_pair(student_logits, teacher_logits)
    check_labels(labels, *student_logits.shape)
    check_temperature(temperature)
    target_p, others_p = _target_and_others(teacher_logits / temperature, labels)
    target_q, others_q = _target_and_others(student_logits / temperature, labels)
    target = (target_p.exp() * (target_p - target_q)).sum(1)
    others = (others_p.exp() * (others_p - others_q)).sum(1)
    return target, others


def _target_and_others(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of (label, not label) (n, 2), and of the other classes among themselves (n, classes - 1)."""
    n, n_classes = logits.shape
    is_label = F.one_hot(labels, n_classes).bool()
    others = logits[~is_label].reshape(n, n_classes - 1)
    binary = torch.stack([logits[is_label], others.logsumexp(1)], dim=1)
    return F.log_softmax(binary, dim=1), F.log_softmax(others, dim=1)


@dataclass(frozen=True)
class DecoupledDistillationLoss:
    """Decoupled distillation as an objective: "hard", "target" and "others", with weights of their own.

    Args:      temperature: above 0. target, others: weights of the parts of `decoupled_kl`, T² comes on top.
               hard: weight of the cross-entropy with the labels.
    Raises:    ValueError for a weight below 0; as `kd_loss`; when called, for a batch without a teacher.
    Source:    Zhao et al. 2022, arXiv:2203.08679, section 3.3. Taught in: lesson 08.
    """

    temperature: float = 4.0
    target: float = 1.0
    others: float = 4.0
    hard: float = 1.0
    student_layers: tuple[str, ...] = ()
    teacher_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        for name in ("target", "others", "hard"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is a weight: finite and not negative, got {getattr(self, name)}")

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        target, others = decoupled_kl(
            batch.student_logits, logits_of_teacher(batch), batch.labels, self.temperature
        )
        factor = self.temperature**2
        return {
            "hard": self.hard * F.cross_entropy(batch.student_logits, batch.labels),
            "target": factor * self.target * target.mean(),
            "others": factor * self.others * others.mean(),
        }

    def parameters(self) -> tuple[nn.Parameter, ...]:
        """None."""
        return ()
