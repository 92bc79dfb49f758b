"""Weight sharing of whole networks: each layer's weights from a codebook of its own, trained on or made permanent.

While it trains, a layer holds its codebook as the parameter and computes its weights by looking them up (a
parametrization of torch, so that every optimizer, `deepcopy` and `state_dict` know about it). What is 0 is pruned: it
has no entry in the codebook, gets no gradient and stays exactly 0.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from coursekit.compression.codebooks import codebook_gradient, share_with_zeros
from coursekit.compression.kmeans import Init, initial_centroids, kmeans, lloyd
from coursekit.data import Dataset
from coursekit.train import History, Recipe, fit

__all__ = [
    "attach_codebooks",
    "codebooks_of",
    "finalize_codebooks",
    "finetune_centroids",
    "share_weights",
    "shareable",
]

Reduction = Literal["sum", "mean"]
MOST_CODES = 4096


def shareable(model: nn.Module, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Name to weight of every linear and convolution layer, or of those named.

    Raises: ValueError for a name that is none of them.
    """
    found = {
        f"{name}.weight".lstrip("."): module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }
    if names is None:
        return found
    for name in (chosen := list(names)):
        if name not in found:
            raise ValueError(f"no weight {name!r} to share; there are {', '.join(found)}")
    return {name: found[name] for name in chosen}


def share_weights(
    model: nn.Module,
    n_clusters: int | Mapping[str, int],
    *,
    init: Init | Literal["best"] = "best",
    seed: int = 0,
) -> nn.Module:
    """A copy of a network in which each layer's weights take no more than n_clusters values, or 0.

    Args:    model: trained; left as it is. Weights that are exactly 0 are pruned: they stay 0, beside the clusters.
             n_clusters: for every weight of `shareable`, or name to number for some: 2**b for indices of b bits.
             init: "best" for the best codebook there is (`kmeans`), or where Lloyd's algorithm begins: "linear",
             "density" or "random". seed: for "random".
    Raises:  ValueError for an unknown name, fewer than 1 cluster, weights that are not finite, or another init.
    Source:  Han et al. 2016, arXiv:1510.00149, section 3. Taught in lesson 11.
    """
    shared = copy.deepcopy(model)
    wanted = n_clusters if isinstance(n_clusters, Mapping) else dict.fromkeys(shareable(shared), n_clusters)
    with torch.no_grad():
        for name, weight in shareable(shared, wanted).items():
            kept = weight.detach()[weight.detach() != 0]
            if kept.numel():
                codebook, indices = share_with_zeros(weight, _centroids(kept, wanted[name], init, seed))
                weight.copy_(codebook[indices])
    return shared


def _centroids(kept: Tensor, n_clusters: int, init: Init | Literal["best"], seed: int) -> Tensor:
    if init == "best":
        return kmeans(kept, n_clusters).centroids
    return lloyd(kept, initial_centroids(kept, n_clusters, init, seed=seed)).centroids


