"""Networks as ONNX files: quantized ones with our own scales and zero points (QDQ), float ones as they are."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import torch
from onnx import TensorProto
from torch import Tensor, nn

from coursekit.deploy.onnx_graph import OnnxGraph
from coursekit.quantization.folding import fold_batch_norms
from coursekit.quantization.grid import QParams, pair
from coursekit.quantization.integer_layers import IntegerLayer, QuantizedConv2d, QuantizedLinear
from coursekit.quantization.integer_model import QuantizedModel, Step
from coursekit.quantization.plan import Operation, plan

__all__ = ["export_float", "export_layer", "export_qdq"]


def export_qdq(
    model: QuantizedModel,
    path: str | PathLike[str],
    image_shape: tuple[int, ...] = (1, 28, 28),
    *,
    layer_codes: bool = False,
) -> None:
    """Writes a quantized network as ONNX with QuantizeLinear and DequantizeLinear around every operator.

    The file holds our int8 weights, int32 biases, scales and zero points. By itself it says: dequantize, compute in
    float, quantize. A runtime that knows integer kernels (ONNX Runtime, OpenVINO; TensorRT takes only zero points of 0)
    fuses each such group into one of them. Its requantization is its own, with a float factor and halves to even; the
    scales of `quantize_static` are such that it gives our codes all the same (`coursekit.quantization.halves`).
    Activations are stored as uint8, codes and zero points 128 higher than ours, the same values: x86 processors
    multiply uint8 by int8, and ONNX Runtime leaves layers in float where it must change the type itself.

    Args:   model: from `quantize_static`. path: the file to write. image_shape: of one image.
            layer_codes: also make the uint8 codes of the input and of every step an output, "<name>.codes".
    Source: ONNX operator specification, QuantizeLinear; Wu et al. 2020, arXiv:2004.09602. Taught in lesson 02.
    """
    graph = OnnxGraph()
    images = graph.input("images", image_shape)
    codes = {"input": _quantized(graph, images, model.input, None, "input")}
    grids = {"input": model.input}
    for step in model.steps:
        inputs = [
            _dequantized(graph, codes[name], grids[name], f"{step.name}.in{index}")
            for index, name in enumerate(step.inputs)
        ]
        grids[step.name] = step.layer.output
        result = _computed(graph, step, inputs)
        codes[step.name] = _quantized(graph, result, step.layer.output, step.layer, step.name)
    graph.output(_dequantized(graph, codes[step.name], grids[step.name], "logits"))
    if layer_codes:
        for name in codes.values():
            graph.output(name, TensorProto.UINT8)
    Path(path).write_bytes(graph.model().SerializeToString())


def export_layer(step: Step, path: str | PathLike[str], *shapes: tuple[int, ...]) -> None:
    """Writes one step of a quantized network as ONNX, from uint8 codes to uint8 codes, "<name>.codes".

    To see what a runtime makes of one layer when it gets our very codes: `OrtModel.step`.

    Args: path: the file to write. shapes: of each input, without the batch.
    """
    graph = OnnxGraph()
    inputs = []
    for index, (grid, shape) in enumerate(zip(step.layer.input_grids(), shapes, strict=True)):
        codes = graph.input(f"codes{index}", shape, TensorProto.UINT8)
        inputs.append(_dequantized(graph, codes, grid, f"{step.name}.in{index}"))
    result = _computed(graph, step, inputs)
    graph.output(_quantized(graph, result, step.layer.output, step.layer, step.name), TensorProto.UINT8)
    Path(path).write_bytes(graph.model().SerializeToString())


def _dequantized(graph: OnnxGraph, codes: str, grid: QParams, name: str) -> str:
    return graph.dequantize(codes, grid.scale, grid.zero_point, name)


def _quantized(graph: OnnxGraph, x: str, grid: QParams, layer: IntegerLayer | None, name: str) -> str:
    """The codes of x, after the activation that the layer has in it."""
    low, high = grid.bounds(getattr(layer, "activation", None))
    if (low, high) == (grid.zero_point, 127):
        x = graph.operator("relu", [x], f"{name}.relu", {})
    elif (low, high) != (
        -128,
        127,
    ):  # fewer codes than int8 has: clip to the values of the first and the last
        ends = grid.values(torch.tensor([low, high])).tolist()
        x = graph.clip(x, ends[0], ends[1], f"{name}.clip")
    return graph.quantize(x, grid.scale, grid.zero_point, f"{name}.codes")


def _computed(graph: OnnxGraph, step: Step, inputs: list[str]) -> str:
    """The float result of a step, before its activation."""
    layer, name, options = step.layer, f"{step.name}.float", step.layer.config()
    if layer.kind == "activation":
        return inputs[0]
    if isinstance(layer, QuantizedConv2d | QuantizedLinear):
        inputs = [*inputs, *_weights(graph, step.name, layer)]
    if layer.kind != "mean" or options["keepdim"]:
        return graph.operator(layer.kind, inputs, name, options)
    # To lose the two dimensions of 1 takes a step of its own on the same grid: so a runtime stays in integers.
    pooled = graph.operator("mean", inputs, f"{name}.pooled", {})
    grid = layer.output
    codes = graph.quantize(pooled, grid.scale, grid.zero_point, f"{name}.codes")
    return graph.operator("flatten", [_dequantized(graph, codes, grid, f"{name}.values")], name, {})


def _weights(graph: OnnxGraph, name: str, layer: QuantizedConv2d | QuantizedLinear) -> list[str]:
    """Weight and bias: codes, and the DequantizeLinear that gives them their scales."""
    step = (layer.weight_scale.double() * layer.input.scale).float()
    return [
        graph.dequantized_constant(f"{name}.weight", layer.weight, layer.weight_scale),
        graph.dequantized_constant(f"{name}.bias", layer.bias, step),
    ]


def export_float(
    model: nn.Module, path: str | PathLike[str], image_shape: tuple[int, ...] = (1, 28, 28)
) -> None:
    """Writes a float network as ONNX, batch norms folded: the same operators as `export_qdq`, without quantization.

    For networks that `quantize_static` knows; `torch.onnx.export` takes any, in some seconds rather than a tenth.

    Args:   model: in eval mode; left as it is. path: the file to write. image_shape: of one image.
    Raises: UnsupportedLayerError, a ValueError, naming every layer this exporter does not know.
    """
    operations = plan(fold_batch_norms(model))
    graph = OnnxGraph()
    values = {"input": graph.input("images", image_shape)}
    for operation in operations:
        inputs = [values[name] for name in operation.inputs]
        values[operation.name] = _float_operation(graph, operation, inputs)
    graph.node("Identity", [values[operations[-1].name]], "logits")
    graph.output("logits")
    Path(path).write_bytes(graph.model().SerializeToString())


def _float_operation(graph: OnnxGraph, operation: Operation, inputs: list[str]) -> str:
    name, options = operation.name, dict(operation.options)
    if operation.module is not None:
        inputs = [*inputs, *_float_weights(graph, name, operation.module)]
        options |= _geometry(operation.module)
    x = inputs[0] if operation.kind == "activation" else f"{name}.before"
    if operation.kind != "activation":
        graph.operator(operation.kind, inputs, x, options)
    if operation.kind == "mean" and not options["keepdim"]:
        x = graph.operator("flatten", [x], f"{name}.flat", {})
    activation = operation.activation or options.get("activation")
    if activation == "relu":
        return graph.operator("relu", [x], f"{name}.relu", {})
    return graph.clip(x, 0.0, 6.0, f"{name}.relu6") if activation == "relu6" else x


def _float_weights(graph: OnnxGraph, name: str, module: nn.Module) -> list[str]:
    weight: Tensor = module.weight  # type: ignore[assignment]
    bias: Tensor = module.bias if module.bias is not None else torch.zeros(len(weight))  # type: ignore[assignment]
    return [graph.constant(f"{name}.weight", weight), graph.constant(f"{name}.bias", bias)]


def _geometry(module: nn.Module) -> dict[str, Any]:
    if not isinstance(module, nn.Conv2d):
        return {}
    padding = (0, 0) if module.padding == "valid" else pair(module.padding)  # type: ignore[arg-type]
    return {"stride": module.stride, "padding": padding, "dilation": module.dilation, "groups": module.groups}
