"""One pass of distillation over batches, as short as it can be said; `distill` is the same for long runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from coursekit.train import eval_mode

__all__ = ["distill_epoch"]


def distill_epoch(
    student: nn.Module,
    teacher: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor, Tensor], dict[str, Tensor]],
    lr: float,
) -> list[dict[str, float]]:
    """The parts of the loss at each step of one pass in which the teacher teaches the student.

    The student is trained in place by plain SGD and left in eval mode. The teacher answers in eval mode; its modes,
    its weights and their `requires_grad` stay as they were, and it gets no gradients.

    Args:      student, teacher: classifiers of the same images. batches: (images, labels) pairs.
               loss: (student_logits, teacher_logits, labels) to named parts; their sum is minimised.
               lr: the learning rate.
    Returns:   one dict a batch, part to value, from before the step.
    Source:    Hinton et al. 2015, arXiv:1503.02531.
    Taught in: lesson 08.
    """
    optimizer = torch.optim.SGD(student.parameters(), lr=lr)
    student.train()
    log = []
    with eval_mode(teacher):
        for images, labels in batches:
            with torch.no_grad():
                teacher_logits = teacher(images)
            parts = loss(student(images), teacher_logits, labels)
            optimizer.zero_grad()
            torch.stack([*parts.values()]).sum().backward()
            optimizer.step()
            log.append({name: part.item() for name, part in parts.items()})
    student.eval()
    return log
