"""What the channel graph knows about single operations: their shapes, their names, what passes channels on."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

from torch import fx, nn

__all__ = [
    "BATCH_NORMS",
    "CONVOLUTIONS",
    "PASSING",
    "PASSING_MODULES",
    "WHY_NOT",
    "UnsupportedError",
    "argument",
    "averaged",
    "describe",
    "flattened",
    "operation",
    "reads_a_size",
    "shape",
    "viewed",
    "where",
]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

# Each leaves every channel where it is and turns a channel of zeros into a channel of zeros.
PASSING_MODULES: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Tanh, nn.Identity,
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d,
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
)  # fmt: skip
PASSING = {
    "relu", "relu_", "relu6", "leaky_relu", "elu", "gelu", "silu", "hardswish", "tanh", "abs", "neg",
    "dropout", "dropout2d", "contiguous", "clone",
    "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d",
}  # fmt: skip

_MOVES = "it cuts or moves channels at fixed places, which fewer channels no longer have"
_NOT_ZERO = "it does not map 0 to 0, so a removed channel would differ from a zeroed one"
WHY_NOT = {
    **dict.fromkeys(("chunk", "split", "getitem", "narrow", "select", "unbind"), _MOVES),
    **dict.fromkeys(
        ("transpose", "permute", "pixel_shuffle", "channel_shuffle", "unsqueeze", "squeeze"), _MOVES
    ),
    **dict.fromkeys(
        ("sigmoid", "softmax", "log_softmax", "softplus", "exp", "hardsigmoid", "cos"), _NOT_ZERO
    ),
    **dict.fromkeys(("matmul", "bmm", "einsum", "linear", "conv2d"), "a product outside a layer of its own"),
}


class UnsupportedError(ValueError):
    """The network holds something whose channels cannot be followed; the message names it."""


def shape(node: fx.Node) -> tuple[int, ...]:
    """The shape of an operation's result on the example.

    Raises: UnsupportedError if the result is no single tensor.
    """
    found: tuple[int, ...] | None = node.meta.get("shape")
    if found is None:
        raise UnsupportedError(f"{describe(node)}: its result is not one tensor")
    return found


def operation(node: fx.Node) -> str:
    """The plain name of a function or method, such as "add"."""
    if isinstance(node.target, str):
        return node.target
    name = getattr(node.target, "__name__", str(node.target))
    return node.name.rstrip("_0123456789") if name in ("fn", "boolean_dispatch") else name


def where(node: fx.Node) -> str:
    """The module of the network that an operation stands in, or the operation's own name at the top."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack and stack[-1][0] else node.name


def describe(node: fx.Node) -> str:
    """An operation for an error message: its name and where it stands."""
    name = str(node.target) if node.op in ("call_module", "get_attr") else operation(node)
    place = where(node)
    return name if place in (name, node.name) else f"{name} in {place}"


def argument(node: fx.Node, position: int, name: str, default: Any) -> Any:
    """An argument of a call, whether given by position or by name."""
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def reads_a_size(node: fx.Node, state: Mapping[fx.Node, Any]) -> bool:
    """Whether an operation asks for a shape, or computes with numbers that came from one."""
    if operation(node) in ("size", "getattr", "dim"):
        return operation(node) != "getattr" or node.args[1] in ("shape", "ndim")
    sources = node.all_input_nodes
    known = (operator.getitem, operator.floordiv, operator.mul, operator.add, operator.sub)
    return node.target in known and bool(sources) and all(state.get(s) is None for s in sources)


def averaged(node: fx.Node, labels: list[int]) -> list[int]:
    """Labels after a mean over positions.

    Raises: UnsupportedError if it averages over the images or the channels.
    """
    rank = len(shape(node.all_input_nodes[0]))
    dims = argument(node, 1, "dim", None)
    chosen = {d % rank for d in ([dims] if isinstance(dims, int) else dims or range(rank))}
    if chosen & {0, 1}:
        raise UnsupportedError(f"{describe(node)}: a mean over the channels or the images")
    return labels


def flattened(node: fx.Node, labels: list[int], start: int, end: int) -> list[int]:
    """Labels after flatten(1): each as often as its channel has positions.

    Raises: UnsupportedError for another flatten.
    """
    before = shape(node.all_input_nodes[0])
    if start % len(before) > 1 or end % len(before) != len(before) - 1 or start % len(before) == 0:
        raise UnsupportedError(f"{describe(node)}: only flatten(1) keeps images apart and channels in order")
    return [label for label in labels for _ in range(math.prod(before[2:]))]


def viewed(node: fx.Node, labels: list[int]) -> list[int]:
    """Labels after a view that does what flatten(1) does.

    Raises: UnsupportedError for another view, or if the number of features is written into it.
    """
    sizes = node.args[1] if isinstance(node.args[1], list | tuple) else node.args[1:]
    before, after = shape(node.all_input_nodes[0]), shape(node)
    if len(after) != 2 or after[0] != before[0]:
        raise UnsupportedError(f"{describe(node)}: {WHY_NOT['transpose']}")
    if isinstance(sizes[-1], int) and sizes[-1] != -1:
        raise UnsupportedError(
            f"{describe(node)}: the number {sizes[-1]} of features stands in the code; write flatten(1)"
        )
    return flattened(node, labels, 1, -1)
