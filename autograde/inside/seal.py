"""Whether a notebook has replaced functions of torch or of the course's fixtures, by which its work is looked at.

It is her process, so this is no wall: it stops who replaces a function, not who rewrites this module too. Both are
flagged.
"""

from __future__ import annotations

import builtins
import importlib
import pkgutil
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["CodeReplaced", "Seal"]


class CodeReplaced(Exception):
    """A function that the tests rely on is not the one that was there before the notebook ran."""


class Seal:
    """What was there before the first cell. What a library's own later import adds to a module is no matter."""

    def __init__(self) -> None:
        self._kept = [(owner, dict(_functions(owner))) for owner in _owners()]

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


def _functions(owner: Any) -> Iterator[tuple[str, Any]]:
    for name, value in vars(owner).items():
        if callable(value) or isinstance(value, property | staticmethod | classmethod):
            yield name, value


def _owners() -> list[Any]:
    """The modules and classes whose functions the fixtures use."""
    torch = sys.modules.get("torch")
    if torch is None:
        return [builtins]
    layers = [value for value in vars(torch.nn).values() if isinstance(value, type)]
    return [
        builtins,
        torch,
        torch.nn,
        torch.nn.functional,
        torch.Tensor,
        *dict.fromkeys(layers),
        *_fixtures(),
    ]


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
