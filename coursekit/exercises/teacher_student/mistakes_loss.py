"""Known mistakes in Hinton's loss, in its gradient, and in its two decoupled parts.

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

__all__ = ["DECOUPLED_KL", "KD_GRADIENT", "KD_LOSS", "decoupled_probes", "loss_probes"]

Args = tuple[Any, ...]
Values = dict[str, Any]


def loss_probes() -> list[Args]:
    """Five images and four classes; three images and six; labels that the teacher does not always choose."""
    student, teacher = 2 * normal(5, 4, seed=6), 3 * normal(5, 4, seed=7)
    other, third = normal(3, 6, seed=8), 2 * normal(3, 6, seed=9)
    labels, few = torch.tensor([0, 3, 1, 1, 2]), torch.tensor([5, 0, 2])
    return [
        (student, teacher, labels, 3.0, 0.7),
        (student, teacher, labels, 0.5, 0.4),
        (other, third, few, 5.0, 0.9),
    ]


def decoupled_probes() -> list[Args]:
    """Logits for which no part is small beside the rounding of its terms, at T or at 1; the teacher often errs."""
    labels = torch.tensor([0, 3, 1, 1, 2])
    seeds = ((19, 81, 3.0), (42, 90, 1.5), (38, 92, 2.0))
    return [(2.5 * normal(5, 4, seed=a), 2.5 * normal(5, 4, seed=b), labels, t) for a, b, t in seeds]


def _kl(z: Tensor, v: Tensor, t: float) -> Tensor:
    return F.kl_div((z / t).log_softmax(1), (v / t).softmax(1), reduction="none").sum(1)


def _loss(
    *,
    hard: Callable[[Tensor, Tensor, Tensor, float], Tensor] = lambda z, v, y, t: F.cross_entropy(z, y),
    soft: Callable[[Tensor, Tensor, float], Tensor] = lambda z, v, t: _kl(z, v, t).mean(),
    weights: Callable[[float, float], tuple[float, float]] = lambda t, a: (1 - a, a * t**2),
    result: Callable[[Values], Any] = dict,
) -> Callable[..., Any]:
    """The loss of a hard and a soft term with weights(T, alpha), as result(parts)."""

    def wrong(z: Tensor, v: Tensor, y: Tensor, t: float, a: float) -> Any:
        on_hard, on_soft = weights(t, a)
        return result({"hard": on_hard * hard(z, v, y, t), "soft": on_soft * soft(z, v, t)})

    return wrong


KD_LOSS = (
    Mistake("alpha_reversed", "Your alpha weighs the labels. Here it weighs the teacher's part, and 1 - alpha the "
            "labels'. (Libraries differ in this: read before you copy a value.)",
            _loss(weights=lambda t, a: (a, (1 - a) * t**2))),
    Mistake("no_t_squared", "The soft part lacks its factor T².", _loss(weights=lambda t, a: (1 - a, a))),
    Mistake("t_squared_on_both", "You multiply the hard part by T² too. Only the soft part has shrunk.",
            _loss(weights=lambda t, a: ((1 - a) * t**2, a * t**2))),
    Mistake("parts_without_weights", "You return the parts as they are before weights and T². Report what enters the "
            "sum: then the parts add up to the loss.", _loss(weights=lambda t, a: (1.0, 1.0))),
    Mistake("only_t_squared", "alpha and 1 - alpha are missing: both parts enter whole.",
            _loss(weights=lambda t, a: (1.0, t**2))),
    Mistake("hard_at_temperature", "Your hard part is softened as well. The labels are compared at temperature 1.",
            _loss(hard=lambda z, v, y, t: F.cross_entropy(z / t, y))),
    Mistake("hard_from_the_teacher", "Your hard part compares with the class that the teacher chooses. It is for the "
            "labels.", _loss(hard=lambda z, v, y, t: F.cross_entropy(z, v.argmax(1)))),
    Mistake("hard_of_the_teacher", "Your hard part is the teacher's cross-entropy with the labels: the student cannot "
            "lower it.", _loss(hard=lambda z, v, y, t: F.cross_entropy(v, y))),
    Mistake("mean_over_elements", "Your soft part is divided by images times classes (reduction='mean'). Divide by the "
            "images: 'batchmean'.", _loss(soft=lambda z, v, t: _kl(z, v, t).mean() / z.shape[1])),
    Mistake("kl_swapped", "Teacher and student have changed places in the soft part: it is KL(teacher ‖ student).",
            _loss(soft=lambda z, v, t: _kl(v, z, t).mean())),
    Mistake("one_side_only", "Only the teacher is softened. Student and teacher are both taken at T.",
            _loss(soft=lambda z, v, t: _kl(z, v / t, 1.0).mean())),
    Mistake("probabilities_for_logarithms", "F.kl_div wants the student's *logarithms* first: log_softmax.",
            _loss(soft=lambda z, v, t: F.kl_div((z / t).softmax(1), (v / t).softmax(1), reduction="batchmean"))),
    Mistake("total_among_the_parts", "There is a total among the parts, so that their sum counts everything twice. "
            "Return \"hard\" and \"soft\" only.",
            _loss(result=lambda parts: {**parts, "total": parts["hard"] + parts["soft"]})),
    Mistake("only_the_sum", "You return the sum. Return the two parts, in a dict.",
            _loss(result=lambda parts: parts["hard"] + parts["soft"])),
    Mistake("numbers", "Your parts are Python numbers: nothing can be learned from those. Leave out .item().",
            _loss(result=lambda parts: {name: part.item() for name, part in parts.items()})),
)  # fmt: skip


def _gradient(
    *, factor: Callable[[float], float] = lambda t: t, hard: Callable[[Tensor, Tensor, float], Tensor] | None = None,
    teacher: Callable[[float], float] = lambda t: t,
    alphas: Callable[[float], tuple[float, float]] = lambda a: (1 - a, a),
    scale: Callable[[Tensor], float] = lambda z: 1 / len(z),
) -> Callable[..., Tensor]:  # fmt: skip
    """(on_hard · hard + on_soft · factor(T) · (q - p)) · scale, with p at temperature teacher(T)."""

    def wrong(z: Tensor, v: Tensor, y: Tensor, t: float, a: float) -> Tensor:
        on_hard, on_soft = alphas(a)
        hot = F.one_hot(y, z.shape[1]).float()
        first = z.softmax(1) - hot if hard is None else hard(z, hot, t)
        second = (z / t).softmax(1) - (v / teacher(t)).softmax(1)
        return (on_hard * first + on_soft * factor(t) * second) * scale(z)

    return wrong


def _matches_logits(z: Tensor, v: Tensor, y: Tensor, t: float, a: float) -> Tensor:
    limit = (z - z.mean(1, keepdim=True) - v + v.mean(1, keepdim=True)) / z.shape[1]
    hard = z.softmax(1) - F.one_hot(y, z.shape[1]).float()
    return ((1 - a) * hard + a * limit) / len(z)


KD_GRADIENT = (
    Mistake("not_averaged", "You give each image's own gradient. The loss is a mean: divide by the number of images.",
            _gradient(scale=lambda z: 1.0)),
    Mistake("averaged_over_elements", "You divide by images times classes. The mean is over images.",
            _gradient(scale=lambda z: 1 / z.numel())),
    Mistake("chain_rule_forgotten", "Your factor is T². But z enters as z/T, and its derivative is 1/T: T remains.",
            _gradient(factor=lambda t: t**2)),
    Mistake("no_factor", "Your soft part has no factor of T. T² comes from the loss and 1/T from z/T.",
            _gradient(factor=lambda t: 1.0)),
    Mistake("t_squared_forgotten", "Your factor is 1/T: the T² of the loss is missing.",
            _gradient(factor=lambda t: 1 / t)),
    Mistake("sign", "The sign is wrong: the gradient is the student's probability minus the target's, and a step goes "
            "against it.", _gradient(scale=lambda z: -1 / len(z))),
    Mistake("alpha_reversed", "alpha is the weight of the soft part, 1 - alpha of the hard one.",
            _gradient(alphas=lambda a: (a, 1 - a))),
    Mistake("hard_at_temperature", "The hard part is taken at temperature 1.",
            _gradient(hard=lambda z, hot, t: (z / t).softmax(1) - hot)),
    Mistake("labels_not_subtracted", "In the hard part the one-hot label is to be subtracted.",
            _gradient(hard=lambda z, hot, t: z.softmax(1))),
    Mistake("teacher_at_one", "The teacher's probabilities are those at temperature 1. Take them at T too.",
            _gradient(teacher=lambda t: 1.0)),
    Mistake("no_alphas", "The weights 1 - alpha and alpha are missing.", _gradient(alphas=lambda a: (1.0, 1.0))),
    Mistake("matches_logits", "This is the limit for large T, in which the student matches logits. For a finite T it "
            "is the probabilities that are compared.", _matches_logits),
)  # fmt: skip


def _apart(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities of (label, rest), of the other classes among themselves, and of them among all."""
    logs = z.log_softmax(1)
    hot = F.one_hot(y, z.shape[1]).bool()
    others = logs[~hot].reshape(len(z), -1)
    rest = others.logsumexp(1, keepdim=True)
    return torch.cat([logs[hot].unsqueeze(1), rest], 1), others - rest, others


