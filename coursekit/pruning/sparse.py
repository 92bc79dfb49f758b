"""Zeros that take no room and no time: sparse files with their positions counted, and a sparse product."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable
from os import PathLike
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from coursekit.pruning.scores import weights_of

__all__ = [
    "SparseLinear",
    "from_csr",
    "load_sparse",
    "save_sparse",
    "sparse_linear",
    "to_csr",
]

Layout = Literal["smallest", "dense", "bitmap", "csr"]
_VALUES, _BITS, _COLUMNS, _ROWS = ".values", ".bits", ".columns", ".row_starts"


def to_csr(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compressed sparse rows: the non-zero values, the column of each, and where each row starts.

    Args:    weight: (rows, columns), at most 32,767 columns.
    Returns: values (nnz,), the dtype of weight, row by row; columns (nnz,) int16; row_starts (rows + 1,) int32:
             row i is values[row_starts[i] : row_starts[i + 1]].
    Raises:  ValueError if weight is not 2-dimensional or is too wide.
    Source:  Taught in lesson 05.

    >>> [part.tolist() for part in to_csr(torch.tensor([[0.0, 2.0], [0.0, 0.0], [3.0, 4.0]]))]
    [[2.0, 3.0, 4.0], [1, 0, 1], [0, 1, 1, 3]]
    """
    if weight.dim() != 2 or weight.shape[1] > 32_767:
        raise ValueError(f"weight must have 2 dimensions, at most 32,767 columns; got {tuple(weight.shape)}")
    rows, columns = weight.nonzero(as_tuple=True)
    counts = torch.bincount(rows, minlength=len(weight))
    starts = torch.cat([torch.zeros(1, dtype=torch.int64, device=weight.device), counts.cumsum(0)])
    return weight[rows, columns], columns.to(torch.int16), starts.to(torch.int32)


def from_csr(values: Tensor, columns: Tensor, row_starts: Tensor, n_columns: int) -> Tensor:
    """The dense (rows, n_columns) matrix of what `to_csr` returned."""
    counts = row_starts.long().diff()
    rows = torch.repeat_interleave(torch.arange(len(counts), device=values.device), counts)
    dense = values.new_zeros(len(counts), n_columns)
    dense[rows, columns.long()] = values
    return dense


def _bitmap(weight: Tensor) -> dict[str, Tensor]:
    """One bit a weight, and the values that are not zero."""
    kept = weight != 0
    bits = torch.from_numpy(np.packbits(kept.cpu().numpy().ravel()))
    return {_VALUES: weight[kept], _BITS: bits}


def _csr(weight: Tensor) -> dict[str, Tensor]:
    values, columns, starts = to_csr(weight.flatten(1))
    return {_VALUES: values, _COLUMNS: columns, _ROWS: starts}


def _bytes(parts: dict[str, Tensor]) -> int:
    return sum(part.numel() * part.element_size() for part in parts.values())


def _encoded(weight: Tensor, layout: Layout) -> dict[str, Tensor]:
    """The tensors that a file holds for one weight, by the suffix of their names."""
    if layout not in ("smallest", "dense", "bitmap", "csr"):
        raise ValueError(f"layout must be 'smallest', 'dense', 'bitmap' or 'csr', got {layout!r}")
    ways = {"dense": lambda w: {"": w}, "bitmap": _bitmap, "csr": _csr}
    if layout != "smallest":
        return ways[layout](weight)
    return min((way(weight) for way in ways.values()), key=_bytes)


def save_sparse(
    model: nn.Module,
    path: str | PathLike[str],
    names: Iterable[str] | None = None,
    *,
    layout: Layout = "smallest",
) -> None:
    """Writes the model to a safetensors file that leaves out the zeros of its weights.

    A bitmap costs a bit for every weight; compressed sparse rows cost two bytes for every one that is kept.
    Positions, biases, batch norms and the header are all in the file, so its size is what pruning brought.

    Args:    model: without masks attached (`finalize`). path: the file to write. names: which weights, all
             prunable ones by default. layout: one for all, or "smallest" for each weight.
    Raises:  ValueError if a mask is attached, as `weights_of`, or for another layout.
    Source:  Taught in lesson 05.
    """
    weights = weights_of(model, names)
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    masked = [key for key in state if key.endswith("weight_mask")]
    if masked:
        raise ValueError(f"{masked[0]} is attached; make the masks permanent with finalize(model) first")
    for name, weight in weights.items():
        del state[name]
        for suffix, part in _encoded(weight, layout).items():
            state[name + suffix] = part.contiguous()
    save_file(state, path)


def load_sparse(path: str | PathLike[str], model: nn.Module) -> nn.Module:
    """A copy of `model` with the values of a file that `save_sparse` wrote, dense again and ready to run.

    Args:   model: any network of the right class; only its shapes are used.
    Raises: RuntimeError if the file's tensors do not fit the model.
    """
    stored = load_file(path)
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    state = {}
    for key, value in stored.items():
        name = key.removesuffix(_VALUES)
        if name + _VALUES not in stored:
            if not key.endswith((_BITS, _COLUMNS, _ROWS)):
                state[key] = value
            continue
        if name not in shapes:
            raise RuntimeError(f"the file has {name!r}, which a {type(model).__name__} does not")
        state[name] = _decoded(name, stored, shapes[name])
    result = copy.deepcopy(model)
    result.load_state_dict(state)
    return result


def _decoded(name: str, stored: dict[str, Tensor], shape: torch.Size) -> Tensor:
    values = stored[name + _VALUES]
    if name + _BITS in stored:
        flags = np.unpackbits(stored[name + _BITS].numpy(), count=shape.numel()).astype(bool)
        if flags.sum() != len(values):
            raise RuntimeError(f"{name}: {len(values)} values for {flags.sum()} places of {tuple(shape)}")
        dense = values.new_zeros(shape.numel())
        dense[torch.from_numpy(flags)] = values
    else:
        columns, starts = stored[name + _COLUMNS], stored[name + _ROWS]
        if len(starts) != shape[0] + 1:
            raise RuntimeError(f"{name}: {len(starts) - 1} rows for {tuple(shape)}")
        dense = from_csr(values, columns, starts, shape.numel() // shape[0])
    return dense.reshape(shape)


class SparseLinear(nn.Module):
    """A linear layer that multiplies only by the weights that are not zero (`torch.sparse`, on the CPU).

    Args:    linear: its zeros are left out. It is copied.
    Source:  Taught in lesson 05.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        values, columns, starts = to_csr(linear.weight.detach())
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
            # int32 positions: the product is faster than with torch's default of int64
            sparse = torch.sparse_csr_tensor(
                starts, columns.to(torch.int32), values, linear.weight.shape, check_invariants=True
            )
        self.register_buffer("weight", sparse)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """(N, out) of (N, in)."""
        y = (self.weight @ x.T).T
        return y if self.bias is None else y + self.bias


def sparse_linear(model: nn.Module) -> nn.Module:
    """A copy of the model in which every linear layer is a `SparseLinear`. Convolutions stay dense.

    Raises: ValueError if the model has no linear layer, or is one itself (use `SparseLinear`).
    """
    result = copy.deepcopy(model)
    found = [(name, layer) for name, layer in result.named_modules() if isinstance(layer, nn.Linear) and name]
    if not found:
        raise ValueError("the model has no linear layer inside")
    for name, layer in found:
        parent, _, leaf = name.rpartition(".")
        setattr(result.get_submodule(parent), leaf, SparseLinear(layer))
    return result
