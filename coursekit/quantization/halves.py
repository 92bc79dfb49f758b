"""Scales on which rounding in integers and rounding in float32 agree.

Our requantization is exact; a runtime such as ONNX Runtime multiplies an accumulator by the same factor in float32,
and its product may land on a half that the exact one only comes near. One such code grows to several in the layers
after it. A scale need not be exactly the largest weight over 127: a change in its fifth digit costs nothing and moves
every product, so there is nearly always one close by on which no accumulator at all is rounded in two ways.
"""

from __future__ import annotations

import torch
from torch import Tensor

from coursekit.quantization.grid import Activation, QParams

__all__ = ["clear_sum_grid", "clear_weight_scales", "disagreements"]

_SCALE_STEP, _GRID_STEP = 2.0**-16, 2.0**-13
_SCALES, _GRIDS = 256, 24
_MARGIN = 2.0**-13  # four times float32's error at a code of 200


def disagreements(factors: Tensor, low: int, high: int) -> Tensor:
    """How many accumulators float32 rounds to another integer than exact arithmetic does, halves up.

    Only those next to a half can, so two for each half are tried.

    Args:    factors: float32 (C,), what accumulators are multiplied by. low, high: the codes between which results lie,
             less the zero point.
    Returns: int64 (C,).
    """
    halves = torch.arange(low, high, dtype=torch.float64) + 0.5
    exactly = factors.double()[:, None]
    near = torch.floor(halves / exactly)
    acc = torch.stack([near, near + 1])  # (2, C, high - low)
    in_integers = torch.floor(acc * exactly + 0.5)
    in_float32 = torch.round(acc.float() * factors[:, None])  # to even
    return ((in_integers != in_float32) & (acc.abs() < 2**31)).sum(dim=(0, 2))


def clear_weight_scales(
    scales: Tensor, input_scale: float, output: QParams, activation: Activation | None = None
) -> Tensor:
    """The scales of a layer's weights, a few ten thousandths larger where that spares it every disagreement.

    Args:    scales: float32 (C,) or (1,). input_scale: of the layer's input. output: its output's grid. activation: the
             layer's own.
    Returns: float32, the shape of scales, none smaller and none larger by more than 0.4 %.
    """
    low, high = (bound - output.zero_point for bound in output.bounds(activation))
    chosen = scales.clone()
    fewest = disagreements(scales * input_scale / output.scale, low, high)
    for k in range(1, _SCALES):
        open_ = fewest.nonzero().flatten()
        if not len(open_):
            break
        tried = scales[open_] * (1 + k * _SCALE_STEP)
        found = disagreements(tried * input_scale / output.scale, low, high)
        better = found < fewest[open_]
        chosen[open_[better]], fewest[open_[better]] = tried[better], found[better]
    return chosen


def clear_sum_grid(
    inputs: tuple[QParams, QParams], output: QParams, activation: Activation | None
) -> QParams:
    """The output grid of a sum, where need be up to 0.3 % wider, on which no possible sum lies close to half a step.

    Two 8-bit codes have only 65,536 sums. Where the ratio of two scales happens to be close to a simple fraction,
    many of them lie on a half to within float32's error. The first of 24 slightly wider grids is taken that has no sum
    within 2**-13 of a half, or else the one whose closest sum is farthest from it.

    Args: inputs: the grids of both. output: as observed; the zero point holds. activation: of the sum.
    """
    values = [
        grid.values(torch.arange(-(2 ** (grid.n_bits - 1)), 2 ** (grid.n_bits - 1)), torch.float64)
        for grid in inputs
    ]
    sums = values[0][:, None] + values[1]
    best, distance = output, -1.0
    for k in range(_GRIDS):
        wider = QParams(output.scale * (1 + k * _GRID_STEP), output.zero_point, output.n_bits)
        found = _distance_from_half(sums, wider, activation)
        if found > distance:
            best, distance = wider, found
        if distance > _MARGIN:
            break
    return best


def _distance_from_half(sums: Tensor, grid: QParams, activation: Activation | None) -> float:
    """In steps, of the sums that are not clamped."""
    low, high = grid.bounds(activation)
    steps = sums / grid.scale
    inside = (steps + grid.zero_point > low - 1) & (steps + grid.zero_point < high + 1)
    return (steps - steps.floor() - 0.5).abs()[inside].min().item()