def _divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(1)


def _decoupled(result: Callable[..., Any], chosen: Callable[[Tensor, Tensor], Tensor] = lambda v, y: y,
               at: Callable[[float], float] = lambda t: t) -> Callable[..., Any]:  # fmt: skip
    """result(teacher's triple of `_apart`, the student's, T) with the class `chosen` as the label."""

    def wrong(z: Tensor, v: Tensor, y: Tensor, t: float) -> Any:
        label = chosen(v, y)
        return result(_apart(v / at(t), label), _apart(z / at(t), label), t)

    return wrong


def _parts(p: Any, q: Any, t: float) -> tuple[Tensor, Tensor]:
    return _divergence(p[0], q[0]), _divergence(p[1], q[1])


def _label_at_zero(z: Tensor, v: Tensor, y: Tensor, t: float) -> tuple[Tensor, Tensor]:
    hot = F.one_hot(y, z.shape[1]).bool()
    blanked = [torch.where(hot, 0.0, logits / t).log_softmax(1) for logits in (v, z)]
    return _decoupled(_parts)(z, v, y, t)[0], _divergence(*blanked)


def _label_included(z: Tensor, v: Tensor, y: Tensor, t: float) -> tuple[Tensor, Tensor]:
    return _decoupled(_parts)(z, v, y, t)[0], _kl(z, v, t)


