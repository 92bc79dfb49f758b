"""Known mistakes in a pass of distillation.

Each `wrong` makes one mistake and no other; a check recognises it by equal results on every probe.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch

from coursekit.exercises.inputs import normal
from coursekit.exercises.spec import Fixture, Mistake

__all__ = ["DISTILL_EPOCH", "epoch_probes", "some_batches"]

Args = tuple[Any, ...]


def some_batches(n: int, size: int = 12, seed: int = 0) -> list[Args]:
    """n batches of (n, 6) inputs with labels 0 to 3."""
    return [(normal(size, 6, seed=seed + i), torch.arange(size).add(i).remainder(4)) for i in range(n)]


def epoch_probes() -> list[Args]:
    """A student in eval mode, a teacher in training mode, as nobody should leave them; three batches, then two."""
    importlib.import_module("torch._dynamo")  # now, not while a call's time is measured
    student, teacher = Fixture("teaching.network", (1, False)), Fixture("teaching.network", (2, True))
    loss = Fixture("teaching.loss", (3.0, 0.6))
    return [(student, teacher, some_batches(n, seed=n), loss, lr) for n, lr in ((3, 0.1), (2, 0.5))]


def _epoch(
    *, teacher_mode: bool = False, student_mode: bool = True, zero: bool = True, step: bool = True,
    swapped: bool = False, part: str = "", after: bool = False, mean: bool = False, own_labels: bool = False,
    teach_teacher: bool = False, first_batch: bool = False, result: Callable[[list[dict[str, Any]]], Any] = list,
) -> Callable[..., Any]:  # fmt: skip
    def wrong(student: Any, teacher: Any, batches: list[Args], loss: Any, lr: float) -> Any:
        weights = [*student.parameters(), *(teacher.parameters() if teach_teacher else ())]
        optimizer = torch.optim.SGD(weights, lr)
        student.train(student_mode)
        teacher.train(teacher_mode)
        log = []
        for images, labels in [batches[0]] * len(batches) if first_batch else batches:

            def parts_of(images: Any = images, labels: Any = labels) -> Any:
                answers = teacher(images) if teach_teacher else teacher(images).detach()
                logits = (answers, student(images)) if swapped else (student(images), answers)
                return loss(*logits, answers.argmax(1) if own_labels else labels)

            parts = parts_of()
            total = parts[part] if part else sum(parts.values()) / (len(parts) if mean else 1)
            if zero:
                optimizer.zero_grad()
            total.backward()
            if step:
                optimizer.step()
            log.append({name: value.item() for name, value in (parts_of() if after else parts).items()})
        student.eval()
        return result(log)

    return wrong


DISTILL_EPOCH = (
    Mistake("teacher_in_training_mode", "Your teacher answers in training mode: its batch norms use the batch, and "
            "drift. Put it in eval mode while it answers.", _epoch(teacher_mode=True)),
    Mistake("student_in_eval_mode", "Your student learns in eval mode, with its batch norms standing still.",
            _epoch(student_mode=False)),
    Mistake("gradients_pile_up", "Gradients pile up from batch to batch: zero_grad before each backward.",
            _epoch(zero=False)),
    Mistake("no_step", "The student never changes: where is the optimizer's step?", _epoch(step=False)),
    Mistake("logits_swapped", "The loss gets the teacher's logits first. It wants (student, teacher, labels).",
            _epoch(swapped=True)),
    Mistake("labels_part_only", "Only the first part of the loss is learned from. The loss is the sum of all parts.",
            _epoch(part="labels")),
    Mistake("teacher_part_only", "Only the last part of the loss is learned from. The loss is the sum of all parts.",
            _epoch(part="teacher")),
    Mistake("mean_of_the_parts", "You learn from the mean of the parts. The loss is their sum.", _epoch(mean=True)),
    Mistake("logged_after_the_step", "You report what the loss is after the step. Report what the step was made of.",
            _epoch(after=True)),
    Mistake("teachers_labels", "You hand the classes that the teacher chooses to the loss, in place of the labels.",
            _epoch(own_labels=True)),
    Mistake("trains_the_teacher", "Your optimizer moves the teacher too. Give it the student's parameters only.",
            _epoch(teach_teacher=True)),
    Mistake("one_batch_only", "You learn from the first batch each time.", _epoch(first_batch=True)),
    Mistake("totals", "You return the total of each step. Return its parts, as a dict.",
            _epoch(result=lambda log: [sum(parts.values()) for parts in log])),
    Mistake("last_only", "You return the last step's parts. Return those of every step, in a list.",
            _epoch(result=lambda log: log[-1])),
)  # fmt: skip
