"""What a float network computes, as a list of operations that can be quantized, read from its torch.fx graph."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from coursekit.quantization.grid import Activation

__all__ = ["Operation", "UnsupportedLayerError", "plan"]


class UnsupportedLayerError(ValueError):
    """The network has layers that static quantization does not know; the message names them all."""


@dataclass
class Operation:
    """One quantized operation: a layer, or a sum, with the activation that follows it.

    Attributes: name: the layer's name in the model, else the graph node's. kind: as of the integer layers.
                inputs: names of operations, or "input". module: the float layer, of "conv2d" and "linear".
                options: numbers such as a pool's kernel size. activation: fused into it.
                observed: the graph node whose output is this operation's.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    observed: str
    module: nn.Module | None = None
    options: dict[str, Any] = field(default_factory=dict)
    activation: Activation | None = None

    @property
    def same_grid(self) -> bool:
        """Whether its output lies on the grid of its input, so that no range of its own is needed."""
        return self.kind in ("max_pool2d", "flatten", "activation")


def plan(graph_module: fx.GraphModule) -> list[Operation]:
    """The operations of a traced network, in the order they run; activations are fused where nothing else looks in.

    Args:   graph_module: in eval mode, batch norms already folded.
    Raises: UnsupportedLayerError, naming every node that has no integer form, and why.
    """
    modules = dict(graph_module.named_modules())
    alias: dict[str, str] = {}  # node name -> the operation (or "input") whose output it is
    operations: dict[str, Operation] = {}
    problems: list[str] = []
    for node in graph_module.graph.nodes:
        try:
            _add(node, modules, alias, operations)
        except _Unsupported as error:
            problems.append(f"{_label(node)}: {error}")
            alias[node.name] = node.name  # so that what comes after is looked at too
    if not operations and not problems:
        problems.append("the network has no layer to quantize")
    if problems:
        raise UnsupportedLayerError("cannot be quantized to integers: " + "; ".join(problems))
    return list(operations.values())


class _Unsupported(Exception):
    """Why one node cannot be quantized."""


def _label(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name


def _add(
    node: fx.Node, modules: dict[str, nn.Module], alias: dict[str, str], operations: dict[str, Operation]
) -> None:
    """Turns one node into an operation, an activation of the one before it, or another name for that."""
    if node.op == "placeholder":
        if "input" in alias.values():
            raise _Unsupported("a second input of the network")
        alias[node.name] = "input"
        return
    if node.op == "output":
        if not isinstance(node.args[0], fx.Node):
            raise _Unsupported("the network returns more than one tensor")
        if operations and alias[node.args[0].name] != list(operations)[-1]:
            raise _Unsupported("the network's output is not its last layer")
        return
    kind, options, module = _kind(node, modules)
    sources: Any = node.args[0] if kind == "concat" else node.args[: 2 if kind == "add" else 1]
    if not all(isinstance(each, fx.Node) for each in sources):
        raise _Unsupported("takes a number where a tensor of the network is needed")
    inputs = tuple(alias[each.name] for each in sources)
    before = operations.get(inputs[0])
    if kind == "identity":
        alias[node.name] = inputs[0]
    elif kind == "activation" and before is not None and _fusable(before, sources[0]):
        before.activation, before.observed = options["activation"], node.name
        alias[node.name] = inputs[0]
    else:
        name = str(node.target) if node.op == "call_module" else node.name
        if name in operations or name == "input":
            raise _Unsupported("runs twice: give each place a layer of its own")
        operations[name] = Operation(name, kind, inputs, node.name, module, options)
        alias[node.name] = name


def _fusable(before: Operation, node: fx.Node) -> bool:
    """Whether an activation may join the operation that made `node`: it has none yet, and no one else reads it."""
    return before.kind in ("conv2d", "linear", "add") and before.activation is None and len(node.users) == 1


_Kind = tuple[str, dict[str, Any], "nn.Module | None"]


def _kind(node: fx.Node, modules: dict[str, nn.Module]) -> _Kind:
    """(kind, options, float layer) of a node."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        for cls, read in _MODULES.items():
            if type(module) is cls:
                return read(module)
        raise _Unsupported(f"{type(module).__name__} has no integer form here")
    for target, read_call in _CALLS.items():
        if node.target == target:
            return read_call(node)
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", node.target)
    raise _Unsupported(f"{name} has no integer form here")


def _conv2d(conv: nn.Conv2d) -> _Kind:
    if conv.padding_mode != "zeros" or conv.padding == "same":
        raise _Unsupported("a convolution can be padded with zeros only, by a number of pixels")
    return "conv2d", {}, conv


def _max_pool(
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> _Kind:
    if dilation not in (1, (1, 1)) or ceil_mode or return_indices:
        raise _Unsupported("max pooling with dilation, ceil_mode or return_indices")
    stride = kernel_size if stride is None else stride
    return "max_pool2d", {"kernel_size": kernel_size, "stride": stride, "padding": padding}, None


def _avg_pool(
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> _Kind:
    if padding not in (0, (0, 0)) or ceil_mode or divisor_override is not None:
        raise _Unsupported("average pooling with padding, ceil_mode or divisor_override")
    return (
        "avg_pool2d",
        {"kernel_size": kernel_size, "stride": kernel_size if stride is None else stride},
        None,
    )


def _attributes(read: Callable[..., _Kind], *names: str) -> Callable[[nn.Module], _Kind]:
    """A reader of a module by the attributes that are called like the function's arguments."""
    return lambda module: read(**{name: getattr(module, name) for name in names})


def _adaptive(size: Any) -> _Kind:
    if size not in (1, (1, 1)):
        raise _Unsupported(f"adaptive pooling to {size}; only to 1")
    return "mean", {"keepdim": True}, None


def _flatten(start: int = 1, end: int = -1) -> _Kind:
    if (start, end) != (1, -1):
        raise _Unsupported(f"flatten({start}, {end}); only flatten(1)")
    return "flatten", {}, None


def _mean(node: fx.Node) -> _Kind:
    dims: Any = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    keepdim = bool(node.kwargs.get("keepdim", node.args[2] if len(node.args) > 2 else False))
    if not isinstance(dims, (list, tuple)) or tuple(dims) not in ((2, 3), (-2, -1)):
        raise _Unsupported(f"mean over {dims}; only over height and width, dim=(2, 3)")
    return "mean", {"keepdim": keepdim}, None


def _concat(node: fx.Node) -> _Kind:
    if node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0) != 1:
        raise _Unsupported("concatenation along another dimension than 1")
    return "concat", {}, None


