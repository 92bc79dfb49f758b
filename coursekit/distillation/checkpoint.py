"""A training run on disk: all that its next step depends on, so that a run cut off goes on as if it had not been."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coursekit.data import Dataset
from coursekit.distillation.objective import Objective, Weighted
from coursekit.distillation.store import (
    DamagedFileError,
    fingerprint,
    network_tensors,
    read_tensors,
    write_tensors,
)
from coursekit.train import History, Recipe

__all__ = ["CheckpointError", "DistillationHistory", "Run"]


class CheckpointError(ValueError):
    """The checkpoint is damaged, or of another run."""


@dataclass
class DistillationHistory(History):
    """What a distillation measured after each epoch.

    Attributes: loss: mean training loss. accuracy: on the test set, if one was given.
                parts: the mean of each part of the loss; they add up to it.
                validation: accuracy on the validation set, if one was given.
                best_epoch: the epoch, from 1, whose weights were kept, if there is a validation set.
    """

    parts: dict[str, list[float]] = field(default_factory=dict)
    validation: list[float] = field(default_factory=list)
    best_epoch: int | None = None


@dataclass
class Run:
    """The state of a run between two steps: `save` writes all of it, `resume` puts it back.

    Attributes: done: steps done. sums: the current epoch's loss and parts so far, times the number of images.
                order: state of the generator at the epoch's start, from which the order of the images follows.
                best: weights of the best epoch so far; {} if there is none.
    """

    student: nn.Module
    objective: Objective
    optimizer: torch.optim.SGD
    schedule: torch.optim.lr_scheduler.OneCycleLR
    generator: torch.Generator
    history: DistillationHistory
    done: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    order: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.uint8))
    best: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.order = self.generator.get_state()

    def tensors(self) -> dict[str, Tensor]:
        """Everything that is numbers, under the name it has in the file."""
        tensors = {f"student/{name}": value for name, value in network_tensors(self.student).items()}
        tensors |= {f"objective/{name}": value for name, value in _own(self.objective).items()}
        tensors |= {f"best/{name}": value for name, value in self.best.items()}
        for index, parameter in enumerate(self._trained()):
            if (momentum := self.optimizer.state[parameter].get("momentum_buffer")) is not None:
                tensors[f"momentum/{index}"] = momentum
        states = {
            "order": self.order,
            "generator": self.generator.get_state(),
            "torch": torch.get_rng_state(),
        }
        return tensors | {f"random/{name}": state for name, state in states.items()}

    def save(self, path: Path, identity: Mapping[str, str]) -> None:
        """Writes the run; a reader sees the file of before or this one, never half of it."""
        facts = {
            "identity": dict(identity),
            "done": self.done,
            "sums": self.sums,
            "rates": [group["lr"] for group in self.optimizer.param_groups],
            "history": asdict(self.history),
        }
        write_tensors(path, self.tensors(), facts)

    @torch.no_grad()
    def resume(self, path: Path, identity: Mapping[str, str]) -> None:
        """Goes back to where the file was written.

        Raises: CheckpointError, before anything is changed, if it is damaged or of another run.
        """
        tensors, facts = self._checked(path, identity)
        own = self.tensors()
        for name, value in tensors.items():
            if name.startswith(("student/", "objective/")):
                own[name].copy_(value)
        self.best = {n.removeprefix("best/"): v for n, v in tensors.items() if n.startswith("best/")}
        for index, parameter in enumerate(self._trained()):
            if (momentum := tensors.get(f"momentum/{index}")) is not None:
                self.optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(
                    momentum
                )
        self.order = tensors["random/order"]
        self.generator.set_state(tensors["random/generator"])
        torch.set_rng_state(tensors["random/torch"])
        self.done, self.sums = facts["done"], facts["sums"]
        self.schedule.last_epoch = self.done
        for group, rate in zip(self.optimizer.param_groups, facts["rates"], strict=True):
            group["lr"] = rate
        for name, values in facts["history"].items():
            setattr(self.history, name, values)

    def _trained(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    @staticmethod
    def _checked(path: Path, identity: Mapping[str, str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        try:
            tensors, facts = read_tensors(path)
        except DamagedFileError as error:
            raise CheckpointError(f"{error}; delete it to start again") from error
        saved = (facts or {}).get("identity", {})
        if other := [name for name in identity if saved.get(name) != identity[name]]:
            raise CheckpointError(
                f"{path} is of a run with another {' and another '.join(other)}; give all of it as it was at that "
                "run's start (a student just built with the same seed), or delete the file to start again"
            )
        return tensors, facts


def _own(objective: Objective) -> dict[str, Tensor]:
    """An objective's own tensors: parameters by position, buffers by name."""
    own: dict[str, Tensor] = {str(index): p for index, p in enumerate(objective.parameters())}
    return own | (dict(objective.named_buffers()) if isinstance(objective, nn.Module) else {})


def _settings(thing: Any) -> Any:
    """What an objective is, apart from its tensors: its class and its plain attributes; functions by name."""
    if isinstance(thing, Weighted):
        return [(name, weight, _settings(each)) for name, (weight, each) in thing.objectives.items()]
    own = {name: value for name, value in vars(thing).items() if not name.startswith("_")}
    plain = {n: v for n, v in own.items() if isinstance(v, int | float | str | tuple)}
    called = {n: v.__qualname__ for n, v in own.items() if hasattr(v, "__qualname__")}
    return (type(thing).__qualname__, sorted(plain.items()), sorted(called.items()))


def identity_of(
    student: nn.Module,
    teacher: nn.Module | None,
    objective: Objective,
    recipe: Recipe,
    data: Mapping[str, Dataset | None],
) -> dict[str, str]:
    """What makes a run this run and no other, as fingerprints, by the words an error uses for them."""
    sets = {name: fingerprint(d.images, d.labels) for name, d in data.items() if d is not None}
    asked = (objective.student_layers, objective.teacher_layers)
    return {
        "recipe": fingerprint(repr(recipe)),
        "student": fingerprint(repr(student), network_tensors(student)),
        "teacher": fingerprint() if teacher is None else fingerprint(repr(teacher), network_tensors(teacher)),
        "objective": fingerprint(_settings(objective), _own(objective), asked),
        "data": fingerprint(sets),
    }
