"""Whole networks in 16 bits: casts for inference, autocast for training, and half-precision training by hand."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.quantization.scaling import DynamicLossScale, master_weight_update, unscale_and_clip

__all__ = ["AutocastTraining", "HalfTraining", "cast_model", "gradients_by_layer"]

_HALF = (torch.float16, torch.bfloat16)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def _check_half(dtype: torch.dtype) -> None:
    if dtype not in _HALF:
        raise ValueError(f"dtype must be torch.float16 or torch.bfloat16, got {dtype}")


def _cast_inputs(dtype: torch.dtype, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.to(dtype) for x in inputs)


def _cast_output(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output.float()


def cast_model(model: nn.Module, dtype: torch.dtype, *, keep_batch_norm: bool = False) -> nn.Module:
    """A copy in eval mode whose weights and arithmetic are 16 bits wide; it takes and returns float32.

    In training mode a batch norm would normalise each image by its neighbours in the batch, and move its
    statistics with every call: a cast network is for inference, hence eval mode.

    Args:    model: left as it is. dtype: torch.float16 or torch.bfloat16.
             keep_batch_norm: leave batch norms' weights and statistics in float32 (their input is still `dtype`).
    Returns: the same class with the same names in its state dict, half the bytes in its file.
    Raises:  ValueError for another dtype; OverflowError if a weight is too large for it.
    Source:  Micikevicius et al. 2018, arXiv:1710.03740, section 3.3. Taught in lesson 04.
    """
    _check_half(dtype)
    largest = torch.finfo(dtype).max
    for name, value in model.state_dict().items():
        if value.is_floating_point() and bool((value.abs() > largest).any()):
            raise OverflowError(
                f"{name} holds {value.abs().max().item():.3g}, and {dtype} ends at {largest:.3g}"
            )
    result = copy.deepcopy(model).to(dtype)
    if keep_batch_norm:
        originals = dict(model.named_modules())
        for name, module in result.named_modules():
            if isinstance(module, _NORMS):
                module.float().load_state_dict(originals[name].state_dict())  # not by way of 16 bits
    result.register_forward_pre_hook(functools.partial(_cast_inputs, dtype))
    result.register_forward_hook(_cast_output)
    return result.eval()


def gradients_by_layer(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The float32 gradients of the mean loss of one batch: of each layer's weight, and of each layer's output.

    Args:    model: a classifier; its mode is used as it is, its parameters and their grad are not changed.
             images: (N, ...). labels: (N,).
    Returns: "name.weight" and "name output" to a flat tensor, for every linear layer and convolution.
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    outputs: dict[str, Tensor] = {}
    hooks = [
        layer.register_forward_hook(lambda m, i, out, name=name: outputs.__setitem__(name, out))
        for name, layer in layers.items()
    ]
    try:
        loss = F.cross_entropy(model(images), labels)
    finally:
        for hook in hooks:
            hook.remove()
    wanted = {f"{name} output": outputs[name] for name in layers}
    wanted |= {f"{name}.weight": layer.weight for name, layer in layers.items()}
    grads = torch.autograd.grad(loss, list(wanted.values()))
    return {name: grad.flatten() for name, grad in zip(wanted, grads, strict=True)}


class AutocastTraining:
    """Mixed precision with PyTorch's own tools: `torch.autocast`, and `torch.amp.GradScaler` where it is needed.

    Weights stay float32 and are the master weights; autocast runs matrix products and convolutions in `dtype`.
    On a GPU the dtype is bfloat16 where it has that, else float16; on a CPU it is bfloat16. Only float16 needs a
    loss scale: bfloat16 has the exponents of float32.

    Args:    model: in training mode by you. optimizer: over its parameters. dtype: torch.float16 or
             torch.bfloat16, by default as above. max_norm: clip the gradients to this total norm.
    Raises:  ValueError for another dtype, or a model without parameters.
    Source:  Micikevicius et al. 2018, arXiv:1710.03740. Taught in lesson 04.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        dtype: torch.dtype | None = None,
        max_norm: float = math.inf,
    ) -> None:
        first = next(model.parameters(), None)
        if first is None:
            raise ValueError(f"{type(model).__name__} has no parameters: there is nothing to train")
        self.model, self.optimizer, self.max_norm = model, optimizer, max_norm
        self.device = first.device.type
        self.dtype = dtype or _best_half(self.device)
        _check_half(self.dtype)
        self.scaler = torch.amp.GradScaler(self.device, enabled=self.dtype == torch.float16)

    def train_step(
        self, images: Tensor, labels: Tensor, criterion: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
    ) -> float:
        """One step on one batch; returns its loss, unscaled."""
        self.optimizer.zero_grad()  # first: what others left in .grad must not take part
        with torch.autocast(self.device, self.dtype):
            logits = self.model(images)
        loss = criterion(logits.float(), labels)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)  # before clipping, which is about true gradients
        if self.max_norm < math.inf:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
        self.scaler.step(self.optimizer)  # skips where a gradient is not finite
        self.scaler.update()
        return loss.item()


def _best_half(device: str) -> torch.dtype:
    without = device == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.float16 if without else torch.bfloat16


class HalfTraining:
    """SGD on a network whose weights, activations and gradients are all 16 bits wide; the remedies by hand.

    Args:    model: cast in place to `dtype`. lr: learning rate. dtype: torch.float16 or torch.bfloat16.
             master: keep float32 master weights; without them the 16-bit weights are updated themselves.
             loss_scale: adapted with every step; None for no scaling. max_norm: clip to this total norm.
             unscale, update: as `unscale_and_clip` and `master_weight_update`.
    Raises:  ValueError for another dtype.
    Source:  Micikevicius et al. 2018, arXiv:1710.03740, section 3. Taught in lesson 04.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        *,
        dtype: torch.dtype = torch.float16,
        master: bool = True,
        loss_scale: DynamicLossScale | None = None,
        max_norm: float = math.inf,
        unscale: Callable[..., tuple[list[Tensor], bool]] = unscale_and_clip,
        update: Callable[..., tuple[Tensor, Tensor]] = master_weight_update,
    ) -> None:
        _check_half(dtype)
        self.lr, self.loss_scale, self.max_norm = lr, loss_scale, max_norm
        self.unscale, self.update = unscale, update
        self.masters = [p.detach().float().clone() for p in model.parameters()] if master else None
        self.model, self.dtype = model.to(dtype), dtype

    def train_step(self, images: Tensor, labels: Tensor) -> float:
        """One step on one batch; returns its loss. A step whose gradients overflow changes no weight."""
        parameters = list(self.model.parameters())
        loss = F.cross_entropy(self.model(images.to(self.dtype)).float(), labels)
        scale = self.loss_scale.scale if self.loss_scale else 1.0
        grads = torch.autograd.grad(loss * scale, parameters)
        unscaled, found_inf = self.unscale(grads, scale, self.max_norm)
        if self.loss_scale:
            self.loss_scale.update(found_inf)
        if not found_inf:
            self._update(parameters, unscaled)
        return loss.item()

    @torch.no_grad()
    def _update(self, parameters: list[nn.Parameter], grads: list[Tensor]) -> None:
        for i, (parameter, grad) in enumerate(zip(parameters, grads, strict=True)):
            if self.masters is None:
                parameter.sub_(self.lr * grad.to(self.dtype))  # rounds twice: the product, and the difference
            else:
                self.masters[i], weight = self.update(self.masters[i], parameter.detach(), grad, self.lr)
                parameter.copy_(weight)
