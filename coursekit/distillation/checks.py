"""Refusals that losses on logits share: each says what is wrong and what to do."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from coursekit.distillation.objective import Batch

__all__ = [
    "check_alpha",
    "check_labels",
    "check_logits",
    "check_pair",
    "check_temperature",
    "logits_of_teacher",
]


def check_temperature(temperature: float) -> None:
    """Raises ValueError unless the temperature is finite and above 0."""
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(
            f"temperature must be finite and above 0, got {temperature}; 1 leaves logits as they are"
        )


def check_alpha(alpha: float) -> None:
    """Raises ValueError unless alpha is a share."""
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is the share of the teacher's part, from 0 to 1, got {alpha}")


def check_logits(name: str, logits: Tensor) -> None:
    """Raises ValueError unless `logits`, called `name`, are finite, floating-point and of shape (n, classes)."""
    if not logits.is_floating_point():
        raise ValueError(f"{name} must hold floating-point logits, got {logits.dtype}")
    if logits.dim() != 2 or len(logits) == 0 or logits.shape[1] < 2:
        raise ValueError(
            f"{name} must be (n, classes), at least one image and two classes, got {tuple(logits.shape)}"
        )
    if not logits.isfinite().all():
        raise ValueError(f"{name} holds NaN or inf: the training has diverged; lower its learning rate")


def check_pair(student_logits: Tensor, teacher_logits: Tensor) -> None:
    """Raises ValueError unless both are logits, of one shape."""
    check_logits("student_logits", student_logits)
    check_logits("teacher_logits", teacher_logits)
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student_logits {tuple(student_logits.shape)} and teacher_logits {tuple(teacher_logits.shape)} differ: "
            "both must be for the same images and classes"
        )


def check_labels(labels: Tensor, n: int, n_classes: int) -> None:
    """Raises ValueError unless the labels are n int64 from 0 to n_classes - 1."""
    if labels.dtype != torch.int64 or labels.shape != (n,):
        raise ValueError(
            f"labels must be int64 of shape ({n},), got {labels.dtype} of shape {tuple(labels.shape)}"
        )
    if n and not (int(labels.min()) >= 0 and int(labels.max()) < n_classes):
        raise ValueError(
            f"labels must be 0 to {n_classes - 1}, got {int(labels.min())} to {int(labels.max())}"
        )


def logits_of_teacher(batch: Batch) -> Tensor:
    """The batch's teacher logits without a gradient; ValueError if there are none."""
    if batch.teacher_logits is None:
        raise ValueError("this objective needs a teacher, and the batch has none: give distill one")
    return batch.teacher_logits.detach()
