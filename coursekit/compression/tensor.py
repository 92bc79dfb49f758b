"""Tensor decompositions of a convolution: Tucker-2 and CP, by tensorly, as chains of smaller convolutions."""

from __future__ import annotations

import math
import warnings

import numpy as np
import tensorly
import torch
from numpy.typing import NDArray
from tensorly.decomposition import parafac, partial_tucker
from torch import Tensor, nn

from coursekit.compression.lowrank import conv_like

__all__ = ["cp_conv", "evbmf_rank", "tucker2_conv", "tucker_ranks"]


def _checked(layer: nn.Conv2d) -> NDArray[np.float64]:
    if layer.groups != 1:
        raise ValueError(f"the convolution has {layer.groups} groups: only ungrouped ones are decomposed")
    if not layer.weight.isfinite().all():
        raise ValueError("the kernel holds nan or infinity")
    return layer.weight.detach().double().cpu().numpy()


def _chain(
    layer: nn.Conv2d, convolutions: list[nn.Conv2d], kernels: list[NDArray[np.float64]]
) -> nn.Sequential:
    """The convolutions with these kernels and, in the last, the layer's bias."""
    made = nn.Sequential(*convolutions).to(layer.weight.device, layer.weight.dtype)
    with torch.no_grad():
        for convolution, kernel in zip(convolutions, kernels, strict=True):
            convolution.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
        if layer.bias is not None and convolutions[-1].bias is not None:
            convolutions[-1].bias.copy_(layer.bias)
    return made.train(layer.training)


def _point(n_in: int, n_out: int, *, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 1, bias=bias)


def tucker2_conv(layer: nn.Conv2d, rank_out: int, rank_in: int) -> nn.Sequential:
    """Three convolutions: 1 x 1 to rank_in channels, the kernel's size on to rank_out, 1 x 1 back to all outputs.

    Only the two channel modes of the kernel are cut; tensorly's `partial_tucker` finds the bases (by singular vectors,
    refined in turns). The middle one keeps stride, padding and dilation.

    Args:    rank_out: 1 to C_out. rank_in: 1 to C_in.
    Raises:  ValueError if a rank is out of range, for a grouped layer, or a kernel that is not finite.
    Source:  Kim et al. 2016, arXiv:1511.06530, section 3. Taught in lesson 14.
    """
    kernel = _checked(layer)
    for rank, most, of in (
        (rank_out, layer.out_channels, "rank_out"),
        (rank_in, layer.in_channels, "rank_in"),
    ):
        if not 1 <= rank <= most:
            raise ValueError(f"{of} must be 1 to {most}, got {rank}")
    # Whoever imports tensorly-torch has set tensorly to PyTorch. The relative error of a kernel of zeros is 0 / 0.
    with tensorly.backend_context("numpy"), np.errstate(invalid="ignore"):
        (core, (outputs, inputs)), _ = partial_tucker(
            kernel, rank=[rank_out, rank_in], modes=[0, 1], init="svd"
        )
    middle = conv_like(layer, rank_in, rank_out)
    chain = [
        _point(layer.in_channels, rank_in),
        middle,
        _point(rank_out, layer.out_channels, bias=layer.bias is not None),
    ]
    return _chain(layer, chain, [inputs.T[:, :, None, None], core, outputs[:, :, None, None]])


def cp_conv(
    layer: nn.Conv2d, rank: int, *, n_iterations: int = 100, ridge: float = 1e-3, seed: int = 0
) -> nn.Sequential:
    """Four convolutions: 1 x 1 to `rank` channels, K x 1 and 1 x K on each channel alone, 1 x 1 to all outputs.

    The kernel as a sum of `rank` products of four vectors, fitted by tensorly's `parafac` (alternating least squares).
    Left to itself the fit grows large products that cancel each other, and fine-tuning then diverges: a small penalty
    on their size costs nothing in fit and cures it. Each product's size is shared out evenly among its four vectors.

    Args:    rank: at least 1. n_iterations: of the fit, at most. ridge: the penalty, in units of the kernel's norm over
             the root of rank; 0 for none. seed: for what a random start fills up.
    Raises:  ValueError if rank is below 1 or ridge negative, for a grouped layer, for a kernel that is not finite, and
             if no fit is found, as for a kernel that is all 0.
    Source:  Lebedev et al. 2015, arXiv:1412.6553. Taught in lesson 14.
    """
    kernel = _checked(layer)
    if rank < 1 or ridge < 0:
        raise ValueError(f"rank must be at least 1 and ridge not negative, got {rank} and {ridge}")
    penalty = ridge * float(np.linalg.norm(kernel)) / math.sqrt(rank)
    weights, factors = _products(kernel, rank, n_iterations, penalty, seed)
    share = np.abs(weights) ** 0.25
    outputs, inputs, columns, rows = (factor * share for factor in factors)
    outputs = outputs * np.sign(weights)
    chain = [
        _point(layer.in_channels, rank),
        conv_like(layer, rank, rank, along=0, groups=rank),
        conv_like(layer, rank, rank, along=1, groups=rank),
        _point(rank, layer.out_channels, bias=layer.bias is not None),
    ]
    kernels = [
        inputs.T[:, :, None, None],
        columns.T[:, None, :, None],
        rows.T[:, None, None, :],
        outputs[:, :, None, None],
    ]
    return _chain(layer, chain, kernels)