def _sum(node: fx.Node) -> _Kind:
    if node.kwargs.get("alpha", 1) != 1:
        raise _Unsupported("a sum with alpha")
    return "add", {}, None


def _same(_: Any) -> _Kind:
    return "identity", {}, None


def _relu(_: Any) -> _Kind:
    return "activation", {"activation": "relu"}, None


def _relu6(_: Any) -> _Kind:
    return "activation", {"activation": "relu6"}, None


def _call(read: Callable[..., _Kind]) -> Callable[[fx.Node], _Kind]:
    """A reader of a function's node whose further arguments are passed on."""

    def read_node(node: fx.Node) -> _Kind:
        return read(*node.args[1:], **{k: v for k, v in node.kwargs.items() if k != "input"})

    return read_node


_MODULES: dict[type[nn.Module], Callable[[Any], _Kind]] = {
    nn.Conv2d: _conv2d,
    nn.Linear: lambda linear: ("linear", {}, linear),
    nn.ReLU: _relu,
    nn.ReLU6: _relu6,
    nn.MaxPool2d: _attributes(
        _max_pool, "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"
    ),
    nn.AvgPool2d: _attributes(_avg_pool, "kernel_size", "stride", "padding", "ceil_mode", "divisor_override"),
    nn.AdaptiveAvgPool2d: lambda pool: _adaptive(pool.output_size),
    nn.Flatten: lambda flatten: _flatten(flatten.start_dim, flatten.end_dim),
    nn.Dropout: _same,
    nn.Dropout2d: _same,
    nn.Identity: _same,
}
_CALLS: dict[Any, Callable[[fx.Node], _Kind]] = {
    operator.add: _sum,
    operator.iadd: _sum,
    torch.add: _sum,
    torch.relu: _relu,
    F.relu: _relu,
    F.relu6: _relu6,
    "relu": _relu,
    F.max_pool2d: _call(_max_pool),
    F.avg_pool2d: _call(_avg_pool),
    F.adaptive_avg_pool2d: _call(_adaptive),
    torch.flatten: _call(_flatten),
    "flatten": _call(_flatten),
    "mean": _mean,
    torch.mean: _mean,
    torch.cat: _concat,
    F.dropout: _same,
}
