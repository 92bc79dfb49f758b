"""Scores: against loops, finite differences and what removing a weight really does to the loss."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune

from coursekit import data, zoo
from coursekit.models import LeNet300100, resnet20
from coursekit.pruning import (
    MovementScores,
    magnitude_scores,
    prunable,
    random_scores,
    taylor_score,
    taylor_scores,
    weights_of,
)


@pytest.fixture(scope="module")
def images() -> data.Dataset:
    return data.fashion_mnist("train", subset=True).take(300)


def test_prunable_are_the_weights_of_convolutions_and_linear_layers():
    names = prunable(resnet20())
    assert len(names) == 22  # 19 convolutions of 3 x 3, 2 of 1 x 1 on shortcuts, 1 linear layer
    assert sum(w.numel() for w in weights_of(resnet20()).values()) == 270_608
    assert prunable(LeNet300100(), output_layer=False) == ["fc1.weight", "fc2.weight"]
    assert prunable(nn.Linear(2, 2)) == ["weight"]


def test_a_tensor_shared_by_two_layers_is_listed_once():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    assert prunable(model) == ["0.weight"]


def test_weights_that_something_else_holds_are_refused():
    model = nn.Sequential(nn.Linear(3, 3))
    prune.l1_unstructured(model[0], "weight", 0.5)
    with pytest.raises(ValueError, match="make that permanent"):
        prunable(model)
    with pytest.raises(ValueError, match="make that permanent"):
        prunable(nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 3))))
    with pytest.raises(ValueError, match="no linear layer"):
        prunable(nn.Sequential(nn.Linear(3, 3)), output_layer=False)


def test_magnitude_scores_are_absolute_values_in_memory_of_their_own():
    model = zoo.load("lenet300")
    scores = magnitude_scores(model)
    scores["fc1.weight"].zero_()
    assert model.fc1.weight.abs().sum() > 0
    assert torch.equal(scores["fc2.weight"], model.fc2.weight.detach().abs())
    assert list(magnitude_scores(model, ["fc2.weight"])) == ["fc2.weight"]
    with pytest.raises(ValueError, match=r"'fc9\.weight' is not a prunable"):
        magnitude_scores(model, ["fc9.weight"])


def test_random_scores_repeat_by_seed_and_know_zeros():
    model = zoo.load("lenet300")
    model.fc1.weight.data[0] = 0
    one, same, other = (random_scores(model, seed) for seed in (1, 1, 2))
    assert torch.equal(one["fc1.weight"], same["fc1.weight"])
    assert not torch.equal(one["fc1.weight"], other["fc1.weight"])
    assert torch.equal(one["fc1.weight"] == 0, model.fc1.weight == 0)


def test_taylor_scores_are_those_of_a_plain_loop_and_leave_the_model_alone(images):
    model = zoo.load("lenet300")
    scores = taylor_scores(model, images)
    assert all(p.grad is None for p in model.parameters())
    gradients = []
    for start in (0, 100, 200):
        model.zero_grad()
        part = slice(start, start + 100)
        F.cross_entropy(model(images.images[part]), images.labels[part]).backward()
        gradients.append(model.fc2.weight.grad.clone())
    expected = taylor_score(model.fc2.weight.detach(), torch.stack(gradients))
    assert torch.allclose(scores["fc2.weight"], expected, rtol=1e-5, atol=1e-9)


def test_taylor_score_predicts_what_removing_a_weight_does_to_the_loss(images):
    """To first order: in float64 a weight is scaled by 1 - 1e-4 and the loss moves by 1e-4 of the score."""
    model = zoo.load("lenet300").double()
    wide = data.Dataset(images.images.double(), images.labels, images.classes, images.source)
    scores = taylor_scores(model, wide, ["fc3.weight"], batch_size=300)["fc3.weight"]

    def loss() -> float:
        with torch.inference_mode():
            return F.cross_entropy(model(wide.images), wide.labels).item()

    base = loss()
    for index in [(0, 0), (3, 50), (9, 99)]:
        old = model.fc3.weight.data[index].item()
        model.fc3.weight.data[index] = old * (1 - 1e-4)
        assert abs(loss() - base) / 1e-4 == pytest.approx(scores[index].item(), rel=1e-2, abs=1e-8)
        model.fc3.weight.data[index] = old


def test_batch_norm_statistics_do_not_move(images):
    model = zoo.load("resnet20").train()
    before = model.bn1.running_mean.clone()
    taylor_scores(model, images.take(20))
    assert torch.equal(model.bn1.running_mean, before)
    assert model.training


def test_movement_scores_rise_for_weights_that_leave_zero():
    model = nn.Linear(2, 1, bias=False)
    model.weight.data = torch.tensor([[1.0, 1.0]])
    movement = MovementScores(model)
    with pytest.raises(ValueError, match="backward"):
        movement.update()
    for _ in range(2):
        model.zero_grad()
        (model(torch.tensor([[1.0, -3.0]]))).sum().backward()
        movement.update()
    assert movement.scores()["weight"].tolist() == [[-2.0, 6.0]]  # two steps of -w g; g is (1, -3)


def test_bad_inputs_are_refused(images):
    with pytest.raises(ValueError, match="gradients must be"):
        taylor_score(torch.ones(3), torch.ones(0, 3))
    with pytest.raises(ValueError, match="gradients must be"):
        taylor_score(torch.ones(3), torch.ones(3))
    empty = data.Dataset(images.images[:0], images.labels[:0], images.classes, images.source)
    with pytest.raises(ValueError, match="empty"):
        taylor_scores(zoo.load("lenet300"), empty)
