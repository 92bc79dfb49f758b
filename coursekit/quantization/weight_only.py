"""Weight-only quantization of a whole network: integers in the file, float arithmetic at run time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from os import PathLike

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from coursekit.quantization import affine

__all__ = ["load_quantized", "quantize_weights", "save_quantized", "weight_names"]

ScaleOf = Callable[[Tensor, int], "float | Tensor"]
_CODES, _SCALE = ".codes", ".scale"


def weight_names(model: nn.Module) -> list[str]:
    """The names of the weights worth quantizing: those of linear layers and convolutions."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return [
        f"{name}.weight".lstrip(".") for name, module in model.named_modules() if isinstance(module, kinds)
    ]


def quantize_weights(
    model: nn.Module,
    n_bits: int = 8,
    *,
    scale_of: ScaleOf = affine.symmetric_scale_per_channel,
    quantize: Callable[..., Tensor] = affine.quantize,
    dequantize: Callable[..., Tensor] = affine.dequantize,
) -> nn.Module:
    """A copy of the model in which every linear and convolution weight went to integer codes and back.

    Args:    model: left as it is. n_bits: 2 to 8. scale_of: (weight, n_bits) -> scale, e.g.
             `symmetric_scale` (one a tensor) or `symmetric_scale_per_channel` (one an output channel).
             quantize, dequantize: as the functions of the same names, zero point 0.
    Returns: a model of the same class whose biases and batch norms are untouched.
    Source:  Krishnamoorthi 2018, arXiv:1806.08342, section 3.1.1.
    """
    result = copy.deepcopy(model)
    parameters = dict(result.named_parameters())
    with torch.no_grad():
        for name in weight_names(result):
            weight = parameters[name]
            scale = scale_of(weight.detach(), n_bits)
            weight.copy_(dequantize(quantize(weight.detach(), scale, 0, n_bits), scale, 0))
    return result


def save_quantized(
    model: nn.Module,
    path: str | PathLike[str],
    n_bits: int = 8,
    *,
    scale_of: ScaleOf = affine.symmetric_scale_per_channel,
    quantize: Callable[..., Tensor] = affine.quantize,
) -> None:
    """Writes the model with its weights as int8 codes and float32 scales, the rest as it is.

    Codes of fewer than 8 bits still take a byte each here; packing them is lesson 11.

    Args: as `quantize_weights`; path: the safetensors file to write.
    """
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    for name in weight_names(model):
        weight = state.pop(name)
        scale = scale_of(weight, n_bits)
        state[name + _CODES] = quantize(weight, scale, 0, n_bits)
        state[name + _SCALE] = torch.as_tensor(scale, dtype=torch.float32)
    save_file(state, path)


def load_quantized(path: str | PathLike[str], model: nn.Module) -> nn.Module:
    """A copy of `model` with the weights of a file that `save_quantized` wrote, dequantized to float32.

    Args:   model: any network of the right class; only its shape is used.
    Raises: RuntimeError if the file's tensors do not fit the model.
    """
    stored = load_file(path)
    state = {key: value for key, value in stored.items() if not key.endswith((_CODES, _SCALE))}
    for key in stored:
        if key.endswith(_CODES):
            name = key.removesuffix(_CODES)
            state[name] = affine.dequantize(stored[key], stored[name + _SCALE])
    result = copy.deepcopy(model)
    result.load_state_dict(state)
    return result