class _LookUp(torch.autograd.Function):
    """codebook[indices], with the codebook's gradient summed over the weights that share an entry, or averaged."""

    @staticmethod
    def forward(ctx: Any, codebook: Tensor, indices: Tensor, counts: Tensor | None) -> Tensor:
        ctx.save_for_backward(indices, counts)
        ctx.n_codes = len(codebook)
        return codebook.index_select(0, indices.flatten()).reshape(indices.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        indices, counts = ctx.saved_tensors
        summed = codebook_gradient(gradients[0], indices, ctx.n_codes)
        return (summed if counts is None else summed / counts), None, None


class _Shared(nn.Module):
    """The parametrization: centroids (k,) to a weight; index 0 stands for 0.0, index i for centroid i - 1."""

    indices: Tensor
    counts: Tensor | None

    def __init__(self, indices: Tensor, counts: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("indices", indices)
        self.register_buffer("counts", counts)

    def forward(self, centroids: Tensor) -> Tensor:
        return _LookUp.apply(nn.functional.pad(centroids, (1, 0)), self.indices, self.counts)


def attach_codebooks(
    model: nn.Module, names: Iterable[str] | None = None, *, reduction: Reduction = "sum"
) -> None:
    """Makes the codebooks of shared weights the parameters that train, until `finalize_codebooks`.

    Make the optimizer afterwards: the parameters are others. Works through `deepcopy` and `state_dict`.

    Args:    model: changed in place. Its shared weights are found by their few values; 0 is none of them.
             names: of the weights, by default all of `shareable`.
             reduction: "sum", the gradient of a centroid as it is; or "mean", divided by the number of weights that
             share it: what the weights' own descent would do if they could only move together. The learning rate that
             fits the weights then fits the centroids; for "sum" it must be thousands of times smaller.
    Raises:  ValueError for an unknown name, one attached already, weights that are all 0 or not shared (more than 4,096
             values, or more than half as many as weights), or another reduction; the model is then unchanged.
    Source:  Han et al. 2016, arXiv:1510.00149, section 3.3. Taught in lesson 11.
    """
    if reduction not in ("sum", "mean"):
        raise ValueError(f"reduction must be 'sum' or 'mean', got {reduction!r}")
    found = {name: _found(model, name, w.detach()) for name, w in shareable(model, names).items()}
    for name, (centroids, indices) in found.items():
        layer = model.get_submodule(name.rpartition(".")[0])
        counts = torch.bincount(indices.flatten(), minlength=len(centroids) + 1).clamp(min=1)
        layer.weight = nn.Parameter(centroids)
        how = _Shared(indices, counts.to(centroids.dtype) if reduction == "mean" else None)
        parametrize.register_parametrization(layer, "weight", how, unsafe=True)


def _found(model: nn.Module, name: str, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The centroids of a shared weight, and the index of each of its values, 0 for 0.0."""
    if parametrize.is_parametrized(model.get_submodule(name.rpartition(".")[0]), "weight"):
        raise ValueError(f"{name} has a codebook already")
    centroids = weight[weight != 0].unique()
    if not 0 < len(centroids) <= min(MOST_CODES, max(1, weight.numel() // 2)):
        raise ValueError(f"{name} has {len(centroids):,} values other than 0: use share_weights first")
    return centroids, share_with_zeros(weight, centroids)[1]


def codebooks_of(model: nn.Module) -> dict[str, Tensor]:
    """Name of each weight with an attached codebook to its centroids, copies, in the order they were attached in."""
    return {name: layer.parametrizations.weight.original.detach().clone() for name, layer in _attached(model)}


def _attached(model: nn.Module) -> list[tuple[str, Any]]:
    return [
        (f"{name}.weight".lstrip("."), module)
        for name, module in model.named_modules()
        if parametrize.is_parametrized(module, "weight")
        and isinstance(module.parametrizations.weight[0], _Shared)
    ]


def finalize_codebooks(model: nn.Module) -> None:
    """Makes the weights plain parameters again, with the values they have. No codebook, no change."""
    for _, layer in _attached(model):
        weight = nn.Parameter(layer.weight.detach().clone())
        # torch's remove_parametrizations would take the weight from all copies too: they share the class.
        layer.__class__ = type(layer).__bases__[0]
        del layer.parametrizations
        rest = dict(layer._parameters)
        layer._parameters.clear()
        layer.weight = weight  # in front again, as in a new layer
        for name, parameter in rest.items():
            layer.register_parameter(name, parameter)


def finetune_centroids(
    model: nn.Module,
    train: Dataset,
    recipe: Recipe,
    *,
    reduction: Reduction = "mean",
    test: Dataset | None = None,
    progress: bool = True,
) -> tuple[nn.Module, History]:
    """A copy of a network with shared weights, its centroids (and biases and batch norms) trained on, and the History.

    Args:    model: left as it is. train, recipe, test, progress: as `coursekit.train.fit`. reduction: as
             `attach_codebooks`.
    Returns: a plain network: as many values a layer as before, or fewer where two centroids met, and the same zeros.
    Raises:  as `attach_codebooks` and `fit`.
    Source:  Han et al. 2016, arXiv:1510.00149, section 3.3. Taught in lesson 11.
    """
    tuned = copy.deepcopy(model)
    attach_codebooks(tuned, reduction=reduction)
    history = fit(tuned, train, recipe, test=test, progress=progress)
    finalize_codebooks(tuned)
    return tuned.eval(), history
