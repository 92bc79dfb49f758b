"""Objectives: named parts, weights, what they ask for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coursekit.distillation import Batch, StudentAlone, Weighted


class Squares(nn.Module):
    """Asks for layers and trains a number of its own."""

    student_layers, teacher_layers = ("fc1",), ("fc1", "fc2")

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"squares": self.scale * batch.student_logits.square().mean()}


def some_batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(6, 10, generator=generator)
    return Batch(torch.zeros(6, 1, 28, 28), torch.tensor([0, 1, 2, 3, 4, 9]), logits)


def test_student_alone_is_the_mean_negative_log_probability_of_the_labels():
    batch = some_batch()
    by_hand = -batch.student_logits.double().softmax(1)[range(6), batch.labels].log().mean()
    assert StudentAlone()(batch)["labels"].item() == pytest.approx(by_hand.item(), rel=1e-6)


def test_label_smoothing_is_cross_entropy_with_the_smoothed_targets():
    batch, eps = some_batch(), 0.1
    targets = F.one_hot(batch.labels, 10).double() * (1 - eps) + eps / 10
    by_hand = -(targets * batch.student_logits.double().log_softmax(1)).sum(1).mean()
    assert StudentAlone(eps)(batch)["labels"].item() == pytest.approx(by_hand.item(), rel=1e-6)


@pytest.mark.parametrize("eps", [-0.1, 1.1, float("nan")])
def test_label_smoothing_outside_0_to_1_is_refused(eps):
    with pytest.raises(ValueError, match="label_smoothing"):
        StudentAlone(eps)


def test_weighted_parts_are_the_parts_times_the_weights():
    batch, squares = some_batch(), Squares()
    parts = Weighted({"hard": (0.25, StudentAlone()), "reg": (3.0, squares)})(batch)
    assert list(parts) == ["hard/labels", "reg/squares"]
    assert parts["hard/labels"].item() == pytest.approx(0.25 * StudentAlone()(batch)["labels"].item())
    assert parts["reg/squares"].item() == pytest.approx(3 * squares(batch)["squares"].item())


def test_weighted_asks_for_each_layer_and_trains_each_parameter_once():
    squares = Squares()
    both = Weighted({"a": (1.0, squares), "b": (1.0, squares), "c": (1.0, StudentAlone())})
    assert (both.student_layers, both.teacher_layers) == (("fc1",), ("fc1", "fc2"))
    assert [id(p) for p in both.parameters()] == [id(squares.scale)]


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_weighted_refuses_impossible_weights(weight):
    with pytest.raises(ValueError, match="weight of 'a'"):
        Weighted({"a": (weight, StudentAlone())})


def test_weighted_refuses_nothing():
    with pytest.raises(ValueError, match="empty"):
        Weighted({})
