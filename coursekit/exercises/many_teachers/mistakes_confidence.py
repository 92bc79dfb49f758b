"""Known mistakes with chains, calibration and temperature. Each `wrong` makes one and no other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.exercises.inputs import normal
from coursekit.exercises.spec import Mistake

__all__ = [
    "BEST_TEMPERATURE", "CALIBRATION_ERROR", "PLAN_CHAIN", "chain_probes", "error_probes", "temperature_probes",
]  # fmt: skip

Args = tuple[Any, ...]
Links = list[tuple[str, str, int]]


def chain_probes() -> list[Args]:
    """Chains of two to five networks, epochs that divide and that do not, and two that cannot be."""
    return [
        (["a", "b"], 7),
        (["a", "b", "c", "d"], 11),
        (["a", "b", "c", "d", "e"], 23),
        (["a", "b", "c", "d"], 2),
        (["a"], 5),
    ]


def _links(
    networks: Sequence[str],
    epochs: int,
    *,
    pairs: Callable[[list[str]], list[tuple[str, str]]] = lambda n: list(itertools.pairwise(n)),
    lengths: Callable[[int, int], list[Any]] = lambda epochs, n: (
        [epochs // n] * (n - 1) + [epochs // n + epochs % n]
    ),
    check: bool = True,
) -> Links:
    n = len(networks) - 1
    if n < 1 or (check and epochs < n):
        raise ValueError("no chain")
    chain = zip(pairs(list(networks)), lengths(epochs, n), strict=True)
    return [(teacher, student, length) for (teacher, student), length in chain]


def _skips(networks: Sequence[str], epochs: int) -> Links:
    _links(networks, epochs)
    return [(networks[0], networks[-1], epochs)]


def _by_networks(epochs: int, n: int) -> list[int]:
    share = epochs // (n + 1)
    return [share] * (n - 1) + [epochs - share * (n - 1)]


def _spread(epochs: int, n: int) -> list[int]:
    return [epochs // n + (i < epochs % n) for i in range(n)]


PLAN_CHAIN = (
    Mistake("teacher_teaches_all", "The first network teaches everybody. In a chain each network is taught by the one "
            "before it: that is what the assistants are for.",
            lambda networks, epochs: _links(networks, epochs, pairs=lambda n: [(n[0], s) for s in n[1:]])),
    Mistake("all_teach_the_student", "Every training ends at the last network; the assistants themselves never learn.",
            lambda networks, epochs: _links(networks, epochs, pairs=lambda n: [(t, n[-1]) for t in n[:-1]])),
    Mistake("swapped", "Teacher and student have changed places.",
            lambda networks, epochs: _links(networks, epochs, pairs=lambda n: list(zip(n[1:], n[:-1], strict=True)))),
    Mistake("backwards", "The trainings stand in the opposite order: an assistant would teach before it is trained.",
            lambda networks, epochs: _links(
                networks, epochs, pairs=lambda n: list(itertools.pairwise(n))[::-1])),
    Mistake("assistants_skipped", "One training from the first to the last network: the assistants are left "
            "out.", _skips),
    Mistake("last_link_missing", "The last training is missing: the student is never taught.",
            lambda networks, epochs: _links(networks, epochs)[:-1]),
    Mistake("all_epochs_each", "Every training gets all epochs: a chain of three costs three times the budget, and no "
            "comparison with it is fair.",
            lambda networks, epochs: _links(networks, epochs, lengths=lambda e, n: [e] * n)),
    Mistake("remainder_lost", "What does not divide is lost: the epochs no longer add up to the budget.",
            lambda networks, epochs: _links(networks, epochs, lengths=lambda e, n: [e // n] * n)),
    Mistake("remainder_first", "What does not divide goes to the first training; it belongs to the last.",
            lambda networks, epochs: _links(
                networks, epochs, lengths=lambda e, n: [e // n + e % n] + [e // n] * (n - 1))),
    Mistake("remainder_spread", "You spread what does not divide over the first trainings; all of it belongs to the "
            "last.",
            lambda networks, epochs: _links(networks, epochs, lengths=_spread)),
    Mistake("divided_by_networks", "You divide by the number of networks. There is one training fewer than networks.",
            lambda networks, epochs: _links(networks, epochs, lengths=_by_networks)),
    Mistake("fractions", "A fraction of an epoch cannot be trained: // divides whole numbers.",
            lambda networks, epochs: _links(networks, epochs, lengths=lambda e, n: [e / n] * n)),
    Mistake("empty_trainings", "With fewer epochs than trainings some get none, and still teach the next one: refuse "
            "that.",
            lambda networks, epochs: _links(networks, epochs, check=False)),
)  # fmt: skip


def error_probes() -> list[Args]:
    """Unequal bins, gaps of both signs, a certain answer, and other numbers of bins."""
    confidence = torch.tensor([0.93] * 5 + [0.97, 1.0, 0.41, 0.44, 0.28, 0.66, 0.62])
    correct = torch.tensor([1, 1, 0, 0, 1, 1, 0, 1, 1, 0, 1, 0]).bool()
    unsure = torch.tensor([0.35, 0.38, 0.52, 0.57])
    return [
        (confidence, correct, 10),
        (confidence, correct, 4),
        (confidence[:7], correct[:7], 10),
        (unsure, torch.tensor([True, True, True, False]), 5),
    ]


def _bins(
    confidence: Tensor, correct: Tensor, n_bins: int, *, closed: bool = True
) -> list[tuple[float, float, float, float]]:
    """(share of images, accuracy, mean confidence, middle) of each bin that holds any."""
    c, right = confidence.double(), correct.double()
    index = (c * n_bins).ceil().long().sub(1).clamp(min=0)
    found = []
    for b in range(n_bins):
        inside = (index == b) & ((c < 1) | closed)
        if inside.any():
            share = inside.double().mean().item()
            found.append((share, right[inside].mean().item(), c[inside].mean().item(), (b + 0.5) / n_bins))
    return found


def _no_bins(confidence: Any, correct: Any, n_bins: int = 10) -> float:
    return (confidence.double() - correct.double()).abs().mean().item()


def _overall(confidence: Any, correct: Any, n_bins: int = 10) -> float:
    return abs(confidence.double().mean().item() - correct.double().mean().item())


def _equal_counts(confidence: Any, correct: Any, n_bins: int = 10) -> float:
    order = confidence.argsort(stable=True)
    c, right = confidence.double()[order], correct.double()[order]
    parts = zip(c.tensor_split(n_bins), right.tensor_split(n_bins), strict=True)
    return sum(len(a) / len(c) * abs(a.mean().item() - b.mean().item()) for a, b in parts if len(a))


CALIBRATION_ERROR = (
    Mistake("bins_not_weighted", "Every bin counts alike, whether one image is in it or a thousand. Weigh each by its "
            "share of the images.",
            lambda c, right, n=10: sum(abs(a - m) for _, a, m, _ in _bins(c, right, n)) / len(_bins(c, right, n))),
    Mistake("divided_by_all_bins", "You divide the sum of the gaps by the number of bins, the empty ones too. Weigh "
            "each bin by its share of the images.",
            lambda c, right, n=10: sum(abs(a - m) for _, a, m, _ in _bins(c, right, n)) / n),
    Mistake("signed", "Gaps of opposite sign cancel: take the absolute value in each bin.",
            lambda c, right, n=10: sum(w * (m - a) for w, a, m, _ in _bins(c, right, n))),
    Mistake("overall_gap", "This is the gap between the overall means: a network may be too sure here and too unsure "
            "there, and nothing shows. Bins first.", _overall),
    Mistake("no_bins", "You compare each single answer with its confidence. One answer is right or wrong, never 80 % "
            "right: only the share of a bin can be compared.", _no_bins),
    Mistake("largest_gap", "This is the largest gap of any bin, the maximum calibration error. The expected one is "
            "the weighted mean.",
            lambda c, right, n=10: max(abs(a - m) for _, a, m, _ in _bins(c, right, n))),
    Mistake("squared", "You square the gaps; the definition takes their absolute values.",
            lambda c, right, n=10: sum(w * (a - m) ** 2 for w, a, m, _ in _bins(c, right, n))),
    Mistake("middle_of_the_bin", "You compare with the middle of the bin instead of the mean confidence of the images "
            "in it.",
            lambda c, right, n=10: sum(w * abs(a - middle) for w, a, _, middle in _bins(c, right, n))),
    Mistake("errors_for_accuracy", "You compare the confidence with the share of wrong answers. It promises right "
            "ones.",
            lambda c, right, n=10: sum(w * abs(1 - a - m) for w, a, m, _ in _bins(c, right, n))),
    Mistake("certain_ones_lost", "Answers with a confidence of exactly 1 are in none of your bins.",
            lambda c, right, n=10: sum(w * abs(a - m) for w, a, m, _ in _bins(c, right, n, closed=False))),
    Mistake("always_10_bins", "You always use 10 bins; n_bins says how many.",
            lambda c, right, n=10: sum(w * abs(a - m) for w, a, m, _ in _bins(c, right, 10))),
    Mistake("bins_of_equal_count", "Your bins hold equally many images. Here they are equally wide.", _equal_counts),
    Mistake("in_per_cent", "The result is in per cent; a share from 0 to 1 is asked for.",
            lambda c, right, n=10: 100 * sum(w * abs(a - m) for w, a, m, _ in _bins(c, right, n))),
    Mistake("not_divided", "The gaps are weighted by the number of images, not by their share: divide by all of them.",
            lambda c, right, n=10: len(c) * sum(w * abs(a - m) for w, a, m, _ in _bins(c, right, n))),
)  # fmt: skip


def temperature_probes() -> list[Args]:
    """Too sure, too unsure and always right logits; candidates in no order."""
    candidates = [4.0, 0.3, 1.0, 2.5, 0.6, 1.6, 8.0, 0.45]
    found = []
    for seed, factor in ((0, 6.0), (1, 1.2), (3, 14.0), (4, 0.8)):
        labels = torch.arange(60) % 5
        found.append(((normal(60, 5, seed=seed) + 1.2 * F.one_hot(labels, 5)) * factor, labels, candidates))
    right = torch.arange(20) % 5
    return [*found, (normal(20, 5, seed=7) * 0.1 + 2.0 * F.one_hot(right, 5), right, candidates)]


def _lowest(score: Callable[[Tensor, Tensor, float], float]) -> Callable[..., float]:
    """The candidate with the lowest score(logits, labels, T); the first of equal ones."""
    return lambda logits, labels, candidates: min(candidates, key=lambda t: score(logits, labels, t))


def _surprise(logits: Tensor, labels: Tensor, temperature: float) -> float:
    return F.cross_entropy(logits / temperature, labels).item()


def _sure(logits: Tensor, temperature: float) -> Tensor:
    return (logits / temperature).softmax(1).amax(1)


def _accuracy(logits: Tensor, labels: Tensor, temperature: float) -> float:
    return ((logits / temperature).argmax(1) == labels).float().mean().item()


def _squares(logits: Tensor, labels: Tensor, temperature: float) -> float:
    p = (logits / temperature).softmax(1)
    return (p - F.one_hot(labels, p.shape[1])).square().sum(1).mean().item()


BEST_TEMPERATURE = (
    Mistake("most_accurate", "You look for the best accuracy, but no temperature changes which class comes first: all "
            "candidates are equal, and the first one wins.",
            _lowest(lambda z, y, t: -round(_accuracy(z, y, t), 6))),
    Mistake("multiplies_by_temperature", "You multiply the logits by T: the inverse of the right temperature comes "
            "out.",
            _lowest(lambda z, y, t: _surprise(z, y, 1 / t))),
    Mistake("softmax_twice", "F.cross_entropy takes logits and makes the softmax itself; you give it probabilities.",
            _lowest(lambda z, y, t: F.cross_entropy((z / t).softmax(1), y).item())),
    Mistake("own_answers", "You compare with the network's own answers in place of the labels: then the surer, the "
            "better.",
            _lowest(lambda z, y, t: _surprise(z, z.argmax(1), t))),
    Mistake("least_sure", "You take the temperature at which the network is least sure, whatever the labels say.",
            _lowest(lambda z, y, t: _sure(z, t).mean().item())),
    Mistake("highest", "You take the highest cross-entropy instead of the lowest.",
            _lowest(lambda z, y, t: -_surprise(z, y, t))),
    Mistake("confidence_meets_accuracy", "You match the mean confidence with the accuracy. That is one number; the "
            "cross-entropy looks at every image.",
            _lowest(lambda z, y, t: abs(_sure(z, t).mean().item() - _accuracy(z, y, 1.0)))),
    Mistake("squared_error", "You minimise squared differences of probabilities (the Brier score). The cross-entropy "
            "is asked for.", _lowest(_squares)),
    Mistake("returns_cross_entropy", "You return the lowest cross-entropy, not the temperature that gives it.",
            lambda logits, labels, candidates: min(_surprise(logits, labels, t) for t in candidates)),
    Mistake("returns_index", "You return the position of the best candidate, not the candidate.",
            lambda logits, labels, candidates: min(
                range(len(candidates)), key=lambda i: _surprise(logits, labels, candidates[i]))),
    Mistake("never_below_one", "You only try temperatures of 1 and above. A network may also be less sure than it "
            "should be.",
            lambda logits, labels, candidates: min(
                (t for t in candidates if t >= 1), key=lambda t: _surprise(logits, labels, t))),
    Mistake("returns_inverse", "You return 1 / T.",
            lambda logits, labels, candidates: 1 / min(candidates, key=lambda t: _surprise(logits, labels, t))),
)  # fmt: skip
