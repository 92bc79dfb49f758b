"""The algebra of tensors with more than two sides: unfolding, mode products, and what Tucker-2 and CP are made of."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["cp_kernel", "mode_product", "tucker2_factors", "tucker2_kernels", "unfold"]


def unfold(tensor: Tensor, mode: int) -> Tensor:
    """The tensor as a matrix: one row for each index of this mode, the other modes in their order along the columns.

    Args:    tensor: at least one dimension. mode: which of them becomes the rows, from 0.
    Returns: (n, rest); along a row the last of the other indices runs fastest, as in tensorly.
    Raises:  ValueError if the tensor has no such mode.
    Source:  Kolda and Bader 2009, SIAM Review 51(3), section 2.4 (there the first index runs fastest). Taught in
             lesson 14.

    >>> unfold(torch.arange(8).reshape(2, 2, 2), 1).tolist()
    [[0, 1, 4, 5], [2, 3, 6, 7]]
    """
    _check_mode(tensor, mode)
    return tensor.movedim(mode, 0).flatten(1) if tensor.dim() > 1 else tensor[:, None]


def mode_product(tensor: Tensor, matrix: Tensor, mode: int) -> Tensor:
    """The tensor with every vector along this mode multiplied by the matrix.

    Args:    tensor: side n in this mode. matrix: (m, n). mode: from 0.
    Returns: the tensor's shape, with m in place of n.
    Raises:  ValueError if the tensor has no such mode, or the matrix does not fit it.
    Source:  Kolda and Bader 2009, SIAM Review 51(3), section 2.5. Taught in lesson 14.

    >>> mode_product(torch.ones(2, 3, 4), torch.ones(5, 3), 1).shape
    torch.Size([2, 5, 4])
    """
    _check_mode(tensor, mode)
    if matrix.dim() != 2 or matrix.shape[1] != tensor.shape[mode]:
        raise ValueError(
            f"the matrix must have {tensor.shape[mode]} columns for mode {mode}, got {tuple(matrix.shape)}"
        )
    return torch.tensordot(tensor, matrix, dims=([mode], [1])).movedim(-1, mode)


def tucker2_factors(weight: Tensor, rank_out: int, rank_in: int) -> tuple[Tensor, Tensor, Tensor]:
    """Core and bases of a kernel's two channel modes, each basis from the singular vectors of its unfolding (HOSVD).

    Args:    weight: (C_out, C_in, K_h, K_w). rank_out, rank_in: at least 1, at most C_out and C_in, and no more than
             the unfolding has columns.
    Returns: core (rank_out, rank_in, K_h, K_w), outputs (C_out, rank_out) and inputs (C_in, rank_in), the columns
             orthonormal. The squared error of the kernel they make is at most the energy that the two cuts lose.
    Raises:  ValueError if weight has not four dimensions, or a rank is out of range.
    Source:  De Lathauwer et al. 2000, SIAM J. Matrix Anal. 21(4); Kim et al. 2016, arXiv:1511.06530. Taught in
             lesson 14.

    >>> core, outputs, inputs = tucker2_factors(torch.ones(6, 4, 3, 3), 2, 1)
    >>> core.shape, outputs.shape, inputs.shape
    (torch.Size([2, 1, 3, 3]), torch.Size([6, 2]), torch.Size([4, 1]))
    """
    if weight.dim() != 4:
        raise ValueError(f"a kernel has four dimensions, got shape {tuple(weight.shape)}")
    bases = []
    for mode, rank, name in ((0, rank_out, "rank_out"), (1, rank_in, "rank_in")):
        matrix = weight.movedim(mode, 0).flatten(1)
        if not 1 <= rank <= min(matrix.shape):
            raise ValueError(f"{name} must be 1 to {min(matrix.shape)}, got {rank}")
        bases.append(torch.linalg.svd(matrix, full_matrices=False).U[:, :rank])
    return torch.einsum("oihw,oa,ib->abhw", weight, *bases), bases[0], bases[1]


def tucker2_kernels(core: Tensor, outputs: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The kernels of the three convolutions that a Tucker-2 kernel is, in the order in which they run.

    Args:    core: (rank_out, rank_in, K_h, K_w). outputs: (C_out, rank_out). inputs: (C_in, rank_in).
    Returns: (rank_in, C_in, 1, 1), (rank_out, rank_in, K_h, K_w) and (C_out, rank_out, 1, 1).
    Raises:  ValueError if the three do not fit each other.
    Source:  Kim et al. 2016, arXiv:1511.06530, section 3.1. Taught in lesson 14.
    """
    if core.dim() != 4 or core.shape[:2] != (outputs.shape[1], inputs.shape[1]):
        shapes = ", ".join(str(tuple(each.shape)) for each in (core, outputs, inputs))
        raise ValueError(f"core, outputs and inputs do not fit each other: {shapes}")
    return inputs.t()[:, :, None, None], core, outputs[:, :, None, None]


def cp_kernel(outputs: Tensor, inputs: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
    """The kernel that is the sum of as many products of four vectors as the factors have columns.

    Args:    outputs: (C_out, rank). inputs: (C_in, rank). columns: (K_h, rank). rows: (K_w, rank).
    Returns: (C_out, C_in, K_h, K_w).
    Raises:  ValueError if the factors differ in rank.
    Source:  Lebedev et al. 2015, arXiv:1412.6553, equation 3. Taught in lesson 14.

    >>> cp_kernel(torch.tensor([[2.0]]), torch.tensor([[3.0]]), torch.ones(2, 1), torch.tensor([[1.0], [5.0]]))
    tensor([[[[ 6., 30.],
              [ 6., 30.]]]])
    """
    ranks = {each.shape[-1] for each in (outputs, inputs, columns, rows)}
    if len(ranks) != 1:
        raise ValueError(f"the four factors must have one number of columns, got {sorted(ranks)}")
    return torch.einsum("or,ir,hr,wr->oihw", outputs, inputs, columns, rows)


def _check_mode(tensor: Tensor, mode: int) -> None:
    if not 0 <= mode < tensor.dim():
        raise ValueError(f"mode must be 0 to {tensor.dim() - 1}, got {mode}")
