"""Whether what a notebook shows of its work is shown by the true functions of torch and of the course's fixtures.

Two ways to lie: replacing such a function, and handing out an object whose class answers in its stead. It is her
process, so this is no wall: it stops both, not who rewrites this module too. Whose text reaches that far is not
believed (`autograde.judge.NotBelieved`).
"""

from __future__ import annotations

import builtins
import importlib
import pkgutil
import sys
import types
from collections.abc import Iterator
from typing import Any

__all__ = ["CodeReplaced", "Seal"]


class CodeReplaced(Exception):
    """A function that the tests rely on is not the one that was there before the notebook ran."""


class Seal:
    """What was there before the first cell. What a library's own later import adds to a module is no matter."""

    def __init__(self) -> None:
        self._kept = [(owner, dict(_functions(owner))) for owner in _owners()]
        self._known = {owner for owner, _ in self._kept if isinstance(owner, type)} | {object}
        torch = sys.modules.get("torch")
        self._module = torch.nn.Module if torch is not None else None
        answers = {name for name, _ in _functions(self._module)} if torch is not None else set()
        self._forbidden = (answers | {"__getattribute__", "__class__"}) - _HERS

    def check(self) -> None:
        """Raises: CodeReplaced naming the first function that is another, or that hides one a class inherits."""
        for owner, kept in self._kept:
            now = vars(owner)
            changed = [name for name, value in kept.items() if now.get(name) is not value]
            if not changed and isinstance(owner, type):
                changed = [name for name, _ in _functions(owner) if name not in kept]
            if changed:
                what = f"{owner.__name__}.{changed[0]}"
                raise CodeReplaced(f"{what} was replaced in this notebook, so nothing it shows can be judged")

    def check_object(self, value: Any) -> None:
        """Whether an object that a fixture is about to look at answers by torch's functions alone.

        Args:   value: anything. Of a network, all its modules and tensors are looked at.
        Raises: CodeReplaced naming the first function, or kind of tensor, that is not torch's.
        """
        seen: set[int] = set()
        waiting = [value]
        while waiting:
            each = waiting.pop()
            if id(each) not in seen:
                seen.add(id(each))
                self._check_answers(each)
                if self._module is not None and issubclass(type(each), self._module):
                    waiting += self._parts(each)

    def _check_answers(self, value: Any) -> None:
        kind = type(value)
        for owner in type.__dict__["__mro__"].__get__(kind):
            if owner in self._known:
                continue
            names = type.__dict__["__dict__"].__get__(owner)
            if "__dict__" in names and not isinstance(names["__dict__"], types.GetSetDescriptorType):
                raise CodeReplaced(f"{owner.__name__} has a __dict__ of its own")
            self._refuse(names, owner.__name__)
        try:
            own = object.__getattribute__(value, "__dict__")
        except AttributeError:
            return
        if not isinstance(value, type | types.ModuleType):
            self._refuse(own, f"an object of {kind.__name__}")

    def _refuse(self, names: Any, whose: str) -> None:
        for name in names:
            if name in self._forbidden:
                raise CodeReplaced(f"{whose} has its own {name}, so nothing it shows can be judged")

    def _parts(self, network: Any) -> list[Any]:
        """The modules inside a module, whose tensors are of torch's own kinds and whose state no hook changes."""
        inside = object.__getattribute__(network, "__dict__")
        torch = sys.modules["torch"]
        held = [inside.get(name) for name in ("_parameters", "_buffers", "_modules")]
        for kept in held:
            if type(kept) is not dict:
                raise CodeReplaced(f"{type(network).__name__} keeps its parts in a {type(kept).__name__}")
        if inside.get("_state_dict_hooks") or inside.get("_state_dict_pre_hooks"):
            raise CodeReplaced(f"{type(network).__name__} changes what its state_dict shows")
        for tensor in (*held[0].values(), *held[1].values()):
            if type(tensor) not in (type(None), torch.Tensor, torch.nn.Parameter, torch.nn.Buffer):
                raise CodeReplaced(f"{type(network).__name__} holds a {type(tensor).__name__}")
        return [part for part in held[2].values() if part is not None]


# What a class of her own may define: how it computes, how it is printed and copied.
_HERS = {
    "__call__", "__dir__", "__getstate__", "__init__", "__repr__", "__setstate__", "_get_name", "compile", "eval",
    "extra_repr", "forward", "train",
}  # fmt: skip


def _functions(owner: Any) -> Iterator[tuple[str, Any]]:
    for name, value in vars(owner).items():
        if callable(value) or isinstance(value, property | staticmethod | classmethod):
            yield name, value


def _owners() -> list[Any]:
    """The modules and classes whose functions the fixtures use."""
    torch = sys.modules.get("torch")
    if torch is None:
        return [builtins]
    layers = _below(torch.nn.Module) | _below(torch.optim.Optimizer)
    return [
        builtins,
        torch,
        torch.nn,
        torch.nn.functional,
        torch.Tensor,
        torch.nn.Parameter,
        *layers,
        *_fixtures(),
    ]


def _below(base: type) -> set[type]:
    """A class and all that are derived from it so far."""
    children: list[type] = type.__subclasses__(base)
    return {base}.union(*map(_below, children))


def _fixtures() -> list[Any]:
    """The modules of coursekit.fixtures; none where there is no coursekit."""
    try:
        package = importlib.import_module("coursekit.fixtures")
    except ImportError:
        return []
    found = [package]
    for info in pkgutil.iter_modules(package.__path__):
        try:
            found.append(importlib.import_module(f"coursekit.fixtures.{info.name}"))
        except ImportError:
            continue
    return found
