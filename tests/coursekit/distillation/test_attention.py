"""Attention maps and their loss against the paper's formula, written out."""

import math

import pytest
import torch

from coursekit import data, zoo
from coursekit.distillation.attention import AttentionTransfer, attention_loss, attention_map, pair_layers
from coursekit.distillation.hooks import capture_features, feature_shapes
from coursekit.distillation.objective import Batch
from coursekit.models import ResNet

STAGES = ("stage1", "stage2", "stage3")


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def spec(features):
    """The map of equations 1 and 2, number by number."""
    rows = []
    for image in features.tolist():
        n_rows, n_columns = len(image[0]), len(image[0][0])
        energy = [
            sum(channel[y][x] ** 2 for channel in image) for y in range(n_rows) for x in range(n_columns)
        ]
        length = math.sqrt(sum(value**2 for value in energy))
        rows.append([value / length for value in energy])
    return torch.tensor(rows, dtype=torch.float64)


@pytest.fixture(scope="module")
def real():
    """Features of the teacher and of an untrained student on 6 real images."""
    images = data.fashion_mnist("test", subset=True).images[:6]
    torch.manual_seed(0)
    with torch.no_grad():
        return [
            capture_features(network.eval(), images, STAGES)
            for network in (ResNet(1, 4), zoo.load("resnet20"))
        ]


@pytest.mark.parametrize("stage", STAGES)
def test_the_map_equals_the_formula(real, stage):
    for features in real:
        assert (attention_map(features[stage]).double() - spec(features[stage])).abs().max() < 1e-6


@pytest.mark.parametrize("stage", STAGES)
def test_the_loss_is_the_norm_of_the_difference(real, stage):
    student, teacher = (features[stage] for features in real)
    expected = (spec(student) - spec(teacher)).square().sum(1).sqrt().mean().item()
    assert attention_loss(student, teacher).item() == pytest.approx(expected, abs=1e-6)


def test_the_map_does_not_know_the_scale_sign_or_order_of_the_channels(real):
    x = real[1]["stage2"]
    order = torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(0))
    for same in (1000 * x, 1e-3 * x, -x, x[:, order]):
        assert torch.allclose(attention_map(same), attention_map(x), atol=1e-6)
    each = x * torch.tensor([0.1, 1, 2, 3, 40, 500]).reshape(-1, 1, 1, 1)
    assert torch.allclose(attention_map(each), attention_map(x), atol=1e-6)


def test_an_image_without_features_gives_zeros_and_a_finite_gradient():
    x = normal(3, 2, 4, 4)
    x[1] = 0
    x.requires_grad_()
    loss = attention_loss(x, normal(3, 5, 4, 4, seed=1)) + attention_loss(x, x)
    loss.backward()
    assert attention_map(x)[1].abs().max() == 0 and x.grad.isfinite().all()


@pytest.mark.parametrize("size", [(6, 6), (3, 3), (9, 9), (3, 9)], ids=str)
def test_gradients_are_right_whatever_the_sizes(size):
    s, t = normal(2, 2, 6, 6, dtype=torch.float64), normal(2, 3, *size, seed=1, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: attention_loss(s, t), (s.requires_grad_(),))


def test_maps_of_different_sizes_meet_at_the_smaller_one():
    large, small = normal(2, 3, 8, 6), normal(2, 4, 4, 3, seed=1)
    pooled = large.square().sum(1).reshape(2, 4, 2, 3, 2).mean((2, 4)).flatten(1)
    pooled = pooled / pooled.norm(dim=1, keepdim=True)
    expected = (pooled - attention_map(small)).norm(dim=1).mean()
    assert torch.allclose(attention_loss(large, small), expected, atol=1e-6)
    assert torch.allclose(attention_loss(small, large), expected, atol=1e-6)


def test_the_teacher_gets_no_gradient():
    t = normal(2, 3, 4, 4).requires_grad_()
    attention_loss(normal(2, 3, 4, 4, seed=1).requires_grad_(), t).backward()
    assert t.grad is None


def test_what_is_no_map_is_refused():
    for call in (
        lambda: attention_map(torch.zeros(2, 3)),
        lambda: attention_map(torch.zeros(2, 3, 4, 4), (5, 4)),
        lambda: attention_loss(torch.zeros(2, 3, 4, 4), torch.zeros(3, 3, 4, 4)),
        lambda: attention_loss(torch.zeros(2, 3), torch.zeros(2, 3)),
    ):
        with pytest.raises(ValueError, match=r"maps|larger"):
            call()


def test_the_objective_is_half_beta_times_the_sum(real):
    student, teacher = real
    objective = AttentionTransfer([(stage, stage) for stage in STAGES], beta=7.0)
    assert objective.student_layers == objective.teacher_layers == STAGES and not list(objective.parameters())
    parts = objective(Batch(torch.zeros(6), torch.zeros(6), torch.zeros(6, 10), None, student, teacher))
    expected = 3.5 * sum(attention_loss(student[stage], teacher[stage]) for stage in STAGES)
    assert list(parts) == ["attention"] and torch.allclose(parts["attention"], expected)
    with pytest.raises(ValueError, match="beta"):
        AttentionTransfer([("a", "b")], beta=0)


def test_pairs_are_the_last_layers_at_each_size():
    images = torch.zeros(1, 1, 28, 28)
    student, teacher = (
        feature_shapes(ResNet(1, 8).eval(), images),
        feature_shapes(zoo.load("resnet20"), images),
    )
    ends = [(name.split(".")[0], other.split(".")[0]) for name, other in pair_layers(student, teacher)]
    assert ends == [(stage, stage) for stage in STAGES]
    assert pair_layers({"a": (4, 8, 8), "b": (9,), "c": (2, 3, 3)}, {"x": (1, 3, 3), "y": (1, 9, 9)}) == [
        ("c", "x")
    ]
    # a later layer of an earlier size decides, as in a network that scales up again
    up = {"a": (1, 8, 8), "b": (1, 4, 4), "c": (1, 8, 8)}
    assert pair_layers(up, {"x": (1, 8, 8), "y": (1, 4, 4)}) == [("b", "y"), ("c", "x")]
    assert pair_layers({}, up) == []
