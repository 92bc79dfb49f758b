"""What crosses between the judge and a student's process: values as JSON and raw bytes, never pickle.

See `autograde.inside.codec` for the form. Here is what the judge makes of it: exact built-in types and exact tensors;
a `Handle` for an object that stays in the student's process and can be called (functions, classes, modules); and
`Unsupported` for everything else, which no test takes for a number or a tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from autograde.inside.codec import (
    MAX_BYTES,
    Unsendable,
    Wanted,
    WireError,
    decode,
    digests,
    encode,
)
from coursekit.exercises.spec import Fixture

__all__ = [
    "MAX_BYTES",
    "Handle",
    "Unsendable",
    "Unsupported",
    "WireError",
    "arguments_in",
    "digests",
    "pack",
    "unpack",
]

MAX_HANDLE = 1_000_000


@dataclass(frozen=True, eq=False)
class Unsupported:
    """A value of a type that does not cross; only its type's name does."""

    type_name: str

    def __repr__(self) -> str:
        return f"a {self.type_name}"


class Handle:
    """An object in the student's process: call it, or its public methods. It has no other attributes here.

    Args: number: valid in that process only. remote: makes the call: (number, path of attributes, args, kwargs).
    """

    def __init__(
        self, number: int, type_name: str, remote: Callable[..., Any], path: tuple[str, ...] = ()
    ) -> None:
        self._number, self._type_name, self._remote, self._path = number, type_name, remote, path

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._remote(self._number, self._path, args, kwargs)

    def __getattr__(self, name: str) -> Handle:
        if name.startswith("_") or len(self._path) >= 4:
            raise AttributeError(name)
        return Handle(self._number, self._type_name, self._remote, (*self._path, name))

    def __repr__(self) -> str:
        return f"a {self._type_name}"


def pack(value: Any) -> tuple[Any, bytes]:
    """A value of the judge's own as JSON and bytes; views keep their strides.

    Raises: Unsendable if it is of a kind that does not cross.
    """

    def opaque(value: Any, name: str) -> Any:
        if type(value) is Handle and not value._path:
            return {"h": value._number}
        raise Unsendable(name)

    return encode(_wanted(value), opaque=opaque, strided=True)


def _wanted(value: Any) -> Any:
    """The value with each fixture in it, at whatever depth of tuples and dicts, in the form in which it crosses."""
    if isinstance(value, Fixture):
        return Wanted(value.name, _wanted(value.args))
    if type(value) is tuple:
        return tuple(map(_wanted, value))
    if type(value) is dict:
        return {key: _wanted(each) for key, each in value.items()}
    return value


def unpack(tree: Any, data: bytes, remote: Callable[..., Any]) -> Any:
    """What came from the student's process.

    Raises: WireError if it is nothing that could have been sent.
    """

    def opaque(body: Any) -> Any:
        if not isinstance(body, dict) or not isinstance(body.get("n"), str):
            raise WireError("not an object")
        name = "".join(c if c.isprintable() else "?" for c in body["n"][:200])
        number = body.get("h")
        if body.get("c") is True and type(number) is int and 0 <= number < MAX_HANDLE:
            return Handle(number, name, remote)
        return Unsupported(name)

    return decode(tree, data, opaque=opaque)


def arguments_in(tree: Any, data: bytes) -> tuple[Any, ...]:
    """The positional arguments of a packed call, as these bytes make them; no objects, only their places."""

    def object_of(*_: Any) -> Unsupported:
        return Unsupported("object")

    arguments: tuple[Any, ...] = decode(tree, data, opaque=object_of, make=object_of)[0]
    return arguments
