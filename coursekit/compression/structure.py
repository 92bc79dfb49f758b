"""What a network is made of, as JSON, and a network made of it again. A file names layers; it never brings code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from coursekit.models import LeNet5, LeNet300100, MobileNetV2, ResNet

__all__ = ["build_structure", "describe_structure"]

Json = dict[str, Any]
MOST_NUMBERS = 1 << 26  # of a network: a damaged size must not fill the memory
MOST_LAYERS = 10_000
MOST_BLOCKS = 100  # of a stage

# Class name to how the network's skeleton is made again: sizes of layers are told one by one.
_SKELETONS: dict[str, tuple[Callable[..., nn.Module], Callable[[Any], Json]]] = {
    "LeNet300100": (LeNet300100, lambda model: {}),
    "LeNet5": (LeNet5, lambda model: {}),
    "ResNet": (ResNet, lambda model: {"n_blocks": len(model.stage1)}),
    "MobileNetV2": (MobileNetV2, lambda model: {}),
}
# Class to the names of its constructor's arguments, which are also its attributes.
_LAYERS: dict[str, tuple[type[nn.Module], tuple[str, ...]]] = {
    "Linear": (nn.Linear, ("in_features", "out_features")),
    "Conv2d": (
        nn.Conv2d,
        (
            "in_channels",
            "out_channels",
            "kernel_size",
            "stride",
            "padding",
            "dilation",
            "groups",
            "padding_mode",
        ),
    ),
    "BatchNorm2d": (nn.BatchNorm2d, ("num_features", "eps", "momentum")),
    "ReLU": (nn.ReLU, ()),
    "ReLU6": (nn.ReLU6, ()),
    "Flatten": (nn.Flatten, ("start_dim", "end_dim")),
    "Identity": (nn.Identity, ()),
    "MaxPool2d": (nn.MaxPool2d, ("kernel_size", "stride", "padding")),
    "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d, ("output_size",)),
}
# Arguments that are told only where they are not what they are by default.
_SELDOM: dict[str, Json] = {
    "MaxPool2d": {"dilation": 1, "return_indices": False, "ceil_mode": False},
    "ReLU": {"inplace": False},
    "ReLU6": {"inplace": False},
}


def describe_structure(model: nn.Module) -> Json:
    """The model's skeleton and every part of it that differs from a new one, in JSON values.

    Args:   model: one of coursekit.models, whatever was put into its places; or an nn.Sequential of plain layers.
    Raises: TypeError naming the class and place that has no form in a file.
    """
    if (n := _n_numbers(model)) > MOST_NUMBERS:
        raise TypeError(f"a network of {n:,} numbers is too large for a file of this kind")
    if isinstance(model, nn.Sequential):
        return {"skeleton": "Sequential", "layers": _layer(model, "")["layers"]}
    name = type(model).__name__
    known = _SKELETONS.get(name)
    if known is None or type(model) is not known[0]:
        raise TypeError(f"a {name} has no form in a file: only Sequential and {', '.join(_SKELETONS)} have")
    options = known[1](model)
    with torch.device("meta"):  # quick, and no random numbers are drawn
        fresh = known[0](**options)
    parts: Json = {}
    _compare(model, fresh, "", parts)
    return {"skeleton": name, "options": options, "parts": parts}


def _compare(model: nn.Module, fresh: nn.Module, place: str, parts: Json) -> None:
    """Collects the children of `model` that are not as in `fresh`."""
    ours, theirs = dict(model.named_children()), dict(fresh.named_children())
    if ours.keys() != theirs.keys():
        raise TypeError(f"{place or 'the network'} has other parts than a {type(fresh).__name__} has")
    for name, child in ours.items():
        where, other = f"{place}.{name}".lstrip("."), theirs[name]
        plain = type(child).__name__ in _LAYERS or isinstance(child, nn.Sequential)
        if type(child) is type(other) and not plain:
            _compare(child, other, where, parts)
        elif not plain:
            raise TypeError(f"{where} is a {type(child).__name__}, which has no form in a file")
        elif _is_skeleton(child, other):
            _compare(child, other, where, parts)
        elif _layer(child, where) != _told(other, where):
            parts[where] = _layer(child, where)


def _is_skeleton(child: nn.Module, other: nn.Module) -> bool:
    """Whether both are containers with the same places."""
    both = isinstance(child, nn.Sequential) and isinstance(other, nn.Sequential)
    return both and len(child) == len(other)  # type: ignore[arg-type]


def _told(layer: nn.Module, where: str) -> Json | None:
    try:
        return _layer(layer, where)
    except TypeError:  # a container of the skeleton that something plain has replaced
        return None


def _layer(layer: nn.Module, where: str) -> Json:
    """One plain layer, or a Sequential of such, as JSON."""
    kind = type(layer).__name__
    if isinstance(layer, nn.Sequential):
        return {
            "kind": "Sequential",
            "layers": [_layer(each, f"{where}.{i}") for i, each in enumerate(layer)],
        }
    known = _LAYERS.get(kind)
    if known is None or type(layer) is not known[0]:
        raise TypeError(f"{where or 'the network'} is a {kind}, which has no form in a file")
    if isinstance(layer, nn.BatchNorm2d) and not (layer.affine and layer.track_running_stats):
        raise TypeError(f"{where} is a batch norm without weights or statistics, which has no form in a file")
    told: Json = {"kind": kind}
    for name in known[1]:
        value = getattr(layer, name)
        told[name] = list(value) if isinstance(value, tuple) else value
    for name, usual in _SELDOM.get(kind, {}).items():
        value = getattr(layer, name)
        if value != usual:
            told[name] = list(value) if isinstance(value, tuple) else value
    if isinstance(layer, nn.Linear | nn.Conv2d):
        told["bias"] = layer.bias is not None
    return told


def build_structure(told: Json) -> nn.Module:
    """A network of this structure, in eval mode, on the meta device: its tensors have shapes, and no memory yet.

    Raises: ValueError for anything that `describe_structure` would not have written.
    """
    if not isinstance(told, dict):
        raise ValueError("the structure is no JSON object")
    try:
        with torch.device("meta"):
            model = _made(told)
    except (KeyError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        raise ValueError(f"the structure in the file is no network's: {error}") from error
    if (n := _n_numbers(model)) > MOST_NUMBERS:
        raise ValueError(f"a network of {n:,} numbers is too large for a file")
    return model.eval()


def _made(told: Json) -> nn.Module:
    if told.get("skeleton") == "Sequential":
        return nn.Sequential(*map(_built, _listed(told.get("layers"))))
    make, _ = _SKELETONS[told["skeleton"]]
    model = make(**_sizes(told["options"]))
    for place, part in dict(told["parts"]).items():
        parent, _, child = place.rpartition(".")
        if child not in dict(model.get_submodule(parent).named_children()):
            raise ValueError(f"the network has no place {place!r}")
        setattr(model.get_submodule(parent), child, _built(part))
    return model


def _n_numbers(model: nn.Module) -> int:
    return sum(tensor.numel() for tensor in model.state_dict().values())


def _listed(layers: Any) -> list[Any]:
    if not isinstance(layers, list) or len(layers) > MOST_LAYERS:
        raise ValueError("the structure has no list of layers")
    return layers


def _sizes(options: Json) -> Json:
    if not all(type(value) is int and 0 < value <= MOST_BLOCKS for value in options.values()):
        raise ValueError(f"the options {options} are no sizes")
    return options


def _built(told: Any) -> nn.Module:
    if not isinstance(told, dict):
        raise ValueError("a layer is no JSON object")
    if told.get("kind") == "Sequential":
        return nn.Sequential(*map(_built, _listed(told.get("layers"))))
    make, names = _LAYERS[told["kind"]]
    options = {name: _option(told[name]) for name in names}
    options |= {name: _option(told[name]) for name in _SELDOM.get(told["kind"], {}) if name in told}
    if make in (nn.Linear, nn.Conv2d):
        options["bias"] = bool(told["bias"])
    return make(**options)


def _option(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_option(each) for each in value)
    if value is None or type(value) in (int, float, str, bool):
        return value
    raise ValueError(f"{value!r} is no option of a layer")
