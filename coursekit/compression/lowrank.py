"""Low-rank factors: one layer as two thinner ones, from the singular value decomposition of its own weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "SvdFactors",
    "break_even_rank",
    "conv_like",
    "factorize_",
    "factorize_conv",
    "factorize_conv_spatial",
    "factorize_linear",
    "factorize_network",
    "rank_for_energy",
    "replace_module_",
    "separable_conv2d",
    "spatial_factors",
    "split_cost",
    "svd_factors",
    "truncated_svd",
    "weight_matrix",
]


@dataclass(frozen=True)
class SvdFactors:
    """A matrix as left @ right.

    Attributes: left: (m, r). right: (r, n). Each carries the square root of the singular values, so that both train at
                the same pace. error: Frobenius norm of what is missing, the root of the sum of squares of the singular
                values left out: no matrix of this rank comes closer (Eckart and Young 1936).
    """

    left: Tensor
    right: Tensor
    error: float


def svd_factors(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Two factors whose product is the best approximation of a matrix by one of this rank.

    Args:    matrix: (m, n), floating point and finite. rank: 1 to min(m, n).
    Returns: left, (m, rank), and right, (rank, n), in the matrix's dtype; each carries the root of the singular values.
    Raises:  ValueError if matrix is no finite matrix or rank is out of range.
    Source:  Eckart and Young 1936, The approximation of one matrix by another of lower rank. Taught in lesson 13.

    >>> left, right = svd_factors(torch.tensor([[2.0, 4.0], [1.0, 2.0]]), rank=1)
    >>> (left @ right).round(decimals=4).tolist()
    [[2.0, 4.0], [1.0, 2.0]]
    """
    if matrix.dim() != 2 or not matrix.is_floating_point() or not matrix.isfinite().all():
        raise ValueError(f"need a finite floating-point matrix, got {matrix.dtype} {tuple(matrix.shape)}")
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= min(matrix.shape):
        raise ValueError(f"rank must be an int from 1 to {min(matrix.shape)}, got {rank!r}")
    u, s, vh = torch.linalg.svd(matrix.detach().double(), full_matrices=False)
    root = s[:rank].sqrt()
    left, right = u[:, :rank] * root, root[:, None] * vh[:rank]
    return left.to(matrix.dtype), right.to(matrix.dtype)


def truncated_svd(matrix: Tensor, rank: int) -> SvdFactors:
    """`svd_factors`, with what they miss.

    Args, Raises: as `svd_factors`.
    """
    left, right = svd_factors(matrix, rank)
    values = torch.linalg.svdvals(matrix.detach().double())
    return SvdFactors(left, right, values[rank:].norm().item())


def rank_for_energy(singular_values: Tensor, energy: float) -> int:
    """The smallest rank whose singular values hold this share of the sum of all squares.

    Args:    singular_values: falling, at least one above 0. energy: above 0, at most 1.
    Raises:  ValueError if energy is out of range, or the values do not fall or are all 0.
    Source:  Taught in lesson 13.

    >>> rank_for_energy(torch.tensor([3.0, 1.0, 1.0, 1.0]), energy=0.8)
    2
    """
    squares = singular_values.detach().double().square()
    if not 0 < energy <= 1:
        raise ValueError(f"energy must be above 0 and at most 1, got {energy}")
    if squares.numel() == 0 or squares[0] == 0 or (squares.diff() > 0).any():
        raise ValueError("singular values must fall, and the first be above 0")
    held = squares.cumsum(0) / squares.sum()
    enough = held >= energy * (1 - 1e-12)  # rounding must not cost a rank where energy is 1
    return int(enough.nonzero()[0]) + 1 if enough.any() else squares.numel()


def break_even_rank(m: int, n: int) -> int:
    """The largest rank at which two factors, (m, r) and (r, n), have fewer numbers than the m x n of their product.

    Returns: 0 if even rank 1 has not.

    >>> break_even_rank(300, 784)
    216
    """
    return (m * n - 1) // (m + n)


def weight_matrix(layer: nn.Linear | nn.Conv2d, *, spatial: bool = False) -> Tensor:
    """The matrix whose rank a factorization of the layer cuts.

    Returns: a linear layer's weight; a convolution's as (C_out, C_in * K_h * K_w), or with `spatial` as
             (C_in * K_h, C_out * K_w).
    """
    weight = layer.weight.detach()
    if isinstance(layer, nn.Linear):
        return weight
    return _spatial_matrix(weight) if spatial else weight.flatten(1)


