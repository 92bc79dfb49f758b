"""Quantized layers with weights, as modules: an integer form, and float forms of the same thing to compare it with.

A layer computes in three ways. `forward`: codes to codes, integers alone. `fake`: real values on the grid to real
values on the grid, in float64, rounded with the integer form's own multiplier and shift; its values are exactly those
that the integer form's codes stand for. `float_fake`: the usual fake quantization in float32, which divides by the
output scale and rounds halves to even; its values may be a step off, where the sum came out near a half.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.quantization.affine import int_range, quantize, symmetric_scale
from coursekit.quantization.grid import Activation, QParams, activate, as_qparams, pair
from coursekit.quantization.halves import clear_weight_scales
from coursekit.quantization.integer import (
    conv2d_accumulator,
    linear_accumulator,
    quantize_bias,
    quantize_multipliers,
    requantize,
)

__all__ = ["IntegerLayer", "QuantizedConv2d", "QuantizedLinear", "weight_scales"]


def weight_scales(
    weight: Tensor, bias: Tensor | None, input_scale: float, n_bits: int = 8, *, per_channel: bool = True
) -> Tensor:
    """Symmetric float32 scales of a weight, one an output channel or one in all, on which the bias has a code too.

    A channel of zeros takes the largest scale of the others; a channel whose bias is huge beside its weights gets a
    coarser scale, so that the bias fits into 2**30 steps of the accumulator.

    Args:    weight: (C_out, ...). bias: (C_out,) or None. input_scale: of the layer's input.
    Returns: (C_out,), or (1,) per tensor.
    """
    if not per_channel:
        scale = torch.tensor([symmetric_scale(weight, n_bits)])
        return scale if bias is None else scale.clamp(min=bias.abs().max().item() / input_scale / 2**30)
    largest = weight.abs().flatten(1).amax(1) / int_range(n_bits)[1]
    tiny = largest < torch.finfo(torch.float32).tiny
    scale = torch.where(tiny, largest.max() if not tiny.all() else torch.ones(()), largest)
    return scale if bias is None else torch.maximum(scale, bias.abs() / input_scale / 2**30)


class IntegerLayer(nn.Module):
    """A layer on codes; `output` is the grid its codes lie on, `config()` what a JSON file must say of it."""

    kind: str
    output: QParams

    def forward(self, *codes: Tensor) -> Tensor:
        """int8 codes of the output."""
        raise NotImplementedError

    def fake(self, *values: Tensor) -> Tensor:
        """float64 values on the output's grid, of float64 values on the inputs' grids."""
        raise NotImplementedError

    def float_fake(self, *values: Tensor) -> Tensor:
        """float32 values on the output's grid, rounded as fake quantization usually is."""
        raise NotImplementedError

    def input_grids(self) -> tuple[QParams, ...]:
        """The grid of each input."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """The arguments of the constructor, for JSON."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return ", ".join(
            f"{key}={value}" for key, value in self.config().items() if not isinstance(value, dict)
        )


