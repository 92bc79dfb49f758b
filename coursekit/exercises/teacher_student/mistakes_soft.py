"""Known mistakes in soft targets: the softened probabilities, their divergence, and smoothed labels.

Each `wrong` makes one mistake and no other; a check recognises it by equal results on every probe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.exercises.inputs import normal
from coursekit.exercises.spec import Mistake

__all__ = ["DISTILLATION_KL", "SMOOTH_TARGETS", "SOFTEN", "kl_probes", "smooth_probes", "soften_probes"]

Args = tuple[Any, ...]


def soften_probes() -> list[Args]:
    """Ordinary logits at three temperatures, and logits too large for a bare exponential."""
    logits = 3 * normal(3, 5, seed=1)
    large = torch.tensor([[300.0, 296.0, 290.0], [10.0, 120.0, 119.0]])
    return [(logits, 0.5), (logits, 2.0), (logits, 7.0), (large, 2.0)]


def _bare_exponential(logits: Tensor, temperature: float) -> Tensor:
    e = torch.exp(logits / temperature)
    return e / e.sum(1, keepdim=True)


SOFTEN = (
    Mistake("no_temperature", "Your result does not depend on the temperature. Dividing the exponentials by it does "
            "nothing either: it cancels. Divide the logits.", lambda z, t: torch.softmax(z, 1)),
    Mistake("multiplies", "You multiply by the temperature: the hotter, the sharper. Divide.",
            lambda z, t: torch.softmax(z * t, 1)),
    Mistake("divides_the_probabilities", "You divide the probabilities by the temperature, and they no longer add up "
            "to 1. Divide the logits, before the softmax.", lambda z, t: torch.softmax(z, 1) / t),
    Mistake("over_the_images", "Your softmax runs over the images (dim 0). Each image's classes share one probability: "
            "dim 1.", lambda z, t: torch.softmax(z / t, 0)),
    Mistake("logarithms", "You return logarithms of probabilities. Here it is the probabilities.",
            lambda z, t: torch.log_softmax(z / t, 1)),
    Mistake("not_normalised", "You return the exponentials. Divide each row by its sum.",
            lambda z, t: torch.exp(z / t)),
    Mistake("squared", "You divide by T². The square belongs to the loss, not to the softmax.",
            lambda z, t: torch.softmax(z / t**2, 1)),
    Mistake("overflows", "Large logits give NaN: exp overflows. Subtract each row's largest logit first, or let "
            "torch.softmax do it.", _bare_exponential),
    Mistake("power_not_normalised", "You take the probabilities to the power 1/T, which is right up to a factor: "
            "divide each row by its sum.", lambda z, t: torch.softmax(z, 1) ** (1 / t)),
    Mistake("one_row", "You share one probability among all classes of all images. Each row adds up to 1.",
            lambda z, t: torch.softmax((z / t).flatten(), 0).reshape(z.shape)),
)  # fmt: skip


def kl_probes() -> list[Args]:
    """Logits of five images and four classes, and of three images and seven, at temperatures either side of 1."""
    student, teacher = 2 * normal(5, 4, seed=2), 3 * normal(5, 4, seed=3)
    other, third = normal(3, 7, seed=4), 2 * normal(3, 7, seed=5)
    return [(student, teacher, 0.5), (student, teacher, 3.0), (other, third, 2.0)]


def _logs(z: Tensor, v: Tensor, t: float) -> tuple[Tensor, Tensor]:
    return torch.log_softmax(z / t, 1), torch.log_softmax(v / t, 1)


def _kl(log_q: Tensor, log_p: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(1)


def _with(change: Callable[[Tensor, float, Tensor], Tensor]) -> Callable[..., Tensor]:
    """The loss made of the divergence of each image (n,), the temperature, and the student's logits."""

    def wrong(z: Tensor, v: Tensor, t: float) -> Tensor:
        return change(_kl(*_logs(z, v, t)), t, z)

    return wrong


def _cross_entropy(z: Tensor, v: Tensor, t: float) -> Tensor:
    log_q, log_p = _logs(z, v, t)
    return -(t**2) * (log_p.exp() * log_q).sum(1).mean()


def _swapped(z: Tensor, v: Tensor, t: float) -> Tensor:
    log_q, log_p = _logs(z, v, t)
    return t**2 * _kl(log_p, log_q).mean()


def _one_side(student: bool, teacher: bool) -> Callable[..., Tensor]:
    def wrong(z: Tensor, v: Tensor, t: float) -> Tensor:
        log_q = torch.log_softmax(z / t if student else z, 1)
        log_p = torch.log_softmax(v / t if teacher else v, 1)
        return t**2 * _kl(log_q, log_p).mean()

    return wrong


