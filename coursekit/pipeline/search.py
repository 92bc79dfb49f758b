"""The search for a pipeline that meets a budget: which steps, in which strength, on held-out training images.

There are too many pipelines to try them all, and most are beaten by construction. So the search asks in this order,
each answer the start of the next:

1. time: the widest of several narrower copies that is fast enough, trained for a short while;
2. bytes: for each share of pruned weights, and for layers split by rank, the finest codebook or grid whose file fits;
   files are cheap to write;
3. accuracy: the network itself says which of these fits is best. Unless one has lost next to nothing, the same again
   with a short training after each pruning and after the better of the splits, and at last the codebooks of the best
   few are trained.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import nn

from coursekit.compression import save
from coursekit.data import Dataset
from coursekit.measure import latency, n_parameters
from coursekit.pipeline.steps import (
    FineTune,
    NamedStep,
    cut_channels,
    integer_weights,
    low_rank,
    prune,
    share,
    short_floats,
    tucker,
)
from coursekit.train import Recipe, evaluate

__all__ = ["Budget", "BudgetError", "Candidate", "SearchConfig", "search"]


class BudgetError(ValueError):
    """No candidate meets the budget; the message says how near the search came."""


@dataclass(frozen=True)
class Budget:
    """What the result may cost; at least one of the three is given.

    Attributes: size_bytes: of the file, at most. latency_ratio: to the network that went in, at most. points: the most
                percentage points of accuracy on the held-out images that may be lost; without `size_bytes` the smallest
                file within them is looked for.
    Raises:     ValueError if none is given or one is out of range.
    """

    size_bytes: int | None = None
    latency_ratio: float | None = None
    points: float | None = None

    def __post_init__(self) -> None:
        if self.size_bytes is None and self.latency_ratio is None and self.points is None:
            raise ValueError("there is no budget: give bytes, a latency ratio, or points of accuracy")
        if self.size_bytes is not None and self.size_bytes < 1:
            raise ValueError(f"the budget of {self.size_bytes} bytes leaves no room for a file")
        if self.latency_ratio is not None and not 0 < self.latency_ratio <= 1:
            raise ValueError(
                f"a latency ratio is the share of the time that is left, above 0 and up to 1: {self.latency_ratio}"
            )
        if self.points is not None and not 0 <= self.points <= 100:
            raise ValueError(f"points of accuracy are 0 to 100, got {self.points}")


@dataclass(frozen=True)
class SearchConfig:
    """How much the search may try.

    Attributes: sparsities: shares of pruned weights without training; trained_sparsities: with it, rising.
                energy: what layers split by rank keep of theirs; None to split none. clusters: sizes of codebooks,
                falling. n_bits: of integer grids, falling. shares_of_macs: for a latency budget, falling.
                n_trained: how many of the best are trained at last; 0 for no training at all.
                recipe: of each training. lossless: points below which nothing is trained. within_reach: the loss of
                accuracy before training of what is trained. repeats: of `latency`. latency_batch: images a timed call.
    """

    sparsities: tuple[float, ...] = (0.0, 0.3, 0.5)
    trained_sparsities: tuple[float, ...] = (0.5, 0.7, 0.8, 0.9)
    energy: float | None = 0.9
    clusters: tuple[int, ...] = (128, 64, 48, 32, 24, 16, 12, 8, 6, 4)
    n_bits: tuple[int, ...] = (8, 7, 6, 5, 4, 3)
    shares_of_macs: tuple[float, ...] = (0.85, 0.7, 0.55, 0.4, 0.3, 0.2, 0.1)
    n_trained: int = 2
    recipe: Recipe = field(default_factory=lambda: Recipe(epochs=1, peak_lr=0.02, augment=True))
    lossless: float = 0.5
    within_reach: float = 0.1
    repeats: int = 20
    latency_batch: int = 16


@dataclass(frozen=True)
class Candidate:
    """A pipeline that was tried.

    Attributes: steps: their names. model: what they made. size_bytes: of its file. accuracy: on the held-out images.
                trained: whether any of its steps trained. latency_ratio: to the network that went in, where measured.
                coder: the step that made the weights few values, to be run again with training.
    """

    steps: tuple[str, ...]
    model: nn.Module = field(repr=False)
    size_bytes: int
    accuracy: float
    trained: bool = False
    latency_ratio: float | None = None
    coder: NamedStep | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The steps in one line."""
        return " + ".join(self.steps) or "original"