class _Weighted(IntegerLayer):
    """What a linear layer and a convolution have in common: everything but the sum itself."""

    weight: Tensor
    bias: Tensor
    weight_scale: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        input: QParams | dict[str, Any],
        output: QParams | dict[str, Any],
        activation: Activation | None,
        weight_bits: int,
        per_channel: bool,
    ) -> None:
        super().__init__()
        self.input, self.output = as_qparams(input), as_qparams(output)
        self.activation, self.weight_bits, self.per_channel = activation, weight_bits, per_channel
        self.register_buffer("weight", torch.zeros(shape, dtype=torch.int8))
        self.register_buffer("bias", torch.zeros(shape[0], dtype=torch.int32))
        self.register_buffer("weight_scale", torch.ones(shape[0] if per_channel else 1))

    def set_weight(self, weight: Tensor, bias: Tensor | None) -> None:
        """Quantizes a float weight and bias and keeps their codes."""
        scale = weight_scales(
            weight, bias, self.input.scale, self.weight_bits, per_channel=self.per_channel
        ).float()
        scale = clear_weight_scales(scale, self.input.scale, self.output, self.activation)
        self.weight_scale = scale
        self.weight = quantize(weight, _per_output(scale, weight), 0, self.weight_bits)
        self.bias.zero_()
        if bias is not None:
            self.bias = quantize_bias(bias, self.input.scale, scale.expand(len(bias)))

    def multipliers(self) -> tuple[Tensor, Tensor]:
        """(multiplier, shift) of every output channel, int64 (C_out,) or (1,)."""
        return quantize_multipliers(self.factors())

    def factors(self) -> Tensor:
        """What an accumulator is multiplied by, float32 (C_out,) or (1,).

        The scales are float32, so more bits of their quotient would mean nothing; and computed in float32, in this
        order, it is the factor that ONNX Runtime uses.
        """
        return self.weight_scale * self.input.scale / self.output.scale

    def forward(self, *codes: Tensor) -> Tensor:
        return self._requantize(self.accumulate(*codes))

    def fake(self, *values: Tensor) -> Tensor:
        y = self._sum(values[0].double(), torch.float64)
        # The sum of exact products, but for a rounding error far below half a step: this is the accumulator.
        acc = torch.round(y / self._broadcast(self._step())).long()
        return self.output.values(self._requantize(acc), torch.float64)

    def float_fake(self, *values: Tensor) -> Tensor:
        y = activate(self._sum(values[0].float(), torch.float32), self.activation)
        return self.output.values(self.output.codes(y))

    def input_grids(self) -> tuple[QParams, ...]:
        return (self.input,)

    def count_macs(self, x: Tensor, y: Tensor) -> int:
        """The multiply-accumulates of one call: each output value takes one for each weight of its channel."""
        return y.numel() * self.weight[0].numel()

    def accumulate(self, *codes: Tensor) -> Tensor:
        """The int32 accumulator, in steps of input scale * weight scale."""
        raise NotImplementedError

    def float_weight(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The real values of the weight's codes."""
        return self.weight.to(dtype) * _per_output(self.weight_scale, self.weight).to(dtype)

    def float_bias(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The real values of the bias's codes."""
        return (self.bias.double() * self._step()).to(dtype)

    def _sum(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        raise NotImplementedError

    def _broadcast(self, per_channel: Tensor) -> Tensor:
        return per_channel

    def _step(self) -> Tensor:
        """The real value of 1 in the accumulator, float64 (C_out,) or (1,)."""
        return self.weight_scale.double() * self.input.scale

    def _requantize(self, acc: Tensor) -> Tensor:
        multiplier, shift = (self._broadcast(each) for each in self.multipliers())
        low, high = self.output.bounds(self.activation)
        return requantize(
            acc, multiplier, shift, self.output.zero_point, self.output.n_bits, low=low, high=high
        )

    def config(self) -> dict[str, Any]:
        return {
            "input": asdict(self.input),
            "output": asdict(self.output),
            "activation": self.activation,
            "weight_bits": self.weight_bits,
            "per_channel": self.per_channel,
        }


def _per_output(scale: Tensor, weight: Tensor) -> Tensor:
    return scale.reshape(-1, *[1] * (weight.dim() - 1))


class QuantizedLinear(_Weighted):
    """A linear layer with int8 weights, an int32 bias and int32 accumulators; a ReLU after it is free.

    Args: n_in, n_out: features. input, output: their grids. activation: None, "relu" or "relu6".
          weight_bits: 2 to 8. per_channel: a weight scale for each output, or one for all.
    Source: Jacob et al. 2018, arXiv:1712.05877, section 2. Taught in lesson 02.
    """

    kind = "linear"

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        input: QParams | dict[str, Any],
        output: QParams | dict[str, Any],
        activation: Activation | None = None,
        weight_bits: int = 8,
        per_channel: bool = True,
    ) -> None:
        super().__init__((n_out, n_in), input, output, activation, weight_bits, per_channel)

    @classmethod
    def from_float(
        cls, linear: nn.Linear, input: QParams, output: QParams, **options: Any
    ) -> QuantizedLinear:
        """The quantized form of a float layer; options as the constructor's."""
        result = cls(linear.in_features, linear.out_features, input=input, output=output, **options)
        result.set_weight(linear.weight.detach(), None if linear.bias is None else linear.bias.detach())
        return result

    def accumulate(self, *codes: Tensor) -> Tensor:
        return linear_accumulator(codes[0], self.weight, self.bias, self.input.zero_point)

    def _sum(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return F.linear(x, self.float_weight(dtype), self.float_bias(dtype))

    def config(self) -> dict[str, Any]:
        n_out, n_in = self.weight.shape
        return {"n_in": n_in, "n_out": n_out, **super().config()}


class QuantizedConv2d(_Weighted):
    """A 2-dimensional convolution with int8 weights, an int32 bias and int32 accumulators; a ReLU after it is free.

    Padding is with the code of 0, the input's zero point. Groups may be as many as channels (depthwise).

    Args: n_in, n_out: channels. kernel_size, stride, padding, dilation, groups: as of torch.nn.Conv2d, numbers only.
          The rest as `QuantizedLinear`.
    Source: Jacob et al. 2018, arXiv:1712.05877, section 2. Taught in lesson 02.
    """

    kind = "conv2d"

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel_size: tuple[int, int],
        *,
        input: QParams | dict[str, Any],
        output: QParams | dict[str, Any],
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        activation: Activation | None = None,
        weight_bits: int = 8,
        per_channel: bool = True,
    ) -> None:
        shape = (n_out, n_in // groups, *kernel_size)
        super().__init__(shape, input, output, activation, weight_bits, per_channel)
        self.stride, self.padding, self.dilation = pair(stride), pair(padding), pair(dilation)
        self.groups = groups

    @classmethod
    def from_float(cls, conv: nn.Conv2d, input: QParams, output: QParams, **options: Any) -> QuantizedConv2d:
        """The quantized form of a float layer; options as the constructor's.

        Raises: ValueError if it pads with anything but zeros, or with "same".
        """
        if conv.padding_mode != "zeros" or conv.padding == "same":
            raise ValueError(
                f"only zeros can be padded, by a number of pixels; got {conv.padding_mode}, {conv.padding}"
            )
        padding = (0, 0) if conv.padding == "valid" else cast("tuple[int, int]", conv.padding)
        result = cls(
            conv.in_channels, conv.out_channels, cast("tuple[int, int]", conv.kernel_size), input=input,
            output=output, stride=cast("tuple[int, int]", conv.stride), padding=padding,
            dilation=cast("tuple[int, int]", conv.dilation), groups=conv.groups, **options,
        )  # fmt: skip
        result.set_weight(conv.weight.detach(), None if conv.bias is None else conv.bias.detach())
        return result

    def accumulate(self, *codes: Tensor) -> Tensor:
        return conv2d_accumulator(
            codes[0], self.weight, self.bias, self.input.zero_point,
            self.stride, self.padding, self.dilation, self.groups,
        )  # fmt: skip

    def _sum(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        weight, bias = self.float_weight(dtype), self.float_bias(dtype)
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def _broadcast(self, per_channel: Tensor) -> Tensor:
        return per_channel.reshape(-1, 1, 1)

    def config(self) -> dict[str, Any]:
        n_out, n_in, *kernel = self.weight.shape
        geometry = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        return {
            "n_in": n_in * self.groups, "n_out": n_out, "kernel_size": tuple(kernel), **geometry,
            "groups": self.groups, **super().config(),
        }  # fmt: skip
