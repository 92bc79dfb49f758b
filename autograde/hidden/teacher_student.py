"""Hidden tests of lesson 08. Each states a property and checks it by definition, not against the reference."""

from __future__ import annotations

import torch

from coursekit.exercises.expect import expect, expect_close, expect_tensor
from coursekit.exercises.inputs import normal
from coursekit.exercises.spec import as_test, worth
from coursekit.exercises.teacher_student.mistakes_epoch import some_batches
from coursekit.exercises.teacher_student.properties import (
    expect_parts,
    expect_same_log,
    expect_scalar,
    expect_two,
    kl_by_hand,
    probabilities,
)

__all__ = ["HIDDEN"]


def test_softened_logits_of_any_batch(student):
    """For many batches and temperatures the probabilities are those of the definition."""
    for seed, (shape, temperature) in enumerate((
        ((7, 10), 4.0),
        ((1, 3), 0.3),
        ((5, 2), 20.0),
        ((40, 100), 1.0),
    )):
        logits = 4 * normal(*shape, seed=30 + seed)
        got = expect_tensor(student.soften(logits, temperature), torch.float32, shape)
        expect_close(
            got,
            probabilities(logits, temperature),
            f"probabilities at T = {temperature}",
            rtol=1e-4,
            atol=1e-7,
        )


@worth(2)
def test_divergence_of_any_batch(student):
    """For many batches it is the definition's, and images given twice do not change it."""
    for seed, (shape, temperature) in enumerate((((9, 10), 4.0), ((1, 2), 1.0), ((30, 5), 0.7))):
        z, v = 2 * normal(*shape, seed=40 + seed), 2 * normal(*shape, seed=50 + seed)
        wanted = temperature**2 * sum(kl_by_hand(z, v, temperature)) / shape[0]
        for times in (1, 2):
            got = student.distillation_kl(z.repeat(times, 1), v.repeat(times, 1), temperature)
            expect_close(
                expect_scalar(got, "the result"),
                wanted,
                f"divergence at T = {temperature}",
                rtol=1e-3,
                atol=1e-6,
            )


@worth(2)
def test_loss_of_any_batch(student):
    """For many batches both parts are the definition's."""
    for seed, (shape, temperature, alpha) in enumerate((
        ((8, 10), 4.0, 0.9),
        ((1, 3), 1.0, 0.5),
        ((20, 4), 10.0, 0.1),
    )):
        z, v = 2 * normal(*shape, seed=60 + seed), 3 * normal(*shape, seed=70 + seed)
        labels = torch.arange(shape[0]).mul(7).remainder(shape[1])
        hard, soft = expect_parts(student.kd_loss(z, v, labels, temperature, alpha))
        label = probabilities(z, 1.0)[torch.arange(shape[0]), labels]
        expect_close(hard, (1 - alpha) * -label.log().mean().item(), "hard", rtol=1e-4)
        wanted = alpha * temperature**2 * sum(kl_by_hand(z, v, temperature)) / shape[0]
        expect_close(soft, wanted, "soft", rtol=1e-3)


def test_doubling_the_batch_changes_no_part(student):
    """Images given three times leave both parts as they are."""
    z, v, labels = normal(4, 6, seed=80), 2 * normal(4, 6, seed=81), torch.tensor([5, 0, 1, 1])
    once = expect_parts(student.kd_loss(z, v, labels, 2.0, 0.6))
    thrice = student.kd_loss(z.repeat(3, 1), v.repeat(3, 1), labels.repeat(3), 2.0, 0.6)
    expect_close(
        torch.tensor(expect_parts(thrice)), torch.tensor(once), "parts of three times the images", rtol=1e-4
    )
    expect(min(once) > 0, "the smaller part", min(once), "above 0")


@worth(2)
@torch.enable_grad()
def test_gradient_of_any_batch(student):
    """For many batches it is what autograd makes of a loss written with log-probabilities."""
    for seed, (shape, temperature, alpha) in enumerate((
        ((6, 10), 4.0, 0.9),
        ((1, 3), 0.5, 0.3),
        ((20, 4), 10.0, 1.0),
    )):
        z = (2 * normal(*shape, seed=90 + seed)).double().requires_grad_()
        v, labels = 2 * normal(*shape, seed=95 + seed), torch.arange(shape[0]).mul(5).remainder(shape[1])
        logs, softened = z.log_softmax(1), (z / temperature).log_softmax(1)
        hard = -logs[torch.arange(shape[0]), labels].mean()
        soft = -(probabilities(v, temperature) * softened).sum() / shape[0]  # the entropy has no slope
        ((1 - alpha) * hard + alpha * temperature**2 * soft).backward()
        got = student.kd_gradient(z.detach().float(), v, labels, temperature, alpha)
        expect_close(expect_tensor(got, torch.float32, shape), z.grad, "gradient", rtol=1e-3, atol=1e-6)


