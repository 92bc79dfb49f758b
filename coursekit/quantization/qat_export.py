"""From a network that was trained with fake quantization to the integer network it stood for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from coursekit.quantization.affine import quantize
from coursekit.quantization.grid import QParams
from coursekit.quantization.integer import quantize_bias
from coursekit.quantization.integer_model import QuantizedModel, Step
from coursekit.quantization.observers import range_qparams
from coursekit.quantization.plan import plan
from coursekit.quantization.qat import to_float
from coursekit.quantization.quantizers import ActivationQuantizer, QATLayer
from coursekit.quantization.static import StaticConfig, quantize_operation
from coursekit.train import predict

__all__ = ["to_integer"]


@torch.no_grad()
def to_integer(model: fx.GraphModule, images: Tensor) -> QuantizedModel:
    """The network in integers that a prepared, calibrated and perhaps trained model imitates.

    Weights have the codes that the fake quantizers gave them, activations the grids they were trained with; only the
    logits, which were never quantized, get a grid of 8 bits now. Sums are rounded with integers alone, which differs
    from the fake network where a value lies within float32's error of a half.

    Args:    model: from `prepare_qat`, after `calibrate`; left as it is. images: (N, …), for the range of the logits.
    Returns: a QuantizedModel, on the same layer names.
    Raises:  UnsupportedLayerError where a layer has no integer form (such as an equalized network's `ChannelClip`);
             RuntimeError if the model is not calibrated; ValueError if there are no images.
    Source:  Jacob et al. 2018, arXiv:1712.05877, section 3. Taught in lesson 03.
    """
    if len(images) == 0:
        raise ValueError("there are no images to find the range of the logits on")
    operations = plan(to_float(model))
    layers = {name: module for name, module in model.named_modules() if isinstance(module, QATLayer)}
    bits = {name: layer.n_bits for name, layer in layers.items()}
    per_channel = all(layer.per_channel for layer in layers.values())
    config = StaticConfig(per_channel=per_channel, layer_bits=bits)
    grids = _grids(model)
    logits = predict(model, images)
    image = next(node.name for node in model.graph.nodes if node.op == "placeholder")
    named = {each.name: grids[each.observed] for each in operations if each.observed in grids} | {
        "input": grids[image]
    }
    named[operations[-1].name] = QParams(*range_qparams(logits.min().item(), logits.max().item()))
    steps = []
    for operation in operations:
        layer: Any = quantize_operation(operation, named, config)
        if operation.name in layers:
            _take_codes(layer, layers[operation.name])
        named.setdefault(operation.name, layer.output)
        steps.append(Step(operation.name, operation.inputs, layer))
    return QuantizedModel(named["input"], steps).eval()


def _grids(model: fx.GraphModule) -> dict[str, QParams]:
    """The grid of each fake-quantized activation, by the node whose output it is."""
    return {
        name.removeprefix("quantizers."): QParams(*module.qparams(), module.n_bits)
        for name, module in model.named_modules()
        if isinstance(module, ActivationQuantizer)
    }


def _take_codes(target: Any, source: QATLayer) -> None:
    """Puts the codes and scales of the fake-quantized weight into the integer layer."""
    weight, bias = source.folded()
    scale = source.scale(weight)
    target.weight_scale = scale.flatten().float()
    lowest = 1 - 2 ** (source.n_bits - 1)  # the fake quantizer leaves the code below it unused
    target.weight = quantize(weight, scale, 0, source.n_bits).clamp(min=lowest)
    target.bias.zero_()
    if bias is not None:
        target.bias = quantize_bias(bias, target.input.scale, target.weight_scale.expand(len(bias)))
