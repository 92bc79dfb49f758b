"""Relational distillation: not what each image looks like inside, but how the images of a batch lie to each other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.distillation.objective import Batch

__all__ = [
    "Relational",
    "relational_angle_loss",
    "relational_angles",
    "relational_distance_loss",
    "relational_distances",
]


def _points(embeddings: Tensor, least: int) -> Tensor:
    """(N, D) embeddings.

    Raises: ValueError if there are fewer than `least` of them or they have one dimension only.
    """
    if embeddings.dim() < 2 or len(embeddings) < least:
        raise ValueError(f"need at least {least} embeddings (N, D), got {tuple(embeddings.shape)}")
    return embeddings.flatten(1)


def relational_distances(embeddings: Tensor) -> Tensor:
    """The distances between all pairs of a batch, in units of their mean.

    Args:    embeddings: (N, D), N at least 2; more dimensions are flattened.
    Returns: (N, N), symmetric, 0 on the diagonal, of mean 1 off it; all 0 if all embeddings are equal.
    Raises:  ValueError if there are fewer than two embeddings.
    Source:  Park et al. 2019, arXiv:1904.05068, equations 5 and 6. Taught in lesson 09.

    >>> relational_distances(torch.tensor([[0.0, 0.0], [0.0, 30.0], [40.0, 0.0]]))
    tensor([[0.0000, 0.7500, 1.0000],
            [0.7500, 0.0000, 1.2500],
            [1.0000, 1.2500, 0.0000]])
    """
    points = _points(embeddings, 2)
    # By differences: the root of a sum of dot products loses half the digits, and has no gradient at 0.
    distances = torch.linalg.vector_norm(points[:, None] - points[None], dim=2)
    mean = distances.sum() / (len(points) * (len(points) - 1))
    return distances / torch.where(mean > 0, mean, 1.0)


def relational_angles(embeddings: Tensor) -> Tensor:
    """The cosine of the angle at b between the directions to a and to c, for all triples of a batch.

    Args:    embeddings: (N, D), N at least 3; more dimensions are flattened.
    Returns: (N, N, N): [b, a, c]; 0 where a or c is b itself, or lies on it.
    Raises:  ValueError if there are fewer than three embeddings.
    Source:  Park et al. 2019, arXiv:1904.05068, equation 8. Taught in lesson 09.
    """
    points = _points(embeddings, 3)
    directions = points[None] - points[:, None]  # [b, a]: from b to a
    lengths = torch.linalg.vector_norm(directions, dim=2, keepdim=True)
    directions = directions / torch.where(lengths > 0, lengths, 1.0)
    return directions @ directions.transpose(1, 2)


def relational_distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The Huber loss between the relative distances of student and teacher, averaged over the pairs.

    Args:    student: (N, D). teacher: (N, D'), for the same images; it gets no gradient.
    Returns: a scalar.
    Raises:  ValueError if the batches differ or have fewer than two images.
    Source:  Park et al. 2019, arXiv:1904.05068, equation 7 (there the sum). Taught in lesson 09.
    """
    _same_batch(student, teacher)
    n = len(student)
    loss = F.huber_loss(
        relational_distances(student), relational_distances(teacher.detach()), reduction="sum", delta=1.0
    )
    return loss / (n * (n - 1))


def relational_angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The Huber loss between the cosines of student and teacher, averaged over the triples of three different images.

    Args:    student: (N, D). teacher: (N, D'), for the same images; it gets no gradient.
    Returns: a scalar.
    Raises:  ValueError if the batches differ or have fewer than three images.
    Source:  Park et al. 2019, arXiv:1904.05068, equation 9 (there the sum). Taught in lesson 09.
    """
    _same_batch(student, teacher)
    n = len(student)
    apart = ~torch.eye(n, dtype=torch.bool, device=student.device)
    triples = apart[:, :, None] & apart[:, None, :] & apart[None]  # [b, a, c], all different
    angles, wanted = relational_angles(student), relational_angles(teacher.detach())
    return F.huber_loss(angles[triples], wanted[triples], delta=1.0)


def _same_batch(student: Tensor, teacher: Tensor) -> None:
    if len(student) != len(teacher):
        raise ValueError(
            f"both need the same images, got {len(student)} of the student, {len(teacher)} of the teacher"
        )


class Relational(nn.Module):
    """Objective: relations of the whole batch at one layer of each network, by distances and by angles.

    No adapter is needed, as relations do not ask how wide a layer is.

    Args:    student, teacher: the modules whose outputs are compared; maps are averaged over height and width.
             distance, angle: weights of the two losses, not both 0. The angles cost N³ numbers a batch.
    Raises:  ValueError if a weight is negative or both are 0.
    Source:  Park et al. 2019, arXiv:1904.05068, section 3. Taught in lesson 09.
    """

    def __init__(self, student: str, teacher: str, distance: float = 1.0, angle: float = 2.0) -> None:
        super().__init__()
        if min(distance, angle) < 0 or not max(distance, angle) > 0:
            raise ValueError(f"weights must not be negative nor both 0, got {distance} and {angle}")
        self.student_layers, self.teacher_layers = (student,), (teacher,)
        self.distance, self.angle = distance, angle

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """{"distance": …, "angle": …}, weighted; a part of weight 0 is left out."""
        student = _embedding(batch.student_features[self.student_layers[0]])
        teacher = _embedding(batch.teacher_features[self.teacher_layers[0]])
        parts = {}
        if self.distance:
            parts["distance"] = self.distance * relational_distance_loss(student, teacher)
        if self.angle:
            parts["angle"] = self.angle * relational_angle_loss(student, teacher)
        return parts


def _embedding(features: Tensor) -> Tensor:
    """(N, D): maps averaged over height and width."""
    return features.mean(dim=(2, 3)) if features.dim() == 4 else features.flatten(1)
