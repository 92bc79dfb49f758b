"""The two parts against the paper's formulas in float64, and the identity that makes them one divergence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from coursekit import data, zoo
from coursekit.distillation import Batch, DecoupledDistillationLoss, distillation_kl
from coursekit.distillation.decoupled import decoupled_kl
from coursekit.distillation.losses import soften
from coursekit.train import predict


@pytest.fixture(scope="module")
def real():
    """Logits of a student and a teacher for 64 test images, in float64, and their labels."""
    test = data.fashion_mnist("test", subset=True).take(64)
    logits = [predict(zoo.load(name), test.images).double() for name in ("lenet300", "resnet20")]
    return (*logits, test.labels)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_parts_are_the_papers(real, temperature):
    """Image by image, from probabilities, as equations 3 to 6 have them."""
    q, p = (soften(logits, temperature).numpy() for logits in real[:2])
    target, others = decoupled_kl(*real, temperature)
    for i, label in enumerate(real[2].tolist()):
        a, b = p[i, label], q[i, label]
        expected = a * np.log(a / b) + (1 - a) * np.log((1 - a) / (1 - b))
        pi, qi = np.delete(p[i], label), np.delete(q[i], label)
        pi, qi = pi / pi.sum(), qi / qi.sum()
        assert target[i].item() == pytest.approx(expected, rel=1e-6, abs=1e-9)
        assert others[i].item() == pytest.approx((pi * np.log(pi / qi)).sum(), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_matching_weights_give_the_whole_divergence(real, temperature):
    """Weighted by 1 and by 1 - p, the parts are plain distillation again."""
    student, teacher, labels = real
    target, others = decoupled_kl(student, teacher, labels, temperature)
    p = soften(teacher, temperature)[torch.arange(len(labels)), labels]
    whole = temperature**2 * (target + (1 - p) * others).mean()
    assert whole.item() == pytest.approx(distillation_kl(student, teacher, temperature).item(), abs=1e-9)


def test_a_teacher_that_is_sure_leaves_the_others_finite():
    """A probability of 1 in float32: the parts come from logits, and know no log of 0."""
    teacher, student = torch.tensor([[200.0, 1.0, 0.0]]), torch.tensor([[-100.0, 0.0, 1.0]])
    target, others = decoupled_kl(student, teacher, torch.tensor([0]), 1.0)
    p, q = torch.tensor([1.0, 0.0]).softmax(0), torch.tensor([0.0, 1.0]).softmax(0)
    assert others.item() == pytest.approx((p * (p / q).log()).sum().item(), rel=1e-5)
    assert target.item() == pytest.approx(101.3133, rel=1e-5)  # -log q of the label: 100 + log(1 + e)


def test_gradcheck(real):
    student, teacher, labels = real[0][:4].clone().requires_grad_(), real[1][:4], real[2][:4]
    assert torch.autograd.gradcheck(lambda z: decoupled_kl(z, teacher, labels, 4.0), student)


def test_the_objectives_parts_are_weighted(real):
    student, teacher, labels = real
    batch = Batch(torch.zeros(64, 1, 28, 28), labels, student, teacher)
    parts = DecoupledDistillationLoss(4.0, target=0.5, others=3.0, hard=2.0)(batch)
    target, others = decoupled_kl(student, teacher, labels, 4.0)
    hard = torch.nn.functional.nll_loss(student.log_softmax(1), labels)
    expected = {"hard": 2 * hard, "target": 8 * target.mean(), "others": 48 * others.mean()}
    assert {n: v.item() for n, v in parts.items()} == pytest.approx({
        n: v.item() for n, v in expected.items()
    })


@pytest.mark.parametrize("name", ["target", "others", "hard"])
@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(name, bad):
    with pytest.raises(ValueError, match=f"{name} is a weight"):
        DecoupledDistillationLoss(**{name: bad})


def test_bad_arguments_are_refused(real):
    with pytest.raises(ValueError, match="temperature"):
        decoupled_kl(*real, 0.0)
    with pytest.raises(ValueError, match="labels must be 0 to 9"):
        decoupled_kl(*real[:2], real[2] + 1, 4.0)
    with pytest.raises(ValueError, match="needs a teacher"):
        DecoupledDistillationLoss()(Batch(torch.zeros(64, 1, 28, 28), real[2], real[0]))
