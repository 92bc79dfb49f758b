"""Known mistakes with several teachers. Each `wrong` makes one and no other; equal results on all probes show it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.inputs import normal
from coursekit.exercises.spec import Mistake

__all__ = ["ENSEMBLE_PROBABILITIES", "ENSEMBLE_WEIGHTS", "probabilities_probes", "weights_probes"]

Args = tuple[Any, ...]
Weights = Sequence[float] | Tensor | None


def weights_probes() -> list[Args]:
    """Good weights in a list and a tensor, none, and each kind of bad ones."""
    return [
        ([3.0, 1.0], 2),
        ([0.5, 0.25, 0.0], 3),
        (None, 4),
        (torch.tensor([2.0, 6.0]), 2),
        ([1.0, 3.0], 3),
        ([1.0, 2.0, 5.0], 2),
        ([2.0, -0.5], 2),
        ([0.0, 0.0], 2),
        ([math.nan, 1.0], 2),
        ([math.inf, 1.0], 2),
    ]


def _numbers(weights: Weights, n_teachers: int) -> list[float]:
    return [1.0] * n_teachers if weights is None else [float(w) for w in weights]


def _checked(weights: Weights, n_teachers: int, skip: str = "") -> list[float]:
    """The weights as numbers, with all checks but one."""
    given = _numbers(weights, n_teachers)
    if skip != "length" and len(given) != n_teachers:
        raise ValueError("length")
    if skip != "nan" and any(math.isnan(w) for w in given):
        raise ValueError("NaN")
    if skip != "inf" and any(math.isinf(w) for w in given):
        raise ValueError("infinite")
    if skip != "negative" and any(w < 0 for w in given):
        raise ValueError("negative")
    if skip != "zero" and sum(given) == 0:
        raise ValueError("all zero")
    return given


def _divided(given: list[float], total: float | None = None) -> list[float]:
    total = sum(given) if total is None else total
    return [w / total if total else math.nan for w in given]


def _not_normalised(weights: Weights, n_teachers: int) -> list[float]:
    return [1 / n_teachers] * n_teachers if weights is None else _checked(weights, n_teachers)


def _ones_for_none(weights: Weights, n_teachers: int) -> list[float]:
    return [1.0] * n_teachers if weights is None else _divided(_checked(weights, n_teachers))


def _softmax(weights: Weights, n_teachers: int) -> list[float]:
    given = _checked(weights, n_teachers)
    return _divided([math.exp(w) for w in given])


def _truncated(weights: Weights, n_teachers: int) -> list[float]:
    given = _checked(weights, n_teachers, "length")[:n_teachers]
    return _divided(given)


def _absolute(weights: Weights, n_teachers: int) -> list[float]:
    return _divided([abs(w) for w in _checked(weights, n_teachers, "negative")])


def _truth_value(weights: Weights, n_teachers: int) -> list[float]:
    if isinstance(weights, Tensor):
        raise RuntimeError("Boolean value of Tensor with more than one value is ambiguous")
    return _divided(_checked(weights, n_teachers))


ENSEMBLE_WEIGHTS = (
    Mistake("not_normalised", "The weights come back as they were given. They must add up to 1: divide by their sum.",
            _not_normalised),
    Mistake("softmax_of_weights", "A softmax adds up to 1, but it changes the proportions: 3 and 1 become 0.88 and "
            "0.12.",
            _softmax),
    Mistake("divided_by_largest", "You divide by the largest weight. The sum is what makes them add up to 1.",
            lambda weights, n: _divided(given := _checked(weights, n), max(given))),
    Mistake("divided_by_number", "You divide by the number of teachers: right only if the weights add up to that "
            "number.",
            lambda weights, n: _divided(_checked(weights, n), n)),
    Mistake("ignores_weights", "All weights come out equal, whatever was given.",
            lambda weights, n: [1 / n] * len(_checked(weights, n))),
    Mistake("ones_for_none", "For None every teacher gets 1.0, so the weights add up to their number, not to 1.",
            _ones_for_none),
    Mistake("extra_weights_dropped", "A wrong number of weights goes through: the rest is dropped silently, as zip "
            "does. Refuse it.", _truncated),
    Mistake("negative_accepted", "A negative weight goes through. With it an average may leave 0..1: refuse it.",
            lambda weights, n: _divided(_checked(weights, n, "negative"))),
    Mistake("absolute_values", "You take the absolute value of a negative weight. It can only be an error: refuse it.",
            _absolute),
    Mistake("zeros_accepted", "Weights that are all 0 have a sum of 0, and 0 / 0 is no weight: refuse them.",
            lambda weights, n: _divided(_checked(weights, n, "zero"))),
    Mistake("nan_accepted", "NaN goes through: every comparison with it is False. Ask math.isfinite.",
            lambda weights, n: _divided(_checked(weights, n, "nan"))),
    Mistake("infinity_accepted", "An infinite weight goes through, and inf / inf is NaN. Ask math.isfinite.",
            lambda weights, n: _divided(_checked(weights, n, "inf"))),
    Mistake("truth_of_a_tensor", "`weights or …` asks a whole tensor whether it is true, which raises. Compare with "
            "None.",
            _truth_value),
)  # fmt: skip


def probabilities_probes() -> list[Args]:
    """Quiet teachers and a loud one, unequal weights, several temperatures."""
    quiet = [normal(4, 3, seed=s) * 2 for s in range(2)]
    loud = normal(4, 3, seed=9) * 30
    return [
        ([*quiet, loud], [0.5, 0.2, 0.3], 1.0),
        ([*quiet, loud], [0.2, 0.2, 0.6], 4.0),
        ([loud, *quiet], [0.7, 0.1, 0.2], 0.5),
        (quiet, [0.25, 0.75], 2.0),
    ]


def _mean(parts: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    return torch.stack([w * p for w, p in zip(weights, parts, strict=True)]).sum(0)


def _soft(logits: Sequence[Tensor], temperature: float, dim: int = 1) -> list[Tensor]:
    return [(z / temperature).softmax(dim) for z in logits]


def _at_one_then_softened(logits: Any, weights: Any, temperature: float = 1.0) -> Tensor:
    powered = _mean(_soft(logits, 1.0), weights) ** (1 / temperature)
    return powered / powered.sum(1, keepdim=True)


def _softmax_again(logits: Any, weights: Any, temperature: float = 1.0) -> Tensor:
    return (_mean(_soft(logits, 1.0), weights) / temperature).softmax(1)


def _votes(logits: Any, weights: Any, temperature: float = 1.0) -> Tensor:
    hard = [torch.nn.functional.one_hot(z.argmax(1), z.shape[1]).float() for z in logits]
    return _mean(hard, weights)


def _loudest(logits: Any, weights: Any, temperature: float = 1.0) -> Tensor:
    soft = torch.stack(_soft(logits, temperature))  # (K, N, C)
    best = soft.amax(2).argmax(0)
    return soft[best, torch.arange(soft.shape[1])]


ENSEMBLE_PROBABILITIES = (
    Mistake("averaged_logits", "You average the logits and take one softmax. A teacher with large logits then "
            "outvotes all others, whatever its weight. Softmax first, then average.",
            lambda logits, weights, temperature=1.0: (_mean(logits, weights) / temperature).softmax(1)),
    Mistake("softened_after_averaging", "You average at T = 1 and soften the average. Each teacher is to be softened "
            "before it is averaged.", _at_one_then_softened),
    Mistake("softmax_twice", "There is a second softmax, over probabilities: it flattens everything.", _softmax_again),
    Mistake("ignores_temperature", "The temperature does not appear in your result.",
            lambda logits, weights, temperature=1.0: _mean(_soft(logits, 1.0), weights)),
    Mistake("multiplies_by_temperature", "You multiply by T. Dividing by T > 1 is what softens.",
            lambda logits, weights, temperature=1.0: _mean(_soft(logits, 1 / temperature), weights)),
    Mistake("ignores_weights", "All teachers count alike: the weights do not appear in your result.",
            lambda logits, weights, temperature=1.0: torch.stack(_soft(logits, temperature)).mean(0)),
    Mistake("sum_without_weights", "You add the probabilities up: the rows then add up to the number of teachers.",
            lambda logits, weights, temperature=1.0: torch.stack(_soft(logits, temperature)).sum(0)),
    Mistake("mean_of_weighted", "You weigh and then take the mean as well, so that everything is divided by the "
            "number of teachers once more. The weights add up to 1 already.",
            lambda logits, weights, temperature=1.0: _mean(_soft(logits, temperature), weights) / len(logits)),
    Mistake("over_the_images", "Your softmax runs over the images (dim 0) instead of the classes (dim 1).",
            lambda logits, weights, temperature=1.0: _mean(_soft(logits, temperature, 0), weights)),
    Mistake("weights_in_the_logits", "You multiply each teacher's logits by its weight before its softmax: that "
            "changes how sure it is, not how much it counts.",
            lambda logits, weights, temperature=1.0: torch.stack(
                [(w * z / temperature).softmax(1) for w, z in zip(weights, logits, strict=True)]).mean(0)),
    Mistake("votes", "Each teacher only names its favourite class. What it thinks of the others is what distillation "
            "is after.", _votes),
    Mistake("most_confident_only", "You take the surest teacher for each image. Sure is not right: average them all.",
            _loudest),
    Mistake("returns_logarithm", "You return the logarithm of the average. Here the probabilities are asked for.",
            lambda logits, weights, temperature=1.0: _mean(_soft(logits, temperature), weights).log()),
)  # fmt: skip