def factorize_linear(layer: nn.Linear, rank: int) -> nn.Sequential:
    """Two linear layers, to `rank` features and on, whose product is the layer's best approximation of that rank.

    Raises: as `truncated_svd`.
    Source: Denil et al. 2013, arXiv:1306.0543; Sainath et al. 2013. Taught in lesson 13.
    """
    factors = truncated_svd(layer.weight, rank)
    first = nn.Linear(layer.in_features, rank, bias=False)
    second = nn.Linear(rank, layer.out_features, bias=layer.bias is not None)
    return _filled(layer, first, factors.right, second, factors.left)


def factorize_conv(layer: nn.Conv2d, rank: int) -> nn.Sequential:
    """A convolution like the layer's with `rank` filters, and one of 1 x 1 that mixes them.

    The first keeps kernel, stride, padding and dilation. For a 1 x 1 convolution both are 1 x 1.

    Args:    rank: 1 to min(C_out, C_in * K_h * K_w).
    Raises:  ValueError for a grouped layer (its groups would have to be factorized apart); as `truncated_svd`.
    Source:  Zhang et al. 2016, arXiv:1505.06798, section 2.1. Taught in lesson 13.
    """
    _refuse_groups(layer)
    factors = truncated_svd(weight_matrix(layer), rank)
    first = conv_like(layer, layer.in_channels, rank)
    second = nn.Conv2d(rank, layer.out_channels, 1, bias=layer.bias is not None)
    kernels = factors.right.reshape(rank, layer.in_channels, *layer.kernel_size)
    return _filled(layer, first, kernels, second, factors.left[:, :, None, None])


def spatial_factors(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The two kernels, K x 1 to `rank` channels and 1 x K, that are together the best approximation of a kernel.

    Args:    weight: (C_out, C_in, K_h, K_w). rank: 1 to min(C_in * K_h, C_out * K_w).
    Returns: vertical, (rank, C_in, K_h, 1), and horizontal, (C_out, rank, 1, K_w).
    Raises:  ValueError if weight has not four dimensions; as `svd_factors`.
    Source:  Jaderberg et al. 2014, arXiv:1405.3866, scheme 2; from the real kernel as Tai et al. 2016,
             arXiv:1511.06067. Taught in lesson 13.
    """
    if weight.dim() != 4:
        raise ValueError(f"need a convolution's weight (C_out, C_in, K_h, K_w), got {tuple(weight.shape)}")
    n_out, n_in, height, width = weight.shape
    left, right = svd_factors(_spatial_matrix(weight), rank)
    vertical = left.reshape(n_in, height, rank).permute(2, 0, 1)[..., None]
    horizontal = right.reshape(rank, n_out, width).permute(1, 0, 2)[:, :, None]
    return vertical, horizontal


def _spatial_matrix(weight: Tensor) -> Tensor:
    """A kernel as a matrix with a row for each input channel and height, a column for each output channel and width."""
    n_out, n_in, height, width = weight.shape
    return weight.permute(1, 2, 0, 3).reshape(n_in * height, n_out * width)


def separable_conv2d(
    x: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    bias: Tensor | None = None,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
) -> Tensor:
    """The output of a convolution whose kernel is split into K x 1 and 1 x K, each with its own direction's settings.

    Args:    x: (N, C_in, H, W). vertical: (r, C_in, K_h, 1). horizontal: (C_out, r, 1, K_w). bias: (C_out,) or None.
             stride, padding, dilation: (vertical, horizontal), of the convolution that was split.
    Returns: (N, C_out, H', W'), as `F.conv2d` with the whole kernel.
    Source:  Jaderberg et al. 2014, arXiv:1405.3866, scheme 2. Taught in lesson 13.
    """
    down, across = zip(stride, padding, dilation, strict=True)
    y = F.conv2d(x, vertical, None, (down[0], 1), (down[1], 0), (down[2], 1))
    return F.conv2d(y, horizontal, bias, (1, across[0]), (0, across[1]), (1, across[2]))


def split_cost(
    n_in: int, n_out: int, kernel: tuple[int, int], rank: int, size: tuple[int, int], stride: int = 1
) -> tuple[int, int]:
    """The weights and the multiply-accumulates of a convolution split into K x 1 and 1 x K.

    Args:    kernel: (K_h, K_w). size: (H, W) of the input, padded so that a stride of s leaves 1/s of it, rounded up.
    Returns: weights, without biases; multiply-accumulates for one image. The first half makes all columns: only its
             rows are as few as the output's.
    Source:  Taught in lesson 13.

    >>> split_cost(16, 32, (3, 3), rank=10, size=(28, 28), stride=2)
    (1440, 376320)
    """
    rows, columns = -(-size[0] // stride), -(-size[1] // stride)
    vertical, horizontal = rank * n_in * kernel[0], n_out * rank * kernel[1]
    return vertical + horizontal, vertical * rows * size[1] + horizontal * rows * columns


def factorize_conv_spatial(layer: nn.Conv2d, rank: int) -> nn.Sequential:
    """A convolution of K x 1 to `rank` channels and one of 1 x K, each with its direction's stride, padding, dilation.

    Raises:  ValueError for a grouped layer; as `spatial_factors`.
    Source:  as `spatial_factors`. Taught in lesson 13.
    """
    _refuse_groups(layer)
    vertical, horizontal = spatial_factors(layer.weight, rank)
    columns = conv_like(layer, layer.in_channels, rank, along=0)
    rows = conv_like(layer, rank, layer.out_channels, along=1, bias=layer.bias is not None)
    return _filled(layer, columns, vertical, rows, horizontal)


def conv_like(
    layer: nn.Conv2d, n_in: int, n_out: int, *, along: int | None = None, bias: bool = False, groups: int = 1
) -> nn.Conv2d:
    """A new convolution with the layer's kernel size, stride, padding and dilation, or those of one direction alone.

    Args: along: 0 keeps the vertical settings only, 1 the horizontal ones; None both.
    """

    def both(sizes: tuple[int, ...], neutral: int) -> tuple[int, int]:
        kept = [size if along in (None, axis) else neutral for axis, size in enumerate(sizes)]
        return kept[0], kept[1]

    padding = layer.padding if isinstance(layer.padding, str) else both(layer.padding, 0)
    return nn.Conv2d(
        n_in, n_out, both(layer.kernel_size, 1), both(layer.stride, 1), padding, both(layer.dilation, 1),
        groups, bias, layer.padding_mode,
    )  # fmt: skip


Layer = nn.Linear | nn.Conv2d


def _filled(layer: Layer, first: Layer, a: Tensor, second: Layer, b: Tensor) -> nn.Sequential:
    """Both layers with these weights and the original's bias, in its dtype and mode."""
    made = nn.Sequential(first, second).to(layer.weight.device, layer.weight.dtype)
    with torch.no_grad():
        first.weight.copy_(a)
        second.weight.copy_(b)
        if layer.bias is not None and second.bias is not None:
            second.bias.copy_(layer.bias)
    return made.train(layer.training)


def _refuse_groups(layer: nn.Conv2d) -> None:
    if layer.groups != 1:
        raise ValueError(f"the convolution has {layer.groups} groups: only ungrouped ones are factorized")


def replace_module_(model: nn.Module, name: str, new: nn.Module) -> None:
    """Puts another module into the place of this name, "stage1.0.conv1"; its parent sees nothing of it.

    Raises: AttributeError if there is no such place; ValueError for the empty name, the model itself.
    """
    if not name:
        raise ValueError("the model itself has no place to put another module into")
    model.get_submodule(name)
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new)


