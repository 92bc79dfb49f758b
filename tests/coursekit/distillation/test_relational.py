"""Relations against loops over pairs and triples, and what they must not depend on."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from coursekit import data, zoo
from coursekit.distillation.hooks import capture_features
from coursekit.distillation.objective import Batch
from coursekit.distillation.relational import (
    Relational,
    relational_angle_loss,
    relational_angles,
    relational_distance_loss,
    relational_distances,
)


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def huber(x):
    return 0.5 * x**2 if abs(x) <= 1 else abs(x) - 0.5


def distance_spec(student, teacher):
    pairs = list(itertools.permutations(range(len(student)), 2))

    def relations(points):
        plain = {(i, j): (points[i] - points[j]).norm().item() for i, j in pairs}
        mean = sum(plain.values()) / len(pairs)
        return {pair: value / mean for pair, value in plain.items()}

    s, t = relations(student.double()), relations(teacher.double())
    return sum(huber(s[pair] - t[pair]) for pair in pairs) / len(pairs)


def angle_spec(student, teacher):
    def angle(points, i, j, k):
        return F.cosine_similarity(points[i] - points[j], points[k] - points[j], dim=0).item()

    triples = list(itertools.permutations(range(len(student)), 3))
    return sum(huber(angle(student.double(), *ijk) - angle(teacher.double(), *ijk)) for ijk in triples) / len(
        triples
    )


@pytest.fixture(scope="module")
def embeddings():
    """What two networks of the zoo think of 8 real images, before their last layer."""
    images = data.fashion_mnist("test", subset=True).images[:8]
    with torch.no_grad():
        teacher = capture_features(zoo.load("resnet20"), images, ["stage3"])["stage3"].mean((2, 3))
        student = capture_features(zoo.load("lenet300"), images, ["fc2"])["fc2"]
    return student, teacher


def test_the_losses_equal_loops_over_pairs_and_triples(embeddings):
    assert relational_distance_loss(*embeddings).item() == pytest.approx(distance_spec(*embeddings), abs=1e-6)
    assert relational_angle_loss(*embeddings).item() == pytest.approx(angle_spec(*embeddings), abs=1e-6)


def test_far_apart_both_branches_of_huber_are_taken():
    s = torch.tensor([[0.0], [1.0], [100.0], [101.0]])
    t = torch.tensor([[0.0], [100.0], [101.0], [1.0]])
    gaps = (relational_distances(s) - relational_distances(t)).abs()
    assert gaps.max() > 1 and 0 < gaps[gaps > 0].min() < 1
    assert relational_distance_loss(s, t).item() == pytest.approx(distance_spec(s, t), abs=1e-6)
    assert relational_angle_loss(s, t).item() == pytest.approx(angle_spec(s, t), abs=1e-6)


def test_relations_do_not_know_rotation_scale_or_shift(embeddings):
    x = embeddings[1].double()
    rotation = torch.linalg.qr(normal(x.shape[1], x.shape[1], dtype=torch.float64))[0]
    moved = 37.0 * x @ rotation + normal(x.shape[1], seed=1, dtype=torch.float64)
    assert torch.allclose(relational_distances(moved), relational_distances(x), atol=1e-10)
    assert torch.allclose(relational_angles(moved), relational_angles(x), atol=1e-10)
    assert relational_distance_loss(moved, x) < 1e-20 and relational_angle_loss(moved, x) < 1e-20


def test_the_mean_distance_is_one_and_the_diagonal_zero(embeddings):
    distances = relational_distances(embeddings[0])
    assert torch.equal(distances, distances.t()) and distances.diagonal().abs().max() == 0
    assert (distances.sum() / (8 * 7)).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("loss", [relational_distance_loss, relational_angle_loss])
def test_gradients_are_right_and_none_goes_to_the_teacher(loss):
    s, t = normal(5, 3, dtype=torch.float64), normal(5, 4, seed=1, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, t.detach()), (s.requires_grad_(),))
    loss(s, t).backward()
    assert t.grad is None


@pytest.mark.parametrize("loss", [relational_distance_loss, relational_angle_loss])
def test_equal_embeddings_give_finite_losses_and_gradients(loss):
    s = normal(4, 3)
    s[2] = s[0]
    for x in (s, torch.ones(4, 3)):
        x = x.clone().requires_grad_()
        value = loss(x, normal(4, 2, seed=1))
        value.backward()
        assert value.isfinite() and x.grad.isfinite().all()


def test_what_has_no_relations_is_refused():
    for call in (
        lambda: relational_distances(torch.zeros(1, 3)),
        lambda: relational_angles(torch.zeros(2, 3)),
        lambda: relational_distance_loss(torch.zeros(3, 3), torch.zeros(4, 3)),
        lambda: Relational("a", "b", 0, 0),
        lambda: Relational("a", "b", -1),
    ):
        with pytest.raises(ValueError, match=r"at least|same images|weights"):
            call()


def test_the_objective_weighs_both_and_averages_maps():
    s, t = normal(5, 3, 2, 2), normal(5, 4, seed=1)
    batch = Batch(torch.zeros(5), torch.zeros(5), torch.zeros(5, 10), None, {"s": s}, {"t": t})
    parts = Relational("s", "t", 2.0, 3.0)(batch)
    points = s.flatten(2).mean(2)
    assert torch.allclose(parts["distance"], 2 * relational_distance_loss(points, t))
    assert torch.allclose(parts["angle"], 3 * relational_angle_loss(points, t))
    assert list(Relational("s", "t", angle=0)(batch)) == ["distance"]
