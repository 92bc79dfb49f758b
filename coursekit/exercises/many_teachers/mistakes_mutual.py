"""Known mistakes of peers that teach each other. Each `wrong` makes one and no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.exercises.inputs import normal
from coursekit.exercises.many_teachers.properties import peer_batches
from coursekit.exercises.spec import Fixture, Mistake

__all__ = ["PEER_LOSS", "TRAIN_PEERS", "loss_probes", "training_probes"]

Args = tuple[Any, ...]


def loss_probes() -> list[Args]:
    """One and three others, at temperatures above and at 1."""
    own, labels = normal(5, 4) * 2, torch.tensor([3, 1, 0, 2, 2])
    others = [normal(5, 4, seed=s) * 3 for s in (1, 2, 3)]
    return [(own, others[:1], labels, 1.0), (own, others, labels, 1.0), (own, others, labels, 4.0)]


def _kl(p_log: Tensor, q_log: Tensor) -> Tensor:
    """KL(p ‖ q), a mean over the batch."""
    return (p_log.exp() * (p_log - q_log)).sum(1).mean()


def _loss(
    own: Tensor,
    others: Sequence[Tensor],
    labels: Tensor,
    t: float,
    *,
    apart: Callable[[Tensor, Tensor], Tensor] = lambda mine, theirs: _kl(theirs, mine),
    factor: float | None = None,
    labels_at: float = 1.0,
) -> Tensor:
    mine = (own / t).log_softmax(1)
    parts = [apart(mine, (z / t).log_softmax(1)) for z in others]
    return (
        F.cross_entropy(own / labels_at, labels)
        + (t * t if factor is None else factor) * torch.stack(parts).mean()
    )


def _one_target(own: Tensor, target_log: Tensor, labels: Tensor, t: float) -> Tensor:
    return F.cross_entropy(own, labels) + t * t * _kl(target_log, (own / t).log_softmax(1))


def _of_logits(own: Any, others: Any, labels: Any, temperature: float = 1.0) -> Tensor:
    return _one_target(own, (torch.stack(others).mean(0) / temperature).log_softmax(1), labels, temperature)


def _of_probabilities(own: Any, others: Any, labels: Any, temperature: float = 1.0) -> Tensor:
    mean = torch.stack([(z / temperature).softmax(1) for z in others]).mean(0)
    return _one_target(own, mean.log(), labels, temperature)


def _hot_target(own: Any, others: Any, labels: Any, temperature: float = 1.0) -> Tensor:
    mine = (own / temperature).log_softmax(1)
    parts = [_kl(z.log_softmax(1), mine) for z in others]
    return F.cross_entropy(own, labels) + temperature**2 * torch.stack(parts).mean()


PEER_LOSS = (
    Mistake("reversed", "Your divergence runs the wrong way round: KL(other ‖ own) weighs by what the other believes.",
            lambda own, others, labels, temperature=1.0: _loss(own, others, labels, temperature, apart=_kl)),
    Mistake("mean_of_logits", "You average the other peers' logits into one target: the one with the largest logits "
            "decides. Take a divergence from each, then their mean.", _of_logits),
    Mistake("mean_of_probabilities", "You average the peers first and take one divergence. Its gradient is the same, "
            "but it hides how far they disagree with each other. One divergence a peer is asked "
            "for.", _of_probabilities),
    Mistake("sum_over_peers", "You add the divergences up: with more peers the labels would count less and less. Mean.",
            lambda own, others, labels, temperature=1.0: _loss(
                own, others, labels, temperature, factor=temperature**2 * len(others))),
    Mistake("no_temperature_squared", "The factor T² is missing: without it the gradient of the divergence shrinks "
            "with T.",
            lambda own, others, labels, temperature=1.0: _loss(own, others, labels, temperature, factor=1.0)),
    Mistake("temperature_not_squared", "The factor is T² (lesson 08), not T.",
            lambda own, others, labels, temperature=1.0: _loss(own, others, labels, temperature, factor=temperature)),
    Mistake("mean_over_classes", "Your KL is a mean over all entries, so the number of classes divides it. Sum over "
            "the classes, mean over the images: reduction='batchmean'.",
            lambda own, others, labels, temperature=1.0: _loss(
                own, others, labels, temperature, factor=temperature**2 / own.shape[1])),
    Mistake("sum_over_images", "Your KL is a sum over the images; the cross-entropy is a mean. reduction='batchmean'.",
            lambda own, others, labels, temperature=1.0: _loss(
                own, others, labels, temperature, factor=temperature**2 * len(own))),
    Mistake("labels_softened", "The cross-entropy with the labels takes the logits as they are: T is for the soft "
            "part.",
            lambda own, others, labels, temperature=1.0: _loss(
                own, others, labels, temperature, labels_at=temperature)),
    Mistake("others_not_softened", "Only your own logits are divided by T. Both sides of the divergence are softened.",
            _hot_target),
    Mistake("no_labels", "The cross-entropy with the labels is missing: nothing would tell the peers what is right.",
            lambda own, others, labels, temperature=1.0:
                _loss(own, others, labels, temperature) - F.cross_entropy(own, labels)),
    Mistake("halves", "Each part is halved. In mutual learning both count in full.",
            lambda own, others, labels, temperature=1.0: _loss(own, others, labels, temperature) / 2),
    Mistake("soft_cross_entropy", "This is the cross-entropy with the soft targets: KL plus their entropy. For peers "
            "that agree it is not 0.",
            lambda own, others, labels, temperature=1.0: _loss(
                own, others, labels, temperature, apart=lambda mine, theirs: -(theirs.exp() * mine).sum(1).mean())),
    Mistake("probability_for_logarithm", "F.kl_div wants the logarithm of your probabilities first, and you give it "
            "the probabilities themselves.",
            lambda own, others, labels, temperature=1.0: _loss(
                own, others, labels, temperature,
                apart=lambda mine, theirs: F.kl_div(mine.exp(), theirs.exp(), reduction="batchmean"))),
    Mistake("first_peer_only", "Only the first of the other peers counts.",
            lambda own, others, labels, temperature=1.0: _loss(own, others[:1], labels, temperature)),
)  # fmt: skip


def training_probes() -> list[Args]:
    """Two and three peers over four steps."""
    return [
        (Fixture("mutual.linear_peers", (k, k)), peer_batches(4, k), 0.5, Fixture("mutual.agreement_loss"))
        for k in (2, 3)
    ]


def _train(
    peers: Any,
    batches: Any,
    lr: float,
    loss: Any,
    *,
    detach: bool = True,
    others_of: Callable[[int, int], list[int]] = lambda i, n: [*range(i), *range(i + 1, n)],
    zero: bool = True,
    trained: Callable[[int], bool] = lambda i: True,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.SGD,
    after: bool = False,
    divided: bool = False,
) -> list[list[float]]:
    """The loop, with one thing wrong."""
    optimizers = [optimizer(peer.parameters(), lr) for i, peer in enumerate(peers) if trained(i)]

    def losses_of(images: Tensor, labels: Tensor) -> list[Tensor]:
        logits = [peer(images) for peer in peers]
        targets = [z.detach() if detach else z for z in logits]
        n = len(peers)
        return [loss(logits[i], [targets[j] for j in others_of(i, n)], labels) for i in range(n)]

    history = []
    for images, labels in batches:
        losses = losses_of(images, labels)
        if zero:
            for each in optimizers:
                each.zero_grad()
        total = torch.stack(losses).sum() / (len(losses) if divided else 1)
        total.backward()
        for each in optimizers:
            each.step()
        if after:
            losses = losses_of(images, labels)
        history.append([one.item() for one in losses])
    return history


def _graph_used_twice(peers: Any, batches: Any, lr: float, loss: Any) -> list[list[float]]:
    images, labels = batches[0]
    logits = [peer(images) for peer in peers]
    for i in range(len(peers)):
        loss(logits[i], [z for j, z in enumerate(logits) if j != i], labels).backward()
    return []


def _one_after_another(peers: Any, batches: Any, lr: float, loss: Any) -> list[list[float]]:
    optimizers = [torch.optim.SGD(peer.parameters(), lr) for peer in peers]
    history = []
    for images, labels in batches:
        row = []
        for i, optimizer in enumerate(optimizers):
            logits = [peer(images) for peer in peers]
            own = loss(logits[i], [z.detach() for j, z in enumerate(logits) if j != i], labels)
            optimizer.zero_grad()
            own.backward()
            optimizer.step()
            row.append(own.item())
        history.append(row)
    return history


def _totals(peers: Any, batches: Any, lr: float, loss: Any) -> list[float]:
    return [sum(row) for row in _train(peers, batches, lr, loss)]


TRAIN_PEERS = (
    Mistake("graph_used_twice", "The second backward runs through a graph that the first has freed: the others' "
            "logits are not detached. (retain_graph=True would only hide it.)", _graph_used_twice),
    Mistake("not_detached", "A gradient flows into the targets too, so each peer is also pulled towards what makes "
            "the others' loss small. Detach what stands on the teachers' side.",
            lambda peers, batches, lr, loss: _train(peers, batches, lr, loss, detach=False)),
    Mistake("steps_between_losses", "The second peer learns from a first one that has already moved, so the order of "
            "the peers matters. All losses first, then all steps.", _one_after_another),
    Mistake("gradients_not_cleared", "Gradients add up from step to step: zero_grad is missing.",
            lambda peers, batches, lr, loss: _train(peers, batches, lr, loss, zero=False)),
    Mistake("only_the_first_learns", "Only the first peer is trained; the others stay as they were.",
            lambda peers, batches, lr, loss: _train(peers, batches, lr, loss, trained=lambda i: i == 0)),
    Mistake("losses_after_the_step", "Your losses are measured after the step. Return the ones that were minimised.",
            lambda peers, batches, lr, loss: _train(peers, batches, lr, loss, after=True)),
    Mistake("own_among_the_others", "A peer's own logits stand among the others': it is taught by itself, and the "
            "mean is over one too many.",
            lambda peers, batches, lr, loss: _train(peers, batches, lr, loss, others_of=lambda i, n: list(range(n)))),
    Mistake("neighbour_only", "Each peer learns from the next one only, not from all the others.",
            lambda peers, batches, lr, loss: _train(
                peers, batches, lr, loss, others_of=lambda i, n: [(i + 1) % n])),
    Mistake("first_is_the_teacher", "All learn from the first peer, and the first from the second: that is one "
            "teacher, not mutual learning.",
            lambda peers, batches, lr, loss: _train(
                peers, batches, lr, loss, others_of=lambda i, n: [0] if i else [1])),
    Mistake("mean_of_the_losses", "You go back through the mean of all losses: every gradient is divided by the "
            "number of peers. Each peer minimises its own loss in full.",
            lambda peers, batches, lr, loss: _train(peers, batches, lr, loss, divided=True)),
    Mistake("adam", "Your optimizer is Adam; plain torch.optim.SGD is asked for.",
            lambda peers, batches, lr, loss: _train(peers, batches, lr, loss, optimizer=torch.optim.Adam)),
    Mistake("only_the_sum", "One number a step: the sum over the peers. One loss for each peer is asked for.", _totals),
)  # fmt: skip
