"""Attention transfer: the student learns where its teacher's features are large."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.distillation.hints import check_pairs
from coursekit.distillation.objective import Batch

__all__ = ["AttentionTransfer", "attention_loss", "attention_map", "pair_layers"]


def attention_map(features: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Where the features are large: squares summed over the channels, each image's map flattened to length 1.

    Args:    features: (N, C, H, W), floating point. size: (height, width), no side longer than the features'; the
             sums are first averaged over equal areas to it.
    Returns: (N, H * W): row by row, never negative, each row of Euclidean length 1; 0 where all features are 0.
    Raises:  ValueError if features has no 4 dimensions or size is larger.
    Source:  Zagoruyko and Komodakis 2017, arXiv:1612.03928, equations 1 and 2 with F²_sum. Taught in lesson 09.

    >>> attention_map(torch.tensor([[[[1.0, 0.0]], [[0.0, 2.0]]]]) * 10)
    tensor([[0.2425, 0.9701]])
    """
    if features.dim() != 4:
        raise ValueError(f"features must be maps (N, C, H, W), got {tuple(features.shape)}")
    energy = features.square().sum(1)  # (N, H, W)
    if size is not None and tuple(size) != tuple(energy.shape[1:]):
        if size[0] > energy.shape[1] or size[1] > energy.shape[2]:
            raise ValueError(f"size {tuple(size)} is larger than the map, {tuple(energy.shape[1:])}")
        energy = F.adaptive_avg_pool2d(energy, size)
    flat = energy.flatten(1)
    length = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
    return flat / torch.where(length > 0, length, 1.0)  # an image without features keeps its zeros


def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The Euclidean distance between the attention maps of student and teacher, averaged over the images.

    Args:    student: (N, C, H, W). teacher: (N, C', H', W'), any number of channels; it gets no gradient. Maps of
             different sizes meet at the smaller height and width.
    Returns: a scalar from 0, equal maps, to the root of 2, maps that do not overlap. The paper's equation 2 has it
             times beta / 2, which is `AttentionTransfer`'s work.
    Raises:  ValueError if one has no 4 dimensions or the batches differ.
    Source:  Zagoruyko and Komodakis 2017, arXiv:1612.03928, equation 2. (Their program takes the mean of the squared
             differences instead.) Taught in lesson 09.

    >>> left, right = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 5.0]]]])
    >>> attention_loss(left, right), attention_loss(left, 3 * left)
    (tensor(1.4142), tensor(0.))
    """
    if student.dim() != 4 or teacher.dim() != 4 or len(student) != len(teacher):
        raise ValueError(
            f"need maps (N, C, H, W) of the same N images, got {tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    difference = attention_map(student, size) - attention_map(teacher.detach(), size)
    return torch.linalg.vector_norm(difference, dim=1).mean()


def pair_layers(
    student: Mapping[str, tuple[int, ...]], teacher: Mapping[str, tuple[int, ...]]
) -> list[tuple[str, str]]:
    """Layers to match: at each height and width that both networks have, the last layer of each.

    Args:    student, teacher: layer to (channels, height, width), in the order in which they run, as `feature_shapes`
             gives them; shapes that are no maps are left out.
    Returns: (student's layer, teacher's layer), in the student's order.
    Source:  "at the end of each group of blocks", Zagoruyko and Komodakis 2017, arXiv:1612.03928, section 4.1.
             Taught in lesson 09.

    >>> pair_layers({"a": (4, 8, 8), "b": (4, 8, 8), "c": (8, 4, 4)}, {"x": (16, 8, 8), "y": (10,)})
    [('b', 'x')]
    """
    last_of_student = {shape[1:]: name for name, shape in student.items() if len(shape) == 3}
    last_of_teacher = {shape[1:]: name for name, shape in teacher.items() if len(shape) == 3}
    ends = {name: size for size, name in last_of_student.items() if size in last_of_teacher}
    return [(name, last_of_teacher[ends[name]]) for name in student if name in ends]


class AttentionTransfer(nn.Module):
    """Objective: beta / 2 times the sum over pairs of layers of the distance between attention maps. No parameters.

    Args:    pairs: (student's module, teacher's module), or a dict from one to the other, as `pair_layers` finds them.
             beta: how much the maps count beside the labels. loss: of the features of one pair; `attention_loss`
             unless you have your own.
    Raises:  ValueError if pairs are none or double, or beta is not above 0.
    Source:  Zagoruyko and Komodakis 2017, arXiv:1612.03928, equation 2. Taught in lesson 09.
    """

    def __init__(
        self,
        pairs: Mapping[str, str] | Iterable[tuple[str, str]],
        beta: float = 10.0,
        loss: Callable[[Tensor, Tensor], Tensor] = attention_loss,
    ) -> None:
        super().__init__()
        if not beta > 0:
            raise ValueError(f"beta must be above 0, got {beta}")
        self.pairs, self.beta, self.loss = check_pairs(pairs), beta, loss

    @property
    def student_layers(self) -> tuple[str, ...]:
        """The student's modules, each once."""
        return tuple(dict.fromkeys(student for student, _ in self.pairs))

    @property
    def teacher_layers(self) -> tuple[str, ...]:
        """The teacher's modules, each once."""
        return tuple(dict.fromkeys(teacher for _, teacher in self.pairs))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """{"attention": beta / 2 times the sum of the pairs' losses}."""
        losses = [self.loss(batch.student_features[s], batch.teacher_features[t]) for s, t in self.pairs]
        return {"attention": self.beta / 2 * torch.stack(losses).sum()}
