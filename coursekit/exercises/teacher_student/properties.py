"""The public tests of lesson 08. Each states a property and checks it by definition, not against the reference."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from coursekit.exercises.expect import expect, expect_close, expect_float, expect_tensor
from coursekit.exercises.inputs import normal
from coursekit.exercises.spec import Test, TestFunction, as_test, worth
from coursekit.exercises.teacher_student.mistakes_epoch import some_batches
from coursekit.fixtures import make

__all__ = [
    "PUBLIC",
    "expect_parts",
    "expect_same_log",
    "expect_scalar",
    "expect_two",
    "kl_by_hand",
    "probabilities",
]


def probabilities(logits: Tensor, temperature: float) -> Tensor:
    """By the definition of the softmax, in float64."""
    z = logits.double() / temperature
    e = (z - z.amax(1, keepdim=True)).exp()
    return e / e.sum(1, keepdim=True)


def kl_by_hand(student: Tensor, teacher: Tensor, temperature: float) -> list[float]:
    """KL(teacher ‖ student) of each image, in a loop."""
    rows = zip(
        probabilities(student, temperature).tolist(),
        probabilities(teacher, temperature).tolist(),
        strict=True,
    )
    return [sum(p * math.log(p / q) for q, p in zip(*row, strict=True) if p > 0) for row in rows]


def cross_entropy_by_hand(student: Tensor, labels: Tensor) -> float:
    """The mean of -log of the label's probability."""
    q = probabilities(student, 1.0)
    return -sum(math.log(q[i, label]) for i, label in enumerate(labels.tolist())) / len(labels)


def expect_scalar(value: Any, name: str) -> float:
    """The number in the value, if it is a tensor of one number without dimensions."""
    expect(
        isinstance(value, Tensor),
        f"{name} is not a tensor: nothing can be learned from it",
        value,
        "a tensor",
    )
    expect(value.dim() == 0, f"{name} should be one number", value, "a tensor of shape ()")
    return expect_float(value.item(), name)


def expect_parts(value: Any) -> tuple[float, float]:
    """The parts, if they are a dict of two scalars "hard" and "soft"."""
    expect(isinstance(value, dict), "the result is not a dict", value, 'a dict with "hard" and "soft"')
    expect(set(value) == {"hard", "soft"}, "the names of the parts", sorted(map(str, value)), "hard, soft")
    return expect_scalar(value["hard"], "hard"), expect_scalar(value["soft"], "soft")


@worth(2)
def test_a_logit_more_is_a_factor(student):
    """A class whose logit is larger by d has exp(d/T) times the probability."""
    logits = torch.tensor([[1.0, 3.0, 0.0], [2.0, 2.0, -2.0]])
    for temperature in (1.0, 2.0, 8.0):
        got = expect_tensor(student.soften(logits, temperature), torch.float32, (2, 3))
        for image, (a, b) in ((0, (1, 0)), (0, (0, 2)), (1, (0, 1)), (1, (1, 2))):
            wanted = math.exp((logits[image, a] - logits[image, b]).item() / temperature)
            expect_close(got[image, a] / got[image, b], wanted, f"ratio of two classes at T = {temperature}")
        expect_close(got.sum(1), torch.ones(2), f"sums of the rows at T = {temperature}")


def test_large_logits_do_not_overflow(student):
    """Logits of 1,000 give probabilities, not NaN."""
    got = expect_tensor(student.soften(torch.tensor([[1000.0, 998.0]]), 2.0), torch.float32, (1, 2))
    expect_close(got, torch.tensor([[1 / (1 + math.exp(-1)), 1 / (1 + math.e)]]), "probabilities", rtol=1e-4)


@worth(2)
def test_divergence_by_hand(student):
    """It is T² times the mean of sum p log(p/q), worked out for a few images."""
    for shape, temperature in (((4, 3), 1.0), ((4, 3), 3.0), ((2, 6), 5.0)):
        z, v = 2 * normal(*shape, seed=11), 3 * normal(*shape, seed=12)
        wanted = temperature**2 * sum(kl_by_hand(z, v, temperature)) / shape[0]
        got = expect_scalar(student.distillation_kl(z, v, temperature), "the result")
        expect_close(
            got,
            wanted,
            f"divergence of {shape[0]} images, {shape[1]} classes at T = {temperature}",
            rtol=1e-4,
        )


