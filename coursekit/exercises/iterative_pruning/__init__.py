"""The exercises of lesson 07: their points, tests, hints and forbidden names."""

from __future__ import annotations

from coursekit import pruning as reference
from coursekit.exercises.iterative_pruning import mistakes_loop as loop
from coursekit.exercises.iterative_pruning import mistakes_schedule as schedule
from coursekit.exercises.iterative_pruning import mistakes_tickets as tickets
from coursekit.exercises.iterative_pruning.properties import PUBLIC
from coursekit.exercises.spec import Exercise

__all__ = ["EXERCISES"]

FORBIDDEN = {
    "coursekit": "the reference is what you are writing",
    "Schedule": "it calls the function you are writing",
    "make_masks": "its argument `within` is this exercise",
}


EXERCISES = (
    Exercise(
        "cubic_sparsity", "07", 4, reference.cubic_sparsity,
        PUBLIC["cubic_sparsity"],
        (
            "First the progress: which share of the way from begin to end is over at this step? It is never below 0 "
            "nor above 1.",
            "At the start the whole difference between initial and final is still to go, at the end none of it. The "
            "cube is of the share that is left.",
            "Take final and add to it the difference initial - final, times (1 - progress) to the third. Clamp the "
            "progress with min and max before you use it.",
        ),
        schedule.CUBIC_SPARSITY, schedule.cubic_probes, FORBIDDEN,
    ),
    Exercise(
        "pruning_steps", "07", 2, reference.pruning_steps,
        PUBLIC["pruning_steps"],
        (
            "range(begin, end, every) is nearly right. What does it always leave out?",
            "The end belongs to the list in any case, once. What if range gave it too?",
            "range never gives its own stop. So a list of that range, and then the stop behind it.",
        ),
        schedule.PRUNING_STEPS, schedule.steps_probes, FORBIDDEN,
    ),
    Exercise(
        "weights_to_prune", "07", 2, reference.weights_to_prune,
        PUBLIC["weights_to_prune"],
        (
            "How many of all weights should be zero after this step? How many of these are zero already?",
            "Round the target to a whole number first, then subtract. Can the difference be negative?",
            "If more are gone than the target asks for, nothing is to be done: max with 0.",
        ),
        schedule.WEIGHTS_TO_PRUNE, schedule.count_probes, FORBIDDEN,
    ),
    Exercise(
        "prune_further", "07", 4, reference.prune_further,
        PUBLIC["prune_further"],
        (
            "Two questions, in this order: how many should be gone afterwards, of all? Which of the survivors go?",
            "Put all scores into one long tensor, with something lower than every score wherever a weight is gone "
            "already. Then the lowest round(sparsity * n) are just those that should be gone.",
            "torch.cat of the flattened layers, argsort, False at the first so many places, split and reshape back. "
            "For the pruned take -inf, or the minimum less 1: not 0, as scores may be negative.",
        ),
        loop.PRUNE_FURTHER, loop.further_probes, FORBIDDEN, (reference.make_masks,),
    ),
    Exercise(
        "prune_iteratively", "07", 3, reference.prune_iteratively,
        PUBLIC["prune_iteratively"],
        (
            "Two things live from round to round and change in each: the weights and the masks. What are they before "
            "the first round?",
            "In each round: new masks from prune, zeros into the weights, then train. Whose weights does the next "
            "round start from?",
            "Before the loop all masks are True (torch.ones_like with dtype=torch.bool). In it, overwrite both: masks, "
            "then weights times masks, then what train makes of them.",
        ),
        loop.PRUNE_ITERATIVELY, loop.loop_probes, FORBIDDEN,
    ),
    Exercise(
        "rewind", "07", 3, reference.rewind,
        PUBLIC["rewind"],
        (
            "Go through the snapshot, name by name: some have a mask, some do not.",
            "A bool mask times a float tensor is 0.0 where the mask is False.",
            "With a mask: a new tensor, the product. Without one: the tensor itself, or a copy. Do not multiply in "
            "place: the snapshot is needed again in the next round.",
        ),
        tickets.REWIND, tickets.rewind_probes, FORBIDDEN,
    ),
    Exercise(
        "ticket_sparsities", "07", 2, reference.ticket_sparsities,
        PUBLIC["ticket_sparsities"],
        (
            "If a fifth goes in each round, how much is left after one? After two?",
            "What is left is multiplied by 1 - rate in each round. Sparsity is 1 less what is left.",
            "The output layer is the last of the names, and its rate is half: halve the rate, not the result.",
        ),
        tickets.TICKET_SPARSITIES, tickets.sparsities_probes, FORBIDDEN,
    ),
)  # fmt: skip
