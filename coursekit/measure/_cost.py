"""Counts of a model: parameters, the ones that are not zero, multiply-accumulates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from coursekit.train import eval_mode

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_COUNTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """All parameters, and the buffers in which quantized layers keep their weights and biases."""
    buffers = {name: b for name, b in model.named_buffers() if name.rpartition(".")[2] in ("weight", "bias")}
    return dict(model.named_parameters()) | buffers


def n_parameters(model: nn.Module) -> int:
    """The number of parameters, tied ones counted once; of buffers only those called weight or bias.

    Quantized layers keep their integers in such buffers.

    >>> n_parameters(nn.Linear(3, 2))
    8
    """
    return sum(p.numel() for p in _weights(model).values())


def nonzero(model: nn.Module) -> int:
    """The number of parameters that are not exactly zero, tied ones counted once, of those `n_parameters` counts.

    Raises: ValueError if the model has no parameters, or one holds NaN.
    """
    if n_parameters(model) == 0:
        raise ValueError(f"{type(model).__name__} has no parameters to count")
    weights = _weights(model)
    for name, parameter in weights.items():
        if parameter.isnan().any():
            raise ValueError(f"parameter {name!r} holds NaN; did the training diverge?")
    return sum(int(torch.count_nonzero(p)) for p in weights.values())


def sparsity(model: nn.Module) -> float:
    """The share of parameters that are exactly zero, 0 to 1, over weights and biases alike.

    Raises: ValueError as `nonzero`.
    """
    return 1.0 - nonzero(model) / n_parameters(model)


def _layer_macs(layer: nn.Module, x: Tensor, y: Tensor) -> int:
    """Multiply-accumulates of one call of a counted layer."""
    if callable(own := getattr(layer, "count_macs", None)):
        return own(x, y)
    if isinstance(layer, nn.Linear):
        return y.numel() * layer.in_features
    kernel = layer.weight[0, 0].numel() if isinstance(layer.weight, Tensor) else 0
    if isinstance(layer, _TRANSPOSED):  # every input value meets the kernels of its group's outputs
        return x.numel() * layer.out_channels // layer.groups * kernel
    return y.numel() * int(layer.in_channels) // int(layer.groups) * kernel  # type: ignore[arg-type]


def macs(model: nn.Module, input_shape: Sequence[int]) -> int:
    """The multiply-accumulates of one input's way through all linear and convolution layers.

    Counted by forward hooks while the model runs on one input of zeros, so a layer called twice counts
    twice. As usual in papers, biases, batch norm, activations and pooling are left out, and padding
    counts as if it were data. Matrix products outside such layers (`F.linear`, attention) are not seen.
    A layer of one's own is counted if it has a method `count_macs(x, y)`, as quantized layers have. The model is not
    changed.

    Args:    model: any module that takes one tensor.
             input_shape: of one input without the batch dimension, such as (1, 28, 28).
    Returns: multiply-accumulates, each one multiplication and one addition (half of what is called FLOPs).
    Raises:  ValueError if input_shape is empty or not positive integers, or the model does not run on it.

    >>> macs(nn.Linear(300, 100), (300,))
    30000
    """
    shape = tuple(input_shape)
    if not shape or not all(isinstance(n, int) and n > 0 for n in shape):
        raise ValueError(f"input_shape must be positive integers without the batch, got {input_shape!r}")
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    counts: list[int] = []

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        counts.append(_layer_macs(layer, inputs[0], output))

    handles: list[RemovableHandle] = []
    try:
        counted = [m for m in model.modules() if isinstance(m, _COUNTED) or hasattr(m, "count_macs")]
        handles = [m.register_forward_hook(count) for m in counted]
        with eval_mode(model), torch.inference_mode():
            model(torch.zeros(1, *shape, dtype=like.dtype, device=like.device))
    except (RuntimeError, IndexError) as error:
        first_line = str(error).splitlines()[0]
        raise ValueError(
            f"{type(model).__name__} does not run on one input of shape {shape}: {first_line}. "
            "Give the shape of one input without the batch dimension, such as (1, 28, 28)."
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return sum(counts)
