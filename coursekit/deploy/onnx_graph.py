"""Building an ONNX graph: nodes, constants, and the inference operators that networks of this course are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx.shape_inference
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from coursekit.quantization.grid import pair

__all__ = ["OnnxGraph"]

_SIMPLE: dict[str, tuple[str, dict[str, int]]] = {
    "add": ("Add", {}),
    "concat": ("Concat", {"axis": 1}),
    "flatten": ("Flatten", {"axis": 1}),
    "mean": ("GlobalAveragePool", {}),
    "relu": ("Relu", {}),
}
_OPSET, _IR_VERSION = 17, 9  # old enough for the engines of today, new enough for one scale a channel


class OnnxGraph:
    """An ONNX graph under construction; every method adds nodes and returns the name of what they compute."""

    def __init__(self) -> None:
        self.inputs: list[onnx.ValueInfoProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: tuple[int, ...], kind: int = TensorProto.FLOAT) -> str:
        """An input of the graph.

        Args: shape: what comes after the batch, such as (C, H, W).
        """
        dimensions: list[Any] = ["batch", *shape]
        self.inputs.append(helper.make_tensor_value_info(name, kind, dimensions))
        return name

    def constant(self, name: str, value: Tensor | np.ndarray) -> str:
        """A named constant of the value's own type."""
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        self.constants.append(numpy_helper.from_array(np.require(array, requirements="C"), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """One ONNX operator."""
        self.nodes.append(helper.make_node(op, inputs, [output], output, **attributes))
        return output

    def quantize(self, x: str, scale: float, zero_point: int, output: str) -> str:
        """uint8 codes of a tensor: 128 more than our int8 ones, and so is the zero point."""
        return self.node("QuantizeLinear", [x, *self._grid(scale, zero_point, output)], output)

    def dequantize(self, q: str, scale: float, zero_point: int, output: str) -> str:
        """The real values of the codes that `quantize` makes."""
        return self.node("DequantizeLinear", [q, *self._grid(scale, zero_point, output)], output)

    def _grid(self, scale: float, zero_point: int, name: str) -> list[str]:
        return [
            self.constant(f"{name}.scale", np.asarray(scale, np.float32)),
            self.constant(f"{name}.zero_point", np.asarray(zero_point + 128, np.uint8)),
        ]

    def dequantized_constant(self, name: str, codes: Tensor, scale: Tensor) -> str:
        """The real values of constant codes with zero point 0, one scale (1,) in all or one a channel (C,)."""
        array = scale.detach().cpu().numpy().astype(np.float32)
        zeros = np.zeros_like(array, np.int32 if codes.dtype.itemsize == 4 else np.int8)
        if array.size == 1 and codes.shape[0] != 1:  # one scale for all is a scalar in ONNX
            array, zeros = array.reshape(()), zeros.reshape(())
        inputs = [
            self.constant(f"{name}.codes", codes),
            self.constant(f"{name}.scale", array),
            self.constant(f"{name}.zero_point", zeros),
        ]
        return self.node("DequantizeLinear", inputs, name, **({"axis": 0} if array.ndim else {}))

    def clip(self, x: str, low: float, high: float, output: str) -> str:
        """x, kept between two numbers."""
        bounds = {"low": low, "high": high}
        ends = [self.constant(f"{output}.{key}", np.asarray(v, np.float32)) for key, v in bounds.items()]
        return self.node("Clip", [x, *ends], output)

    def operator(self, kind: str, inputs: list[str], output: str, options: Mapping[str, Any]) -> str:
        """The float operator of one kind of layer, named as in coursekit.quantization.plan.

        Args:   inputs: the tensors it takes; of "conv2d" and "linear" x, weight and bias.
                options: its geometry, as the integer layers' config has it.
        Raises: ValueError for a kind that has no operator here.
        """
        if kind == "conv2d":
            geometry = {"strides": list(options["stride"]), "dilations": list(options["dilation"])}
            pads = [*options["padding"], *options["padding"]]  # top, left, bottom, right
            return self.node("Conv", inputs, output, pads=pads, group=options["groups"], **geometry)
        if kind == "linear":
            return self.node("Gemm", inputs, output, transB=1)
        if kind in ("max_pool2d", "avg_pool2d"):
            padding = pair(options.get("padding", 0))
            kernel, strides = list(pair(options["kernel_size"])), list(pair(options["stride"]))
            op = "MaxPool" if kind == "max_pool2d" else "AveragePool"
            return self.node(
                op, inputs, output, kernel_shape=kernel, strides=strides, pads=[*padding, *padding]
            )
        if kind in _SIMPLE:
            op, attributes = _SIMPLE[kind]
            return self.node(op, inputs, output, **attributes)
        raise ValueError(f"{output}: no ONNX operator for {kind!r} here")

    def output(self, name: str, kind: int = TensorProto.FLOAT) -> None:
        """Makes a tensor an output of the graph."""
        self.outputs.append(helper.make_tensor_value_info(name, kind, None))

    def model(self) -> onnx.ModelProto:
        """The finished, checked model.

        Raises: onnx.checker.ValidationError if the graph is not valid ONNX.
        """
        graph = helper.make_graph(self.nodes, "network", self.inputs, self.outputs, self.constants)
        opset = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(
            graph, opset_imports=opset, ir_version=_IR_VERSION, producer_name="coursekit"
        )
        model = onnx.shape_inference.infer_shapes(model)  # the outputs' shapes
        del model.graph.value_info[:]  # and nothing else of it
        onnx.checker.check_model(model, full_check=True)
        return model
