"""Losses against formulas written out in float64 with numpy, PyTorch's own, finite differences, and limits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coursekit import data, zoo
from coursekit.distillation import Batch, DistillationLoss
from coursekit.distillation.losses import distillation_kl, kd_gradient, kd_loss, smooth_targets, soften
from coursekit.train import predict

TEMPERATURES = [0.5, 1.0, 4.0, 20.0]
temperatures = pytest.mark.parametrize("temperature", TEMPERATURES)


@pytest.fixture(scope="module")
def real():
    """Logits of a student and a teacher for 64 test images, and their labels."""
    test = data.fashion_mnist("test", subset=True).take(64)
    return (
        predict(zoo.load("lenet300"), test.images),
        predict(zoo.load("resnet20"), test.images),
        test.labels,
    )


def probabilities(logits, temperature):
    """By the definition of the softmax, in float64."""
    z = logits.double().numpy() / temperature
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def expected_parts(student, teacher, labels, temperature, alpha):
    """Hard and soft part in numpy, from probabilities, not from log-softmax."""
    p, q = probabilities(teacher, temperature), probabilities(student, temperature)
    hard = -np.log(probabilities(student, 1)[np.arange(len(labels)), labels.numpy()]).mean()
    divergences = [(a * np.log(a / b)).sum() for a, b in zip(p, q, strict=True)]
    return (1 - alpha) * hard, alpha * temperature**2 * np.mean(divergences)


@temperatures
def test_softened_probabilities_are_those_of_the_definition(real, temperature):
    got = soften(real[1], temperature).double().numpy()
    np.testing.assert_allclose(got, probabilities(real[1], temperature), rtol=1e-4, atol=1e-7)


def test_heat_melts_to_uniform_and_cold_freezes_to_the_largest(real):
    _, teacher, _ = real
    spread = (teacher.max() - teacher.min()).item()
    assert (soften(teacher, 1e5) - 0.1).abs().max() <= 0.11 * spread / 1e5  # |softmax' | <= p, to first order
    top = teacher.topk(2).values
    clear = (top[:, 0] - top[:, 1]) > 0.1
    assert torch.allclose(soften(teacher[clear], 0.01).amax(1), torch.ones(int(clear.sum())), atol=1e-3)


@temperatures
@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.7, 1.0])
def test_parts_equal_numpy_in_float64(real, temperature, alpha):
    student, teacher, labels = (t.double() if t.is_floating_point() else t for t in real)
    parts = kd_loss(student, teacher, labels, temperature, alpha)
    hard, soft = expected_parts(*real, temperature, alpha)
    assert [*parts] == ["hard", "soft"]
    assert parts["hard"].item() == pytest.approx(hard, abs=1e-6)
    assert parts["soft"].item() == pytest.approx(soft, abs=1e-6)


@temperatures
def test_float32_is_within_rounding_of_float64(real, temperature):
    hard, soft = expected_parts(*real, temperature, 0.5)
    parts = kd_loss(*real, temperature, 0.5)
    # a log-probability of size m is known to m · 2^-23, and T² magnifies the error of the mean divergence
    rounding = 2.0**-23 * (real[1] / temperature).abs().max().item() * 2 * max(temperature, 1) ** 2
    assert parts["hard"].item() == pytest.approx(hard, rel=1e-5)
    assert parts["soft"].item() == pytest.approx(soft, abs=4 * rounding)


@temperatures
def test_divergence_equals_pytorchs_with_log_targets(real, temperature):
    student, teacher = real[0].double(), real[1].double()
    theirs = nn.KLDivLoss(reduction="none", log_target=True)(
        torch.log(soften(student, temperature)), torch.log(soften(teacher, temperature))
    )
    expected = temperature**2 * theirs.sum() / len(student)
    assert distillation_kl(student, teacher, temperature).item() == pytest.approx(expected.item(), abs=1e-6)


def test_a_student_like_its_teacher_has_nothing_to_learn_from_it(real):
    _, teacher, labels = real
    assert distillation_kl(teacher, teacher + 3.0, 4.0).item() == pytest.approx(0, abs=1e-5)
    assert kd_loss(teacher, teacher, labels, 4.0, 0.5)["soft"].item() == pytest.approx(0, abs=1e-5)


def test_parts_add_up_to_the_loss_exactly(real):
    """The loss is defined as their sum, and neither part changes when the other one's weight is 0."""
    for temperature, alpha in itertools.product(TEMPERATURES, (0.25, 0.5, 0.75)):  # exact in binary
        parts = kd_loss(*real, temperature, alpha)
        assert parts["hard"] == (1 - alpha) * kd_loss(*real, temperature, 0.0)["hard"]
        total = F.cross_entropy(real[0], real[2]) * (1 - alpha) + parts["soft"]
        assert sum(parts.values()).item() == total.item()


