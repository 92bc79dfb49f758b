"""Pruning measured: 90 % on ResNet-20, the frontier from 50 to 98 %, and lottery tickets. Three seeds each.

    python benchmarks/pruning.py resnet --seeds 0 1 2 --publish    # question 6 of the assessment, in code
    python benchmarks/pruning.py tickets --seeds 0 1 2             # LeNet-300-100 beside Frankle and Carbin
    python benchmarks/pruning.py late --seeds 0 1 2                # the same, rewound to a later step
    python benchmarks/pruning.py frontier --seeds 0 1 2            # LeNet-300-100, equal fine-tuning for all
    python benchmarks/pruning.py resnet-frontier --seeds 0         # ResNet-20, without and with a short fine-tuning
    python benchmarks/pruning.py report                            # tables and plots of what is there

All of Fashion-MNIST, one thread. Each run's row is kept in benchmarks/results/pruning.json as soon as it is measured,
and not measured again. The test set chooses nothing: epochs, steps and learning rates are fixed here, and the last
weights count.
"""

from __future__ import annotations

import argparse
import copy
import fcntl
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from coursekit import pruning, zoo  # noqa: E402
from coursekit.data import Dataset, fashion_mnist  # noqa: E402
from coursekit.models import LeNet300100  # noqa: E402
from coursekit.train import Recipe, evaluate, predict  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "pruning.json"
RESNET = Recipe(epochs=6, peak_lr=0.1, augment=True, bfloat16=True)
LENET = Recipe(epochs=1, peak_lr=0.05, augment=True, max_shift=0, bfloat16=True)
SHORT = Recipe(epochs=2, peak_lr=0.05, augment=True, bfloat16=True)  # ResNet-20 on 10,000 images
SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
SCORES, SCOPES = ("magnitude", "gradient", "random"), ("layer", "global")
WAYS = tuple(itertools.product(SCORES, SCOPES, ("one-shot", "iterative")))
SHORT_WAYS = (
    ("magnitude", "global", "one-shot"),
    ("magnitude", "global", "iterative"),
    ("gradient", "global", "iterative"),
    ("magnitude", "layer", "iterative"),
    ("random", "layer", "iterative"),
)
TICKET = pruning.TicketRecipe(steps=1000)
ROUNDS, LATE_STEP, LOOK_EVERY = 17, 100, 200
CONTROLLED = (7, 11, 15, 17)  # the rounds whose controls are trained too: 21, 9, 3.6, 2.3 % of the weights
Row = dict[str, Any]
State = dict[str, Tensor]


