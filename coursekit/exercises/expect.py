"""Assertions for the tests of exercises: each failure says what came and what should have come."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["MismatchError", "expect", "expect_close", "expect_float", "expect_int", "expect_tensor", "show"]


class MismatchError(AssertionError):
    """A result that is not what the property demands.

    Attributes: got, expected: short texts for the table. message: what was wrong, in a sentence.
    """

    def __init__(self, message: str, got: Any = "", expected: Any = "") -> None:
        super().__init__(message)
        self.message, self.got, self.expected = message, show(got), show(expected)


def show(value: Any) -> str:
    """A short text for any value: numbers with 6 digits, tensors by their first values, or dtype and shape."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int):
        return repr(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Tensor):
        if value.dim() == 0:
            return f"tensor({value.item():.6g})"
        if value.numel() <= 6:
            values = ", ".join(f"{v:.4g}" for v in value.flatten().tolist())
            return f"[{values}] {_kind(value)}"
        return _kind(value)
    if isinstance(value, tuple | list):
        return "(" + ", ".join(show(v) for v in value) + ")"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _kind(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"


def expect(condition: bool, message: str, got: Any = "", expected: Any = "") -> None:
    """Raises MismatchError with this message unless the condition holds."""
    if not condition:
        raise MismatchError(message, got, expected)


def expect_float(value: Any, name: str) -> float:
    """The value, if it is a Python float; a one-element tensor is named as what it is."""
    if isinstance(value, Tensor):
        raise MismatchError(
            f"{name} is a tensor: turn it into a Python number with .item()", value, "a float"
        )
    expect(
        isinstance(value, float | int) and not isinstance(value, bool),
        f"{name} is not a float",
        value,
        "a float",
    )
    expect(not math.isnan(value), f"{name} is nan", value, "a number")
    return float(value)


def expect_int(value: Any, name: str) -> int:
    """The value, if it is a Python int."""
    if isinstance(value, Tensor):
        raise MismatchError(f"{name} is a tensor: turn it into a Python int", value, "an int")
    expect(isinstance(value, int) and not isinstance(value, bool), f"{name} is not an int", value, "an int")
    return value


def expect_tensor(value: Any, dtype: torch.dtype, shape: tuple[int, ...] | torch.Size) -> Tensor:
    """The value, if it is a tensor of this dtype and shape."""
    expect(isinstance(value, Tensor), "the result is not a tensor", value, f"a {dtype} tensor")
    expect(
        tuple(value.shape) == tuple(shape), "the shape is wrong", str(tuple(value.shape)), str(tuple(shape))
    )
    expect(value.dtype == dtype, "the dtype is wrong", str(value.dtype), str(dtype))
    return value


def expect_close(got: Any, expected: Any, what: str, *, rtol: float = 1e-5, atol: float = 0.0) -> None:
    """Raises MismatchError naming the worst element unless |got - expected| <= atol + rtol * |expected|."""
    ours, theirs = torch.as_tensor(got).double(), torch.as_tensor(expected).double()
    expect(ours.shape == theirs.shape, f"{what}: the shape is wrong", tuple(ours.shape), tuple(theirs.shape))
    close = torch.isclose(ours, theirs, rtol=rtol, atol=atol, equal_nan=False)
    if close.all():
        return
    if ours.dim() == 0:
        raise MismatchError(f"{what} is wrong", float(ours), float(theirs))
    worst = int((ours - theirs).abs().nan_to_num(torch.inf).flatten().argmax())
    raise MismatchError(
        f"{what} is wrong in {int((~close).sum())} of {close.numel()} elements, most at index {worst}",
        ours.flatten()[worst].item(),
        theirs.flatten()[worst].item(),
    )