def test_gradcheck(real):
    student, teacher = real[0][:5].double().requires_grad_(), real[1][:5].double()
    for temperature in (1.0, 4.0):
        assert torch.autograd.gradcheck(lambda z, t=temperature: distillation_kl(z, teacher, t), student)
        assert torch.autograd.gradcheck(
            lambda z, t=temperature: sum(kd_loss(z, teacher, real[2][:5], t, 0.7).values()), student
        )


def autograd(student, teacher, labels, temperature, alpha):
    z = student.clone().requires_grad_()
    sum(kd_loss(z, teacher, labels, temperature, alpha).values()).backward()
    return z.grad


@temperatures
@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_gradient_by_hand_is_autograds(real, temperature, alpha):
    student, teacher, labels = real[0].double(), real[1].double(), real[2]
    got = kd_gradient(student, teacher, labels, temperature, alpha)
    expected = autograd(student, teacher, labels, temperature, alpha)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


def test_for_large_temperatures_the_gradient_is_that_of_matching_logits(real):
    """Equation 4: (z - v) / (n classes), the logits centred; the rest falls as 1/T."""
    student, teacher = real[0].double(), real[1].double()
    z, v = (logits - logits.mean(1, keepdim=True) for logits in (student, teacher))
    limit = (z - v) / student.numel()
    errors = [
        (kd_gradient(student, teacher, real[2], t, 1.0) - limit).abs().max().item() for t in (1e3, 1e4, 1e5)
    ]
    spread = torch.cat([z, v]).abs().max().item()
    second_order = spread**2 / 1e5 / student.numel()  # of the softmax: at most half of it each
    assert errors[-1] <= second_order
    for larger, smaller in itertools.pairwise(errors):
        assert smaller == pytest.approx(larger / 10, rel=0.1)


def test_t_squared_keeps_the_gradients_size(real):
    student, teacher = real[0].double(), real[1].double()
    norms = {t: kd_gradient(student, teacher, real[2], t, 1.0).norm().item() for t in (1e3, 1e4)}
    assert norms[1e4] == pytest.approx(norms[1e3], rel=0.01)
    without = {t: norm / t**2 for t, norm in norms.items()}
    assert without[1e4] == pytest.approx(without[1e3] / 100, rel=0.01)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_smooth_targets_give_pytorchs_label_smoothing(real, smoothing):
    student, _, labels = real
    targets = smooth_targets(labels, 10, smoothing)
    ours = -(targets * F.log_softmax(student, 1)).sum(1).mean()
    theirs = F.cross_entropy(student, labels, label_smoothing=smoothing)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)