def read() -> dict[str, Row]:
    """The rows measured so far, by key."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}


def keep(key: str, row: Row) -> None:
    """Adds a row to the file; several runs may write at a time."""
    with open(f"{RESULTS}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rows = {**read(), key: row}
        fresh = RESULTS.with_suffix(".new")
        fresh.write_text(json.dumps(rows, indent=0, sort_keys=True) + "\n", encoding="utf-8")
        os.replace(fresh, RESULTS)
    print(
        f"{time.strftime('%H:%M:%S')} {key}: { ({k: v for k, v in row.items() if k != 'curve'}) }", flush=True
    )


def once(key: str, measure: Callable[[], Row]) -> Row:
    """The row of this key, measured now unless it is there."""
    rows = read()
    if key not in rows:
        started = time.process_time()
        rows[key] = {**measure(), "cpu_seconds": round(time.process_time() - started, 1)}
        keep(key, rows[key])
    return rows[key]


def schedule(way: str, sparsity: float, steps: int) -> pruning.Schedule:
    """One-shot before the first step, or cubic over the first half of the steps in about twenty prunings."""
    if way == "one-shot":
        return pruning.Schedule("one-shot", sparsity)
    return pruning.Schedule("cubic", sparsity, end=steps // 2, every=max(steps // 40, 1))


def scorer(name: str, seed: int, few: Dataset) -> Callable[[nn.Module], dict[str, Tensor]]:
    """Model to scores; the gradients are those of 1,000 training images."""
    if name == "magnitude":
        return pruning.magnitude_scores
    if name == "random":
        return lambda model: pruning.random_scores(model, seed)
    return lambda model: pruning.taylor_scores(model, few)


def finetuned(
    network: str, train: Dataset, recipe: Recipe, way: tuple[str, str, str], sparsity: float
) -> tuple[nn.Module, Row]:
    """The network of the zoo, pruned this way while it is fine-tuned by this recipe, and what was measured."""
    score, scope, how = way
    steps = recipe.epochs * -(-len(train) // recipe.batch_size)
    model = zoo.load(network).to(memory_format=torch.channels_last)
    pruned, pruned_steps, history = pruning.prune_and_finetune(
        model, train, recipe, schedule(how, sparsity, steps),
        scores=scorer(score, recipe.seed, train.take(1000)), scope=scope, progress=False,
    )  # fmt: skip
    reached = pruned_steps[-1].reached
    row = {"accuracy": evaluate(pruned, fashion_mnist("test")), "sparsity": reached, "loss": history.loss}
    return pruned, row


def resnet(seeds: Iterable[int], publish: bool) -> None:
    """90 % on ResNet-20: cubic over the first half of six epochs, global magnitude; one of them for the zoo."""
    train = fashion_mnist("train")
    for seed in seeds:
        recipe = replace(RESNET, seed=seed)

        def measure(recipe: Recipe = recipe) -> Row:
            model, row = finetuned("resnet20", train, recipe, ("magnitude", "global", "iterative"), 0.9)
            if publish and recipe.seed == 0:
                facts = {"parent": "resnet20", "sparsity": row["sparsity"], "recipe": vars(recipe),
                         "schedule": vars(schedule("iterative", 0.9, 6 * 469)), "scores": "magnitude, global",
                         "data": f"Fashion-MNIST, {len(train):,} training images"}  # fmt: skip
                script = "python benchmarks/pruning.py resnet --publish"
                zoo.publish("resnet20-sparse90", model, script=script, facts=facts)
            return row

        once(f"resnet/0.9/{seed}", measure)


def frontier(seeds: Iterable[int]) -> None:
    """LeNet-300-100: every way at every sparsity, all with the same two epochs of fine-tuning."""
    train = fashion_mnist("train")
    for seed, sparsity, way in itertools.product(seeds, SPARSITIES, WAYS):
        recipe = replace(LENET, seed=seed)
        measure = partial(finetuned, "lenet300", train, recipe, way, sparsity)
        once(f"frontier/{'/'.join(way)}/{sparsity}/{seed}", lambda m=measure: m()[1])


def resnet_frontier(seeds: Iterable[int]) -> None:
    """ResNet-20: every score and scope without fine-tuning; some ways with two epochs of 10,000 images."""
    train, test = fashion_mnist("train").take(10_000), fashion_mnist("test")
    for score, scope, sparsity in itertools.product(SCORES, SCOPES, SPARSITIES):

        def cut(score: str = score, scope: Any = scope, sparsity: float = sparsity) -> Row:
            model = zoo.load("resnet20")
            masks = pruning.make_masks(scorer(score, 0, train.take(1000))(model), sparsity, scope)
            pruning.attach_masks(model, masks)
            return {"accuracy": evaluate(model, test), "sparsity": pruning.sparsity_of(masks)}

        once(f"resnet-cut/{score}/{scope}/{sparsity}", cut)
    for seed, sparsity, way in itertools.product(seeds, (0.9, 0.95, 0.8, 0.98), SHORT_WAYS):
        measure = partial(finetuned, "resnet20", train, replace(SHORT, seed=seed), way, sparsity)
        once(f"resnet-short/{'/'.join(way)}/{sparsity}/{seed}", lambda m=measure: m()[1])


def measured(
    ticket: pruning.Ticket, data: tuple[Dataset, Dataset, Dataset], recipe: pruning.TicketRecipe
) -> tuple[nn.Module, Row]:
    """A LeNet-300-100 trained as the ticket says; held-out loss and both accuracies every 200 steps."""
    train, held_out, test = data
    model, curve = LeNet300100(), []

    def look(step: int) -> None:
        if step % LOOK_EVERY == 0:
            logits = predict(model, held_out.images, 1000)
            right = (logits.argmax(1) == held_out.labels).float().mean().item()
            loss = F.cross_entropy(logits, held_out.labels).item()
            curve.append([step, round(loss, 5), round(right, 4), round(evaluate(model, test, 1000), 4)])

    pruning.train_ticket(model, ticket, train, recipe, on_step=look)
    best = min(curve, key=lambda point: point[1])  # by the loss on held-out training images, as in the paper
    row = {"kept": ticket.kept, "held_out": curve[-1][2], "accuracy": curve[-1][3],
           "best_step": best[0], "best_held_out": best[2], "best_accuracy": best[3], "curve": curve}  # fmt: skip
    return model, row


def fresh(seed: int) -> State:
    """The initial weights of a LeNet-300-100 from a seed."""
    torch.manual_seed(seed)
    return copy.deepcopy(LeNet300100().state_dict())


def tickets(seeds: Iterable[int], late: bool = False) -> None:
    """Winning tickets, and at some sizes two controls: new weights, or random places."""
    whole, test = fashion_mnist("train"), fashion_mnist("test")
    train = whole.take(55_000)
    held_out = Dataset(whole.images[55_000:], whole.labels[55_000:], whole.classes, whole.source)
    names, kind = pruning.prunable(LeNet300100()), "late" if late else "ticket"
    for seed in seeds:
        start, recipe = fresh(seed), replace(TICKET, seed=seed)
        if late:
            start = _after(start, names, train, replace(recipe, steps=LATE_STEP, seed=seed + 50))
        if f"{kind}/winning/{ROUNDS}/{seed}" in read():
            continue

        def run(
            ticket: pruning.Ticket, seed: int = seed, start: State = start, recipe: Any = recipe
        ) -> State:
            data, began = (train, held_out, test), time.process_time()
            model, row = measured(ticket, data, recipe)
            row["cpu_seconds"] = round(time.process_time() - began, 1)
            keep(f"{kind}/winning/{ticket.round}/{seed}", row)
            if ticket.round in CONTROLLED and not late:
                new = fresh(1000 + 100 * seed + ticket.round)
                scattered = pruning.random_masks_like(ticket.masks, seed)
                for control, masks, weights in (("reinit", ticket.masks, new), ("random", scattered, start)):
                    other = pruning.Ticket(ticket.round, masks, pruning.rewind(weights, masks), ticket.kept)
                    once(
                        f"{kind}/{control}/{ticket.round}/{seed}",
                        lambda o=other: measured(o, data, recipe)[1],
                    )
            return model.state_dict()

        pruning.find_tickets(start, names, run, rounds=ROUNDS)


def _after(start: State, names: list[str], train: Dataset, recipe: pruning.TicketRecipe) -> State:
    """The dense network's weights after a few steps."""
    masks = {name: torch.ones_like(start[name], dtype=torch.bool) for name in names}
    dense = pruning.Ticket(0, masks, start, 1.0)
    return copy.deepcopy(pruning.train_ticket(LeNet300100(), dense, train, recipe).state_dict())


def main() -> None:
    """Measures one part, or writes the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "part", choices=("resnet", "tickets", "late", "frontier", "resnet-frontier", "report")
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--publish", action="store_true", help="put the ResNet-20 of seed 0 into the zoo")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.part == "report":
        from pruning_report import report

        report(read(), SPARSITIES)
    elif arguments.part == "resnet":
        resnet(arguments.seeds, arguments.publish)
    elif arguments.part in ("tickets", "late"):
        tickets(arguments.seeds, late=arguments.part == "late")
    else:
        {"frontier": frontier, "resnet-frontier": resnet_frontier}[arguments.part](arguments.seeds)


if __name__ == "__main__":
    main()