def _products(
    kernel: NDArray[np.float64], rank: int, n_iterations: int, penalty: float, seed: int
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """The sizes of the products, (rank,), and their vectors of length 1, a (length, rank) matrix a mode."""
    with tensorly.backend_context("numpy"), warnings.catch_warnings():
        # The two short modes have fewer singular vectors than `rank`; random ones fill up, as they should.
        warnings.filterwarnings("ignore", message="Trying to compute SVD", category=UserWarning)
        for start in ("svd", "random"):
            try:
                weights, factors = parafac(
                    kernel, rank, n_iterations, init=start, tol=1e-10, random_state=seed,
                    normalize_factors=True, l2_reg=penalty,
                )  # fmt: skip
            except np.linalg.LinAlgError:
                # In a sparse kernel a product of singular vectors may meet no weight: its size is 0 and stays so.
                continue
            return weights, factors
    raise ValueError(
        f"no sum of {rank} products was found for the kernel; is it all 0, or the rank too large?"
    )


def tucker_ranks(layer: nn.Conv2d) -> tuple[int, int]:
    """rank_out and rank_in for `tucker2_conv`: in each mode, the directions that stand out of the kernel's own noise.

    Returns: at least 1 each.
    Raises:  ValueError for a grouped layer or a kernel that is not finite.
    Source:  Kim et al. 2016, arXiv:1511.06530, section 3.2. Taught in lesson 14.
    """
    kernel = torch.from_numpy(_checked(layer))
    return max(1, evbmf_rank(kernel.flatten(1))), max(1, evbmf_rank(kernel.transpose(0, 1).flatten(1)))


def evbmf_rank(matrix: Tensor) -> int:
    """How many singular values of a matrix are more than Gaussian noise, whose strength is estimated from it.

    The global solution of empirical variational Bayes: a singular value counts if it exceeds
    sqrt(M s (1 + t) (1 + a / t)), with s the noise variance, a = L / M for L x M (L <= M), and t = 2.5129 sqrt(a).

    Args:    matrix: (m, n), finite.
    Returns: 0 to min(m, n).
    Raises:  ValueError if matrix is no finite matrix.
    Source:  Nakajima et al. 2013, JMLR 14, Global analytic solution of fully-observed variational Bayesian matrix
             factorization, theorem 2 and corollary 1.
    """
    if matrix.dim() != 2 or matrix.numel() == 0 or not matrix.isfinite().all():
        raise ValueError(f"need a finite matrix, got shape {tuple(matrix.shape)}")
    squares = torch.linalg.svdvals(matrix.detach().double()).square().numpy()
    n_short, n_long = sorted(matrix.shape)
    if squares.sum() == 0:
        return 0
    ratio = n_short / n_long
    edge = 2.5129 * math.sqrt(ratio)
    factor = (1 + edge) * (1 + ratio / edge)
    variance = _noise_variance(squares, n_short, n_long, factor)
    return int((squares > n_long * variance * factor).sum())


def _noise_variance(squares: NDArray[np.float64], n_short: int, n_long: int, factor: float) -> float:
    """The noise variance that minimizes the free energy, between the bounds that theorem 2 gives."""
    from scipy.optimize import minimize_scalar  # slow to import, and only needed here

    ratio = n_short / n_long
    noisy = min(math.ceil(n_short / (1 + ratio)) - 1, len(squares) - 1)
    upper = squares.sum() / (n_short * n_long)
    lower = max(squares[noisy] / (n_long * factor), squares[noisy:].mean() / n_long, upper * 1e-12)
    if lower >= upper:
        return float(upper)

    def energy(variance: float) -> float:
        x = squares / (n_long * variance)
        signal, noise = x[x > factor], np.maximum(x[x <= factor], 1e-300)
        gap = signal - (1 + ratio)
        t = (gap + np.sqrt(np.maximum(gap * gap - 4 * ratio, 0))) / 2
        return float(
            (noise - np.log(noise)).sum()
            + (signal - t + np.log((t + 1) / signal) + ratio * np.log(t / ratio + 1)).sum()
        )

    return float(
        minimize_scalar(energy, bounds=(lower, upper), method="bounded", options={"xatol": upper * 1e-9}).x
    )
