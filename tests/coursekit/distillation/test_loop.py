"""distill: fit where there is no teacher, a teacher left as it was, parts that add up, the best weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from coursekit.data import Dataset, digits
from coursekit.distillation import StudentAlone, Weighted, distill
from coursekit.train import Recipe, evaluate, fit
from tests.coursekit.distillation.smallnets import Hint, Soft, images, large, small

QUICK = Recipe(epochs=2, batch_size=32, peak_lr=0.05)


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("augment", [False, True], ids=["plain", "augmented"])
@pytest.mark.parametrize("bfloat16", [False, True], ids=["float32", "bfloat16"])
def test_without_a_teacher_it_is_fit_bit_for_bit(augment, bfloat16):
    recipe = Recipe(epochs=2, batch_size=32, augment=augment, max_shift=1, bfloat16=bfloat16, seed=4)
    data, test = images(), digits("test").take(50)
    ours, theirs = small(), small()
    torch.manual_seed(1)
    history = distill(ours, None, data, StudentAlone(), recipe, test=test)
    torch.manual_seed(1)
    expected = fit(theirs, data, recipe, test=test, progress=False)
    assert same(ours, theirs)
    assert (history.loss, history.accuracy) == (expected.loss, expected.accuracy)


def test_smoothed_labels_in_the_objective_are_fit_with_smoothed_labels():
    ours, theirs = small(), small()
    torch.manual_seed(1)
    distill(ours, None, images(), StudentAlone(0.1), QUICK)
    torch.manual_seed(1)
    fit(theirs, images(), Recipe(epochs=2, batch_size=32, peak_lr=0.05, label_smoothing=0.1), progress=False)
    assert same(ours, theirs)


def test_the_parts_are_named_and_add_up_to_the_loss():
    both = Weighted({"soft": (0.5, Soft()), "hint": (2.0, Hint())})
    history = distill(small(), large(), images(), both, QUICK)
    assert list(history.parts) == ["soft/soft", "soft/hard", "hint/hint", "hint/labels"]
    for epoch, loss in enumerate(history.loss):
        # Sums of float32 parts: each is right to 6e-8 of itself.
        assert sum(values[epoch] for values in history.parts.values()) == pytest.approx(loss, rel=1e-6)


def test_a_weight_of_zero_changes_nothing():
    plain, weighted = small(), small()
    for student, objective in ((plain, StudentAlone()),
                               (weighted, Weighted({"a": (1.0, StudentAlone()), "b": (0.0, Soft())}))):  # fmt: skip
        torch.manual_seed(1)
        distill(student, large(), images(), objective, QUICK)
    for a, b in zip(plain.parameters(), weighted.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("augment", [False, True], ids=["plain", "augmented"])
def test_the_teacher_stays_as_it_was(augment):
    teacher = large(images()).train()  # a mode, a frozen part and gradients of its own, to be kept
    teacher[1].eval()
    teacher[0].weight.requires_grad_(False)
    before = copy.deepcopy(teacher)
    gradients = [p.grad.clone() for p in teacher.parameters()]
    recipe = Recipe(epochs=1, batch_size=32, augment=augment, max_shift=1)
    distill(small(), teacher, images(), Hint(), recipe)
    assert same(teacher, before)
    for a, b in zip(teacher.modules(), before.modules(), strict=True):
        assert a.training == b.training
        assert not a._forward_hooks and not a._forward_pre_hooks
    for a, b, gradient in zip(teacher.parameters(), before.parameters(), gradients, strict=True):
        assert a.requires_grad == b.requires_grad
        assert torch.equal(a.grad, gradient)


def test_an_interruption_leaves_no_hook_and_no_mode_behind():
    teacher, student = large().train(), small()

    def stop(step: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distill(student, teacher, images(), Hint(), QUICK, on_step=stop)
    assert all(module.training for module in teacher.modules())
    assert not any(m._forward_hooks for net in (teacher, student) for m in net.modules())


def test_adapters_learn_beside_the_student_and_stay_outside_it():
    hint, student = Hint(), small()
    first = hint.adapter[0].weight.detach().clone()
    names = list(student.state_dict())
    history = distill(student, large(images()), images(), hint, QUICK)
    assert not torch.equal(hint.adapter[0].weight, first)
    assert list(student.state_dict()) == names
    assert history.parts["hint"][1] < history.parts["hint"][0]


def test_the_weights_of_the_best_validation_epoch_are_kept():
    data = images(300)
    held_out = digits("test").take(60)
    student = small()
    history = distill(student, None, data, StudentAlone(), Recipe(epochs=6, batch_size=16, peak_lr=1.0, seed=2),
                      validation=held_out)  # fmt: skip
    assert history.best_epoch == 1 + history.validation.index(max(history.validation))
    assert evaluate(student, held_out) == max(history.validation)


def test_the_test_set_chooses_nothing():
    data, test = images(300), digits("test").take(60)
    measured, plain = small(), small()
    for student, given in ((measured, test), (plain, None)):
        torch.manual_seed(1)
        distill(student, None, data, StudentAlone(), Recipe(epochs=3, batch_size=16, peak_lr=1.0), test=given)
    assert same(measured, plain)


class NextDigit(nn.Module):
    """A teacher that is sure, of each image, that it shows the digit after the one it shows."""

    def __init__(self, right: nn.Module) -> None:
        super().__init__()
        self.right = right

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 5 * self.right(x).roll(1, dims=1)


@pytest.mark.parametrize("augment", [False, True], ids=["plain", "augmented"])
def test_the_student_learns_what_its_teacher_says_of_each_image(augment):
    data, test = digits("train"), digits("test")
    teacher, student = NextDigit(large(data)), small()
    recipe = Recipe(epochs=4, batch_size=64, peak_lr=0.05, augment=augment, max_shift=0)
    distill(student, teacher, data, Soft(1.0), recipe)
    after = Dataset(test.images, (test.labels + 1) % 10, test.classes, test.source)
    assert evaluate(student, after) > 0.8
    assert evaluate(student, test) < 0.1


def test_what_cannot_be_trained_is_refused_before_anything_changes():
    student, teacher, data = small(), large(), images()
    before = copy.deepcopy(student)
    sharing = nn.Sequential(student[0], nn.Flatten(), nn.Linear(36, 10))
    with pytest.raises(ValueError, match="share parameters"):
        distill(student, sharing, data, StudentAlone(), QUICK)
    with pytest.raises(ValueError, match="of a teacher"):
        distill(student, None, data, Hint(), QUICK)
    with pytest.raises(ValueError, match="nothing to train"):
        distill(student, teacher, data, StudentAlone(), Recipe(epochs=0))
    with pytest.raises(ValueError, match="smoothed by the objective"):
        distill(student, teacher, data, StudentAlone(), Recipe(label_smoothing=0.1))
    with pytest.raises(ValueError, match="at least 1 step"):
        distill(student, teacher, data, StudentAlone(), QUICK, checkpoint_every=0)
    hint = Hint()
    hint.student_layers = ("no such layer",)
    with pytest.raises(ValueError, match="no such layer"):
        distill(student, teacher, data, hint, QUICK)
    assert same(student, before) and student.training == before.training


def test_a_loss_that_is_not_finite_stops_the_run():
    broken = Weighted({"a": (1e38, StudentAlone()), "b": (1e38, Soft())})
    student = small()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(1e6)
    with pytest.raises(FloatingPointError, match="peak_lr"):
        distill(student, large(), images(), broken, QUICK)