def test_a_perfect_student_has_nothing_to_learn(student):
    """It is 0 where the probabilities agree, even if the logits differ by a constant."""
    teacher = 3 * normal(5, 4, seed=13)
    for temperature in (1.0, 4.0):
        got = expect_scalar(student.distillation_kl(teacher + 2.0, teacher, temperature), "the result")
        expect_close(got, 0.0, f"divergence at T = {temperature}", atol=1e-4)


def test_heat_does_not_cool_the_loss(student):
    """For large T it approaches half the variance of the logits' difference, and not 0."""
    z, v = normal(3, 5, seed=14), normal(3, 5, seed=15)
    wanted = ((v - z).double().var(1, unbiased=False) / 2).mean().item()
    got = expect_scalar(student.distillation_kl(z, v, 200.0), "the result")
    expect_close(got, wanted, "divergence at T = 200", rtol=0.05)


def loss_inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Logits of student and teacher for four images, and labels, one of which the teacher gets wrong."""
    teacher = torch.tensor([[4.0, 1.0, -1.0], [0.5, 3.0, 0.0], [1.0, 2.0, 1.5], [-2.0, 0.0, 5.0]])
    return 2 * normal(4, 3, seed=16), teacher, torch.tensor([0, 1, 2, 2])


@worth(2)
def test_hard_part(student):
    """hard is 1 - alpha times the cross-entropy with the labels, at temperature 1."""
    z, v, labels = loss_inputs()
    for temperature, alpha in ((4.0, 0.7), (2.0, 0.25)):
        hard, _ = expect_parts(student.kd_loss(z, v, labels, temperature, alpha))
        wanted = (1 - alpha) * cross_entropy_by_hand(z, labels)
        expect_close(hard, wanted, f"hard at T = {temperature}, alpha = {alpha}", rtol=1e-4)


@worth(2)
def test_soft_part(student):
    """soft is alpha times T² times the mean divergence at temperature T."""
    z, v, labels = loss_inputs()
    for temperature, alpha in ((4.0, 0.7), (2.0, 0.25)):
        _, soft = expect_parts(student.kd_loss(z, v, labels, temperature, alpha))
        wanted = alpha * temperature**2 * sum(kl_by_hand(z, v, temperature)) / 4
        expect_close(soft, wanted, f"soft at T = {temperature}, alpha = {alpha}", rtol=1e-4)


def test_alpha_says_who_is_listened_to(student):
    """With alpha 1 the hard part is 0, with alpha 0 the soft part."""
    z, v, labels = loss_inputs()
    hard, soft = expect_parts(student.kd_loss(z, v, labels, 3.0, 1.0))
    expect(hard == 0 and soft > 0, "the parts at alpha = 1", (hard, soft), "0 and more than 0")
    hard, soft = expect_parts(student.kd_loss(z, v, labels, 3.0, 0.0))
    expect(soft == 0 and hard > 0, "the parts at alpha = 0", (hard, soft), "more than 0, and 0")


def loss_by_hand(z: Tensor, v: Tensor, labels: Tensor, temperature: float, alpha: float) -> float:
    """The whole loss, in float64."""
    soft = sum(kl_by_hand(z, v, temperature)) / len(z)
    return (1 - alpha) * cross_entropy_by_hand(z, labels) + alpha * temperature**2 * soft


@worth(2)
def test_gradient_is_the_slope(student):
    """A logit moved a little changes the loss by the gradient times that: finite differences in float64."""
    z, v, labels = loss_inputs()
    for temperature, alpha in ((1.0, 0.5), (4.0, 0.8)):
        got = expect_tensor(student.kd_gradient(z, v, labels, temperature, alpha), torch.float32, (4, 3))
        slopes = torch.zeros(4, 3, dtype=torch.float64)
        for i in range(4):
            for k in range(3):
                move = torch.zeros(4, 3, dtype=torch.float64)
                move[i, k] = 1e-5
                up, down = (
                    loss_by_hand(z.double() + s * move, v, labels, temperature, alpha) for s in (1, -1)
                )
                slopes[i, k] = (up - down) / 2e-5
        expect_close(got, slopes, f"gradient at T = {temperature}, alpha = {alpha}", rtol=1e-3, atol=1e-6)


def test_gradient_moves_no_constant(student):
    """Each row adds up to 0 (a constant on all logits changes no probability), and none is all 0."""
    z, v, labels = loss_inputs()
    got = expect_tensor(student.kd_gradient(z, v, labels, 3.0, 0.6), torch.float32, (4, 3))
    expect_close(got.sum(1), torch.zeros(4), "sums of the rows", atol=1e-5)
    expect(
        bool((got.abs().amax(1) > 1e-4).all()), "the largest values of the rows", got.abs().amax(1), "above 0"
    )


@worth(2)
def test_smoothing_by_hand(student):
    """Of two classes and 0.2: 0.9 on the label. Of five and 0.5: 0.6, and 0.1 on the others."""
    for labels, k, smoothing, on, off in (([0, 1, 1], 2, 0.2, 0.9, 0.1), ([4, 0], 5, 0.5, 0.6, 0.1)):
        got = student.smooth_targets(torch.tensor(labels), k, smoothing)
        got = expect_tensor(got, torch.float32, (len(labels), k))
        wanted = torch.tensor([[on if c == label else off for c in range(k)] for label in labels])
        expect_close(got, wanted, f"targets of {k} classes, smoothing {smoothing}")


def test_smoothed_rows_are_probabilities(student):
    """Each row adds up to 1, and the label keeps the largest share."""
    labels = torch.tensor([3, 0, 2, 2, 1])
    got = expect_tensor(student.smooth_targets(labels, 4, 0.3), torch.float32, (5, 4))
    expect_close(got.sum(1), torch.ones(5), "sums of the rows")
    expect(bool((got.argmax(1) == labels).all()), "the classes of the largest shares", got.argmax(1), labels)


def expect_two(value: Any, n: int) -> tuple[Tensor, Tensor]:
    """The two parts, if they are two tensors of n values."""
    pair = isinstance(value, tuple | list) and len(value) == 2
    expect(pair, "the result is not two tensors", value, "(target, others)")
    first, second = (expect_tensor(part, torch.float32, (n,)) for part in value)
    return first, second


@worth(2)
def test_decoupled_by_hand(student):
    """Label against the rest, and the rest among themselves, image by image."""
    z, v, labels = loss_inputs()
    for temperature in (1.0, 3.0):
        target, others = expect_two(student.decoupled_kl(z, v, labels, temperature), 4)
        p, q = probabilities(v, temperature).tolist(), probabilities(z, temperature).tolist()
        for i, y in enumerate(labels.tolist()):
            a, b = p[i][y], q[i][y]
            wanted = a * math.log(a / b) + (1 - a) * math.log((1 - a) / (1 - b))
            expect_close(target[i], wanted, f"target of image {i} at T = {temperature}", rtol=1e-3, atol=1e-5)
            shares = [(p[i][k] / (1 - a), q[i][k] / (1 - b)) for k in range(3) if k != y]
            wanted = sum(s * math.log(s / r) for s, r in shares)
            expect_close(others[i], wanted, f"others of image {i} at T = {temperature}", rtol=1e-3, atol=1e-5)


def test_the_parts_make_the_whole(student):
    """target + (1 - p) · others is the whole divergence, p being the teacher's probability of the label."""
    z, v, labels = 2 * normal(6, 5, seed=17), 2 * normal(6, 5, seed=18), torch.tensor([0, 4, 2, 1, 3, 3])
    target, others = expect_two(student.decoupled_kl(z, v, labels, 2.0), 6)
    p = probabilities(v, 2.0)[torch.arange(6), labels]
    whole = torch.tensor(kl_by_hand(z, v, 2.0), dtype=torch.float64)
    expect_close(target + (1 - p) * others, whole, "target + (1 - p) others", rtol=1e-3, atol=1e-5)


