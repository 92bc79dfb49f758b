"""Quantization-aware training: a trained network, fake-quantized where integers will be, trained on for a little."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from coursekit.data import Dataset
from coursekit.quantization.affine import int_range
from coursekit.quantization.equalization import ChannelClip, Tracer
from coursekit.quantization.observers import MovingAverageObserver
from coursekit.quantization.quantizers import ActivationQuantizer, QATLayer, RangeObserver, switched_off
from coursekit.train import History, Recipe, eval_mode, fit

__all__ = [
    "QATConfig",
    "activation_ranges",
    "calibrate",
    "freeze",
    "learned_scales",
    "prepare_qat",
    "set_activation_ranges",
    "set_learned_scales",
    "to_float",
    "train_quantized",
]

_LAYERS = (nn.Conv2d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_RELUS = (nn.ReLU, nn.ReLU6, ChannelClip, F.relu, F.relu6, torch.relu, torch.relu_, "relu", "relu_")
_SUMS = (nn.AdaptiveAvgPool2d, nn.AvgPool2d, F.adaptive_avg_pool2d, F.avg_pool2d, torch.add, torch.mean, operator.add,
         operator.iadd, "add", "add_", "mean")  # fmt: skip


@dataclass(frozen=True)
class QATConfig:
    """What is quantized, to how many bits, and how ranges are found.

    Attributes: weight_bits, activation_bits: 2 to 8.
                edge_bits: of the first and the last layer's weights and of the network's input, or None for as all
                others. These few are kept at 8 in most papers: pixels have 8 bits, and the last layer decides.
                per_channel: one weight scale an output channel. learn_steps: train all scales (LSQ).
                momentum: of the moving average that activation ranges follow.
    Raises:     ValueError if a number of bits is not 2 to 8, or momentum not in 0..1, 1 excluded.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    edge_bits: int | None = 8
    per_channel: bool = True
    learn_steps: bool = False
    momentum: float = 0.99

    def __post_init__(self) -> None:
        for bits in (self.weight_bits, self.activation_bits, self.edge_bits or 8):
            int_range(bits)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in 0..1, 1 excluded, got {self.momentum}")


def prepare_qat(model: nn.Module, config: QATConfig | None = None) -> fx.GraphModule:
    """A copy of a trained model with fake-quantized weights and activations, ready to calibrate and to train.

    Each convolution or linear layer becomes a `QATLayer` together with the batch norm that follows it. The input, the
    sums and means, and every layer's output, after its ReLU where there is one, go through an `ActivationQuantizer`
    each; the logits stay as they are.

    Args:    model: trained, traceable by torch.fx; left as it is. config: QATConfig() if None.
    Returns: a GraphModule in eval mode. Its activation ranges are not set yet: `calibrate`.
    Raises:  ValueError if the model has no linear layer or convolution, or uses one of them twice.
    Source:  Jacob et al. 2018, arXiv:1712.05877, section 3; Krishnamoorthi 2018, arXiv:1806.08342, section 3.2.
             Taught in lesson 03.
    """
    config = config or QATConfig()
    graph_module = Tracer().graph_module(model)
    modules: dict[Any, Any] = dict(graph_module.named_modules())
    layers = _layer_nodes(graph_module, modules)
    for index, node in enumerate(layers):
        bits = config.edge_bits if index in (0, len(layers) - 1) and config.edge_bits else config.weight_bits
        _replace_layer(graph_module, node, modules, bits, config)
    _insert_quantizers(graph_module, modules, config)
    _connect(graph_module)
    graph_module.delete_all_unused_submodules()
    graph_module.recompile()
    return graph_module.eval()


def _layer_nodes(graph_module: fx.GraphModule, modules: Mapping[Any, Any]) -> list[fx.Node]:
    nodes = [
        n
        for n in graph_module.graph.nodes
        if n.op == "call_module" and isinstance(modules[n.target], _LAYERS)
    ]
    if not nodes:
        raise ValueError("the model has no Linear or Conv2d: there is nothing to quantize")
    targets = [node.target for node in nodes]
    twice = {target for target in targets if targets.count(target) > 1}
    if twice:
        raise ValueError(f"{min(twice)} is used more than once: give each use a layer of its own")
    return nodes


