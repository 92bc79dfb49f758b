"""Quantized layers without weights: sums of branches, means, maxima, concatenation. Forms as in integer_layers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.quantization.grid import Activation, QParams, activate, as_qparams, pair
from coursekit.quantization.integer import integer_mean, quantize_multiplier, requantize, shared_multipliers
from coursekit.quantization.integer_layers import IntegerLayer

__all__ = [
    "QuantizedActivation",
    "QuantizedAdd",
    "QuantizedAvgPool2d",
    "QuantizedConcat",
    "QuantizedFlatten",
    "QuantizedMaxPool2d",
    "QuantizedMean",
]

_Grid = QParams | dict[str, Any]
_Pair = int | tuple[int, int]


class QuantizedAdd(IntegerLayer):
    """The sum of two tensors on different grids, as a residual block needs it; a ReLU after it is free.

    Args: inputs: the grids of both. output: of the sum. activation: None, "relu" or "relu6".
    Source: Jacob et al. 2018, arXiv:1712.05877, appendix A.2. Taught in lesson 02.
    """

    kind = "add"

    def __init__(
        self, *, inputs: tuple[_Grid, _Grid], output: _Grid, activation: Activation | None = None
    ) -> None:
        super().__init__()
        self.inputs, self.output = tuple(as_qparams(each) for each in inputs), as_qparams(output)
        self.activation = activation

    def forward(self, *codes: Tensor) -> Tensor:
        multipliers, shift = shared_multipliers(*(each.scale / self.output.scale for each in self.inputs))
        a, b = (
            q.to(torch.int64, copy=True).sub_(grid.zero_point).mul_(m)
            for q, grid, m in zip(codes, self.inputs, multipliers, strict=True)
        )
        low, high = self.output.bounds(self.activation)
        return requantize(a + b, 1, shift, self.output.zero_point, self.output.n_bits, low=low, high=high)

    def fake(self, *values: Tensor) -> Tensor:
        codes = [grid.back(x) for grid, x in zip(self.inputs, values, strict=True)]
        return self.output.values(self.forward(*codes), torch.float64)

    def float_fake(self, *values: Tensor) -> Tensor:
        total = activate(values[0].float() + values[1].float(), self.activation)
        return self.output.values(self.output.codes(total))

    def input_grids(self) -> tuple[QParams, ...]:
        return self.inputs

    def config(self) -> dict[str, Any]:
        return {
            "inputs": [asdict(each) for each in self.inputs],
            "output": asdict(self.output),
            "activation": self.activation,
        }


class QuantizedConcat(IntegerLayer):
    """Tensors on different grids, brought to one grid and joined along dimension 1.

    Args: inputs: the grids. output: of the whole.
    """

    kind = "concat"

    def __init__(self, *, inputs: tuple[_Grid, ...], output: _Grid) -> None:
        super().__init__()
        self.inputs, self.output = tuple(as_qparams(each) for each in inputs), as_qparams(output)

    def forward(self, *codes: Tensor) -> Tensor:
        return torch.cat([self._moved(q, grid) for q, grid in zip(codes, self.inputs, strict=True)], dim=1)

    def _moved(self, q: Tensor, grid: QParams) -> Tensor:
        multiplier, shift = quantize_multiplier(grid.scale / self.output.scale)
        centred = q.int() - grid.zero_point
        return requantize(centred, multiplier, shift, self.output.zero_point, self.output.n_bits)

    def fake(self, *values: Tensor) -> Tensor:
        codes = [grid.back(x) for grid, x in zip(self.inputs, values, strict=True)]
        return self.output.values(self.forward(*codes), torch.float64)

    def float_fake(self, *values: Tensor) -> Tensor:
        return self.output.values(self.output.codes(torch.cat([x.float() for x in values], dim=1)))

    def input_grids(self) -> tuple[QParams, ...]:
        return self.inputs

    def config(self) -> dict[str, Any]:
        return {"inputs": [asdict(each) for each in self.inputs], "output": asdict(self.output)}


class QuantizedAvgPool2d(IntegerLayer):
    """The mean of each window, without padding: an integer sum whose multiplier holds the division too.

    Args: kernel_size, stride: as of torch.nn.AvgPool2d. input, output: the grids.
    """

    kind = "avg_pool2d"

    def __init__(self, *, kernel_size: _Pair, stride: _Pair, input: _Grid, output: _Grid) -> None:
        super().__init__()
        self.kernel_size, self.stride = pair(kernel_size), pair(stride)
        self.input, self.output = as_qparams(input), as_qparams(output)

    def forward(self, *codes: Tensor) -> Tensor:
        (height, width), (dy, dx) = self.kernel_size, self.stride
        windows = (codes[0].int() - self.input.zero_point).unfold(2, height, dy).unfold(3, width, dx)
        multiplier, shift = quantize_multiplier(self.input.scale / (height * width * self.output.scale))
        total = windows.sum(dim=(4, 5))
        return requantize(total, multiplier, shift, self.output.zero_point, self.output.n_bits)

    def fake(self, *values: Tensor) -> Tensor:
        return self.output.values(self.forward(self.input.back(values[0])), torch.float64)

    def float_fake(self, *values: Tensor) -> Tensor:
        mean = F.avg_pool2d(values[0].float(), self.kernel_size, self.stride)
        return self.output.values(self.output.codes(mean))

    def input_grids(self) -> tuple[QParams, ...]:
        return (self.input,)

    def config(self) -> dict[str, Any]:
        return {
            "kernel_size": self.kernel_size, "stride": self.stride,
            "input": asdict(self.input), "output": asdict(self.output),
        }  # fmt: skip


class QuantizedMean(IntegerLayer):
    """The mean over height and width: `integer_mean`.

    Args: keepdim: (N, C, 1, 1) rather than (N, C). input, output: the grids.
    """

    kind = "mean"

    def __init__(self, *, keepdim: bool, input: _Grid, output: _Grid) -> None:
        super().__init__()
        self.keepdim = keepdim
        self.input, self.output = as_qparams(input), as_qparams(output)

    def forward(self, *codes: Tensor) -> Tensor:
        n_pixels = codes[0].shape[2] * codes[0].shape[3]
        multiplier, shift = quantize_multiplier(self.input.scale / (n_pixels * self.output.scale))
        zero_points = self.input.zero_point, self.output.zero_point
        mean = integer_mean(codes[0], multiplier, shift, *zero_points, self.output.n_bits)
        return mean[:, :, None, None] if self.keepdim else mean

    def fake(self, *values: Tensor) -> Tensor:
        return self.output.values(self.forward(self.input.back(values[0])), torch.float64)

    def float_fake(self, *values: Tensor) -> Tensor:
        mean = values[0].float().mean(dim=(2, 3), keepdim=self.keepdim)
        return self.output.values(self.output.codes(mean))

    def input_grids(self) -> tuple[QParams, ...]:
        return (self.input,)

    def config(self) -> dict[str, Any]:
        return {"keepdim": self.keepdim, "input": asdict(self.input), "output": asdict(self.output)}


class _SameGrid(IntegerLayer):
    """A layer that picks or moves values and so commutes with quantization: the output is on the input's grid."""

    def __init__(self, output: _Grid) -> None:
        super().__init__()
        self.output = as_qparams(output)

    def fake(self, *values: Tensor) -> Tensor:
        return self._pick(values[0])

    def float_fake(self, *values: Tensor) -> Tensor:
        return self._pick(values[0])

    def forward(self, *codes: Tensor) -> Tensor:
        return self._pick(codes[0])

    def _pick(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def input_grids(self) -> tuple[QParams, ...]:
        return (self.output,)

    def config(self) -> dict[str, Any]:
        return {"output": asdict(self.output)}


class QuantizedMaxPool2d(_SameGrid):
    """The largest code of each window: order survives quantization.

    Args: kernel_size, stride, padding: as of torch.nn.MaxPool2d. output: the grid of input and output.
    """

    kind = "max_pool2d"

    def __init__(self, *, kernel_size: _Pair, stride: _Pair, padding: _Pair = 0, output: _Grid) -> None:
        super().__init__(output)
        self.kernel_size, self.stride, self.padding = pair(kernel_size), pair(stride), pair(padding)

    def _pick(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, self.kernel_size, self.stride, self.padding)

    def config(self) -> dict[str, Any]:
        geometry = {"kernel_size": self.kernel_size, "stride": self.stride, "padding": self.padding}
        return {**geometry, **super().config()}


class QuantizedFlatten(_SameGrid):
    """(N, C, H, W) to (N, C * H * W).

    Args: output: the grid of input and output.
    """

    kind = "flatten"

    def __init__(self, *, output: _Grid) -> None:
        super().__init__(output)

    def _pick(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class QuantizedActivation(_SameGrid):
    """A ReLU that could not be fused: codes clamped at the code of 0 (and at that of 6).

    Args: activation: "relu" or "relu6". output: the grid of input and output.
    """

    kind = "activation"

    def __init__(self, *, activation: Activation, output: _Grid) -> None:
        super().__init__(output)
        self.activation = activation

    def _pick(self, x: Tensor) -> Tensor:
        low, high = self.output.bounds(self.activation)
        if x.is_floating_point():
            ends = self.output.values(torch.tensor([low, high]), x.dtype)
            return x.clamp(ends[0], ends[1])
        return x.clamp(low, high)

    def config(self) -> dict[str, Any]:
        return {"activation": self.activation, **super().config()}