DECOUPLED_KL = (
    Mistake("others_not_renormalised", "The other classes must add up to 1 again before you compare them.",
            _decoupled(lambda p, q, t: (_divergence(p[0], q[0]), _divergence(p[2], q[2])))),
    Mistake("others_weighted", "Your second part is already multiplied by 1 - p. Taking that weight away is the point.",
            _decoupled(lambda p, q, t: (_divergence(p[0], q[0]), p[0][:, 1].exp() * _divergence(p[1], q[1])))),
    Mistake("label_term_only", "The first part compares two outcomes, label and not label. You have the first only.",
            _decoupled(lambda p, q, t: (p[0][:, 0].exp() * (p[0] - q[0])[:, 0], _divergence(p[1], q[1])))),
    Mistake("no_temperature", "The logits are not divided by T.", _decoupled(_parts, at=lambda t: 1.0)),
    Mistake("kl_swapped", "Teacher and student have changed places: the weights are the teacher's probabilities.",
            _decoupled(lambda p, q, t: _parts(q, p, t))),
    Mistake("teachers_choice", "You take the class that the teacher chooses for the target. It is the label's, even "
            "where the teacher errs.", _decoupled(_parts, chosen=lambda v, y: v.argmax(1))),
    Mistake("averaged", "You return the means over the images. Here it is one value for each image.",
            _decoupled(lambda p, q, t: tuple(part.mean() for part in _parts(p, q, t)))),
    Mistake("order", "The parts are in the wrong order: first the label's, then the others'.",
            _decoupled(lambda p, q, t: _parts(p, q, t)[::-1])),
    Mistake("label_at_zero", "You set the label's logit to 0 to leave it out. 0 is a logit like any other: take the "
            "column away, or set it to -inf.", _label_at_zero),
    Mistake("label_included", "Your second part still includes the label: it is the whole divergence.",
            _label_included),
    Mistake("t_squared", "There is a factor T² in your parts. Here they are bare divergences; the objective adds it.",
            _decoupled(lambda p, q, t: tuple(t**2 * part for part in _parts(p, q, t)))),
)  # fmt: skip
