"""Hints: a student's layer is trained to predict a layer of its teacher, through an adapter that is thrown away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.distillation.objective import Batch

__all__ = ["Hints", "check_pairs", "hint_loss", "hint_stage", "match_size"]


def match_size(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps of this height and width: averaged over equal areas to become smaller, interpolated to become larger.

    Args:    features: (N, C, H, W). size: (height, width). Each side is first shrunk if it is too long, then stretched
             bilinearly if it is too short; maps of the right size come back as they are.
    Raises:  ValueError if features has no 4 dimensions or a side of size is below 1.
    Source:  FitNets uses a convolution without padding instead (arXiv:1412.6550, section 2.3). Taught in lesson 09.

    >>> match_size(torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]]), (1, 1))
    tensor([[[[4.]]]])
    """
    if features.dim() != 4 or min(size) < 1:
        raise ValueError(
            f"need (N, C, H, W) and two sides of at least 1, got {tuple(features.shape)} and {size}"
        )
    height, width = features.shape[2:]
    smaller = min(height, size[0]), min(width, size[1])
    if smaller != (height, width):
        features = F.adaptive_avg_pool2d(features, smaller)
    if smaller != tuple(size):
        features = F.interpolate(features, size, mode="bilinear", align_corners=False)
    return features


def hint_loss(student: Tensor, teacher: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Half the mean squared distance between the teacher's features and what the adapter makes of the student's.

    Args:    student: (N, C_s, H, W) or (N, C_s). teacher: (N, C_t, H', W') or (N, C_t); it gets no gradient.
             weight: (C_t, C_s, 1, 1) or (C_t, C_s), the adapter, a 1 x 1 convolution. bias: (C_t,).
             Maps of the student are brought to the teacher's height and width by `match_size` first.
    Returns: a scalar: half the mean over all elements, so that it does not grow with the size of the maps.
    Raises:  ValueError if batches, channels or the numbers of dimensions do not fit.
    Source:  Romero et al. 2015, arXiv:1412.6550, equation 3 (there summed over the elements). Taught in lesson 09.

    >>> s, t = torch.ones(2, 1, 4, 4), torch.full((2, 1, 2, 2), 3.0)
    >>> hint_loss(s, t, torch.ones(1, 1, 1, 1))
    tensor(2.)
    """
    kernel = weight.flatten(1)  # (C_t, C_s)
    shapes = f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)}"
    if student.dim() != teacher.dim() or student.dim() not in (2, 4) or len(student) != len(teacher):
        raise ValueError(f"need two of (N, C, H, W) or two of (N, C) of the same N images, got {shapes}")
    if (teacher.shape[1], student.shape[1]) != tuple(kernel.shape):
        raise ValueError(f"an adapter of shape {tuple(weight.shape)} does not map the channels of {shapes}")
    if student.dim() == 2:
        predicted = F.linear(student, kernel, bias)
    else:
        size = (teacher.shape[2], teacher.shape[3])
        predicted = F.conv2d(match_size(student, size), kernel[:, :, None, None], bias)
    return (predicted - teacher.detach()).square().mean() / 2


def hint_stage(
    guided: nn.Module, hint: nn.Module, regressor: nn.Module, images: Tensor, steps: int, lr: float
) -> list[float]:
    """The first stage of FitNets: trains the student's lower layers and the regressor towards the teacher's hint.

    Plain gradient descent on half the mean squared distance of regressor(guided(images)) from hint(images). `guided`
    runs in training mode; `hint`, the teacher's part, in eval mode and without gradients, and is as before afterwards.

    Args:    guided: the student up to its guided layer. hint: the teacher up to its hint layer. regressor: maps
             what the first returns to the shape of what the second returns. Both modules' modes are restored.
             images: one batch for all steps. steps, lr: of the descent.
    Returns: the loss before each step.
    Source:  Romero et al. 2015, arXiv:1412.6550, algorithm 1, stage 1. Taught in lesson 09.
    """
    modes = [(module, module.training) for part in (guided, hint, regressor) for module in part.modules()]
    parameters = [*guided.parameters(), *regressor.parameters()]
    optimizer, losses = torch.optim.SGD(parameters, lr), []
    try:
        guided.train(), regressor.train()
        with torch.no_grad():
            target = hint.eval()(images)
        for _ in range(steps):
            loss = (regressor(guided(images)) - target).square().mean() / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    finally:
        for module, mode in modes:
            module.training = mode
    return losses


def check_pairs(pairs: Mapping[str, str] | Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The pairs (student's module, teacher's module) as a tuple.

    Raises: ValueError if there are none, or one is given twice.
    """
    found = tuple(pairs.items() if isinstance(pairs, Mapping) else (tuple(pair) for pair in pairs))
    if not found or len(set(found)) < len(found) or any(len(pair) != 2 for pair in found):
        raise ValueError(f"pairs must hold (student's module, teacher's module), each pair once, got {found}")
    return found


class Hints(nn.Module):
    """Objective: hint loss between pairs of layers, with an adapter for each that lives here, not in the student.

    Args:    pairs: (student's module, teacher's module), or a dict from one to the other.
             channels: for each pair (the student's channels, the teacher's), as `feature_shapes` tells.
             weight: of the sum over the pairs. seed: of the adapters' first weights.
    Raises:  ValueError if pairs are none or double, if channels are not as many, or if weight is not above 0.
    Source:  Romero et al. 2015, arXiv:1412.6550, equation 3. Taught in lesson 09.

    >>> hints = Hints([("stage2", "stage2")], [(16, 32)])
    >>> sum(p.numel() for p in hints.parameters())
    544
    """

    def __init__(
        self,
        pairs: Mapping[str, str] | Iterable[tuple[str, str]],
        channels: Iterable[tuple[int, int]],
        weight: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.pairs, channels = check_pairs(pairs), tuple(channels)
        if len(channels) != len(self.pairs) or not weight > 0:
            raise ValueError(
                f"need channels for each of {len(self.pairs)} pairs and a weight above 0, got {channels} and {weight}"
            )
        self.weight = weight
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.adapters = nn.ModuleList(nn.Conv2d(n_in, n_out, 1) for n_in, n_out in channels)

    @property
    def student_layers(self) -> tuple[str, ...]:
        """The student's modules, each once."""
        return tuple(dict.fromkeys(student for student, _ in self.pairs))

    @property
    def teacher_layers(self) -> tuple[str, ...]:
        """The teacher's modules, each once."""
        return tuple(dict.fromkeys(teacher for _, teacher in self.pairs))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """{"hint": weight times the sum of the pairs' losses}."""
        losses = [
            hint_loss(batch.student_features[s], batch.teacher_features[t], *adapter.parameters())
            for (s, t), adapter in zip(self.pairs, self.adapters, strict=True)
        ]
        return {"hint": self.weight * torch.stack(losses).sum()}
