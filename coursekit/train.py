"""Training and evaluation: one plain loop, repeatable by seed, with a progress bar."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from coursekit.data import Dataset, batches, flip_and_shift

__all__ = ["History", "Recipe", "descend", "eval_mode", "evaluate", "fit", "one_cycle", "predict"]


@dataclass(frozen=True)
class Recipe:
    """How to train: SGD with momentum and one learning-rate cycle, from a seed.

    Attributes: epochs: passes over the data. batch_size: images a step.
                peak_lr: the highest learning rate of the cycle (up from a 25th of it over the first 20 %
                of the steps, then down to almost zero, both along a cosine).
                weight_decay: L2 penalty. momentum: of SGD.
                label_smoothing: 0 to 1. augment: flip and shift each image, by up to max_shift pixels.
                seed: of the order of the images and their augmentation; seed torch
                itself before building the model, for its first weights and for dropout.
                bfloat16: run the forward pass in bfloat16 (half the time on CPUs that have it).
    Source:     the cycle of Smith and Topin 2018, arXiv:1708.07120.
    """

    epochs: int = 10
    batch_size: int = 128
    peak_lr: float = 0.1
    weight_decay: float = 5e-4
    momentum: float = 0.9
    label_smoothing: float = 0.0
    augment: bool = False
    max_shift: int = 2
    seed: int = 0
    bfloat16: bool = False


@dataclass
class History:
    """What a training run measured: mean training loss and test accuracy after each epoch."""

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)


def one_cycle(
    parameters: Iterable[nn.Parameter], recipe: Recipe, steps: int
) -> tuple[torch.optim.SGD, torch.optim.lr_scheduler.OneCycleLR]:
    """The optimizer of a recipe, and the schedule of its learning rate over so many steps; each is stepped in turn."""
    optimizer = torch.optim.SGD(
        parameters, recipe.peak_lr, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.peak_lr, total_steps=steps, pct_start=0.2, cycle_momentum=False
    )
    return optimizer, schedule


def fit(
    model: nn.Module,
    train: Dataset,
    recipe: Recipe,
    *,
    test: Dataset | None = None,
    progress: bool = True,
    on_step: Callable[[int], None] | None = None,
) -> History:
    """Trains `model` in place and returns its History.

    Args:    model: any classifier of `train.images`; left in eval mode.
             test: measured after each epoch if given. progress: show a bar.
             on_step: called after each step of the optimizer with the number of steps done: 1, 2, …
    Raises:  ValueError if there are no images or no epochs; FloatingPointError if the loss becomes NaN or
             infinite (lower peak_lr).
    """
    if len(train) == 0 or recipe.epochs < 1:
        raise ValueError(f"there is nothing to train: {len(train)} images, {recipe.epochs} epochs")
    generator = torch.Generator().manual_seed(recipe.seed)
    steps = recipe.epochs * -(-len(train) // recipe.batch_size)
    optimizer, schedule = one_cycle(model.parameters(), recipe, steps)
    history, done = History(), 0
    with tqdm(total=steps, disable=not progress, desc="training", unit="step") as bar:
        for _ in range(recipe.epochs):
            model.train()
            total = 0.0
            for images, labels in batches(train, recipe.batch_size, generator=generator):
                if recipe.augment:
                    images = flip_and_shift(images, generator, recipe.max_shift)
                with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
                    logits = model(images)
                loss = F.cross_entropy(logits.float(), labels, label_smoothing=recipe.label_smoothing)
                descend(loss, optimizer, schedule)
                total += loss.item() * len(labels)
                done += 1
                if on_step is not None:
                    on_step(done)
                bar.update()
            history.loss.append(total / len(train))
            if test is not None:
                history.accuracy.append(evaluate(model, test))
            measured = {"accuracy": f"{history.accuracy[-1]:.2%}"} if test is not None else {}
            bar.set_postfix(loss=f"{history.loss[-1]:.3f}", **measured)
    model.eval()
    return history


def descend(loss: Tensor, optimizer: torch.optim.SGD, schedule: torch.optim.lr_scheduler.OneCycleLR) -> None:
    """One step of the optimizer and its schedule along the gradient of `loss`.

    Raises: FloatingPointError, before any weight changes, if the loss is NaN or infinite.
    """
    if not loss.isfinite():
        peak_lr = optimizer.param_groups[0]["max_lr"]
        raise FloatingPointError(f"the loss became {loss.item()}; lower peak_lr={peak_lr}")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()


@contextlib.contextmanager
def eval_mode(*models: nn.Module) -> Iterator[None]:
    """A block in which all models are in eval mode; each of their modules then gets its own mode back."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for module, was_training in modes:  # not model.train(): a module of it may have been frozen
            module.training = was_training


@torch.inference_mode()
def predict(model: nn.Module, images: Tensor, batch_size: int = 100) -> Tensor:
    """Logits (N, n_classes) of `model` in eval mode; each module's own mode is restored afterwards."""
    with eval_mode(model):
        return torch.cat([model(batch) for batch in images.split(batch_size)])


def evaluate(model: nn.Module, data: Dataset, batch_size: int = 100) -> float:
    """Share of `data` classified right, 0 to 1. The model's mode is restored afterwards.

    Raises: ValueError if data is empty.
    """
    if len(data) == 0:
        raise ValueError("data is empty: there is nothing to evaluate on")
    return (predict(model, data.images, batch_size).argmax(1) == data.labels).float().mean().item()
