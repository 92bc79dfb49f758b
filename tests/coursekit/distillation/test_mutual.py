"""Mutual learning: gradients of separate graphs, no peer before another, nothing changed by a refused step."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coursekit.data import digits
from coursekit.distillation.mutual import learn_mutually, mutual_losses, mutual_step, peer_loss, train_peers
from coursekit.train import Recipe, fit


def net(hidden, seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def three_peers():
    return [net(8, 0), net(12, 1), net(5, 2)]


@pytest.fixture(scope="module")
def train():
    return digits("train").take(160)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("n_others", [1, 3])
def test_loss_equals_numpy(temperature, n_others):
    rng = np.random.default_rng(0)
    own, labels = rng.normal(size=(6, 4)), rng.integers(0, 4, 6)
    others = [rng.normal(size=(6, 4)) * 3 for _ in range(n_others)]

    def softmax(z):
        return np.exp(z) / np.exp(z).sum(1, keepdims=True)

    p = softmax(own / temperature)
    apart = [(softmax(z / temperature) * np.log(softmax(z / temperature) / p)).sum(1).mean() for z in others]
    expected = -np.log(softmax(own)[np.arange(6), labels]).mean() + temperature**2 * np.mean(apart)
    got = peer_loss(
        torch.from_numpy(own), [torch.from_numpy(z) for z in others], torch.from_numpy(labels), temperature
    )
    assert got.item() == pytest.approx(expected, abs=1e-12)


def test_gradient_of_the_loss_is_right_and_none_reaches_the_others():
    own, other = torch.randn(2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3, 0])
    own.requires_grad_(), other.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: peer_loss(x, [other.detach()], labels, 2.0), own)
    peer_loss(own, [other], labels).backward()
    assert own.grad is not None and other.grad is None


def test_gradients_equal_those_of_separate_graphs(train):
    """One step of SGD with learning rate 1 is the gradient. The other way: targets as numbers, one peer at a time."""
    peers = three_peers()
    lone = copy.deepcopy(peers)
    images, labels = train.images[:40], train.labels[:40]
    mutual_step(peers, [torch.optim.SGD(p.parameters(), 1.0) for p in peers], images, labels, temperature=2.0)
    with torch.no_grad():
        targets = [(p(images) / 2.0).softmax(1) for p in lone]
    for i, (alone, together) in enumerate(zip(lone, peers, strict=True)):
        z = alone(images)
        # KL differs from this cross-entropy by the targets' entropy, which has no gradient here.
        soft = sum(F.cross_entropy(z / 2.0, targets[j]) for j in range(3) if j != i) / 2
        loss = F.cross_entropy(z, labels) + 4.0 * soft
        gradients = torch.autograd.grad(loss, list(alone.parameters()))
        for gradient, before, after in zip(gradients, alone.parameters(), together.parameters(), strict=True):
            torch.testing.assert_close(before - after, gradient, atol=1e-6, rtol=1e-5)


def test_the_order_of_the_peers_does_not_matter(train):
    recipe = Recipe(epochs=2, batch_size=40, peak_lr=0.1, augment=True, max_shift=1)
    forwards, backwards = three_peers(), three_peers()
    first = learn_mutually(forwards, train, recipe, temperature=2.0)
    second = learn_mutually(backwards[::-1], train, recipe, temperature=2.0)[::-1]
    for a, b in zip(forwards, backwards, strict=True):
        for x, y in zip(a.parameters(), b.parameters(), strict=True):
            torch.testing.assert_close(
                x, y, atol=1e-6, rtol=1e-5
            )  # the mean over peers adds up in another order
    assert [h.loss for h in first] == [pytest.approx(h.loss, rel=1e-5) for h in second]


def test_mutual_losses_are_peer_losses_of_all_the_others():
    logits = list(torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(3)))
    labels = torch.tensor([0, 1, 2, 3])
    got = mutual_losses(logits, labels, 2.0)
    assert torch.equal(got[1], peer_loss(logits[1], [logits[0], logits[2]], labels, 2.0))


def test_training_repeats_by_seed_learns_and_leaves_eval_mode(train):
    recipe = Recipe(epochs=12, batch_size=32, peak_lr=0.1)
    runs = []
    for _ in range(2):
        peers = [net(16, 0), net(16, 1)]
        histories = learn_mutually(peers, train, recipe, validation=train)
        assert not any(p.training for p in peers)
        runs.append(peers)
    assert all(h.accuracy[-1] > 0.8 and h.loss[-1] < h.loss[0] for h in histories)
    for a, b in zip(*runs, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_peers_that_say_the_same_train_as_if_alone(train):
    """Twins never disagree, so their divergence and its gradient are 0: the same weights as train.fit alone."""
    recipe = Recipe(epochs=2, batch_size=32, peak_lr=0.1, augment=True, max_shift=1)
    twins, alone = [net(8, 0), net(8, 0)], net(8, 0)
    learn_mutually(twins, train, recipe)
    fit(alone, train, recipe, progress=False)
    for twin in twins:
        for x, y in zip(twin.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-4)


def test_plain_training_moves_every_peer_and_reports_losses_from_before_the_step(train):
    peers = three_peers()
    with torch.no_grad():
        logits = [p(train.images[:20]) for p in peers]
        expected = [loss.item() for loss in mutual_losses(logits, train.labels[:20])]
    before = [[p.clone() for p in peer.parameters()] for peer in peers]
    history = train_peers(peers, [(train.images[:20], train.labels[:20])], 0.1)
    assert history == [pytest.approx(expected, rel=1e-6)]
    for peer, old in zip(peers, before, strict=True):
        assert not any(torch.equal(x, y) for x, y in zip(peer.parameters(), old, strict=True))


def test_a_loss_that_is_no_number_stops_the_step_before_any_weight_changes(train):
    peers = three_peers()
    with torch.no_grad():
        peers[2][1].weight.fill_(float("inf"))
    before = [p.clone() for p in peers[0].parameters()]
    with pytest.raises(FloatingPointError, match="learning rate"):
        mutual_step(
            peers, [torch.optim.SGD(p.parameters(), 1.0) for p in peers], train.images[:8], train.labels[:8]
        )
    assert all(torch.equal(x, y) for x, y in zip(peers[0].parameters(), before, strict=True))


def test_what_cannot_be_mutual_is_refused(train):
    one = net(4, 0)
    with pytest.raises(ValueError, match="two or more"):
        learn_mutually([one], train, Recipe(epochs=1))
    with pytest.raises(ValueError, match="two or more"):
        learn_mutually([one, one], train, Recipe(epochs=1))
    with pytest.raises(ValueError, match="label_smoothing"):
        learn_mutually([one, net(4, 1)], train, Recipe(epochs=1, label_smoothing=0.1))
    with pytest.raises(ValueError, match="at least one other"):
        peer_loss(torch.zeros(1, 2), [], torch.tensor([0]))
    with pytest.raises(ValueError, match="temperature"):
        peer_loss(torch.zeros(1, 2), [torch.zeros(1, 2)], torch.tensor([0]), 0.0)
    with pytest.raises(ValueError, match="optimizers"):
        mutual_step([one, net(4, 1)], [], train.images[:2], train.labels[:2])
