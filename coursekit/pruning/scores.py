"""How much a network would miss each of its weights: scores, higher is more important."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.data import Dataset, batches
from coursekit.train import eval_mode

__all__ = [
    "MovementScores",
    "magnitude_scores",
    "prunable",
    "random_scores",
    "taylor_score",
    "taylor_scores",
    "weights_of",
]

_KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def prunable(model: nn.Module, *, output_layer: bool = True) -> list[str]:
    """The names of the weights worth pruning: those of linear layers and convolutions, each tensor once.

    Biases and batch norms are few and cost little; they stay.

    Args:    output_layer: False leaves out the last of them in the order the model registers its layers,
             which is the one that names the classes.
    Raises:  ValueError if there is none, or if something else (torch.nn.utils.prune, parametrize) has taken
             the place of a weight: make that permanent first.
    Source:  Taught in lesson 05.

    >>> prunable(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)), output_layer=False)
    ['0.weight']
    """
    names: list[str] = []
    seen: set[int] = set()
    for name, module in model.named_modules():
        if isinstance(module, _KINDS):
            full = f"{name}.weight".lstrip(".")
            weight = dict(module.named_parameters(recurse=False)).get("weight")
            if weight is None:
                raise ValueError(
                    f"{full} is not a parameter: prune or parametrize holds it; make that permanent first"
                )
            if id(weight) not in seen:  # tied layers share one tensor
                names.append(full)
            seen.add(id(weight))
    if not output_layer:
        names = names[:-1]
    if not names:
        raise ValueError("the model has no linear layer or convolution to prune")
    return names


def weights_of(model: nn.Module, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """The weights of that name (by default all prunable ones), detached, sharing the model's memory.

    Raises: ValueError for a name that is not prunable, as `prunable`.
    """
    known = prunable(model)
    chosen = known if names is None else list(names)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not a prunable weight; the model has {', '.join(known)}")
    return {name: model.get_parameter(name).detach() for name in chosen}


def magnitude_scores(model: nn.Module, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """|w| of every prunable weight.

    Args:    names: which weights; all of `prunable(model)` by default.
    Returns: name to scores, at least 0, the shape of the weight; the model's own memory is not shared.
    Raises:  ValueError as `weights_of`.
    Source:  Han et al. 2015, arXiv:1506.02626, section 3. Taught in lesson 05.
    """
    return {name: weight.abs() for name, weight in weights_of(model, names).items()}


def random_scores(model: nn.Module, seed: int = 0, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Uniform random scores in (0, 1], and 0 for a weight that is already zero: the control to beat.

    Args:    seed: the same seed gives the same scores. names: as `magnitude_scores`.
    Raises:  ValueError as `weights_of`.
    Source:  Taught in lesson 05.
    """
    generator = torch.Generator().manual_seed(seed)
    scores = {}
    for name, weight in weights_of(model, names).items():
        drawn = 1 - torch.rand(weight.shape, generator=generator)
        scores[name] = drawn.to(weight.device) * (weight != 0)
    return scores


def taylor_score(weight: Tensor, gradients: Tensor) -> Tensor:
    """The mean over batches of |w g|: to first order, by how much the loss changes if w becomes 0.

    The absolute value comes before the mean: over many batches of a trained network the gradients cancel.

    Args:    weight: any shape. gradients: (B, *weight.shape), dLoss/dw of each of B batches.
    Returns: at least 0, the shape of weight.
    Raises:  ValueError if there is no batch or the shapes do not fit.
    Source:  Molchanov et al. 2017, arXiv:1611.06440, section 2.2. Taught in lesson 05.

    >>> taylor_score(torch.tensor([2.0, 0.0]), torch.tensor([[1.0, 5.0], [-1.0, 5.0]]))
    tensor([2., 0.])
    """
    if len(gradients) == 0 or gradients.shape[1:] != weight.shape:
        raise ValueError(f"gradients must be (B, *{tuple(weight.shape)}), got {tuple(gradients.shape)}")
    return (weight * gradients).abs().mean(dim=0)


def taylor_scores(
    model: nn.Module, data: Dataset, names: Iterable[str] | None = None, *, batch_size: int = 100
) -> dict[str, Tensor]:
    """`taylor_score` of every prunable weight, with the gradients of the cross-entropy on real batches.

    The model is in eval mode meanwhile; neither its weights nor their `.grad` change.

    Args:    data: images and labels; 1,000 of the training set will do. names: as `magnitude_scores`.
    Returns: name to scores, at least 0, the shape of the weight.
    Raises:  ValueError if data is empty; as `weights_of`.
    Source:  Molchanov et al. 2017, arXiv:1611.06440, section 2.2. Taught in lesson 05.
    """
    if len(data) == 0:
        raise ValueError("data is empty: without a batch there is no gradient")
    weights = weights_of(model, names)
    parameters = [model.get_parameter(name) for name in weights]
    sums = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    device = parameters[0].device
    with eval_mode(model), torch.enable_grad():
        n = 0
        for images, labels in batches(data, batch_size):
            loss = F.cross_entropy(model(images.to(device)), labels.to(device))
            gradients = torch.autograd.grad(loss, parameters)
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
                sums[name] += (weight * gradient).abs()
            n += 1
    return {name: total / n for name, total in sums.items()}


class MovementScores:
    """Scores of weights by where training moves them: up if away from zero, down if towards it.

    Call `update` after each backward pass, before the optimizer's step; read `scores` at the end.

    Args:    names: as `magnitude_scores`.
    Raises:  ValueError as `weights_of`.
    Source:  Sanh et al. 2020, arXiv:2005.07683, equation 3 (with learning rate 1 for the scores).
    """

    def __init__(self, model: nn.Module, names: Iterable[str] | None = None) -> None:
        self._model = model
        self._sums = {name: torch.zeros_like(w) for name, w in weights_of(model, names).items()}

    def update(self) -> None:
        """Subtracts w g of the gradients that are there now.

        Raises: ValueError if a weight has no gradient: call backward first.
        """
        for name in self._sums:
            if self._model.get_parameter(name).grad is None:
                raise ValueError(f"{name} has no gradient; call loss.backward() first")
        for name, total in self._sums.items():
            parameter = self._model.get_parameter(name)
            assert parameter.grad is not None
            total -= parameter.detach() * parameter.grad

    def scores(self) -> dict[str, Tensor]:
        """Name to scores so far, of either sign, the shape of the weight."""
        return {name: total.clone() for name, total in self._sums.items()}
