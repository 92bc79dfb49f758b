"""What a student is trained on: an objective takes a batch and returns the named parts of the loss."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Batch", "Objective", "StudentAlone", "Weighted"]


@dataclass(frozen=True)
class Batch:
    """What an objective sees of one step.

    Attributes: images: (n, 1, 28, 28), as the student saw them. labels: (n,).
                student_logits: (n, classes), float32. teacher_logits: the same of the teacher, without a
                gradient, or None where there is no teacher.
                student_features, teacher_features: the outputs of the modules that the objective asked for, by
                name, float32; the teacher's without a gradient.
                step, steps: how many steps are done, and how many there will be: for weights that change.
    """

    images: Tensor
    labels: Tensor
    student_logits: Tensor
    teacher_logits: Tensor | None = None
    student_features: Mapping[str, Tensor] = field(default_factory=dict)
    teacher_features: Mapping[str, Tensor] = field(default_factory=dict)
    step: int = 0
    steps: int = 1


class Objective(Protocol):
    """A loss in named parts, the names of the modules it looks at, and what it trains beside the student.

    An objective that is an `nn.Module` fulfils `parameters` by itself; its buffers go into checkpoints too.
    """

    @property
    def student_layers(self) -> tuple[str, ...]:
        """Names of the student's modules whose outputs it wants; () if none."""

    @property
    def teacher_layers(self) -> tuple[str, ...]:
        """Names of the teacher's modules whose outputs it wants; () if none."""

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """The parts of the loss, by name: scalars whose sum is what is minimised."""

    def parameters(self) -> Iterable[nn.Parameter]:
        """Parameters of its own, trained beside the student and thrown away after it: adapters. Often none."""


@dataclass(frozen=True)
class StudentAlone:
    """Cross-entropy with the labels: the control that every gain of a teacher is measured against.

    Args:   label_smoothing: 0 to 1, the share of each target spread evenly over all classes: soft targets that know
            nothing, the second control.
    Raises: ValueError if label_smoothing is outside 0..1.
    Source: label smoothing of Szegedy et al. 2016, arXiv:1512.00567, section 7. Taught in lesson 08.
    """

    label_smoothing: float = 0.0
    student_layers: tuple[str, ...] = ()
    teacher_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing <= 1:
            raise ValueError(f"label_smoothing must be in 0..1, got {self.label_smoothing}")

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        smoothing = self.label_smoothing
        return {"labels": F.cross_entropy(batch.student_logits, batch.labels, label_smoothing=smoothing)}

    def parameters(self) -> tuple[nn.Parameter, ...]:
        """None."""
        return ()


class Weighted(nn.Module):
    """Several objectives as one: the sum of their parts, each part times its objective's weight.

    Args:    objectives: name -> (weight, objective). A part is named "name/part".
    Raises:  ValueError if there are none, or a weight is negative, NaN or infinite.

    >>> both = Weighted({"hard": (0.5, StudentAlone()), "smooth": (0.5, StudentAlone(0.1))})
    >>> both.student_layers
    ()
    """

    def __init__(self, objectives: Mapping[str, tuple[float, Objective]]) -> None:
        super().__init__()
        if not objectives:
            raise ValueError("there is nothing to add up: objectives is empty")
        for name, (weight, objective) in objectives.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"the weight of {name!r} must be finite and not negative, got {weight}")
            if isinstance(objective, nn.Module):
                self.add_module(name, objective)
        self.objectives = dict(objectives)

    @property
    def student_layers(self) -> tuple[str, ...]:
        """What any of the objectives wants of the student, each name once."""
        return tuple(dict.fromkeys(n for _, o in self.objectives.values() for n in o.student_layers))

    @property
    def teacher_layers(self) -> tuple[str, ...]:
        """What any of the objectives wants of the teacher, each name once."""
        return tuple(dict.fromkeys(n for _, o in self.objectives.values() for n in o.teacher_layers))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The weighted parts of all objectives."""
        return {
            f"{name}/{part}": weight * value
            for name, (weight, objective) in self.objectives.items()
            for part, value in objective(batch).items()
        }

    def parameters(self, recurse: bool = True):  # type: ignore[no-untyped-def]
        """The objectives' own parameters, those of plain classes too, each once."""
        del recurse
        own = (p for _, objective in self.objectives.values() for p in objective.parameters())
        return iter({id(p): p for p in own}.values())