def test_a_teacher_of_smooth_targets_is_label_smoothing(real):
    """Soft targets that know nothing: their logits, at T = 1, give the gradient of label smoothing."""
    student, _, labels = real[0].double(), None, real[2]
    teacher = smooth_targets(labels, 10, 0.2).double().log()
    z = student.clone().requires_grad_()
    F.cross_entropy(z, labels, label_smoothing=0.2).backward()
    torch.testing.assert_close(kd_gradient(student, teacher, labels, 1.0, 1.0), z.grad, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_refused(real, bad):
    for call in (
        lambda: soften(real[0], bad),
        lambda: distillation_kl(real[0], real[1], bad),
        lambda: kd_loss(*real, bad, 0.5),
        lambda: kd_gradient(*real, bad, 0.5),
        lambda: DistillationLoss(bad),
    ):
        with pytest.raises(ValueError, match="temperature must be finite and above 0"):
            call()


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_an_alpha_that_is_no_share_is_refused(real, bad):
    for call in (
        lambda: kd_loss(*real, 4.0, bad),
        lambda: kd_gradient(*real, 4.0, bad),
        lambda: DistillationLoss(4.0, bad),
    ):
        with pytest.raises(ValueError, match="alpha is the share"):
            call()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, t, y: (s[:5], t, y), "differ"),
        (lambda s, t, y: (s, t[:, :9], y), "differ"),
        (lambda s, t, y: (s[0], t[0], y), "must be \\(n, classes\\)"),
        (lambda s, t, y: (s[:0], t[:0], y[:0]), "at least one image"),
        (lambda s, t, y: (s.log(), t, y), "student_logits holds NaN or inf"),
        (lambda s, t, y: (s, t / 0, y), "teacher_logits holds NaN or inf"),
        (lambda s, t, y: (s.long(), t, y), "floating-point"),
        (lambda s, t, y: (s, t, y.float()), "labels must be int64"),
        (lambda s, t, y: (s, t, y[:3]), "labels must be int64"),
        (lambda s, t, y: (s, t, y + 1), "labels must be 0 to 9"),
        (lambda s, t, y: (s, t, y - 1), "labels must be 0 to 9"),
    ],
    ids=["images", "classes", "one image", "none", "NaN", "inf", "integers", "float labels", "few labels",
         "high label", "low label"],
)  # fmt: skip
def test_bad_arguments_are_refused(real, change, message):
    for function in (kd_loss, kd_gradient):
        with pytest.raises(ValueError, match=message):
            function(*change(*real), 4.0, 0.5)


def test_bad_smoothing_is_refused(real):
    for smoothing in (-0.1, 1.5):
        with pytest.raises(ValueError, match="smoothing must be in"):
            smooth_targets(real[2], 10, smoothing)
    with pytest.raises(ValueError, match="labels must be 0 to 4"):
        smooth_targets(real[2], 5, 0.1)
    with pytest.raises(ValueError, match="at least 2 classes"):
        smooth_targets(real[2], 1, 0.1)


def batch_of(real, teacher=True):
    student, teacher_logits, labels = real
    return Batch(torch.zeros(len(labels), 1, 28, 28), labels, student, teacher_logits if teacher else None)


def test_the_objective_is_the_function(real):
    objective = DistillationLoss(temperature=5.0, alpha=0.6)
    assert objective(batch_of(real)) == kd_loss(*real, 5.0, 0.6)
    assert (objective.student_layers, objective.teacher_layers, [*objective.parameters()]) == ((), (), [])


def test_the_objective_takes_another_function_and_needs_a_teacher(real):
    seen = []
    objective = DistillationLoss(3.0, 0.2, loss=lambda *args: seen.append(args) or {})
    objective(batch_of(real))
    assert [type(each) for each in seen[0][3:]] == [float, float]
    with pytest.raises(ValueError, match="needs a teacher"):
        objective(batch_of(real, teacher=False))


def test_the_objective_stops_the_teachers_gradient(real):
    student, teacher, labels = real
    teacher = teacher.clone().requires_grad_()
    z = student.clone().requires_grad_()
    batch = Batch(torch.zeros(64, 1, 28, 28), labels, z, teacher)
    sum(DistillationLoss()(batch).values()).backward()
    assert teacher.grad is None
    assert z.grad.abs().sum() > 0
