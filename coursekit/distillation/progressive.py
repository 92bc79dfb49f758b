"""Distillation in stages: chains of teacher assistants, a temperature that changes on the way; each stage trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from coursekit.data import Dataset
from coursekit.distillation.checkpoint import DistillationHistory
from coursekit.distillation.loop import distill
from coursekit.distillation.objective import Objective
from coursekit.train import Recipe

__all__ = ["Stage", "assistant_stages", "plan_chain", "run_stages", "softening_stages"]


@dataclass(frozen=True)
class Stage:
    """One training: who teaches whom, for how long, and how soft.

    Attributes: teacher, student: names of two different networks. epochs: 1 or more.
                temperature, alpha: for the objective: T, and the share of the soft loss, 0 to 1.
    """

    teacher: str
    student: str
    epochs: int
    temperature: float = 4.0
    alpha: float = 0.9

    def __post_init__(self) -> None:
        if self.teacher == self.student:
            raise ValueError(f"{self.teacher!r} cannot teach itself")
        if self.epochs < 1:
            raise ValueError(f"a stage trains for at least one epoch, got {self.epochs}")
        if not (math.isfinite(self.temperature) and self.temperature > 0) or not 0 <= self.alpha <= 1:
            raise ValueError(
                f"needs a temperature above 0 and an alpha in 0..1, got {self.temperature} and {self.alpha}"
            )


def plan_chain(networks: Sequence[str], epochs: int) -> list[tuple[str, str, int]]:
    """The trainings of a chain of teacher assistants: (teacher, student, epochs) for each link.

    Args:    networks: names from the trained teacher, through the assistants, to the student; two or more.
             epochs: of all links together, so that a chain may be compared with one training of as many.
    Returns: each network taught by the one before it, all for equally long; epochs that are left over go to the last.
    Raises:  ValueError if there are fewer than two networks, a name stands twice, or a link would get no epoch.
    Source:  Mirzadeh et al. 2020, arXiv:1902.03393, section 3. Taught in lesson 10.

    >>> plan_chain(["resnet20", "lenet5", "tiny"], 9)
    [('resnet20', 'lenet5', 4), ('lenet5', 'tiny', 5)]
    """
    n_links = len(networks) - 1
    if n_links < 1 or len(set(networks)) != len(networks):
        raise ValueError(f"a chain needs two or more different networks, got {list(networks)}")
    if epochs < n_links:
        raise ValueError(f"{epochs} epochs are too few for {n_links} trainings: each needs at least one")
    share, left = divmod(epochs, n_links)
    lengths = [share] * (n_links - 1) + [share + left]
    return list(zip(networks[:-1], networks[1:], lengths, strict=True))


def assistant_stages(
    networks: Sequence[str], epochs: int, *, temperature: float = 4.0, alpha: float = 0.9
) -> tuple[Stage, ...]:
    """`plan_chain` as stages, all of one temperature and alpha.

    Raises: ValueError as `plan_chain` and `Stage`.
    """
    return tuple(Stage(*link, temperature, alpha) for link in plan_chain(networks, epochs))


def softening_stages(
    teacher: str, student: str, epochs: int, temperatures: Sequence[float], alphas: Sequence[float]
) -> tuple[Stage, ...]:
    """Stages of one student under one teacher, each with a temperature and an alpha of its own, none repeated.

    Args:    epochs: of all stages together, divided as in `plan_chain`. temperatures, alphas: one a stage.
    Raises:  ValueError if there are no stages, the numbers of temperatures and alphas differ, or a stage gets no epoch.
    Taught in: lesson 10.

    >>> [(s.epochs, s.temperature) for s in softening_stages("big", "small", 7, [8, 4, 2], [0.9, 0.7, 0.5])]
    [(2, 8), (2, 4), (3, 2)]
    """
    n = len(temperatures)
    if not 1 <= n <= epochs or len(alphas) != n:
        raise ValueError(
            f"needs as many alphas as temperatures, and an epoch for each: {len(alphas)}, {n}, {epochs}"
        )
    lengths = [epochs // n] * (n - 1) + [epochs // n + epochs % n]
    return tuple(Stage(teacher, student, *each) for each in zip(lengths, temperatures, alphas, strict=True))


def _check(stages: Sequence[Stage], networks: Mapping[str, nn.Module]) -> None:
    """Raises ValueError if there is nothing to do, a network is missing, or one teaches before its own lessons end."""
    if not stages:
        raise ValueError("there are no stages to train")
    missing = {name for s in stages for name in (s.teacher, s.student)} - set(networks)
    if missing:
        raise ValueError(f"stages name networks that are not there: {', '.join(sorted(missing))}")
    for i, stage in enumerate(stages):
        if stage.teacher in {later.student for later in stages[i + 1 :]}:
            raise ValueError(
                f"{stage.teacher!r} would teach in stage {i} before it is trained: put its stage first"
            )


def run_stages(
    stages: Sequence[Stage],
    networks: Mapping[str, nn.Module],
    train: Dataset,
    recipe: Recipe,
    objective: Callable[[Stage], Objective],
    *,
    validation: Dataset | None = None,
    cache: Path | None = None,
    folder: Path | None = None,
    progress: bool = False,
) -> list[DistillationHistory]:
    """Trains every stage in turn, its student in place; returns what was measured in each.

    A student is the teacher of later stages as it came out of its last one.

    Args:    networks: name to network; those that only teach must be trained already. recipe: of each stage, but for
             the epochs, which are the stage's; each stage runs a whole learning-rate cycle. objective: makes the
             loss of a stage. cache: folder for the teachers' outputs, as `distill`. folder: keeps a checkpoint a
             stage, so that an interrupted run goes on where it was.
    Raises:  ValueError, before anything is trained, if there are no stages, a network is missing, or a network would
             teach before it is trained.
    Source:  Mirzadeh et al. 2020, arXiv:1902.03393. Taught in lesson 10.
    """
    _check(stages, networks)
    histories = []
    for i, stage in enumerate(stages):
        checkpoint = folder and folder / f"stage{i}-{stage.student}.safetensors"
        histories.append(
            distill(
                networks[stage.student], networks[stage.teacher], train, objective(stage),
                replace(recipe, epochs=stage.epochs),
                validation=validation, cache=cache, checkpoint=checkpoint, progress=progress,
            )
        )  # fmt: skip
    return histories