def scene(student: Any, seed: int = 1) -> tuple[Any, Any, Any]:
    """A network to teach, left in eval mode, a teacher, left in training mode, and a loss."""
    return (
        student.make("teaching.network", seed, False),
        student.make("teaching.network", seed + 1, True),
        student.make("teaching.loss", 2.0, 0.5),
    )


def expect_log(value: Any, steps: int) -> list[dict[str, float]]:
    """The log, if it is a list of `steps` dicts of the floats "labels" and "teacher"."""
    expect(isinstance(value, list | tuple), "the result is not a list", value, "a list of dicts")
    expect(len(value) == steps, f"entries for {steps} batches", len(value), steps)
    for parts in value:
        expect(isinstance(parts, dict), "an entry is not a dict of parts", parts, "a dict")
        expect(set(parts) == {"labels", "teacher"}, "the parts", sorted(map(str, parts)), "labels, teacher")
        for name, part in parts.items():
            expect_float(part, name)
    return [*value]


class Replay:
    """The teacher's answers and the student's weights by step, worked out here with fixtures of our own."""

    def __init__(self, seed: int, lr: float) -> None:
        self.lr = lr
        self.taught = make("teaching.network", seed, False).train()
        self.teacher = make("teaching.network", seed + 1, True).eval()
        self.loss = make("teaching.loss", 2.0, 0.5)

    @torch.enable_grad()
    def step(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        """The parts before a step of gradient descent, which is then taken."""
        weights = [*self.taught.parameters()]
        parts = self.loss(self.taught(images), self.teacher(images).detach(), labels)
        slopes = torch.autograd.grad(parts["labels"] + parts["teacher"], weights)
        with torch.no_grad():
            for weight, slope in zip(weights, slopes, strict=True):
                weight.sub_(self.lr * slope)
        return {name: part.item() for name, part in parts.items()}


def expect_same_log(student: Any, batches: list[Any], lr: float, seed: int = 1) -> tuple[Any, Any]:
    """Raises unless the log equals that of the replay; returns the student's network and the replayed one."""
    taught, teacher, loss = scene(student, seed)
    log = expect_log(student.distill_epoch(taught, teacher, batches, loss, lr), len(batches))
    replay = Replay(seed, lr)
    for number, ((images, labels), parts) in enumerate(zip(batches, log, strict=True), start=1):
        for name, wanted in replay.step(images, labels).items():
            expect_close(parts[name], wanted, f"part {name!r} at step {number}", rtol=1e-3)
    return taught, replay.taught


@worth(2)
def test_the_next_step_sees_what_this_one_changed(student):
    """The parts of three steps are those of plain gradient descent on their sum."""
    expect_same_log(student, some_batches(3, seed=20), lr=0.3)


def test_the_teacher_is_left_as_it_was(student):
    """The teacher's weights, modes and requires_grad are what they were, and it has no gradients."""
    taught, teacher, loss = scene(student)
    before = student.make("teaching.condition", teacher)
    expect_log(student.distill_epoch(taught, teacher, some_batches(2, seed=21), loss, 0.1), 2)
    after = student.make("teaching.condition", teacher)
    expect(after["gradients"] == 0, "parameters of the teacher that have gradients", after["gradients"], 0)
    expect(
        after["trainable"] == before["trainable"], "the teacher's requires_grad", after["trainable"][0], True
    )
    expect(after["training"] == before["training"], "whether the teacher is in training mode", False, True)
    for name, tensor in before["state"].items():
        expect_close(after["state"][name], tensor, f"the teacher's {name}")


def _tests(*functions: TestFunction) -> tuple[Test, ...]:
    return tuple(as_test(function, public=True) for function in functions)


PUBLIC = {
    "soften": _tests(test_a_logit_more_is_a_factor, test_large_logits_do_not_overflow),
    "distillation_kl": _tests(
        test_divergence_by_hand, test_a_perfect_student_has_nothing_to_learn, test_heat_does_not_cool_the_loss
    ),
    "kd_loss": _tests(test_hard_part, test_soft_part, test_alpha_says_who_is_listened_to),
    "kd_gradient": _tests(test_gradient_is_the_slope, test_gradient_moves_no_constant),
    "smooth_targets": _tests(test_smoothing_by_hand, test_smoothed_rows_are_probabilities),
    "decoupled_kl": _tests(test_decoupled_by_hand, test_the_parts_make_the_whole),
    "distill_epoch": _tests(
        test_the_next_step_sees_what_this_one_changed, test_the_teacher_is_left_as_it_was
    ),
}
