"""The grid of a tensor of activations: what its integer codes stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.quantization.affine import dequantize, int_range, quantize

__all__ = ["Activation", "QParams", "activate", "as_qparams", "pair"]

Activation = Literal["relu", "relu6"]


@dataclass(frozen=True)
class QParams:
    """The grid of a tensor of activations: value = scale * (code - zero_point), codes signed, of n_bits.

    Attributes: scale: a float32 number, as every runtime stores it. zero_point: the code of 0.0.
    """

    scale: float
    zero_point: int
    n_bits: int = 8

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", torch.tensor(self.scale, dtype=torch.float32).item())
        qmin, qmax = int_range(self.n_bits)
        if not (0 < self.scale < float("inf") and qmin <= self.zero_point <= qmax):
            raise ValueError(f"scale must be above 0 and zero_point in {qmin}..{qmax}, got {self}")

    def codes(self, x: Tensor) -> Tensor:
        """int8 codes of real values: `quantize`."""
        return quantize(x, self.scale, self.zero_point, self.n_bits)

    def values(self, q: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """The real values of codes, in float32 or float64; in float64 they are exact."""
        if dtype == torch.float32:
            return dequantize(q, self.scale, self.zero_point)
        return (q.to(dtype) - self.zero_point) * self.scale

    def back(self, x: Tensor) -> Tensor:
        """The int8 codes of real values that lie on the grid."""
        return (torch.round(x / self.scale) + self.zero_point).to(torch.int8)

    def bounds(self, activation: Activation | None) -> tuple[int, int]:
        """The lowest and the highest code of a tensor that went through that activation."""
        qmin, qmax = int_range(self.n_bits)
        if activation is None:
            return qmin, qmax
        six = round(6 / self.scale) + self.zero_point
        return self.zero_point, min(qmax, six) if activation == "relu6" else qmax


def activate(x: Tensor, activation: Activation | None) -> Tensor:
    """The activation in floating point."""
    if activation is None:
        return x
    return F.relu6(x) if activation == "relu6" else F.relu(x)


def as_qparams(value: QParams | dict[str, Any]) -> QParams:
    """A QParams, also from the dict that a JSON file has."""
    return value if isinstance(value, QParams) else QParams(**value)


def pair(size: int | tuple[int, ...] | list[int]) -> tuple[int, int]:
    """Both sides of a size that may be one number, or a list as JSON makes it."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])
