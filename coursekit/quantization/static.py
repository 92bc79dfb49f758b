"""Static post-training quantization of a whole network: calibrate once, then compute in integers alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from coursekit.quantization.affine import check_finite, int_range
from coursekit.quantization.folding import fold_batch_norms
from coursekit.quantization.grid import QParams
from coursekit.quantization.halves import clear_sum_grid
from coursekit.quantization.integer_layers import IntegerLayer, QuantizedConv2d, QuantizedLinear
from coursekit.quantization.integer_model import KINDS, QuantizedModel, Step
from coursekit.quantization.observers import MinMaxObserver, Observer, range_qparams
from coursekit.quantization.plan import Operation, UnsupportedLayerError, plan

__all__ = ["StaticConfig", "calibrate", "quantize_operation", "quantize_static"]


@dataclass(frozen=True)
class StaticConfig:
    """How to quantize a network.

    Attributes: weight_bits, activation_bits: 2 to 8. per_channel: a weight scale for each output channel, or one a
                layer. observer: makes the observer of each tensor of activations, such as `PercentileObserver` or
                `lambda: HistogramObserver("kl")`. batch_size: images a calibration step.
                layer_bits: weight bits of single layers, by name, where they differ from weight_bits.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    per_channel: bool = True
    observer: Callable[[], Observer] = MinMaxObserver
    batch_size: int = 100
    layer_bits: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for bits in (self.weight_bits, self.activation_bits, *self.layer_bits.values()):
            int_range(bits)
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")


def quantize_static(model: nn.Module, images: Tensor, config: StaticConfig | None = None) -> QuantizedModel:
    """The network in integers: batch norms folded, weights and biases rounded, grids of activations from `images`.

    Convolutions, linear layers and sums take the ReLU after them along; their outputs, means and concatenations get a
    grid each; what only picks values (max pooling, flatten, a ReLU alone) keeps its input's.

    Args:    model: in eval mode, traceable by torch.fx; left as it is. Its layers: Conv2d, Linear, BatchNorm after
             these, ReLU, ReLU6, max and average pools, means over height and width, flatten, concatenation, sums,
             Dropout.
             images: the calibration set, of the kind the network will see: (N, C, H, W); some hundreds are enough.
             config: 8 bits, per channel, min-max if not given.
    Returns: a QuantizedModel, on the same layer names.
    Raises:  UnsupportedLayerError, a ValueError, that names every layer without an integer form, before anything is
             computed; ValueError if the model is in training mode, layer_bits names no layer of it, or images is
             empty or not finite.
    Source:  Jacob et al. 2018, arXiv:1712.05877; Krishnamoorthi 2018, arXiv:1806.08342, section 3.1. Taught in
             lesson 02.
    """
    config = config or StaticConfig()
    check_finite(images, "images")
    graph_module = _folded(model)
    operations = plan(graph_module)
    _check_names(config, operations)
    grids = calibrate(graph_module, operations, images, config)
    steps = []
    for operation in operations:
        if operation.kind == "add":
            a, b = (grids[name] for name in operation.inputs)
            grids[operation.name] = clear_sum_grid((a, b), grids[operation.name], operation.activation)
        layer = quantize_operation(operation, grids, config)
        grids.setdefault(operation.name, layer.output)
        steps.append(Step(operation.name, operation.inputs, layer))
    return QuantizedModel(grids["input"], steps).eval()


def _folded(model: nn.Module) -> fx.GraphModule:
    try:
        return fold_batch_norms(model)
    except (fx.proxy.TraceError, TypeError) as error:
        raise UnsupportedLayerError(f"the network cannot be traced by torch.fx: {error}") from error


def _check_names(config: StaticConfig, operations: list[Operation]) -> None:
    layers = [each.name for each in operations if each.module is not None]
    unknown = [name for name in config.layer_bits if name not in layers]
    if unknown:
        raise ValueError(f"layer_bits names {unknown[0]!r}, but the layers are {', '.join(layers)}")


@torch.no_grad()
def calibrate(
    graph_module: fx.GraphModule, operations: list[Operation], images: Tensor, config: StaticConfig
) -> dict[str, QParams]:
    """The grid of the input and of each operation that needs its own, from the images' activations in float.

    Args: graph_module, operations: a traced network and its plan. images: the calibration set.
    """
    observers = {"input": config.observer()}
    watched = {}
    for operation in operations:
        if not operation.same_grid:
            observers[operation.name] = watched[operation.observed] = config.observer()
    for batch in images.split(config.batch_size):
        observers["input"].update(batch)
        _Watching(graph_module, watched).run(batch)
    return {
        name: QParams(*range_qparams(*observer.range(), config.activation_bits), config.activation_bits)
        for name, observer in observers.items()
    }


class _Watching(fx.Interpreter):
    """Runs a graph and shows the outputs of some nodes to observers."""

    def __init__(self, graph_module: fx.GraphModule, observers: dict[str, Observer]) -> None:
        super().__init__(graph_module)
        self.observers = observers

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.name in self.observers:
            self.observers[n.name].update(result)
        return result


def quantize_operation(operation: Operation, grids: dict[str, QParams], config: StaticConfig) -> IntegerLayer:
    """The integer layer of an operation, between the grids of its inputs and its own."""
    inputs = [grids[name] for name in operation.inputs]
    if operation.same_grid:
        return KINDS[operation.kind](**operation.options, output=inputs[0])
    output = grids[operation.name]
    if operation.module is not None:
        bits = config.layer_bits.get(operation.name, config.weight_bits)
        build: Any = QuantizedConv2d if operation.kind == "conv2d" else QuantizedLinear
        options = {"activation": operation.activation, "weight_bits": bits, "per_channel": config.per_channel}
        return build.from_float(operation.module, inputs[0], output, **options)
    options = dict(operation.options)
    if operation.kind == "add":
        options["activation"] = operation.activation
    several = operation.kind in ("add", "concat")
    source = {"inputs": tuple(inputs)} if several else {"input": inputs[0]}
    return KINDS[operation.kind](**source, output=output, **options)