def _replace_layer(
    graph_module: fx.GraphModule, node: fx.Node, modules: dict[Any, Any], n_bits: int, config: QATConfig
) -> None:
    """Puts a QATLayer in place of the layer, and takes in its batch norm if nothing else uses the layer's output."""
    following = list(node.users)
    norm = None
    if len(following) == 1 and following[0].op == "call_module":
        candidate = modules[following[0].target]
        if isinstance(candidate, _NORMS) and candidate.running_var is not None and candidate.affine:
            norm = candidate
            following[0].replace_all_uses_with(node)
            graph_module.graph.erase_node(following[0])
            graph_module.delete_submodule(str(following[0].target))  # else its state would appear twice
    layer = QATLayer(
        modules[node.target], norm, n_bits, per_channel=config.per_channel, learned=config.learn_steps
    )
    modules[node.target] = layer
    graph_module.set_submodule(str(node.target), layer)


def _is_one_of(node: fx.Node, modules: Mapping[Any, Any], kinds: tuple[object, ...]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[node.target], tuple(kind for kind in kinds if isinstance(kind, type)))
    return node.op in ("call_function", "call_method") and node.target in kinds


def _insert_quantizers(graph_module: fx.GraphModule, modules: dict[Any, Any], config: QATConfig) -> None:
    graph_module.add_submodule("quantizers", nn.ModuleDict())
    for node in list(graph_module.graph.nodes):
        makes_values = node.op == "placeholder" or _is_one_of(
            node, modules, (QATLayer, *_NORMS, *_RELUS, *_SUMS)
        )
        # A ReLU is applied to the accumulator, before rounding: only its output is ever stored.
        users = list(node.users)
        before_relu = len(users) == 1 and _is_one_of(users[0], modules, _RELUS)
        if not makes_values or before_relu or any(user.op == "output" for user in users):
            continue
        bits = config.edge_bits if node.op == "placeholder" and config.edge_bits else config.activation_bits
        quantizer = ActivationQuantizer(bits, config.momentum, learned=config.learn_steps)
        graph_module.add_submodule(f"quantizers.{node.name}", quantizer)
        with graph_module.graph.inserting_after(node):
            quantized = graph_module.graph.call_module(f"quantizers.{node.name}", (node,))
        node.replace_all_uses_with(quantized, delete_user_cb=lambda user, new=quantized: user is not new)


def _connect(graph_module: fx.GraphModule) -> None:
    """Tells each layer the quantizer of its input, past whatever only picks or reshapes values."""
    for node in graph_module.graph.nodes:
        if node.op != "call_module" or not isinstance(
            layer := graph_module.get_submodule(str(node.target)), QATLayer
        ):
            continue
        before = node.args[0]
        while before.op in ("call_function", "call_method", "call_module"):
            module = graph_module.get_submodule(str(before.target)) if before.op == "call_module" else None
            if isinstance(module, ActivationQuantizer):
                layer.source = (module,)
                break
            before = before.args[0]


def _quantizers(model: nn.Module) -> dict[str, ActivationQuantizer]:
    found = {
        name.removeprefix("quantizers."): module
        for name, module in model.named_modules()
        if isinstance(module, ActivationQuantizer)
    }
    if not found:
        raise ValueError("this model has no activation quantizers: prepare_qat(model) returns one that has")
    return found


@torch.no_grad()
def calibrate(
    model: nn.Module,
    images: Tensor,
    *,
    observer: Callable[[ActivationQuantizer], RangeObserver] = lambda quantizer: MovingAverageObserver(),
    batch_size: int = 100,
) -> None:
    """Sets the range of every activation from images that the float network sees.

    Args:   model: from `prepare_qat`. images: (N, …) from the training set, real ones: N of 100 to 1,000 will do.
            observer: makes one for a quantizer (which has n_bits), such as
            lambda q: HistogramObserver("mse", q.n_bits).
    Raises: ValueError if there are no images, or the model has no quantizers.
    Source: Krishnamoorthi 2018, arXiv:1806.08342, section 3.1.
    """
    if len(images) == 0:
        raise ValueError("there are no images to calibrate on")
    quantizers = _quantizers(model)
    for quantizer in quantizers.values():
        quantizer.observer = observer(quantizer)
    try:
        with eval_mode(model), switched_off(model):
            for batch in images.split(batch_size):
                model(batch)
        for quantizer in quantizers.values():
            assert quantizer.observer is not None
            quantizer.set_range(*quantizer.observer.range())
    finally:
        for quantizer in quantizers.values():
            quantizer.observer = None


def activation_ranges(model: nn.Module) -> dict[str, tuple[float, float]]:
    """The ranges of all activations by the name of their node in the graph.

    Raises: ValueError if the model has no quantizers; RuntimeError if it was not calibrated.
    """
    return {name: quantizer.range() for name, quantizer in _quantizers(model).items()}