class _Search:
    """One search: its data, what it has tried, and whom it tells."""

    def __init__(
        self,
        train: Dataset,
        held_out: Dataset,
        budget: Budget,
        config: SearchConfig,
        on_try: Callable[[str], None],
    ) -> None:
        self.train, self.held_out, self.budget = train, held_out, budget
        self.config, self.on_try = config, on_try
        self.tried: list[Candidate] = []
        self.smallest = 1 << 62

    def written(self, model: nn.Module) -> int:
        """The bytes of the model's file."""
        with tempfile.TemporaryDirectory(prefix="coursekit-") as folder:
            return save(model, Path(folder) / "net")

    def note(
        self,
        steps: tuple[str, ...],
        model: nn.Module,
        *,
        trained: bool = False,
        size_bytes: int | None = None,
        coder: NamedStep | None = None,
    ) -> Candidate:
        """Measures a candidate and remembers it."""
        self.on_try(" + ".join(steps) or "original")
        size = self.written(model) if size_bytes is None else size_bytes
        found = Candidate(steps, model, size, evaluate(model, self.held_out), trained, coder=coder)
        self.tried.append(found)
        return found

    def tuning(self) -> FineTune:
        return FineTune(self.train, self.config.recipe)

    def fits(self) -> list[Candidate]:
        """What was tried and meets the budgets of bytes and time."""
        after = 0 if self.budget.latency_ratio is None else 1  # the original itself is too slow
        most = self.budget.size_bytes
        return [c for c in self.tried[after:] if most is None or c.size_bytes <= most]


def search(
    model: nn.Module,
    budget: Budget,
    *,
    train: Dataset,
    held_out: Dataset,
    config: SearchConfig | None = None,
    on_try: Callable[[str], None] | None = None,
) -> tuple[Candidate, list[Candidate]]:
    """The best pipeline found within the budget, and everything that was tried, the original first.

    The held-out images choose; nothing is trained on them. With bytes in the budget the most accurate fit wins,
    without them the smallest file that keeps within `points`.

    Args:    train: for the short trainings, if any. held_out: other images of the training set.
             on_try: called with the name of each candidate, for a progress bar.
    Raises:  BudgetError if nothing that was tried meets the budget; TypeError if the network has no form in a file.
    Source:  Taught in lesson 15.
    """
    run = _Search(train, held_out, budget, config or SearchConfig(), on_try or (lambda name: None))
    original = run.note((), copy.deepcopy(model).eval())
    start = _fast_enough(run, original)
    for sparsity in run.config.sparsities:
        _prune_and_fit(run, start, sparsity)
    for step in _splits(run):
        _split_and_fit(run, start, step)
    if run.config.n_trained and not _good_enough(run, original):
        _train(run, start)
    return _chosen(run, original), run.tried


def _fast_enough(run: _Search, original: Candidate) -> Candidate:
    """The original, or the widest copy of it that meets the latency budget, trained."""
    wanted = run.budget.latency_ratio
    if wanted is None:
        return original
    images = run.held_out.images[: run.config.latency_batch]
    nearest = 1.0
    for left in run.config.shares_of_macs:
        try:
            step = cut_channels(left, example=images[:1])
            narrow = step(original.model)
        except ValueError:  # this share cannot be met to 2 %
            continue
        run.on_try(step.name)
        times = latency({"original": original.model, "narrow": narrow}, images, repeats=run.config.repeats)
        nearest = min(nearest, times["narrow"].ratio)
        if times["narrow"].ratio <= wanted:
            run.tuning()(narrow)
            found = run.note((step.name,), narrow.eval(), trained=True)
            run.tried[-1] = replace(found, latency_ratio=times["narrow"].ratio)
            return run.tried[-1]
    raise BudgetError(f"no narrower copy takes {wanted:.2f} of the time: the fastest took {nearest:.2f}")


def _prune_and_fit(
    run: _Search, base: Candidate, sparsity: float, finetune: FineTune | None = None
) -> Candidate:
    """Prunes further, trains if asked, and tries what fits; returns the pruned network, or base if it was sparser."""
    if sparsity:
        step = replace(prune(sparsity), finetune=finetune)
        name = step.name if finetune is None else f"{step.name}, trained"
        run.on_try(name)
        try:
            model = step(base.model)
        except ValueError:  # more is zero already
            return base
        steps = (*(each for each in base.steps if not each.startswith("prune")), name)
        base = replace(base, steps=steps, model=model, trained=base.trained or finetune is not None)
    _fit_into(run, base)
    return base


