"""A codebook and indices into it, on plain tensors: one round of k-means, zeros kept, the gradient of a codebook."""

from __future__ import annotations

import torch
from torch import Tensor

from coursekit.packing import bits_for

__all__ = ["codebook_gradient", "kmeans_step", "share_with_zeros", "sharing_rate"]


def kmeans_step(values: Tensor, centroids: Tensor) -> Tensor:
    """The centroids after one round of k-means, in which no cluster stays empty.

    Each value belongs to its nearest centroid, to the lower of two equally near ones; each centroid moves to the mean
    of its values. A centroid without values moves to the value that is farthest from its own centroid, the next such
    centroid to the second farthest, and so on.

    Args:    values: any shape, at least as many as centroids. centroids: (k,), ascending.
    Returns: (k,) float64, ascending.
    Raises:  ValueError if there are more centroids than values, or none, or they do not ascend.
    Source:  Lloyd 1982, Least squares quantization in PCM. Taught in lesson 11.

    >>> kmeans_step(torch.tensor([0.0, 1.0, 3.0, 7.0]), torch.tensor([0.0, 4.0, 90.0]))
    tensor([0.5000, 5.0000, 7.0000], dtype=torch.float64)
    """
    flat, centres = values.detach().double().flatten(), centroids.detach().double()
    if not 0 < centres.numel() <= flat.numel():
        raise ValueError(f"{flat.numel()} values do not make {centres.numel()} clusters")
    if (centres.diff() < 0).any():
        raise ValueError("centroids must be ascending")
    nearest = torch.bucketize(flat, (centres[1:] + centres[:-1]) / 2)
    counts = torch.bincount(nearest, minlength=len(centres))
    sums = torch.zeros_like(centres).index_add_(0, nearest, flat)
    moved = sums / counts
    empty = counts == 0
    far = (flat - centres[nearest]).abs().argsort(descending=True, stable=True)
    moved[empty] = flat[far[: int(empty.sum())]]
    return moved.sort().values


def share_with_zeros(weight: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """A codebook whose entry 0 is 0.0, for what is pruned, and the index of each weight into it.

    A weight that is exactly 0 gets the index 0. Every other gets that of its nearest centroid, 1 or more, even where 0
    would be nearer: what was not pruned stays in the network.

    Args:    weight: any shape. centroids: (k,), ascending.
    Returns: codebook, (k + 1,) of the dtype of weight; indices, int64, of the shape of weight.
    Raises:  ValueError if there are no centroids or they do not ascend.
    Source:  Han et al. 2016, arXiv:1510.00149, section 3. Taught in lesson 11.

    >>> share_with_zeros(torch.tensor([0.0, 0.1, 0.9]), torch.tensor([-1.0, 1.0]))
    (tensor([ 0., -1.,  1.]), tensor([0, 2, 2]))
    """
    centres = centroids.detach().double()
    if centres.numel() == 0 or (centres.diff() < 0).any():
        raise ValueError("centroids must be ascending, and at least one")
    nearest = torch.bucketize(weight.detach().double().contiguous(), (centres[1:] + centres[:-1]) / 2) + 1
    codebook = torch.cat([centres.new_zeros(1), centres]).to(weight.dtype)
    return codebook, torch.where(weight.detach() == 0, 0, nearest)


def codebook_gradient(gradient: Tensor, indices: Tensor, n_codes: int) -> Tensor:
    """The gradient of each entry of a codebook: the sum of the gradients of the weights that look it up.

    Args:    gradient: of the loss with respect to each weight. indices: int64, the shape of gradient, 0 to n_codes - 1;
             0 stands for a pruned weight. n_codes: entries of the codebook, the 0 included.
    Returns: (n_codes,) of the dtype of gradient; entry 0 is 0, since what is pruned stays so.
    Raises:  ValueError if the shapes differ, or an index is not in the codebook.
    Source:  Han et al. 2016, arXiv:1510.00149, equation 3. Taught in lesson 11.

    >>> codebook_gradient(torch.tensor([9.0, 1.0, 2.0, 4.0]), torch.tensor([0, 2, 1, 2]), n_codes=3)
    tensor([0., 2., 5.])
    """
    if gradient.shape != indices.shape:
        raise ValueError(f"{tuple(gradient.shape)} gradients and {tuple(indices.shape)} indices")
    if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < n_codes:
        raise ValueError(f"indices must be 0 to {n_codes - 1}, got {indices.min()}..{indices.max()}")
    summed = gradient.new_zeros(n_codes).scatter_add_(0, indices.flatten(), gradient.flatten())
    summed[0] = 0
    return summed


def sharing_rate(n_weights: int, n_centroids: int, n_bits: int = 32) -> float:
    """How many times smaller shared weights are, their codebook counted.

    Args:    n_weights: 1 or more. n_centroids: 1 or more. n_bits: of a weight before, and of a centroid.
    Returns: n b / (n ceil(log2 k) + k b): below 1 where the codebook costs more than the sharing saves.
    Raises:  ValueError if a number is below 1.
    Source:  Han et al. 2016, arXiv:1510.00149, equation 1. Taught in lesson 11.

    >>> sharing_rate(16, 4)
    3.2
    """
    if n_weights < 1 or n_bits < 1:
        raise ValueError(f"n_weights and n_bits must be at least 1, got {n_weights} and {n_bits}")
    return n_weights * n_bits / (n_weights * bits_for(n_centroids) + n_centroids * n_bits)
