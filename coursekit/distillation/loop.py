"""One training loop for any objective: a student learns from labels, from a teacher, or from both."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from coursekit.data import Dataset, batches, flip_and_shift
from coursekit.distillation.cache import teacher_outputs
from coursekit.distillation.checkpoint import DistillationHistory, Run, identity_of
from coursekit.distillation.hooks import capture
from coursekit.distillation.objective import Batch, Objective
from coursekit.train import Recipe, descend, eval_mode, evaluate, one_cycle

__all__ = ["distill"]


def distill(
    student: nn.Module,
    teacher: nn.Module | None,
    train: Dataset,
    objective: Objective,
    recipe: Recipe,
    *,
    validation: Dataset | None = None,
    test: Dataset | None = None,
    cache: Path | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int | None = None,
    progress: bool = False,
    on_step: Callable[[int], None] | None = None,
) -> DistillationHistory:
    """Trains `student` in place on `objective` and returns what was measured.

    The teacher stays as it was: weights, buffers, modes, gradients. Where the recipe does not augment, it looks at each
    image once, unless features are asked for without a `cache` to keep them in. Where the recipe augments, it sees
    what the student sees.

    Args:    student: left in eval mode. teacher: None for an objective of labels alone: then this is `fit`.
             validation: kept out of `train` by the caller; the weights of its best epoch are kept (the first of
             equals). test: measured after each epoch; chooses nothing. cache: folder for the teacher's outputs.
             checkpoint: file that the run is written to after each epoch, or every `checkpoint_every` steps, and
             from which the same call goes on, to the same weights bit for bit. progress: show a bar.
             on_step: called with the number of steps done after each of them.
    Raises:  ValueError, before anything is changed, if there is nothing to train, the recipe smooths labels (the
             objective does), or student and teacher share parameters; CheckpointError for a damaged checkpoint or
             one of another run; FloatingPointError if the loss becomes NaN or infinite.
    Source:  Hinton et al. 2015, arXiv:1503.02531. Taught in lessons 08 to 10.
    """
    _refuse(student, teacher, train, objective, recipe, checkpoint_every)
    run = _start(student, objective, recipe, len(train))
    if checkpoint is not None:
        data = {"train": train, "validation": validation, "test": test}
        identity = identity_of(student, teacher, objective, recipe, data)
        if checkpoint.is_file():
            run.resume(checkpoint, identity)
    stepper = _Stepper(run, teacher, train, recipe, _table(teacher, train, objective, recipe, cache))
    per_epoch = -(-len(train) // recipe.batch_size)
    every = checkpoint_every or per_epoch
    with (
        stepper.hooked(),
        tqdm(total=stepper.steps, initial=run.done, disable=not progress, unit="step") as bar,
    ):
        while run.done < stepper.steps:
            for batch in stepper.epoch():
                stepper.step(batch)
                ended = run.done % per_epoch == 0
                if ended:
                    _close_epoch(run, len(train), validation, test)
                    bar.set_postfix({
                        name: f"{values[-1]:.3f}" for name, values in _shown(run.history).items()
                    })
                if checkpoint is not None and (run.done % every == 0 or run.done == stepper.steps):
                    run.save(checkpoint, identity)
                if on_step is not None:
                    on_step(run.done)
                bar.update()
    if run.best:
        with torch.no_grad():
            for name, value in student.state_dict().items():
                value.copy_(run.best[name])
    student.eval()
    return run.history


@dataclass
class _Stepper:
    """Takes steps: what a batch is, and what is done with it."""

    run: Run
    teacher: nn.Module | None
    train: Dataset
    recipe: Recipe
    table: dict[str, Tensor] | None  # the teacher's outputs for all images, if it is not asked anew

    def __post_init__(self) -> None:
        self.steps = self.recipe.epochs * -(-len(self.train) // self.recipe.batch_size)
        self.seen: dict[str, Tensor] = {}
        self.shown: dict[str, Tensor] = {}

    @contextlib.contextmanager
    def hooked(self) -> Iterator[None]:
        """A block in which forward passes leave the outputs of the modules that the objective asked for."""
        objective = self.run.objective
        with contextlib.ExitStack() as stack:
            self.seen = stack.enter_context(capture(self.run.student, objective.student_layers))
            if self.teacher is not None and self.table is None:
                stack.enter_context(eval_mode(self.teacher))
                self.shown = stack.enter_context(capture(self.teacher, objective.teacher_layers))
            yield

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and their positions in the data, of what is left of the current epoch."""
        run, skip = self.run, self.run.done % -(-len(self.train) // self.recipe.batch_size)
        now = run.generator.get_state()
        if skip == 0:
            run.order = now
        run.generator.set_state(run.order)
        places = Dataset(self.train.images, torch.arange(len(self.train)), (), "")
        stream = batches(places, self.recipe.batch_size, generator=run.generator)
        for _ in range(skip):
            next(stream)
        if skip:
            run.generator.set_state(now)
        run.student.train()
        if isinstance(run.objective, nn.Module):
            run.objective.train()
        return stream

    def step(self, batch: tuple[Tensor, Tensor]) -> None:
        """One step on one batch; its loss and parts added to the epoch's."""
        images, places = batch
        run = self.run
        if self.recipe.augment:
            images = flip_and_shift(images, run.generator, self.recipe.max_shift)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.bfloat16):
            logits = run.student(images)
        theirs, shown = self._ask(images, places)
        seen = {name: value.float() for name, value in self.seen.items()}
        parts = run.objective(
            Batch(
                images, self.train.labels[places], logits.float(), theirs, seen, shown, run.done, self.steps
            )
        )
        if not parts:
            raise ValueError(f"{type(run.objective).__name__} returned no part of a loss")
        loss = torch.stack(list(parts.values())).sum() if len(parts) > 1 else next(iter(parts.values()))
        descend(loss, run.optimizer, run.schedule)
        for name, value in {"": loss, **parts}.items():
            run.sums[name] = run.sums.get(name, 0.0) + value.item() * len(places)
        run.done += 1

    @torch.no_grad()
    def _ask(self, images: Tensor, places: Tensor) -> tuple[Tensor | None, dict[str, Tensor]]:
        """The teacher's logits and features, looked up or computed."""
        layers = self.run.objective.teacher_layers
        if self.teacher is None:
            return None, {}
        if self.table is not None:
            features = {name: self.table[f"features/{name}"][places].float() for name in layers}
            return self.table["logits"][places].float(), features
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.bfloat16):
            logits = self.teacher(images)
        return logits.float(), {name: value.float() for name, value in self.shown.items()}


