"""Hint losses against a slow spec; the adapter is outside the student, and nothing touches the teacher."""

import copy

import pytest
import torch
from torch import nn

from coursekit import data, zoo
from coursekit.distillation.hints import Hints, check_pairs, hint_loss, hint_stage, match_size
from coursekit.distillation.hooks import capture
from coursekit.distillation.objective import Batch
from coursekit.models import ResNet


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def spec(student, teacher, weight, bias):
    """The mean over all elements, one position at a time, halved."""
    n, c_t, height, width = teacher.shape
    total = 0.0
    for i in range(n):
        for y in range(height):
            for x in range(width):
                predicted = weight.reshape(c_t, -1) @ student[i, :, y, x] + bias
                total += (predicted - teacher[i, :, y, x]).square().sum().item()
    return total / teacher.numel() / 2


@pytest.fixture(scope="module")
def images():
    return data.fashion_mnist("train", subset=True).images[:32]


def test_hint_loss_equals_a_slow_spec():
    s, t = normal(3, 4, 5, 6).double(), normal(3, 7, 5, 6, seed=1).double()
    weight, bias = normal(7, 4, 1, 1, seed=2).double(), normal(7, seed=3).double()
    assert hint_loss(s, t, weight, bias).item() == pytest.approx(spec(s, t, weight, bias), rel=1e-6)
    assert hint_loss(s, t, weight[:, :, 0, 0], bias) == hint_loss(s, t, weight, bias)
    without = spec(s, t, weight, torch.zeros(7).double())
    assert hint_loss(s, t, weight).item() == pytest.approx(without, rel=1e-6)


def test_hint_loss_of_vectors_is_that_of_maps_of_one_pixel():
    s, t, weight = normal(6, 3), normal(6, 5, seed=1), normal(5, 3, seed=2)
    maps = hint_loss(s[:, :, None, None], t[:, :, None, None], weight)
    assert torch.allclose(hint_loss(s, t, weight), maps, rtol=1e-6)


@pytest.mark.parametrize("size", [(4, 4), (9, 9), (3, 11)], ids=str)
def test_gradients_are_right_whatever_the_sizes(size):
    s, weight = normal(2, 2, 6, 6, dtype=torch.float64), normal(3, 2, 1, 1, seed=1, dtype=torch.float64)
    t = normal(2, 3, *size, seed=2, dtype=torch.float64)
    inputs = (s.requires_grad_(), weight.requires_grad_())
    assert torch.autograd.gradcheck(lambda s, w: hint_loss(s, t, w), inputs)


def test_the_teacher_gets_no_gradient():
    t = normal(2, 3, 4, 4).requires_grad_()
    hint_loss(normal(2, 3, 4, 4, seed=1).requires_grad_(), t, torch.eye(3)).backward()
    assert t.grad is None


def test_smaller_sizes_are_means_over_equal_areas():
    x = normal(2, 3, 6, 4)
    areas = [x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] for i in range(3) for j in range(2)]
    expected = torch.stack([area.mean((2, 3)) for area in areas])
    got = match_size(x, (3, 2)).flatten(2).permute(2, 0, 1)
    assert torch.allclose(got, expected, atol=1e-6)


def test_larger_sizes_keep_a_ramp_a_ramp_and_the_mean_its_mean():
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    stretched = match_size(ramp, (8, 8))
    assert torch.allclose(stretched[0, 0, :, 1:-1].diff(dim=1), torch.full((8, 5), 0.5))
    assert torch.allclose(stretched.mean(), ramp.mean())
    assert match_size(ramp, (2, 8)).shape == (1, 1, 2, 8)
    assert match_size(ramp, (4, 4)) is ramp


