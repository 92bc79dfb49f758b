"""Networks for handwritten digits that train in a blink, and objectives that look at all there is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from coursekit.data import Dataset, digits
from coursekit.distillation import Batch
from coursekit.train import Recipe, fit


def small(seed: int = 0) -> nn.Sequential:
    """With batch norm and dropout: buffers and torch's own random numbers count."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1), nn.Linear(36, 10)
    )


def large(train: Dataset | None = None) -> nn.Sequential:
    """A teacher, trained a little if there is data."""
    torch.manual_seed(7)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, 2),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(144, 10),
    )
    if train is not None:
        fit(net, train, Recipe(epochs=3, batch_size=64, seed=7), progress=False)
    return net.eval()


class Soft:
    """Cross-entropy with the teacher's probabilities, beside that with the labels."""

    student_layers: tuple[str, ...] = ()
    teacher_layers: tuple[str, ...] = ()

    def __init__(self, alpha: float = 0.7) -> None:
        self.alpha = alpha

    def __call__(self, batch: Batch) -> dict[str, torch.Tensor]:
        assert batch.teacher_logits is not None
        soft = F.cross_entropy(batch.student_logits, batch.teacher_logits.softmax(1))
        hard = F.cross_entropy(batch.student_logits, batch.labels)
        return {"soft": self.alpha * soft, "hard": (1 - self.alpha) * hard}

    def parameters(self) -> tuple[nn.Parameter, ...]:
        return ()


class Hint(nn.Module):
    """The student's first feature maps, through an adapter with batch norm, near the teacher's; and the labels."""

    student_layers, teacher_layers = ("0",), ("0",)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.adapter = nn.Sequential(nn.Conv2d(4, 16, 1), nn.BatchNorm2d(16))

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        hint = F.mse_loss(self.adapter(batch.student_features["0"]), batch.teacher_features["0"])
        return {"hint": hint, "labels": F.cross_entropy(batch.student_logits, batch.labels)}


def images(n: int = 200) -> Dataset:
    return digits("train").take(n)