def factorize_(model: nn.Module, name: str, rank: int, *, spatial: bool = False) -> None:
    """Replaces one linear layer or ungrouped convolution of the model by its factors, in place.

    Raises: TypeError if the place holds another module; else as `factorize_linear` and the like.
    """
    layer = model.get_submodule(name)
    if isinstance(layer, nn.Linear):
        replace_module_(model, name, factorize_linear(layer, rank))
    elif isinstance(layer, nn.Conv2d):
        replace_module_(model, name, (factorize_conv_spatial if spatial else factorize_conv)(layer, rank))
    else:
        raise TypeError(f"{name} is a {type(layer).__name__}: neither linear layer nor convolution")


def factorize_network(
    model: nn.Module, energy: float, *, spatial: bool = False, keep: tuple[str, ...] = ()
) -> tuple[nn.Module, Mapping[str, int]]:
    """A copy of the model whose layers are factorized where they hold this much energy in a rank that saves numbers.

    Args:    energy: share of the squared singular values to keep, above 0 and at most 1. spatial: split convolutions
             into K x 1 and 1 x K. keep: names of layers to leave alone.
    Returns: the model, and layer name to rank for those that were factorized; grouped convolutions, layers that
             would grow and layers that are all 0 stay as they are.
    Raises:  ValueError if energy is out of range, or a name of `keep` is no layer of the model.
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    if unknown := set(keep) - layers.keys():
        raise ValueError(f"no linear layer or convolution is called {', '.join(sorted(unknown))}")
    made, ranks = copy.deepcopy(model), {}
    for name, layer in layers.items():
        if name in keep or getattr(layer, "groups", 1) != 1 or not layer.weight.any():
            continue
        matrix = weight_matrix(layer, spatial=spatial)
        rank = rank_for_energy(torch.linalg.svdvals(matrix.double()), energy)
        if rank <= break_even_rank(*matrix.shape):
            factorize_(made, name, rank, spatial=spatial)
            ranks[name] = rank
    return made, ranks
