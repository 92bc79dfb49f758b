"""Deep mutual learning: peers train side by side, and each is also taught by what the others say at that moment."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from coursekit.data import Dataset, batches, flip_and_shift
from coursekit.train import History, Recipe, evaluate, one_cycle

__all__ = ["learn_mutually", "mutual_losses", "mutual_step", "peer_loss", "train_peers"]

PeerLoss = Callable[[Tensor, Sequence[Tensor], Tensor], Tensor]


def peer_loss(own: Tensor, others: Sequence[Tensor], labels: Tensor, temperature: float = 1.0) -> Tensor:
    """What one peer minimises: cross-entropy with the labels, plus T² times its mean divergence from the other peers.

    Args:    own: (n, classes), its logits. others: the same of each other peer; targets, so no gradient goes into them.
             labels: (n,). temperature: T, above 0; it softens both sides of the divergence and nothing else.
    Returns: CE(own, labels) + T² · mean over the others of KL(p_other ‖ p_own), each a mean over the batch; a scalar.
    Raises:  ValueError if there is no other peer, or the temperature is not above 0 and finite.
    Source:  Zhang et al. 2018, arXiv:1706.00384, equations 4 and 8 (there T = 1). Taught in lesson 10.

    >>> z = torch.tensor([[0.0, 0.0]])
    >>> round(peer_loss(z, [z], torch.tensor([0])).item(), 4)  # they agree: only log 2 is left
    0.6931
    """
    if not others:
        raise ValueError("mutual learning needs at least one other peer")
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"the temperature must be finite and above 0, got {temperature}")
    mine = (own / temperature).log_softmax(1)
    theirs = [(other.detach() / temperature).log_softmax(1) for other in others]
    apart = [F.kl_div(mine, each, reduction="batchmean", log_target=True) for each in theirs]
    return F.cross_entropy(own, labels) + temperature**2 * torch.stack(apart).mean()


def mutual_losses(logits: Sequence[Tensor], labels: Tensor, temperature: float = 1.0) -> list[Tensor]:
    """The loss of every peer from the logits of all: each one's gradient reaches that peer alone.

    Args:    logits: one (n, classes) a peer, two or more. labels, temperature: as `peer_loss`.
    Raises:  ValueError as `peer_loss`.
    Source:  Zhang et al. 2018, arXiv:1706.00384, section 3. Taught in lesson 10.
    """
    return [
        peer_loss(own, [*logits[:i], *logits[i + 1 :]], labels, temperature) for i, own in enumerate(logits)
    ]


def mutual_step(
    peers: Sequence[nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    images: Tensor,
    labels: Tensor,
    *,
    temperature: float = 1.0,
    bfloat16: bool = False,
) -> list[float]:
    """One step of every peer, all losses computed before any of them moves; so the peers' order does not matter.

    (The paper's algorithm lets the second peer see the first one's new weights.)

    Returns: the losses, as they were before the step.
    Raises:  ValueError as `peer_loss`, or if there is not one optimizer a peer; FloatingPointError if a loss is not
             finite. No weight has changed then.
    Taught in: lesson 10.
    """
    if len(peers) != len(optimizers):
        raise ValueError(f"there are {len(peers)} peers but {len(optimizers)} optimizers")
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        logits = [peer(images) for peer in peers]
    losses = mutual_losses([each.float() for each in logits], labels, temperature)
    measured = [loss.item() for loss in losses]
    if not all(map(math.isfinite, measured)):
        raise FloatingPointError(f"a loss became {measured}; lower the learning rate")
    for loss, optimizer in zip(losses, optimizers, strict=True):
        optimizer.zero_grad()
        loss.backward()
    for optimizer in optimizers:
        optimizer.step()
    return measured


def train_peers(
    peers: Sequence[nn.Module],
    batches: Sequence[tuple[Tensor, Tensor]],
    lr: float,
    loss: PeerLoss = peer_loss,
) -> list[list[float]]:
    """Trains the peers in place by plain SGD, one step a batch; returns each step's losses, one a peer.

    Args:    peers: two or more networks of one input and one set of classes. batches: (images, labels) pairs.
             lr: the learning rate. loss: from a peer's logits, the list of the others' and the labels, its loss.
    Taught in: lesson 10.
    """
    optimizers = [torch.optim.SGD(peer.parameters(), lr) for peer in peers]
    history = []
    for images, labels in batches:
        logits = [peer(images) for peer in peers]
        losses = [
            loss(own, [other.detach() for other in logits if other is not own], labels) for own in logits
        ]
        for one, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            one.backward()
        for optimizer in optimizers:
            optimizer.step()
        history.append([one.item() for one in losses])
    return history


def learn_mutually(
    peers: Sequence[nn.Module],
    train: Dataset,
    recipe: Recipe,
    *,
    temperature: float = 1.0,
    validation: Dataset | None = None,
    progress: bool = False,
) -> list[History]:
    """Trains the peers in place by one recipe, each with an optimizer of its own; returns one History a peer.

    Each peer sees just the images, order, augmentation and learning rates that `train.fit` would show it alone.

    Args:    peers: two or more different networks, left in eval mode. temperature: as `peer_loss`.
             validation: measured after each epoch if given. progress: show a bar.
    Raises:  ValueError if there are fewer than two peers or one stands twice, or there is nothing to train;
             FloatingPointError if a loss is not finite.
    Source:  Zhang et al. 2018, arXiv:1706.00384. Taught in lesson 10.
    """
    if len(peers) < 2 or len({id(peer) for peer in peers}) != len(peers):
        raise ValueError(f"mutual learning needs two or more different networks, got {len(peers)}")
    if len(train) == 0 or recipe.epochs < 1:
        raise ValueError(f"there is nothing to train: {len(train)} images, {recipe.epochs} epochs")
    if recipe.label_smoothing:
        raise ValueError("mutual learning takes labels as they are: set label_smoothing=0 in the recipe")
    generator = torch.Generator().manual_seed(recipe.seed)
    steps = recipe.epochs * -(-len(train) // recipe.batch_size)
    made = [one_cycle(peer.parameters(), recipe, steps) for peer in peers]
    histories = [History() for _ in peers]
    with tqdm(total=steps, disable=not progress, desc="mutual learning", unit="step") as bar:
        for _ in range(recipe.epochs):
            for peer in peers:
                peer.train()
            means = _epoch(peers, made, train, recipe, generator, temperature, bar)
            for peer, history, mean in zip(peers, histories, means, strict=True):
                history.loss.append(mean)
                if validation is not None:
                    history.accuracy.append(evaluate(peer, validation))
    for peer in peers:
        peer.eval()
    return histories


def _epoch(
    peers: Sequence[nn.Module],
    made: Sequence[tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]],
    train: Dataset,
    recipe: Recipe,
    generator: torch.Generator,
    temperature: float,
    bar: tqdm,
) -> list[float]:
    """One pass over the data; returns each peer's mean loss."""
    totals = [0.0] * len(peers)
    for images, labels in batches(train, recipe.batch_size, generator=generator):
        if recipe.augment:
            images = flip_and_shift(images, generator, recipe.max_shift)
        losses = mutual_step(
            peers,
            [optimizer for optimizer, _ in made],
            images,
            labels,
            temperature=temperature,
            bfloat16=recipe.bfloat16,
        )
        for _, schedule in made:
            schedule.step()
        totals = [total + loss * len(labels) for total, loss in zip(totals, losses, strict=True)]
        bar.update()
    return [total / len(train) for total in totals]
