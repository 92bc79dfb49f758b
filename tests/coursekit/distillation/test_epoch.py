"""One pass of distillation: the steps of SGD worked out apart, and a teacher that is left as it was."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import nn

from coursekit import data
from coursekit.distillation import distill_epoch, kd_loss


def network(seed):
    """A small classifier whose batch norm and dropout behave differently in training."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.0), nn.Linear(16, 10)
    )


@pytest.fixture(scope="module")
def batches():
    train = data.fashion_mnist("train", subset=True).take(96)
    return [*zip(train.images.split(32), train.labels.split(32), strict=True)]


loss = partial(kd_loss, temperature=4.0, alpha=0.7)


def test_each_step_moves_against_the_gradient(batches):
    """The same steps with autograd.grad, from the weights that the step before left."""
    student, teacher = network(0), network(1).train()
    expected = copy.deepcopy(student)
    log = distill_epoch(student, teacher, batches, loss, lr=0.1)
    teacher.eval()
    for (images, labels), parts in zip(batches, log, strict=True):
        wanted = loss(expected.train()(images), teacher(images).detach(), labels)
        assert parts == pytest.approx({name: part.item() for name, part in wanted.items()}, rel=1e-5)
        weights = [*expected.parameters()]
        for weight, slope in zip(weights, torch.autograd.grad(sum(wanted.values()), weights), strict=True):
            weight.data -= 0.1 * slope
    for ours, theirs in zip(student.state_dict().values(), expected.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert not student.training


@pytest.mark.parametrize("training", [True, False])
def test_the_teacher_is_left_as_it_was(batches, training):
    teacher = network(1).train(training)
    teacher[1].eval()
    teacher[5].bias.requires_grad_(False)
    before = copy.deepcopy(teacher)
    distill_epoch(network(0), teacher, batches, loss, lr=0.1)
    for now, then in zip(teacher.modules(), before.modules(), strict=True):
        assert now.training == then.training
    for now, then in zip(teacher.parameters(), before.parameters(), strict=True):
        assert (now.grad, now.requires_grad) == (None, then.requires_grad)
    for now, then in zip(teacher.state_dict().values(), before.state_dict().values(), strict=True):
        assert torch.equal(now, then)


def test_the_loss_falls(batches):
    student, teacher = network(0), network(1).eval()
    first, *_, last = [distill_epoch(student, teacher, batches, loss, lr=0.2) for _ in range(10)]
    assert sum(sum(parts.values()) for parts in last) < 0.8 * sum(sum(parts.values()) for parts in first)