def set_activation_ranges(model: nn.Module, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Gives a prepared model the ranges that `activation_ranges` read from another one of the same structure.

    Raises: ValueError if the names differ.
    """
    quantizers = _quantizers(model)
    if set(ranges) != set(quantizers):
        raise ValueError(f"ranges and quantizers differ in {sorted(set(ranges) ^ set(quantizers))}")
    for name, quantizer in quantizers.items():
        quantizer.set_range(*ranges[name])


def learned_scales(model: nn.Module) -> dict[str, list[float]]:
    """The learned weight scales of each layer, one or one a channel, by the layer's name."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, QATLayer)}
    return {
        name: layer.scale(layer.layer.weight).detach().flatten().tolist()
        for name, layer in layers.items()
        if layer.learned
    }


@torch.no_grad()
def set_learned_scales(model: nn.Module, scales: Mapping[str, list[float]]) -> None:
    """Gives a prepared model the scales that `learned_scales` read from another one of the same structure.

    Raises: ValueError if the names or the numbers of scales differ.
    """
    present = learned_scales(model)
    if {n: len(s) for n, s in present.items()} != {n: len(s) for n, s in scales.items()}:
        raise ValueError(
            "the scales are not those of this model's layers; was it prepared with learn_steps=True?"
        )
    for name, values in scales.items():
        layer = model.get_submodule(name)
        for tensor in (layer.get_parameter("step"), layer.get_buffer("first_step")):
            tensor.copy_(torch.tensor(values).reshape(tensor.shape))


def freeze(model: nn.Module) -> None:
    """From now on batch-norm statistics and activation ranges stay as they are, in training mode too.

    What is trained from here is exactly the network that will be used. Learned scales go on learning.

    Source: Krishnamoorthi 2018, arXiv:1806.08342, section 3.2.3. Taught in lesson 03.
    """
    for module in model.modules():
        if isinstance(module, ActivationQuantizer | QATLayer):
            module.frozen = True


def train_quantized(
    model: nn.Module,
    train: Dataset,
    recipe: Recipe,
    *,
    freeze_at: float = 0.75,
    test: Dataset | None = None,
    progress: bool = True,
) -> History:
    """Trains a prepared and calibrated model in place, with ranges and batch norms frozen for the last part.

    Args:    model: from `prepare_qat`, after `calibrate`. recipe: a few epochs at a small peak_lr.
             freeze_at: the share of all steps after which `freeze` is called, 0 (at once) to 1 (never).
             test, progress: as for `fit`.
    Raises:  ValueError if freeze_at is outside 0..1; RuntimeError if the model is not calibrated; as `fit`.
    Source:  Krishnamoorthi 2018, arXiv:1806.08342, section 3.2. Taught in lesson 03.
    """
    if not 0 <= freeze_at <= 1:
        raise ValueError(f"freeze_at must be in 0..1, got {freeze_at}")
    activation_ranges(model)
    last = round(freeze_at * recipe.epochs * -(-len(train) // recipe.batch_size))
    if last == 0:
        freeze(model)
    return fit(
        model, train, recipe, test=test, progress=progress,
        on_step=lambda done: freeze(model) if done == last and freeze_at < 1 else None,
    )  # fmt: skip


@torch.no_grad()
def to_float(model: fx.GraphModule) -> fx.GraphModule:
    """The plain folded network with its weights on their grids, and without any quantizer.

    What is left are ordinary convolutions and linear layers, under the names they had; with `activation_ranges` it is
    all that an integer network needs to know.

    Args:    model: from `prepare_qat`; left as it is.
    Returns: a GraphModule in eval mode.
    """
    result = copy.deepcopy(model).eval()
    for node in list(result.graph.nodes):
        if node.op == "call_module" and isinstance(result.get_submodule(node.target), ActivationQuantizer):
            node.replace_all_uses_with(node.args[0])
            result.graph.erase_node(node)
    for name, module in list(result.named_modules()):
        if isinstance(module, QATLayer):
            weight, bias = module.folded()
            layer = copy.deepcopy(module.layer)
            layer.weight = nn.Parameter(module.quantized(weight).clone())
            bias = module.quantized_bias(bias, module.scale(weight))
            layer.bias = None if bias is None else nn.Parameter(bias.clone())
            result.set_submodule(name, layer)
    result.delete_all_unused_submodules()
    result.recompile()
    return result