def _refuse(
    student: nn.Module,
    teacher: nn.Module | None,
    train: Dataset,
    objective: Objective,
    recipe: Recipe,
    every: int | None,
) -> None:
    """Raises ValueError for what cannot be trained."""
    if len(train) == 0 or recipe.epochs < 1:
        raise ValueError(f"there is nothing to train: {len(train)} images, {recipe.epochs} epochs")
    if recipe.label_smoothing:
        raise ValueError(
            "labels are smoothed by the objective: StudentAlone(label_smoothing=…), not by the recipe"
        )
    if every is not None and every < 1:
        raise ValueError(f"checkpoint_every must be at least 1 step, got {every}")
    if teacher is None and objective.teacher_layers:
        raise ValueError(
            f"the objective asks for {', '.join(objective.teacher_layers)} of a teacher; give one"
        )
    own = {id(p) for p in student.parameters()}
    if teacher is not None and any(id(p) in own for p in teacher.parameters()):
        raise ValueError(
            "student and teacher share parameters: training one changes the other; copy.deepcopy one"
        )
    if any(id(p) in own for p in objective.parameters()):
        raise ValueError("the objective's own parameters are the student's too; they would be trained twice")


def _start(student: nn.Module, objective: Objective, recipe: Recipe, n_images: int) -> Run:
    steps = recipe.epochs * -(-n_images // recipe.batch_size)
    optimizer, schedule = one_cycle([*student.parameters(), *objective.parameters()], recipe, steps)
    generator = torch.Generator().manual_seed(recipe.seed)
    return Run(student, objective, optimizer, schedule, generator, DistillationHistory())


def _table(
    teacher: nn.Module | None, train: Dataset, objective: Objective, recipe: Recipe, cache: Path | None
) -> dict[str, Tensor] | None:
    """The teacher's outputs for all images, where they stay the same and there is a place for them."""
    layers = objective.teacher_layers
    if teacher is None or recipe.augment or (layers and cache is None):
        return None
    return teacher_outputs(
        teacher,
        train.images,
        layers=layers,
        bfloat16=recipe.bfloat16,
        folder=cache,
        batch_size=recipe.batch_size,
    )


def _close_epoch(run: Run, n_images: int, validation: Dataset | None, test: Dataset | None) -> None:
    """Means of the epoch, accuracies, and the weights if they are the best so far."""
    means = {name: total / n_images for name, total in run.sums.items()}
    run.sums = {}
    history = run.history
    history.loss.append(means.pop(""))
    for name, mean in means.items():
        history.parts.setdefault(name, []).append(mean)
    if test is not None:
        history.accuracy.append(evaluate(run.student, test))
    if validation is not None:
        history.validation.append(evaluate(run.student, validation))
        if history.validation[-1] > max(history.validation[:-1], default=-1.0):
            history.best_epoch = len(history.validation)
            run.best = {name: value.clone() for name, value in run.student.state_dict().items()}


def _shown(history: DistillationHistory) -> dict[str, list[float]]:
    measured = {
        "loss": history.loss,
        **history.parts,
        "validation": history.validation,
        "test": history.accuracy,
    }
    return {name: values for name, values in measured.items() if values}