@pytest.mark.parametrize(
    "s, t, weight",
    [
        ((2, 3, 4, 4), (2, 5), (5, 3)),
        ((2, 3), (3, 5), (5, 3)),
        ((2, 3), (2, 5), (3, 5)),
        ((2, 3), (2, 5), (5, 3, 3, 3)),
    ],
    ids=["maps_and_vectors", "batches", "transposed", "kernel_of_3"],
)
def test_what_does_not_fit_is_refused(s, t, weight):
    with pytest.raises(ValueError, match=r"need two of|does not map"):
        hint_loss(torch.zeros(s), torch.zeros(t), torch.zeros(weight))
    with pytest.raises(ValueError, match="sides of at least 1"):
        match_size(torch.zeros(2, 3), (1, 1))


def test_stage_one_is_gradient_descent_by_hand():
    torch.manual_seed(0)
    guided, hint, regressor = nn.Linear(3, 2), nn.Linear(3, 4), nn.Linear(2, 4)
    x, by_hand = normal(5, 3), copy.deepcopy((guided, regressor))
    losses = hint_stage(guided, hint, regressor, x, 3, 0.1)
    for expected in losses:
        loss = (by_hand[1](by_hand[0](x)) - hint(x).detach()).square().sum() / (2 * 5 * 4)
        assert loss.item() == pytest.approx(expected, rel=1e-5)
        parameters = [p for part in by_hand for p in part.parameters()]
        with torch.no_grad():
            for p, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                p -= 0.1 * gradient
    assert torch.allclose(by_hand[0].weight, guided.weight, atol=1e-6)


def test_stage_one_leaves_the_teacher_as_it_was_and_restores_modes(images):
    teacher, student = zoo.load("resnet20"), ResNet(1, 4)
    hint = nn.Sequential(teacher.conv1, teacher.bn1, teacher.relu, teacher.stage1).train()
    guided = nn.Sequential(student.conv1, student.bn1, student.relu, student.stage1).eval()
    before = copy.deepcopy(hint.state_dict())
    losses = hint_stage(guided, hint, nn.Conv2d(4, 16, 1), images, 4, 0.2)
    assert losses[-1] < losses[0]
    assert all(torch.equal(before[key], value) for key, value in hint.state_dict().items())
    assert all(p.grad is None for p in hint.parameters()) and hint.training and not guided.training


def test_the_objective_adds_its_pairs_and_keeps_adapters_out_of_the_student(images):
    teacher, student = zoo.load("resnet20"), ResNet(1, 4)
    names = set(student.state_dict())
    hints = Hints({"stage2": "stage2", "stage1": "stage3"}, [(8, 32), (4, 64)], weight=0.3)
    assert (hints.student_layers, hints.teacher_layers) == (("stage2", "stage1"), ("stage2", "stage3"))
    with torch.no_grad(), capture(teacher, hints.teacher_layers) as t:
        teacher(images)
    with capture(student, hints.student_layers) as s:
        logits = student(images)
    parts = hints(Batch(images, torch.zeros(32, dtype=torch.long), logits, None, s, t))
    first, second = hints.adapters
    expected = hint_loss(s["stage2"], t["stage2"], first.weight, first.bias)
    expected = expected + hint_loss(s["stage1"], t["stage3"], second.weight, second.bias)
    assert torch.allclose(parts["hint"], 0.3 * expected, rtol=1e-6)
    parts["hint"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in hints.parameters())
    assert set(student.state_dict()) == names and student.stage2[0].conv1.weight.grad is not None


def test_the_adapters_first_weights_come_from_the_seed_alone():
    torch.manual_seed(5)
    first, state = Hints([("a", "b")], [(2, 3)]), torch.get_rng_state()
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first.adapters[0].weight, Hints([("a", "b")], [(2, 3)]).adapters[0].weight)
    assert not torch.equal(first.adapters[0].weight, Hints([("a", "b")], [(2, 3)], seed=1).adapters[0].weight)


def test_pairs_that_make_no_sense_are_refused():
    for pairs in ([], [("a", "b"), ("a", "b")], [("a", "b", "c")]):
        with pytest.raises(ValueError, match="each pair once"):
            check_pairs(pairs)
    for channels, weight in (([], 1.0), ([(1, 1)], 0.0)):
        with pytest.raises(ValueError, match="a weight above 0"):
            Hints([("a", "b")], channels, weight)