def _splits(run: _Search) -> tuple[NamedStep, ...]:
    """The ways to split layers by rank."""
    energy = run.config.energy
    return () if energy is None else (low_rank(energy), tucker(energy))


def _split_and_fit(run: _Search, base: Candidate, step: NamedStep, finetune: FineTune | None = None) -> None:
    """Splits layers, trains if asked, and tries what fits; nothing if no layer is worth splitting."""
    name = step.name if finetune is None else f"{step.name}, trained"
    run.on_try(name)
    model = replace(step, finetune=finetune)(base.model)
    if n_parameters(model) < n_parameters(base.model):
        trained = base.trained or finetune is not None
        _fit_into(run, replace(base, steps=(*base.steps, name), model=model, trained=trained))


def _fit_into(run: _Search, base: Candidate) -> None:
    """Tries the finest codebook and grid whose file fits; without a byte budget, all of them."""
    rest = short_floats()
    short = rest(base.model)
    for ladder in ([share(k) for k in run.config.clusters], [integer_weights(b) for b in run.config.n_bits]):
        for step in ladder:
            names = (*base.steps, step.name, rest.name)
            made = step(short)
            size = run.written(made)
            run.smallest = min(run.smallest, size)
            if run.budget.size_bytes is None or size <= run.budget.size_bytes:
                run.note(names, made, trained=base.trained, size_bytes=size, coder=step)
                if run.budget.size_bytes is not None:
                    break


def _good_enough(run: _Search, original: Candidate) -> bool:
    """Whether an untrained candidate meets the byte budget and has lost next to nothing."""
    if run.budget.size_bytes is None:
        return False
    allowed = run.config.lossless
    if run.budget.points is not None:
        allowed = min(allowed, run.budget.points)
    return max((c.accuracy for c in run.fits()), default=-1.0) >= original.accuracy - allowed / 100


def _train(run: _Search, start: Candidate) -> None:
    """Prunes and trains in turn, further each time; then trains the codebooks of the best that came of it."""
    current = start
    for sparsity in run.config.trained_sparsities:
        current = _prune_and_fit(run, current, sparsity, run.tuning())
    split = {
        step: max((c.accuracy for c in run.fits() if step.name in c.steps), default=0.0)
        for step in _splits(run)
    }
    if any(split.values()):
        _split_and_fit(run, start, max(split, key=lambda step: split[step]), run.tuning())
    for candidate in _promising(run):
        if candidate.coder is None:
            continue
        run.on_try(f"training {candidate.name}")
        model = short_floats()(replace(candidate.coder, finetune=run.tuning())(candidate.model))
        run.note((*candidate.steps, "trained"), model, trained=True)


def _promising(run: _Search) -> list[Candidate]:
    """What is worth a last training: the most accurate fits, or for points alone the smallest within reach."""
    if run.budget.size_bytes is not None:
        return sorted(run.fits(), key=lambda c: (-c.accuracy, c.size_bytes))[: run.config.n_trained]
    least = run.tried[0].accuracy - run.config.within_reach
    near = [c for c in run.fits() if c.accuracy >= least]
    return sorted(near, key=lambda c: c.size_bytes)[: run.config.n_trained]


def _chosen(run: _Search, original: Candidate) -> Candidate:
    """The best of what meets the budget."""
    budget, fits = run.budget, run.fits()
    if not fits:
        raise BudgetError(
            f"nothing that was tried is as small as {budget.size_bytes:,} bytes: the smallest file was "
            f"{run.smallest:,} bytes, of {original.size_bytes:,}"
        )
    best = max(fits, key=lambda c: (c.accuracy, -c.size_bytes))
    if budget.points is None and budget.size_bytes is not None:
        return best
    allowed = run.config.lossless if budget.points is None else budget.points
    near = [c for c in fits if c.accuracy >= original.accuracy - allowed / 100]
    if near:
        return min(near, key=lambda c: c.size_bytes) if budget.size_bytes is None else best
    if budget.points is None:
        return best  # only the time was asked for
    raise BudgetError(
        f"the best that meets the rest of the budget, {best.name}, loses "
        f"{100 * (original.accuracy - best.accuracy):.1f} points on the held-out images, more than {allowed:g}"
    )
