"""Values as JSON and raw bytes, and back as exact built-in types or exact tensors. Never pickle.

The bytes of each tensor begin at a multiple of 16, so that a tensor can lie where they arrived. The same code runs on
both sides. Outside it is the judge's customs office: whatever arrives is one of these types,
every length checked against its bytes, or it does not arrive. Numbers, texts, tuples, lists, dicts and tensors of a
derived class cross as their plain base, which is what a check in the notebook sees of them; their overridden methods
stay behind.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["MAX_BYTES", "Unsendable", "Wanted", "WireError", "decode", "digests", "encode"]

MAX_BYTES = 32 * 1024 * 1024  # of all tensors in one value
MAX_ELEMENTS = 16 * 1024 * 1024
MAX_NODES = 20_000
MAX_DEPTH = 12
MAX_TEXT = 100_000
MAX_BITS = 1024
MAX_DIMS = 16
ALIGNMENT = 16
DTYPES = (
    "float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool",
    "complex64", "complex128",
)  # fmt: skip


class WireError(ValueError):
    """What arrived is no value."""


class Unsendable(Exception):
    """A value that cannot cross; the text says what it is."""


class Wanted:
    """An object to be made where the value arrives, by `coursekit.fixtures.make`. Only the judge sends one."""

    def __init__(self, name: str, args: tuple[Any, ...]) -> None:
        self.name, self.args = name, args


class _Writer:
    def __init__(self, opaque: Callable[[Any, str], Any] | None, strided: bool) -> None:
        self.opaque, self.strided = opaque, strided
        self.chunks: list[bytes] = []
        self.n_bytes = self.nodes = 0

    def write(self, value: Any, depth: int = 0) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise Unsendable("a value of too many parts")
        if depth > MAX_DEPTH:
            raise Unsendable("a value nested too deeply")
        kind = type(value)
        if value is None or kind is bool:
            return value
        if issubclass(kind, int):
            number = int.__int__(value)
            if number.bit_length() > MAX_BITS:
                raise Unsendable(f"an int of {number.bit_length()} bits")
            return number
        if issubclass(kind, float):
            return float.__float__(value)
        if issubclass(kind, str):
            if str.__len__(value) > MAX_TEXT:
                raise Unsendable(f"a text of {str.__len__(value)} characters")
            return str.__str__(value)
        if issubclass(kind, tuple):
            return {"t": [self.write(item, depth + 1) for item in tuple.__iter__(value)]}
        if issubclass(kind, list):
            return {"l": [self.write(item, depth + 1) for item in list.__iter__(value)]}
        if issubclass(kind, dict):
            return {"d": [self._pair(pair, depth) for pair in dict.items(value)]}
        if kind is Wanted:
            return {"f": [value.name, self.write(value.args, depth + 1)]}
        torch = sys.modules.get("torch")
        if torch is not None and issubclass(kind, torch.Tensor):
            return self._tensor(torch, value, kind)
        return self._opaque(value, f"{kind.__module__}.{kind.__qualname__}")

    def _pair(self, pair: tuple[Any, Any], depth: int) -> list[Any]:
        if not issubclass(type(pair[0]), str):
            raise Unsendable("a dict whose keys are not texts")
        return [self.write(pair[0], depth + 1), self.write(pair[1], depth + 1)]

    def _opaque(self, value: Any, name: str) -> Any:
        if self.opaque is None:
            raise Unsendable(name)
        return {"o": self.opaque(value, name[:200])}

    def _tensor(self, torch: Any, value: Any, kind: type) -> Any:
        with torch._C.DisableTorchFunctionSubclass(), torch.no_grad():
            plain = torch.Tensor.detach(value)
            if plain.layout is not torch.strided or plain.device.type != "cpu" or plain.is_quantized:
                return self._opaque(value, f"{kind.__module__}.{kind.__qualname__} ({plain.layout})")
            plain = plain.as_subclass(torch.Tensor).resolve_conj().resolve_neg()
            dtype = str(plain.dtype).removeprefix("torch.")
            if dtype not in DTYPES:
                return self._opaque(value, f"a tensor of {dtype}")
            flat, strides = self._laid_out(torch, plain)
            size = flat.numel() * flat.element_size()
            self.n_bytes += size
            raw = flat.view(torch.uint8).numpy().tobytes() if size else b""
        self.chunks.append(raw + bytes(-size % ALIGNMENT))
        return {"T": [dtype, list(plain.shape), strides, size]}

    def _laid_out(self, torch: Any, plain: Any) -> tuple[Any, list[int] | None]:
        """The elements in memory order, and the strides if these are not the usual ones."""
        shape, strides = list(plain.shape), list(plain.stride())
        usual = plain.is_contiguous() or plain.numel() == 0 or not self.strided
        extent = (
            plain.numel()
            if usual
            else 1 + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        )
        if len(shape) > MAX_DIMS or self.n_bytes + extent * plain.element_size() > MAX_BYTES:
            raise Unsendable(f"a tensor of shape {tuple(shape)}")
        if max(extent, plain.numel()) > MAX_ELEMENTS:
            raise Unsendable(f"a tensor of shape {tuple(shape)}")
        if usual:
            return plain.contiguous().reshape(-1), None
        flat = torch.zeros(
            extent, dtype=plain.dtype
        )  # what lies between the elements of a view stays at home
        flat.as_strided(shape, strides).copy_(plain) if 0 not in strides else _spread(flat, plain, strides)
        return flat, strides


def _spread(flat: Any, plain: Any, strides: list[int]) -> None:
    """Copies a view with repeated elements (stride 0): one of each is enough."""
    index = tuple(slice(0, 1) if step == 0 else slice(None) for step in strides)
    once = plain[index]
    flat.as_strided(list(once.shape), strides).copy_(once)


def encode(
    value: Any, *, opaque: Callable[[Any, str], Any] | None = None, strided: bool = False
) -> tuple[Any, bytes]:
    """The value as a JSON tree and bytes.

    Args:   opaque: given a value of no known kind and its type's name, returns the JSON that stands for it; without
            it such a value cannot be sent. strided: keep the strides of views; otherwise tensors become contiguous.
    Raises: Unsendable if it is of no known kind, too large, too deep or of too many parts.
    """
    writer = _Writer(opaque, strided)
    tree = writer.write(value)
    return tree, b"".join(writer.chunks)


class _Reader:
    def __init__(
        self, data: Any, opaque: Callable[[Any], Any], make: Callable[..., Any] | None, shared: bool
    ) -> None:
        self.data, self.opaque, self.make, self.shared = memoryview(data), opaque, make, shared
        self.offset = self.nodes = 0

    def read(self, tree: Any, depth: int = 0) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES * 2 or depth > MAX_DEPTH * 2:
            raise WireError("too deep, or of too many parts")
        if tree is None or isinstance(tree, bool | float):
            return tree
        if isinstance(tree, int):
            if tree.bit_length() > MAX_BITS:
                raise WireError("a number of too many digits")
            return tree
        if isinstance(tree, str):
            if len(tree) > MAX_TEXT:
                raise WireError("a text too long")
            return tree
        if not isinstance(tree, dict) or len(tree) != 1:
            raise WireError("not a value")
        ((tag, body),) = tree.items()
        if tag == "o":
            return self.opaque(body)
        if not isinstance(body, list):
            raise WireError("not a value")
        if tag == "T":
            return self._tensor(body)
        if tag in ("t", "l"):
            items = [self.read(item, depth + 1) for item in body]
            return tuple(items) if tag == "t" else items
        if tag == "d":
            return dict(self._pair(pair, depth) for pair in body)
        if tag == "f" and self.make is not None and len(body) == 2 and isinstance(body[0], str):
            return self.make(body[0], *self.read(body[1], depth + 1))
        raise WireError("a value of no known kind")

    def _pair(self, pair: Any, depth: int) -> tuple[str, Any]:
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise WireError("not a pair")
        return self.read(pair[0]), self.read(pair[1], depth + 1)

    def _tensor(self, body: list[Any]) -> Any:
        import torch

        if len(body) != 4:
            raise WireError("not a tensor")
        name, shape, strides, size = body
        if name not in DTYPES or not _lengths(shape) or not _lengths([size]):
            raise WireError("not a tensor")
        dtype = getattr(torch, name)
        numel = math.prod(shape)
        extent = numel
        if strides is not None:
            if not _lengths(strides) or len(strides) != len(shape) or numel == 0:
                raise WireError("strides that fit no shape")
            extent = 1 + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if max(numel, extent) > MAX_ELEMENTS or size > MAX_BYTES or extent * dtype.itemsize != size:
            raise WireError("a shape that does not fit its bytes")
        raw = self.data[self.offset : self.offset + size]
        self.offset += size + -size % ALIGNMENT
        if self.offset > len(self.data):
            raise WireError("bytes are missing")
        if size == 0:
            return torch.empty(shape, dtype=dtype)
        flat = torch.frombuffer(raw if self.shared else bytearray(raw), dtype=torch.uint8)
        flat = flat != 0 if dtype == torch.bool and not self.shared else flat.view(dtype)
        return flat.reshape(shape) if strides is None else flat.as_strided(shape, strides)


def _lengths(numbers: Any) -> bool:
    return (
        isinstance(numbers, list)
        and len(numbers) <= MAX_DIMS
        and all(type(n) is int and 0 <= n < 2**40 for n in numbers)
    )


def decode(
    tree: Any,
    data: Any,
    *,
    opaque: Callable[[Any], Any],
    make: Callable[..., Any] | None = None,
    shared: bool = False,
) -> Any:
    """The value that `encode` took apart.

    Args:    data: the bytes, or a buffer of them. opaque: makes something of the JSON that stands for a value of
             another kind. make: makes the objects that were `Wanted`; without it a value that wants one is refused.
             shared: let the tensors lie in `data`, of a writable buffer of our own making.
    Returns: exact built-in types and exact torch.Tensor, sharing no memory with anything unless told so.
    Raises:  WireError for anything that `encode` would not have made.
    """
    reader = _Reader(data, opaque, make, shared)
    value = reader.read(tree)
    if reader.offset != len(data):
        raise WireError("bytes are left over")
    return value


def digests(arguments: tuple[Any, ...]) -> list[Any]:
    """Of each argument with tensors, its form and its bytes' digest, to see whether a call changed it; or None."""
    found: list[Any] = []
    for argument in arguments:
        try:
            tree, data = encode(argument)
        except Unsendable:
            found.append(None)
            continue
        found.append([tree, hashlib.blake2b(data, digest_size=16).hexdigest()] if data else None)
    return found
