"""Lottery tickets: the small network inside the large one that would have learned as well on its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.data import Dataset, batches
from coursekit.pruning.iterative import prune_further

__all__ = [
    "Ticket",
    "TicketRecipe",
    "find_tickets",
    "random_masks_like",
    "rewind",
    "ticket_sparsities",
    "train_ticket",
]


@dataclass(frozen=True)
class TicketRecipe:
    """How a ticket is trained: Adam at a constant learning rate, a number of steps, from a seed.

    Attributes: steps: of the optimizer. batch_size: images a step. lr: of Adam. seed: of the images' order.
    Source:     Frankle and Carbin 2019, arXiv:1803.03635, figure 2 (there 50,000 steps of 60 images).
    """

    steps: int = 4000
    batch_size: int = 60
    lr: float = 1.2e-3
    seed: int = 0


@dataclass(frozen=True)
class Ticket:
    """A sparse network and the weights it starts from.

    Attributes: round: how often the network was pruned; 0 is the dense one. masks: True where kept.
                start: the state dict to train from, zero where pruned. kept: share of the prunable weights.
    """

    round: int
    masks: dict[str, Tensor]
    start: dict[str, Tensor]
    kept: float


def ticket_sparsities(names: Sequence[str], rounds: int, rate: float = 0.2) -> dict[str, float]:
    """The sparsity of each layer after `rounds` prunings, each of `rate` of what the one before left.

    Args:    names: of the weights, the output layer's last: it loses only half the rate each time.
             rounds: 0 or more. rate: 0 to 1.
    Returns: 1 - (1 - rate)^rounds by name, absolute: of all the layer's weights.
    Raises:  ValueError if rounds is negative, or rate not between 0 and 1.
    Source:  Frankle and Carbin 2019, arXiv:1803.03635, figure 2 and section 2. Taught in lesson 07.

    >>> ticket_sparsities(["fc1.weight", "fc2.weight"], rounds=2)
    {'fc1.weight': 0.36, 'fc2.weight': 0.19}
    """
    if rounds < 0 or not 0.0 < rate < 1.0:
        raise ValueError(f"needs rounds of at least 0 and a rate between 0 and 1, got {rounds} and {rate}")
    rates = {name: rate / 2 if name == names[-1] else rate for name in names}
    return {name: round(1.0 - (1.0 - each) ** rounds, 12) for name, each in rates.items()}


def rewind(snapshot: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with the survivors' weights as they were in `snapshot`, and 0.0 where pruned.

    Args:    snapshot: state dict from an earlier step of the training; left as it is.
             masks: weight name to bool, True = kept. What has no mask (biases) is rewound whole.
    Returns: new tensors, by name; every one of the snapshot.
    Raises:  ValueError if a mask has no tensor of its name and shape in the snapshot.
    Source:  Frankle and Carbin 2019, arXiv:1803.03635, section 1. Taught in lesson 07.

    >>> rewind({"w": torch.tensor([0.3, -0.2])}, {"w": torch.tensor([False, True])})
    {'w': tensor([ 0.0000, -0.2000])}
    """
    for name, mask in masks.items():
        if name not in snapshot or snapshot[name].shape != mask.shape:
            raise ValueError(f"the snapshot has no tensor of shape {tuple(mask.shape)} called {name!r}")
    return {
        name: torch.where(masks[name], tensor, 0.0) if name in masks else tensor.clone()
        for name, tensor in snapshot.items()
    }


def random_masks_like(masks: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Masks that keep as many weights of each layer, at places drawn at random: the control for *where*.

    Args:   masks: weight name to bool, True = kept. seed: of the places.
    Source: Frankle and Carbin 2019, arXiv:1803.03635, figure 1 (random sparse networks).

    >>> {n: int(m.sum()) for n, m in random_masks_like({"w": torch.tensor([True, False, True])}, 0).items()}
    {'w': 2}
    """
    generator = torch.Generator().manual_seed(seed)
    return {
        name: mask.flatten()[torch.randperm(mask.numel(), generator=generator)].reshape(mask.shape)
        for name, mask in masks.items()
    }


def find_tickets(
    start: Mapping[str, Tensor],
    names: Sequence[str],
    train: Callable[[Ticket], Mapping[str, Tensor]],
    *,
    rounds: int,
    rate: float = 0.2,
) -> list[Ticket]:
    """The tickets of iterative magnitude pruning: train, prune the smallest of the survivors, rewind, again.

    Args:    start: the state dict to rewind to: an initialisation, or the network as it was after a few steps.
             names: the prunable weights, the output layer's last. train: gets a ticket, trains it from its start
             and returns the trained weights; it may also write down what it measured.
             rounds: prunings; the network is trained rounds + 1 times. rate: share of the survivors that each
             pruning takes, half of it in the output layer.
    Returns: rounds + 1 tickets, the dense network first.
    Raises:  ValueError as `ticket_sparsities` and `rewind`.
    Source:  Frankle and Carbin 2019, arXiv:1803.03635, section 2; rewinding to a later step: Frankle et al. 2020,
             arXiv:1912.05671. Taught in lesson 07.
    """
    masks = {name: torch.ones_like(start[name], dtype=torch.bool) for name in names}
    total = sum(mask.numel() for mask in masks.values())
    tickets = []
    for done in range(rounds + 1):
        kept = sum(int(mask.sum()) for mask in masks.values()) / total
        tickets.append(Ticket(done, masks, rewind(start, masks), kept))
        trained = train(tickets[-1])
        scores = {name: trained[name].detach().abs() for name in names}
        masks = prune_further(scores, masks, ticket_sparsities(names, done + 1, rate), scope="layer")
    return tickets


def train_ticket(
    model: nn.Module,
    ticket: Ticket,
    data: Dataset,
    recipe: TicketRecipe,
    *,
    on_step: Callable[[int], None] | None = None,
) -> nn.Module:
    """Trains `model` in place as the ticket says, from its start and with its masks, and returns it.

    Args:   model: any network the ticket fits; left in eval mode, without masks, exactly 0.0 where pruned.
            data: images to learn from. on_step: called after each step with the number of steps done.
    Raises: ValueError if there are no images or no steps; RuntimeError if the ticket does not fit the model.
    """
    if len(data) == 0 or recipe.steps < 1:
        raise ValueError(f"there is nothing to train: {len(data)} images, {recipe.steps} steps")
    model.load_state_dict(ticket.start)
    # A weight that starts at 0.0 under a new optimizer without decay moves only by its gradient: this is enough here,
    # and a third faster than attach_masks.
    hooks = [
        model.get_parameter(name).register_hook(lambda gradient, mask=mask: gradient * mask)
        for name, mask in ticket.masks.items()
    ]
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), recipe.lr, fused=True)
    for step, (images, labels) in enumerate(_endless(data, recipe), start=1):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        if on_step is not None:
            on_step(step)
        if step == recipe.steps:
            break
    for hook in hooks:
        hook.remove()
    return model.eval()


def _endless(data: Dataset, recipe: TicketRecipe) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled batches, one pass over the data after the other."""
    generator = torch.Generator().manual_seed(recipe.seed)
    while True:
        yield from batches(data, recipe.batch_size, generator=generator)
