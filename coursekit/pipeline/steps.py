"""Ready-made steps of a pipeline, one for every technique: each is a callable from a model to a new model.

A step that damages the network may train what it made: give it `finetune=FineTune(train, recipe)`. Weights that are
zero stay zero then, shared weights stay shared, and weights on a grid stay on it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from coursekit.compression import factorize_network, replace_module_, tucker2_conv
from coursekit.compression.lowrank import rank_for_energy
from coursekit.compression.sharing import attach_codebooks, finalize_codebooks, share_weights, shareable
from coursekit.data import Dataset
from coursekit.distillation import DistillationLoss, Objective, distill
from coursekit.pruning import (
    ChannelPruning,
    attach_masks,
    finalize,
    magnitude_scores,
    make_masks,
    masks_from_zeros,
    prune_channels,
)
from coursekit.pruning.masks import Scope
from coursekit.quantization import (
    fake_quantize,
    fold_batch_norms,
    quantize_weights,
    symmetric_scale_per_channel,
    weight_names,
)
from coursekit.train import Recipe, fit

__all__ = [
    "Distil",
    "FineTune",
    "NamedStep",
    "Trainer",
    "cut_channels",
    "fine_tune",
    "fold_norms",
    "integer_weights",
    "low_rank",
    "prune",
    "share",
    "short_floats",
    "tucker",
]


class Trainer(Protocol):
    """Whatever trains a network in place: `FineTune`, or a distillation."""

    def __call__(self, model: nn.Module) -> object: ...


@dataclass(frozen=True)
class FineTune:
    """Trains a network in place on these images by this recipe, with `coursekit.train.fit`."""

    train: Dataset
    recipe: Recipe = field(default_factory=lambda: Recipe(epochs=1, peak_lr=0.02, augment=True))
    progress: bool = False

    def __call__(self, model: nn.Module) -> None:
        fit(model, self.train, self.recipe, progress=self.progress)


@dataclass(frozen=True)
class Distil:
    """Trains a network in place on what a teacher, most often the original, says of each image.

    Attributes: teacher: left as it is. objective: Hinton's loss by default.
    """

    teacher: nn.Module
    train: Dataset
    recipe: Recipe = field(default_factory=lambda: Recipe(epochs=1, peak_lr=0.02, augment=True))
    objective: Objective = field(default_factory=DistillationLoss)

    def __call__(self, model: nn.Module) -> None:
        distill(model, self.teacher, self.train, self.objective, self.recipe)


@dataclass(frozen=True)
class NamedStep:
    """A step with a name for the tables; `dataclasses.replace(step, finetune=…)` is the same step, trained.

    Attributes: name. run: (model, finetune) -> new model. finetune: trains what the step made, None for no training.
    """

    name: str
    run: Callable[[nn.Module, Trainer | None], nn.Module] = field(repr=False)
    finetune: Trainer | None = field(default=None, repr=False)

    def __call__(self, model: nn.Module) -> nn.Module:
        return self.run(model, self.finetune).eval()


def prune(sparsity: float, *, scope: Scope = "global", finetune: Trainer | None = None) -> NamedStep:
    """Sets this share of the weights to zero, the smallest first, counting those that are zero already.

    Args:    sparsity: 0 to 1. scope: "global" compares all layers, "layer" each by itself.
    Raises:  when run: ValueError if it is out of range, or below what is zero already.
    """

    def run(model: nn.Module, finetune: Trainer | None) -> nn.Module:
        made = copy.deepcopy(model)
        masks = make_masks(magnitude_scores(made), sparsity, scope, within=masks_from_zeros(made))
        attach_masks(made, masks)
        finalize(made)
        return _trained(made, finetune)

    return NamedStep(f"prune {sparsity:.0%}", run, finetune)


def cut_channels(macs: float, *, example: Tensor | None = None, finetune: Trainer | None = None) -> NamedStep:
    """Removes channels until this share of the MACs is left; the network gets narrower, smaller and faster.

    Args:    macs: above 0 and up to 1. example: one input, by default (1, 1, 28, 28).
    Raises:  when run: as `coursekit.pruning.prune_channels`.
    """

    def run(model: nn.Module, finetune: Trainer | None) -> nn.Module:
        image = torch.zeros(1, 1, 28, 28) if example is None else example
        return _trained(prune_channels(model, image, ChannelPruning(macs=macs)), finetune)

    return NamedStep(f"channels to {macs:.0%} of MACs", run, finetune)


def low_rank(energy: float, *, spatial: bool = True, finetune: Trainer | None = None) -> NamedStep:
    """Splits layers into two thinner ones that keep this share of their energy, where that saves numbers.

    Raises: when run: as `coursekit.compression.factorize_network`.
    """

    def run(model: nn.Module, finetune: Trainer | None) -> nn.Module:
        return _trained(factorize_network(model, energy, spatial=spatial)[0], finetune)

    return NamedStep(f"low rank {energy:.0%}", run, finetune)


def tucker(energy: float, *, finetune: Trainer | None = None) -> NamedStep:
    """Splits each convolution in three by Tucker-2, keeping this share of energy, where that saves numbers.

    Args:   energy: of each of the kernel's two channel modes, above 0 and at most 1.
    Raises: when run: ValueError if it is out of range.
    """

    def run(model: nn.Module, finetune: Trainer | None) -> nn.Module:
        made = copy.deepcopy(model)
        for name, layer in model.named_modules():
            if not isinstance(layer, nn.Conv2d) or layer.groups != 1 or not layer.weight.any():
                continue
            kernel = layer.weight.detach().double()
            modes = kernel.flatten(1), kernel.transpose(0, 1).flatten(1)
            r_out, r_in = (rank_for_energy(torch.linalg.svdvals(mode), energy) for mode in modes)
            size = kernel[0, 0].numel()
            r_out, r_in = min(r_out, r_in * size), min(r_in, r_out * size)  # no core has more directions
            kept = r_in * layer.in_channels + r_in * r_out * size + r_out * layer.out_channels
            if kept < kernel.numel():
                replace_module_(made, name, tucker2_conv(layer, r_out, r_in))
        return _trained(made, finetune)

    return NamedStep(f"Tucker {energy:.0%}", run, finetune)


def share(n_clusters: int, *, finetune: Trainer | None = None) -> NamedStep:
    """Gives the weights of each layer this many values in common; zeros stay zeros beside them.

    Args:   n_clusters: at least 1. finetune: trains the values together with biases and batch norms.
    Raises: when run: as `coursekit.compression.sharing.share_weights`.
    """

    def run(model: nn.Module, finetune: Trainer | None) -> nn.Module:
        made = share_weights(model, n_clusters)
        if finetune is None:
            return made
        zeros = {name: weight.detach() == 0 for name, weight in shareable(made).items()}
        large = [name for name, zero in zeros.items() if 2 * n_clusters < int((~zero).sum())]
        attach_codebooks(made, large, reduction="mean")
        finetune(made)
        finalize_codebooks(made)
        with torch.no_grad():
            for name, weight in shareable(made).items():
                weight.masked_fill_(zeros[name], 0.0)
        return share_weights(made, n_clusters)  # the layers too small for a codebook were trained freely

    return NamedStep(f"share {n_clusters}", run, finetune)


def integer_weights(n_bits: int = 8, *, finetune: Trainer | None = None) -> NamedStep:
    """Puts the weights on a symmetric grid of integers, one scale for each output channel.

    Args:   n_bits: 2 to 8. finetune: trains through the rounding (straight-through gradients); zeros stay zeros.
    Raises: when run: ValueError if n_bits is out of range.
    """

    def run(model: nn.Module, finetune: Trainer | None) -> nn.Module:
        made = copy.deepcopy(model)
        if finetune is not None:
            names = weight_names(made)
            layers = [made.get_submodule(name.rpartition(".")[0]) for name in names]
            for layer in layers:
                holder = _OnGrid(n_bits, layer.get_parameter("weight").detach() != 0)
                parametrize.register_parametrization(layer, "weight", holder)
            finetune(made)
            for layer in layers:
                parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        return quantize_weights(made, n_bits)

    return NamedStep(f"int{n_bits} weights", run, finetune)


class _OnGrid(nn.Module):
    """Weights rounded to a grid on the way forward; the gradient passes as if they were not."""

    def __init__(self, n_bits: int, kept: Tensor) -> None:
        super().__init__()
        self.n_bits, self.kept = n_bits, kept

    def forward(self, weight: Tensor) -> Tensor:
        weight = weight * self.kept
        with torch.no_grad():
            rounded = fake_quantize(weight, symmetric_scale_per_channel(weight, self.n_bits), self.n_bits)
        return weight + (rounded - weight).detach()


def fold_norms() -> NamedStep:
    """Folds each batch norm into the layer before it; the network computes the same with fewer numbers.

    It comes last or before weights are shared or put on a grid: each channel is multiplied by a number of its own.

    Raises: when run: as `coursekit.quantization.fold_batch_norms`.
    """

    def run(model: nn.Module, finetune: Trainer | None) -> nn.Module:
        made = copy.deepcopy(model)
        folded = dict(fold_batch_norms(model).named_modules())
        for name, layer in model.named_modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                replace_module_(made, name, folded[name])
            elif isinstance(layer, nn.BatchNorm2d) and name not in folded:
                replace_module_(made, name, nn.Identity())
        return made

    return NamedStep("fold batch norms", run)


def short_floats() -> NamedStep:
    """Rounds what is no weight of a layer, biases and batch norms, to 16 bits: to float16 if it fits, else bfloat16."""

    def run(model: nn.Module, finetune: Trainer | None) -> nn.Module:
        made = copy.deepcopy(model)
        weights = set(weight_names(made))
        with torch.no_grad():
            for name, tensor in made.state_dict().items():
                if name not in weights and tensor.dtype == torch.float32:
                    short = tensor.half()
                    tensor.copy_(short if short.isfinite().all() else tensor.bfloat16())
        return made

    return NamedStep("16-bit rest", run)


def fine_tune(finetune: Trainer) -> NamedStep:
    """Trains a copy of the network; weights that are zero stay so."""
    return NamedStep("fine-tune", lambda model, trainer: _trained(copy.deepcopy(model), trainer), finetune)


def _trained(model: nn.Module, finetune: Trainer | None) -> nn.Module:
    """The model itself, trained if asked; weights that are zero stay so."""
    if finetune is not None:
        attach_masks(model, masks_from_zeros(model))
        finetune(model)
        finalize(model)
    return model
