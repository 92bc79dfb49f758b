"""A file in which each layer's weights take their own number of bits, and the choice of bits for a file's size."""

from __future__ import annotations

import copy
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from coursekit.packing import pack, unpack
from coursekit.quantization.affine import dequantize, int_range, quantize, symmetric_scale_per_channel
from coursekit.quantization.sensitivity import optimal_bits
from coursekit.quantization.weight_only import weight_names

__all__ = ["load_mixed", "mixed_precision", "pack_codes", "save_mixed", "unpack_codes", "weight_bytes"]

Choose = Callable[
    [Mapping[str, Sequence[float]], Mapping[str, Sequence[int]], int, Sequence[int]], dict[str, int]
]
_SCALE = ".scale"


def pack_codes(q: Tensor, n_bits: int) -> Tensor:
    """Codes of n_bits side by side in bytes, with no bit between them; the last byte is filled with zeros.

    Args:    q: int8, any shape, codes of n_bits. n_bits: 2 to 8.
    Returns: uint8, (ceil(q.numel() * n_bits / 8),).
    Raises:  ValueError if a code does not fit into n_bits.

    >>> pack_codes(torch.tensor([-8, 7, 0], dtype=torch.int8), 4)  # 0000 1111 1000 ....
    tensor([ 15, 128], dtype=torch.uint8)
    """
    qmin, qmax = int_range(n_bits)
    if q.numel() and not (qmin <= int(q.min()) and int(q.max()) <= qmax):
        raise ValueError(f"codes of {n_bits} bits lie in {qmin}..{qmax}, got {int(q.min())}..{int(q.max())}")
    return pack(q.to(torch.int16) - qmin, n_bits)


def unpack_codes(packed: Tensor, n_bits: int, shape: Sequence[int]) -> Tensor:
    """The int8 codes, of that shape, that `pack_codes` packed.

    Raises: ValueError if the number of bytes is not what the shape needs.
    """
    codes = unpack(packed, n_bits, math.prod(shape)) + int_range(n_bits)[0]
    return codes.to(torch.int8).reshape(tuple(shape))


def weight_bytes(model: nn.Module, bits: Sequence[int] = (8, 4, 3, 2)) -> dict[str, list[int]]:
    """The bytes of every weight's packed codes and scales, by name, at each of bits."""
    shapes = {name: model.get_parameter(name).shape for name in weight_names(model)}
    return {name: [-(-shape.numel() * b // 8) + 4 * shape[0] for b in bits] for name, shape in shapes.items()}


def save_mixed(model: nn.Module, path: str | PathLike[str], bits: Mapping[str, int]) -> None:
    """Writes a model with each weight as packed codes of its own number of bits, the rest as it is.

    One symmetric float32 scale for each output channel, as `save_quantized` has it.

    Args:   bits: the name of every linear and convolution weight to its bits, 2 to 8.
    Raises: ValueError if a weight has no bits, or bits name something else.
    """
    if set(bits) != set(weight_names(model)):
        raise ValueError(
            f"bits must name every weight and nothing else, not {set(bits) ^ set(weight_names(model))}"
        )
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    for name, n_bits in bits.items():
        weight = state.pop(name)
        scale = symmetric_scale_per_channel(weight, n_bits)
        state[f"{name}.codes{n_bits}"] = pack_codes(quantize(weight, scale, 0, n_bits), n_bits)
        state[name + _SCALE] = scale
    save_file(state, path)


def load_mixed(path: str | PathLike[str], model: nn.Module) -> nn.Module:
    """A copy of `model` with the weights of a file that `save_mixed` wrote, dequantized to float32.

    Args:   model: any network of the right class; only its shape is used.
    Raises: RuntimeError if the file's tensors do not fit the model.
    """
    result, stored, state = copy.deepcopy(model), load_file(path), {}
    for key, value in stored.items():
        name, codes, n_bits = key.rpartition(".codes")
        if codes:
            shape = result.get_parameter(name).shape
            state[name] = dequantize(unpack_codes(value, int(n_bits), shape), stored[name + _SCALE])
        elif not key.endswith(_SCALE):
            state[key] = value
    result.load_state_dict(state)
    return result


def mixed_precision(
    model: nn.Module,
    losses: Mapping[str, Sequence[float]],
    budget: int,
    bits: Sequence[int] = (8, 4, 3, 2),
    *,
    choose: Choose = optimal_bits,
) -> dict[str, int]:
    """Bits for every weight such that the file that `save_mixed` writes takes at most `budget` bytes.

    Everything in the file counts: scales, batch norms, biases, its table of contents. The file is written to see.

    Args:    losses: weight name to its loss at each of bits, such as from `sensitivity_table`. budget: bytes of the
             file. bits: the options, from fine to coarse. choose: `optimal_bits`, or `greedy_bits`.
    Raises:  ValueError if the budget cannot be met, or the losses do not fit the model.
    """
    sizes = weight_bytes(model, bits)
    rest = _mixed_size(model, dict.fromkeys(sizes, bits[0])) - sum(size[0] for size in sizes.values())
    while True:
        chosen = choose(losses, sizes, budget - rest, bits)
        excess = _mixed_size(model, chosen) - budget
        if excess <= 0:
            return chosen
        rest += excess  # the table of contents grew by some digits


def _mixed_size(model: nn.Module, bits: Mapping[str, int]) -> int:
    with tempfile.TemporaryDirectory(prefix="coursekit-") as folder:
        path = Path(folder) / "mixed.safetensors"
        save_mixed(model, path, bits)
        return os.path.getsize(path)