def _given_to_kl_div(first: Callable[..., Tensor], second: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def wrong(z: Tensor, v: Tensor, t: float) -> Tensor:
        return t**2 * F.kl_div(first(z / t, dim=1), second(v / t, dim=1), reduction="batchmean")

    return wrong


def _over_the_images(z: Tensor, v: Tensor, t: float) -> Tensor:
    return t**2 * _kl(torch.log_softmax(z / t, 0), torch.log_softmax(v / t, 0)).mean()


DISTILLATION_KL = (
    Mistake("no_t_squared", "The factor T² is missing: at T = 4 your soft part pulls 16 times more weakly.",
            _with(lambda kl, t, z: kl.mean())),
    Mistake("t_once", "Your factor is T. The gradient shrinks as 1/T²: once from the logits, once from the "
            "probabilities, which come closer.", _with(lambda kl, t, z: t * kl.mean())),
    Mistake("divides_by_t_squared", "You divide by T². The divergence shrinks with T already; multiply.",
            _with(lambda kl, t, z: kl.mean() / t**2)),
    Mistake("mean_over_elements", "You divide by the number of images times the number of classes, as kl_div does with "
            "reduction='mean'. It should be the number of images: 'batchmean'.",
            _with(lambda kl, t, z: t**2 * kl.sum() / z.numel())),
    Mistake("sum_over_images", "You add up over the images: the loss then grows with the batch. Take the mean.",
            _with(lambda kl, t, z: t**2 * kl.sum())),
    Mistake("kl_swapped", "You compute KL(student ‖ teacher). The weights in front of the logarithms are the teacher's "
            "probabilities.", _swapped),
    Mistake("only_the_teacher_soft", "Only the teacher's logits are divided by T. Both are: else even a perfect "
            "student has a loss.", _one_side(False, True)),
    Mistake("only_the_student_soft", "Only the student's logits are divided by T. Both are.", _one_side(True, False)),
    Mistake("cross_entropy", "This is the cross-entropy with the soft targets: its gradient is the same, but it is not "
            "0 for a perfect student. Add the teacher's p log p.", _cross_entropy),
    Mistake("probabilities_for_logarithms", "F.kl_div wants the student's *logarithms* first: log_softmax.",
            _given_to_kl_div(F.softmax, F.softmax)),
    Mistake("logarithms_of_the_teacher", "F.kl_div wants the teacher's *probabilities* second, unless you say "
            "log_target=True.", _given_to_kl_div(F.log_softmax, F.log_softmax)),
    Mistake("over_the_images", "Your softmax runs over the images (dim 0). The classes are dim 1.", _over_the_images),
    Mistake("negative", "The sign is wrong: a divergence is never below 0. It is p times (log p - log q).",
            _with(lambda kl, t, z: -(t**2) * kl.mean())),
    Mistake("image_by_image", "You return one value for each image: take the mean.", _with(lambda kl, t, z: t**2 * kl)),
)  # fmt: skip


def smooth_probes() -> list[Args]:
    """As many images as classes in one, more and fewer in the others."""
    return [
        (torch.tensor([1, 0, 3, 1]), 4, 0.2),
        (torch.tensor([2, 5, 0]), 6, 0.5),
        (torch.tensor([0, 2, 1, 1, 2]), 3, 0.1),
    ]


def _smoothed(
    on_label: Callable[[int, float], float], on_others: Callable[[int, float], float]
) -> Callable[..., Tensor]:
    """Targets with on_label(classes, smoothing) on the label and on_others(…) elsewhere."""

    def wrong(labels: Tensor, n_classes: int, smoothing: float) -> Tensor:
        targets = torch.full((len(labels), n_classes), on_others(n_classes, smoothing))
        targets[torch.arange(len(labels)), labels] = on_label(n_classes, smoothing)
        return targets

    return wrong


def _by_images(labels: Tensor, n_classes: int, smoothing: float) -> Tensor:
    return (1 - smoothing) * F.one_hot(labels, n_classes).float() + smoothing / len(labels)


_right = _smoothed(lambda k, s: 1 - s + s / k, lambda k, s: s / k)

SMOOTH_TARGETS = (
    Mistake("others_only", "You share the smoothing among the *other* classes, so the label gets 1 - smoothing. That "
            "is another convention; here, as in PyTorch, the label gets its share too.",
            _smoothed(lambda k, s: 1 - s, lambda k, s: s / (k - 1))),
    Mistake("label_without_its_share", "The rows add up to less than 1: the label gets its share of the smoothing too.",
            _smoothed(lambda k, s: 1 - s, lambda k, s: s / k)),
    Mistake("label_not_reduced", "The rows add up to more than 1: the label's 1 must go down by the smoothing.",
            _smoothed(lambda k, s: 1 + s / k, lambda k, s: s / k)),
    Mistake("not_divided", "Every class gets the whole smoothing. Divide it by the number of classes.",
            _smoothed(lambda k, s: 1.0, lambda k, s: s)),
    Mistake("label_divided_only", "The label is right but the others get the whole smoothing.",
            _smoothed(lambda k, s: 1 - s + s / k, lambda k, s: s)),
    Mistake("reversed", "You keep `smoothing` of the label and spread the rest. It is the other way round.",
            _smoothed(lambda k, s: s + (1 - s) / k, lambda k, s: (1 - s) / k)),
    Mistake("hard", "These are the hard targets: nothing is spread.", _smoothed(lambda k, s: 1.0, lambda k, s: 0.0)),
    Mistake("uniform", "Every class gets the same, whatever the smoothing.",
            _smoothed(lambda k, s: 1 / k, lambda k, s: 1 / k)),
    Mistake("transposed", "Your result is (classes, images). It should be (images, classes).",
            lambda labels, k, s: _right(labels, k, s).T.contiguous()),
    Mistake("divided_by_images", "You divide by the number of images. The smoothing is shared among the classes.",
            _by_images),
)  # fmt: skip
