"""Which channel of which layer is the same channel: the network is run on labels instead of numbers.

Every output channel of a layer gets a label. Each operation passes the labels of its input on: ReLU as they are,
flatten repeated, concat one after the other; an addition says that its two inputs' labels stand for one thing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from coursekit.pruning import _operations as ops
from coursekit.pruning._operations import BATCH_NORMS, CONVOLUTIONS, UnsupportedError
from coursekit.train import eval_mode

__all__ = ["ChannelGraph", "Layer", "Tie", "UnsupportedError", "trace_channels"]

Labels = list[int]


@dataclass(frozen=True)
class Layer:
    """A layer with weights, and the label at each index of its channel dimensions.

    Attributes: name: in the network. kind: "convolution", "linear" or "batch norm".
                ins: labels of its input channels; for a batch norm the same as outs. outs: of its outputs.
                groups: of a convolution, else 1. depthwise: one input channel a group.
                macs_per_pair: MACs of one input and one output channel, summed over all calls: kernel size times
                output positions; 0 for a batch norm.
    """

    name: str
    kind: str
    ins: tuple[int, ...]
    outs: tuple[int, ...]
    groups: int = 1
    depthwise: bool = False
    macs_per_pair: int = 0


@dataclass(frozen=True)
class Tie:
    """Two labels that stand for one channel, and why."""

    a: int
    b: int
    reason: str


@dataclass
class ChannelGraph:
    """All labels of a network: where they stand, which are tied, which must stay.

    Attributes: layers: by name, in the order of their first call. ties: pairs of labels.
                fixed: label to the reason it must stay. n_labels: labels are 0 .. n_labels - 1.
    """

    layers: dict[str, Layer] = field(default_factory=dict)
    ties: list[Tie] = field(default_factory=list)
    fixed: dict[int, str] = field(default_factory=dict)
    n_labels: int = 0


def trace_channels(model: nn.Module, example_input: Tensor) -> ChannelGraph:
    """The channel graph of a network; the network is only read.

    Understood are convolutions (grouped and depthwise too), linear layers on (N, C), batch norm, activations with
    f(0) = 0, pooling, dropout, mean over positions, flatten, add, subtract, multiply, and concat of channels.

    Args:   model: any module of one input that torch.fx can follow. example_input: (N, C, ...), runs through it once.
    Raises: UnsupportedError naming the operation and the module it stands in, for all others.
    Source: the groups are those of Fang et al. 2023 (DepGraph), arXiv:2301.12900; the labels are our way to them.
    """
    _refuse_unusual_weights(model)
    with eval_mode(model):
        try:
            traced = fx.symbolic_trace(model)
        except Exception as error:  # whatever control flow over values raises
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UnsupportedError(
                f"torch.fx cannot follow {type(model).__name__}.forward: {first}"
            ) from error
        try:
            with torch.no_grad():
                _Shapes(traced).run(example_input)
        except Exception as error:
            raise ValueError(
                f"{type(model).__name__} does not run on an example of shape {tuple(example_input.shape)}: {error}"
            ) from error
    return _Walk(traced).run()


class _Shapes(fx.Interpreter):
    """Runs a traced network and notes the shape of every result that is a tensor."""

    def run_node(self, n: fx.Node) -> Any:
        """The result of one operation."""
        result = super().run_node(n)
        n.meta["shape"] = tuple(result.shape) if isinstance(result, Tensor) else None
        return result


def _refuse_unusual_weights(model: nn.Module) -> None:
    """Refuses weights that are computed (masks, parametrizations) and weights that two layers share."""
    owner: dict[int, str] = {}
    for name, module in model.named_modules():
        if isinstance(module, (*CONVOLUTIONS, nn.Linear)) and "weight" not in module._parameters:
            raise UnsupportedError(
                f"the weight of {name} is computed from other tensors (a mask or a parametrization); "
                "make it permanent first, e.g. with torch.nn.utils.prune.remove"
            )
        for key, parameter in module._parameters.items():
            full = f"{name}.{key}".lstrip(".")
            if parameter is not None and owner.setdefault(id(parameter), full) != full:
                raise UnsupportedError(
                    f"{full} and {owner[id(parameter)]} are one tensor shared by two layers"
                )


class _Walk:
    """One pass over the traced operations; `state` holds the labels of each result that is a tensor."""

    def __init__(self, traced: fx.GraphModule) -> None:
        self.traced, self.graph = traced, ChannelGraph()
        self.state: dict[fx.Node, Labels | None] = {}

    def run(self) -> ChannelGraph:
        """The graph, after all operations."""
        steps: dict[str, Callable[[fx.Node], Labels | None]] = {
            "placeholder": self._input,
            "call_module": self._module,
            "call_function": self._function,
            "call_method": self._function,
            "get_attr": self._attribute,
            "output": self._output,
        }
        for node in self.traced.graph.nodes:
            self.state[node] = steps[node.op](node)
        return self.graph

    def _new(self, n: int) -> Labels:
        first = self.graph.n_labels
        self.graph.n_labels += n
        return list(range(first, first + n))

    def _fix(self, labels: Labels, reason: str) -> None:
        for label in labels:
            self.graph.fixed.setdefault(label, reason)

    def _tie(self, a: Labels, b: Labels, reason: str) -> None:
        self.graph.ties += [Tie(x, y, reason) for x, y in zip(a, b, strict=True) if x != y]

    def _labels(self, node: fx.Node) -> Labels:
        """The labels of an operation's first input."""
        first = node.args[0] if node.args else None
        labels = self.state.get(first) if isinstance(first, fx.Node) else None
        if labels is None:
            raise UnsupportedError(f"{ops.describe(node)}: its input is no tensor with channels")
        return labels

    def _input(self, node: fx.Node) -> Labels:
        if any(node is not other and other.op == "placeholder" for other in self.traced.graph.nodes):
            raise UnsupportedError("the network takes more than one input")
        labels = self._new(ops.shape(node)[1])
        self._fix(labels, "the network's input")
        return labels

    def _attribute(self, node: fx.Node) -> None:
        raise UnsupportedError(f"{ops.describe(node)}: a parameter or buffer used outside a layer")

    def _output(self, node: fx.Node) -> None:
        for source in node.all_input_nodes:
            self._fix(self.state[source] or [], "the network's output")

    def _module(self, node: fx.Node) -> Labels:
        module = self.traced.get_submodule(str(node.target))
        labels = self._labels(node)
        if isinstance(module, CONVOLUTIONS):
            return self._convolution(node, module, labels)
        if isinstance(module, nn.Linear):
            return self._linear(node, module, labels)
        if isinstance(module, BATCH_NORMS):
            return self._layer(node, Layer(str(node.target), "batch norm", tuple(labels), tuple(labels)))
        if isinstance(module, nn.Flatten):
            return ops.flattened(node, labels, module.start_dim, module.end_dim)
        if isinstance(module, ops.PASSING_MODULES) or (
            isinstance(module, nn.PReLU) and module.num_parameters == 1
        ):
            return labels
        raise UnsupportedError(f"{ops.describe(node)}: {type(module).__name__} is not supported")

    def _convolution(self, node: fx.Node, module: Any, labels: Labels) -> Labels:
        name, groups = str(node.target), module.groups
        pair = math.prod(ops.shape(node)[2:]) * math.prod(module.kernel_size)
        depthwise = groups > 1 and groups == module.in_channels
        if depthwise:
            outs = [label for label in labels for _ in range(module.out_channels // groups)]
        else:
            known = self.graph.layers.get(name)
            outs = list(known.outs) if known else self._new(module.out_channels)
        if groups > 1 and not depthwise:
            why = f"{name} has {groups} groups of channels, which must stay equally large"
            for side in (labels, outs):
                share = len(side) // groups
                for g in range(1, groups):
                    self._tie(side[:share], side[g * share : (g + 1) * share], why)
        layer = Layer(name, "convolution", tuple(labels), tuple(outs), groups, depthwise, pair)
        return self._layer(node, layer)

    def _linear(self, node: fx.Node, module: nn.Linear, labels: Labels) -> Labels:
        if len(ops.shape(node)) != 2:
            raise UnsupportedError(
                f"{ops.describe(node)}: a linear layer on {len(ops.shape(node))} dimensions"
            )
        name = str(node.target)
        known = self.graph.layers.get(name)
        outs = known.outs if known else tuple(self._new(module.out_features))
        return self._layer(node, Layer(name, "linear", tuple(labels), outs, macs_per_pair=1))

    def _layer(self, node: fx.Node, layer: Layer) -> Labels:
        """Records a call of a layer; what a second call brings in is tied to what the first one did."""
        known = self.graph.layers.get(layer.name)
        if known is not None:
            self._tie(list(known.ins), list(layer.ins), f"{layer.name} is used more than once")
            layer = Layer(
                known.name, known.kind, known.ins, known.outs, known.groups, known.depthwise,
                known.macs_per_pair + layer.macs_per_pair,
            )  # fmt: skip
        self.graph.layers[layer.name] = layer
        return list(layer.outs)

    def _function(self, node: fx.Node) -> Labels | None:
        name = ops.operation(node)
        if ops.reads_a_size(node, self.state):
            return None
        if name in ops.PASSING:
            return self._labels(node)
        if name in ("add", "iadd", "add_", "sub", "mul", "imul", "mul_", "truediv", "div"):
            return self._join(node, name)
        if name in ("cat", "concat"):
            return self._concat(node)
        if name == "mean":
            return ops.averaged(node, self._labels(node))
        if name == "flatten":
            start = ops.argument(node, 1, "start_dim", 0)
            return ops.flattened(node, self._labels(node), start, ops.argument(node, 2, "end_dim", -1))
        if name in ("view", "reshape"):
            return ops.viewed(node, self._labels(node))
        raise UnsupportedError(
            f"{ops.describe(node)}: {ops.WHY_NOT.get(name, 'this operation is not supported')}"
        )

    def _join(self, node: fx.Node, name: str) -> Labels:
        """Adds or multiplies channel by channel; a number may only multiply."""
        tensors = [n for n in node.args[:2] if isinstance(n, fx.Node) and self.state.get(n) is not None]
        if len(tensors) == 1:
            if name in ("mul", "imul", "mul_", "truediv", "div") and tensors[0] is node.args[0]:
                return self.state[tensors[0]] or []
            raise UnsupportedError(f"{ops.describe(node)}: a removed channel would no longer be 0")
        a, b = (self.state[t] or [] for t in tensors)
        if name in ("truediv", "div") or len(a) != len(b):
            raise UnsupportedError(f"{ops.describe(node)}: {len(a)} and {len(b)} channels cannot be tied")
        verb = "multiplied" if "mul" in name else "added"
        self._tie(a, b, f"{verb} at {ops.where(node)}")
        return a

    def _concat(self, node: fx.Node) -> Labels:
        dim = ops.argument(node, 1, "dim", 0)
        if dim not in (1, 1 - len(ops.shape(node))):
            raise UnsupportedError(f"{ops.describe(node)}: concat along dimension {dim}, not the channels")
        parts = node.args[0]
        if not isinstance(parts, list | tuple):
            raise UnsupportedError(f"{ops.describe(node)}: concat of a list that is made while running")
        return [label for part in parts for label in self.state[part] or []]  # type: ignore[index]
