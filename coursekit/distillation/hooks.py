"""What a network computes on the way: outputs of its modules, by name, without changing the network."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from coursekit.train import eval_mode

__all__ = ["capture", "capture_features", "feature_shapes"]


def _modules(network: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """The modules of these names.

    Raises: ValueError for a name that no module has, with those that come close; for a name given twice.
    """
    if isinstance(names, str):
        raise ValueError(f"names must be a list of module names; for one of them write [{names!r}]")
    known = dict(network.named_modules(remove_duplicate=False))
    if len(set(names)) < len(names):
        raise ValueError(f"each module once, got {list(names)}")
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or [n for n in known if n][:3]
            raise ValueError(
                f"{type(network).__name__} has no module {name!r}; close to it are {', '.join(map(repr, close))}; "
                "all names: dict(network.named_modules())"
            )
    return {name: known[name] for name in names}


def _keep(name: str, features: dict[str, Tensor], module: nn.Module, inputs: Any, output: Any) -> None:
    if not isinstance(output, Tensor):
        raise ValueError(
            f"{name!r} returns a {type(output).__name__}, not one tensor; name the module inside it that you mean"
        )
    if name in features:
        raise ValueError(
            f"{name!r} runs more than once in a forward pass, so its output is not one tensor; name modules "
            "that run once (give each place a module of its own, such as a ReLU)"
        )
    # A copy: the next module may be an in-place ReLU, which would overwrite what is kept here.
    features[name] = output.clone()


@contextlib.contextmanager
def capture(network: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """A block in which every forward pass of `network` fills the dict it yields: module name to that module's output.

    The network computes what it always does, bit for bit, and has no hook left after the block, however it ends.
    Each forward pass replaces the features of the one before. They carry gradients if the pass does; wrap the
    call in `torch.no_grad()` for a teacher. They are copies, so an in-place ReLU behind a module cannot reach them.

    Args:    names: of modules, as `network.named_modules()` spells them; "" is the network itself.
    Raises:  ValueError, before anything is hooked, for an unknown name or one given twice; during the forward pass for
             a module that runs more than once, or never, or does not return one tensor.
    Source:  torch.nn.Module.register_forward_hook. Taught in lesson 09.

    >>> network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True))
    >>> with capture(network, ["0"]) as features:
    ...     output = network(torch.ones(5, 2))
    >>> features["0"].shape, torch.equal(output, features["0"].relu())
    (torch.Size([5, 3]), True)
    """
    modules = _modules(network, names)
    features: dict[str, Tensor] = {}

    def start(module: nn.Module, inputs: Any) -> None:
        features.clear()

    def finish(module: nn.Module, inputs: Any, output: Any) -> None:
        if silent := [name for name in modules if name not in features]:
            raise ValueError(
                f"the forward pass never runs {', '.join(map(repr, silent))}; name modules that it calls"
            )

    with contextlib.ExitStack() as hooks:
        if modules:
            hooks.callback(network.register_forward_pre_hook(start).remove)
            for name, module in modules.items():
                hooks.callback(module.register_forward_hook(partial(_keep, name, features)).remove)
            hooks.callback(network.register_forward_hook(finish).remove)
        yield features


def capture_features(network: nn.Module, images: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """The outputs of these modules in one forward pass of `network`, by name; no hook stays behind.

    Args:    images: what the network takes. names: of modules. The network's mode and gradients are the caller's.
    Returns: name to output, in the order of `names`.
    Raises:  ValueError as `capture`; whatever the network raises.
    Source:  Taught in lesson 09.
    """
    with capture(network, names) as features:
        network(images)
    return {name: features[name] for name in names}


@torch.no_grad()
def feature_shapes(
    network: nn.Module, images: Tensor, names: Sequence[str] | None = None
) -> dict[str, tuple[int, ...]]:
    """The shape of one image's output at each module, by name, in the order in which the modules run.

    Args:    images: a small batch. names: of modules; by default all that run exactly once and return a tensor.
    Returns: name to shape without the batch: (channels, height, width), or (features,).
    Raises:  ValueError as `capture`, if names are given.
    Source:  Taught in lesson 09.

    >>> feature_shapes(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()), torch.zeros(2, 1, 8, 8))
    {'0': (4, 6, 6), '1': (4, 6, 6)}
    """
    with eval_mode(network):
        if names is None:
            names = _run_once(network, images)
        with capture(network, names) as features:
            network(images)
    return {name: tuple(feature.shape[1:]) for name, feature in features.items()}


def _run_once(network: nn.Module, images: Tensor) -> list[str]:
    """The modules inside the network that run once in a forward pass and return a tensor."""
    runs: list[tuple[str, bool]] = []

    def note(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        runs.append((name, isinstance(output, Tensor)))

    with contextlib.ExitStack() as hooks:
        for name, module in network.named_modules():
            if name:
                hooks.callback(module.register_forward_hook(partial(note, name)).remove)
        network(images)
    return [name for name, tensor in runs if tensor and runs.count((name, tensor)) == 1]