def test_hot_students_match_logits(student):
    """At T = 2,000 and alpha = 1 it is the difference of the centred logits over images times classes."""
    z, v = normal(5, 4, seed=82), normal(5, 4, seed=83)
    wanted = (z - z.mean(1, keepdim=True) - v + v.mean(1, keepdim=True)) / 20
    got = student.kd_gradient(z, v, torch.tensor([0, 1, 2, 3, 0]), 2000.0, 1.0)
    expect_close(expect_tensor(got, torch.float32, (5, 4)), wanted, "gradient", rtol=0.02, atol=1e-3)


def test_smoothing_of_any_size(student):
    """For many sizes, and for a smoothing of 0 and 1: smoothing / k off the label, and on it what is left of 1."""
    for k, smoothing in ((2, 0.9), (10, 0.1), (100, 0.35), (5, 0.0), (3, 1.0)):
        labels = torch.arange(2 * k).mul(3).remainder(k)
        got = expect_tensor(student.smooth_targets(labels, k, smoothing), torch.float32, (2 * k, k))
        on = got.gather(1, labels[:, None])[:, 0]
        expect_close(on, torch.full((2 * k,), 1 - smoothing * (k - 1) / k), "the labels' shares")
        others = got.scatter(1, labels[:, None], smoothing / k)
        expect_close(
            others, torch.full((2 * k, k), smoothing / k), "the others' shares", rtol=1e-4, atol=1e-7
        )


@worth(2)
def test_decoupled_of_any_batch(student):
    """For many batches both parts are the definition's."""
    for seed, (shape, temperature) in enumerate((((9, 10), 4.0), ((1, 3), 1.0), ((25, 4), 0.8))):
        z, v = 2 * normal(*shape, seed=100 + seed), 2 * normal(*shape, seed=110 + seed)
        labels = torch.arange(shape[0]).mul(3).remainder(shape[1])
        target, others = expect_two(student.decoupled_kl(z, v, labels, temperature), shape[0])
        p, q = probabilities(v, temperature), probabilities(z, temperature)
        rows = torch.arange(shape[0])
        a, b = p[rows, labels], q[rows, labels]
        wanted = a * (a / b).log() + (1 - a) * ((1 - a) / (1 - b)).log()
        expect_close(target, wanted, "target", rtol=1e-3, atol=1e-5)
        p, q = (each.scatter(1, labels[:, None], 0.0) for each in (p, q))
        p, q = p / p.sum(1, keepdim=True), q / q.sum(1, keepdim=True)
        wanted = torch.where(p > 0, p * (p / q).log(), 0.0).sum(1)
        expect_close(others, wanted, "others", rtol=1e-3, atol=1e-5)


def test_the_labels_logit_does_not_touch_the_others(student):
    """However high the teacher's logit of the label, the second part stays as it is."""
    z, v, labels = normal(3, 5, seed=84), normal(3, 5, seed=85), torch.tensor([4, 0, 2])
    louder = v.clone()
    louder[torch.arange(3), labels] += 6.0
    (first, before), (second, after) = (
        expect_two(student.decoupled_kl(z, each, labels, 2.0), 3) for each in (v, louder)
    )
    expect_close(after, before, "others with a louder label", rtol=1e-3, atol=1e-5)
    expect(
        bool((first - second).abs().max() > 1e-3),
        "the largest change of target",
        (first - second).abs().max(),
        "above 0",
    )


@worth(3)
def test_many_steps_end_at_the_same_weights(student):
    """After six steps the student's weights and batch norms are those of gradient descent, and it is in eval mode."""
    taught, wanted = expect_same_log(student, some_batches(6, size=20, seed=22), lr=0.2, seed=5)
    found = student.make("teaching.condition", taught)
    expect(not any(found["training"]), "whether the student is in training mode", True, False)
    for name, tensor in wanted.state_dict().items():
        expect_close(found["state"][name], tensor, f"the student's {name}", rtol=1e-3, atol=1e-5)


def _tests(*functions):
    return tuple(as_test(function, public=False) for function in functions)


HIDDEN = {
    "soften": _tests(test_softened_logits_of_any_batch),
    "distillation_kl": _tests(test_divergence_of_any_batch),
    "kd_loss": _tests(test_loss_of_any_batch, test_doubling_the_batch_changes_no_part),
    "kd_gradient": _tests(test_gradient_of_any_batch, test_hot_students_match_logits),
    "smooth_targets": _tests(test_smoothing_of_any_size),
    "decoupled_kl": _tests(test_decoupled_of_any_batch, test_the_labels_logit_does_not_touch_the_others),
    "distill_epoch": _tests(test_many_steps_end_at_the_same_weights),
}
