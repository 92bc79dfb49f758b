"""The two kinds of fake quantizer in a network that trains: of activations, and of a layer's weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.quantization.affine import int_range, symmetric_scale, symmetric_scale_per_channel
from coursekit.quantization.fake_quant import fake_quantize_ste
from coursekit.quantization.lsq import learned_step_quantize

__all__ = ["ActivationQuantizer", "QATLayer", "RangeObserver", "mse_scale", "switched_off"]

Norm = nn.BatchNorm1d | nn.BatchNorm2d
_SMALLEST = 1e-8  # of a scale or a gain that something is divided by


class RangeObserver(Protocol):
    """Whatever proposes a range for what it has seen, such as the observers of lesson 02."""

    def update(self, x: Tensor) -> None:
        """Sees one batch."""

    def range(self) -> tuple[float, float]:
        """(lo, hi)."""


class ActivationQuantizer(nn.Module):
    """Fake-quantizes one activation, affine, one scale for the tensor.

    In training mode the range follows the batches as an exponential moving average until `frozen` is set, or the scale
    is a learned parameter. An `observer`, if set, sees every batch; x passes as it is while `enabled` is False.

    Args:   n_bits: 2 to 8. momentum: share of the old average. learned: train the scale.
    Raises: ValueError if n_bits is not 2 to 8.
    Source: Jacob et al. 2018, arXiv:1712.05877, section 3.1. Taught in lesson 03.
    """

    lo: Tensor
    hi: Tensor
    first_step: Tensor

    def __init__(self, n_bits: int = 8, momentum: float = 0.99, *, learned: bool = False) -> None:
        super().__init__()
        int_range(n_bits)
        self.n_bits, self.momentum, self.learned, self.frozen = n_bits, momentum, learned, False
        self.enabled = True
        self.observer: RangeObserver | None = None
        self.register_buffer("lo", torch.tensor(float("nan")))  # nan: not calibrated yet
        self.register_buffer("hi", torch.tensor(float("nan")))
        if learned:
            self.step = nn.Parameter(torch.tensor(float("nan")))
            self.register_buffer("first_step", torch.tensor(float("nan")))

    @torch.no_grad()
    def set_range(self, lo: float, hi: float) -> None:
        """Takes this range, widened to include 0.

        Raises: ValueError if lo is above hi or either is not finite.
        """
        if not (torch.tensor([lo, hi]).isfinite().all() and lo <= hi):
            raise ValueError(f"a range needs finite ends, the lower first, got {lo} and {hi}")
        self.lo.fill_(min(lo, 0.0))
        self.hi.fill_(max(hi, 0.0))
        if self.learned:
            qmin, qmax = int_range(self.n_bits)
            self.step.fill_(max((self.hi - self.lo).item() / (qmax - qmin), _SMALLEST))
            self.first_step.copy_(self.step)

    def qparams(self) -> tuple[float, int]:
        """Scale and zero point in use.

        Raises: RuntimeError if no range was ever set.
        """
        if not self.lo.isfinite():
            raise RuntimeError("this quantizer has no range yet: call calibrate(model, images) first")
        qmin, qmax = int_range(self.n_bits)
        lo, hi = self.lo.item(), self.hi.item()
        scale = max((hi - lo) / (qmax - qmin), _SMALLEST)
        zero_point = round(qmin - lo / scale)
        return (_near(self.step, self.first_step).item() if self.learned else scale), zero_point

    def range(self) -> tuple[float, float]:
        """The real values of the lowest and the highest code."""
        scale, zero_point = self.qparams()
        qmin, qmax = int_range(self.n_bits)
        return scale * (qmin - zero_point), scale * (qmax - zero_point)

    def forward(self, x: Tensor) -> Tensor:
        """x on the grid; the straight-through gradient on the way back."""
        if self.observer is not None:
            self.observer.update(x.detach())
        if not self.enabled:
            return x
        if self.training and not self.frozen and not self.learned:
            self._follow(x.detach())
        scale, zero_point = self.qparams()
        if self.learned:
            return learned_step_quantize(x, _near(self.step, self.first_step), zero_point, self.n_bits)
        return fake_quantize_ste(x, scale, zero_point, self.n_bits)

    def _follow(self, x: Tensor) -> None:
        """One step of the moving average."""
        lo, hi = (end.float() for end in torch.aminmax(x))
        known = self.lo.isfinite()
        self.lo.copy_(
            torch.where(known, torch.lerp(lo.clamp(max=0), self.lo, self.momentum), lo.clamp(max=0))
        )
        self.hi.copy_(
            torch.where(known, torch.lerp(hi.clamp(min=0), self.hi, self.momentum), hi.clamp(min=0))
        )


def _near(step: Tensor, first: Tensor) -> Tensor:
    """The learned step within a factor of 4 of where it began: a small step must not overshoot to 0 and below."""
    return torch.minimum(torch.maximum(step, first / 4), first * 4)


def mse_scale(weight: Tensor, n_bits: int = 8, *, per_channel: bool = True, n_candidates: int = 50) -> Tensor:
    """The symmetric scale with the smallest squared error among max|w| * k / n_candidates / qmax, all channels at once.

    Args:    weight: (C, ...). per_channel: one for each slice along dimension 0, else one for all.
    Returns: of size 1 everywhere, or everywhere but along dimension 0; above 0.
    Source:  as `mse_clip`, which does it for one tensor.
    """
    _, qmax = int_range(n_bits)
    rows = weight.detach().flatten(1) if per_channel else weight.detach().reshape(1, -1)
    largest = symmetric_scale_per_channel(rows, n_bits)  # (C, 1)
    best, least = largest.clone(), torch.full_like(largest, torch.inf)
    for k in range(n_candidates, 0, -1):
        scale = largest * (k / n_candidates)
        error = (rows - (rows / scale).round().clamp_(-qmax, qmax) * scale).square().sum(1, keepdim=True)
        best, least = torch.where(error < least, scale, best), torch.minimum(error, least)
    return best.reshape(-1, *[1] * (weight.dim() - 1))


class QATLayer(nn.Module):
    """A convolution or linear layer, and the batch norm after it, whose folded weight is fake-quantized.

    In training mode the batch norm uses the batch's statistics, as before, and its running ones follow, while the
    weight that is quantized is already the one to be used later: folded with the running statistics. Once `frozen`, or
    in eval mode, the layer is that folded layer, and its bias is rounded to the steps of the integer accumulator, if it
    knows the quantizer of its input (`source`). While `enabled` is False, nothing is quantized.

    Args:   layer: Conv2d or Linear. norm: the batch norm after it, or None. n_bits: of the weight.
            per_channel: one scale a channel. learned: train the scale.
    Source: Krishnamoorthi 2018, arXiv:1806.08342, section 3.2.2. Taught in lesson 03.
    """

    first_step: Tensor

    def __init__(
        self, layer: nn.Conv2d | nn.Linear, norm: Norm | None, n_bits: int, *,
        per_channel: bool = True, learned: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        int_range(n_bits)
        self.layer, self.norm, self.frozen, self.enabled = layer, norm, False, True
        self.n_bits, self.per_channel, self.learned = n_bits, per_channel, learned
        self.source: tuple[
            ActivationQuantizer, ...
        ] = ()  # in a tuple: it belongs to the network, not to this layer
        if learned:
            weight, _ = self.folded()
            self.step = nn.Parameter(mse_scale(weight, n_bits, per_channel=per_channel))
            self.register_buffer("first_step", self.step.detach().clone())

    def _gain(self) -> Tensor:
        """The factor of each output channel that folding puts into the weight, kept away from 0."""
        assert self.norm is not None and self.norm.running_var is not None
        gain = self.norm.weight * torch.rsqrt(self.norm.running_var + self.norm.eps)
        return torch.where(gain.abs() < _SMALLEST, _SMALLEST, gain)

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """Weight, not quantized, and bias of the layer with its batch norm folded."""
        weight, bias = self.layer.weight, self.layer.bias
        if self.norm is None:
            return weight, bias
        gain = self._gain()
        assert self.norm.running_mean is not None
        shift = -self.norm.running_mean if bias is None else bias - self.norm.running_mean
        return weight * _rows(gain, weight), shift * gain + self.norm.bias

    def scale(self, weight: Tensor) -> Tensor:
        """The scale in use for this folded weight: of size 1 everywhere but along dimension 0."""
        if self.learned:
            return _near(self.step, self.first_step)
        weight = weight.detach()
        if self.per_channel:
            return symmetric_scale_per_channel(weight, self.n_bits)
        return torch.full([1] * weight.dim(), symmetric_scale(weight, self.n_bits))

    def quantized(self, weight: Tensor) -> Tensor:
        """The folded weight on its grid, differentiable."""
        scale = self.scale(weight)
        if self.learned:
            return learned_step_quantize(weight, scale, 0, self.n_bits, symmetric=True)
        return fake_quantize_ste(weight, scale, 0, self.n_bits, symmetric=True)

    def quantized_bias(self, bias: Tensor | None, scale: Tensor) -> Tensor | None:
        """The bias in whole steps of input scale * weight scale, straight through on the way back."""
        if bias is None or not self.source:
            return bias
        step = scale.detach().flatten() * self.source[0].qparams()[0]
        return bias + (torch.round(bias / step) * step - bias).detach()

    @torch.no_grad()
    def shift_bias(self, shift: Tensor) -> None:
        """Adds (C,) to the output of every channel."""
        if self.norm is not None:
            self.norm.bias.add_(shift)
        elif self.layer.bias is not None:
            self.layer.bias.add_(shift)
        else:
            self.layer.bias = nn.Parameter(shift.clone())

    def apply_weight(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's operation with this weight and bias."""
        if isinstance(self.layer, nn.Linear):
            return F.linear(x, weight, bias)
        c = self.layer
        return F.conv2d(x, weight, bias, c.stride, c.padding, c.dilation, c.groups)

    def forward(self, x: Tensor) -> Tensor:
        """What the layer and its batch norm make of x, with the weight on its grid."""
        if self.norm is None or not self.training or self.frozen:
            weight, bias = self.folded()
            if self.enabled:
                bias, weight = self.quantized_bias(bias, self.scale(weight)), self.quantized(weight)
            return self.apply_weight(x, weight, bias)
        gain = self._gain().detach()
        weight = self.quantized(self.layer.weight * _rows(gain, self.layer.weight))
        out = self.apply_weight(x, weight, None) / gain.reshape(-1, *[1] * (x.dim() - 2)).to(x.dtype)
        return self.norm(out)  # a bias of the layer would be subtracted again as part of the mean


def _rows(per_channel: Tensor, weight: Tensor) -> Tensor:
    """(C,) shaped to multiply the rows of a weight (C, ...)."""
    return per_channel.reshape(-1, *[1] * (weight.dim() - 1))


@contextlib.contextmanager
def switched_off(model: nn.Module) -> Iterator[None]:
    """A block in which a prepared model computes what the float network does."""
    parts = [m for m in model.modules() if isinstance(m, ActivationQuantizer | QATLayer)]
    for part in parts:
        part.enabled = False
    try:
        yield
    finally:
        for part in parts:
            part.enabled = True
